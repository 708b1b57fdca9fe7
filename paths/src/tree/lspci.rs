//! Converts the output of `lspci` to the files of a host, so that the readers of sysfs return the same facts as for a snapshot.
//!
//! The lspci output shows only a part of what sysfs contains. Everything else stays unknown: the file is not written, or the byte
//! of config space is marked as unknown. The formats are those of pciutils (`lspci.c`, `ls-caps.c`, `ls-ecaps.c`, `ls-tree.c`).

mod block;
mod bytes;
mod capabilities;
mod files;
mod header;
mod hierarchy;
mod layout;
mod lines;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use crate::Bdf;
use block::Block;
use bytes::KnownBytes;
pub(super) use files::write;
use header::Header;
use layout::{Item, Layout};
pub(super) use lines::decode;

/// Maximum number of functions; a function needs up to 8 KiB of memory.
const FUNCTION_LIMIT: usize = 8192;

/// Why several lspci outputs do not describe one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotOneHost {
    /// They list more functions than a host has.
    TooManyFunctions,
    /// They show two functions at this address.
    Conflict(Bdf),
}

impl NotOneHost {
    pub(super) const FUNCTION_LIMIT: usize = FUNCTION_LIMIT;
}

/// The facts about a function in the lspci output. `None` means unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shown {
    vendor: Option<u16>,
    device: Option<u16>,
    /// Vendor and device ID, if the lspci output shows them as numbers.
    numbers: Option<(u16, u16)>,
    /// Base class and subclass.
    class: Option<u16>,
    programming_interface: Option<u8>,
    /// Whether the name is that of a virtual function, whose registers for memory decoding and BARs have no meaning.
    is_virtual: bool,
    /// The bound driver; `Some(None)` if none is bound.
    driver: Option<Option<String>>,
    /// The IOMMU group; `Some(None)` if the function has none.
    group: Option<Option<u32>>,
    numa_node: Option<u32>,
    /// The text of the file `resource`.
    resource: Option<String>,
    config: KnownBytes,
    /// Whether the lspci output contains every byte of config space that the kernel reads.
    whole_dump: bool,
}

impl Shown {
    fn add(&mut self, header: &Header) {
        self.vendor = self.vendor.or(header.vendor);
        self.device = self.device.or(header.device);
        self.numbers = self.numbers.or(header.numbers);
        self.class = self.class.or(header.class);
        self.programming_interface = self.programming_interface.or(header.programming_interface);
        self.is_virtual |= header.is_virtual;
        self.group = self.group.or(header.group.map(Some));
    }

    /// Whether this and the other function have different identities. Between two lspci outputs of one host a register can
    /// differ, but not the identity of a function.
    fn is_another_than(&self, other: &Self) -> bool {
        let of_numbers = matches!((self.numbers, other.numbers), (Some(one), Some(other)) if one != other);
        let of_class = matches!((self.class, other.class), (Some(one), Some(other)) if one != other);
        of_class || of_numbers
    }

    /// Adds the facts of another lspci output. A register with different values in the two outputs is unknown; for all other
    /// facts the later output takes precedence.
    fn merge(&mut self, later: Self) {
        let Self { vendor, device, class, programming_interface, .. } = later;
        self.vendor = vendor.or(self.vendor);
        self.device = device.or(self.device);
        self.numbers = later.numbers.or(self.numbers);
        self.class = class.or(self.class);
        self.programming_interface = programming_interface.or(self.programming_interface);
        self.is_virtual |= later.is_virtual;
        self.driver = later.driver.or(self.driver.take());
        self.group = later.group.or(self.group);
        self.numa_node = later.numa_node.or(self.numa_node);
        self.resource = later.resource.or(self.resource.take());
        self.config.merge(&later.config);
        self.whole_dump |= later.whole_dump;
    }
}

/// The facts about a host in one or several lspci outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    functions: BTreeMap<Bdf, Shown>,
    /// Root buses that a tree view names, as segment and bus.
    roots: BTreeSet<(u32, u8)>,
    /// Kernel release, from the output of `uname`.
    release: Option<String>,
    command_line: Option<String>,
    /// Lines about the processor.
    processor: String,
    /// Whether the lspci output shows the width of bridge windows, as lspci 3.8 and newer prints it.
    shows_widths: bool,
}

impl Listing {
    pub(super) fn read(text: &str) -> Result<Self, NotOneHost> {
        let mut reader = Reader::default();
        for line in lines::of(text) {
            reader.line(line)?;
        }
        reader.end_block(false)?;
        let mut listing = reader.listing;
        listing.settle();
        Ok(listing)
    }

    /// Adds another lspci output of the same host.
    pub(super) fn merge(&mut self, later: Self) -> Result<(), NotOneHost> {
        for (bdf, shown) in later.functions {
            self.join(bdf, shown)?;
        }
        self.roots.extend(later.roots);
        self.release = later.release.or(self.release.take());
        self.command_line = later.command_line.or(self.command_line.take());
        self.processor += &later.processor;
        Ok(())
    }

    /// Whether the lspci output lists functions.
    pub(super) fn has_functions(&self) -> bool {
        !self.functions.is_empty()
    }

    /// Whether the lspci outputs show a bridge with its buses or a register: a list of names shows neither.
    pub(super) fn has_relations(&self) -> bool {
        !self.roots.is_empty() || self.functions.values().any(|shown| !shown.config.is_empty())
    }

    fn function(&mut self, bdf: Bdf) -> Result<&mut Shown, NotOneHost> {
        if self.functions.len() >= FUNCTION_LIMIT && !self.functions.contains_key(&bdf) {
            return Err(NotOneHost::TooManyFunctions);
        }
        Ok(self.functions.entry(bdf).or_default())
    }

    /// Adds the facts about a function from another lspci output, or from another part of the same one.
    fn join(&mut self, bdf: Bdf, later: Shown) -> Result<(), NotOneHost> {
        let shown = self.function(bdf)?;
        if shown.is_another_than(&later) {
            return Err(NotOneHost::Conflict(bdf));
        }
        shown.merge(later);
        Ok(())
    }

    /// Derives the facts that depend on the whole lspci output.
    fn settle(&mut self) {
        // The output for a dump of config space (`lspci -F`) shows no driver.
        let shows_drivers = self.functions.values().any(|shown| matches!(shown.driver, Some(Some(_))));
        // lspci prints IOMMU groups since 3.7. If it prints them, a function without such a line has no group.
        let prints_groups = self.functions.values().any(|shown| matches!(shown.group, Some(Some(_))))
            || (self.shows_widths && shows_drivers);
        for shown in self.functions.values_mut() {
            shown.driver = shown.driver.take().filter(|_| shows_drivers);
            shown.group = shown.group.filter(|_| prints_groups);
        }
        // `-xxx` ends each dump after 256 bytes, `-xxxx` only if the kernel reads no more.
        if self.functions.values().any(|shown| shown.config.dumps_extended_space()) {
            for shown in self.functions.values_mut() {
                shown.whole_dump = shown.config.dumps_conventional_space();
            }
        }
    }
}

/// Reads an lspci output line by line.
#[derive(Default)]
struct Reader<'a> {
    listing: Listing,
    block: Option<(Bdf, Block<'a>)>,
    layout: Layout,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) -> Result<(), NotOneHost> {
        if let Some(header) = Header::parse(line) {
            self.end_block(true)?;
            self.block = Some((header.bdf, Block::new(header)));
            return Ok(());
        }
        let items = self.layout.line(line);
        if !items.is_empty() {
            self.end_block(true)?;
            return items.into_iter().try_for_each(|item| self.item(item));
        }
        self.fact(line);
        if let Some((_, block)) = &mut self.block {
            block.line(line);
        }
        Ok(())
    }

    /// Ends the block of lines about a function. `followed` is whether another block follows, so that this one is complete.
    fn end_block(&mut self, followed: bool) -> Result<(), NotOneHost> {
        let Some((bdf, block)) = self.block.take() else { return Ok(()) };
        self.listing.join(bdf, block.end(followed))
    }

    fn item(&mut self, item: Item<'_>) -> Result<(), NotOneHost> {
        match item {
            Item::Root(segment, bus) => {
                self.listing.roots.insert((segment, bus));
            }
            Item::Function(bdf, name) => {
                let shown = self.listing.function(bdf)?;
                if let Some(header) = name.map(|name| Header::named(bdf, name)) {
                    shown.add(&header);
                }
            }
            Item::Bridge(bdf, buses) => self.listing.function(bdf)?.config.set_bridge(1, buses),
        }
        Ok(())
    }

    /// Reads a line that users paste together with the lspci output: the kernel command line, `uname -a`, and lines of
    /// `/proc/cpuinfo` or `lscpu`.
    fn fact(&mut self, line: &str) {
        const PROCESSOR_LIMIT_BYTES: usize = 4096;
        let listing = &mut self.listing;
        if line.contains(" behind bridge: ") {
            listing.shows_widths |= line.ends_with("-bit]");
        } else if line.starts_with("BOOT_IMAGE=") {
            listing.command_line = Some(line.to_owned());
        } else if let Some(release) = line.strip_prefix("Linux ").and_then(release) {
            listing.release = Some(release.to_owned());
        } else if super::given::is_about_the_processor(line) && listing.processor.len() < PROCESSOR_LIMIT_BYTES {
            listing.processor.extend(line.chars().take(256).chain(['\n']));
        }
    }
}

/// The kernel release in `uname -a` (after the host name) or in `/proc/version` (after the word `version`).
fn release(text: &str) -> Option<&str> {
    let release = text.split_whitespace().nth(1)?;
    let numbers = release.split(['.', '-']).take(2).filter(|number| number.parse::<u16>().is_ok()).count();
    (numbers == 2 && release.len() < 100).then_some(release)
}

#[cfg(test)]
mod tests;
