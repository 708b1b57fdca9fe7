//! PCI configuration space, as much of it as the kernel let us see.
//!
//! Without CAP_SYS_ADMIN the `config` file of sysfs ends after 64 bytes; capabilities, and with them ACS, stand behind
//! that. "Not seen" and "not there" are different answers here, because only the second one is a fact.

use serde::{Deserialize, Serialize};

const HEADER_BYTES: usize = 64;
const CONVENTIONAL_BYTES: usize = 256;
const EXTENDED_BYTES: usize = 4096;

const CAPABILITY_PCIE: u8 = 0x10;
const CAPABILITY_VPD: u8 = 0x03;
const EXTENDED_SERIAL_NUMBER: u16 = 0x0003;
const EXTENDED_ACS: u16 = 0x000d;
const EXTENDED_ATS: u16 = 0x000f;
const EXTENDED_SRIOV: u16 = 0x0010;

/// What could be learned about a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capability<T> {
    /// It is there.
    Present(T),
    /// It is not there.
    Absent,
    /// That part of config space could not be read.
    Unknown,
}

impl<T> Capability<T> {
    /// Looks into what is there.
    pub fn and_then<U>(self, look: impl FnOnce(T) -> Option<U>) -> Capability<U> {
        match self {
            Self::Present(value) => look(value).map_or(Capability::Unknown, Capability::Present),
            Self::Absent => Capability::Absent,
            Self::Unknown => Capability::Unknown,
        }
    }

    /// What is there.
    pub fn present(self) -> Option<T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown => None,
        }
    }
}

/// The ACS control word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AcsControl(pub u16);

impl AcsControl {
    const NAMES: [(u16, &'static str); 7] =
        [(0x01, "SV"), (0x02, "TB"), (0x04, "RR"), (0x08, "CR"), (0x10, "UF"), (0x20, "EC"), (0x40, "DT")];
    /// RR, without which a port sends nothing up to the root complex.
    pub(crate) const REQUEST_REDIRECT: u16 = 0x04;
    /// RR and CR.
    pub(crate) const REQUEST_AND_COMPLETION: u16 = 0x04 | 0x08;
    /// Request redirect, completion redirect and egress control: what p2pdma looks at.
    pub(crate) const REDIRECT: u16 = 0x04 | 0x08 | 0x20;

    /// Whether the port sends peer-to-peer requests up to the root complex.
    pub fn redirects(self) -> bool {
        self.0 & Self::REDIRECT != 0
    }

    /// Whether the port lets translated requests (ATS) through to the peer in spite of a redirect.
    pub fn direct_translated(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// The redirecting bits by name: `RR CR`.
    pub fn redirect_names(self) -> String {
        Self(self.0 & Self::REDIRECT).names()
    }

    /// Every bit by name.
    pub fn names(self) -> String {
        let names: Vec<_> = Self::NAMES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name).collect();
        names.join(" ")
    }
}

/// The ACS capability of a function: what it can do and what it is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AcsRegister {
    /// Where the control word stands in config space.
    pub offset: u16,
    /// The bits of the control word that the function implements.
    pub supported: u16,
    /// The control word.
    pub control: AcsControl,
}

/// What kind of PCIe device a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortType {
    /// An endpoint, legacy ones included.
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
    /// Something that the specification did not know when this was written.
    Other,
}

/// The PCIe capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pcie {
    /// What kind of device.
    pub port_type: PortType,
    /// Largest payload it supports.
    pub max_payload_supported_bytes: u16,
    /// Largest payload it is set to.
    pub max_payload_bytes: u16,
    /// Largest read request it is set to.
    pub max_read_request_bytes: u16,
    /// Relaxed ordering is enabled.
    pub relaxed_ordering: bool,
    /// The link as it runs now; none on integrated endpoints.
    pub link: Option<Link>,
    /// The fastest and widest that the link could be.
    pub link_limit: Option<Link>,
}

/// Speed and width of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Link {
    /// PCIe generation: 1 is 2.5 GT/s, 5 is 32 GT/s.
    pub generation: u8,
    /// Lanes.
    pub lanes: u8,
}

/// Address translation services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ats {
    /// Switched on.
    pub enabled: bool,
}

/// Configuration space of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
}

impl ConfigSpace {
    /// Takes what was read; anything is accepted, and what it does not cover is unknown.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.truncate(EXTENDED_BYTES);
        let gone = bytes.iter().take(HEADER_BYTES).all(|&byte| byte == 0xff);
        let length = match bytes.len() {
            short if gone || short < HEADER_BYTES => 0,
            cut if cut < CONVENTIONAL_BYTES => HEADER_BYTES,
            whole => whole,
        };
        bytes.truncate(length);
        let mut config = Self { bytes };
        // `tar` fills a file of sysfs up with zeros to the size it claims. A capability list that starts in zeros was
        // cut off: the function says that there is one, and an entry of zeros is no capability.
        if config.capability_pointer().is_some() && config.bytes.iter().skip(HEADER_BYTES).all(|&byte| byte == 0) {
            config.bytes.truncate(HEADER_BYTES);
        }
        config
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes.get(at..at + 2)?.try_into().ok()?))
    }

    fn double(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?))
    }

    /// How many bytes could be seen.
    pub fn readable_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Vendor and device; all ones in a virtual function, which sysfs corrects and config space does not.
    pub fn ids(&self) -> Option<(u16, u16)> {
        Some((self.word(0)?, self.word(2)?))
    }

    /// Base class, subclass and programming interface.
    pub fn class(&self) -> Option<u32> {
        Some(self.double(8)? >> 8)
    }

    /// Whether the function answers memory accesses. Virtual functions have no such bit of their own.
    pub fn memory_decode(&self) -> Option<bool> {
        Some(self.word(4)? & 2 != 0)
    }

    /// 0 for endpoints, 1 for bridges, 2 for CardBus bridges.
    pub fn header_type(&self) -> Option<u8> {
        Some(self.byte(0x0e)? & 0x7f)
    }

    /// The buses below a bridge: from the secondary to the subordinate one.
    pub fn buses_below(&self) -> Option<(u8, u8)> {
        matches!(self.header_type()?, 1 | 2).then_some((self.byte(0x19)?, self.byte(0x1a)?))
    }

    /// A base address register as it stands, type bits included.
    pub fn bar_register(&self, index: u8) -> Option<u32> {
        let registers = if self.header_type()? == 0 { 6 } else { 2 };
        (index < registers).then(|| self.double(0x10 + 4 * usize::from(index)))?
    }

    /// Where the list of capabilities starts; none where there is no list.
    fn capability_pointer(&self) -> Option<usize> {
        if self.word(6)? & 0x10 == 0 {
            return None;
        }
        let at = if self.header_type()? == 2 { 0x14 } else { 0x34 };
        Some(usize::from(self.byte(at)? & !3)).filter(|&pointer| pointer >= HEADER_BYTES)
    }

    fn capability(&self, wanted: u8) -> Capability<usize> {
        if self.bytes.is_empty() {
            return Capability::Unknown;
        }
        let Some(mut at) = self.capability_pointer() else { return Capability::Absent };
        // As many as fit, which also ends a list that runs in a circle.
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
        let seen = self.bytes.len();
        // Without any capability it is no PCIe device, and nothing else has extended config space.
        if seen == 0 || (seen < CONVENTIONAL_BYTES && self.capability_pointer().is_some()) {
            return Capability::Unknown;
        }
        // 256 bytes are the whole: the kernel reaches no more, be it for lack of PCIe or with pci=nommconf.
        if seen <= CONVENTIONAL_BYTES {
            return Capability::Absent;
        }
        let mut at = CONVENTIONAL_BYTES;
        for _ in 0..(EXTENDED_BYTES - CONVENTIONAL_BYTES) / 8 {
            let Some(header) = self.double(at) else { return Capability::Unknown };
            match header {
                0 => return Capability::Absent,
                u32::MAX => return Capability::Unknown,
                _ if header & 0xffff == u32::from(wanted) => return Capability::Present(at),
                _ => at = (header >> 20) as usize & !3,
            }
            if at < CONVENTIONAL_BYTES {
                return Capability::Absent;
            }
        }
        Capability::Absent
    }

    /// The PCIe capability.
    pub fn pcie(&self) -> Capability<Pcie> {
        self.capability(CAPABILITY_PCIE).and_then(|at| {
            let control = self.word(at + 8)?;
            let port_type = port_type(self.word(at + 2)?);
            let has_link = !matches!(port_type, PortType::IntegratedEndpoint | PortType::EventCollector);
            let link = |at: usize| has_link.then(|| self.word(at).map(link)).flatten().flatten();
            Some(Pcie {
                port_type,
                max_payload_supported_bytes: 128 << (self.double(at + 4)? & 7),
                max_payload_bytes: 128 << (control >> 5 & 7),
                max_read_request_bytes: 128 << (control >> 12 & 7),
                relaxed_ordering: control & 0x10 != 0,
                link: link(at + 0x12),
                link_limit: link(at + 0x0c),
            })
        })
    }

    /// The ACS control word.
    pub fn acs(&self) -> Capability<AcsControl> {
        self.extended(EXTENDED_ACS).and_then(|at| self.word(at + 6).map(AcsControl))
    }

    /// The whole ACS capability, for who wants to change its control word.
    pub fn acs_register(&self) -> Capability<AcsRegister> {
        self.extended(EXTENDED_ACS).and_then(|at| {
            let offset = u16::try_from(at + 6).ok()?;
            Some(AcsRegister { offset, supported: self.word(at + 4)?, control: AcsControl(self.word(at + 6)?) })
        })
    }

    /// As if the word at an offset read otherwise.
    pub(crate) fn with_word(mut self, offset: u16, value: u16) -> Self {
        let at = usize::from(offset);
        if let Some(bytes) = self.bytes.get_mut(at..at + 2) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        self
    }

    /// Address translation services.
    pub fn ats(&self) -> Capability<Ats> {
        self.extended(EXTENDED_ATS).and_then(|at| self.word(at + 6).map(|control| Ats { enabled: control >> 15 == 1 }))
    }

    /// Whether it is a physical function of SR-IOV.
    pub fn sriov(&self) -> Capability<()> {
        self.extended(EXTENDED_SRIOV).and_then(|_| Some(()))
    }

    /// The bytes for a snapshot: without the serial number, and without what the VPD window happens to show.
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

/// The same fields stand in the link's capability and in its status.
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
    fn a_whole_config_space_tells_everything() {
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
        assert_eq!(pcie.link, Some(Link { generation: 4, lanes: 8 }));
    }

    #[test]
    fn the_first_64_bytes_do_not_tell_that_acs_is_absent() {
        let mut padded = port();
        padded[64..].fill(0);
        for bytes in [port()[..64].to_vec(), port()[..128].to_vec(), padded] {
            let config = ConfigSpace::new(bytes);
            assert_eq!((config.acs(), config.pcie()), (Capability::Unknown, Capability::Unknown));
            assert_eq!(config.buses_below(), Some((3, 5)));
        }
    }

    #[test]
    fn a_function_without_capabilities_has_no_acs_even_when_cut() {
        let mut bytes = port()[..64].to_vec();
        bytes[0x06] = 0;
        assert_eq!(ConfigSpace::new(bytes).acs(), Capability::Absent);
    }

    #[test]
    fn with_256_bytes_the_kernel_sees_no_acs_either() {
        let config = ConfigSpace::new(port()[..256].to_vec());
        assert_eq!(config.acs(), Capability::Absent);
        assert_eq!(config.pcie().present().map(|pcie| pcie.port_type), Some(PortType::RootPort));
    }

    #[test]
    fn a_device_that_is_gone_is_unknown() {
        let config = ConfigSpace::new(vec![0xff; 4096]);
        assert_eq!((config.acs(), config.ids(), config.memory_decode()), (Capability::Unknown, None, None));
    }

    #[test]
    fn serials_do_not_travel() {
        let clean = ConfigSpace::new(port()).without_serials();
        assert!(!clean.windows(6).any(|window| window == b"secret"));
        assert_eq!(ConfigSpace::new(clean).acs().present(), Some(AcsControl(0x1d)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..5000), at in 0usize..4096, value: u32) {
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
