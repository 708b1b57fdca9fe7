//! Why each failure happens and what to do about it. What the kernel's errnos mean stands in `peerpath_paths::explain`.

use std::io;
use std::path::Path;

use peerpath_paths::{Cause, Explained, Explanation, Facts, Severity, Step, explain};

use crate::Error;

impl Explained for Error {
    fn severity(&self) -> Severity {
        match self {
            Self::BadSource { .. }
            | Self::BadRangeText { .. }
            | Self::BadDoor { .. }
            | Self::NoFunction { .. }
            | Self::BadBar { .. }
            | Self::BadRange { .. }
            | Self::BadLength { .. }
            | Self::NoRanges { .. }
            | Self::Bridge { .. }
            | Self::BadSocketPath { .. }
            | Self::NothingToHandOver { .. } => Severity::BadInput,
            Self::ReadHost { source, .. } | Self::State { source, .. } if !permission(source) => Severity::Internal,
            Self::BadJournal { .. } => Severity::Internal,
            Self::Gpu { source, .. } => source.severity(),
            Self::Acs { .. } | Self::Program { .. } | Self::NotBack { .. } | Self::LeftChanged { .. } => {
                Severity::Failed
            }
            // The errno decides.
            Self::SetDomain { .. } | Self::Export { .. } | Self::OpenDevice { .. } | Self::Reset { .. } => {
                self.explanation().severity.unwrap_or(Severity::Failed)
            }
            Self::Socket { .. } if self.explanation().cause.is_none() => Severity::Failed,
            _ => Severity::Unavailable,
        }
    }

    fn explanation(&self) -> Explanation {
        match self {
            Self::BadSource { .. } | Self::BadRangeText { .. } | Self::BadDoor { .. } => Explanation::uncaused(
                "It does not follow the grammar of the command line.",
                "Write a BAR as 0000:03:00.0:2, ranges of it as 0000:03:00.0:2@0x0+0x2000,0x4000+0x2000, memory as host:1M, \
                 udmabuf:1M or heap:1M, memory of a GPU as cuda:0:1M, another process as socket:PATH.",
            ),
            Self::NoFunction { bdf } => Explanation::new(
                Cause::NoDevice,
                format!("The kernel lists no function at {bdf}."),
                "`peerpath list` shows the functions of this host.",
            ),
            Self::BadBar { problem, .. } => Explanation::new(
                Cause::BarNotExportable,
                problem.why(),
                "`peerpath list` shows the BARs that can be exported.",
            ),
            Self::BadRange { .. } => Explanation::new(
                Cause::BarNotExportable,
                "VFIO exports whole pages that lie within the BAR, and the same byte must not stand twice in one buffer.",
                "Give disjoint ranges in whole pages within the BAR.",
            ),
            Self::BadLength { why, .. } => {
                Explanation::uncaused(sentence(why), "Ask for whole pages, and for no more than the source has.")
            }
            Self::NoRanges { .. } => Explanation::uncaused(
                "It is ordinary memory, or its ranges were chosen by the process that exports it.",
                "Ask for ranges of a BAR that is named without any.",
            ),
            Self::Bridge { .. } => Explanation::new(
                Cause::BarNotExportable,
                "VFIO takes only functions with an ordinary configuration header.",
                "Name an endpoint; `peerpath list` shows them.",
            ),
            Self::ReadHost { path, source } => file_explanation(path, source),
            Self::NoIommuGroup { .. } => Explanation::new(
                Cause::NoIommu,
                "No IOMMU translates for this function, so VFIO cannot open it safely.",
                "Switch the IOMMU on in the firmware and on the kernel command line (intel_iommu=on; AMD's is on by default). Where \
                 other functions have an IOMMU group, none covers this one's host bridge: move the card to another slot.",
            ),
            Self::NoiommuGroup { .. } => Explanation::new(
                Cause::Noiommu,
                "Without an IOMMU VFIO exports no dma-buf, and nothing would keep the function's DMA in bounds.",
                "Switch the IOMMU on in the firmware and on the kernel command line, and unset enable_unsafe_noiommu_mode.",
            ),
            Self::NotVfioDriver { bdf, driver } => Explanation::new(
                Cause::DriverNotVfio,
                driver.as_ref().map_or_else(
                    || "No driver has the function.".to_owned(),
                    |driver| format!("The driver {driver} has the function."),
                ),
                format!("`peerpath bind {bdf}` hands it to vfio-pci; `peerpath restore` gives it back."),
            ),
            Self::GroupNotViable { offenders, .. } => Explanation::new(
                Cause::GroupNotViable,
                format!(
                    "The IOMMU cannot tell the functions of a group apart, and these belong to drivers of the kernel: {}.",
                    offenders.iter().map(|(name, driver)| format!("{name} ({driver})")).collect::<Vec<_>>().join(", ")
                ),
                format!(
                    "Where none of them is the device that shall import, hand them over as well: `peerpath bind {}`. Where one is, \
                     it would be lost: put the two into different groups, by another slot or a port above them with ACS.",
                    offenders.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
                ),
            ),
            Self::NoDoor { door, .. } => Explanation::new(
                Cause::KernelTooOld,
                format!("This kernel was built without the {door} door, or its module is not loaded."),
                "Choose the other door, or none.",
            ),
            Self::OtherDoor { .. } => Explanation::new(
                Cause::InUse,
                "A device can be open through one door at a time.",
                "Open all sources of a function through the same door.",
            ),
            Self::Taken { pid, .. } => Explanation::new(
                Cause::InUse,
                pid.map_or_else(
                    || "Another peerpath works with it.".to_owned(),
                    |pid| format!("The peerpath with process id {pid} works with it."),
                ),
                "Wait until it has ended, or end it.",
            ),
            Self::Owned { pids, .. } => owned(pids),
            Self::InUse { uses, forced, .. } => in_use(uses.iter().all(|one| one.forceable), *forced),
            Self::VfioPciMissing => Explanation::new(
                Cause::DriverNotVfio,
                "The kernel module vfio-pci is not loaded, or this kernel was built without it.",
                "Load it: `modprobe vfio-pci`.",
            ),
            Self::OpenIommu { source, .. } => by_errno(Step::OpenIommu, source, &Facts::default()),
            Self::NoType1 => Explanation::new(
                Cause::NoIommu,
                "The module vfio_iommu_type1 is not loaded, or no IOMMU is in use.",
                "Load it: `modprobe vfio_iommu_type1`.",
            ),
            Self::OpenVfio { source, .. } => by_errno(Step::OpenVfio, source, &Facts::default()),
            Self::AttachGroup { source, .. } | Self::AttachIommufd { source, .. } => {
                by_errno(Step::AttachIommu, source, &Facts::default())
            }
            Self::OpenDevice { source, .. } => by_errno(Step::OpenDevice, source, &Facts::default()),
            Self::Region { source, .. } => by_errno(Step::RegionAccess, source, &Facts::default()),
            Self::NoReset { .. } => Explanation::uncaused(
                "The function has no reset of its own and shares its bus.",
                "Use a function that can be reset alone.",
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
            Self::Bind { source, .. } => by_errno(Step::BindDriver, source, &Facts::default()),
            Self::NotTaken { bdf, driver } => Explanation::new(
                Cause::DriverNotVfio,
                format!("The kernel refused without an answer: its log says why {driver} did not take the function."),
                format!("Look at `dmesg | grep {bdf}`; `peerpath restore` gives back what was taken."),
            ),
            Self::CannotPutBack { .. } => Explanation::new(
                Cause::InUse,
                "Only what can be made again afterwards is taken away, and this is not among it.",
                "Take that down first, or choose another importer.",
            ),
            Self::SetDomain { source, .. } => by_errno(Step::SetDomainType, source, &Facts::default()),
            Self::Acs { bdf, source, .. } => Explanation::uncaused(
                sentence(&source.to_string()),
                format!("Look at `setpci -s {bdf} ECAP_ACS+6.w`, and at what the firmware allows."),
            ),
            Self::NoProgram { program } => Explanation::new(
                Cause::LibraryMissing,
                format!("What a network interface carries is written down, and made again, with {program}."),
                "Install iproute2.",
            ),
            Self::Program { .. } => Explanation::uncaused(
                "It could not do its part of taking something away and putting it back.",
                "`peerpath restore` tries again to put back what is left.",
            ),
            Self::NotBack { bdf, .. } => Explanation::new(
                Cause::TimedOut,
                "Its driver has the function again and did not bring that back.",
                format!("Look at `dmesg | grep {bdf}`; `peerpath restore` tries again to put back what is left."),
            ),
            Self::LeftChanged { left, .. } => {
                let Explanation { cause, severity, why, remedy } = left.explanation();
                Explanation {
                    cause,
                    severity,
                    why,
                    remedy: format!("{remedy} Then `peerpath restore` puts back what is left in the journal."),
                }
            }
            Self::State { path, source, .. } => file_explanation(path, source),
            Self::BadJournal { path, .. } => Explanation::uncaused(
                "Another program wrote it, or another version of this one.",
                format!("Look at {}, give back by hand what it names, and remove it.", path.display()),
            ),
            Self::NotEnoughMemory { available_bytes, .. } => Explanation::new(
                Cause::LimitReached,
                format!("{available_bytes} bytes are available on this host."),
                "Ask for less.",
            ),
            Self::HugePages { .. } => Explanation::new(
                Cause::LimitReached,
                "Huge pages are set aside beforehand, and there are not as many of 2 MiB.",
                "Raise /proc/sys/vm/nr_hugepages, or leave out --hugepages.",
            ),
            Self::Memory { source, .. } => by_errno(Step::AllocateMemory, source, &Facts::default()),
            Self::CreateDmaBuf { path, source, .. } => create_dma_buf(path, source),
            Self::Gpu { source, .. } => source.explanation(),
            Self::BadSocketPath { .. } => Explanation::uncaused(
                "A socket is made only where nothing of another kind would be lost.",
                "Name a path in an existing directory, of at most 107 bytes, where nothing is yet.",
            ),
            Self::SocketTaken { .. } => Explanation::new(
                Cause::InUse,
                "A socket answers at this path.",
                "Choose another path, or end the process that serves this one.",
            ),
            Self::NothingToHandOver { .. } => Explanation::uncaused(
                "Only a dma-buf can be passed to another process as a file descriptor.",
                "Name a BAR, or udmabuf:SIZE or heap:SIZE.",
            ),
            Self::Socket { path, source, .. } => socket(path, source),
            Self::BadHandover { .. } => Explanation::uncaused(
                "An exporter sends one JSON line with bdf, bar, ranges and size_bytes, and exactly one dma-buf with it.",
                "Serve the socket with `peerpath export`, or mend the program that serves it.",
            ),
        }
    }
}

fn by_errno(step: Step, source: &io::Error, facts: &Facts) -> Explanation {
    match source.raw_os_error() {
        Some(errno) => explain(step, errno, facts),
        None => Explanation::uncaused(sentence(&source.to_string()), "Report this: it should not happen."),
    }
}

fn permission(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn file_explanation(path: &Path, source: &io::Error) -> Explanation {
    if permission(source) {
        return Explanation::new(
            Cause::NoPermission,
            format!("The user may not do that to {}.", path.display()),
            "Run as root, or set PEERPATH_STATE_DIR to a directory of your own.",
        );
    }
    Explanation::uncaused(sentence(&source.to_string()), format!("Look at {}.", path.display()))
}

fn owned(pids: &[u32]) -> Explanation {
    let why = "The kernel gives a group of functions to one program at a time.";
    let remedy = match pids {
        [] => "End the program that has it: `fuser -v /dev/vfio/* /dev/vfio/devices/*` names it.".to_owned(),
        [pid] => format!("End the process {pid}, which has it open."),
        pids => format!("End the processes {pids:?}, which have it open."),
    };
    Explanation::new(Cause::InUse, why, remedy)
}

fn in_use(forceable: bool, forced: bool) -> Explanation {
    let why = "Taking the function away from its driver would break what uses it.";
    let remedy = match (forceable, forced) {
        (true, _) => "Stop what uses it, or take it all the same with --force-in-use.",
        (false, true) => {
            "Stop what uses it; --force-in-use does not go so far as to take a mounted disk, the default route, the login \
             session or software RDMA that a program has open."
        }
        (false, false) => "Stop what uses it.",
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
        return Explanation::new(Cause::NoDevice, format!("This kernel offers no {}.", path.display()), remedy);
    }
    by_errno(Step::CreateDmaBuf, source, &Facts::default())
}

fn socket(path: &Path, source: &io::Error) -> Explanation {
    match source.kind() {
        io::ErrorKind::NotFound => Explanation::new(
            Cause::NoDevice,
            format!("There is no {}.", path.display()),
            "Start `peerpath export ... --socket PATH` first, and name the same path.",
        ),
        io::ErrorKind::ConnectionRefused => Explanation::new(
            Cause::NoDevice,
            "Nobody serves this socket any more.",
            "Start `peerpath export ... --socket PATH` again.",
        ),
        io::ErrorKind::PermissionDenied => Explanation::new(
            Cause::NoPermission,
            "The socket belongs to another user.",
            "Run as the user who exports, or as root.",
        ),
        _ => Explanation::uncaused(sentence(&source.to_string()), "Look at the process that serves the socket."),
    }
}

/// An explanation is made of sentences; errors come without capital and full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Subject;
    use crate::{BarRange, InUse, NotExportable, RangeProblem};
    use peerpath_paths::Bdf;

    fn bdf() -> Bdf {
        "0000:03:00.0".parse().unwrap()
    }

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn what_the_kernel_answers_to_an_export_names_its_cause() {
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
        let path = std::path::PathBuf::from("/run/peerpath");
        let state =
            |number| Error::State { path: path.clone(), operation: "writing the journal", source: errno(number) };
        let bad = |text: &str| text.parse::<crate::Source>().unwrap_err();
        for (error, class, cause) in [
            (bad("nonsense"), Severity::BadInput, None),
            (Error::NoFunction { bdf: bdf() }, Severity::BadInput, Some(Cause::NoDevice)),
            (
                Error::BadBar { bdf: bdf(), bar: 1, problem: NotExportable::Io },
                Severity::BadInput,
                Some(Cause::BarNotExportable),
            ),
            (Error::NoIommuGroup { bdf: bdf() }, Severity::Unavailable, Some(Cause::NoIommu)),
            (Error::NoiommuGroup { bdf: bdf() }, Severity::Unavailable, Some(Cause::Noiommu)),
            (Error::NotVfioDriver { bdf: bdf(), driver: None }, Severity::Unavailable, Some(Cause::DriverNotVfio)),
            (
                Error::Taken { subject: Subject::Function(bdf()), pid: Some(7) },
                Severity::Unavailable,
                Some(Cause::InUse),
            ),
            (
                Error::SetDomain { group: 9, kind: "identity".to_owned(), source: errno(libc::EPERM) },
                Severity::Unavailable,
                Some(Cause::InUse),
            ),
            (Error::NoProgram { program: "ip" }, Severity::Unavailable, Some(Cause::LibraryMissing)),
            (state(libc::EACCES), Severity::Unavailable, Some(Cause::NoPermission)),
            (state(libc::ENOSPC), Severity::Internal, None),
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
    fn every_explanation_is_made_of_sentences() {
        let range = BarRange { offset_bytes: 0, length_bytes: 1 };
        let disk =
            InUse { kind: crate::bind::UseKind::Disk, detail: "sda is mounted at /".to_owned(), forceable: false };
        let path = std::path::PathBuf::from("/tmp/socket");
        for error in [
            Error::BadRange { bdf: bdf(), bar: 2, range, problem: RangeProblem::Unaligned { page_bytes: 4096 } },
            Error::BadLength { source_name: "heap".to_owned(), length_bytes: 1, why: "nothing".to_owned() },
            Error::NoRanges { source_name: "heap".to_owned() },
            Error::GroupNotViable {
                bdf: bdf(),
                group: 1,
                offenders: vec![("0000:03:00.1".to_owned(), "nvme".to_owned())],
            },
            Error::InUse { bdf: bdf(), uses: vec![disk], forced: true },
            Error::Owned { bdf: bdf(), pids: vec![1, 2], source: errno(libc::EBUSY) },
            Error::NotTaken { bdf: bdf(), driver: "nvme".to_owned() },
            Error::CannotPutBack { subject: Subject::Group(9), what: "bond0 stands upon eth0".to_owned() },
            Error::Acs { bdf: bdf(), operation: "writing", source: io::Error::other("the port kept the bits") },
            Error::Program { command: "ip link".to_owned(), said: "no".to_owned() },
            Error::NotBack { bdf: bdf(), what: "eth0".to_owned(), waited_s: 1 },
            Error::LeftChanged {
                error: Box::new(Error::VfioPciMissing),
                left: Box::new(Error::NoProgram { program: "ip" }),
            },
            Error::NotEnoughMemory { size_bytes: 2, available_bytes: 1 },
            Error::Socket { path: path.clone(), operation: "connecting", source: errno(libc::EPROTOTYPE) },
            Error::BadHandover { path, why: "no fd came with the message".to_owned() },
            Error::Region { bdf: bdf(), operation: "mapping the BAR", source: io::Error::other("short") },
        ] {
            let Explanation { why, remedy, .. } = error.explanation();
            for text in [&why, &remedy] {
                assert!(text.ends_with('.') && text.starts_with(|letter: char| !letter.is_lowercase()), "{text:?}");
            }
            assert!(!error.to_string().ends_with('.'), "{error}");
        }
    }
}
