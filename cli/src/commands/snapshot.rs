//! `peerpath snapshot`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_paths::{Inventory, Tree, write_snapshot};

use super::host;
use crate::terminal::print;

/// Write down what `paths` and `doctor` read from this host, to be analysed elsewhere.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  peerpath snapshot host.tar.gz
  peerpath paths --root host.tar.gz          on any other machine

It holds PCI config space, BARs, IOMMU groups, drivers and the kernel's command line; no serial numbers and no network \
addresses. Without root, config space is cut short and the ACS settings are missing.")]
pub(super) struct Snapshot {
    /// File to write
    #[arg(value_name = "FILE.tar.gz")]
    file: PathBuf,
}

impl Snapshot {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let tree = Tree::live();
        let inventory = host::inventory(&tree);
        self.write(&tree, &inventory).map_err(|error| {
            let what = format!("the snapshot could not be written to {}", self.file.display());
            Failure::internal(what, &error, "choose a place that can be written and has room")
        })?;
        let functions = inventory.topology.functions().len();
        print(&format!("{functions} functions written to {}\n", self.file.display()))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Beside the file first, then in its place: nobody finds half a snapshot.
    fn write(&self, tree: &Tree, inventory: &Inventory) -> std::io::Result<()> {
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".snapshot-").tempfile_in(folder)?;
        write_snapshot(tree, &inventory.host.facts, &mut file)?;
        file.as_file().sync_all()?;
        file.persist(&self.file).map_err(|error| error.error)?;
        Ok(())
    }
}
