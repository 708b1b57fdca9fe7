//! `peerpath snapshot`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_bench::store::{remedy, temporary_file};
use peerpath_paths::{Capability, Function, Inventory, Tree, write_snapshot};

use super::inspected_host as host;
use crate::terminal::notice;

/// Save the facts that `paths` and `doctor` read from this host, for analysis on another host.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  peerpath snapshot host.tar.gz
  peerpath paths --root host.tar.gz         on another machine

The snapshot has PCI config space, BARs, IOMMU groups, drivers and kernel parameters. It has no serial numbers, no \
network addresses, and only kernel parameters that cannot be a secret. Run as root: other users can read only the first 64 bytes \
of config space, without the ACS settings. Only the user who takes the snapshot can read the file.

Exit status: 0, 2 for invalid input, 4 after an I/O error.")]
pub(super) struct Snapshot {
    /// File to write
    #[arg(value_name = "FILE.tar.gz")]
    file: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

impl Snapshot {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        if !self.force && self.file.symlink_metadata().is_ok() {
            return Err(Failure::bad_input(
                format!("cannot write the snapshot {}", self.file.display()),
                "a file with this name exists",
                "choose another name, or add --force to replace it",
            ));
        }
        let tree = Tree::live();
        let inventory = host::inventory(&tree);
        self.write(&tree, &inventory).map_err(|error| {
            let what = format!("cannot write the snapshot {}", self.file.display());
            Failure::internal(what, &error, remedy(&error))
        })?;
        let functions = inventory.topology.functions().len();
        notice(&format!("{functions} functions written to {}\n", self.file.display()))?;
        let is_hidden = |function: &&Function| matches!(function.pcie, Capability::Unknown);
        let hidden = inventory.topology.functions().iter().filter(is_hidden).count();
        if hidden > 0 {
            log::warn!(
                "the snapshot lacks the ACS settings and the links of {hidden} functions, because only root can read them; \
                 take it as root"
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Writes a temporary file and renames it: the file never has partial content.
    fn write(&self, tree: &Tree, inventory: &Inventory) -> std::io::Result<()> {
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = temporary_file(folder, ".snapshot-")?;
        write_snapshot(tree, &inventory.host.facts, &mut file)?;
        file.as_file().sync_all()?;
        file.persist(&self.file).map_err(|error| error.error)?;
        Ok(())
    }
}
