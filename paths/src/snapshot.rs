//! Writes a snapshot, which contains only the files that predictions and checks read.
//!
//! A snapshot omits identifying data: serial numbers of functions and processors, network addresses (RDMA GUIDs), secrets of the
//! kernel command line, and the kernel's memory layout. Files with such content are filtered by a list of permitted lines.

use std::collections::BTreeSet;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::host::{cpu, guest_marks, platform_files};
use crate::{ConfigSpace, FACTS_PATH, HostFacts, Tree, devices, inbound, public_command_line};

/// Files of a function. `config` and links are handled separately.
const FUNCTION_FILES: &[&str] = &[
    "vendor",
    "device",
    "subsystem_vendor",
    "subsystem_device",
    "class",
    "revision",
    "resource",
    "dma_mask_bits",
    "consistent_dma_mask_bits",
    "numa_node",
    "enable",
    "d3cold_allowed",
    "power_state",
    "current_link_speed",
    "current_link_width",
    "max_link_speed",
    "max_link_width",
    "secondary_bus_number",
    "subordinate_bus_number",
    "sriov_numvfs",
    "sriov_totalvfs",
    "reset_method",
    "tsm/bound",
    "tsm/connect",
    "tsm/dsm",
    "tsm/lock",
];

const FUNCTION_LINKS: &[&str] = &["driver", "iommu_group", "iommu", "physfn", "subsystem"];
/// Files of a port of an RDMA device. GIDs and GUIDs are network addresses, but the names of interfaces are not.
const PORT_FILES: &[&str] = &["gid_attrs/ndevs/0", "link_layer", "rate", "state"];
const GROUP_FILES: &[&str] = &["type", "name", "reserved_regions"];

/// Module parameters that affect the kernel's decisions.
const PARAMETERS: &[&str] = &[
    "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
    "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
    "sys/module/vfio_iommu_type1/parameters/dma_entry_limit",
    "sys/module/iommufd/parameters/allow_unsafe_interrupts",
    "sys/module/vfio_pci/parameters/disable_idle_d3",
    "sys/module/udmabuf/parameters/size_limit_mb",
    "sys/module/dma_buf_mapping/parameters/iova_multirange",
];

/// Modules whose presence `doctor` checks.
const MODULES: &[&str] = &[
    "ib_core",
    "ib_uverbs",
    "iommufd",
    "irdma",
    "mlx5_core",
    "mlx5_ib",
    "nvidia",
    "nvidia_peermem",
    "rdma_rxe",
    "siw",
    "udmabuf",
    "vfio",
    "vfio_iommu_type1",
    "vfio_pci",
];

/// Keys of `/proc/cpuinfo` that a snapshot keeps in addition to the keys that [`Cpu::parse`](crate::Cpu::parse) reads.
const CPU_KEYS: &[&str] =
    &["processor", "model", "stepping", "address sizes", "CPU architecture", "CPU part", "Features"];

/// Size limit of a text file of sysfs.
const TEXT_LIMIT_BYTES: usize = 64 << 10;

/// Writes a snapshot of a host as a compressed tar archive. Unreadable files are omitted.
///
/// # Errors
/// Writing to `into` fails.
pub fn write_snapshot<W: Write>(tree: &Tree, facts: &HostFacts, into: W) -> io::Result<W> {
    let mut writer = Writer { tree, tar: tar::Builder::new(GzEncoder::new(into, Compression::default())) };
    writer.functions()?;
    writer.groups()?;
    writer.classes()?;
    writer.modules()?;
    writer.processes()?;
    let json = serde_json::to_vec_pretty(facts).map_err(io::Error::other)?;
    writer.file(FACTS_PATH, &json)?;
    writer.tar.into_inner()?.finish()
}

struct Writer<'a, W: Write> {
    tree: &'a Tree,
    tar: tar::Builder<W>,
}

impl<W: Write> Writer<'_, W> {
    fn functions(&mut self) -> io::Result<()> {
        const LINKS: &str = "sys/bus/pci/devices";
        let mut host_devices = BTreeSet::new();
        for name in self.tree.names(LINKS) {
            let Some(path) = self.tree.resolve(&format!("{LINKS}/{name}")) else { continue };
            self.link(&format!("{LINKS}/{name}"))?;
            host_devices.extend(path.rsplit_once("/pci").map(|(device, _)| device.to_owned()));
            let config = ConfigSpace::new(self.tree.read(&format!("{path}/config")).unwrap_or_default());
            self.file(&format!("{path}/config"), &config.without_serials())?;
            for file in FUNCTION_FILES {
                self.text(&format!("{path}/{file}"))?;
            }
            for link in FUNCTION_LINKS {
                self.link(&format!("{path}/{link}"))?;
            }
        }
        for device in host_devices {
            self.link(&format!("{device}/of_node"))?;
            for node in inbound::nodes(self.tree, &device) {
                self.directory(&node)?;
                for path in inbound::PROPERTIES.map(|name| format!("{node}/{name}")) {
                    if let Some(bytes) = self.tree.read(&path).filter(|bytes| bytes.len() <= TEXT_LIMIT_BYTES) {
                        self.file(&path, &bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn groups(&mut self) -> io::Result<()> {
        const GROUPS: &str = "sys/kernel/iommu_groups";
        if self.tree.is_directory(GROUPS) {
            self.directory(GROUPS)?;
        }
        for group in self.tree.names(GROUPS) {
            for file in GROUP_FILES {
                self.text(&format!("{GROUPS}/{group}/{file}"))?;
            }
            let devices = format!("{GROUPS}/{group}/devices");
            for device in self.tree.names(&devices) {
                self.link(&format!("{devices}/{device}"))?;
            }
        }
        Ok(())
    }

    fn classes(&mut self) -> io::Result<()> {
        for (class, _) in devices::CLASSES {
            for name in self.tree.names(&format!("sys/class/{class}")) {
                let path = format!("sys/class/{class}/{name}");
                // Skip virtual network interfaces: they describe the network, not the PCI topology.
                if class == "net" && self.tree.link(&path).is_none_or(|target| target.contains("/virtual/")) {
                    continue;
                }
                self.link(&path)?;
                let Some(device) = self.tree.resolve(&path) else { continue };
                if class == "net" {
                    self.text(&format!("{device}/mtu"))?;
                }
                if class != "infiniband" {
                    continue;
                }
                for file in [devices::PARENTS[0], "node_type"] {
                    self.text(&format!("{device}/{file}"))?;
                }
                for port in self.tree.names(&format!("{device}/ports")) {
                    for file in PORT_FILES {
                        self.text(&format!("{device}/ports/{port}/{file}"))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn modules(&mut self) -> io::Result<()> {
        for path in PARAMETERS {
            self.text(path)?;
        }
        for module in MODULES {
            if self.tree.is_directory(&format!("sys/module/{module}")) {
                self.directory(&format!("sys/module/{module}"))?;
            }
        }
        for mark in guest_marks().filter(|mark| self.tree.has(mark)) {
            self.file(mark, b"")?;
        }
        Ok(())
    }

    fn processes(&mut self) -> io::Result<()> {
        self.text("proc/sys/kernel/osrelease")?;
        self.text("proc/bus/pci/devices")?;
        for path in platform_files() {
            self.text(&path)?;
        }
        self.rewritten("proc/driver/nvidia/version", |text| lines(text, |line| line.starts_with("NVRM")))?;
        self.rewritten("proc/version", |text| text.split(' ').take(3).collect::<Vec<_>>().join(" "))?;
        self.rewritten("proc/cmdline", public_command_line)?;
        self.rewritten("proc/cpuinfo", cpuinfo)?;
        self.rewritten("proc/iomem", |text| lines(text, |line| line.contains("PCI") || line.contains("dmar")))
    }

    fn text(&mut self, path: &str) -> io::Result<()> {
        match self.tree.text(path) {
            Some(text) if text.len() <= TEXT_LIMIT_BYTES || path == "proc/bus/pci/devices" => {
                self.file(path, format!("{text}\n").as_bytes())
            }
            _ => Ok(()),
        }
    }

    fn rewritten(&mut self, path: &str, rewrite: impl FnOnce(&str) -> String) -> io::Result<()> {
        match self.tree.text(path) {
            Some(text) => self.file(path, format!("{}\n", rewrite(&text)).as_bytes()),
            None => Ok(()),
        }
    }

    fn header(kind: tar::EntryType, size_bytes: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_size(size_bytes);
        header
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = Self::header(tar::EntryType::Regular, bytes.len() as u64);
        self.tar.append_data(&mut header, path, bytes)
    }

    fn directory(&mut self, path: &str) -> io::Result<()> {
        self.tar.append_data(&mut Self::header(tar::EntryType::Directory, 0), path, io::empty())
    }

    fn link(&mut self, path: &str) -> io::Result<()> {
        match self.tree.link(path) {
            Some(target) => self.tar.append_link(&mut Self::header(tar::EntryType::Symlink, 0), path, target),
            None => Ok(()),
        }
    }
}

fn lines(text: &str, keep: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| keep(line)).collect::<Vec<_>>().join("\n")
}

/// Keeps the lines of the first processor, and the lines at the end that describe the whole machine.
fn cpuinfo(text: &str) -> String {
    let mut seen = Vec::new();
    let mut kept = Vec::new();
    for line in text.lines() {
        let key = line.split(':').next().unwrap_or_default().trim();
        if (cpu::KEYS.contains(&key) || CPU_KEYS.contains(&key)) && !seen.contains(&key) {
            seen.push(key);
            kept.push(line);
        }
    }
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;

    #[test]
    fn keeps_one_processor_without_serial_number() {
        let text = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmicrocode\t: 0x1\n\nprocessor\t: 1\nvendor_id\t: AuthenticAMD\n\nSerial\t: 00001\nplatform\t: pSeries\n";
        assert_eq!(cpuinfo(text), "processor\t: 0\nvendor_id\t: AuthenticAMD\nplatform\t: pSeries");
    }

    #[test]
    fn a_snapshot_keeps_what_the_reader_of_the_processor_uses() {
        for text in ["hart\t: 0\nisa\t: rv64imafdc\n", "Hardware\t: Board 3\n", "cpu\t: Alpha\n"] {
            assert_eq!(Cpu::parse(&cpuinfo(text)), Cpu::parse(text));
            assert_ne!(Cpu::parse(text), Cpu::default());
        }
    }
}
