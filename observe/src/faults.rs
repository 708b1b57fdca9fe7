//! IOMMU faults in the kernel log: accesses that the IOMMU blocked.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use peerpath_paths::{Bdf, kernel_log};

use crate::error::ObserveError;

/// A kernel message about a blocked access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Function that issued the access; `None` if the message does not name it.
    pub device: Option<Bdf>,
    /// The text of the message.
    pub text: String,
}

impl Fault {
    /// Whether the message may concern one of these functions: it names one of them, or it names no function. Include
    /// the PCIe-to-PCI bridges above them: the IOMMU attributes accesses from behind such a bridge to the bridge.
    pub fn may_concern(&self, functions: &[Bdf]) -> bool {
        self.device.is_none_or(|device| functions.contains(&device))
    }
}

/// Reads IOMMU faults from the kernel log, starting with the next message.
#[derive(Debug)]
pub struct FaultWatch {
    log: File,
    missed: bool,
}

impl FaultWatch {
    /// Opens `dev/kmsg` below `root` and skips existing messages. `root` is `/`, except in tests.
    ///
    /// # Errors
    /// The kernel log does not exist or is not readable.
    pub fn start(root: &Path) -> Result<Self, ObserveError> {
        let open = || -> io::Result<File> {
            let mut log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(root.join("dev/kmsg"))?;
            log.seek(SeekFrom::End(0))?;
            Ok(log)
        };
        let what = "cannot report IOMMU faults: cannot read /dev/kmsg";
        let log = open().map_err(|source| ObserveError::access(what, source).in_log())?;
        Ok(Self { log, missed: false })
    }

    /// Returns the faults since the last call. Does not block.
    ///
    /// # Errors
    /// The log can no longer be read.
    pub fn faults(&mut self) -> io::Result<Vec<Fault>> {
        let mut faults = Vec::new();
        // One read returns one message, which the kernel limits to 8 KiB.
        let mut message = [0; 8192];
        loop {
            match self.log.read(&mut message) {
                Ok(0) => return Ok(faults),
                Ok(length) => faults.extend(fault(&String::from_utf8_lossy(&message[..length]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(faults),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel overwrote unread messages; the next read continues after them.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => self.missed = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the kernel overwrote messages before they were read. Faults may be among them.
    pub fn missed_messages(&self) -> bool {
        self.missed
    }
}

/// Parses a record of `/dev/kmsg`: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`, followed by lines of properties.
fn fault(record: &str) -> Option<Fault> {
    let (header, text) = record.split_once(';')?;
    let priority: u32 = header.split(',').next()?.parse().ok()?;
    let text = text.lines().next()?;
    // The bits above the three level bits are the facility: 0 is the kernel, any other value is a program.
    if priority >> 3 != 0 {
        return None;
    }
    let access = kernel_log::blocked_access(text)?;
    Some(Fault { device: access.functions.last().copied(), text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Messages in the format of the drivers. The first two were captured in a virtual machine.
    const FAULTS: [(&str, Option<&str>); 9] = [
        (
            "DMAR: [DMA Read NO_PASID] Request device [0000:08:00.0] fault addr 0x2345000 [fault reason 0x06] PTE Read access is not set",
            Some("0000:08:00.0"),
        ),
        (
            "DMAR: [DMA Write NO_PASID] Request device [0000:08:00.0] fault addr 0x1234000 [fault reason 0x05] PTE Write access is not set",
            Some("0000:08:00.0"),
        ),
        (
            "DMAR: [DMA Write PASID 0x1] Request device [0001:c1:00.1] fault addr 0x0 [fault reason 0x71] SM: Present bit in first-level paging entry is clear",
            Some("0001:c1:00.1"),
        ),
        (
            "mlx5_core 0000:81:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000d address=0xfff00000 flags=0x0020]",
            Some("0000:81:00.0"),
        ),
        (
            "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:81:00.0 domain=0x000d address=0xfff00000 flags=0x0020]",
            Some("0000:81:00.0"),
        ),
        (
            "arm-smmu-v3 arm-smmu-v3.0.auto: event: F_TRANSLATION client: 0000:01:00.0 sid: 0x100 ssid: 0x0 iova: 0xdead0000 ipa: 0x0",
            Some("0000:01:00.0"),
        ),
        ("arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:", None),
        (
            "arm-smmu 5000000.iommu: Unhandled context fault: fsr=0x402, iova=0xdead0000, fsynr=0x1, cbfrsynra=0x2, cb=0",
            None,
        ),
        ("virtio_iommu virtio0: page fault from EP 8 at 0x1000 [W]", None),
    ];

    #[test]
    fn finds_faults_and_their_function() {
        for (text, device) in FAULTS {
            let fault = fault(&format!("3,1234,55000,-;{text}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:00.0\n")).unwrap();
            assert_eq!((fault.text.as_str(), fault.device.map(|bdf| bdf.to_string()).as_deref()), (text, device));
        }
    }

    #[test]
    fn ignores_other_messages() {
        for text in [
            "DMAR: DRHD: handling fault status reg 2",
            "DMAR: Intel(R) Virtualization Technology for Directed I/O",
            "AMD-Vi: Interrupt remapping enabled",
            "vfio-pci 0000:01:00.0: reset done",
            "arm-smmu-v3 arm-smmu-v3.0.auto: option mask 0x0",
        ] {
            assert_eq!(fault(&format!("6,1,1,-;{text}\n")), None);
        }
        // Messages that a program writes to the kernel log carry another facility.
        assert_eq!(fault(&format!("12,1,1,-;{}\n", FAULTS[0].0)), None);
    }

    #[test]
    fn a_fault_of_another_function_does_not_concern_the_given_ones() {
        let fault =
            |device: Option<&str>| Fault { device: device.map(|bdf| bdf.parse().unwrap()), text: String::new() };
        let functions = ["0000:01:00.0".parse().unwrap()];
        assert!(fault(Some("0000:01:00.0")).may_concern(&functions));
        assert!(fault(None).may_concern(&functions));
        assert!(!fault(Some("0000:02:00.0")).may_concern(&functions));
    }

    #[test]
    fn reports_a_missing_kernel_log() {
        let root = tempfile::tempdir().unwrap();
        let error = FaultWatch::start(root.path()).unwrap_err();
        assert!(peerpath_paths::Explained::explanation(&error).why.contains("does not exist"));
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/kmsg"), "3,1,1,-;before\n").unwrap();
        let mut watch = FaultWatch::start(root.path()).unwrap();
        assert_eq!(watch.faults().unwrap(), []);
    }

    proptest! {
        #[test]
        fn accepts_any_record(record in ".{0,200}") {
            let _ = fault(&record);
        }
    }
}
