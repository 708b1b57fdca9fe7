//! Writes a [`Machine`] as the files of a host: an archive in memory, in the format of a snapshot.

use std::fmt::Write as _;

use peerpath_paths::{Limits, Tree};

use crate::model::{Domain, Function, Kernel, Lost, Machine, Processor};

/// The files of a machine, without the facts that the tree lost.
pub(crate) fn tree(machine: &Machine) -> Tree {
    Tree::from_archive(&archive(machine)[..], &Limits::default()).expect("the archive is valid")
}

fn archive(machine: &Machine) -> Vec<u8> {
    let mut out = Archive { builder: tar::Builder::new(Vec::with_capacity(1 << 18)) };
    write_host(machine, &mut out);
    for index in machine.present() {
        write_function(machine, index, &mut out);
    }
    if !machine.is_lost(Lost::Groups) {
        out.directory("sys/kernel/iommu_groups");
        for (group, domain) in machine.groups.iter().enumerate() {
            write_group(machine, group, *domain, &mut out);
        }
    }
    out.builder.into_inner().expect("memory is writable")
}

fn write_host(machine: &Machine, out: &mut Archive) {
    if !machine.is_lost(Lost::CommandLine) {
        out.file("proc/cmdline", format!("{}\n", machine.command_line).as_bytes());
    }
    if !machine.is_lost(Lost::Processor) {
        out.file("proc/cpuinfo", cpuinfo(machine.processor).as_bytes());
    }
    if !machine.is_lost(Lost::Release) {
        let release = match machine.kernel {
            Kernel::V7_2 => "7.2.12-amd64\n",
            Kernel::V7_3 => "7.3.4-amd64\n",
        };
        out.file("proc/sys/kernel/osrelease", release.as_bytes());
    }
    if !machine.is_lost(Lost::ListOrder) {
        let present = machine.order.iter().filter(|index| !machine.functions[**index].removed);
        let lines: String = present.map(|index| line(machine, *index)).collect();
        out.file("proc/bus/pci/devices", lines.as_bytes());
    }
}

fn cpuinfo(processor: Processor) -> String {
    match processor {
        Processor::X86 { vendor, family } => (0..2)
            .map(|number| format!("processor\t: {number}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 1\nflags\t\t: fpu vme\n\n"))
            .collect(),
        Processor::Arm64 => "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\n\n".to_owned(),
    }
}

/// A line of `/proc/bus/pci/devices`, as `show_device()` prints it.
pub(crate) fn line(machine: &Machine, index: usize) -> String {
    let Function { bus, device, function, vendor, id, bar, driver, .. } = &machine.functions[index];
    let mut line = format!("{bus:02x}{:02x}\t{vendor:04x}{id:04x}\t0", device << 3 | function);
    for number in 0..7 {
        let start =
            bar.filter(|bar| bar.index == number).map_or(0, |bar| bar.start | u64::from(register_type(bar.wide)));
        let _ = write!(line, "\t{start:16x}");
    }
    for number in 0..7 {
        let size = bar.filter(|bar| bar.index == number).map_or(0, |bar| bar.size);
        let _ = write!(line, "\t{size:16x}");
    }
    format!("{line}\t{}\n", driver.unwrap_or_default())
}

/// The type bits of a memory BAR, prefetchable if 64 bits wide.
fn register_type(wide: bool) -> u8 {
    if wide { 0x0c } else { 0 }
}

fn write_group(machine: &Machine, group: usize, domain: Domain, out: &mut Archive) {
    let folder = format!("sys/kernel/iommu_groups/{group}");
    if !machine.is_lost(Lost::GroupType(group)) {
        let text = match domain {
            Domain::Dma => "DMA\n",
            Domain::DmaFq => "DMA-FQ\n",
            Domain::Identity => "identity\n",
        };
        out.file(&format!("{folder}/type"), text.as_bytes());
    }
    if let Processor::X86 { .. } = machine.processor {
        out.file(&format!("{folder}/reserved_regions"), b"0x00000000fee00000 0x00000000feefffff msi\n");
    }
    for index in machine.present().filter(|index| machine.functions[*index].group == Some(group)) {
        let member = format!("{folder}/devices/{}", machine.address(index));
        out.link(&member, &format!("../../../../../{}", path(machine, index)));
    }
}

fn path(machine: &Machine, index: usize) -> String {
    let function = &machine.functions[index];
    // A virtual function has the same parent directory as its physical function.
    let above = function.physical.map_or(function.above, |physical| machine.functions[physical].above);
    let parent = match above {
        Some(above) => path(machine, above),
        None => {
            let root = &machine.roots[function.root];
            let parent = match root.below {
                Some(below) => path(machine, below),
                None if root.folder.is_empty() => "sys/devices".to_owned(),
                None => format!("sys/devices/{}", root.folder),
            };
            format!("{parent}/pci{:04x}:{:02x}", root.segment, root.bus)
        }
    };
    format!("{parent}/{}", machine.address(index))
}

fn write_function(machine: &Machine, index: usize, out: &mut Archive) {
    let function = &machine.functions[index];
    let folder = path(machine, index);
    let up = "../".repeat(folder.split('/').count() - 1);
    let at = |name: &str| format!("{folder}/{name}");
    if !machine.is_lost(Lost::Config(index)) {
        out.file(&at("config"), &config(machine, index));
    }
    if !machine.is_lost(Lost::Ids(index)) {
        out.file(&at("vendor"), format!("{:#06x}\n", function.vendor).as_bytes());
        out.file(&at("device"), format!("{:#06x}\n", function.id).as_bytes());
    }
    if !machine.is_lost(Lost::Class(index)) {
        out.file(&at("class"), format!("{:#08x}\n", function.class).as_bytes());
    }
    if !machine.is_lost(Lost::Resource(index)) && !machine.is_lost(Lost::ResourceOfAll) {
        out.file(&at("resource"), resource(function).as_bytes());
    }
    if !machine.is_lost(Lost::Mask(index)) {
        out.file(&at("dma_mask_bits"), format!("{}\n", function.mask_bits).as_bytes());
    }
    out.file(&at("numa_node"), b"-1\n");
    if !machine.is_lost(Lost::Subsystems) && !machine.is_lost(Lost::Groups) {
        out.link(&at("subsystem"), &format!("{up}bus/pci"));
    }
    if let Some(driver) = function.driver {
        out.link(&at("driver"), &format!("{up}bus/pci/drivers/{driver}"));
    }
    if let (Some(physical), false) = (function.physical, machine.is_lost(Lost::PhysicalFunction(index))) {
        out.link(&at("physfn"), &format!("../{}", machine.address(physical)));
    }
    let virtual_functions = machine.present().filter(|other| machine.functions[*other].physical == Some(index));
    for (number, virtual_function) in virtual_functions.enumerate() {
        out.link(&at(&format!("virtfn{number}")), &format!("../{}", machine.address(virtual_function)));
    }
    if let (Some(group), false) =
        (function.group, machine.is_lost(Lost::GroupLink(index)) || machine.is_lost(Lost::Groups))
    {
        out.link(&at("iommu_group"), &format!("{up}kernel/iommu_groups/{group}"));
    }
    if !machine.is_lost(Lost::BusLinks) {
        out.link(&format!("sys/bus/pci/devices/{}", machine.address(index)), &format!("../../../../{folder}"));
    }
}

fn resource(function: &Function) -> String {
    let line = |number: u8| match function.bar {
        Some(bar) if bar.index == number => {
            let flags = if bar.wide { 0x14_220c } else { 0x4_0200 };
            format!("{:#018x} {:#018x} {flags:#018x}\n", bar.start, bar.end())
        }
        _ => format!("{0:#018x} {0:#018x} {0:#018x}\n", 0),
    };
    (0..7).map(line).collect()
}

/// Configuration space: header, PCI Express capability, extended capabilities.
fn config(machine: &Machine, index: usize) -> Vec<u8> {
    let function = &machine.functions[index];
    let mut bytes = vec![0; if function.extended { 4096 } else { 256 }];
    let ids = if function.physical.is_some() { (0xffff, 0xffff) } else { (function.vendor, function.id) };
    bytes[0..2].copy_from_slice(&ids.0.to_le_bytes());
    bytes[2..4].copy_from_slice(&ids.1.to_le_bytes());
    bytes[4] = 0x06;
    bytes[9..12].copy_from_slice(&function.class.to_le_bytes()[..3]);
    let of_one_device = |other: &usize| {
        let other = &machine.functions[*other];
        (other.root, other.bus, other.device) == (function.root, function.bus, function.device)
    };
    let shared = function.physical.is_none() && machine.present().filter(of_one_device).count() > 1;
    bytes[0x0e] = u8::from(function.bridge) | if shared { 0x80 } else { 0 };
    if function.bridge {
        let below = |other: &usize| *other != index && machine.is_at_or_below(*other, index);
        let buses =
            || machine.present().filter(below).filter(|other| machine.segment(*other) == machine.segment(index));
        let number = |other: usize| machine.functions[other].bus;
        bytes[0x18] = function.bus;
        bytes[0x19] = buses().map(number).min().unwrap_or(0);
        bytes[0x1a] = buses().map(number).max().unwrap_or(0);
    } else if let (Some(bar), None) = (function.bar, function.physical) {
        let address = bar.start.wrapping_sub(machine.roots[function.root].offset) | u64::from(register_type(bar.wide));
        let at = 0x10 + 4 * usize::from(bar.index);
        let width = if bar.wide { 8 } else { 4 };
        bytes[at..at + width].copy_from_slice(&address.to_le_bytes()[..width]);
    }
    if let Some(port_type) = function.port_type {
        // The status register announces the list, which starts at the pointer in byte 0x34.
        bytes[0x06] = 0x10;
        bytes[0x34] = 0x40;
        let mut at = 0x40;
        if function.shifted_capability {
            bytes[at..at + 2].copy_from_slice(&[0x01, 0x50]);
            at = 0x50;
        }
        bytes[at] = 0x10;
        bytes[at + 2..at + 4].copy_from_slice(&((port_type as u16) << 4 | 2).to_le_bytes());
    }
    if function.extended {
        write_extended_capabilities(function, &mut bytes);
    }
    let cut = machine.lost.iter().find_map(|fact| match fact {
        Lost::ConfigAfterHeaders { filled } => Some(*filled),
        Lost::ConfigAfterHeader(cut) if *cut == index => Some(false),
        _ => None,
    });
    match cut {
        Some(true) => bytes[64..].fill(0),
        Some(false) => bytes.truncate(64),
        None => {}
    }
    bytes
}

fn write_extended_capabilities(function: &Function, bytes: &mut [u8]) {
    const ACS: u16 = 0x000d;
    let all: Vec<u16> = function.before_acs.iter().copied().chain(function.acs.map(|_| ACS)).collect();
    for (number, id) in all.iter().enumerate() {
        let at = 0x100 + 0x48 * number;
        let next = if number + 1 < all.len() { at + 0x48 } else { 0 };
        let header = u32::from(*id) | 1 << 16 | (next as u32) << 20;
        bytes[at..at + 4].copy_from_slice(&header.to_le_bytes());
        if let (ACS, Some(control)) = (*id, function.acs) {
            bytes[at + 4..at + 6].copy_from_slice(&0x7f_u16.to_le_bytes());
            bytes[at + 6..at + 8].copy_from_slice(&control.to_le_bytes());
        }
    }
}

struct Archive {
    builder: tar::Builder<Vec<u8>>,
}

impl Archive {
    fn file(&mut self, path: &str, bytes: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        self.builder.append_data(&mut header, path, bytes).expect("memory is writable");
    }

    fn directory(&mut self, path: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        self.builder.append_data(&mut header, path, std::io::empty()).expect("memory is writable");
    }

    fn link(&mut self, path: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        self.builder.append_link(&mut header, path, target).expect("memory is writable");
    }
}
