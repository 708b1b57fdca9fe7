//! Confidential guests. Their memory is encrypted, so the DMA API bounces every untranslated mapping through shared pages.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Tree;

/// Kind of a confidential guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfidentialGuest {
    /// AMD SEV or SEV-ES.
    Sev,
    /// AMD SEV-SNP.
    SevSnp,
    /// Intel TDX.
    Tdx,
    /// An Arm CCA realm.
    Realm,
}

impl fmt::Display for ConfidentialGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sev => "SEV",
            Self::SevSnp => "SEV-SNP",
            Self::Tdx => "TDX",
            Self::Realm => "CCA realm",
        })
    }
}

/// Paths of files that exist only in one kind of confidential guest.
const MARKS: &[(&str, ConfidentialGuest)] = &[
    ("sys/devices/system/cpu/sev/vmpl", ConfidentialGuest::SevSnp),
    ("sys/class/misc/sev-guest", ConfidentialGuest::SevSnp),
    ("sys/bus/platform/devices/sev-guest", ConfidentialGuest::SevSnp),
    ("sys/class/misc/tdx_guest", ConfidentialGuest::Tdx),
    ("sys/devices/virtual/misc/tdx_guest", ConfidentialGuest::Tdx),
    ("sys/bus/platform/devices/arm-cca-dev", ConfidentialGuest::Realm),
    ("sys/devices/platform/arm-cca-dev", ConfidentialGuest::Realm),
];

/// Paths of the files that identify a confidential guest, for the snapshot.
pub(crate) fn marks() -> impl Iterator<Item = &'static str> {
    MARKS.iter().map(|(path, _)| *path)
}

pub(super) fn detect(tree: &Tree, cpuinfo: Option<&str>) -> Option<ConfidentialGuest> {
    if let Some((_, guest)) = MARKS.iter().find(|(path, _)| tree.has(path)) {
        return Some(*guest);
    }
    let flags: Vec<&str> = cpuinfo?.lines().find_map(|line| line.strip_prefix("flags"))?.split_whitespace().collect();
    let has = |flag: &str| flags.contains(&flag);
    if has("tdx_guest") {
        return Some(ConfidentialGuest::Tdx);
    }
    // A host that can run confidential guests has the sev flags too. A guest has these flags only if it is confidential.
    match has("hypervisor") {
        true if has("sev_snp") => Some(ConfidentialGuest::SevSnp),
        true if has("sev") || has("sev_es") => Some(ConfidentialGuest::Sev),
        _ => None,
    }
}
