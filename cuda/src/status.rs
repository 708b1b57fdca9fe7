//! Meaning and remedy of the driver's error codes.

use cudarc::driver::sys::CUresult;
use peerpath_paths::{Cause, Severity};

/// Meaning and remedy of a `CUresult`.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) code: i32,
    pub(crate) cause: Option<Cause>,
    pub(crate) severity: Severity,
    pub(crate) why: &'static str,
    pub(crate) remedy: &'static str,
}

/// Creates the status of an operation that this host or this memory does not support.
const fn refusal(code: CUresult, cause: Cause, why: &'static str, remedy: &'static str) -> Status {
    Status { code: code as i32, cause: Some(cause), severity: Severity::Unavailable, why, remedy }
}

/// Creates the status of a supported operation that failed.
const fn failure(code: CUresult, cause: Cause, why: &'static str, remedy: &'static str) -> Status {
    Status { code: code as i32, cause: Some(cause), severity: Severity::Failed, why, remedy }
}

const XID: &str = "Check the kernel log (dmesg) for Xid messages, then reset the GPU: nvidia-smi --gpu-reset.";

static STATUS: &[Status] = &[
    refusal(
        CUresult::CUDA_ERROR_INVALID_VALUE,
        Cause::MechanismRefused,
        "The driver rejects this memory, this handle or one of these flags.",
        "Use another mechanism, other memory or a newer driver.",
    ),
    refusal(
        CUresult::CUDA_ERROR_OUT_OF_MEMORY,
        Cause::LimitReached,
        "The GPU, or its BAR1, has not enough free space.",
        "Use less memory, or stop other users of the GPU.",
    ),
    refusal(
        CUresult::CUDA_ERROR_NOT_INITIALIZED,
        Cause::NoDevice,
        "The driver cannot initialize.",
        "Check the output of `nvidia-smi`.",
    ),
    failure(
        CUresult::CUDA_ERROR_DEINITIALIZED,
        Cause::DeviceLost,
        "The driver has shut down in this process.",
        "Start the program again.",
    ),
    refusal(
        CUresult::CUDA_ERROR_STUB_LIBRARY,
        Cause::LibraryMissing,
        "This libcuda is the stub library for linking, not the driver.",
        "Remove the folder `stubs` from LD_LIBRARY_PATH.",
    ),
    refusal(
        CUresult::CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER,
        Cause::DriverTooOld,
        "The function needs a newer driver.",
        "Install a newer NVIDIA driver.",
    ),
    refusal(
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE,
        Cause::InUse,
        "The GPU is unavailable: another process uses it exclusively, its compute mode prohibits use, or it needs a reset.",
        "Check `nvidia-smi -q -d COMPUTE,PIDS`, then the kernel log (dmesg) for Xid messages.",
    ),
    refusal(
        CUresult::CUDA_ERROR_NO_DEVICE,
        Cause::NoDevice,
        "The driver finds no NVIDIA GPU.",
        "Check `nvidia-smi` and CUDA_VISIBLE_DEVICES; in a container, check that GPUs are passed to it.",
    ),
    refusal(
        CUresult::CUDA_ERROR_INVALID_DEVICE,
        Cause::NoDevice,
        "The driver does not know this GPU.",
        "Name a GPU that `nvidia-smi -L` lists.",
    ),
    failure(
        CUresult::CUDA_ERROR_MAP_FAILED,
        Cause::MechanismRefused,
        "The driver cannot map the memory for the GPU.",
        "Use another mechanism.",
    ),
    failure(
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU,
        Cause::DriverTooOld,
        "The driver cannot compile the copy kernels for this GPU.",
        "Use the copy engines (copy_in, copy_out), or another version of the driver.",
    ),
    failure(
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
        Cause::DeviceLost,
        "The GPU detected an uncorrectable memory error.",
        XID,
    ),
    refusal(
        CUresult::CUDA_ERROR_PEER_ACCESS_UNSUPPORTED,
        Cause::Topology,
        "These two GPUs cannot access each other.",
        "Check `nvidia-smi topo -p2p rw`; use GPUs below one switch, or with NVLink.",
    ),
    failure(
        CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
        Cause::DeviceLost,
        "The GPU detected an uncorrectable NVLink error.",
        XID,
    ),
    refusal(
        CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND,
        Cause::LibraryMissing,
        "The driver's compiler for kernels is not installed (libnvidia-ptxjitcompiler).",
        "Install the complete driver, or use the copy engines (copy_in, copy_out).",
    ),
    refusal(
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
        Cause::DriverTooOld,
        "The driver does not support the PTX version of the copy kernels.",
        "Install a newer driver, or use the copy engines (copy_in, copy_out).",
    ),
    refusal(
        CUresult::CUDA_ERROR_JIT_COMPILATION_DISABLED,
        Cause::DriverTooOld,
        "CUDA_DISABLE_PTX_JIT disables the compilation of kernels.",
        "Unset the variable, or use the copy engines (copy_in, copy_out).",
    ),
    failure(
        CUresult::CUDA_ERROR_CONTAINED,
        Cause::DeviceLost,
        "The GPU aborted the affected work to contain an error.",
        XID,
    ),
    refusal(
        CUresult::CUDA_ERROR_OPERATING_SYSTEM,
        Cause::MechanismRefused,
        "A system call of the driver failed.",
        "Check the kernel log (dmesg) for lines with NVRM; use another mechanism.",
    ),
    refusal(
        CUresult::CUDA_ERROR_INVALID_HANDLE,
        Cause::MechanismRefused,
        "The driver rejects this handle.",
        "Use another mechanism.",
    ),
    failure(
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        Cause::DeviceLost,
        "The GPU accessed memory that is not mapped, or that was revoked.",
        XID,
    ),
    failure(
        CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
        Cause::DeviceLost,
        "A CUDA kernel exceeded the run time limit that the driver applies to GPUs with a display.",
        "Use smaller sizes, or a GPU without a display.",
    ),
    failure(
        CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
        Cause::DeviceLost,
        "The context of this process was destroyed.",
        "Start the program again.",
    ),
    refusal(
        CUresult::CUDA_ERROR_TOO_MANY_PEERS,
        Cause::LimitReached,
        "The GPU already accesses the maximum number of other GPUs.",
        "Use fewer GPUs at a time.",
    ),
    refusal(
        CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
        Cause::InUse,
        "Part of this memory is already registered with the driver.",
        "Register the memory only once.",
    ),
    failure(
        CUresult::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
        Cause::MechanismRefused,
        "The driver does not know this memory.",
        "Report this as a bug.",
    ),
    failure(
        CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
        Cause::DeviceLost,
        "A CUDA kernel corrupted its call stack or exceeded the stack limit.",
        XID,
    ),
    failure(
        CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
        Cause::DeviceLost,
        "A CUDA kernel executed an illegal instruction.",
        XID,
    ),
    failure(
        CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
        Cause::DeviceLost,
        "A CUDA kernel accessed a misaligned address.",
        XID,
    ),
    failure(
        CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
        Cause::DeviceLost,
        "A CUDA kernel used an instruction on memory of the wrong address space.",
        XID,
    ),
    failure(
        CUresult::CUDA_ERROR_INVALID_PC,
        Cause::DeviceLost,
        "The program counter of a CUDA kernel is invalid.",
        XID,
    ),
    failure(CUresult::CUDA_ERROR_LAUNCH_FAILED, Cause::DeviceLost, "A CUDA kernel failed on the GPU.", XID),
    refusal(
        CUresult::CUDA_ERROR_NOT_PERMITTED,
        Cause::NoPermission,
        "The driver does not permit this operation for this user.",
        "Run as root: only root can register I/O memory.",
    ),
    refusal(
        CUresult::CUDA_ERROR_NOT_SUPPORTED,
        Cause::MechanismRefused,
        "This driver, this GPU or this operating system does not support the operation.",
        "Use another mechanism; the open kernel modules and newer drivers support more.",
    ),
    refusal(
        CUresult::CUDA_ERROR_SYSTEM_NOT_READY,
        Cause::NoDevice,
        "The system is not ready for CUDA: the Fabric Manager is not running, or its version differs from the driver's.",
        "Start nvidia-fabricmanager of the same version as the driver.",
    ),
    refusal(
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
        Cause::DriverTooOld,
        "libcuda and the kernel module have different versions.",
        "Load the kernel module of the same version as libcuda, or reboot.",
    ),
    refusal(
        CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE,
        Cause::DriverTooOld,
        "This GPU does not support a libcuda that is newer than the kernel module.",
        "Install the complete driver, without compatibility packages.",
    ),
    refusal(
        CUresult::CUDA_ERROR_UNKNOWN,
        Cause::MechanismRefused,
        "The driver reports an internal failure without a reason.",
        "Check the kernel log (dmesg) for lines with NVRM or Xid.",
    ),
];

/// Returns the meaning of a `CUresult`. `None` if it is unknown.
pub(crate) fn of(code: i32) -> Option<&'static Status> {
    STATUS.iter().find(|status| status.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_each_code_once_with_full_sentences() {
        let mut codes: Vec<_> = STATUS.iter().map(|status| status.code).collect();
        assert!(codes.is_sorted());
        codes.dedup();
        assert_eq!(codes.len(), STATUS.len());
        for status in STATUS {
            assert!(status.why.ends_with('.') && status.remedy.ends_with('.'), "{status:?}");
        }
    }
}
