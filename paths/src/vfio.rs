//! Facts in sysfs and procfs that decide whether VFIO can open a function: driver, IOMMU group, and processes that have the
//! function open.

use std::io;

use crate::tree::last_component;
use crate::{Bar, Bdf, Cause, Explained, Explanation, IommuGroupId, Severity, Tree};

/// The VFIO driver for PCI functions.
pub const VFIO_PCI: &str = "vfio-pci";

/// Drivers that start no DMA, so VFIO accepts them on other functions of a group that user space owns.
const TOLERATED: [&str; 2] = ["pci-stub", "pcieport"];

/// Whether a driver is `vfio-pci` or a variant of it (`mlx5_vfio_pci`, `nvgrace_gpu_vfio_pci`).
pub fn is_vfio_driver(driver: &str) -> bool {
    driver == VFIO_PCI || driver.ends_with("vfio_pci") || driver.ends_with("vfio-pci")
}

/// Whether VFIO opens a group that has a function with this driver.
pub fn is_tolerated_driver(driver: &str) -> bool {
    is_vfio_driver(driver) || TOLERATED.contains(&driver)
}

/// The error if a file of sysfs or procfs exists but cannot be read, so that its content is unknown.
#[derive(Debug, thiserror::Error)]
#[error("cannot read /{path}")]
pub struct UnreadFile {
    /// Path relative to the root of the tree, without a leading slash.
    pub path: String,
    /// The error of the operating system.
    pub source: io::Error,
}

/// The reason why VFIO cannot open a function, regardless of the driver bound to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// sysfs lists no function at the address.
    #[error("cannot find the PCI function {bdf}")]
    NoFunction {
        /// The requested address.
        bdf: Bdf,
    },
    /// The function is a bridge.
    #[error("cannot use {bdf}: it is a bridge")]
    Bridge {
        /// Address of the bridge.
        bdf: Bdf,
    },
    /// The function has no IOMMU group.
    #[error("cannot use {bdf} through VFIO: it has no IOMMU group")]
    NoGroup {
        /// Address of the function.
        bdf: Bdf,
    },
    /// The group exists only in VFIO's no-IOMMU mode.
    #[error("cannot use {bdf}: it is bound through VFIO's no-IOMMU mode")]
    Noiommu {
        /// Address of the function.
        bdf: Bdf,
    },
    /// Other functions of the group have drivers that VFIO does not tolerate.
    #[error(
        "cannot open IOMMU group {group} of {bdf} through VFIO: kernel drivers are bound to other functions of the group"
    )]
    NotViable {
        /// Address of the requested function.
        bdf: Bdf,
        /// Number of its group.
        group: IommuGroupId,
        /// Names in sysfs of the functions with such drivers, and the drivers.
        offenders: Vec<(String, String)>,
    },
}

impl GroupError {
    /// Cause of this error in results.
    pub fn cause(&self) -> Cause {
        match self {
            Self::NoFunction { .. } => Cause::NoDevice,
            Self::Bridge { .. } => Cause::BarNotExportable,
            Self::NoGroup { .. } => Cause::NoIommu,
            Self::Noiommu { .. } => Cause::Noiommu,
            Self::NotViable { .. } => Cause::GroupNotViable,
        }
    }
}

impl Explained for GroupError {
    fn severity(&self) -> Severity {
        match self {
            Self::NoFunction { .. } | Self::Bridge { .. } => Severity::BadInput,
            _ => Severity::Unavailable,
        }
    }

    fn explanation(&self) -> Explanation {
        let (why, remedy) = match self {
            Self::NoFunction { .. } => (
                "The host has no function at this address.".to_owned(),
                "Choose a function that `lspci -D` lists.".to_owned(),
            ),
            Self::Bridge { .. } => (
                "VFIO opens only endpoints (PCI configuration header type 0).".to_owned(),
                "Choose an endpoint.".to_owned(),
            ),
            Self::NoGroup { .. } => (
                "No IOMMU translates the accesses of this function, so VFIO cannot open it safely.".to_owned(),
                "If no function has an IOMMU group, enable the IOMMU in the firmware and boot with intel_iommu=on (AMD: on \
                 by default). If others have one, no IOMMU covers the host bridge of this function: move the card to \
                 another slot."
                    .to_owned(),
            ),
            Self::Noiommu { .. } => (
                "The function is in a no-IOMMU group of VFIO: no IOMMU limits its DMA.".to_owned(),
                "Enable the IOMMU in the firmware and on the kernel command line, and unset enable_unsafe_noiommu_mode."
                    .to_owned(),
            ),
            Self::NotViable { offenders, .. } => {
                let named = offenders.iter().map(|(name, driver)| format!("{name} ({driver})"));
                let names: Vec<_> = offenders.iter().map(|(name, _)| name.as_str()).collect();
                (
                    format!(
                        "The IOMMU does not isolate the functions of a group from each other, and kernel drivers are bound \
                         to {}.",
                        named.collect::<Vec<_>>().join(", ")
                    ),
                    format!(
                        "If none of them is the importer, bind them to vfio-pci as well: {}. If the importer is among them, \
                         move one of the two into another group: use another slot, or a port above them that has ACS.",
                        names.join(" ")
                    ),
                )
            }
        };
        Explanation::new(self.cause(), why, remedy)
    }
}

impl Tree {
    /// Whether sysfs lists the function.
    pub fn has_function(&self, bdf: Bdf) -> bool {
        self.is_directory(&directory(bdf))
    }

    /// Name of the driver bound to a function; `None` if no driver is bound.
    pub fn driver(&self, bdf: Bdf) -> Option<String> {
        self.link_name(&format!("{}/driver", directory(bdf)))
    }

    /// The IOMMU group of a function; `None` if the function has no group: the host has no IOMMU for this function, or the IOMMU
    /// is off.
    pub fn iommu_group(&self, bdf: Bdf) -> Option<IommuGroupId> {
        self.link_name(&format!("{}/iommu_group", directory(bdf)))?.parse().ok().map(IommuGroupId)
    }

    /// The BARs of a function, from its `resource` file; empty if the file is not readable.
    pub fn bars(&self, bdf: Bdf) -> Vec<Bar> {
        Bar::parse_all(&self.text(&format!("{}/resource", directory(bdf))).unwrap_or_default())
    }

    /// The name of a function's VFIO character device below `/dev/vfio/devices`, such as `vfio0`. A kernel built with
    /// `CONFIG_VFIO_DEVICE_CDEV` has one for each function bound to a VFIO driver.
    pub fn vfio_cdev(&self, bdf: Bdf) -> Option<String> {
        self.names(&format!("{}/vfio-dev", directory(bdf))).into_iter().find(|name| name.starts_with("vfio"))
    }

    /// Whether a VFIO driver is bound to a function: vfio-pci, a variant of it, or another driver that creates a VFIO device.
    pub fn has_vfio_driver(&self, bdf: Bdf) -> bool {
        self.driver(bdf).as_deref().is_some_and(is_vfio_driver) || self.vfio_cdev(bdf).is_some()
    }

    /// Finds the IOMMU group of a function, and checks that VFIO can open the function safely.
    ///
    /// # Errors
    /// The function does not exist, is a bridge, has no IOMMU group, or is in a no-IOMMU group.
    pub fn vfio_group(&self, bdf: Bdf) -> Result<IommuGroupId, GroupError> {
        if !self.has_function(bdf) {
            return Err(GroupError::NoFunction { bdf });
        }
        if self.is_bridge(bdf) {
            return Err(GroupError::Bridge { bdf });
        }
        let group = self.iommu_group(bdf).ok_or(GroupError::NoGroup { bdf })?;
        if self.text(&format!("sys/kernel/iommu_groups/{group}/name")).as_deref() == Some("vfio-noiommu") {
            return Err(GroupError::Noiommu { bdf });
        }
        Ok(group)
    }

    /// Checks that VFIO can open the group of a function once the functions in `binding` are bound to vfio-pci.
    ///
    /// # Errors
    /// [`GroupError::NotViable`] if another function of the group has a driver that starts DMA.
    pub fn require_viable(&self, bdf: Bdf, group: IommuGroupId, binding: &[Bdf]) -> Result<(), GroupError> {
        let devices = format!("sys/kernel/iommu_groups/{group}/devices");
        let is_binding = |name: &String| name.parse().is_ok_and(|bdf: Bdf| binding.contains(&bdf));
        let others = self.names(&devices).into_iter().filter(|name| !is_binding(name));
        let with_drivers = others.filter_map(|name| {
            let driver = self.link_name(&format!("{devices}/{name}/driver"))?;
            Some((name, driver))
        });
        let offenders: Vec<_> = with_drivers.filter(|(_, driver)| !is_tolerated_driver(driver)).collect();
        if offenders.is_empty() { Ok(()) } else { Err(GroupError::NotViable { bdf, group, offenders }) }
    }

    /// Process IDs of the processes, other than this one, that have a function open through VFIO. Without root, only
    /// processes of the same user are visible.
    ///
    /// # Errors
    /// A file of sysfs or procfs cannot be read, so whether a process has the function open is unknown.
    pub fn vfio_users(&self, bdf: Bdf) -> Result<Vec<u32>, UnreadFile> {
        let directory = directory(bdf);
        let group = present(format!("{directory}/iommu_group"), |path| self.read_link(path))?.flatten();
        let group = group.as_deref().and_then(last_component).map(|group| format!("/dev/vfio/{group}"));
        let devices = present(format!("{directory}/vfio-dev"), |path| self.read_names(path))?.unwrap_or_default();
        let cdevs = devices.into_iter().map(|name| format!("/dev/vfio/devices/{name}"));
        let files: Vec<_> = group.into_iter().chain(cdevs).collect();
        Ok(self.file_holders(&files)?.into_iter().map(|(pid, _)| pid).collect())
    }

    /// The processes, other than this one, that have any of these files open, each with the first such file. Without root, only
    /// processes of the same user are visible.
    ///
    /// # Errors
    /// `/proc` or the open files of a running process cannot be read, so whether it has one of the files open is unknown.
    pub fn file_holders(&self, files: &[String]) -> Result<Vec<(u32, String)>, UnreadFile> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let names = self.read_names("proc").map_err(|source| UnreadFile { path: "proc".to_owned(), source })?;
        let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        pids.retain(|&pid| pid != std::process::id());
        pids.sort_unstable();
        let mut holders = Vec::new();
        for pid in pids {
            if let Some(file) = self.first_open_file(pid, files)? {
                holders.push((pid, file));
            }
        }
        Ok(holders)
    }

    /// The first of `files` that a process has open.
    fn first_open_file(&self, pid: u32, files: &[String]) -> Result<Option<String>, UnreadFile> {
        let directory = format!("proc/{pid}/fd");
        let fds = match self.read_names(&directory) {
            Ok(fds) => fds,
            // The kernel hides the open files of other users' processes from a user without CAP_SYS_PTRACE.
            Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
            Err(source) => return Err(UnreadFile { path: directory, source }),
        };
        for fd in fds {
            let target = present(format!("{directory}/{fd}"), |path| self.read_link(path))?.flatten();
            if let Some(target) = target.filter(|target| files.contains(target))
                && !self.is_path_only(pid, &fd)
            {
                return Ok(Some(target));
            }
        }
        Ok(None)
    }

    /// Whether a file descriptor was opened with `O_PATH`, as udev does to set permissions. Such a descriptor opens no device.
    fn is_path_only(&self, pid: u32, fd: &str) -> bool {
        let info = self.text(&format!("proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & libc::O_PATH != 0)
    }

    /// Whether the function is a PCI-to-PCI or CardBus bridge, which has no endpoint configuration header.
    fn is_bridge(&self, bdf: Bdf) -> bool {
        let class = self.text(&format!("{}/class", directory(bdf)));
        let class = class.and_then(|text| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok());
        class.is_some_and(|class| matches!(class >> 8, 0x0604 | 0x0607 | 0x0609))
    }
}

/// Reads a file; `None` if it does not exist.
fn present<T>(path: String, read: impl FnOnce(&str) -> io::Result<T>) -> Result<Option<T>, UnreadFile> {
    match read(&path) {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(UnreadFile { path, source }),
    }
}

/// Whether a file does not exist. ESRCH is the errno for files of a process that has exited, and ENODEV for those of a
/// device that was removed.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV))
}

fn directory(bdf: Bdf) -> String {
    format!("sys/bus/pci/devices/{bdf}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            let files = Self(tempfile::tempdir().unwrap());
            files.file("proc/version", "Linux\n");
            files.file("sys/kernel/iommu_groups/99/type", "DMA\n");
            files
        }

        fn tree(&self) -> Tree {
            Tree::open(self.0.path()).unwrap()
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn link(&self, path: &str, target: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(Path::new(target), path).unwrap();
        }

        fn function(&self, bdf: &str, group: Option<u32>, driver: Option<&str>) -> Bdf {
            let directory = format!("sys/devices/pci0000:00/{bdf}");
            self.file(&format!("{directory}/vendor"), "0x1\n");
            self.link(&format!("sys/bus/pci/devices/{bdf}"), &format!("../../../devices/pci0000:00/{bdf}"));
            if let Some(group) = group {
                self.link(&format!("{directory}/iommu_group"), &format!("../../../kernel/iommu_groups/{group}"));
                let member = format!("sys/kernel/iommu_groups/{group}/devices/{bdf}");
                self.link(&member, &format!("../../../../devices/pci0000:00/{bdf}"));
            }
            if let Some(driver) = driver {
                self.link(&format!("{directory}/driver"), &format!("../../../bus/pci/drivers/{driver}"));
            }
            bdf.parse().unwrap()
        }
    }

    #[test]
    fn a_group_is_viable_if_all_its_drivers_are_tolerated() {
        let files = Files::new();
        let wanted = files.function("0000:01:00.0", Some(7), Some("vfio-pci"));
        files.function("0000:00:1c.0", Some(7), Some("pcieport"));
        files.function("0000:01:00.2", Some(7), None);
        let sound = files.function("0000:01:00.1", Some(7), Some("snd_hda_intel"));
        let (tree, group) = (files.tree(), IommuGroupId(7));
        assert_eq!(tree.vfio_group(wanted), Ok(group));
        let offenders = vec![("0000:01:00.1".to_owned(), "snd_hda_intel".to_owned())];
        let not_viable = GroupError::NotViable { bdf: wanted, group, offenders };
        assert_eq!(tree.require_viable(wanted, group, &[]), Err(not_viable));
        assert_eq!(tree.require_viable(wanted, group, &[sound]), Ok(()));
    }

    #[test]
    fn distinguishes_no_group_noiommu_bridges_and_absent_functions() {
        let files = Files::new();
        let bare = files.function("0000:01:00.0", None, None);
        let noiommu = files.function("0000:02:00.0", Some(0), None);
        files.file("sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
        let bridge = files.function("0000:00:1c.0", Some(1), None);
        files.file("sys/devices/pci0000:00/0000:00:1c.0/class", "0x060400\n");
        let absent = "0000:7f:00.0".parse().unwrap();
        let tree = files.tree();
        assert_eq!(tree.vfio_group(bare), Err(GroupError::NoGroup { bdf: bare }));
        assert_eq!(tree.vfio_group(noiommu), Err(GroupError::Noiommu { bdf: noiommu }));
        assert_eq!(tree.vfio_group(bridge), Err(GroupError::Bridge { bdf: bridge }));
        assert_eq!(tree.vfio_group(absent), Err(GroupError::NoFunction { bdf: absent }));
    }

    #[test]
    fn counts_variants_of_vfio_pci() {
        for (driver, vfio) in [("vfio-pci", true), ("mlx5_vfio_pci", true), ("nvme", false), ("vfio", false)] {
            assert_eq!(is_vfio_driver(driver), vfio, "{driver}");
        }
    }

    #[test]
    fn finds_users_through_both_vfio_interfaces() {
        let files = Files::new();
        let bdf = files.function("0000:03:00.0", Some(9), Some("vfio-pci"));
        files.file("sys/devices/pci0000:00/0000:03:00.0/vfio-dev/vfio2/dev", "510:2\n");
        files.link("proc/10/fd/3", "/dev/vfio/9");
        files.link("proc/11/fd/3", "/dev/vfio/devices/vfio2");
        files.link("proc/12/fd/3", "/dev/vfio/vfio");
        files.link("proc/13/fd/3", "/dev/vfio/9");
        files.file("proc/13/fdinfo/3", "pos:\t0\nflags:\t012000000\nmnt_id:\t5\n");
        assert_eq!(files.tree().vfio_users(bdf).unwrap(), [10, 11]);
    }

    #[test]
    fn reports_an_unreadable_file_instead_of_no_users() {
        let files = Files::new();
        let bdf = files.function("0000:03:00.0", Some(9), Some("vfio-pci"));
        assert!(files.tree().vfio_users(bdf).unwrap().is_empty());
        // A process that has exited has no directory `fd`.
        files.file("proc/10/comm", "qemu\n");
        assert!(files.tree().vfio_users(bdf).unwrap().is_empty());
        // Listing a file in place of the directory fails with ENOTDIR.
        files.file("proc/11/fd", "");
        assert_eq!(files.tree().vfio_users(bdf).unwrap_err().path, "proc/11/fd");
        files.file("sys/devices/pci0000:00/0000:03:00.0/vfio-dev", "");
        assert_eq!(files.tree().vfio_users(bdf).unwrap_err().path, "sys/bus/pci/devices/0000:03:00.0/vfio-dev");
    }

    #[test]
    fn every_explanation_consists_of_sentences() {
        let bdf = "0000:03:00.0".parse().unwrap();
        let offenders = vec![("0000:03:00.1".to_owned(), "nvme".to_owned())];
        for error in [
            GroupError::NoFunction { bdf },
            GroupError::Bridge { bdf },
            GroupError::NoGroup { bdf },
            GroupError::Noiommu { bdf },
            GroupError::NotViable { bdf, group: IommuGroupId(1), offenders },
        ] {
            let Explanation { cause, why, remedy, .. } = error.explanation();
            assert_eq!(cause, Some(error.cause()));
            for text in [&why, &remedy] {
                assert!(text.ends_with('.') && text.starts_with(char::is_uppercase), "{text:?}");
            }
        }
    }
}
