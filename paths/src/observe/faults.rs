//! Faults of the IOMMU, as the kernel logs them: an access that it blocked.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Unobservable;
use crate::Bdf;

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
    let (_, text) = record.split_once(';')?;
    let text = text.lines().next()?;
    is_fault(text).then(|| Fault { device: device(text), text: text.to_owned() })
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
