//! `peerpath serve`.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_bench::interrupt::Interrupt;
use peerpath_bench::peer::address::{LOOPBACK, resolve};
use peerpath_bench::peer::listener::Listener;
use peerpath_bench::peer::token::{self, Token};
use peerpath_bench::plan::Target;
use peerpath_bench::run::Server;
use peerpath_exporter::{OpenOptions, Source, set_guard};
use peerpath_importers::QueuePairOptions;

use super::tool;
use crate::terminal::print;
use crate::terminal::printable;

/// Serve memory of this host to a run on another host.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  peerpath serve --from 0000:03:00.0:2 --to verbs:mlx5_0 --listen 192.0.2.7        on this host
  peerpath run --peer 192.0.2.7 --to verbs:mlx5_0                                  on the other one

Both hosts know the same token, by --token-file or PEERPATH_TOKEN; where none is given here, one is made up and printed. Who \
knows it may overwrite the served memory, and nothing else. What is said is neither encrypted nor sealed: listen on \
a network that you trust, or on loopback behind `ssh -L`. One peer is served at a time, until Ctrl-C.

How queue pairs are made the peer says, with the options of `run`; the MTU and the source address are each side's own. A thread \
of this program answers in ping-pong: pin it with taskset.")]
pub(super) struct Serve {
    /// Memory to serve: BDF:BAR[@OFF+LEN,...], socket:PATH, udmabuf:SIZE, heap:SIZE or host:SIZE
    #[arg(long, value_name = "SRC", required = true)]
    from: Vec<String>,
    /// The RDMA device to register it with, such as verbs:mlx5_0
    #[arg(long, value_name = "TARGET")]
    to: String,
    /// Where to wait for the peer  [default: 127.0.0.1:18551]
    #[arg(long, value_name = "HOST[:PORT]")]
    listen: Option<String>,
    /// File with the token that both hosts know  [default: the environment's PEERPATH_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Place of the source address in the port's table  [default: the best, RoCE v2 over IPv4 first]
    #[arg(long, value_name = "N")]
    gid_index: Option<u8>,
    /// Bytes a packet carries, at most  [default: what the port has; the smaller one of both sides counts]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// Put host: memory into huge pages of 2 MiB
    #[arg(long)]
    hugepages: bool,
}

impl Serve {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let sources: Vec<Source> = self.from.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let target: Target = self.to.parse()?;
        let addresses = self.listen.as_deref().map_or_else(|| Ok(vec![LOOPBACK]), resolve)?;
        let given = Token::find(self.token_file.as_deref(), std::env::var_os(token::VARIABLE))?;
        let interrupt = Interrupt::install()
            .map_err(|error| Failure::internal("signals cannot be caught", &error, "report this as a bug"))?;
        set_guard(Arc::new(peerpath_host::Options::default()));
        let open = OpenOptions { huge_pages: self.hugepages, ..OpenOptions::default() };
        let connection =
            QueuePairOptions { gid_index: self.gid_index, mtu_bytes: self.mtu, ..QueuePairOptions::default() };
        let server = Server {
            sources: &sources,
            target: &target,
            tool: &tool(),
            open: &open,
            connection: &connection,
            interrupt: &interrupt,
        };
        server.check()?;
        let socket = listen(&addresses)?;
        let at = socket.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
        let (token, made_up) = match given {
            Some(token) => (token, None),
            None => Token::random().map(|(token, text)| (token, Some(text))).map_err(|error| {
                Failure::internal("no token could be made up", &error, "give one with --token-file or PEERPATH_TOKEN")
            })?,
        };
        print(&format!(
            "{} through {target} for whoever knows the token, at {at} until Ctrl-C\n",
            self.from.join(", ")
        ))?;
        if let Some(text) = made_up {
            print(&format!("PEERPATH_TOKEN={text}\n"))?;
        }
        let log = |line: &str| {
            // Where standard error is closed, clients are served all the same.
            let _ = writeln!(std::io::stderr(), "{}", printable(line));
        };
        let session = |peer: &_| server.session(peer);
        let listener = Listener { socket: &socket, token: &token, interrupt: &interrupt, log: &log, session: &session };
        listener.serve().map_err(|error| {
            Failure::internal("cannot accept connections", &error, "see whether the address is still there")
        })?;
        Ok(interrupt.exit_code().map_or(ExitCode::SUCCESS, ExitCode::from))
    }
}

fn listen(addresses: &[SocketAddr]) -> Result<TcpListener, Failure> {
    TcpListener::bind(addresses).map_err(|error| {
        let at: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        Failure::bad_input(
            format!("cannot listen at {}", at.join(", ")),
            error.to_string(),
            "choose an address of this host and a free port with --listen",
        )
    })
}
