//! Config space of which only some bytes are known.

use crate::ConfigSpace;

const HEADER_BYTES: usize = 64;
const CONVENTIONAL_BYTES: usize = 256;
const EXTENDED_BYTES: usize = 4096;

/// The bits of the byte that the readers use are known: the lspci output names them.
const DESCRIBED: u8 = 1;
/// Every bit is known, from a hex dump.
const DUMPED: u8 = 2;

/// Known bytes of config space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KnownBytes {
    bytes: Vec<u8>,
    /// For each byte: 0 if its value is unknown, otherwise [`DESCRIBED`] or [`DUMPED`].
    known: Vec<u8>,
}

impl KnownBytes {
    /// Sets bytes that the lspci output describes; ignores those beyond config space.
    pub(super) fn set(&mut self, at: usize, values: &[u8]) {
        self.write(at, values, DESCRIBED);
    }

    /// Sets bytes of a hex dump; ignores those beyond config space.
    pub(super) fn dump(&mut self, at: usize, values: &[u8]) {
        self.write(at, values, DUMPED);
    }

    fn write(&mut self, at: usize, values: &[u8], known: u8) {
        let end = (at + values.len()).min(EXTENDED_BYTES);
        if at >= end {
            return;
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
            self.known.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(&values[..end - at]);
        self.known[at..end].fill(known);
    }

    pub(super) fn set_word(&mut self, at: usize, value: u16) {
        self.set(at, &value.to_le_bytes());
    }

    pub(super) fn set_double(&mut self, at: usize, value: u32) {
        self.set(at, &value.to_le_bytes());
    }

    /// Sets the header type (1 for PCI, 2 for CardBus) and the bus numbers of a bridge: primary if known, secondary, subordinate.
    pub(super) fn set_bridge(&mut self, header_type: u8, (primary, secondary, subordinate): (Option<u8>, u8, u8)) {
        self.set(0x0e, &[header_type]);
        if let Some(primary) = primary {
            self.set(0x18, &[primary]);
        }
        self.set(0x19, &[secondary, subordinate]);
    }

    pub(super) fn forget(&mut self, at: usize, count: usize) {
        let end = (at + count).min(self.known.len());
        if let Some(known) = self.known.get_mut(at..end) {
            known.fill(0);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.iter().all(|&known| known == 0)
    }

    /// Whether a hex dump shows every byte up to `end`.
    fn is_dumped_up_to(&self, end: usize) -> bool {
        self.known.len() >= end && self.known[..end].iter().all(|&known| known == DUMPED)
    }

    pub(super) fn dumps_conventional_space(&self) -> bool {
        self.is_dumped_up_to(CONVENTIONAL_BYTES)
    }

    pub(super) fn dumps_extended_space(&self) -> bool {
        self.is_dumped_up_to(EXTENDED_BYTES)
    }

    /// Adds the bytes of another lspci output, or of another part of the same one. Bytes of a hex dump (`-xxxx`) replace bytes
    /// that were decoded from text (`-vvv`). A byte with two different values from the same kind of source becomes unknown: the
    /// register changed, and it is unknown which value is newer.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.bytes.len() < other.bytes.len() {
            self.bytes.resize(other.bytes.len(), 0);
            self.known.resize(other.bytes.len(), 0);
        }
        for (at, (&value, &known)) in other.bytes.iter().zip(&other.known).enumerate() {
            if known > self.known[at] {
                (self.bytes[at], self.known[at]) = (value, known);
            } else if known == self.known[at] && value != self.bytes[at] {
                self.known[at] = 0;
            }
        }
    }

    /// The config space for the readers of sysfs. `is_whole_dump` is whether the kernel reads no byte after the known ones.
    pub(super) fn space(&self, is_whole_dump: bool) -> ConfigSpace {
        let (bytes, known) = self.files(is_whole_dump);
        known.map_or_else(|| ConfigSpace::new(bytes.clone()), |known| ConfigSpace::partial(bytes.clone(), known))
    }

    /// The contents of the files `config` and `config.known`; the latter is `None` if every byte is known.
    pub(super) fn files(&self, is_whole_dump: bool) -> (Vec<u8>, Option<Vec<u8>>) {
        let is_removed =
            self.is_dumped_up_to(HEADER_BYTES) && self.bytes[..HEADER_BYTES].iter().all(|&byte| byte == 0xff);
        if is_removed || self.is_empty() {
            return (Vec::new(), None);
        }
        let resized = |length| {
            let mut resized = self.clone();
            resized.bytes.resize(length, 0);
            resized.known.resize(length, 0);
            resized
        };
        let whole = resized(EXTENDED_BYTES);
        // Extended config space exists only in PCIe functions.
        let is_conventional = || {
            let space = ConfigSpace::partial(whole.bytes.clone(), whole.known.clone());
            space.port_type() == crate::Capability::Absent
        };
        let length = match () {
            () if self.dumps_extended_space() => EXTENDED_BYTES,
            () if is_whole_dump || is_conventional() => CONVENTIONAL_BYTES,
            () => EXTENDED_BYTES,
        };
        let Self { bytes, known } = resized(length);
        let known = known.contains(&0).then_some(known);
        (bytes, known)
    }
}
