//! `peerpath export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_exporter::socket::DmaBufSender;
use peerpath_exporter::{BarRange, OpenOptions, Source, VfioInterface};
use peerpath_host::{Hold, Options};

use super::run::words;
use super::signals::catch_signals;
use crate::names;
use crate::terminal::print;

/// Export a BAR as a dma-buf and pass it to other processes over a socket.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  peerpath export 0000:03:00.0:2 --socket /run/bar.sock &
  peerpath run --from socket:/run/bar.sock --to verbs:mlx5_0

A client receives one SOCK_SEQPACKET message: a JSON line {bdf,bar,ranges,size_bytes} and one file descriptor. Only the same \
user and root can connect. Ctrl-C ends the export and revokes the memory from its importers.

Exit status: 130, 143 or 129 after a signal, 1 if the function is removed during the export, 2 for bad input, 3 if this host cannot export the BAR.")]
pub(super) struct Export {
    /// BAR of a function, e.g. 0000:03:00.0:2
    #[arg(value_name = "BDF:BAR")]
    bar: String,
    /// Ranges of the BAR, offset and length in bytes, e.g. 0x0+0x2000,0x4000+0x2000  [default: the whole BAR]
    #[arg(long, value_name = "OFF+LEN", num_args = 1.., value_delimiter = ',')]
    range: Vec<String>,
    /// Socket to create
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// VFIO interface: auto, group or cdev
    #[arg(long, alias = "door", value_name = "INTERFACE", default_value = "auto", value_parser = words::<VfioInterface>(["auto", "group", "cdev"]),
          hide_possible_values = true)]
    vfio: VfioInterface,
}

impl Export {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        if let Some(range) = self.range.iter().find(|range| range.parse::<BarRange>().is_err()) {
            return Err(Failure::bad_input(
                format!("cannot use --range {range}"),
                "a range is an offset and a length in bytes",
                "write OFFSET+LENGTH, e.g. 0x4000+0x2000",
            ));
        }
        let ranges = if self.range.is_empty() { String::new() } else { format!("@{}", self.range.join(",")) };
        let source = names::source(&format!("{}{ranges}", self.bar))?;
        let Source::Vfio { bdf, .. } = source else {
            return Err(Failure::bad_input(
                format!("cannot export {source}"),
                "only a BAR can be exported to other processes",
                "name a BAR as BDF:BAR, e.g. 0000:03:00.0:2",
            ));
        };
        let interrupt = catch_signals()?;
        let options = OpenOptions { vfio: self.vfio, ..OpenOptions::default() };
        let _hold = Hold::acquire(bdf, &Options::default())?;
        let exporter = source.open(&options)?;
        let server = DmaBufSender::new(&self.socket, &*exporter)?;
        print(&format!("{source} is exported at {}; Ctrl-C ends the export\n", self.socket.display()))?;
        server.serve(interrupt.flag())?;
        Ok(interrupt.exit_code().map_or(ExitCode::SUCCESS, ExitCode::from))
    }
}
