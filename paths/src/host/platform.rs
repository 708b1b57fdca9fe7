//! The kind of machine: a guest of a hypervisor, a board, or a platform with its own rules. Advice depends on it: a card on a
//! board cannot move to another slot, and a guest cannot switch an IOMMU on in the firmware.

use super::{Architecture, Cpu};
use crate::topology::RootParent;
use crate::{Function, Host, Topology, Tree};

/// A kind of machine with its own rules. Ordinary servers and desktops have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Platform {
    /// The control domain of Xen. Xen itself drives the IOMMU.
    XenDom0,
    /// A guest of Xen.
    XenGuest,
    /// A guest of Hyper-V, e.g. in Azure.
    HyperV,
    /// A virtual machine of AWS (EC2).
    Aws,
    /// A virtual machine of Google Cloud.
    GoogleCloud,
    /// A guest of VMware.
    Vmware,
    /// A guest of QEMU, usually with KVM.
    Qemu,
    /// A guest of another hypervisor.
    VirtualMachine,
    /// A Raspberry Pi.
    RaspberryPi,
    /// An NVIDIA Jetson.
    Jetson,
    /// A computer with NVIDIA's GB10, such as DGX Spark.
    DgxSpark,
    /// A server with POWER processors, without a hypervisor.
    PowerNv,
    /// A logical partition or a guest on a POWER server.
    PowerGuest,
    /// A server with Huawei's Kunpeng processors.
    Kunpeng,
    /// Another board whose PCIe host bridge is described by a devicetree.
    Board,
}

/// Vendor IDs of the devices that identify a platform.
mod vendor {
    pub(super) const AMAZON: u16 = 0x1d0f;
    pub(super) const BROADCOM: u16 = 0x14e4;
    pub(super) const GOOGLE: u16 = 0x1ae0;
    pub(super) const HUAWEI: u16 = 0x19e5;
    pub(super) const MICROSOFT: u16 = 0x1414;
    pub(super) const NVIDIA: u16 = 0x10de;
    pub(super) const QEMU: u16 = 0x1b36;
    pub(super) const VIRTIO: u16 = 0x1af4;
    pub(super) const VMWARE: u16 = 0x15ad;
    pub(super) const XEN: u16 = 0x5853;
}

impl Platform {
    /// The platform of a host, from its files and its PCI functions; `None` for an ordinary server or desktop.
    pub fn of(host: &Host, topology: &Topology) -> Option<Self> {
        match host.platform {
            // The functions identify the provider of a virtual machine.
            None | Some(Self::VirtualMachine) => of_functions(host, topology).or(host.platform),
            known => known,
        }
    }

    /// Whether PCIe devices are on the board, or in its only socket, so that a card cannot move to another slot.
    pub fn is_soldered(self) -> bool {
        matches!(self, Self::RaspberryPi | Self::Jetson | Self::DgxSpark)
    }

    /// Whether the host is a guest: a hypervisor decides which functions and bridges exist.
    pub fn is_guest(self) -> bool {
        matches!(
            self,
            Self::XenGuest
                | Self::HyperV
                | Self::Aws
                | Self::GoogleCloud
                | Self::Vmware
                | Self::Qemu
                | Self::VirtualMachine
                | Self::PowerGuest
        )
    }

    /// Whether the owner of the guest chooses the bridges above its functions.
    pub fn has_configurable_bridges(self) -> bool {
        self == Self::Qemu
    }

    /// Why no IOMMU is visible on this platform, as a sentence, and what to do instead, as imperative sentences. `None` if the
    /// IOMMU is switched on as on any server.
    pub fn without_iommu(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::XenDom0 => (
                "Xen drives the IOMMU itself and shows dom0 no IOMMU group, so VFIO cannot work; intel_iommu=on and \
                 amd_iommu have no effect in dom0.",
                "Boot this kernel without Xen, or transfer through host memory.",
            ),
            Self::XenGuest => {
                ("A guest of Xen has no IOMMU.", "Use the physical host without Xen, or transfer through host memory.")
            }
            Self::HyperV => (
                "Hyper-V translates the DMA of PCI functions on the host, and gives a guest (also in Azure) no IOMMU for them.",
                "Use a physical host, or transfer through host memory. GPU memory needs no IOMMU if the GPU's own driver \
                 exports it (nvidia-peermem, or a dma-buf of the driver).",
            ),
            Self::Aws => (
                "A virtual machine of AWS has no IOMMU, and no setting adds one.",
                "Use an instance of a .metal type, or transfer through host memory.",
            ),
            Self::GoogleCloud => (
                "A virtual machine of Google Cloud has no IOMMU for its PCI functions.",
                "Use a physical host, or transfer through host memory. GPU memory needs no IOMMU if the GPU's own driver \
                 exports it (nvidia-peermem, or a dma-buf of the driver).",
            ),
            Self::Vmware => (
                "This guest of VMware has no virtual IOMMU.",
                "Expose the I/O MMU to the guest in the settings of its virtual CPU, if its passthrough devices permit that; \
                 otherwise use the physical host, or transfer through host memory.",
            ),
            Self::Qemu => (
                "This virtual machine has no virtual IOMMU.",
                "Add a virtual IOMMU to this virtual machine (QEMU: -device intel-iommu with intel_iommu=on in the guest, \
                 or -device virtio-iommu-pci), or use the physical host.",
            ),
            Self::VirtualMachine => (
                "This virtual machine has no virtual IOMMU.",
                "Add a virtual IOMMU to this virtual machine if its provider permits it. Otherwise use the physical host, \
                 or transfer through host memory.",
            ),
            Self::RaspberryPi => (
                "A Raspberry Pi has no IOMMU for PCIe, so no setting enables one.",
                "Export with VFIO on another computer. On this one, transfer through host memory.",
            ),
            Self::Jetson => (
                "On a Jetson only those PCIe controllers have an IOMMU that the devicetree maps to the SMMU (iommu-map).",
                "Use a devicetree with such a mapping, or transfer through host memory, which the integrated GPU shares.",
            ),
            Self::DgxSpark => (
                "On a computer with NVIDIA's GB10 the IOMMU needs the driver ARM_SMMU_V3.",
                "Boot a kernel with this driver, or transfer through host memory, which the GPU shares.",
            ),
            Self::PowerNv | Self::PowerGuest => (
                "The kernel shows no IOMMU group, although POWER always translates through TCE tables.",
                "Boot a kernel built with IOMMU_API and VFIO.",
            ),
            Self::Board => (
                "The kernel finds no IOMMU for PCIe on this board. If the board has none, no setting enables one.",
                "Check the devicetree for iommu-map at the PCIe controller. If it has none, use another computer to export \
                 with VFIO, or transfer through host memory.",
            ),
            Self::Kunpeng => return None,
        })
    }

    /// Whether the kernel of this platform has no IOMMU for PCI functions, whatever its settings are.
    pub fn never_has_iommu(self) -> bool {
        matches!(
            self,
            Self::XenDom0 | Self::XenGuest | Self::HyperV | Self::Aws | Self::GoogleCloud | Self::RaspberryPi
        )
    }

    /// What to do on this platform if the kernel refuses a pair and no card can move below a common switch, as imperative
    /// sentences; `None` if cards can move.
    pub fn instead_of_moving(self) -> Option<&'static str> {
        Some(match self {
            Self::RaspberryPi => {
                "Transfer through host memory: the devices are soldered or share one connector, so no slot is an alternative."
            }
            Self::Jetson => {
                "Transfer through host memory, which the integrated GPU shares without a copy: the connectors are fixed, so \
                 no slot is an alternative."
            }
            Self::DgxSpark => {
                "Transfer through host memory, which the GPU shares without a copy (cudaHostAlloc, then register it as \
                 ordinary memory): the devices are soldered, and NVIDIA supports no GPUDirect RDMA here."
            }
            Self::Aws => {
                "Transfer through host memory, or use an instance of a .metal type: AWS decides which bridges are above the \
                 functions."
            }
            Self::HyperV
            | Self::GoogleCloud
            | Self::XenGuest
            | Self::Vmware
            | Self::VirtualMachine
            | Self::PowerGuest => {
                "Transfer through host memory, or use a physical host: the hypervisor decides which bridges are above the \
                 functions."
            }
            Self::PowerNv => {
                "Transfer through host memory, or register memory of an NVIDIA GPU with nvidia-peermem, which needs no \
                 P2PDMA check: each slot of a POWER server has its own host bridge, and the kernel does not trust these \
                 host bridges."
            }
            Self::XenDom0 | Self::Qemu | Self::Kunpeng | Self::Board => return None,
        })
    }
}

/// The DMI fields that identify vendor and product, without serial numbers.
const DMI: [&str; 5] = ["sys_vendor", "product_name", "board_vendor", "board_name", "bios_vendor"];
const DMI_FOLDERS: [&str; 2] = ["sys/class/dmi/id", "sys/devices/virtual/dmi/id"];
const MODELS: [&str; 2] = ["proc/device-tree/model", "sys/firmware/devicetree/base/model"];
const XEN: [&str; 3] = ["sys/hypervisor/type", "proc/xen/capabilities", "sys/hypervisor/start_flags/initdomain"];

/// The files that identify a platform, for the snapshot.
pub(crate) fn files() -> impl Iterator<Item = String> {
    let dmi = DMI_FOLDERS.iter().take(1).flat_map(|folder| DMI.map(|field| format!("{folder}/{field}")));
    dmi.chain(MODELS.iter().take(1).chain(&XEN).map(|path| (*path).to_owned()))
}

/// The platform, as far as files other than those of the PCI functions identify it.
pub(super) fn of_files(tree: &Tree, cpu: Option<&Cpu>, release: Option<&str>) -> Option<Platform> {
    let dmi = |field: &str| DMI_FOLDERS.iter().find_map(|folder| tree.text(&format!("{folder}/{field}")));
    let fields: Vec<String> = DMI.iter().filter_map(|field| dmi(field)).collect();
    let names = |words: &[&str]| fields.iter().any(|field| words.iter().any(|word| field.contains(word)));
    let release = release.unwrap_or_default();
    let in_release = |words: &[&str]| words.iter().any(|word| release.contains(word));
    let is_guest = cpu.is_some_and(Cpu::is_guest);

    if let Some(xen) = xen(tree, dmi("sys_vendor").as_deref(), release) {
        return Some(xen);
    }
    let product = dmi("product_name").unwrap_or_default();
    if names(&["Amazon EC2"]) {
        return (!product.contains("metal")).then_some(Platform::Aws);
    }
    if names(&["Microsoft Corporation"]) && product == "Virtual Machine" {
        return Some(Platform::HyperV);
    }
    if names(&["VMware"]) {
        return Some(Platform::Vmware);
    }
    if names(&["Google Compute Engine"]) || (is_guest && names(&["Google"])) {
        return Some(Platform::GoogleCloud);
    }
    if names(&["QEMU"]) || (product == "KVM" && names(&["Red Hat"])) {
        return Some(Platform::Qemu);
    }
    let virtual_machines =
        ["innotek", "VirtualBox", "Alibaba Cloud", "Tencent Cloud", "OpenStack", "DigitalOcean", "BHYVE", "Parallels"];
    if is_guest || names(&virtual_machines) {
        return Some(Platform::VirtualMachine);
    }
    let model = MODELS.iter().find_map(|path| tree.text(path)).unwrap_or_default();
    let board = |words: &[&str]| words.iter().any(|word| model.contains(word) || cpu_model(cpu).contains(word));
    if board(&["Raspberry Pi"]) || in_release(&["+rpt-rpi", "-rpi"]) {
        return Some(Platform::RaspberryPi);
    }
    if board(&["Jetson", "Tegra"]) || in_release(&["-tegra"]) {
        return Some(Platform::Jetson);
    }
    if names(&["DGX_Spark", "DGX Spark", "GB10"]) {
        return Some(Platform::DgxSpark);
    }
    match cpu?.architecture {
        Some(Architecture::Power { is_guest: false }) => Some(Platform::PowerNv),
        Some(Architecture::Power { is_guest: true }) => Some(Platform::PowerGuest),
        _ => None,
    }
}

fn cpu_model(cpu: Option<&Cpu>) -> &str {
    cpu.and_then(|cpu| cpu.machine.as_deref()).unwrap_or_default()
}

fn xen(tree: &Tree, vendor: Option<&str>, release: &str) -> Option<Platform> {
    // The DMI vendor of a guest with firmware is Xen. dom0 sees the vendor of the computer; a paravirtualized guest sees none.
    if vendor == Some("Xen") {
        return Some(Platform::XenGuest);
    }
    let [kind, capabilities, initial] = XEN.map(|path| tree.text(path));
    let is_xen = kind.as_deref() == Some("xen");
    if capabilities.as_ref().is_some_and(|text| text.contains("control_d")) || initial.as_deref() == Some("1") {
        return Some(Platform::XenDom0);
    }
    match (capabilities, vendor) {
        (Some(_), None) => Some(Platform::XenGuest),
        (_, Some(_)) if is_xen => Some(Platform::XenDom0),
        (None, _) if is_xen || ["qubes", "xen0"].iter().any(|word| release.contains(word)) => Some(Platform::XenDom0),
        _ => None,
    }
}

/// The platform that the PCI functions identify.
fn of_functions(host: &Host, topology: &Topology) -> Option<Platform> {
    let functions = topology.functions();
    let any = |wanted: &dyn Fn(&Function) -> bool| functions.iter().any(wanted);
    let from = |vendor: u16| any(&|function| function.vendor == Some(vendor));
    let cpu = host.cpu.as_ref();
    let is_guest = cpu.is_some_and(Cpu::is_guest);
    let is_x86 = cpu.and_then(|cpu| cpu.architecture) == Some(Architecture::X86);
    let may_be_guest = is_guest || !is_x86;
    let parents = |wanted: RootParent| topology.roots().iter().any(|root| root.parent == wanted);
    // Hyper-V gives each function a segment of its own, without a bridge. The segments of VMD exceed 16 bits.
    let own_segments = || {
        let passed = |function: &Function| (1..0x1_0000).contains(&function.bdf.segment());
        is_x86 && any(&passed) && !any(&|function| passed(function) && function.is_bridge())
    };

    let hides = host.command_line.as_ref().is_some_and(|line| line.values("xen_pciback.hide").next().is_some());
    if hides || any(&|function| matches!(function.driver.as_deref(), Some("pciback" | "xen-pciback"))) {
        return Some(Platform::XenDom0);
    }
    if from(vendor::XEN) {
        return Some(Platform::XenGuest);
    }
    if parents(RootParent::HyperV) || (is_guest && (from(vendor::MICROSOFT) || own_segments())) {
        return Some(Platform::HyperV);
    }
    if may_be_guest && from(vendor::AMAZON) {
        return Some(Platform::Aws);
    }
    if is_guest && from(vendor::VMWARE) {
        return Some(Platform::Vmware);
    }
    if is_guest && from(vendor::GOOGLE) {
        return Some(Platform::GoogleCloud);
    }
    let generic_bridge = |function: &Function| (function.vendor, function.device) == (Some(vendor::QEMU), Some(0x0008));
    if any(&generic_bridge) || (is_guest && (from(vendor::QEMU) || from(vendor::VIRTIO))) {
        return Some(Platform::Qemu);
    }
    if is_guest {
        return Some(Platform::VirtualMachine);
    }
    let root_device = |function: &Function, vendor: u16, devices: &[u16]| {
        function.vendor == Some(vendor)
            && function.device.is_some_and(|device| devices.contains(&device))
            && topology.bridges_above(function.bdf).is_empty()
    };
    let boards: [(Platform, u16, &[u16]); 4] = [
        (Platform::RaspberryPi, vendor::BROADCOM, &[0x2711, 0x2712]),
        (
            Platform::Jetson,
            vendor::NVIDIA,
            &[0x0fae, 0x0faf, 0x10e5, 0x10e6, 0x1ad0, 0x1ad1, 0x1ad2, 0x229a, 0x229c, 0x229e],
        ),
        (Platform::DgxSpark, vendor::NVIDIA, &[0x22ce, 0x22d0, 0x22d1]),
        (Platform::Kunpeng, vendor::HUAWEI, &[0xa120]),
    ];
    if let Some((platform, ..)) =
        boards.iter().find(|(_, vendor, devices)| any(&|function| root_device(function, *vendor, devices)))
    {
        return Some(*platform);
    }
    (parents(RootParent::Platform) && !is_x86).then_some(Platform::Board)
}
