//! The host that `list`, `paths` and `doctor` inspect (this host or a snapshot), and its functions.

use std::path::{Path, PathBuf};

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_importers::IMPORTERS;
use peerpath_paths::{BarIndex, BarIndexError, Bdf, GroupError, Inventory, Tree, input_file};

use super::signals::warn_of_earlier_changes;
use crate::names;

/// Options of the commands that inspect a host without changing it.
#[derive(Debug, Args)]
pub(super) struct InspectOptions {
    /// Inspect another host: its snapshot, also unpacked (a directory with `sys` and `proc`), or the output of `lspci -vvvnn` run
    /// as root. Repeat the option, or separate files by
    /// commas, to join several outputs of lspci (-vvv, -xxxx, -tv) on that host
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
            warn_of_earlier_changes();
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

/// Splits a list of paths at its commas, unless it is the name of an existing file.
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
    // A description of a processor is unlikely to be the name of an existing file.
    if !path.exists() {
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
    let bytes = input_file::read(path, LIMIT_BYTES).map_err(|error| {
        Failure::unreadable(
            format!("cannot read {value}"),
            &error,
            error.remedy(path, &format!("pass a text file or the text with {option}")),
        )
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
        None => Err(GroupError::NoFunction { bdf }.into()),
    }
}

/// An exporter: a function, a BAR of it, or a GPU by its number in CUDA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exporter {
    /// A function, e.g. `0000:03:00.0`. If it has a GPU driver, the driver exports its memory. Otherwise VFIO exports its
    /// largest BAR.
    Function(Bdf),
    /// A BAR that VFIO exports, e.g. `0000:03:00.0:2`.
    Bar(Bdf, u8),
    /// A GPU of NVIDIA's driver, e.g. `cuda:0`.
    Gpu(String),
    /// A device of a function, e.g. `nvme0` or `verbs:mlx5_0`.
    Device(String),
}

impl Exporter {
    /// Index of the selected BAR.
    pub(super) fn bar(&self) -> Option<u8> {
        match self {
            Self::Bar(_, bar) => Some(*bar),
            Self::Function(_) | Self::Gpu(_) | Self::Device(_) => None,
        }
    }

    /// Name of the selected GPU.
    pub(super) fn gpu(&self) -> Option<&str> {
        match self {
            Self::Gpu(name) => Some(name),
            Self::Function(_) | Self::Bar(..) | Self::Device(_) => None,
        }
    }

    /// The PCI function of the exporter, on the inspected host. For `cuda:N` it is the function of the GPU.
    pub(super) fn function(&self, inventory: &Inventory, is_live: bool) -> Result<Bdf, Failure> {
        match self {
            Self::Function(bdf) | Self::Bar(bdf, _) => known(inventory, *bdf),
            Self::Gpu(name) => gpu(inventory, name, is_live),
            Self::Device(name) => importer(inventory, &names::device_of(inventory, name)?, is_live),
        }
    }
}

impl std::str::FromStr for Exporter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(bdf) = text.parse() {
            return Ok(Self::Function(bdf));
        }
        if let Some(number) = text.strip_prefix("cuda:") {
            let is_number = !number.is_empty() && number.len() <= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
            return if is_number {
                Ok(Self::Gpu(text.to_owned()))
            } else {
                Err("use a GPU's number, e.g. cuda:0".to_owned())
            };
        }
        let wrong = || "use a function, a BAR of it, or a GPU, e.g. 0000:03:00.0, 0000:03:00.0:2 or cuda:0".to_owned();
        let is_device =
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        // A device name contains a letter. Digits and dots alone may be part of an incomplete address.
        let device = text.strip_prefix("verbs:").unwrap_or(text);
        if is_device && device.bytes().any(|byte| byte.is_ascii_alphabetic()) || device != text {
            return Ok(Self::Device(text.to_owned()));
        }
        let (bdf, bar) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bdf = bdf.parse().map_err(|_| wrong())?;
        let bar: BarIndex = bar.parse().map_err(|error: BarIndexError| error.to_string())?;
        Ok(Self::Bar(bdf, bar.get()))
    }
}

/// Adds the kind to a TARGET that lacks it: `verbs:rxe0` for `rxe0`.
pub(super) fn named(inventory: &Inventory, target: Option<&str>) -> Result<Option<String>, Failure> {
    target.map(|text| names::device_of(inventory, text)).transpose()
}

/// Whether a target is a GPU of NVIDIA's driver.
pub(super) fn is_gpu(target: &str) -> bool {
    target.starts_with("cuda:")
}

/// The function of `cuda:N`. CUDA numbers the GPUs of this host. In a snapshot, or without CUDA, they are numbered by address.
fn gpu(inventory: &Inventory, target: &str, is_live: bool) -> Result<Bdf, Failure> {
    if let Some(bdf) = discovered(target).filter(|_| is_live) {
        return Ok(bdf);
    }
    let gpus = inventory.nvidia_gpus();
    let name = target.split('?').next().unwrap_or(target);
    let number = name.strip_prefix("cuda:").and_then(|number| number.parse::<usize>().ok());
    match number.and_then(|number| gpus.get(number)) {
        Some(bdf) => Ok(*bdf),
        None => Err(Failure::bad_input(
            format!("cannot find the function of {target}"),
            format!(
                "cuda:N counts the GPUs bound to the driver nvidia from 0, and the number of these GPUs is {}",
                gpus.len()
            ),
            match gpus.len() {
                0 => "bind the GPU to the driver nvidia, or name the BDF of the GPU".to_owned(),
                count => format!("use a number below {count}, or name the BDF of the GPU"),
            },
        )),
    }
}

/// How `cuda:N` in `--from` or `--to` was resolved, as a note; `None` if CUDA numbered it.
pub(super) fn gpu_note(target: &str, bdf: Bdf, is_live: bool) -> Option<String> {
    let by_cuda = is_live && discovered(target).is_some();
    (is_gpu(target) && !by_cuda)
        .then(|| format!("{target} is {bdf} if GPUs are numbered by address, as nvidia-smi does"))
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
pub(super) fn importer(inventory: &Inventory, target: &str, is_live: bool) -> Result<Bdf, Failure> {
    if is_gpu(target) {
        return gpu(inventory, target, is_live);
    }
    let address = target.strip_prefix("iommufd:").unwrap_or(target);
    if let Ok(bdf) = address.parse() {
        return known(inventory, bdf);
    }
    match inventory.function_under(target).or_else(|| discovered(target).filter(|_| is_live)) {
        Some(bdf) => Ok(bdf),
        None => Err(names::absent(inventory, target, is_live)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_function_a_bar_and_a_gpu() {
        let bdf = Bdf::new(0, 3, 0, 0).unwrap();
        assert_eq!("0000:03:00.0".parse(), Ok(Exporter::Function(bdf)));
        assert_eq!("0000:03:00.0:2".parse(), Ok(Exporter::Bar(bdf, 2)));
        assert_eq!("mlx5_0".parse(), Ok(Exporter::Device("mlx5_0".into())));
        assert_eq!("verbs:mlx5_0".parse(), Ok(Exporter::Device("verbs:mlx5_0".into())));
        assert_eq!("cuda:12".parse(), Ok(Exporter::Gpu("cuda:12".into())));
        for wrong in [
            "",
            "0000",
            "0000:03:00.0:6",
            "0000:03:00.0:",
            "0000:03:00.9:1",
            "host:1M",
            "cuda:",
            "cuda:x",
            "cuda:0:64M",
        ] {
            assert!(wrong.parse::<Exporter>().is_err(), "{wrong}");
        }
    }
}
