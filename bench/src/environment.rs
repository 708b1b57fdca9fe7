//! The conditions of a run: without them its numbers say nothing.

use std::fs;
use std::path::{Path, PathBuf};

use peerpath_paths::Bdf;

use crate::result::Environment;

/// PCI IDs of functions that QEMU emulates and that also exist as hardware. Inside a QEMU guest they count as emulated,
/// also where such an old card might be passed through: figures wrongly marked do less harm than figures wrongly trusted.
const EMULATED_CARDS: [(u16, u16); 6] =
    [(0x8086, 0x100e), (0x8086, 0x10d3), (0x8086, 0x10c9), (0x8086, 0x10ca), (0x10ec, 0x8139), (0x10ec, 0x8029)];
/// Vendors whose functions exist in emulators only: Red Hat's virtio and QEMU's own, and the IDs of QEMU's test devices.
const EMULATED_VENDORS: [u16; 3] = [0x1af4, QEMU_VENDOR, 0x1234];
/// The vendor ID of QEMU's own functions, its root ports and its host bridge's companions among them.
const QEMU_VENDOR: u16 = 0x1b36;

/// Reads what the host says of itself.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// A host whose file system begins at `root` (`/` for this one).
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn text(&self, path: &str) -> Option<String> {
        // The kernel ends some of these with a newline, some with a NUL.
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        let text = text.trim_end_matches(['\n', '\0', ' ']);
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn hex(&self, path: &str) -> Option<u16> {
        u16::from_str_radix(self.text(path)?.trim_start_matches("0x"), 16).ok()
    }

    /// The facts about the host; devices are added by the run.
    pub fn environment(&self) -> Environment {
        let cpu_info = self.text("proc/cpuinfo").unwrap_or_default();
        Environment {
            hostname: self.text("proc/sys/kernel/hostname"),
            kernel: self.text("proc/sys/kernel/osrelease"),
            kernel_build: self.text("proc/sys/kernel/version"),
            command_line: self.text("proc/cmdline").map(|text| without_places(&text)),
            cpu_model: cpu_info
                .lines()
                .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
                .map(|(_, model)| model.trim().to_owned()),
            iommu: Some(self.iommu()),
            emulator: self.in_qemu().then(|| "QEMU".to_owned()),
            clock_source: Some(clock_source(&cpu_info).to_owned()),
            ..Environment::default()
        }
    }

    /// The kind of IOMMU, from the names that its drivers give their instances.
    fn iommu(&self) -> String {
        let names = fs::read_dir(self.root.join("sys/class/iommu")).into_iter().flatten().flatten();
        let mut kinds: Vec<&str> = names
            .filter_map(|entry| {
                let name = entry.file_name();
                let name = name.to_str()?;
                let known =
                    [("dmar", "intel"), ("ivhd", "amd"), ("smmu3", "smmu"), ("smmu", "smmu"), ("virtio", "virtio")];
                Some(known.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or("other", |(_, kind)| kind))
            })
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.is_empty() { "none".to_owned() } else { kinds.join("+") }
    }

    /// Whether this is a machine of QEMU's: its firmware says so, or one of the functions is of a kind that only QEMU has.
    fn in_qemu(&self) -> bool {
        let devices = "sys/bus/pci/devices";
        let functions = fs::read_dir(self.root.join(devices)).into_iter().flatten().flatten();
        let mut names = functions.filter_map(|entry| entry.file_name().into_string().ok());
        self.text("sys/class/dmi/id/sys_vendor").is_some_and(|vendor| vendor == "QEMU")
            || names.any(|name| self.hex(&format!("{devices}/{name}/vendor")) == Some(QEMU_VENDOR))
    }

    /// Whether a function is emulated.
    pub fn is_emulated(&self, bdf: Bdf) -> bool {
        let folder = Path::new("sys/bus/pci/devices").join(bdf.to_string());
        let id = |file: &str| self.hex(&folder.join(file).to_string_lossy());
        let vendor = id("vendor");
        vendor.is_some_and(|vendor| EMULATED_VENDORS.contains(&vendor))
            || id("subsystem_vendor") == Some(0x1af4)
            || self.in_qemu() && vendor.zip(id("device")).is_some_and(|card| EMULATED_CARDS.contains(&card))
    }
}

/// Parameters of the command line that name disks, files or hosts of the network, by the start of their names. They change
/// no figure, and results are handed around.
const PLACES: [&str; 11] =
    ["BOOT_IMAGE", "cryptdevice", "init", "ip=", "netconsole", "nfs", "ostree", "rd.", "resume", "root", "virtme"];

fn without_places(command_line: &str) -> String {
    let told = |word: &&str| !PLACES.iter().any(|start| word.starts_with(start));
    command_line.split_whitespace().filter(told).collect::<Vec<_>>().join(" ")
}

/// What the time stamps are taken from: the TSC, calibrated, where it runs at one speed always, else the kernel's clock.
fn clock_source(cpu_info: &str) -> &'static str {
    let flags =
        cpu_info.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':')).map_or("", |(_, flags)| flags);
    if flags.split_whitespace().any(|flag| flag == "nonstop_tsc") { "tsc" } else { "clock_monotonic" }
}

/// UTC now, RFC 3339 to the second.
pub fn utc_now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::new(root.path());
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
        let text =
            "BOOT_IMAGE=/vmlinuz root=UUID=12 rootflags=x ip=192.0.2.7 virtme.exec=`Zm9v` iommu=pt isolcpus=2 init=/x";
        assert_eq!(without_places(text), "iommu=pt isolcpus=2");
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
