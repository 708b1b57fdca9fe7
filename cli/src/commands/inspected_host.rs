//! The host that `list`, `paths` and `doctor` inspect (this host or a snapshot), and its functions.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_importers::IMPORTERS;
use peerpath_paths::{Bdf, Inventory, Tree};

/// Options of the commands that inspect a host without changing it.
#[derive(Debug, Args)]
pub(super) struct InspectOptions {
    /// Inspect another host: its snapshot, or the output of `lspci -vvvnn` run as root; several outputs of lspci (-vvv, -xxxx, -tv)
    /// on that host are joined
    #[arg(long, value_name = "SNAPSHOT.tar.gz|LSPCI.txt|DIR")]
    root: Vec<PathBuf>,
    /// Kernel command line of the other host, or a file that contains it
    #[arg(long, value_name = "TEXT|FILE", requires = "root")]
    cmdline: Option<String>,
    /// Processor of the other host: the model, VENDOR:FAMILY, or a file with /proc/cpuinfo or the output of lscpu
    #[arg(long, value_name = "TEXT|FILE", requires = "root")]
    cpu: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl InspectOptions {
    /// The file tree of the inspected host.
    pub(super) fn tree(&self) -> Result<Tree, Failure> {
        if self.root.is_empty() {
            return Ok(Tree::live());
        }
        let mut tree = Tree::open_all(&separated(&self.root))?;
        if let Some(text) = &self.cmdline {
            tree = tree.with_command_line(&text_or_file(text, "--cmdline")?);
        }
        if let Some(text) = &self.cpu {
            let text = text_or_file(text, "--cpu")?;
            tree = tree.with_processor(&text).ok_or_else(|| {
                Failure::bad_input(
                    format!("cannot find the vendor of the processor in --cpu {:?}", shortened(&text)),
                    "it is neither a known model nor the text of /proc/cpuinfo",
                    "use a model such as \"AMD EPYC 7763\", vendor and family such as AuthenticAMD:25 or GenuineIntel:6, or a \
                     file with /proc/cpuinfo, with --cpu",
                )
            })?;
        }
        Ok(tree)
    }
}

/// Separates paths that commas join. A path that exists is not separated.
fn separated(roots: &[PathBuf]) -> Vec<PathBuf> {
    let parts = |root: &PathBuf| match root.to_str() {
        Some(text) if text.contains(',') && !root.exists() => text.split(',').map(PathBuf::from).collect(),
        _ => vec![root.clone()],
    };
    roots.iter().flat_map(parts).collect()
}

/// The text of an option, or of the file that it names.
fn text_or_file(value: &str, option: &str) -> Result<String, Failure> {
    const LIMIT_BYTES: u64 = 8 << 20;
    let path = Path::new(value);
    if !path.is_file() {
        let looks_like_path = value.starts_with(['/', '.']) && !value.contains(char::is_whitespace);
        return match looks_like_path {
            false => Ok(value.to_owned()),
            true => Err(Failure::bad_input(
                format!("cannot read {value}"),
                "the file does not exist",
                format!("pass an existing file or the text with {option}"),
            )),
        };
    }
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(LIMIT_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(|error| {
        let why = format!("the operating system reports: {error}");
        Failure::bad_input(format!("cannot read {value}"), why, format!("pass a readable file with {option}"))
    })
}

fn shortened(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(64).collect()
}

/// The inventory of a host. For this host it includes facts that only the importers' libraries report.
pub(super) fn inventory(tree: &Tree) -> Inventory {
    let mut inventory = Inventory::read(tree);
    if tree.is_live() {
        let devices = IMPORTERS.iter().flat_map(|importer| importer.on_demand_paging());
        inventory.host.facts.on_demand_paging = devices.collect();
    }
    inventory
}

/// Returns `bdf` if the host has this function.
pub(super) fn known(inventory: &Inventory, bdf: Bdf) -> Result<Bdf, Failure> {
    match inventory.topology.function(bdf) {
        Some(_) => Ok(bdf),
        None => Err(Failure::bad_input(
            format!("cannot find function {bdf}"),
            "it is not in sysfs",
            "choose a function from `peerpath list --json`",
        )),
    }
}

/// Whether a TARGET maps buffers into an IOVA space of its own, separate from that of its kernel driver.
pub(super) fn has_own_address_space(target: &str) -> bool {
    peerpath_importers::parse_target(target).is_ok_and(|(importer, _)| importer.capabilities().own_address_space)
}

/// PCI function of a device that only its library enumerates, e.g. a GPU.
fn discovered(target: &str) -> Option<Bdf> {
    let (importer, _) = peerpath_importers::parse_target(target).ok()?;
    let name = target.split('?').next().unwrap_or(target);
    importer.discover().into_iter().find(|found| found.target == name)?.bdf
}

/// The function of a TARGET: a BDF, `iommufd:BDF`, or the function of a device such as `verbs:mlx5_0`.
pub(super) fn importer(inventory: &Inventory, target: &str) -> Result<Bdf, Failure> {
    let address = target.strip_prefix("iommufd:").unwrap_or(target);
    if let Ok(bdf) = address.parse() {
        return known(inventory, bdf);
    }
    match inventory.function_under(target).or_else(|| discovered(target)) {
        Some(bdf) => Ok(bdf),
        None => Err(Failure::bad_input(
            format!("cannot find the function of {target}"),
            "it is neither a BDF nor a device of a PCI function",
            "use a BDF such as 0000:04:00.0, or a device from `peerpath list`",
        )),
    }
}
