//! `peerpath serve`.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use peerpath_exporter::{OpenOptions, Source, set_guard};
use peerpath_importers::Connection;

use super::print;
use crate::failure::{Failure, printable};
use crate::interrupt::Interrupt;
use crate::peer::address::{LOOPBACK, resolve};
use crate::peer::serve::Door;
use crate::peer::token::{self, Token};
use crate::plan::Target;
use crate::run::Lender;

/// Lend memory of this host to a run on another one: the passive side of RDMA between the two.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  peerpath serve --from 0000:03:00.0:2 --to verbs:mlx5_0 --listen 192.0.2.7        on this host
  peerpath run --peer 192.0.2.7 --to verbs:mlx5_0                                  on the other one

Both hosts know the same token, by --token-file or PEERPATH_TOKEN; where none is given here, one is made up and printed. Who \
knows it may overwrite the memory that is lent, and nothing else. What is said is neither encrypted nor sealed: listen on \
a network that you trust, or on loopback behind `ssh -L`. One peer is served at a time, until Ctrl-C.

How queue pairs are made the peer says, with the options of `run`; the MTU and the source address are each side's own. A thread \
of this program answers in ping-pong: pin it with taskset.")]
pub(super) struct Serve {
    /// Memory to lend: BDF:BAR[@OFF+LEN,...], socket:PATH, udmabuf:SIZE, heap:SIZE or host:SIZE
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
        let connection = Connection { gid_index: self.gid_index, mtu_bytes: self.mtu, ..Connection::default() };
        let lender =
            Lender { sources: &sources, target: &target, open: &open, connection: &connection, interrupt: &interrupt };
        lender.check()?;
        let listener = listen(&addresses)?;
        let at = listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
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
        let tell = |line: &str| {
            // With nobody left to read it, peers are served all the same.
            let _ = writeln!(std::io::stderr(), "{}", printable(line));
        };
        let session = |peer: &_| lender.session(peer);
        let door = Door { listener: &listener, token: &token, interrupt: &interrupt, tell: &tell, session: &session };
        door.keep().map_err(|error| {
            Failure::internal("nobody can be waited for", &error, "see whether the address is still there")
        })?;
        Ok(interrupt.exit_code().map_or(ExitCode::SUCCESS, ExitCode::from))
    }
}

fn listen(addresses: &[SocketAddr]) -> Result<TcpListener, Failure> {
    TcpListener::bind(addresses).map_err(|error| {
        let at: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        Failure::bad_input(
            format!("nobody can be waited for at {}", at.join(", ")),
            error.to_string(),
            "choose an address of this host and a free port with --listen",
        )
    })
}
