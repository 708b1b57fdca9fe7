//! The ACS (Access Control Services) capability.

/// Value of the ACS Control register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AcsControl(pub u16);

impl AcsControl {
    const NAMES: [(u16, &'static str); 7] =
        [(0x01, "SV"), (0x02, "TB"), (0x04, "RR"), (0x08, "CR"), (0x10, "UF"), (0x20, "EC"), (0x40, "DT")];
    /// TB, translation blocking: the port blocks requests with a translated address, and translation requests.
    pub(crate) const TRANSLATION_BLOCKING: u16 = 0x02;
    /// RR: requests are redirected to the root complex.
    pub(crate) const REQUEST_REDIRECT: u16 = 0x04;
    /// CR: completions without the relaxed-ordering attribute are redirected to the root complex.
    pub(crate) const COMPLETION_REDIRECT: u16 = 0x08;
    /// EC, egress control: requests to the ports in the Egress Control Vector are blocked, or redirected if RR is set.
    pub(crate) const EGRESS_CONTROL: u16 = 0x20;
    /// DT, direct translated P2P: RR and EC do not apply to requests with a translated address.
    pub(crate) const DIRECT_TRANSLATED: u16 = 0x40;
    /// RR and CR: requests and completions are redirected to the root complex.
    pub(crate) const REQUEST_AND_COMPLETION: u16 = 0x04 | 0x08;
    /// RR, CR and EC (egress control): the bits that P2PDMA checks.
    pub(crate) const REDIRECT: u16 = 0x04 | 0x08 | 0x20;

    /// Whether P2PDMA considers the port to redirect peer-to-peer requests to the root complex.
    pub fn redirects(self) -> bool {
        self.0 & Self::REDIRECT != 0
    }

    /// Whether the port routes translated requests (ATS) directly to the peer even if it redirects other requests.
    pub fn direct_translated(self) -> bool {
        self.has(Self::DIRECT_TRANSLATED)
    }

    /// Whether at least one of these bits is set.
    pub(crate) fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    /// The names of the redirect bits that are set, separated by spaces: `RR CR`.
    pub fn redirect_names(self) -> String {
        Self(self.0 & Self::REDIRECT).names()
    }

    /// The names of all bits that are set, separated by spaces.
    pub fn names(self) -> String {
        let names: Vec<_> = Self::NAMES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name).collect();
        names.join(" ")
    }
}

/// The ACS capability of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AcsRegister {
    /// Offset of the ACS Control register in config space, in bytes.
    pub offset: u16,
    /// Bits of the ACS Control register that the function supports.
    pub supported: u16,
    /// Current value of the ACS Control register.
    pub control: AcsControl,
}
