//! `peerpath serve`.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_bench::peer::address::{LOOPBACK, resolve};
use peerpath_bench::peer::listener::Listener;
use peerpath_bench::peer::token::Token;
use peerpath_bench::run::Server;
use peerpath_exporter::OpenOptions;
use peerpath_importers::QueuePairOptions;

use super::run::{parse_size_u32, whole};
use super::signals::catch_signals;
use super::{shared_token, tool};
use crate::names;
use crate::terminal::{note, print};

/// Export memory of this host to `run --peer` on another host: the server of an RDMA run between two hosts.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath serve --from 0000:03:00.0:2 --to verbs:mlx5_0 --listen 192.0.2.7
      on this host, the server; prints a token
  PEERPATH_TOKEN=... peerpath run --peer 192.0.2.7 --to verbs:mlx5_0
      on the other host, the client

Both hosts need the same token. Without --token-file and PEERPATH_TOKEN, a random token is printed. A client with the token \
can read and overwrite the exported memory, but no other memory. The connection is neither encrypted nor protected against changes: \
listen on a trusted network, or on loopback and use `ssh -L`. One client is served at a time; Ctrl-C ends the server.

The client chooses the queue pair options, except the MTU and the GID index. In pingpong mode a thread of the server replies: \
pin it with taskset.

Exit status: 130, 143 or 129 after a signal, 2 for invalid input or a device that does not exist, 3 if this host cannot export or \
import the memory, 4 after an I/O error.")]
pub(super) struct Serve {
    // The help text is not a doc comment, because rustdoc would read its brackets as a link.
    #[arg(
        long,
        value_name = "SRC",
        required = true,
        num_args = 1..,
        help = "Memory to export: BDF:BAR[@OFF+LEN,...], socket:PATH, udmabuf:SIZE, heap:SIZE or host:SIZE"
    )]
    from: Vec<String>,
    /// RDMA device that imports the memory, e.g. verbs:mlx5_0
    #[arg(long, value_name = "TARGET")]
    to: String,
    /// Address to listen on  [default: 127.0.0.1:18551]
    #[arg(long, value_name = "HOST[:PORT]")]
    listen: Option<String>,
    /// File with the token that both hosts share  [default: value of PEERPATH_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Index of the local address in the port's GID table  [default: RoCE v2 over IPv4 if present]
    #[arg(long, value_name = "N", value_parser = whole::<u8>)]
    gid_index: Option<u8>,
    /// Path MTU; the connection uses the smaller MTU of client and server  [default: MTU of the port]
    #[arg(long, value_name = "BYTES", value_parser = parse_size_u32)]
    mtu: Option<u32>,
    /// Use huge pages of 2 MiB for host:SIZE sources
    #[arg(long)]
    hugepages: bool,
}

impl Serve {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let sources = names::sources(&self.from)?;
        let target = names::target(&self.to)?;
        if !target.importer.capabilities().queue_pairs {
            return Err(Failure::bad_input(
                format!("cannot serve memory through {target}"),
                "clients access the memory with RDMA",
                "name an RDMA device with --to, e.g. verbs:mlx5_0",
            ));
        }
        let addresses = self.listen.as_deref().map_or_else(|| Ok(vec![LOOPBACK]), resolve)?;
        let given = shared_token::find(self.token_file.as_deref())?;
        let interrupt = catch_signals()?;
        let open = OpenOptions { huge_pages: self.hugepages, ..OpenOptions::default() };
        let connection =
            QueuePairOptions { gid_index: self.gid_index, mtu_bytes: self.mtu, ..QueuePairOptions::default() };
        let server = Server {
            sources: &sources,
            target: &target,
            tool: &tool(),
            open: &open,
            changes: &peerpath_host::Options::default(),
            connection: &connection,
            interrupt: &interrupt,
        };
        server.check()?;
        let socket = listen(&addresses)?;
        let local = socket.local_addr().ok();
        let at = local.map_or_else(|| "?".to_owned(), |address| address.to_string());
        let (token, generated) = match given {
            Some(token) => (token, None),
            None => Token::random().map(|(token, text)| (token, Some(text))).map_err(|error| {
                Failure::internal("cannot generate a token", &error, "use --token-file or PEERPATH_TOKEN")
            })?,
        };
        print(&format!("{} exported through {target} at {at}; Ctrl-C ends the server\n", self.from.join(", ")))?;
        if local.is_some_and(|address| !address.ip().to_canonical().is_loopback()) {
            log::warn!(
                "other hosts can connect to {at}, and the connection is neither encrypted nor protected against changes. \
                 Unless the network is trusted, listen on loopback and use `ssh -L`."
            );
        }
        if let Some(text) = generated {
            print(&format!("PEERPATH_TOKEN={text}\n"))?;
        }
        let session = |peer: &_| server.session(peer);
        let listener =
            Listener { socket: &socket, token: &token, interrupt: &interrupt, log: &note, session: &session };
        listener.serve().map_err(|error| {
            Failure::internal("cannot accept connections", &error, "check that the address still belongs to this host")
        })?;
        Ok(interrupt.exit_code().map_or(ExitCode::SUCCESS, ExitCode::from))
    }
}

fn listen(addresses: &[SocketAddr]) -> Result<TcpListener, Failure> {
    TcpListener::bind(addresses).map_err(|error| {
        let at: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        Failure::bad_input(
            format!("cannot listen on {}", at.join(", ")),
            error.to_string(),
            "use --listen with an address of this host and a free port",
        )
    })
}
