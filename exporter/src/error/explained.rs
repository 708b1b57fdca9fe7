//! Reason and remedy of each error. `peerpath_paths::explain` explains errnos.

use std::io;
use std::path::Path;

use peerpath_paths::{Bdf, Cause, Explained, Explanation, Facts, Severity, Step, explain, sentence};

use crate::Error;

impl Error {
    /// Returns the cause that saved results contain. `None` if no cause fits.
    pub fn cause(&self) -> Option<Cause> {
        self.explanation().cause
    }
}

impl Explained for Error {
    fn severity(&self) -> Severity {
        match self {
            Self::BadSource { .. }
            | Self::BadRangeText { .. }
            | Self::BadVfioInterface { .. }
            | Self::BadBar { .. }
            | Self::BadRange { .. }
            | Self::BadLength { .. }
            | Self::NoRanges { .. }
            | Self::BadSocketPath { .. }
            | Self::NotADmaBuf { .. } => Severity::BadInput,
            Self::Group(error) => error.severity(),
            Self::Gpu { source, .. } => source.severity(),
            // The severity depends on the errno.
            Self::Export { .. } | Self::OpenDevice { .. } | Self::Reset { .. } => {
                self.explanation().severity.unwrap_or(Severity::Failed)
            }
            Self::Removed { .. } | Self::PowerState { .. } => Severity::Failed,
            Self::Socket { .. } if self.cause().is_none() => Severity::Failed,
            _ => Severity::Unavailable,
        }
    }

    fn explanation(&self) -> Explanation {
        match self {
            Self::Group(error) => error.explanation(),
            Self::BadVfioInterface { .. } => {
                Explanation::uncaused("VFIO has two interfaces, group and cdev.", "Choose auto, group or cdev.")
            }
            Self::BadSource { why, remedy, .. } => Explanation::uncaused(sentence(why), sentence(remedy)),
            Self::BadRangeText { .. } => Explanation::uncaused(
                "A range is an offset and a length in bytes.",
                "Write OFFSET+LENGTH, e.g. 0x4000+0x2000 or 16K+8K.",
            ),
            Self::BadBar { problem, .. } => Explanation::new(
                Cause::BarNotExportable,
                problem.why(),
                "Choose a memory BAR that is at least one page long and has an assigned address.",
            ),
            Self::BadRange { .. } => Explanation::new(
                Cause::BarNotExportable,
                "VFIO exports only whole pages within the BAR. Overlapping ranges would put a byte into the buffer \
                 twice, so its data could not be verified.",
                "Choose disjoint ranges of whole pages within the BAR.",
            ),
            Self::BadLength { why, remedy, .. } => Explanation::uncaused(sentence(why), remedy),
            Self::NoRanges { .. } => Explanation::uncaused(
                "Only a BAR that is named without ranges can be split. The ranges of a received dma-buf are set by \
                 the program that exports it.",
                "Name the BAR without ranges, e.g. 0000:03:00.0:2.",
            ),
            Self::NotVfioDriver { bdf, driver } => Explanation::new(
                Cause::DriverNotVfio,
                driver.as_ref().map_or_else(
                    || "No driver is bound to the function.".to_owned(),
                    |driver| format!("The driver {driver} is bound to the function."),
                ),
                format!("Bind {bdf} to vfio-pci."),
            ),
            Self::NoVfioInterface { interface, .. } => Explanation::new(
                Cause::KernelTooOld,
                format!("This kernel was built without the VFIO interface {interface}, or its module is not loaded."),
                "Choose the other VFIO interface, or auto.",
            ),
            Self::OtherVfioInterface { .. } => Explanation::new(
                Cause::InUse,
                "A device can be open through one VFIO interface at a time.",
                "Open all sources of a function through the same VFIO interface.",
            ),
            Self::OpenElsewhere { pids, .. } => open_elsewhere(pids),
            Self::OpenIommu { source, .. } => by_errno(Step::OpenIommu, source, &Facts::default()),
            Self::NoType1 => Explanation::new(
                Cause::NoIommu,
                "The module vfio_iommu_type1 is not loaded, or no IOMMU is in use.",
                "Run `modprobe vfio_iommu_type1`. If that does not help, enable the IOMMU in the firmware and on the kernel command line.",
            ),
            Self::OpenVfio { source, .. } => by_errno(Step::OpenVfio, source, &Facts::default()),
            Self::AttachGroup { source, .. } | Self::AttachIommufd { source, .. } => {
                by_errno(Step::AttachIommu, source, &Facts::default())
            }
            Self::OpenDevice { source, .. } => by_errno(Step::OpenDevice, source, &Facts::default()),
            Self::Region { source, .. } => by_errno(Step::RegionAccess, source, &Facts::default()),
            Self::Removed { .. } => Explanation::new(
                Cause::Removed,
                "The function is being removed from the host (hot-unplug) or unbound from its VFIO driver.",
                "If the function still exists, it was unbound: bind it again. Otherwise, insert it again or rescan the \
                 bus (`echo 1 > /sys/bus/pci/rescan`). Then start again.",
            ),
            Self::NoReset { .. } => Explanation::uncaused(
                "The function supports no reset method, and a bus reset would affect other functions.",
                "Use a function that supports a function-level reset.",
            ),
            Self::NoPowerManagement { .. } => Explanation::uncaused(
                "Without this capability, no driver can put the function into D3.",
                "Use a function with power management (`lspci -vv` lists the capability).",
            ),
            Self::PowerState { .. } => Explanation::uncaused(
                "The kernel or the function ignored the change of its power state.",
                "Look at the kernel log (dmesg).",
            ),
            Self::NoHotReset { source, .. } if source.raw_os_error() == Some(libc::ENODEV) => Explanation::uncaused(
                "The function is on a root bus, or a port above it forbids the reset of the bus below.",
                "Use a function below a port, in a slot of its own.",
            ),
            Self::NoHotReset { source, .. } => {
                Explanation::uncaused(sentence(&source.to_string()), "Look at the kernel log (dmesg).")
            }
            Self::SharedHotReset { others, .. } => Explanation::uncaused(
                format!("A hot reset resets every function on the bus, also {}.", list(others)),
                "Use a function that is alone on its bus.",
            ),
            Self::Reset { source, .. } => by_errno(Step::ResetDevice, source, &Facts::default()),
            Self::ExportUnsupported { source, driver, .. } => {
                by_errno(Step::Export, source, &Facts { driver: driver.clone(), ..Facts::default() })
            }
            Self::Export { source, driver, ranges, .. } => by_errno(
                Step::Export,
                source,
                &Facts { driver: driver.clone(), ranges: Some(ranges.len()), ..Facts::default() },
            ),
            Self::NotEnoughMemory { available_bytes, .. } => Explanation::new(
                Cause::LimitReached,
                format!("{available_bytes} bytes are available on this host."),
                "Choose a smaller size.",
            ),
            Self::HugePages { .. } => Explanation::new(
                Cause::LimitReached,
                "Linux reserves huge pages in advance, and too few huge pages of 2 MiB are free.",
                "Raise /proc/sys/vm/nr_hugepages, or use ordinary pages.",
            ),
            Self::Memory { source, .. } => by_errno(Step::AllocateMemory, source, &Facts::default()),
            Self::CreateDmaBuf { path, source, .. } => create_dma_buf(path, source),
            Self::Gpu { source, .. } => source.explanation(),
            Self::BadSocketPath { .. } => Explanation::uncaused(
                "The path is longer than 107 bytes, or a file that is not a socket exists at this path.",
                "Choose an unused path of at most 107 bytes in an existing directory.",
            ),
            Self::SocketTaken { .. } => Explanation::new(
                Cause::InUse,
                "Another process accepts connections at this path.",
                "Choose another path, or end that process.",
            ),
            Self::NotADmaBuf { .. } => Explanation::uncaused(
                "Only a dma-buf can be passed to another process as a file descriptor.",
                "Choose a BAR, udmabuf:SIZE or heap:SIZE.",
            ),
            Self::NoSocket { path } => Explanation::new(
                Cause::NoDevice,
                format!("{} does not exist: no program exports a dma-buf there.", path.display()),
                "Start the exporting program first, with the same path.",
            ),
            Self::Socket { source, .. } => socket(source),
            Self::BadSocketMessage { .. } => Explanation::uncaused(
                "The message must be one JSON line with bdf, bar, ranges and size_bytes, and carry exactly one file \
                 descriptor, the dma-buf.",
                "Correct the program that sends the dma-buf.",
            ),
        }
    }
}

/// The first addresses of a list, and the number of the others.
fn list(functions: &[Bdf]) -> String {
    let names: Vec<_> = functions.iter().take(4).map(ToString::to_string).collect();
    let left = functions.len() - names.len();
    names.join(", ") + &if left > 0 { format!(" and {left} more") } else { String::new() }
}

fn by_errno(step: Step, source: &io::Error, facts: &Facts) -> Explanation {
    match source.raw_os_error() {
        Some(errno) => explain(step, errno, facts),
        None => Explanation::uncaused(sentence(&source.to_string()), "Report this as a bug."),
    }
}

fn open_elsewhere(pids: &[u32]) -> Explanation {
    let why = "Only one process at a time can open a VFIO group or device.";
    let remedy = match pids {
        [] => "End that program: `fuser -v /dev/vfio/* /dev/vfio/devices/*` lists it.".to_owned(),
        [pid] => format!("End process {pid}, which has it open."),
        pids => format!("End processes {pids:?}, which have it open."),
    };
    Explanation::new(Cause::InUse, why, remedy)
}

fn create_dma_buf(path: &Path, source: &io::Error) -> Explanation {
    if source.kind() == io::ErrorKind::NotFound {
        let remedy = if path.ends_with("udmabuf") {
            "Load it (`modprobe udmabuf`), or use a kernel with CONFIG_UDMABUF."
        } else {
            "Use a kernel with CONFIG_DMABUF_HEAPS and CONFIG_DMABUF_HEAPS_SYSTEM."
        };
        return Explanation::new(Cause::NoDevice, format!("This kernel does not provide {}.", path.display()), remedy);
    }
    by_errno(Step::CreateDmaBuf, source, &Facts::default())
}

fn socket(source: &io::Error) -> Explanation {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => Explanation::new(
            Cause::NoDevice,
            "No process is listening on this socket: the exporting program has exited.",
            "Start the exporting program again.",
        ),
        io::ErrorKind::PermissionDenied => Explanation::new(
            Cause::NoPermission,
            "The socket or its folder belongs to another user.",
            "To receive, run as the user of the exporting program, or as root. To export, choose a folder that you can write to.",
        ),
        _ => Explanation::uncaused(sentence(&source.to_string()), "Check the output of the exporting program."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfio::NotExportable;
    use crate::{BarRange, RangeProblem};
    use peerpath_paths::{BarIndex, GroupError};

    fn bdf() -> Bdf {
        "0000:03:00.0".parse().unwrap()
    }

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn names_the_cause_of_each_errno_of_an_export() {
        for (number, cause) in [
            (libc::EINVAL, Cause::BarNotExportable),
            (libc::ENODEV, Cause::BarNotExportable),
            (libc::EOVERFLOW, Cause::BarNotExportable),
            (libc::EOPNOTSUPP, Cause::DriverNotVfio),
            (libc::ENOTTY, Cause::KernelTooOld),
        ] {
            let driver = Some("vfio-pci".to_owned());
            let export =
                Error::Export { bdf: bdf(), bar: 2, driver: driver.clone(), ranges: vec![], source: errno(number) };
            assert_eq!(export.explanation().cause, Some(cause), "{number}");
            let probe = Error::ExportUnsupported { bdf: bdf(), driver, source: errno(number) };
            assert_eq!(probe.explanation().cause, Some(cause), "{number}");
            assert_eq!(export.severity(), Severity::Unavailable);
        }
    }

    #[test]
    fn exit_codes_follow_the_kind_of_failure() {
        let path = std::path::PathBuf::from("/dev/vfio/9");
        let bad = |text: &str| text.parse::<crate::Source>().unwrap_err();
        for (error, class, cause) in [
            (bad("nonsense"), Severity::BadInput, None),
            (Error::Group(GroupError::NoFunction { bdf: bdf() }), Severity::BadInput, Some(Cause::NoDevice)),
            (
                Error::BadBar { bdf: bdf(), bar: BarIndex::new(1).unwrap(), problem: NotExportable::Io },
                Severity::BadInput,
                Some(Cause::BarNotExportable),
            ),
            (Error::NotVfioDriver { bdf: bdf(), driver: None }, Severity::Unavailable, Some(Cause::DriverNotVfio)),
            (
                Error::OpenVfio { bdf: bdf(), path: path.clone(), source: errno(libc::EACCES) },
                Severity::Unavailable,
                Some(Cause::NoPermission),
            ),
            (
                Error::OpenVfio { bdf: bdf(), path: path.clone(), source: errno(libc::EBUSY) },
                Severity::Unavailable,
                Some(Cause::InUse),
            ),
        ] {
            assert_eq!((error.severity(), error.explanation().cause), (class, cause), "{error}");
        }
    }

    #[test]
    fn explanations_are_sentences_and_name_no_option() {
        let bad = |text: &str| text.parse::<crate::Source>().unwrap_err();
        let range = BarRange { offset_bytes: 0, length_bytes: 1 };
        let path = std::path::PathBuf::from("/tmp/socket");
        for error in [
            Error::BadRange {
                bdf: bdf(),
                bar: BarIndex::new(2).unwrap(),
                range,
                problem: RangeProblem::Unaligned { page_bytes: 4096 },
            },
            Error::BadLength {
                source_name: "heap".to_owned(),
                length_bytes: 1,
                why: "nothing".to_owned(),
                remedy: "Choose another.".to_owned(),
            },
            Error::NoRanges { source_name: "heap".to_owned() },
            Error::NoPowerManagement { bdf: bdf() },
            Error::PowerState { bdf: bdf(), state: "D3hot" },
            Error::NoHotReset { bdf: bdf(), source: errno(libc::ENODEV) },
            Error::SharedHotReset { bdf: bdf(), others: vec![bdf(); 6] },
            Error::OpenElsewhere { bdf: bdf(), pids: vec![1, 2], source: errno(libc::EBUSY) },
            Error::NotVfioDriver { bdf: bdf(), driver: None },
            Error::NotEnoughMemory { size_bytes: 2, available_bytes: 1 },
            bad("0000:03:00.9:2"),
            "4K".parse::<BarRange>().unwrap_err(),
            Error::NoSocket { path: path.clone() },
            Error::Socket { path: path.clone(), operation: "connect to", source: errno(libc::EPROTOTYPE) },
            Error::BadSocketMessage { path, why: "the message has no file descriptor".to_owned() },
            Error::Region { bdf: bdf(), operation: "map the BAR", source: io::Error::other("short") },
        ] {
            let Explanation { why, remedy, .. } = error.explanation();
            for text in [&why, &remedy] {
                assert!(text.ends_with('.') && text.starts_with(|letter: char| !letter.is_lowercase()), "{text:?}");
                assert!(!text.contains("--") && !text.contains("`peerpath"), "{text:?}");
            }
            assert!(!error.to_string().ends_with('.'), "{error}");
        }
    }
}
