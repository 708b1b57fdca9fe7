//! The meaning of each errno at each step. A row with a condition precedes the row for the same errno without one.

use nix::errno::Errno;

use super::errno::ENOTSUPP;
use super::{DmaBufSupport, Facts, MemoryKind, Route, Step};
use crate::Cause;
use crate::Explanation;
use crate::Severity::{self, Failed, Unavailable};

/// The meaning of one errno at one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) step: Step,
    /// Errno of Linux, a positive number.
    pub(super) errno: i32,
    /// Whether this meaning applies, given the facts.
    pub(super) when: fn(&Facts) -> bool,
    pub(super) severity: Severity,
    pub(super) cause: Option<Cause>,
    pub(super) why: &'static str,
    pub(super) remedy: &'static str,
}

/// The meaning of one errno at every step that has no row of its own for this errno.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub(super) errno: i32,
    /// Steps at which the severity is [`Unavailable`] although [`if_undocumented`] returns [`Failed`].
    unavailable_at: &'static [Step],
    pub(super) cause: Option<Cause>,
    pub(super) why: &'static str,
    pub(super) remedy: &'static str,
}

impl Common {
    pub(super) fn severity(&self, step: Step) -> Severity {
        if self.unavailable_at.contains(&step) { Unavailable } else { if_undocumented(step) }
    }

    /// The explanation without a severity, which depends on the step.
    pub(super) fn explanation(&self) -> Explanation {
        Explanation { cause: self.cause, severity: None, why: self.why.into(), remedy: self.remedy.into() }
    }
}

/// The severity of an errno without a documented meaning. At some steps a failure usually means that the host does not support
/// the operation ([`Unavailable`]). At the other steps it is a failure of the run ([`Failed`]).
pub(super) fn if_undocumented(step: Step) -> Severity {
    match step {
        Step::BindDriver
        | Step::OpenIommu
        | Step::OpenVfio
        | Step::AttachIommu
        | Step::RegionAccess
        | Step::CreateDmaBuf
        | Step::AllocateMemory
        | Step::OpenRdma => Unavailable,
        Step::SetDomainType
        | Step::OpenDevice
        | Step::ResetDevice
        | Step::Export
        | Step::RegisterDmaBuf
        | Step::RegisterMemory
        | Step::RegisterUmem
        | Step::Deregister
        | Step::CreateQueues
        | Step::ConnectQueues
        | Step::PostTransfers
        | Step::MapFile
        | Step::MapMemory
        | Step::Unmap => Failed,
    }
}

const fn row(
    step: Step,
    errno: Errno,
    severity: Severity,
    cause: Cause,
    why: &'static str,
    remedy: &'static str,
) -> Row {
    Row { step, errno: errno as i32, when: |_| true, severity, cause: Some(cause), why, remedy }
}

/// Creates a row for a failure that has no `Cause`.
const fn uncaused(step: Step, errno: Errno, severity: Severity, why: &'static str, remedy: &'static str) -> Row {
    Row { step, errno: errno as i32, when: |_| true, severity, cause: None, why, remedy }
}

impl Row {
    pub(super) fn explanation(&self) -> Explanation {
        Explanation {
            cause: self.cause,
            severity: Some(self.severity),
            why: self.why.into(),
            remedy: self.remedy.into(),
        }
    }

    /// Sets an errno that the C library does not know.
    const fn numbered(self, errno: i32) -> Self {
        Self { errno, ..self }
    }

    const fn when(self, when: fn(&Facts) -> bool) -> Self {
        Self { when, ..self }
    }
}

/// Whether these facts permit an untranslated mapping. The boot option swiotlb, the DMA mask and confidential guests affect
/// untranslated mappings only: a translated domain allocates its IOVA below the mask and bounces nothing.
fn direct(facts: &Facts) -> bool {
    facts.translated != Some(true)
}

/// First sentence of the explanation of every errno at the export of memory of a GPU.
pub(super) const GPU_EXPORT: &str = "The cause is not documented: the GPU's driver exports its memory, without VFIO.";
/// The conditions that NVIDIA documents for the export of GPU memory.
pub(super) const GPU_EXPORT_CONDITIONS: &str = "cuMemGetHandleForAddressRange requires a GPU with the attribute \
     CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, and an address and a size that are multiples of the page size of the host.";
pub(super) const CHECK_GPU_EXPORT: &str =
    "Check these conditions, and the kernel log (dmesg) for a line of the GPU's driver.";

pub(super) static ROWS: &[Row] = &[
    // binding a driver (driver core, vfio_pci_core_register_device)
    row(
        Step::BindDriver,
        Errno::EINVAL,
        Unavailable,
        Cause::NoIommu,
        "vfio-pci rejects a function without an IOMMU group, a bridge, and a function whose IOMMU cannot \
         enforce cache coherency.",
        "If the function has no IOMMU group, enable the IOMMU in the firmware and boot with intel_iommu=on (AMD: on by \
         default). If the function is a bridge, choose an endpoint.",
    ),
    row(
        Step::BindDriver,
        Errno::ENODEV,
        Unavailable,
        Cause::DriverNotVfio,
        "The driver core finds no match: the driver is not loaded, does not support the device, or \
         driver_override names another driver.",
        "Load the driver (`modprobe vfio-pci`) and bind again.",
    ),
    row(
        Step::BindDriver,
        Errno::ENOENT,
        Unavailable,
        Cause::DriverNotVfio,
        "/sys/bus/pci has no such driver or function: the module is not loaded, or the function was removed.",
        "Load the driver (`modprobe vfio-pci`) and bind again.",
    ),
    row(
        Step::BindDriver,
        Errno::EBUSY,
        Unavailable,
        Cause::InUse,
        "The function is already bound, another process owns its group through VFIO, or it is a physical \
         function with enabled virtual functions, which vfio-pci rejects.",
        "End the process that has the group open (`fuser -v /dev/vfio/*`), or write 0 to the function's sriov_numvfs.",
    ),
    // the domain type of a group (drivers/iommu/iommu.c, iommu_group_store_type)
    row(
        Step::SetDomainType,
        Errno::EBUSY,
        Unavailable,
        Cause::InUse,
        "The IOMMU core changes the domain type of a group only while no function of the group has a driver.",
        "Unbind every function of the group.",
    ),
    row(
        Step::SetDomainType,
        Errno::EPERM,
        Unavailable,
        Cause::InUse,
        "The IOMMU core changes the domain type of a group only while no function of the group has a kernel \
         driver or is open through VFIO.",
        "Unbind every function of the group, and end the process that has it open (`fuser -v /dev/vfio/*`).",
    ),
    uncaused(
        Step::SetDomainType,
        Errno::EINVAL,
        Failed,
        "The IOMMU driver does not support this domain type for the group: some devices require identity or DMA.",
        "Choose another importer, or set the default domain type at boot: iommu=pt for identity, \
         iommu.passthrough=0 for DMA.",
    ),
    // the VFIO container and iommufd (drivers/vfio/container.c, drivers/iommu/iommufd/main.c)
    row(
        Step::OpenIommu,
        Errno::ENOENT,
        Unavailable,
        Cause::KernelTooOld,
        "The device node does not exist: the module (vfio or iommufd) is not loaded, or the kernel is built \
         without it.",
        "Load it with `modprobe vfio-pci` or `modprobe iommufd`, or use the other VFIO interface.",
    ),
    row(
        Step::OpenIommu,
        Errno::ENODEV,
        Unavailable,
        Cause::KernelTooOld,
        "The device node has no driver: the module (vfio or iommufd) is not loaded.",
        "Load it with `modprobe vfio-pci` or `modprobe iommufd`, or use the other VFIO interface.",
    ),
    // the group and the cdev (drivers/vfio/group.c, device_cdev.c)
    row(
        Step::OpenVfio,
        Errno::ENOENT,
        Unavailable,
        Cause::DriverNotVfio,
        "The function has no node in /dev/vfio: no function of its group is bound to a VFIO driver, or the \
         kernel lacks VFIO_GROUP or VFIO_DEVICE_CDEV.",
        "Bind the function to vfio-pci.",
    ),
    row(
        Step::OpenVfio,
        Errno::EBUSY,
        Unavailable,
        Cause::InUse,
        "VFIO allows one open file per group, and rejects the open while a device of the group is open through its cdev.",
        "End the process that has the group or device open (`fuser -v /dev/vfio/*`).",
    ),
    row(
        Step::OpenVfio,
        Errno::EPERM,
        Unavailable,
        Cause::Noiommu,
        "VFIO opens a no-IOMMU group only for CAP_SYS_RAWIO.",
        "Use a host with an IOMMU: in a no-IOMMU group nothing limits the DMA of the function.",
    ),
    row(
        Step::OpenVfio,
        Errno::ENODEV,
        Unavailable,
        Cause::DriverNotVfio,
        "The function was unbound from its VFIO driver during the open.",
        "Bind the function to vfio-pci again.",
    ),
    // ownership of the group (vfio_iommu_type1.c, iommufd/device.c, iommu_group_claim_dma_owner)
    row(
        Step::AttachIommu,
        Errno::EBUSY,
        Unavailable,
        Cause::GroupNotViable,
        "The IOMMU core does not let user space own the group while another function of it has a driver that does \
         DMA, or while another process owns it.",
        "Unbind the other functions of the group, or move the card to a slot with a group of its own.",
    ),
    row(
        Step::AttachIommu,
        Errno::EPERM,
        Unavailable,
        Cause::Noiommu,
        "VFIO attaches a no-IOMMU group only for CAP_SYS_RAWIO, and never in one container with a group that has an IOMMU.",
        "Use a host with an IOMMU: in a no-IOMMU group nothing limits the DMA of the function.",
    )
    .when(|facts| facts.noiommu == Some(true)),
    row(
        Step::AttachIommu,
        Errno::EPERM,
        Unavailable,
        Cause::NoPermission,
        "type1 and iommufd reject a group whose interrupts the IOMMU does not isolate.",
        "Enable interrupt remapping (intremap=on), or load vfio_iommu_type1 or iommufd with \
         allow_unsafe_interrupts=1.",
    ),
    row(
        Step::AttachIommu,
        Errno::ENODEV,
        Unavailable,
        Cause::NoIommu,
        "The group has no IOMMU backend: vfio_iommu_type1 is not loaded, or the group has no IOMMU.",
        "Load it with `modprobe vfio_iommu_type1`, and enable the IOMMU.",
    ),
    row(
        Step::AttachIommu,
        Errno::EINVAL,
        Unavailable,
        Cause::InUse,
        "The group already belongs to a container or an iommufd, or its IOMMU driver does not support user space.",
        "End the process that has the group open (`fuser -v /dev/vfio/*`).",
    ),
    uncaused(
        Step::AttachIommu,
        Errno::EADDRINUSE,
        Unavailable,
        "The IOAS maps addresses that the device's IOMMU reserves, for example its MSI window.",
        "Attach the device before the first mapping.",
    ),
    row(
        Step::OpenDevice,
        Errno::ENODEV,
        Unavailable,
        Cause::DriverNotVfio,
        "The group has no VFIO device with this name: the function is not bound to a VFIO driver.",
        "Bind the function to vfio-pci.",
    ),
    row(
        Step::OpenDevice,
        Errno::EINVAL,
        Unavailable,
        Cause::NoIommu,
        "VFIO opens a device only after its group has joined a container with an IOMMU.",
        "Enable the IOMMU and bind the function again.",
    ),
    row(
        Step::OpenDevice,
        Errno::EBUSY,
        Unavailable,
        Cause::InUse,
        "Another process has the device open, or owns its IOMMU domain.",
        "End the process that has it open (`fuser -v /dev/vfio/*`).",
    ),
    uncaused(
        Step::OpenDevice,
        Errno::EIO,
        Failed,
        "The function did not respond while vfio-pci enabled it: it was removed, or is stuck in a low-power state.",
        "Check the kernel log (dmesg), and reset or power-cycle the slot.",
    ),
    // reset and regions (drivers/vfio/pci/vfio_pci_core.c)
    uncaused(
        Step::ResetDevice,
        Errno::EINVAL,
        Failed,
        "vfio-pci cannot reset this function without resetting others.",
        "Use a function that supports FLR, or that is alone on its bus.",
    ),
    uncaused(
        Step::ResetDevice,
        Errno::ENOTTY,
        Failed,
        "The function does not support FLR, and a reset of its bus would also reset other functions.",
        "Use a function that supports FLR, or that is alone on its bus.",
    ),
    row(
        Step::ResetDevice,
        Errno::EAGAIN,
        Unavailable,
        Cause::InUse,
        "Another process has locked the function or its bus.",
        "Try again.",
    ),
    row(
        Step::RegionAccess,
        Errno::EINVAL,
        Unavailable,
        Cause::BarNotExportable,
        "vfio-pci rejects the range: the region does not exist or cannot be mapped, or the range exceeds it.",
        "Choose a BAR that can be exported.",
    ),
    row(
        Step::RegionAccess,
        Errno::EIO,
        Unavailable,
        Cause::MemoryDecodeOff,
        "The function does not respond to memory accesses: its memory-decode bit is off, or it is in a \
         low-power state.",
        "Set the memory-decode bit in its PCI command register.",
    ),
    // the export of memory of a GPU (CUDA Driver API, cuMemGetHandleForAddressRange; NVIDIA's GPUDirect RDMA documentation)
    uncaused(
        Step::Export,
        Errno::EINVAL,
        Failed,
        "The cause is not documented: the GPU's driver exports its memory, without VFIO. cuMemGetHandleForAddressRange requires an \
         allocation of cuMemAlloc, or a range of cuMemAddressReserve that cuMemMap has mapped completely, and an address and a size \
         that are multiples of the page size of the host.",
        CHECK_GPU_EXPORT,
    )
    .when(Facts::is_gpu),
    uncaused(
        Step::Export,
        Errno::EOPNOTSUPP,
        Failed,
        "The cause is not documented: the GPU's driver exports its memory, without VFIO. CUDA exports dma-bufs only if the GPU has \
         the attribute CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, which needs NVIDIA's open kernel modules.",
        "Query the attribute. If it is 0, install the open kernel modules (Turing and newer), or use the GPU's memory through \
         nvidia-peermem.",
    )
    .when(Facts::is_gpu),
    // the export (drivers/vfio/pci/vfio_pci_dmabuf.c)
    row(
        Step::Export,
        Errno::EOPNOTSUPP,
        Unavailable,
        Cause::DriverNotVfio,
        "The VFIO driver of the function cannot export dma-bufs: only vfio-pci and nvgrace-gpu can.",
        "Bind the function to vfio-pci.",
    )
    .when(Facts::possibly_vfio),
    row(
        Step::Export,
        Errno::ENOTTY,
        Unavailable,
        Cause::KernelTooOld,
        "vfio-pci does not support the dma-buf feature: it needs Linux 6.19 and VFIO_PCI_DMABUF.",
        "Boot Linux 6.19 or newer, built with VFIO_PCI_DMABUF (PCI_P2PDMA and DMA_SHARED_BUFFER).",
    )
    .when(Facts::possibly_vfio),
    row(
        Step::Export,
        Errno::EINVAL,
        Unavailable,
        Cause::BarNotExportable,
        "vfio-pci exports whole pages of a memory BAR: the BAR is smaller than a page or an I/O BAR, or a \
         range is empty, unaligned or exceeds the BAR.",
        "Choose page-aligned ranges within a memory BAR.",
    )
    .when(Facts::possibly_vfio),
    row(
        Step::Export,
        Errno::ENODEV,
        Unavailable,
        Cause::BarNotExportable,
        "The function has no memory BAR with this index that vfio-pci could claim. vfio-pci exports only BARs 0 to 5, \
         not the ROM or config space.",
        "Choose a BAR that can be exported.",
    )
    .when(Facts::possibly_vfio),
    row(
        Step::Export,
        Errno::EOVERFLOW,
        Unavailable,
        Cause::BarNotExportable,
        "The address of the range exceeds the address space.",
        "Choose a range within the BAR.",
    )
    .when(Facts::possibly_vfio),
    row(
        Step::Export,
        Errno::EPERM,
        Unavailable,
        Cause::Noiommu,
        "The device is open without an IOMMU.",
        "Use a host with an IOMMU.",
    )
    .when(|facts| facts.possibly_vfio() && facts.noiommu == Some(true)),
    // ordinary memory (drivers/dma-buf/udmabuf.c, dma-heap.c, mm)
    row(
        Step::CreateDmaBuf,
        Errno::EINVAL,
        Unavailable,
        Cause::LimitReached,
        "The size is not a multiple of the page size, or it exceeds a limit of udmabuf: size_limit_mb (default 64 MiB) \
         or list_limit (number of ranges).",
        "Reduce the size, or raise /sys/module/udmabuf/parameters/size_limit_mb.",
    ),
    row(
        Step::CreateDmaBuf,
        Errno::ENOENT,
        Unavailable,
        Cause::NoDevice,
        "The kernel has no /dev/udmabuf, or no such heap in /dev/dma_heap.",
        "Load the module (`modprobe udmabuf`), or use the other kind of memory.",
    ),
    uncaused(
        Step::CreateDmaBuf,
        Errno::EBADFD,
        Unavailable,
        "udmabuf accepts only a memfd that is sealed against shrinking.",
        "Report this as a bug: the library seals its memfds.",
    ),
    row(
        Step::AllocateMemory,
        Errno::ENOMEM,
        Unavailable,
        Cause::LimitReached,
        "The host has too little free memory, or too few free huge pages.",
        "Reduce the size, or reserve huge pages in /proc/sys/vm/nr_hugepages.",
    ),
    row(
        Step::AllocateMemory,
        Errno::EAGAIN,
        Unavailable,
        Cause::LimitReached,
        "The memory exceeds the locked-memory limit of this process.",
        "Raise the limit with `ulimit -l unlimited`.",
    ),
    // attach and map for an RDMA device (uverbs, ib_umem_dmabuf, dma-buf-mapping.c, P2PDMA, the DMA API)
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Unavailable,
        Cause::ImporterNoDmabuf,
        "The RDMA driver cannot register dma-bufs, so the kernel rejects the call before it attaches to the buffer.",
        "Use mlx5, or irdma on Linux 7.1 or newer, or stage the transfers through host memory.",
    )
    .when(|facts| facts.support() == Some(DmaBufSupport::None)),
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Unavailable,
        Cause::ImporterNoDmabuf,
        "The RDMA driver is too old to register dma-bufs (mlx5 can since Linux 5.12), so the kernel rejects the call \
         before the GPU driver sees it. The GPU driver xe also returns EOPNOTSUPP if the P2PDMA check refuses memory that \
         must stay in the GPU.",
        "Install a newer kernel or RDMA driver (DOCA-OFED), or use the GPU's memory through nvidia-peermem instead of a \
         dma-buf (NCCL: NCCL_DMABUF_ENABLE=0).",
    )
    .when(Facts::is_gpu),
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Unavailable,
        Cause::ImporterNoDmabuf,
        "The RDMA driver is too old to register dma-bufs (mlx5 can since Linux 5.12).",
        "Install a newer kernel or RDMA driver, or register the memory by its address.",
    )
    .when(|facts| facts.source == Some(MemoryKind::Host)),
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Unavailable,
        Cause::MechanismRefused,
        "524 is ENOTSUPP, an errno of the kernel itself: the GPU driver does not offer the requested mapping of this memory to \
         this importer. NVIDIA's driver returns it for a PCIe mapping (Data Direct) if the importer is not the NIC \
         that is directly connected to the GPU.",
        "Export the memory without the PCIe mapping type (CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE), or register it with \
         the directly connected NIC. Check the kernel log (dmesg) for the reason that the GPU driver prints (NVRM).",
    )
    .numbered(ENOTSUPP)
    .when(Facts::is_gpu),
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Unavailable,
        Cause::ImporterNotRevocable,
        "The RDMA driver pins the buffer without support for revocation, and VFIO rejects such importers.",
        "Use mlx5, or irdma on Linux 7.1 or newer, or stage the transfers through host memory.",
    )
    .when(|facts| facts.support() == Some(DmaBufSupport::PinnedForever)),
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Unavailable,
        Cause::ImporterNotRevocable,
        "mlx5 supports revocation only with on-demand paging (ODP); without ODP, and for data-direct and \
         devx, it pins the buffer.",
        "Enable ODP in the device's firmware (`ibv_devinfo -v` shows it), and register through ibv_reg_dmabuf_mr.",
    )
    .when(|facts| facts.support() == Some(DmaBufSupport::Dynamic)),
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Unavailable,
        Cause::ImporterNotP2p,
        "The importing driver cannot register dma-bufs, does not allow peer-to-peer memory, or does not \
         support revocation.",
        "Use mlx5, or irdma on Linux 7.1 or newer, or stage the transfers through host memory.",
    ),
    row(
        Step::RegisterDmaBuf,
        Errno::EPROTONOSUPPORT,
        Unavailable,
        Cause::KernelTooOld,
        "uverbs does not support dma-buf registration on the command interface of this device.",
        "Boot Linux 5.12 or newer with a driver that registers dma-bufs.",
    ),
    row(
        Step::RegisterDmaBuf,
        Errno::ENODEV,
        Failed,
        Cause::MemoryDecodeOff,
        "Memory decoding of the exporter is off, and VFIO keeps the dma-buf revoked until it is on.",
        "Set the memory-decode bit of the exporter through VFIO, then register the same buffer again.",
    )
    .when(|facts| facts.possibly_vfio() && facts.memory_decode == Some(false)),
    row(
        Step::RegisterDmaBuf,
        Errno::ENODEV,
        Failed,
        Cause::NoDevice,
        "The GPU or the RDMA device was removed or is being reset, or the net device of a soft RDMA device has no PCI \
         function.",
        "Check the kernel log (dmesg), and that `lspci` and `rdma link` list both devices.",
    )
    .when(Facts::is_gpu),
    row(
        Step::RegisterDmaBuf,
        Errno::ENODEV,
        Failed,
        Cause::Revoked,
        "The exporter has revoked the dma-buf (reset, memory decoding off, low-power state or close), or the \
         net device of a soft RDMA device has no PCI function.",
        "Register again after the reset, or create the rxe device on the net device of a PCI function.",
    ),
    uncaused(
        Step::RegisterDmaBuf,
        Errno::EINVAL,
        Failed,
        "The cause is unknown. The topology is not the cause: NVIDIA's driver maps GPU memory without the P2PDMA check, and amdgpu \
         and xe move the memory to the host if the check refuses the pair. Possible causes: the range exceeds the dma-buf, \
         the IOVA and the offset differ in their position within a page, or the RDMA device rejects the length or the \
         access flags.",
        "Check these arguments and the kernel log (dmesg), or use the GPU's memory through nvidia-peermem instead of a dma-buf.",
    )
    .when(Facts::is_gpu),
    uncaused(
        Step::RegisterDmaBuf,
        Errno::EINVAL,
        Failed,
        "The cause is unknown. P2PDMA does not apply to ordinary memory. Possible causes: the range exceeds the dma-buf, \
         the IOVA and the offset differ in their position within a page, or the device rejects the access flags.",
        "Check these arguments and the kernel log (dmesg).",
    )
    .when(|facts| facts.source == Some(MemoryKind::Host)),
    row(
        Step::RegisterDmaBuf,
        Errno::EINVAL,
        Unavailable,
        Cause::Topology,
        "P2PDMA permits no path: with an ACS redirect or separate root ports, the transfer would cross a host bridge \
         that is not in the kernel's P2PDMA allowlist.",
        "Place both functions below one switch without ACS redirect; the prediction for the pair names the \
         deciding bridge.",
    )
    .when(|facts| facts.route == Some(Route::NotSupported)),
    uncaused(
        Step::RegisterDmaBuf,
        Errno::EINVAL,
        Failed,
        "P2PDMA permits a path, so EINVAL has another reason: the exporter revoked the dma-buf during the registration, or \
         the driver rejects the range or its size.",
        "Register again while no program resets or closes the exporter, or register a smaller range.",
    )
    .when(|facts| matches!(facts.route, Some(Route::BusAddress | Route::HostBridge))),
    uncaused(
        Step::RegisterDmaBuf,
        Errno::EINVAL,
        Failed,
        "P2PDMA permits no path between the two functions, the exporter revoked the dma-buf during the registration, or \
         the driver rejects the range or its size.",
        "Compare the prediction for the pair: if it is not refused, register again or register a smaller range.",
    ),
    row(
        Step::RegisterDmaBuf,
        Errno::EADDRINUSE,
        Unavailable,
        Cause::MultiRangeDefect,
        "The kernel links every range of a dma-buf at the start of the IOVA span (Linux 6.19 to 7.3), so the second range \
         collides with the first in a translated domain.",
        "Export one range, register one MR per range, or use a bypass or bus-address path.",
    )
    .when(Facts::possibly_vfio),
    row(
        Step::RegisterDmaBuf,
        Errno::ENOMEM,
        Unavailable,
        Cause::SwiotlbForced,
        "swiotlb=force bounces every untranslated mapping, and the DMA API cannot bounce MMIO.",
        "Boot without swiotlb=force, or set the importer's IOMMU domain to a translating type (DMA).",
    )
    .when(|facts| direct(facts) && facts.swiotlb_forced == Some(true)),
    row(
        Step::RegisterDmaBuf,
        Errno::ENOMEM,
        Unavailable,
        Cause::ConfidentialGuest,
        "In a confidential guest (SEV, TDX, CCA) the DMA API maps only memory that is shared with the hypervisor: Linux 7.2 \
         bounces other memory and cannot bounce MMIO, and Linux 7.3 refuses it.",
        "Run outside of a confidential guest: in a guest the kernel has no shared mapping of a BAR.",
    )
    .when(|facts| direct(facts) && facts.confidential_guest == Some(true)),
    row(
        Step::RegisterDmaBuf,
        Errno::ENOMEM,
        Unavailable,
        Cause::DmaMask,
        "The BAR's address exceeds the importer's DMA mask, and no IOMMU translates it.",
        "Set the importer's IOMMU domain to a translating type (DMA), or assign it an address below the mask (32 \
         bits: below 4 GiB).",
    )
    .when(|facts| direct(facts) && facts.mask_reaches_bar == Some(false)),
    uncaused(
        Step::RegisterDmaBuf,
        Errno::ENOMEM,
        Failed,
        "The GPU driver returned no mapping: the BAR of its memory has no free space for the buffer, the importer does not \
         accept peer-to-peer memory, or the DMA API returned no address.",
        "Check the kernel log (dmesg) for the GPU driver's reason, and the free space of the BAR (`nvidia-smi -q -d MEMORY`, \
         BAR1 Memory Usage).",
    )
    .when(Facts::is_gpu),
    uncaused(
        Step::RegisterDmaBuf,
        Errno::ENOMEM,
        Failed,
        "The DMA API returned no address: a translated domain is out of IOVA space or memory, or swiotlb=force, a \
         confidential guest or a DMA mask that is too small prevents an untranslated mapping.",
        "Check the preconditions of the pair, and the kernel log (dmesg).",
    ),
    row(
        Step::RegisterDmaBuf,
        Errno::EINTR,
        Failed,
        Cause::Interrupted,
        "A signal interrupted the kernel while it mapped the buffer.",
        "Try again.",
    ),
    // hw/mlx5/umr.c, mlx5r_umr_post_send_wait
    uncaused(
        Step::RegisterDmaBuf,
        Errno::EFAULT,
        Failed,
        "The cause is not documented. A dma-buf has no pages that the kernel must pin, so a missing peer-memory module is not the \
         cause. mlx5 returns EFAULT if the device does not carry out the update of its memory key.",
        "Check the kernel log (dmesg): mlx5 then writes `reg umr failed` with the status. Also check that the program called \
         ibv_reg_dmabuf_mr and not ibv_reg_mr, which returns EFAULT for an address without pages.",
    ),
    // registration of ordinary memory (ib_umem_get)
    row(
        Step::RegisterMemory,
        Errno::ENOMEM,
        Failed,
        Cause::LimitReached,
        "The registration pins the memory, which exceeds the locked-memory limit of this process.",
        "Raise the limit with `ulimit -l unlimited`, or grant CAP_IPC_LOCK.",
    ),
    row(
        Step::RegisterMemory,
        Errno::EFAULT,
        Failed,
        Cause::ImporterNoDmabuf,
        "The kernel cannot pin the pages of the address range. Memory of a GPU has no pages to pin, and no peer-memory module \
         (nvidia-peermem) provides its addresses.",
        "Register the memory through its dma-buf, or load nvidia-peermem, which needs an RDMA driver with peer-memory \
         support (DOCA-OFED).",
    )
    .when(Facts::is_gpu),
    row(
        Step::RegisterMemory,
        Errno::EFAULT,
        Failed,
        Cause::ImporterNoDmabuf,
        "The kernel cannot pin the pages of the address range. Device memory has no pages to pin.",
        "Register the memory through its dma-buf instead of its address.",
    ),
    uncaused(
        Step::RegisterMemory,
        Errno::EOPNOTSUPP,
        Failed,
        "The device does not support the requested access flags.",
        "Omit remote atomics and on-demand paging.",
    ),
    // devx umem (drivers/infiniband/hw/mlx5/devx.c, devx_umem_get)
    uncaused(
        Step::RegisterUmem,
        Errno::EFAULT,
        Failed,
        "The cause is unknown. The kernel returns EFAULT if it cannot pin the pages of an address range, and memory of a GPU has \
         pages to pin only through a peer-memory module (nvidia-peermem).",
        "Load nvidia-peermem, or register the umem through its dma-buf (MLX5DV_UMEM_MASK_DMABUF), and check the kernel log \
         (dmesg).",
    )
    .when(Facts::is_gpu),
    row(
        Step::RegisterUmem,
        Errno::EFAULT,
        Failed,
        Cause::ImporterNoDmabuf,
        "The kernel cannot pin the pages of the address range. Device memory has no pages to pin.",
        "Register the memory through its dma-buf instead of its address.",
    ),
    row(
        Step::RegisterUmem,
        Errno::EOPNOTSUPP,
        Failed,
        Cause::ImporterNotRevocable,
        "mlx5 pins a devx umem without support for revocation, and VFIO rejects such importers.",
        "Register the BAR through ibv_reg_dmabuf_mr.",
    )
    .when(|facts| facts.source == Some(MemoryKind::VfioBar)),
    // an RDMA device and its queues (drivers/infiniband/core/uverbs_main.c, uverbs_cmd.c, addr.c)
    row(
        Step::OpenRdma,
        Errno::EACCES,
        Unavailable,
        Cause::NoPermission,
        "The permissions of /dev/infiniband/uverbs* do not allow this user to open it.",
        "Run as root, or add the user to the group of /dev/infiniband (often `rdma`).",
    ),
    row(
        Step::OpenRdma,
        Errno::EPERM,
        Unavailable,
        Cause::NoPermission,
        "The device and this process are in different network namespaces.",
        "Run in the device's namespace (`ip netns exec`), or move the device here with `rdma dev set DEV netns`.",
    ),
    row(
        Step::OpenRdma,
        Errno::ENOENT,
        Unavailable,
        Cause::NoDevice,
        "The device has no node in /dev/infiniband: the module ib_uverbs is not loaded, or the container \
         lacks the node.",
        "Load it with `modprobe ib_uverbs`, or pass /dev/infiniband to the container.",
    ),
    row(
        Step::OpenRdma,
        Errno::EIO,
        Unavailable,
        Cause::NoDevice,
        "The device was removed or is being reset.",
        "Wait until `rdma link` lists it again.",
    ),
    row(
        Step::Deregister,
        Errno::EBUSY,
        Failed,
        Cause::InUse,
        "Another object still uses the memory region, for example a memory window.",
        "Destroy the objects that use the memory region, e.g. memory windows.",
    ),
    row(
        Step::Deregister,
        Errno::EIO,
        Failed,
        Cause::NoDevice,
        "The device was removed together with its registrations.",
        "Wait until `rdma link` lists it again.",
    ),
    row(
        Step::CreateQueues,
        Errno::ENOMEM,
        Unavailable,
        Cause::LimitReached,
        "The device has no resources for queues of this depth, or they exceed the locked-memory limit of this \
         process.",
        "Reduce the depth or the number of queue pairs, or raise the limit with `ulimit -l unlimited`.",
    ),
    row(
        Step::CreateQueues,
        Errno::EINVAL,
        Unavailable,
        Cause::LimitReached,
        "The device does not support queues of this depth.",
        "Reduce the depth (`ibv_devinfo -v` shows max_qp_wr and max_cqe).",
    ),
    row(
        Step::ConnectQueues,
        Errno::EINVAL,
        Failed,
        Cause::PortDown,
        "The port's GID is invalid: its network device lost the address or is down.",
        "Check with `rdma link` and `ip address` that the port is active and has an IP address.",
    ),
    row(
        Step::ConnectQueues,
        Errno::ENODEV,
        Failed,
        Cause::PortDown,
        "No network device has the source address of the queue pair.",
        "Check with `ip address` that the network device of the port still has its address.",
    ),
    row(
        Step::ConnectQueues,
        Errno::ENETUNREACH,
        Failed,
        Cause::PortDown,
        "The network device of the port has no route to the peer's address.",
        "Assign the network device an address in the peer's network.",
    ),
    row(
        Step::ConnectQueues,
        Errno::EHOSTUNREACH,
        Failed,
        Cause::PortDown,
        "The network device of the port cannot reach the peer's address.",
        "Check that `ping` reaches the peer through this network device.",
    ),
    row(
        Step::ConnectQueues,
        Errno::ETIMEDOUT,
        Failed,
        Cause::TimedOut,
        "The peer did not answer ARP or neighbor discovery.",
        "Check that `ping` reaches the peer through the network device of the port.",
    ),
    row(
        Step::PostTransfers,
        Errno::ENOMEM,
        Failed,
        Cause::LimitReached,
        "The send queue is full.",
        "Reduce the depth. If the run posted no more work requests than the queue depth, report a bug in peerpath.",
    ),
    row(
        Step::PostTransfers,
        Errno::EINVAL,
        Failed,
        Cause::TransferFailed,
        "The device rejects the work request, or the queue pair is not connected.",
        "Reduce the size, and check the kernel log (dmesg).",
    ),
    // iommufd (drivers/iommu/iommufd/pages.c, ioas.c)
    row(
        Step::MapFile,
        Errno::EOPNOTSUPP,
        Unavailable,
        Cause::OneRangeOnly,
        "iommufd maps a VFIO dma-buf only if it has exactly one range.",
        "Export one range per mapping.",
    )
    .when(|facts| facts.possibly_vfio() && facts.ranges.is_some_and(|ranges| ranges > 1)),
    row(
        Step::MapFile,
        Errno::EOPNOTSUPP,
        Unavailable,
        Cause::ForeignDmaBuf,
        "iommufd maps only dma-bufs of vfio-pci with one range, and rejects those of udmabuf, CUDA and HIP.",
        "Export a single range of a VFIO BAR, or use ordinary memory, which is mapped by its address.",
    ),
    row(
        Step::MapFile,
        Errno::ENODEV,
        Failed,
        Cause::Revoked,
        "The exporter has revoked the dma-buf (reset, memory decoding off, low-power state or close).",
        "Set the memory-decode bit of the exporter and map again.",
    )
    .when(Facts::possibly_vfio),
    row(
        Step::MapFile,
        Errno::ENOTTY,
        Unavailable,
        Cause::KernelTooOld,
        "iommufd does not support IOMMU_IOAS_MAP_FILE.",
        "Boot a newer kernel: mapping a VFIO dma-buf needs Linux 6.19.",
    ),
    row(
        Step::MapFile,
        Errno::EINVAL,
        Failed,
        Cause::BarNotExportable,
        "The mapping permits neither reads nor writes, exceeds the dma-buf, or is not aligned to the IOMMU's page \
         size.",
        "Map page-aligned ranges within the buffer, for reads, writes or both.",
    ),
    row(
        Step::MapFile,
        Errno::EADDRINUSE,
        Failed,
        Cause::InUse,
        "The requested IOVA is already mapped or reserved.",
        "Let the kernel choose the IOVA.",
    ),
    row(
        Step::MapFile,
        Errno::ENOSPC,
        Failed,
        Cause::LimitReached,
        "The IOAS has no free IOVA range of this size.",
        "Unmap other buffers, or map less.",
    ),
    row(
        Step::MapMemory,
        Errno::ENOMEM,
        Failed,
        Cause::LimitReached,
        "The mapping pins the memory, which exceeds the locked-memory limit of this process.",
        "Raise the limit with `ulimit -l unlimited`, or grant CAP_IPC_LOCK.",
    ),
    row(
        Step::MapMemory,
        Errno::EFAULT,
        Failed,
        Cause::ForeignDmaBuf,
        "The kernel cannot pin the pages of the address range. Device memory has no pages to pin.",
        "Map the memory through its dma-buf instead of its address.",
    ),
    row(
        Step::MapMemory,
        Errno::ENOSPC,
        Failed,
        Cause::LimitReached,
        "The IOAS has no free IOVA range of this size.",
        "Unmap other buffers, or map less.",
    ),
    uncaused(
        Step::Unmap,
        Errno::ENOENT,
        Failed,
        "The IOVA range is not mapped.",
        "Report this as a bug: the library unmaps only its own mappings.",
    ),
    row(
        Step::Unmap,
        Errno::EBUSY,
        Failed,
        Cause::InUse,
        "The kernel still accesses the mapping.",
        "Close the devices that use this mapping, or end the other processes that have the iommufd open.",
    ),
];

pub(super) static EVERYWHERE: &[Common] = &[
    Common {
        errno: Errno::EACCES as i32,
        unavailable_at: PERMISSION,
        cause: Some(Cause::NoPermission),
        why: "The permissions of the file do not allow this user to open it.",
        remedy: "Run as root, or grant the user access to the device node.",
    },
    Common {
        errno: Errno::EPERM as i32,
        unavailable_at: PERMISSION,
        cause: Some(Cause::NoPermission),
        why: "The kernel requires a capability that this process lacks.",
        remedy: "Run as root.",
    },
    Common {
        errno: Errno::EMFILE as i32,
        unavailable_at: FILES,
        cause: Some(Cause::LimitReached),
        why: "This process has reached its limit of open files.",
        remedy: "Raise the limit with `ulimit -n`.",
    },
    Common {
        errno: Errno::ENFILE as i32,
        unavailable_at: FILES,
        cause: Some(Cause::LimitReached),
        why: "The host has reached its limit of open files.",
        remedy: "Raise fs.file-max.",
    },
    Common {
        errno: Errno::ENOMEM as i32,
        unavailable_at: &[],
        cause: None,
        why: "The kernel has too little memory for the request.",
        remedy: "Free memory, or reduce the size.",
    },
    Common {
        errno: Errno::EINTR as i32,
        unavailable_at: HOST_STEPS,
        cause: Some(Cause::Interrupted),
        why: "A signal interrupted the call.",
        remedy: "Try again.",
    },
    Common {
        errno: ENOTSUPP,
        unavailable_at: &[],
        cause: None,
        why: "524 is ENOTSUPP, an errno of the kernel itself: a driver does not support the request. It differs \
              from EOPNOTSUPP (95).",
        remedy: "Check the kernel log (dmesg) for the driver that rejected the request.",
    },
];

const HOST_STEPS: &[Step] = &[Step::SetDomainType, Step::OpenDevice, Step::ResetDevice, Step::Export];
const PERMISSION: &[Step] =
    &[Step::SetDomainType, Step::OpenDevice, Step::ResetDevice, Step::Export, Step::RegisterDmaBuf, Step::MapFile];
const FILES: &[Step] = &[Step::SetDomainType, Step::OpenDevice, Step::ResetDevice, Step::Export, Step::CreateQueues];
