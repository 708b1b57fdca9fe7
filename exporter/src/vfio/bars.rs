//! BARs of a PCI function, from sysfs, regardless of its driver.

use peerpath_paths::{Bar, BarIndex, BarKind, Bdf, GroupError, Tree};

use crate::{Error, page_bytes};

/// Reason why a BAR cannot be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotExportable {
    /// The function does not implement the BAR.
    #[error("the function has no such BAR")]
    Absent,
    /// The BAR decodes I/O ports.
    #[error("it is an I/O BAR")]
    Io,
    /// The BAR is smaller than a page.
    #[error("it is smaller than a page")]
    SubPage,
    /// No address is assigned to the BAR.
    #[error("no address is assigned to it")]
    Unassigned,
}

impl NotExportable {
    /// Returns the reason why a BAR cannot be exported. `None` if it can be exported.
    pub fn find(bar: &Bar) -> Option<Self> {
        if bar.kind == BarKind::Io {
            Some(Self::Io)
        } else if !bar.assigned {
            Some(Self::Unassigned)
        } else if bar.size_bytes < page_bytes() {
            Some(Self::SubPage)
        } else {
            None
        }
    }

    /// Explains the reason in a sentence.
    pub fn why(self) -> &'static str {
        match self {
            Self::Absent => "The function does not implement this BAR, or it is the upper half of a 64-bit BAR.",
            Self::Io => "The BAR contains I/O ports, and a dma-buf contains memory.",
            Self::SubPage => {
                "A dma-buf consists of whole pages, and the rest of the page may belong to another device."
            }
            Self::Unassigned => "The firmware and the kernel found no space for the BAR in the physical address space.",
        }
    }
}

/// Lists the implemented BARs of a function, from its `resource` file in sysfs.
///
/// # Errors
/// [`GroupError::NoFunction`] if the function does not exist.
pub fn bars(tree: &Tree, bdf: Bdf) -> Result<Vec<Bar>, Error> {
    if tree.has_function(bdf) { Ok(tree.bars(bdf)) } else { Err(GroupError::NoFunction { bdf }.into()) }
}

/// Returns the BAR with this index if it can be exported.
pub(super) fn exportable_bar(tree: &Tree, bdf: Bdf, index: BarIndex) -> Result<Bar, Error> {
    let refused = |problem| Error::BadBar { bdf, bar: index, problem };
    let bar = bars(tree, bdf)?.into_iter().find(|bar| bar.index == index.get());
    let bar = bar.ok_or_else(|| refused(NotExportable::Absent))?;
    NotExportable::find(&bar).map_or(Ok(bar), |problem| Err(refused(problem)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const RESOURCE: &str = "\
0x00000000fe800000 0x00000000fe8000ff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000380000000000 0x0000380007ffffff 0x000000000014220c
0x0000000000000000 0x0000000000ffffff 0x0000000020040200
0x000000000000c000 0x000000000000c01f 0x0000000000040101
0x00000000fe900000 0x00000000fe903fff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
";

    fn host(root: &Path) -> Tree {
        let function = root.join("sys/bus/pci/devices/0000:00:02.0");
        std::fs::create_dir_all(&function).unwrap();
        std::fs::write(function.join("resource"), RESOURCE).unwrap();
        Tree::open(root).unwrap()
    }

    #[test]
    fn finds_why_a_bar_cannot_be_exported() {
        let root = tempfile::tempdir().unwrap();
        let tree = host(root.path());
        let bdf = "0000:00:02.0".parse().unwrap();
        for (index, expected) in [
            (0, Some(NotExportable::SubPage)),
            (1, Some(NotExportable::Absent)),
            (2, None),
            (3, Some(NotExportable::Unassigned)),
            (4, Some(NotExportable::Io)),
            (5, None),
        ] {
            let index = BarIndex::new(index).unwrap();
            let found = match exportable_bar(&tree, bdf, index) {
                Ok(bar) => (bar.index == index.get()).then_some(None).unwrap(),
                Err(Error::BadBar { problem, .. }) => Some(problem),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, expected, "BAR {index}");
        }
    }

    #[test]
    fn reports_a_missing_function() {
        let root = tempfile::tempdir().unwrap();
        let bdf = "0000:7f:00.0".parse().unwrap();
        assert!(
            matches!(bars(&host(root.path()), bdf), Err(Error::Group(GroupError::NoFunction { bdf: found })) if found == bdf)
        );
    }
}
