//! The BARs of a function, bound to whatever driver or none, and what keeps one from being exported.

use peerpath_paths::{Bar, BarKind, Bdf};

use crate::host_tree::{HostTree, read_trimmed};
use crate::{Error, page_bytes};

/// Why a BAR cannot be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotExportable {
    /// The function has no such BAR.
    #[error("there is no such BAR")]
    Absent,
    /// It is a window of ports.
    #[error("it is an I/O BAR")]
    Io,
    /// It is smaller than a page.
    #[error("it is smaller than a page")]
    SubPage,
    /// It has no address.
    #[error("no address is assigned to it")]
    Unassigned,
}

impl NotExportable {
    /// What rules a BAR out; `None` where it can be exported.
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

    /// One sentence of why that rules it out.
    pub fn why(self) -> &'static str {
        match self {
            Self::Absent => "The function does not implement this BAR, or a 64-bit BAR before it takes its place.",
            Self::Io => "Ports are no memory that another device could address.",
            Self::SubPage => "Dma-bufs consist of whole pages, and the rest of the page may belong to another device.",
            Self::Unassigned => "Neither the firmware nor the kernel found room for it in the address space.",
        }
    }
}

/// The BARs that a function has.
///
/// # Errors
/// No such function, or sysfs cannot be read.
pub fn bars(host: &HostTree, bdf: Bdf) -> Result<Vec<Bar>, Error> {
    host.require(bdf)?;
    Ok(Bar::parse_all(&read_trimmed(&host.function(bdf).join("resource"))?.unwrap_or_default()))
}

/// The BAR with that index, if it can be exported.
pub(super) fn exportable_bar(host: &HostTree, bdf: Bdf, index: u8) -> Result<Bar, Error> {
    let refused = |problem| Error::BadBar { bdf, bar: index, problem };
    let bar = bars(host, bdf)?.into_iter().find(|bar| bar.index == index);
    let bar = bar.ok_or_else(|| refused(NotExportable::Absent))?;
    NotExportable::find(&bar).map_or(Ok(bar), |problem| Err(refused(problem)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    const RESOURCE: &str = "\
0x00000000fe800000 0x00000000fe8000ff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000380000000000 0x0000380007ffffff 0x000000000014220c
0x0000000000000000 0x0000000000ffffff 0x0000000020040200
0x000000000000c000 0x000000000000c01f 0x0000000000040101
0x00000000fe900000 0x00000000fe903fff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
";

    #[test]
    fn says_which_can_be_exported_and_why_not() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:00:02.0").file("resource", RESOURCE).bdf();
        for (index, expected) in [
            (0, Some(NotExportable::SubPage)),
            (1, Some(NotExportable::Absent)),
            (2, None),
            (3, Some(NotExportable::Unassigned)),
            (4, Some(NotExportable::Io)),
            (5, None),
        ] {
            let found = match exportable_bar(&fixture.host(), bdf, index) {
                Ok(bar) => (bar.index == index).then_some(None).unwrap(),
                Err(Error::BadBar { problem, .. }) => Some(problem),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, expected, "BAR {index}");
        }
    }

    #[test]
    fn a_function_that_is_not_there_is_named() {
        let fixture = Fixture::new();
        let bdf = "0000:7f:00.0".parse().unwrap();
        assert!(matches!(bars(&fixture.host(), bdf), Err(Error::NoFunction { bdf: found }) if found == bdf));
    }
}
