//! What each errno means at each step. Rows with a condition stand before the row of the same errno without one.

use nix::errno::Errno;

use super::{DmaBufSupport, Facts, Step};
use crate::Cause;

/// One meaning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) step: Step,
    pub(super) errno: Errno,
    /// When this meaning applies.
    pub(super) when: fn(&Facts) -> bool,
    pub(super) cause: Option<Cause>,
    pub(super) why: &'static str,
    pub(super) remedy: &'static str,
}

/// A meaning that no step changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub(super) errno: Errno,
    pub(super) cause: Option<Cause>,
    pub(super) why: &'static str,
    pub(super) remedy: &'static str,
}

const fn row(step: Step, errno: Errno, cause: Cause, why: &'static str, remedy: &'static str) -> Row {
    Row { step, errno, when: |_| true, cause: Some(cause), why, remedy }
}

impl Row {
    const fn when(self, when: fn(&Facts) -> bool) -> Self {
        Self { when, ..self }
    }

    const fn without_word(self) -> Self {
        Self { cause: None, ..self }
    }
}

/// swiotlb, the mask and confidential guests matter in the direct mapping alone: a translated domain allocates its IOVA
/// below the mask and bounces nothing.
fn direct(facts: &Facts) -> bool {
    facts.translated != Some(true)
}

pub(super) static ROWS: &[Row] = &[
    // ---- the function is handed to another driver (driver core, vfio_pci_core_register_device)
    row(
        Step::BindDriver,
        Errno::EINVAL,
        Cause::NoIommu,
        "vfio-pci did not take the function: it has no IOMMU group, it is a bridge, or its IOMMU cannot keep DMA coherent.",
        "Switch the IOMMU on in the firmware and with intel_iommu=on (AMD: on by default), and name an endpoint.",
    ),
    row(
        Step::BindDriver,
        Errno::ENODEV,
        Cause::DriverNotVfio,
        "The driver core found no match: the driver is not loaded, does not know the device, or driver_override names another.",
        "Load the driver (`modprobe vfio-pci`) and bind again.",
    ),
    row(
        Step::BindDriver,
        Errno::ENOENT,
        Cause::DriverNotVfio,
        "The driver or the function is not there in /sys/bus/pci: the module is not loaded, or the function was removed.",
        "Load the driver (`modprobe vfio-pci`) and bind again.",
    ),
    row(
        Step::BindDriver,
        Errno::EBUSY,
        Cause::InUse,
        "The function is bound already, its group belongs to a user of VFIO, or it is a physical function whose virtual functions \
         are enabled, which vfio-pci refuses.",
        "End whoever holds the group (`fuser -v /dev/vfio/*`), or write 0 to the function's sriov_numvfs.",
    ),
    // ---- the domain type of a group (drivers/iommu/iommu.c, iommu_group_store_type)
    row(
        Step::SetDomainType,
        Errno::EBUSY,
        Cause::InUse,
        "The IOMMU core changes a group's domain type only while no driver is bound to any function of the group.",
        "Unbind every function of the group, or let peerpath do it with --force-in-use.",
    ),
    row(
        Step::SetDomainType,
        Errno::EPERM,
        Cause::InUse,
        "The IOMMU core changes a group's domain type only while no driver of the kernel has a function of the group, and nobody \
         has it open through VFIO.",
        "Unbind every function of the group, and end what holds it (`fuser -v /dev/vfio/*`).",
    ),
    row(
        Step::SetDomainType,
        Errno::EINVAL,
        Cause::NoIommu,
        "The IOMMU driver does not offer that domain type for this group: some devices require identity or DMA.",
        "Choose another importer, or boot with iommu=pt or iommu.passthrough=0 as needed.",
    )
    .without_word(),
    // ---- the two doors of VFIO (drivers/vfio/container.c, drivers/iommu/iommufd/main.c)
    row(
        Step::OpenIommu,
        Errno::ENOENT,
        Cause::KernelTooOld,
        "The node is not there: the module (vfio, iommufd) is not loaded or the kernel is built without it.",
        "Load it with `modprobe vfio-pci` or `modprobe iommufd`, or use the other of the two doors.",
    ),
    row(
        Step::OpenIommu,
        Errno::ENODEV,
        Cause::KernelTooOld,
        "The node is there but nothing answers behind it: the module (vfio, iommufd) is not loaded.",
        "Load it with `modprobe vfio-pci` or `modprobe iommufd`, or use the other of the two doors.",
    ),
    // ---- the group and the cdev (drivers/vfio/group.c, device_cdev.c)
    row(
        Step::OpenVfio,
        Errno::ENOENT,
        Cause::DriverNotVfio,
        "The function has no node below /dev/vfio: no function of its group is bound to a VFIO driver, or the kernel lacks \
         VFIO_GROUP or VFIO_DEVICE_CDEV.",
        "Bind the function with `peerpath bind`.",
    ),
    row(
        Step::OpenVfio,
        Errno::EBUSY,
        Cause::InUse,
        "VFIO lets a group be opened once, and not while one of its devices is open through its cdev: somebody has it.",
        "End the program that holds it (`fuser -v /dev/vfio/*`).",
    ),
    row(
        Step::OpenVfio,
        Errno::EPERM,
        Cause::Noiommu,
        "It is a no-IOMMU group, which VFIO opens only for CAP_SYS_RAWIO.",
        "Use a host with an IOMMU: a no-IOMMU group exports nothing.",
    ),
    row(
        Step::OpenVfio,
        Errno::ENODEV,
        Cause::DriverNotVfio,
        "The function left its VFIO driver while the node was being opened.",
        "Bind the function again with `peerpath bind`.",
    ),
    // ---- ownership of the group (vfio_iommu_type1.c, iommufd/device.c, iommu_group_claim_dma_owner)
    row(
        Step::AttachIommu,
        Errno::EBUSY,
        Cause::GroupNotViable,
        "The IOMMU core cannot give the group to user space: another of its functions is bound to a driver that does DMA, or the \
         group is owned elsewhere.",
        "Unbind the other functions of the group, or move the card to a slot with a group of its own.",
    ),
    row(
        Step::AttachIommu,
        Errno::EPERM,
        Cause::Noiommu,
        "VFIO attaches a no-IOMMU group only for CAP_SYS_RAWIO and never next to a real one.",
        "Use a host with an IOMMU: a no-IOMMU group exports nothing.",
    )
    .when(|facts| facts.noiommu == Some(true)),
    row(
        Step::AttachIommu,
        Errno::EPERM,
        Cause::NoPermission,
        "type1 and iommufd refuse a group whose interrupts are not isolated by the IOMMU.",
        "Switch interrupt remapping on (intremap=on), or load vfio_iommu_type1 or iommufd with allow_unsafe_interrupts=1.",
    ),
    row(
        Step::AttachIommu,
        Errno::ENODEV,
        Cause::NoIommu,
        "No IOMMU backend is there for the group: vfio_iommu_type1 is not loaded, or the group has no IOMMU.",
        "Load it with `modprobe vfio_iommu_type1`, and switch the IOMMU on.",
    ),
    row(
        Step::AttachIommu,
        Errno::EINVAL,
        Cause::InUse,
        "The group is in a container or bound to an iommufd already, or its IOMMU driver cannot serve user space.",
        "End the program that holds the group (`fuser -v /dev/vfio/*`).",
    ),
    row(
        Step::AttachIommu,
        Errno::EADDRINUSE,
        Cause::InUse,
        "The IOAS already maps addresses that this device's IOMMU reserves (its MSI window, for one).",
        "Attach the device before anything is mapped.",
    )
    .without_word(),
    row(
        Step::OpenDevice,
        Errno::ENODEV,
        Cause::DriverNotVfio,
        "The group has no VFIO device of that name: the function is not bound to a VFIO driver.",
        "Bind the function with `peerpath bind`.",
    ),
    row(
        Step::OpenDevice,
        Errno::EINVAL,
        Cause::NoIommu,
        "VFIO gives out a device only after its group has joined a container with an IOMMU.",
        "Switch the IOMMU on and bind the function again.",
    ),
    row(
        Step::OpenDevice,
        Errno::EBUSY,
        Cause::InUse,
        "The device is open elsewhere, or its IOMMU domain belongs to somebody else.",
        "End the program that holds it (`fuser -v /dev/vfio/*`).",
    ),
    row(
        Step::OpenDevice,
        Errno::EIO,
        Cause::NoDevice,
        "The function did not answer while vfio-pci enabled it: it is gone, or stuck in low power.",
        "Look at the kernel log, and reset or power-cycle the slot.",
    )
    .without_word(),
    // ---- reset and regions (drivers/vfio/pci/vfio_pci_core.c)
    row(
        Step::ResetDevice,
        Errno::EINVAL,
        Cause::BarNotExportable,
        "vfio-pci finds no way of resetting this function alone.",
        "Use a function with FLR or a bus of its own.",
    )
    .without_word(),
    row(
        Step::ResetDevice,
        Errno::ENOTTY,
        Cause::BarNotExportable,
        "The function has neither FLR nor a bus of its own, so PCI cannot reset it alone.",
        "Use a function with FLR or a bus of its own.",
    )
    .without_word(),
    row(
        Step::ResetDevice,
        Errno::EAGAIN,
        Cause::InUse,
        "Somebody else holds the lock of the function or of its bus.",
        "Try again.",
    ),
    row(
        Step::RegionAccess,
        Errno::EINVAL,
        Cause::BarNotExportable,
        "vfio-pci maps no such span: the region does not exist, cannot be mapped, or the span leaves it.",
        "Choose a BAR that `peerpath list` shows as exportable.",
    ),
    row(
        Step::RegionAccess,
        Errno::EIO,
        Cause::MemoryDecodeOff,
        "The function does not answer memory accesses: its memory-decode bit is off, or it is in low power.",
        "Enable memory in its PCI command register.",
    ),
    // ---- the export (drivers/vfio/pci/vfio_pci_dmabuf.c)
    row(
        Step::Export,
        Errno::EOPNOTSUPP,
        Cause::DriverNotVfio,
        "The VFIO driver on the function has no dma-buf operation: only vfio-pci and nvgrace-gpu have one.",
        "Bind the function to vfio-pci itself.",
    ),
    row(
        Step::Export,
        Errno::ENOTTY,
        Cause::KernelTooOld,
        "vfio-pci does not know the dma-buf feature: it came with Linux 6.19 and needs VFIO_PCI_DMABUF.",
        "Boot Linux 6.19 or newer, built with VFIO_PCI_DMABUF (PCI_P2PDMA and DMA_SHARED_BUFFER).",
    ),
    row(
        Step::Export,
        Errno::EINVAL,
        Cause::BarNotExportable,
        "vfio-pci takes whole pages of a memory BAR of at least a page: the BAR is too small or an I/O BAR, or a range is empty, \
         unaligned or past its end.",
        "Name page-aligned ranges within a memory BAR; `peerpath list` shows which BARs can be exported.",
    ),
    row(
        Step::Export,
        Errno::ENODEV,
        Cause::BarNotExportable,
        "vfio-pci has claimed no BAR of that index: BAR 0 to 5 that exist can be exported, ROM and config space cannot.",
        "Choose a BAR that `peerpath list` shows as exportable.",
    ),
    row(
        Step::Export,
        Errno::EOVERFLOW,
        Cause::BarNotExportable,
        "The BAR's start plus the range's offset leaves the address space.",
        "Name a range within the BAR.",
    ),
    row(
        Step::Export,
        Errno::EPERM,
        Cause::Noiommu,
        "The device was not opened with an IOMMU behind it.",
        "Use a host with an IOMMU.",
    )
    .when(|facts| facts.noiommu == Some(true)),
    // ---- ordinary memory (drivers/dma-buf/udmabuf.c, dma-heap.c, mm)
    row(
        Step::CreateDmaBuf,
        Errno::EINVAL,
        Cause::LimitReached,
        "udmabuf and the heaps take whole pages, and udmabuf no more than its size_limit_mb (64 by default) and list_limit.",
        "Ask for less, or raise /sys/module/udmabuf/parameters/size_limit_mb.",
    ),
    row(
        Step::CreateDmaBuf,
        Errno::ENOENT,
        Cause::NoDevice,
        "The kernel offers no /dev/udmabuf or no such heap below /dev/dma_heap.",
        "Load the module (`modprobe udmabuf`), or use the other of the two.",
    ),
    row(
        Step::CreateDmaBuf,
        Errno::EBADFD,
        Cause::NoDevice,
        "udmabuf takes a memfd that is sealed against shrinking, and this is none.",
        "Report this: peerpath seals its memfds.",
    )
    .without_word(),
    row(
        Step::AllocateMemory,
        Errno::ENOMEM,
        Cause::LimitReached,
        "There is not that much memory, or not that many huge pages.",
        "Ask for less, or reserve huge pages in /proc/sys/vm/nr_hugepages.",
    ),
    row(
        Step::AllocateMemory,
        Errno::EAGAIN,
        Cause::LimitReached,
        "The memory would exceed the locked-memory limit of this process.",
        "Raise it with `ulimit -l unlimited`.",
    ),
    // ---- attach and map on behalf of an RDMA device (uverbs, ib_umem_dmabuf, dma-buf-mapping.c, p2pdma, the DMA API)
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Cause::ImporterNoDmabuf,
        "The RDMA driver has no dma-buf operation at all, so uverbs refuses before the buffer is looked at.",
        "Use mlx5 or irdma (the lab's kernel teaches it to rxe), or stage through host memory with --path staged.",
    )
    .when(|facts| facts.support() == Some(DmaBufSupport::None)),
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Cause::ImporterNotRevocable,
        "The RDMA driver pins the buffer and offers no way to take it back, and VFIO attaches only importers that can.",
        "Use mlx5 or irdma, or stage through host memory with --path staged.",
    )
    .when(|facts| facts.support() == Some(DmaBufSupport::PinnedForever)),
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Cause::ImporterNotRevocable,
        "mlx5 can give the buffer back only through on-demand paging; without ODP, and for data-direct and devx, it pins.",
        "Enable ODP in the device's firmware (`ibv_devinfo -v` shows it), and register through ibv_reg_dmabuf_mr.",
    )
    .when(|facts| facts.support() == Some(DmaBufSupport::Dynamic)),
    row(
        Step::RegisterDmaBuf,
        Errno::EOPNOTSUPP,
        Cause::ImporterNotP2p,
        "The importing driver has no dma-buf operation, does not allow peer-to-peer memory, or cannot give it back: VFIO refuses \
         all three alike.",
        "Use mlx5 or irdma, or stage through host memory with --path staged.",
    ),
    row(
        Step::RegisterDmaBuf,
        Errno::EPROTONOSUPPORT,
        Cause::KernelTooOld,
        "uverbs knows no dma-buf registration on this device's command interface.",
        "Boot Linux 5.12 or newer with a driver that registers dma-bufs.",
    ),
    row(
        Step::RegisterDmaBuf,
        Errno::ENODEV,
        Cause::MemoryDecodeOff,
        "The exporter's memory decoding is off, and VFIO holds the dma-buf revoked until it is on again.",
        "Enable memory in the exporter's PCI command register through VFIO, then register the same buffer again.",
    )
    .when(|facts| facts.memory_decode == Some(false)),
    row(
        Step::RegisterDmaBuf,
        Errno::ENODEV,
        Cause::Revoked,
        "The exporter has revoked the dma-buf (reset, memory decoding off, low power or closed), or a soft RDMA device stands on \
         a net device without a PCI function under it.",
        "Wait for the reset to end and register again; give rxe a net device that sits on a PCI function.",
    ),
    row(
        Step::RegisterDmaBuf,
        Errno::EINVAL,
        Cause::Topology,
        "p2pdma found no permitted route: an ACS redirect or separate root ports send it through a host bridge that the kernel \
         does not trust, or the importer is no PCI device.",
        "See `peerpath paths --from EXPORTER --to IMPORTER` for the deciding bridge; put both below one switch without ACS \
         redirect.",
    ),
    row(
        Step::RegisterDmaBuf,
        Errno::EADDRINUSE,
        Cause::MultiRangeDefect,
        "The kernel links every range of a dma-buf at the start of one IOVA span, so the second range collides with the first in \
         a translated domain (Linux 7.2 and 7.3).",
        "Export one range, register one MR per range, or use a bypass or bus-address path.",
    ),
    row(
        Step::RegisterDmaBuf,
        Errno::ENOMEM,
        Cause::SwiotlbForced,
        "swiotlb=force makes the direct mapping bounce everything, and the DMA API cannot bounce MMIO.",
        "Boot without swiotlb=force, or give the importer a translated IOMMU domain.",
    )
    .when(|facts| direct(facts) && facts.swiotlb_forced == Some(true)),
    row(
        Step::RegisterDmaBuf,
        Errno::ENOMEM,
        Cause::ConfidentialGuest,
        "A confidential guest (SEV, TDX, CCA) bounces all DMA through shared memory, and the DMA API cannot bounce MMIO.",
        "Run outside a confidential guest: the kernel has no shared alias of a BAR.",
    )
    .when(|facts| direct(facts) && facts.confidential_guest == Some(true)),
    row(
        Step::RegisterDmaBuf,
        Errno::ENOMEM,
        Cause::DmaMask,
        "The importer's DMA mask does not reach the BAR's address, and the direct mapping has nothing to translate with.",
        "Give the importer a translated IOMMU domain, or place the BAR below its mask (below 4 GiB for 32 bits).",
    )
    .when(|facts| direct(facts) && facts.mask_reaches_bar == Some(false)),
    row(
        Step::RegisterDmaBuf,
        Errno::ENOMEM,
        Cause::LimitReached,
        "The DMA API gave no address: in a translated domain the IOVA space or memory is used up; in the direct mapping \
         swiotlb=force, a confidential guest or a DMA mask below the BAR's address does this.",
        "Run `peerpath doctor` on the pair, and look at the kernel log.",
    )
    .without_word(),
    row(
        Step::RegisterDmaBuf,
        Errno::EINTR,
        Cause::Interrupted,
        "A signal interrupted the kernel while it mapped the buffer.",
        "Run it again.",
    ),
    // ---- plain registration (ib_umem_get)
    row(
        Step::RegisterMemory,
        Errno::ENOMEM,
        Cause::LimitReached,
        "Registration pins the memory, and that exceeds the locked-memory limit of this process.",
        "Raise it with `ulimit -l unlimited`, or grant CAP_IPC_LOCK.",
    ),
    row(
        Step::RegisterMemory,
        Errno::EFAULT,
        Cause::ImporterNoDmabuf,
        "The address range holds no pages that can be pinned: device memory has to be registered as a dma-buf.",
        "Register the memory through its dma-buf instead of its address.",
    ),
    row(
        Step::RegisterMemory,
        Errno::EOPNOTSUPP,
        Cause::LimitReached,
        "The device does not offer the access flags that were asked for.",
        "Leave out remote atomics or on-demand paging.",
    )
    .without_word(),
    // ---- an RDMA device and its queues (drivers/infiniband/core/uverbs_main.c, uverbs_cmd.c, addr.c)
    row(
        Step::OpenRdma,
        Errno::EACCES,
        Cause::NoPermission,
        "The permissions of /dev/infiniband/uverbs* keep this user out.",
        "Run as root, or put your user into the group of /dev/infiniband (often `rdma`).",
    ),
    row(
        Step::OpenRdma,
        Errno::EPERM,
        Cause::NoPermission,
        "The device belongs to another network namespace than this process.",
        "Run in the device's namespace (`ip netns exec`), or move the device here with `rdma dev set DEV netns`.",
    ),
    row(
        Step::OpenRdma,
        Errno::ENOENT,
        Cause::NoDevice,
        "The device has no node below /dev/infiniband: the module ib_uverbs is not loaded, or this container was not given the node.",
        "Load it with `modprobe ib_uverbs`, or hand /dev/infiniband to the container.",
    ),
    row(
        Step::OpenRdma,
        Errno::EIO,
        Cause::NoDevice,
        "The device has just been removed or is being reset.",
        "Wait until `rdma link` lists it again.",
    ),
    row(
        Step::Deregister,
        Errno::EBUSY,
        Cause::InUse,
        "Something is still bound to the memory region, such as a memory window.",
        "End whatever else uses the same RDMA context.",
    ),
    row(
        Step::Deregister,
        Errno::EIO,
        Cause::NoDevice,
        "The device was removed, and its registrations with it.",
        "Wait until `rdma link` lists it again.",
    ),
    row(
        Step::CreateQueues,
        Errno::ENOMEM,
        Cause::LimitReached,
        "The device has no room for queues of this depth, or they exceed the locked-memory limit of this process.",
        "Use a smaller depth or fewer queue pairs, or raise the limit with `ulimit -l unlimited`.",
    ),
    row(
        Step::CreateQueues,
        Errno::EINVAL,
        Cause::LimitReached,
        "The device does not make queues of this depth.",
        "Use a smaller depth (`ibv_devinfo -v` shows max_qp_wr and max_cqe).",
    ),
    row(
        Step::ConnectQueues,
        Errno::EINVAL,
        Cause::PortDown,
        "The port's address is not valid any more: its network device lost it, or it went down.",
        "See with `rdma link` and `ip address` that the port is active and has its address.",
    ),
    row(
        Step::ConnectQueues,
        Errno::ENODEV,
        Cause::PortDown,
        "No network device belongs to the address that the queue pair was to use.",
        "See with `ip address` that the network device under the port still has its address.",
    ),
    row(
        Step::ConnectQueues,
        Errno::ENETUNREACH,
        Cause::PortDown,
        "The network device under the port has no route to the peer's address.",
        "Give it an address in the peer's network.",
    ),
    row(
        Step::ConnectQueues,
        Errno::EHOSTUNREACH,
        Cause::PortDown,
        "The network device under the port does not reach the peer's address.",
        "See that `ping` reaches it through that network device.",
    ),
    row(
        Step::ConnectQueues,
        Errno::ETIMEDOUT,
        Cause::TimedOut,
        "Nobody answered for the peer's address.",
        "See that `ping` reaches it through the network device under the port.",
    ),
    row(
        Step::PostTransfers,
        Errno::ENOMEM,
        Cause::LimitReached,
        "The queue is full.",
        "Use a smaller depth; if the depth was kept, this is a bug of peerpath.",
    ),
    row(
        Step::PostTransfers,
        Errno::EINVAL,
        Cause::TransferFailed,
        "The device does not take such a transfer, or the queue pair is not connected.",
        "Use a smaller size; if that does not help, look at the kernel log.",
    ),
    // ---- iommufd (drivers/iommu/iommufd/pages.c, ioas.c)
    row(
        Step::MapFile,
        Errno::EOPNOTSUPP,
        Cause::OneRangeOnly,
        "iommufd maps a VFIO dma-buf only when it has exactly one range.",
        "Export one range for each mapping.",
    )
    .when(|facts| facts.ranges.is_some_and(|ranges| ranges > 1)),
    row(
        Step::MapFile,
        Errno::EOPNOTSUPP,
        Cause::ForeignDmaBuf,
        "iommufd maps dma-bufs of vfio-pci with one range and of nobody else: memory of udmabuf, CUDA or HIP is refused.",
        "Export a single range of a VFIO BAR, or use host:SIZE, which is mapped by its address.",
    ),
    row(
        Step::MapFile,
        Errno::ENODEV,
        Cause::Revoked,
        "The exporter has revoked the dma-buf: reset, memory decoding off, low power or closed.",
        "Enable memory decoding on the exporter and map again.",
    ),
    row(
        Step::MapFile,
        Errno::ENOTTY,
        Cause::KernelTooOld,
        "iommufd does not know IOMMU_IOAS_MAP_FILE.",
        "Boot a newer kernel: mapping a VFIO dma-buf needs Linux 6.19 or later.",
    ),
    row(
        Step::MapFile,
        Errno::EINVAL,
        Cause::BarNotExportable,
        "Neither reading nor writing was asked for, the span leaves the dma-buf, or it is not aligned to what the IOMMU maps.",
        "Map page-aligned spans within the buffer, for reading, writing or both.",
    ),
    row(
        Step::MapFile,
        Errno::EADDRINUSE,
        Cause::InUse,
        "The IOVA asked for is mapped already or reserved.",
        "Let the kernel choose the IOVA.",
    ),
    row(
        Step::MapFile,
        Errno::ENOSPC,
        Cause::LimitReached,
        "The IOAS has no free span of that size.",
        "Unmap what is not needed, or map less.",
    ),
    row(
        Step::MapMemory,
        Errno::ENOMEM,
        Cause::LimitReached,
        "Mapping pins the memory, and that exceeds the locked-memory limit of this process.",
        "Raise it with `ulimit -l unlimited`, or grant CAP_IPC_LOCK.",
    ),
    row(
        Step::MapMemory,
        Errno::EFAULT,
        Cause::ForeignDmaBuf,
        "The address range holds no pages that can be pinned: device memory has to be mapped through its dma-buf.",
        "Map the memory through its dma-buf instead of its address.",
    ),
    row(
        Step::MapMemory,
        Errno::ENOSPC,
        Cause::LimitReached,
        "The IOAS has no free span of that size.",
        "Unmap what is not needed, or map less.",
    ),
    row(
        Step::Unmap,
        Errno::ENOENT,
        Cause::Revoked,
        "Nothing is mapped there any more.",
        "Report this: peerpath unmaps only what it has mapped.",
    )
    .without_word(),
    row(
        Step::Unmap,
        Errno::EBUSY,
        Cause::InUse,
        "Something in the kernel still accesses the mapping.",
        "End whatever else uses the same iommufd.",
    ),
];

pub(super) static EVERYWHERE: &[Common] = &[
    Common {
        errno: Errno::EACCES,
        cause: Some(Cause::NoPermission),
        why: "The file's permissions keep this user out.",
        remedy: "Run as root, or give your user the device node.",
    },
    Common {
        errno: Errno::EPERM,
        cause: Some(Cause::NoPermission),
        why: "The kernel demands a capability that this process lacks.",
        remedy: "Run as root.",
    },
    Common {
        errno: Errno::EMFILE,
        cause: Some(Cause::LimitReached),
        why: "This process has as many files open as it may.",
        remedy: "Raise the limit with `ulimit -n`.",
    },
    Common {
        errno: Errno::ENFILE,
        cause: Some(Cause::LimitReached),
        why: "The host has as many files open as it may.",
        remedy: "Raise fs.file-max.",
    },
    Common {
        errno: Errno::ENOMEM,
        cause: None,
        why: "The kernel ran out of memory for the request.",
        remedy: "Free memory, or ask for less.",
    },
    Common {
        errno: Errno::EINTR,
        cause: Some(Cause::Interrupted),
        why: "A signal interrupted the call.",
        remedy: "Run it again.",
    },
];
