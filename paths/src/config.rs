//! The readable part of PCI configuration space.
//!
//! Without CAP_SYS_ADMIN the `config` file of sysfs ends after 64 bytes, before the capabilities and thus before ACS. An
//! unreadable capability is [`Capability::Unknown`], a missing one [`Capability::Absent`].

mod acs;

use serde::{Deserialize, Serialize};

pub use self::acs::{AcsControl, AcsRegister};

/// File beside `config` that marks the known bytes (see [`ConfigSpace::partial`]). Only a tree made from lspci output has it.
pub(crate) const KNOWN_CONFIG: &str = "config.known";

const HEADER_BYTES: usize = 64;
const CONVENTIONAL_BYTES: usize = 256;
const EXTENDED_BYTES: usize = 4096;

const CAPABILITY_PCIE: u8 = 0x10;
const CAPABILITY_VPD: u8 = 0x03;
const EXTENDED_SERIAL_NUMBER: u16 = 0x0003;
const EXTENDED_ACS: u16 = 0x000d;
const EXTENDED_ATS: u16 = 0x000f;
const EXTENDED_SRIOV: u16 = 0x0010;
const EXTENDED_IDE: u16 = 0x0030;
const EXTENDED_DVSEC: u16 = 0x0023;
/// Vendor ID of the CXL consortium in a DVSEC.
const CXL_VENDOR: u16 = 0x1e98;
/// ID of the DVSEC for CXL devices.
const CXL_DEVICE_DVSEC: u16 = 0;

/// A capability of a function, as far as config space is readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capability<T> {
    /// The function has the capability.
    Present(T),
    /// The function does not have the capability.
    Absent,
    /// The part of config space that could contain the capability is not readable.
    Unknown,
}

impl<T> Capability<T> {
    /// Reads a field of a present capability; `Unknown` if `read` returns `None`.
    pub fn and_then<U>(self, read: impl FnOnce(T) -> Option<U>) -> Capability<U> {
        match self {
            Self::Present(value) => read(value).map_or(Capability::Unknown, Capability::Present),
            Self::Absent => Capability::Absent,
            Self::Unknown => Capability::Unknown,
        }
    }

    /// The capability, if it is present.
    pub fn present(self) -> Option<T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown => None,
        }
    }
}

/// The PCIe device/port type of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortType {
    /// An endpoint, or a legacy endpoint.
    Endpoint,
    /// A root port.
    RootPort,
    /// The upstream port of a switch.
    SwitchUpstream,
    /// A downstream port of a switch.
    SwitchDownstream,
    /// A bridge between PCIe and conventional PCI, in either direction.
    PciBridge,
    /// An endpoint integrated into the root complex.
    IntegratedEndpoint,
    /// A root complex event collector.
    EventCollector,
    /// A type that PCIe 6.0 does not define.
    Other,
}

/// The PCIe capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pcie {
    /// The device/port type.
    pub port_type: PortType,
    /// Maximum payload size (MPS) that the function supports, in bytes.
    pub max_payload_supported_bytes: u16,
    /// Maximum payload size (MPS) setting, in bytes.
    pub max_payload_bytes: u16,
    /// Maximum read request size (MRRS) setting, in bytes.
    pub max_read_request_bytes: u16,
    /// Whether the function may set the relaxed-ordering attribute of its requests.
    pub relaxed_ordering: bool,
    /// Current speed and width of the link; `None` without a link.
    pub link: Option<Link>,
    /// Maximum speed and width that the function supports; `None` without a link.
    pub link_limit: Option<Link>,
    /// Number of requests that can be outstanding, by the width of the enabled tags: 32, 256 or 768; `None` if it is not
    /// readable. A device may use fewer.
    pub tags: Option<u16>,
    /// Whether the link is in Flit Mode; `None` if that is not readable.
    pub flit_mode: Option<bool>,
}

/// Speed and width of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Link {
    /// PCIe generation: 1 is 2.5 GT/s, 5 is 32 GT/s.
    pub generation: u8,
    /// Number of lanes.
    pub lanes: u8,
}

/// The ATS (address translation services) capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ats {
    /// Whether ATS is enabled.
    pub enabled: bool,
}

/// The IDE (integrity and data encryption) capability: encrypted streams of the function's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ide {
    /// Number of Link IDE Streams in the state Secure. They protect the packets between the two ends of one link.
    pub secure_link_streams: u16,
    /// Number of Selective IDE Streams in the state Secure. They protect the packets between two ports, usually an endpoint and
    /// its root port, also through switches.
    pub secure_selective_streams: u16,
}

/// Configuration space of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    /// One byte for each byte of `bytes`: 0 if the value is unknown. `None` if every value is known.
    known: Option<Vec<u8>>,
}

impl ConfigSpace {
    /// Accepts any bytes. Capabilities beyond the last byte are unknown.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.truncate(EXTENDED_BYTES);
        let is_removed = bytes.iter().take(HEADER_BYTES).all(|&byte| byte == 0xff);
        let length = match bytes.len() {
            short if is_removed || short < HEADER_BYTES => 0,
            truncated if truncated < CONVENTIONAL_BYTES => HEADER_BYTES,
            whole => whole,
        };
        bytes.truncate(length);
        let mut config = Self { bytes, known: None };
        // `tar` pads a file of sysfs with zeros to the size that sysfs reports. A capability list that points into zeros shows
        // that the file was truncated.
        if config.capability_pointer().present().is_some()
            && config.bytes.iter().skip(HEADER_BYTES).all(|&byte| byte == 0)
        {
            config.bytes.truncate(HEADER_BYTES);
        }
        config
    }

    /// Config space of which only some bytes are known, as lspci output shows it. `known` has one byte for each byte of `bytes`:
    /// 0 if its value is unknown. A capability whose offset is unknown is [`Capability::Unknown`].
    pub(crate) fn partial(mut bytes: Vec<u8>, known: Vec<u8>) -> Self {
        if bytes.len() != known.len() || bytes.len() < HEADER_BYTES {
            return Self::new(Vec::new());
        }
        bytes.truncate(EXTENDED_BYTES);
        Self { bytes, known: Some(known) }
    }

    /// Whether bytes within the readable part are unknown.
    pub(crate) fn is_partial(&self) -> bool {
        self.known.is_some()
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let unknown = |known: &Vec<u8>| known.get(at..at + N).is_none_or(|known| known.contains(&0));
        if self.known.as_ref().is_some_and(unknown) {
            return None;
        }
        self.bytes.get(at..at + N)?.try_into().ok()
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.array(at).map(u8::from_le_bytes)
    }

    fn word(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn double(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// Number of readable bytes.
    pub fn readable_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Vendor and device ID. In a virtual function they read as all ones; sysfs has the correct IDs.
    pub fn ids(&self) -> Option<(u16, u16)> {
        Some((self.word(0)?, self.word(2)?))
    }

    /// Base class, subclass and programming interface.
    pub fn class(&self) -> Option<u32> {
        Some(self.double(8)? >> 8)
    }

    /// Subsystem vendor and device ID of an endpoint; `None` for a bridge.
    pub fn subsystem_ids(&self) -> Option<(u16, u16)> {
        (self.header_type()? == 0).then_some((self.word(0x2c)?, self.word(0x2e)?))
    }

    /// Whether memory decoding is on. The bit has no meaning in a virtual function.
    pub fn memory_decode(&self) -> Option<bool> {
        Some(self.word(4)? & 2 != 0)
    }

    /// Whether bus mastering is on: the function may send DMA, or the bridge may forward it upward.
    pub fn bus_master(&self) -> Option<bool> {
        Some(self.word(4)? & 4 != 0)
    }

    /// Header type: 0 for endpoints, 1 for bridges, 2 for CardBus bridges.
    pub fn header_type(&self) -> Option<u8> {
        Some(self.byte(0x0e)? & 0x7f)
    }

    /// Secondary and subordinate bus number of a bridge; `None` for an endpoint.
    pub fn buses_below(&self) -> Option<(u8, u8)> {
        matches!(self.header_type()?, 1 | 2).then_some((self.byte(0x19)?, self.byte(0x1a)?))
    }

    /// The value of a base address register, including the type bits.
    pub fn bar_register(&self, index: u8) -> Option<u32> {
        let registers = if self.header_type()? == 0 { 6 } else { 2 };
        (index < registers).then(|| self.double(0x10 + 4 * usize::from(index)))?
    }

    /// Offset of the first capability.
    fn capability_pointer(&self) -> Capability<usize> {
        let Some(status) = self.word(6) else { return Capability::Unknown };
        if status & 0x10 == 0 {
            return Capability::Absent;
        }
        let Some(header_type) = self.header_type() else { return Capability::Unknown };
        match self.byte(if header_type == 2 { 0x14 } else { 0x34 }).map(|pointer| usize::from(pointer & !3)) {
            None => Capability::Unknown,
            Some(pointer) if pointer < HEADER_BYTES => Capability::Absent,
            Some(pointer) => Capability::Present(pointer),
        }
    }

    fn capability(&self, wanted: u8) -> Capability<usize> {
        let mut at = match self.capability_pointer() {
            Capability::Present(at) => at,
            Capability::Absent => return Capability::Absent,
            Capability::Unknown => return Capability::Unknown,
        };
        // The maximum number of capabilities limits the iterations, because a damaged list can be cyclic.
        for _ in 0..(CONVENTIONAL_BYTES - HEADER_BYTES) / 4 {
            let Some(entry) = self.word(at) else { return Capability::Unknown };
            match entry.to_le_bytes() {
                [0xff, _] => return Capability::Absent,
                [id, _] if id == wanted => return Capability::Present(at),
                [_, next] if usize::from(next & !3) >= HEADER_BYTES => at = usize::from(next & !3),
                _ => return Capability::Absent,
            }
        }
        Capability::Absent
    }

    fn extended(&self, wanted: u16) -> Capability<usize> {
        self.extended_where(wanted, |_| true)
    }

    /// Finds the first extended capability that has the ID `wanted` and an offset that `is_wanted` accepts.
    fn extended_where(&self, wanted: u16, is_wanted: impl Fn(usize) -> bool) -> Capability<usize> {
        let readable = self.bytes.len();
        // A function without capabilities is not a PCIe device and has no extended config space.
        if readable == 0 || (readable < CONVENTIONAL_BYTES && self.capability_pointer() != Capability::Absent) {
            return Capability::Unknown;
        }
        // The kernel itself reads only 256 bytes of conventional PCI functions, and of all functions with pci=nommconf.
        if readable <= CONVENTIONAL_BYTES {
            return Capability::Absent;
        }
        let mut at = CONVENTIONAL_BYTES;
        for _ in 0..(EXTENDED_BYTES - CONVENTIONAL_BYTES) / 8 {
            let Some(header) = self.double(at) else { return Capability::Unknown };
            match header {
                0 => return Capability::Absent,
                u32::MAX => return Capability::Unknown,
                _ if header & 0xffff == u32::from(wanted) && is_wanted(at) => return Capability::Present(at),
                _ => at = (header >> 20) as usize & !3,
            }
            if at < CONVENTIONAL_BYTES {
                return Capability::Absent;
            }
        }
        Capability::Absent
    }

    /// Reads the PCIe capability.
    pub fn pcie(&self) -> Capability<Pcie> {
        self.capability(CAPABILITY_PCIE).and_then(|at| {
            let control = self.word(at + 8)?;
            let port_type = port_type(self.word(at + 2)?);
            let has_link = !matches!(port_type, PortType::IntegratedEndpoint | PortType::EventCollector);
            let link = |at: usize| has_link.then(|| self.word(at).map(link)).flatten().flatten();
            // Version 1 of the capability ends before Device Control 2.
            let second =
                |register: usize| if self.word(at + 2)? & 0xf < 2 { Some(0) } else { self.word(at + register) };
            Some(Pcie {
                port_type,
                max_payload_supported_bytes: 128 << (self.double(at + 4)? & 7),
                max_payload_bytes: 128 << (control >> 5 & 7),
                max_read_request_bytes: 128 << (control >> 12 & 7),
                relaxed_ordering: control & 0x10 != 0,
                link: link(at + 0x12),
                link_limit: link(at + 0x0c),
                tags: second(0x28).map(|control2| match (control2 & 0x1000 != 0, control & 0x100 != 0) {
                    (true, _) => 768,
                    (false, true) => 256,
                    (false, false) => 32,
                }),
                flit_mode: second(0x32).map(|status2| status2 & 0x400 != 0),
            })
        })
    }

    /// Reads the device/port type, which may be known although the other registers of the PCIe capability are not.
    pub(crate) fn port_type(&self) -> Capability<PortType> {
        self.capability(CAPABILITY_PCIE).and_then(|at| self.word(at + 2).map(port_type))
    }

    /// Reads the ACS Control register.
    pub fn acs(&self) -> Capability<AcsControl> {
        self.extended(EXTENDED_ACS).and_then(|at| self.word(at + 6).map(AcsControl))
    }

    /// Reads the ACS capability and the offset of its ACS Control register.
    pub fn acs_register(&self) -> Capability<AcsRegister> {
        self.extended(EXTENDED_ACS).and_then(|at| {
            let offset = u16::try_from(at + 6).ok()?;
            Some(AcsRegister { offset, supported: self.word(at + 4)?, control: AcsControl(self.word(at + 6)?) })
        })
    }

    /// Whether the Egress Control Vector of the ACS capability contains the port with this number; `None` if the vector is not
    /// readable or too short.
    pub(crate) fn acs_egress_vector_has(&self, port_number: u8) -> Option<bool> {
        let at = self.extended(EXTENDED_ACS).present()?;
        // The size of the vector in bits; 0 means 256.
        let bits = match self.byte(at + 5)? {
            0 => 256,
            bits => u16::from(bits),
        };
        let number = usize::from(port_number);
        (u16::from(port_number) < bits).then_some(())?;
        Some(self.byte(at + 8 + number / 8)? >> (number % 8) & 1 == 1)
    }

    /// The port number in Link Capabilities, by which a switch identifies its ports; `None` if it is not readable.
    pub(crate) fn port_number(&self) -> Option<u8> {
        self.byte(self.capability(CAPABILITY_PCIE).present()? + 0x0c + 3)
    }

    /// Reads the IDE capability (PCIe 6.0, section 7.9.26; `pci_regs.h`).
    pub fn ide(&self) -> Capability<Ide> {
        self.extended(EXTENDED_IDE).and_then(|at| {
            let supported = self.double(at + 4)?;
            let mut ide = Ide { secure_link_streams: 0, secure_selective_streams: 0 };
            let mut block = at + 0x0c;
            if supported & 1 != 0 {
                for _ in 0..=(supported >> 13 & 7) {
                    ide.secure_link_streams += u16::from(self.is_secure(block + 4)?);
                    block += 8;
                }
            }
            if supported & 2 != 0 {
                for _ in 0..=(supported >> 16 & 0xff) {
                    let addresses = (self.double(block)? & 0xf) as usize;
                    ide.secure_selective_streams += u16::from(self.is_secure(block + 8)?);
                    block += 20 + 12 * addresses;
                }
            }
            Some(ide)
        })
    }

    /// Whether a status register of an IDE stream reports the state Secure.
    fn is_secure(&self, at: usize) -> Option<bool> {
        const SECURE: u32 = 2;
        Some(self.double(at)? & 0xf == SECURE)
    }

    /// Replaces the 16-bit register at an offset, in bytes.
    pub(crate) fn with_word(mut self, offset: u16, value: u16) -> Self {
        let at = usize::from(offset);
        if let Some(bytes) = self.bytes.get_mut(at..at + 2) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        self
    }

    /// Reads the ATS (address translation services) capability.
    pub fn ats(&self) -> Capability<Ats> {
        self.extended(EXTENDED_ATS).and_then(|at| self.word(at + 6).map(|control| Ats { enabled: control >> 15 == 1 }))
    }

    /// Whether the function can cache host memory through CXL.cache: bit 0 of the capability register in the DVSEC for CXL
    /// devices (CXL specification 3.1, 8.1.3.1; `pci_cxl_ats_required` in drivers/pci/ats.c).
    pub fn cxl_cache(&self) -> Capability<bool> {
        // A DVSEC whose vendor or ID is unknown may be the wanted one.
        let may_be = |at: usize, value| self.word(at).is_none_or(|word| word == value);
        let of_cxl = |at: usize| may_be(at + 4, CXL_VENDOR) && may_be(at + 8, CXL_DEVICE_DVSEC);
        self.extended_where(EXTENDED_DVSEC, of_cxl)
            .and_then(|at| self.word(at + 0x0a).map(|capability| capability & 1 != 0))
    }

    /// Whether the function has the SR-IOV capability, as a physical function does.
    pub fn sriov(&self) -> Capability<()> {
        self.extended(EXTENDED_SRIOV).and_then(|_| Some(()))
    }

    /// The virtual functions that the SR-IOV capability of a physical function enables, as their distances from the physical
    /// function in routing IDs (bus, device and function as one number).
    pub(crate) fn virtual_functions(&self) -> Capability<impl Iterator<Item = u32> + use<>> {
        self.extended(EXTENDED_SRIOV).and_then(|at| {
            let enabled = self.word(at + 0x08)? & 1 != 0;
            let count = if enabled { self.word(at + 0x10)? } else { 0 };
            let (offset, stride) = (self.word(at + 0x14)?, self.word(at + 0x16)?);
            Some((0..u32::from(count)).map(move |index| u32::from(offset) + u32::from(stride) * index))
        })
    }

    /// Returns the bytes for a snapshot, without the serial number and the contents of the VPD capability.
    pub fn without_serials(mut self) -> Vec<u8> {
        let serial = self.extended(EXTENDED_SERIAL_NUMBER).present().map(|at| at + 4..at + 12);
        let vpd = self.capability(CAPABILITY_VPD).present().map(|at| at + 2..at + 8);
        for range in [serial, vpd].into_iter().flatten() {
            let length = self.bytes.len();
            self.bytes[range.start.min(length)..range.end.min(length)].fill(0);
        }
        self.bytes
    }
}

fn port_type(flags: u16) -> PortType {
    match flags >> 4 & 0xf {
        0x0 | 0x1 => PortType::Endpoint,
        0x4 => PortType::RootPort,
        0x5 => PortType::SwitchUpstream,
        0x6 => PortType::SwitchDownstream,
        0x7 | 0x8 => PortType::PciBridge,
        0x9 => PortType::IntegratedEndpoint,
        0xa => PortType::EventCollector,
        _ => PortType::Other,
    }
}

/// Parses link speed and width. Link Capabilities and Link Status have the same layout.
fn link(register: u16) -> Option<Link> {
    let link = Link { generation: (register & 0xf) as u8, lanes: (register >> 4 & 0x3f) as u8 };
    (link.generation != 0 && link.lanes != 0).then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A root port with ACS, ATS and a serial number.
    fn port() -> Vec<u8> {
        let mut bytes = vec![0; EXTENDED_BYTES];
        bytes[0..4].copy_from_slice(&[0x36, 0x1b, 0x0c, 0x00]);
        bytes[0x06] = 0x10;
        bytes[0x0b] = 0x06;
        bytes[0x0a] = 0x04;
        bytes[0x0e] = 0x81;
        bytes[0x19..0x1b].copy_from_slice(&[3, 5]);
        bytes[0x34] = 0x54;
        bytes[0x54..0x5c].copy_from_slice(&[0x10, 0x60, 0x42, 0, 2, 0, 0, 0]);
        bytes[0x5c..0x5e].copy_from_slice(&0x2830u16.to_le_bytes());
        bytes[0x60..0x62].copy_from_slice(&0x0105u16.to_le_bytes());
        bytes[0x66..0x68].copy_from_slice(&0x0084u16.to_le_bytes());
        bytes[0x100..0x104].copy_from_slice(&(0x0003u32 | 1 << 16 | 0x150 << 20).to_le_bytes());
        bytes[0x104..0x10c].copy_from_slice(b"\x01secret\x02");
        bytes[0x150..0x154].copy_from_slice(&(0x000du32 | 1 << 16 | 0x160 << 20).to_le_bytes());
        bytes[0x156] = 0x1d;
        bytes[0x160..0x164].copy_from_slice(&(0x000fu32 | 1 << 16).to_le_bytes());
        bytes[0x167] = 0x80;
        bytes
    }

    #[test]
    fn parses_a_complete_config_space() {
        let config = ConfigSpace::new(port());
        assert_eq!(config.ids(), Some((0x1b36, 0x000c)));
        assert_eq!(config.class(), Some(0x06_0400));
        assert_eq!(config.buses_below(), Some((3, 5)));
        let acs = config.acs().present().unwrap();
        assert_eq!(
            (acs.redirects(), acs.redirect_names().as_str(), acs.names().as_str()),
            (true, "RR CR", "SV RR CR UF")
        );
        assert_eq!(config.ats(), Capability::Present(Ats { enabled: true }));
        assert_eq!(config.sriov(), Capability::Absent);
        let pcie = config.pcie().present().unwrap();
        assert_eq!(pcie.port_type, PortType::RootPort);
        assert_eq!((pcie.max_payload_supported_bytes, pcie.max_payload_bytes), (512, 256));
        assert_eq!((pcie.max_read_request_bytes, pcie.relaxed_ordering), (512, true));
        assert_eq!((pcie.tags, pcie.flit_mode), (Some(32), Some(false)));
        assert_eq!(pcie.link, Some(Link { generation: 4, lanes: 8 }));
    }

    #[test]
    fn acs_is_unknown_if_only_64_bytes_are_readable() {
        let mut padded = port();
        padded[64..].fill(0);
        for bytes in [port()[..64].to_vec(), port()[..128].to_vec(), padded] {
            let config = ConfigSpace::new(bytes);
            assert_eq!((config.acs(), config.pcie()), (Capability::Unknown, Capability::Unknown));
            assert_eq!(config.buses_below(), Some((3, 5)));
        }
    }

    #[test]
    fn acs_is_absent_in_a_function_without_capabilities() {
        let mut bytes = port()[..64].to_vec();
        bytes[0x06] = 0;
        assert_eq!(ConfigSpace::new(bytes).acs(), Capability::Absent);
    }

    #[test]
    fn acs_is_absent_if_config_space_has_256_bytes() {
        let config = ConfigSpace::new(port()[..256].to_vec());
        assert_eq!(config.acs(), Capability::Absent);
        assert_eq!(config.pcie().present().map(|pcie| pcie.port_type), Some(PortType::RootPort));
    }

    #[test]
    fn everything_is_unknown_in_a_removed_device() {
        let config = ConfigSpace::new(vec![0xff; 4096]);
        assert_eq!((config.acs(), config.ids(), config.memory_decode()), (Capability::Unknown, None, None));
    }

    #[test]
    fn removes_serial_numbers() {
        let clean = ConfigSpace::new(port()).without_serials();
        assert!(!clean.windows(6).any(|window| window == b"secret"));
        assert_eq!(ConfigSpace::new(clean).acs().present(), Some(AcsControl(0x1d)));
    }

    proptest! {
        #[test]
        fn accepts_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..5000), at in 0usize..4096, value: u32) {
            let mut whole = port();
            whole[at & !3..(at & !3) + 4].copy_from_slice(&value.to_le_bytes());
            for bytes in [bytes, whole] {
                let config = ConfigSpace::new(bytes);
                let _ = (config.acs(), config.ats(), config.sriov(), config.pcie(), config.ids(), config.class());
                let _ = (config.buses_below(), config.bar_register(5), config.memory_decode());
                prop_assert!(config.without_serials().len() <= EXTENDED_BYTES);
            }
        }
    }
}
