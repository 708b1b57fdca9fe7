//! Facts about the host of a run, as recorded in the result.

use peerpath_paths::{Bdf, Cpu, Tree, public_command_line};

use crate::conditions;
use crate::result::Environment;

/// PCI IDs of functions that QEMU emulates and that also exist as hardware. In a QEMU guest they count as emulated, although
/// such an old card could be passed through: a wrong mark is less harmful than trust in emulated figures.
const EMULATED_CARDS: [(u16, u16); 6] =
    [(0x8086, 0x100e), (0x8086, 0x10d3), (0x8086, 0x10c9), (0x8086, 0x10ca), (0x10ec, 0x8139), (0x10ec, 0x8029)];
/// Vendor IDs of emulated functions: virtio, QEMU's own functions, and QEMU's test devices.
const EMULATED_VENDORS: [u16; 3] = [0x1af4, QEMU_VENDOR, 0x1234];
/// Vendor ID of QEMU's own functions, e.g. its root ports.
const QEMU_VENDOR: u16 = 0x1b36;
/// Sysfs folder of the PCI functions, relative to the root of the tree.
const FUNCTIONS: &str = "sys/bus/pci/devices";

/// Reads facts about a host from its sysfs and procfs tree.
#[derive(Debug)]
pub struct Host {
    tree: Tree,
}

impl Host {
    /// Creates a reader of the host that `tree` describes.
    pub fn new(tree: Tree) -> Self {
        Self { tree }
    }

    /// Host name; `None` if the kernel does not report it.
    pub fn name(&self) -> Option<String> {
        self.tree.text("proc/sys/kernel/hostname")
    }

    fn id(&self, bdf: &str, file: &str) -> Option<u16> {
        let text = self.tree.text(&format!("{FUNCTIONS}/{bdf}/{file}"))?;
        u16::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    }

    /// Collects the facts about the host, without devices.
    pub fn environment(&self) -> Environment {
        let tree = &self.tree;
        let cpu = Cpu::parse(&tree.text("proc/cpuinfo").unwrap_or_default());
        let mut environment = Environment {
            hostname: self.name(),
            kernel: tree.text("proc/sys/kernel/osrelease"),
            kernel_build: tree.text("proc/sys/kernel/version"),
            command_line: tree.text("proc/cmdline").map(|text| public_command_line(&text)),
            clock_source: Some(clock_source(&cpu).to_owned()),
            cpu_model: cpu.model_name,
            iommu: Some(self.iommu()),
            conditions: conditions::read(tree),
            emulator: self.in_qemu().then(|| "QEMU".to_owned()),
            ..Environment::default()
        };
        mark_stand_in(&mut environment);
        environment
    }

    /// Kind of IOMMU, derived from the names of its instances in sysfs.
    fn iommu(&self) -> String {
        let known = [("dmar", "intel"), ("ivhd", "amd"), ("smmu3", "smmu"), ("smmu", "smmu"), ("virtio", "virtio")];
        let kind = |name: &String| match known.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            Some((_, kind)) => kind,
            // A virtio-iommu instance is named after its PCI function (drivers/iommu/virtio-iommu.c).
            None if name.parse::<Bdf>().is_ok() => "virtio",
            None => "other",
        };
        let mut kinds: Vec<&str> = self.tree.names("sys/class/iommu").iter().map(kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.is_empty() { "none".to_owned() } else { kinds.join("+") }
    }

    /// Whether the host is a QEMU guest: its firmware reports QEMU, or a PCI function has QEMU's vendor ID.
    fn in_qemu(&self) -> bool {
        let is_qemu_firmware = self.tree.text("sys/class/dmi/id/sys_vendor").is_some_and(|vendor| vendor == "QEMU");
        is_qemu_firmware || self.tree.names(FUNCTIONS).iter().any(|bdf| self.id(bdf, "vendor") == Some(QEMU_VENDOR))
    }

    /// Whether a function is emulated.
    pub fn is_emulated(&self, bdf: Bdf) -> bool {
        let bdf = bdf.to_string();
        let id = |file: &str| self.id(&bdf, file);
        let vendor = id("vendor");
        vendor.is_some_and(|vendor| EMULATED_VENDORS.contains(&vendor))
            || id("subsystem_vendor") == Some(0x1af4)
            || self.in_qemu() && vendor.zip(id("device")).is_some_and(|card| EMULATED_CARDS.contains(&card))
    }
}

/// Marks the environment as emulated if a fake CUDA driver is loaded.
pub fn mark_stand_in(environment: &mut Environment) {
    if let Some(name) = peerpath_cuda::stand_in() {
        environment.emulated = true;
        environment.emulator = Some(name.to_owned());
    }
}

/// Name of the time stamp clock: the calibrated TSC if it is invariant (CPU flag `nonstop_tsc`), `CLOCK_MONOTONIC` otherwise.
fn clock_source(cpu: &Cpu) -> &'static str {
    if cpu.flags.iter().any(|flag| flag == "nonstop_tsc") { "tsc" } else { "clock_monotonic" }
}

/// The current time in UTC, RFC 3339 with a resolution of one second.
pub fn utc_now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::new(Tree::open(root.path()).unwrap());
        (root, host)
    }

    #[test]
    fn distinguishes_emulated_functions_from_passed_through_ones() {
        let devices = "sys/bus/pci/devices";
        let (_root, host) = host(&[
            (&format!("{devices}/0000:00:18.0/vendor"), "0x1b36\n"),
            (&format!("{devices}/0000:01:00.0/vendor"), "0x1af4\n"),
            (&format!("{devices}/0000:02:00.0/vendor"), "0x15b3\n"),
            (&format!("{devices}/0000:02:00.0/device"), "0x1021\n"),
            (&format!("{devices}/0000:03:00.0/vendor"), "0x8086\n"),
            (&format!("{devices}/0000:03:00.0/device"), "0x10d3\n"),
        ]);
        let emulated = |text: &str| host.is_emulated(text.parse().unwrap());
        assert!(emulated("0000:01:00.0"));
        assert!(!emulated("0000:02:00.0"));
        assert!(emulated("0000:03:00.0"));
        assert!(!emulated("0000:04:00.0"), "no such function");
    }

    #[test]
    fn records_only_public_kernel_parameters() {
        let (_root, host) = host(&[(
            "proc/cmdline",
            "BOOT_IMAGE=/vmlinuz root=UUID=12 iscsi_password=hunter2 ip=192.0.2.7 iommu=pt isolcpus=2 init=/x -- --listen 192.0.2.7\n",
        )]);
        assert_eq!(host.environment().command_line.as_deref(), Some("iommu=pt isolcpus=2"));
    }

    #[test]
    fn omits_facts_that_the_host_does_not_report() {
        let (_root, host) = host(&[("proc/cpuinfo", "processor : 0\nmodel name\t: EPYC\n")]);
        let environment = host.environment();
        assert_eq!(environment.cpu_model.as_deref(), Some("EPYC"));
        assert_eq!(environment.kernel, None);
        assert_eq!(environment.iommu.as_deref(), Some("none"));
    }
}
