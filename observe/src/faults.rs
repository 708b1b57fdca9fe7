//! Faults of the IOMMU, as the kernel logs them: an access that it blocked.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::Unobservable;
use peerpath_paths::Bdf;

/// A message of the kernel about a blocked access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The function whose access it was, where the message names it.
    pub device: Option<Bdf>,
    /// The message.
    pub text: String,
}

impl Fault {
    /// Whether it may be about one of these functions: it names one of them, or none at all. Bridges in front of
    /// conventional PCI speak in the name of what is behind them; list them as well.
    pub fn may_concern(&self, functions: &[Bdf]) -> bool {
        self.device.is_none_or(|device| functions.contains(&device))
    }
}

/// Reads the kernel's log from the moment of its creation on.
#[derive(Debug)]
pub struct FaultWatch {
    log: File,
    missed: bool,
}

impl FaultWatch {
    /// Starts with the next message. `root` is `/` but for tests.
    ///
    /// # Errors
    /// The kernel's log may not be read.
    pub fn start(root: &Path) -> Result<Self, Unobservable> {
        let open = || -> io::Result<File> {
            let mut log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(root.join("dev/kmsg"))?;
            log.seek(SeekFrom::End(0))?;
            Ok(log)
        };
        let what = "IOMMU faults cannot be seen: /dev/kmsg cannot be read";
        let log = open().map_err(|source| Unobservable::access(what, source).in_log())?;
        Ok(Self { log, missed: false })
    }

    /// Faults logged since the last call, without waiting.
    ///
    /// # Errors
    /// The log cannot be read any more.
    pub fn faults(&mut self) -> io::Result<Vec<Fault>> {
        let mut faults = Vec::new();
        // One read gives one message, cut at this size.
        let mut message = [0; 8192];
        loop {
            match self.log.read(&mut message) {
                Ok(0) => return Ok(faults),
                Ok(length) => faults.extend(fault(&String::from_utf8_lossy(&message[..length]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(faults),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel has overwritten messages that were not read yet, and goes on behind them.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => self.missed = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether messages were overwritten before they were read: there may have been faults among them.
    pub fn missed_messages(&self) -> bool {
        self.missed
    }
}

/// Reads a record of `/dev/kmsg`: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`, then lines of properties.
fn fault(record: &str) -> Option<Fault> {
    let (header, text) = record.split_once(';')?;
    let priority: u32 = header.split(',').next()?.parse().ok()?;
    let text = text.lines().next()?;
    // Above the three bits of the level stands the facility: 0 is the kernel, anything else was written by a program.
    (priority >> 3 == 0 && is_fault(text)).then(|| Fault { device: device(text), text: text.to_owned() })
}

/// As the drivers of Linux 7.2 word it (drivers/iommu): one list of what must all be in the text, a line for each message.
const FAULTS: &[&[&str]] = &[
    // intel/dmar.c
    &["DMAR:", "[DMA ", "fault addr"],
    &["DMAR:", "[INTR-REMAP]", "fault index"],
    // amd/iommu.c
    &["AMD-Vi:", "Event logged [", "_FAULT"],
    &["AMD-Vi:", "Event logged [ILLEGAL_DEV_TABLE_ENTRY"],
    &["AMD-Vi:", "Event logged [INVALID_DEVICE_REQUEST"],
    &["AMD-Vi:", "Event logged [PAGE_TAB_HARDWARE_ERROR"],
    &["AMD-Vi:", "Event logged [DEV_TAB_HARDWARE_ERROR"],
    // arm/arm-smmu-v3: the event in words, or its number where it is not known
    &["arm-smmu-v3", "event: ", " client: "],
    &["arm-smmu-v3", "event 0x", " received"],
    // arm/arm-smmu
    &["arm-smmu", "Unhandled context fault"],
    &["arm-smmu", "global fault"],
    // virtio-iommu.c
    &["virtio_iommu", " fault from EP "],
];

fn is_fault(text: &str) -> bool {
    FAULTS.iter().any(|parts| parts.iter().all(|part| text.contains(part)))
}

/// The function that a message names: the last one, since the IOMMU itself may stand before it.
fn device(text: &str) -> Option<Bdf> {
    let is_part = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    text.split(|c| !is_part(c)).filter_map(|word| word.trim_end_matches([':', '.']).parse().ok()).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Messages as the drivers word them; the first two were seen in the lab.
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
    fn faults_are_told_with_their_function() {
        for (text, device) in FAULTS {
            let fault = fault(&format!("3,1234,55000,-;{text}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:00.0\n")).unwrap();
            assert_eq!((fault.text.as_str(), fault.device.map(|bdf| bdf.to_string()).as_deref()), (text, device));
        }
    }

    #[test]
    fn other_messages_are_no_faults() {
        for text in [
            "DMAR: DRHD: handling fault status reg 2",
            "DMAR: Intel(R) Virtualization Technology for Directed I/O",
            "AMD-Vi: Interrupt remapping enabled",
            "vfio-pci 0000:01:00.0: reset done",
            "arm-smmu-v3 arm-smmu-v3.0.auto: option mask 0x0",
        ] {
            assert_eq!(fault(&format!("6,1,1,-;{text}\n")), None);
        }
        // Root can write into the kernel's log, and a message of that kind carries another facility.
        assert_eq!(fault(&format!("12,1,1,-;{}\n", FAULTS[0].0)), None);
    }

    #[test]
    fn a_fault_of_another_function_is_not_ours() {
        let fault =
            |device: Option<&str>| Fault { device: device.map(|bdf| bdf.parse().unwrap()), text: String::new() };
        let ours = ["0000:01:00.0".parse().unwrap()];
        assert!(fault(Some("0000:01:00.0")).may_concern(&ours));
        assert!(fault(None).may_concern(&ours));
        assert!(!fault(Some("0000:02:00.0")).may_concern(&ours));
    }

    #[test]
    fn a_host_without_a_log_says_so() {
        let root = tempfile::tempdir().unwrap();
        let error = FaultWatch::start(root.path()).unwrap_err();
        assert!(peerpath_paths::Explained::explanation(&error).why.contains("no log"));
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/kmsg"), "3,1,1,-;before\n").unwrap();
        let mut watch = FaultWatch::start(root.path()).unwrap();
        assert_eq!(watch.faults().unwrap(), []);
    }

    proptest! {
        #[test]
        fn any_record_is_answered(record in ".{0,200}") {
            let _ = fault(&record);
        }
    }
}
