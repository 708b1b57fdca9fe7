//! NVIDIA's kernel module.

use crate::Tree;

/// NVIDIA's kernel module, from `/proc/driver/nvidia/version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvidiaModule {
    /// Driver version: `580.95.05`.
    pub version: Option<String>,
    /// Whether the module is NVIDIA's open kernel module.
    pub is_open: bool,
}

impl NvidiaModule {
    pub(crate) const PATH: &str = "proc/driver/nvidia/version";

    /// Reads the module; `None` if the file does not exist.
    pub fn read(tree: &Tree) -> Option<Self> {
        Some(Self::parse(&tree.text(Self::PATH)?))
    }

    fn parse(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.strip_prefix("NVRM version:")).unwrap_or_default();
        let is_version =
            |word: &&str| word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let version = line.split_whitespace().find(is_version).map(str::to_owned);
        Self { version, is_open: line.contains("Open Kernel Module") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_open_and_proprietary_modules() {
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (x@y)  Tue Sep 23\n\
                    GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)\n";
        let module = |version: &str, is_open| NvidiaModule { version: Some(version.into()), is_open };
        assert_eq!(NvidiaModule::parse(open), module("580.95.05", true));
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n";
        assert_eq!(NvidiaModule::parse(closed), module("535.183.01", false));
        assert_eq!(NvidiaModule::parse("something else\n").version, None);
    }
}
