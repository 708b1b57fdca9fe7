//! Whether a kernel has a feature. A vendor's kernel contains backported features, so its configuration and symbols take
//! precedence over its version.

use std::io::{BufRead, BufReader};

use super::Host;
use crate::KernelVersion;

/// The fact that shows whether a kernel has a feature, the most reliable first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The kernel's configuration.
    Configuration,
    /// A symbol of the running kernel (`/proc/kallsyms`).
    Symbol,
    /// The version alone, which is wrong for a kernel with the feature as a backport.
    Version,
}

/// The function of vfio-pci that exports dma-bufs (drivers/vfio/pci/vfio_pci_dmabuf.c).
const EXPORT_SYMBOL: &str = "vfio_pci_core_feature_dma_buf";

impl Host {
    /// Whether vfio-pci can export dma-bufs in this kernel, and what shows it; `None` if nothing is known about the kernel.
    pub fn dma_buf_export(&self) -> Option<(bool, Evidence)> {
        if self.facts.dma_buf_export_symbol == Some(true) {
            return Some((true, Evidence::Symbol));
        }
        if let Some(built) = self.facts.option("VFIO_PCI_DMABUF") {
            return Some((built, Evidence::Configuration));
        }
        self.kernel.map(|kernel| (kernel >= KernelVersion::VFIO_DMA_BUF, Evidence::Version))
    }
}

/// Whether the running kernel has the symbol of the dma-buf export. `None` if the symbols are not readable, or if the symbol is
/// missing: vfio-pci may not be loaded.
pub(super) fn export_symbol() -> Option<bool> {
    contains(BufReader::new(std::fs::File::open("/proc/kallsyms").ok()?), EXPORT_SYMBOL).then_some(true)
}

/// Whether a list in the format of `/proc/kallsyms` contains a symbol. A line consists of address, type, symbol, and the module
/// if the symbol belongs to one.
fn contains(list: impl BufRead, symbol: &str) -> bool {
    // The lines are short; the limit guards against a file of another kind.
    const LIMIT_BYTES: u64 = 256 << 20;
    let lines = std::io::Read::take(list, LIMIT_BYTES).split(b'\n').map_while(Result::ok);
    lines.into_iter().any(|line| line.split(u8::is_ascii_whitespace).nth(2) == Some(symbol.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostFacts;

    fn host(kernel: &str, option: Option<&str>, symbol: Option<bool>) -> Host {
        let options = option.map(|value| ("VFIO_PCI_DMABUF".to_owned(), value.to_owned()));
        let facts = HostFacts {
            kernel_options: options.into_iter().collect(),
            dma_buf_export_symbol: symbol,
            ..HostFacts::default()
        };
        Host { kernel: KernelVersion::find(kernel), facts, ..Host::default() }
    }

    #[test]
    fn configuration_and_symbols_count_more_than_the_version() {
        let export = |kernel, option, symbol| host(kernel, option, symbol).dma_buf_export();
        assert_eq!(export("5.14.0-687.el9", Some("y"), None), Some((true, Evidence::Configuration)));
        assert_eq!(export("5.14.0-687.el9", None, Some(true)), Some((true, Evidence::Symbol)));
        assert_eq!(export("5.14.0-687.el9", None, None), Some((false, Evidence::Version)));
        assert_eq!(export("7.2.12", Some("n"), None), Some((false, Evidence::Configuration)));
        assert_eq!(export("7.2.12", None, None), Some((true, Evidence::Version)));
        assert_eq!(export("", None, None), None);
    }

    #[test]
    fn finds_a_symbol_by_its_whole_name() {
        let list = "0000000000000000 T a\n0000000000000000 t vfio_pci_core_feature_dma_buf\t[vfio_pci_core]\n";
        assert!(contains(list.as_bytes(), EXPORT_SYMBOL));
        assert!(!contains(list.replace("buf", "buffer").as_bytes(), EXPORT_SYMBOL));
        assert!(!contains(&b"\xff\xfe"[..], EXPORT_SYMBOL));
    }
}
