//! Messages of the RDMA drivers (drivers/infiniband: core, hw/mlx5, hw/irdma, hw/bnxt_re, sw/rxe; drivers/net/ethernet/mellanox).
//! mlx5 and rxe print the status of a failed work completion as a number of `enum ib_wc_status`.

use super::message::{Family, Message};
use crate::Cause::{DeviceLost, ImporterNoDmabuf, InUse, LimitReached, NoDevice, PortDown, TimedOut, TransferFailed};

const RDMA: Family = Family::Rdma;

/// A transfer that failed.
const fn transfer(texts: &'static [&'static str], why: &'static str, remedy: &'static str) -> Message {
    Message::failure(RDMA, texts, TransferFailed, why, remedy)
}

const REGISTER_AGAIN: &str = "Check that address and key belong to a registration that still exists and permits the access. A \
     registration of a dma-buf ends when its exporter resets or closes: register the buffer again.";

const CHECK_THE_PEER: &str =
    "Check that the peer still runs and its port is active, and the log of the peer for the same time.";

pub(super) const MESSAGES: &[Message] = &[
    // Work completions with an error.
    transfer(
        &["rxe*non-flush error status = 10$", "mlx5*WC error: 10,"],
        "The peer rejected the access to its memory (remote access error): the key is invalid, the access is outside of the \
         registration or not permitted, or the exporter revoked the memory.",
        REGISTER_AGAIN,
    ),
    transfer(
        &["rxe*non-flush error status = 11$", "mlx5*WC error: 11,"],
        "The peer could not complete the request (remote operation error), for example because its receive buffer was not accessible.",
        CHECK_THE_PEER,
    ),
    transfer(
        &["rxe*non-flush error status = 4$", "mlx5*WC error: 4,"],
        "The device could not access its own buffer (local protection error): the key is invalid, the access is outside of the \
         registration or not permitted, the exporter revoked the memory, or the IOMMU blocked the access.",
        REGISTER_AGAIN,
    ),
    transfer(
        &["rxe*non-flush error status = 12$", "mlx5*WC error: 12,"],
        "The peer did not acknowledge the request (transport retry counter exceeded).",
        CHECK_THE_PEER,
    ),
    transfer(
        &["rxe*non-flush error status = 13$", "mlx5*WC error: 13,"],
        "The peer had posted no receive request (receiver-not-ready retry counter exceeded).",
        "Post receive requests before the sender starts, or raise the RNR retry count.",
    ),
    transfer(
        &["rxe*non-flush error status = 2$", "mlx5*WC error: 2,"],
        "The device could not process the work request (local queue pair operation error): its buffer or the state of the queue \
         pair does not permit it.",
        REGISTER_AGAIN,
    ),
    transfer(
        &["rxe*non-flush error status = 9$", "mlx5*WC error: 9,"],
        "The peer does not support the request, or the queue pair does not permit it (remote invalid request).",
        "Check the operation and its length against the capabilities of the peer (`ibv_devinfo -v`).",
    ),
    transfer(
        &["rxe*non-flush error status = ", "mlx5*WC error: "],
        "A transfer failed. The number is the status of its work completion (ibv_wc_status).",
        REGISTER_AGAIN,
    ),
    transfer(
        &["mlx5*dump error cqe", "cqe_dump: "],
        "A transfer of the device failed. The next lines are its completion queue entry.",
        REGISTER_AGAIN,
    ),
    // mlx5
    Message::failure(
        RDMA,
        &[
            "mlx5_core*device's health compromised",
            "mlx5_core*Fatal error * detected",
            "mlx5_core*health recovery failed",
            "mlx5_core*FW is unable to respond to initialization segment reads",
            "mlx5_core*irisc not responding",
        ],
        DeviceLost,
        "The firmware of {0} does not respond or reports a fatal error. Its RDMA resources are lost.",
        "Wait until the driver has recovered the device, or reset it (`mlxfwreset`, or a power cycle), and check the log for PCIe errors.",
    ),
    // net/ethernet/mellanox/mlx5/core/health.c, hsynd_str
    Message::uncaused_failure(
        RDMA,
        &["mlx5_core*Health issue observed, High temperature", "mlx5_core*High temperature on sensors"],
        "{0} is too hot. At a critical temperature its firmware stops the device.",
        "Improve the cooling of the card, and check its temperature (`mget_temp`, `sensors`).",
    ),
    Message::failure(
        RDMA,
        &["mlx5_core*Health issue observed, ICM fetch PCI"],
        DeviceLost,
        "{0} could not read its own data in host memory over PCIe. Its RDMA resources are lost if the firmware does not recover.",
        "Check the log for PCIe errors and IOMMU faults of the device before this line, and reset it.",
    ),
    Message::failure(
        RDMA,
        &["mlx5_core*Health issue observed, "],
        DeviceLost,
        "The firmware of {0} reports an error of the device. The line names the error and its severity; at the severity \
         `error` or higher, the driver resets the device, and its RDMA resources are lost.",
        "Wait until the driver has recovered the device, or reset it (`mlxfwreset`, or a power cycle). Update the firmware, and \
         check the log for PCIe errors.",
    ),
    Message::failure(
        RDMA,
        &["mlx5_core*timeout. Will cause a leak of a command resource", "mlx5_core*No done completion"],
        TimedOut,
        "The firmware of {0} did not finish a command in time.",
        "Check the log for PCIe errors and IOMMU faults of the device, and reset it.",
    ),
    Message::failure(
        RDMA,
        &[
            "mlx5*CREATE_MKEY(*failed, status limits exceeded",
            "mlx5*CREATE_MKEY(*failed, status no resources",
            "mlx5*async reg mr failed. status -12",
        ],
        LimitReached,
        "{0} has no free memory keys (mkeys) or translation entries for another registration.",
        "Deregister unused memory, register fewer or larger regions, or raise the limit in the firmware (`mlxconfig`, LOG_MAX_*).",
    ),
    // net/ethernet/mellanox/mlx5/core/main.c and cmd.c, cmd_status_str
    Message::failure(
        RDMA,
        &["mlx5_core*op_mod(*) failed, status limits exceeded", "mlx5_core*op_mod(*) failed, status no resources"],
        LimitReached,
        "{0} has no free resources for the command that the line names, or the command exceeds a limit of the device or its firmware.",
        "Release unused resources, request fewer or smaller ones, or raise the limit in the firmware (`mlxconfig`, LOG_MAX_*).",
    ),
    Message::uncaused_failure(
        RDMA,
        &["mlx5_core*op_mod(*) failed, status internal error", "mlx5_core*op_mod(*) failed, status bad system state"],
        "The firmware of {0} could not carry out a command because of its own state, not because of the arguments.",
        "Check the log for health messages of the device and PCIe errors before this line, reset the device, and update the firmware.",
    ),
    Message::uncaused_failure(
        RDMA,
        &[
            "mlx5_core*CREATE_MKEY(*failed, status",
            "mlx5*async reg mr failed",
            "mlx5*reg umr failed",
            "mlx5*create mkey failed",
        ],
        "{0} rejected a memory registration.",
        "Check that the access flags, the size and the page size are supported, and update the firmware.",
    ),
    Message::uncaused_failure(
        RDMA,
        &["mlx5_core*op_mod(*) failed, status"],
        "The firmware of {0} rejected a command. The line names the command and the status; the syndrome is the firmware's own \
         code for the reason.",
        "Search for the syndrome in the documentation of the vendor, or update the firmware.",
    ),
    Message::failure(
        RDMA,
        &["mlx5*PAGE FAULT error", "mlx5*page fault * failed", "mlx5*Failed to resolve page fault"],
        TransferFailed,
        "The driver could not supply a page that the device accessed by on-demand paging: the memory is not mapped, or the \
         exporter revoked it.",
        REGISTER_AGAIN,
    ),
    Message::failure(
        RDMA,
        &["umem get failed (-14)", "ib_umem_get: failed to get user pages"],
        ImporterNoDmabuf,
        "The kernel cannot pin the pages of the address range. Memory of a BAR or of a GPU has no pages to pin.",
        "Register the memory through its dma-buf instead of its address. For memory of an NVIDIA GPU, load nvidia-peermem \
         instead.",
    ),
    Message::failure(
        RDMA,
        &["umem get failed (-12)"],
        LimitReached,
        "The registration pins more memory than the limit of locked memory permits, or more than is free.",
        "Raise the limit with `ulimit -l unlimited`, or grant CAP_IPC_LOCK.",
    ),
    Message::uncaused_failure(
        RDMA,
        &["umem get failed (", "Failed to get umem", "Failed to map dmabuf", "ib_umem_get failed"],
        "The driver could not get the memory of a registration. The number is the errno.",
        "Explain the errno with `peerpath explain ERRNO --step register-memory`, or `--step register` for a dma-buf.",
    ),
    Message::fact(
        RDMA,
        &["mlx5_pcie_event*Detected insufficient power on the PCIe slot"],
        "The slot of {0} offers less power than the card can use. Optical modules can stay off.",
        "Use a slot with more power.",
    ),
    Message::normal(
        RDMA,
        &[
            "mlx5_core*assert_var[",
            "mlx5_core*assert_exit_ptr",
            "mlx5_core*assert_callra",
            "mlx5_core*fw_ver ",
            "mlx5_core*hw_id ",
            "mlx5_core*irisc_index",
            "mlx5_core*synd 0x",
            "mlx5_core*time 0x",
            "mlx5_cmd_check: * callbacks suppressed",
            "mlx5_cmd_out_err: * callbacks suppressed",
        ],
        "The line is part of an error report of the device.",
    ),
    // irdma, bnxt_re
    transfer(
        &["abnormal ae_id = "],
        "The device reports an error of a queue pair. The number (ae_id) is Intel's code for the reason.",
        REGISTER_AGAIN,
    ),
    Message::failure(
        RDMA,
        &[
            "irdma*Request Reset",
            "irdma*requesting a reset",
            "bnxt_en*irmware fatal",
            "bnxt_en*Firmware not responding",
            "bnxt_re*firmware is not responding",
            "bnxt_re*FW error state",
        ],
        DeviceLost,
        "The firmware of the network card failed, and its driver resets it. Its RDMA resources are lost.",
        "Wait for the reset, and update the firmware.",
    ),
    Message::uncaused_failure(
        RDMA,
        &["bnxt_re*Failed to register user MR", "Failed to register user MR"],
        "The Broadcom card rejected a memory registration.",
        "Register fewer or smaller regions, and update the firmware and the driver.",
    ),
    // rxe, siw and the RDMA core
    Message::failure(
        RDMA,
        &["rxe*rxe_create_qp: returned err = -22"],
        LimitReached,
        "The RDMA device does not support a queue pair of this size or with these attributes.",
        "Reduce the depth or the number of SGEs (`ibv_devinfo -v` shows max_qp_wr and max_sge).",
    ),
    Message::uncaused_failure(
        RDMA,
        &["rxe*reg_user_mr*returned err = ", "rxe*reg_user_mr_dmabuf failed, err = "],
        "The RDMA device rejected a memory registration. The number is the errno.",
        "Explain the errno with `peerpath explain ERRNO --step register-memory`, or `--step register` for a dma-buf.",
    ),
    Message::refusal(
        RDMA,
        &["rxe*already configured on"],
        InUse,
        "The network device already has a soft RDMA device.",
        "Use the existing device: `rdma link` lists it.",
    ),
    Message::failure(
        RDMA,
        &["rxe*dereg_mr*returned err = -16", "rxe*cleanup failed, err = -16"],
        InUse,
        "The memory region is still in use, for example by a memory window.",
        "Destroy the objects that use the memory region.",
    ),
    Message::uncaused_failure(
        RDMA,
        &["rxe*returned err = -", "rxe*cleanup failed, err = -"],
        "The RDMA device rejected a request of a program. The line names the function of the driver and the errno.",
        "Explain the errno with `peerpath explain ERRNO`.",
    ),
    Message::failure(
        RDMA,
        &["infiniband *: ib_query_port failed (-19)"],
        NoDevice,
        "The network device under the RDMA device does not exist (yet): it is being created, removed or moved to another \
         network namespace.",
        "If `rdma link` does not list the port as active, create the RDMA device again.",
    ),
    Message::uncaused_failure(
        RDMA,
        &["infiniband *: ib_query_port failed ("],
        "The kernel could not query a port of the RDMA device. The number is the errno.",
        "Check with `rdma link` that the device and its port exist.",
    ),
    Message::failure(
        RDMA,
        &["rxe*: Port: * Link DOWN", "siw*: Port: * Link DOWN", "mlx5*Port: * Link DOWN"],
        PortDown,
        "The port of the RDMA device is down: its network device lost the link or was switched off.",
        "Check with `rdma link` and `ip link`.",
    ),
    Message::normal(
        RDMA,
        &[
            "rxe*: Port: * Link ACTIVE",
            "infiniband *: set active",
            "infiniband *: set down",
            "infiniband *: added ",
            "rdma_rxe: loaded",
            "rdma_rxe: unloaded",
            "rxe*: Port: * state",
            "iwpm_register_pid:",
            "mlx5_core *: firmware version:",
            "mlx5_core *: Port module event",
            "mlx5_core *: PCIe slot advertised sufficient power",
            "mlx5_pcie_event*PCIe slot advertised sufficient power",
            "mlx5_core *: E-Switch:",
            "mlx5_core *: Rate limit:",
            "mlx5_core *: MLX5E:",
            "mlx5_core *: enabling device (",
            "mlx5_core *: renamed from",
            "mlx5_core *: Link ",
            "mlx5_ib: Mellanox Connect-IB Infiniband driver",
        ],
        "The RDMA device reports normal operation.",
    ),
];
