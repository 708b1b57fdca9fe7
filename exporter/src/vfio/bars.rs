//! The BARs of a function as sysfs shows them, bound to whatever driver or none.

use std::fmt;

use peerpath_paths::Bdf;

use crate::host_tree::{HostTree, read_trimmed};
use crate::{Error, page_bytes};

/// What kind of accesses a BAR answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BarKind {
    /// Port accesses.
    Io,
    /// Memory accesses below 4 GiB.
    Memory32,
    /// Memory accesses anywhere.
    Memory64,
}

impl fmt::Display for BarKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Io => "io",
            Self::Memory32 => "memory-32",
            Self::Memory64 => "memory-64",
        })
    }
}

/// A BAR of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bar {
    /// 0 to 5; a 64-bit BAR takes the next index as well.
    pub index: u8,
    /// Its address as the processor sees it; zero when the firmware and the kernel gave it none, or hid it.
    pub address: u64,
    /// Its size.
    pub size_bytes: u64,
    /// What it answers.
    pub kind: BarKind,
    /// Reads have no side effects, so bridges may read ahead.
    pub prefetchable: bool,
    /// It has an address.
    pub assigned: bool,
}

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
    /// It has no whole number of pages.
    #[error("its size is no multiple of the page size")]
    OddSize,
    /// It has no address.
    #[error("no address is assigned to it")]
    Unassigned,
}

impl NotExportable {
    /// One sentence of why that rules it out.
    pub fn why(self) -> &'static str {
        match self {
            Self::Absent => "The function does not implement this BAR, or a 64-bit BAR before it takes its place.",
            Self::Io => "Ports are no memory that another device could address.",
            Self::SubPage | Self::OddSize => {
                "Dma-bufs consist of whole pages, and the rest of the page may belong to another device."
            }
            Self::Unassigned => "Neither the firmware nor the kernel found room for it in the address space.",
        }
    }
}

impl Bar {
    /// Why it cannot be exported; `None` where it can.
    pub fn not_exportable(&self) -> Option<NotExportable> {
        let page_bytes = page_bytes();
        if self.kind == BarKind::Io {
            Some(NotExportable::Io)
        } else if !self.assigned {
            Some(NotExportable::Unassigned)
        } else if self.size_bytes < page_bytes {
            Some(NotExportable::SubPage)
        } else if !self.size_bytes.is_multiple_of(page_bytes) {
            Some(NotExportable::OddSize)
        } else {
            None
        }
    }

    /// Kind and attributes in one word for listings: `memory-64-prefetchable`.
    pub fn kind_word(&self) -> String {
        format!("{}{}", self.kind, if self.prefetchable { "-prefetchable" } else { "" })
    }
}

/// The BARs that a function has.
///
/// # Errors
/// No such function, or sysfs cannot be read.
pub fn bars(host: &HostTree, bdf: Bdf) -> Result<Vec<Bar>, Error> {
    host.require(bdf)?;
    let text = read_trimmed(&host.function(bdf).join("resource"))?.unwrap_or_default();
    Ok(text.lines().take(6).zip(0..).filter_map(|(line, index)| parse_line(line, index)).collect())
}

/// The BAR with that index.
pub(crate) fn bar(host: &HostTree, bdf: Bdf, index: u8) -> Result<Bar, Error> {
    let absent = Error::BadBar { bdf, bar: index, problem: NotExportable::Absent };
    bars(host, bdf)?.into_iter().find(|bar| bar.index == index).ok_or(absent)
}

/// One line of `resource`: first address, last address, flags (include/linux/ioport.h).
fn parse_line(line: &str, index: u8) -> Option<Bar> {
    const IO: u64 = 0x100;
    const MEMORY: u64 = 0x200;
    const PREFETCHABLE: u64 = 0x2000;
    const MEMORY_64: u64 = 0x10_0000;
    const UNSET: u64 = 0x2000_0000;
    let mut numbers = line.split_whitespace().map(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    let (start, end, flags) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let kind = match flags {
        flags if flags & IO != 0 => BarKind::Io,
        flags if flags & MEMORY == 0 => return None,
        flags if flags & MEMORY_64 != 0 => BarKind::Memory64,
        _ => BarKind::Memory32,
    };
    let size_bytes = end.checked_sub(start)?.checked_add(1)?;
    Some(Bar {
        index,
        address: start,
        size_bytes,
        kind,
        prefetchable: flags & PREFETCHABLE != 0,
        assigned: flags & UNSET == 0,
    })
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
    fn reads_kinds_sizes_and_what_can_be_exported() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:00:02.0").file("resource", RESOURCE).bdf();
        let found = bars(&fixture.host(), bdf).unwrap();
        let summary: Vec<_> = found
            .iter()
            .map(|bar| (bar.index, bar.size_bytes, bar.kind_word(), bar.not_exportable().is_none()))
            .collect();
        assert_eq!(
            summary,
            [
                (0, 0x100, "memory-32".to_owned(), false),
                (2, 128 << 20, "memory-64-prefetchable".to_owned(), true),
                (3, 16 << 20, "memory-32".to_owned(), false),
                (4, 0x20, "io".to_owned(), false),
                (5, 0x4000, "memory-32".to_owned(), true),
            ]
        );
        assert!(matches!(
            bar(&fixture.host(), bdf, 1),
            Err(Error::BadBar { problem: NotExportable::Absent, bar: 1, .. })
        ));
    }

    #[test]
    fn a_function_that_is_not_there_is_named() {
        let fixture = Fixture::new();
        let bdf = "0000:7f:00.0".parse().unwrap();
        assert!(matches!(bars(&fixture.host(), bdf), Err(Error::NoFunction { bdf: found }) if found == bdf));
    }

    #[test]
    fn nonsense_lines_are_no_bars() {
        for line in ["", "0x0", "0x10 0x0 0x200", "x y z", "0x0 0xffffffffffffffff 0x200", "0x0 0xfff 0x0"] {
            assert_eq!(parse_line(line, 0), None, "{line:?}");
        }
    }
}
