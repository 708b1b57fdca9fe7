//! `peerpath export`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_bench::interrupt::Interrupt;
use peerpath_exporter::socket::ExportServer;
use peerpath_exporter::{OpenOptions, Source, VfioInterface, set_guard};

use crate::terminal::print;

/// Hold a BAR as a dma-buf and pass it to other processes over a socket.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  peerpath export 0000:03:00.0:2 --socket /run/bar.sock &
  peerpath run --from socket:/run/bar.sock --to verbs:mlx5_0

Whoever connects gets one SOCK_SEQPACKET message: a JSON line {bdf,bar,ranges,size_bytes} and one fd. Only the same \
user and root may connect. It runs until Ctrl-C; memory that others have registered is revoked then.")]
pub(super) struct Export {
    /// The BAR: BDF:BAR
    #[arg(value_name = "BDF:BAR")]
    bar: String,
    /// A part of it, OFFSET+LENGTH; may be given several times  [default: all of it]
    #[arg(long, value_name = "OFF+LEN")]
    range: Vec<String>,
    /// Where to listen
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// VFIO interface to use: auto, group or cdev
    #[arg(long, alias = "door", value_name = "INTERFACE", default_value = "auto")]
    vfio: VfioInterface,
}

impl Export {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let ranges = if self.range.is_empty() { String::new() } else { format!("@{}", self.range.join(",")) };
        let source: Source = format!("{}{ranges}", self.bar).parse().map_err(Failure::from)?;
        if !matches!(source, Source::Vfio { .. }) {
            return Err(Failure::bad_input(
                format!("{source} cannot be passed on"),
                "only BARs are exported for other processes",
                "name one as BDF:BAR, such as 0000:03:00.0:2",
            ));
        }
        let interrupt = Interrupt::install()
            .map_err(|error| Failure::internal("signals cannot be caught", &error, "report this as a bug"))?;
        set_guard(Arc::new(peerpath_host::Options::default()));
        let options = OpenOptions { vfio: self.vfio, ..OpenOptions::default() };
        let exporter = source.open(&options)?;
        let server = ExportServer::new(&self.socket, &*exporter)?;
        print(&format!("{source} is exported; others get it at {} until Ctrl-C\n", self.socket.display()))?;
        server.serve(interrupt.flag())?;
        Ok(interrupt.exit_code().map_or(ExitCode::SUCCESS, ExitCode::from))
    }
}
