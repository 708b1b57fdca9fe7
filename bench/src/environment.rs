//! The conditions of a run: without them its numbers say nothing.

use peerpath_paths::{Bdf, Cpu, Tree};

use crate::result::Environment;

/// PCI IDs of functions that QEMU emulates and that also exist as hardware. Inside a QEMU guest they count as emulated,
/// also where such an old card might be passed through: figures wrongly marked do less harm than figures wrongly trusted.
const EMULATED_CARDS: [(u16, u16); 6] =
    [(0x8086, 0x100e), (0x8086, 0x10d3), (0x8086, 0x10c9), (0x8086, 0x10ca), (0x10ec, 0x8139), (0x10ec, 0x8029)];
/// Vendors whose functions exist in emulators only: Red Hat's virtio and QEMU's own, and the IDs of QEMU's test devices.
const EMULATED_VENDORS: [u16; 3] = [0x1af4, QEMU_VENDOR, 0x1234];
/// The vendor ID of QEMU's own functions, its root ports and its host bridge's companions among them.
const QEMU_VENDOR: u16 = 0x1b36;
/// Where sysfs has the functions.
const FUNCTIONS: &str = "sys/bus/pci/devices";

/// Reads what a host says of itself.
#[derive(Debug)]
pub struct Host {
    tree: Tree,
}

impl Host {
    /// The host behind a tree.
    pub fn new(tree: Tree) -> Self {
        Self { tree }
    }

    /// Its name.
    pub fn name(&self) -> Option<String> {
        self.tree.text("proc/sys/kernel/hostname")
    }

    fn id(&self, bdf: &str, file: &str) -> Option<u16> {
        let text = self.tree.text(&format!("{FUNCTIONS}/{bdf}/{file}"))?;
        u16::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    }

    /// The facts about the host; devices are added by the run.
    pub fn environment(&self) -> Environment {
        let tree = &self.tree;
        let cpu = Cpu::parse(&tree.text("proc/cpuinfo").unwrap_or_default());
        let mut environment = Environment {
            hostname: self.name(),
            kernel: tree.text("proc/sys/kernel/osrelease"),
            kernel_build: tree.text("proc/sys/kernel/version"),
            command_line: tree.text("proc/cmdline").map(|text| without_places(&text)),
            clock_source: Some(clock_source(&cpu).to_owned()),
            cpu_model: cpu.model_name,
            iommu: Some(self.iommu()),
            emulator: self.in_qemu().then(|| "QEMU".to_owned()),
            ..Environment::default()
        };
        mark_stand_in(&mut environment);
        environment
    }

    /// The kind of IOMMU, from the names that its drivers give their instances.
    fn iommu(&self) -> String {
        let known = [("dmar", "intel"), ("ivhd", "amd"), ("smmu3", "smmu"), ("smmu", "smmu"), ("virtio", "virtio")];
        let kind = |name: &String| match known.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            Some((_, kind)) => kind,
            // virtio-iommu's is named by the PCI function that it is (drivers/iommu/virtio-iommu.c).
            None if name.parse::<Bdf>().is_ok() => "virtio",
            None => "other",
        };
        let mut kinds: Vec<&str> = self.tree.names("sys/class/iommu").iter().map(kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.is_empty() { "none".to_owned() } else { kinds.join("+") }
    }

    /// Whether this is a machine of QEMU's: its firmware says so, or one of the functions is of a kind that only QEMU has.
    fn in_qemu(&self) -> bool {
        let says_so = self.tree.text("sys/class/dmi/id/sys_vendor").is_some_and(|vendor| vendor == "QEMU");
        says_so || self.tree.names(FUNCTIONS).iter().any(|bdf| self.id(bdf, "vendor") == Some(QEMU_VENDOR))
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

/// What was done with a library that only stands in for a GPU's driver was done by no GPU.
pub fn mark_stand_in(environment: &mut Environment) {
    if let Some(name) = peerpath_cuda::stand_in() {
        environment.emulated = true;
        environment.emulator = Some(name.to_owned());
    }
}

/// Parameters of the command line that name disks, files or hosts of the network. They change no figure, and results are
/// handed around.
const PLACES: [&str; 13] = [
    "BOOT_IMAGE",
    "cryptdevice",
    "init",
    "initrd",
    "ip",
    "netconsole",
    "nfsroot",
    "nfsaddrs",
    "ostree",
    "rdinit",
    "resume",
    "root",
    "rootflags",
];
/// Families of such parameters: of dracut, and of virtme-ng.
const FAMILIES_OF_PLACES: [&str; 2] = ["rd.", "virtme"];

fn without_places(command_line: &str) -> String {
    let told = |word: &&str| {
        let name = word.split('=').next().unwrap_or_default();
        !PLACES.contains(&name) && !FAMILIES_OF_PLACES.iter().any(|family| name.starts_with(family))
    };
    // Behind the lone dashes stand the arguments of init, which can be anything.
    command_line.split_whitespace().take_while(|word| *word != "--").filter(told).collect::<Vec<_>>().join(" ")
}

/// What the time stamps are taken from: the TSC, calibrated, where it runs at one speed always, else the kernel's clock.
fn clock_source(cpu: &Cpu) -> &'static str {
    if cpu.flags.iter().any(|flag| flag == "nonstop_tsc") { "tsc" } else { "clock_monotonic" }
}

/// UTC now, RFC 3339 to the second.
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
    fn a_virtual_card_is_emulated_and_a_real_one_in_a_guest_is_not() {
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
        assert!(!emulated("0000:04:00.0"), "a function that is not there");
    }

    #[test]
    fn the_command_line_keeps_what_changes_figures() {
        let text = "BOOT_IMAGE=/vmlinuz root=UUID=12 rootflags=x ip=192.0.2.7 virtme.exec=`Zm9v` iommu=pt isolcpus=2 init_on_alloc=1 init=/x -- --listen 192.0.2.7";
        assert_eq!(without_places(text), "iommu=pt isolcpus=2 init_on_alloc=1");
    }

    #[test]
    fn what_a_host_does_not_say_is_absent() {
        let (_root, host) = host(&[("proc/cpuinfo", "processor : 0\nmodel name\t: EPYC\n")]);
        let environment = host.environment();
        assert_eq!(environment.cpu_model.as_deref(), Some("EPYC"));
        assert_eq!(environment.kernel, None);
        assert_eq!(environment.iommu.as_deref(), Some("none"));
    }
}
