//! What the driver's error codes mean, and what to do about them: each once.

use cudarc::driver::sys::CUresult;
use peerpath_paths::{Cause, Severity};

/// A code of `CUresult`.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) code: i32,
    pub(crate) cause: Option<Cause>,
    pub(crate) severity: Severity,
    pub(crate) why: &'static str,
    pub(crate) remedy: &'static str,
}

/// What the driver will not do, here or with this.
const fn refusal(code: CUresult, cause: Cause, why: &'static str, remedy: &'static str) -> Status {
    Status { code: code as i32, cause: Some(cause), severity: Severity::Unavailable, why, remedy }
}

/// What went wrong although it could have worked.
const fn failure(code: CUresult, cause: Cause, why: &'static str, remedy: &'static str) -> Status {
    Status { code: code as i32, cause: Some(cause), severity: Severity::Failed, why, remedy }
}

const XID: &str = "Look at the kernel log (dmesg) for Xid messages, then reset the GPU: nvidia-smi --gpu-reset.";

static STATUS: &[Status] = &[
    refusal(
        CUresult::CUDA_ERROR_INVALID_VALUE,
        Cause::MechanismRefused,
        "The driver does not take this memory, this handle or one of these flags.",
        "Choose another --mechanism; other memory or a newer driver may be taken.",
    ),
    refusal(
        CUresult::CUDA_ERROR_OUT_OF_MEMORY,
        Cause::LimitReached,
        "The GPU, or its BAR1, has no room left for so much.",
        "Ask for less, or end what else uses the GPU.",
    ),
    refusal(
        CUresult::CUDA_ERROR_NOT_INITIALIZED,
        Cause::NoDevice,
        "The driver could not be started.",
        "Look at what `nvidia-smi` says.",
    ),
    failure(
        CUresult::CUDA_ERROR_DEINITIALIZED,
        Cause::DeviceLost,
        "The driver has been shut down in this process.",
        "Run it again.",
    ),
    refusal(
        CUresult::CUDA_ERROR_STUB_LIBRARY,
        Cause::LibraryMissing,
        "This libcuda is the stub that programs are linked with, and no driver.",
        "Take the folder `stubs` out of LD_LIBRARY_PATH.",
    ),
    refusal(
        CUresult::CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER,
        Cause::DriverTooOld,
        "The function came with a newer driver than this one.",
        "Install a newer driver of NVIDIA's.",
    ),
    refusal(
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE,
        Cause::InUse,
        "The GPU cannot be had now: another process has it for itself, its compute mode lets nobody, or it awaits a reset.",
        "Look at `nvidia-smi -q -d COMPUTE,PIDS`, then at the kernel log (dmesg) for Xid messages.",
    ),
    refusal(
        CUresult::CUDA_ERROR_NO_DEVICE,
        Cause::NoDevice,
        "The driver sees no GPU of NVIDIA's.",
        "Look at what `nvidia-smi` says, and at CUDA_VISIBLE_DEVICES; in a container, at how GPUs are handed to it.",
    ),
    refusal(
        CUresult::CUDA_ERROR_INVALID_DEVICE,
        Cause::NoDevice,
        "The driver does not know this GPU.",
        "Name one of those that `peerpath list` shows.",
    ),
    failure(
        CUresult::CUDA_ERROR_MAP_FAILED,
        Cause::MechanismRefused,
        "The memory could not be mapped for the GPU.",
        "Choose another --mechanism.",
    ),
    failure(
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU,
        Cause::DriverTooOld,
        "The driver cannot translate our kernels for this GPU.",
        "Use copy_in and copy_out, or another version of the driver.",
    ),
    failure(
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
        Cause::DeviceLost,
        "The GPU has met an error in its memory that it cannot correct.",
        XID,
    ),
    refusal(
        CUresult::CUDA_ERROR_PEER_ACCESS_UNSUPPORTED,
        Cause::Topology,
        "The driver lets these two GPUs not reach each other.",
        "Look at `nvidia-smi topo -p2p rw`; GPUs below one switch, or with NVLink, can.",
    ),
    failure(
        CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
        Cause::DeviceLost,
        "An NVLink of the GPU has met an error that it cannot correct.",
        XID,
    ),
    refusal(
        CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND,
        Cause::LibraryMissing,
        "The driver's compiler for kernels is not installed (libnvidia-ptxjitcompiler).",
        "Install the whole driver, or use copy_in and copy_out.",
    ),
    refusal(
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
        Cause::DriverTooOld,
        "The driver is older than the language that our kernels are written in.",
        "Install a newer driver, or use copy_in and copy_out.",
    ),
    refusal(
        CUresult::CUDA_ERROR_JIT_COMPILATION_DISABLED,
        Cause::DriverTooOld,
        "Compiling kernels has been switched off (CUDA_DISABLE_PTX_JIT).",
        "Unset it, or use copy_in and copy_out.",
    ),
    failure(
        CUresult::CUDA_ERROR_CONTAINED,
        Cause::DeviceLost,
        "The GPU has met an error, and ended the work that it touched.",
        XID,
    ),
    refusal(
        CUresult::CUDA_ERROR_OPERATING_SYSTEM,
        Cause::MechanismRefused,
        "The operating system refused a call of the driver's.",
        "Look at the kernel log (dmesg) for lines with NVRM; choose another --mechanism.",
    ),
    refusal(
        CUresult::CUDA_ERROR_INVALID_HANDLE,
        Cause::MechanismRefused,
        "The driver does not take this handle.",
        "Choose another --mechanism.",
    ),
    failure(
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        Cause::DeviceLost,
        "The GPU accessed memory that is not mapped for it, or that was taken back.",
        XID,
    ),
    failure(
        CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
        Cause::DeviceLost,
        "Work on the GPU took longer than the driver allows, as it does where the GPU drives a screen.",
        "Use smaller sizes, or a GPU without a screen.",
    ),
    failure(
        CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
        Cause::DeviceLost,
        "What this process had of the GPU has been destroyed.",
        "Run it again.",
    ),
    refusal(
        CUresult::CUDA_ERROR_TOO_MANY_PEERS,
        Cause::LimitReached,
        "The GPU reaches as many other GPUs as it can.",
        "Use fewer GPUs in one run.",
    ),
    refusal(
        CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
        Cause::InUse,
        "Part of this memory is registered with the driver already.",
        "Leave out the other use of the same memory.",
    ),
    failure(
        CUresult::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
        Cause::MechanismRefused,
        "The driver does not know this memory.",
        "Report this as a bug.",
    ),
    failure(CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR, Cause::DeviceLost, "The GPU's stack was damaged.", XID),
    failure(
        CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
        Cause::DeviceLost,
        "The GPU met an instruction that it does not have.",
        XID,
    ),
    failure(
        CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
        Cause::DeviceLost,
        "The GPU accessed memory at an address that is no multiple of the word.",
        XID,
    ),
    failure(
        CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
        Cause::DeviceLost,
        "The GPU accessed memory in a way that is not for it.",
        XID,
    ),
    failure(CUresult::CUDA_ERROR_INVALID_PC, Cause::DeviceLost, "The GPU lost its place in a kernel.", XID),
    failure(CUresult::CUDA_ERROR_LAUNCH_FAILED, Cause::DeviceLost, "A kernel on the GPU ended by an error.", XID),
    refusal(
        CUresult::CUDA_ERROR_NOT_PERMITTED,
        Cause::NoPermission,
        "The driver does not let this user do that.",
        "Run as root; registering I/O memory needs it.",
    ),
    refusal(
        CUresult::CUDA_ERROR_NOT_SUPPORTED,
        Cause::MechanismRefused,
        "This driver, this GPU or this operating system does not offer it.",
        "Choose another --mechanism; the open kernel modules and a newer driver offer more.",
    ),
    refusal(
        CUresult::CUDA_ERROR_SYSTEM_NOT_READY,
        Cause::NoDevice,
        "The system is not ready for CUDA yet: the Fabric Manager does not run, or is another version.",
        "Start nvidia-fabricmanager of the driver's version.",
    ),
    refusal(
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
        Cause::DriverTooOld,
        "libcuda and the kernel module are of different versions.",
        "Load the module of the installed version, or boot again.",
    ),
    refusal(
        CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE,
        Cause::DriverTooOld,
        "This GPU does not take libcuda of a newer version than the kernel module.",
        "Install the driver as a whole, without compatibility packages.",
    ),
    refusal(
        CUresult::CUDA_ERROR_UNKNOWN,
        Cause::MechanismRefused,
        "The driver failed inside and does not say why.",
        "Look at the kernel log (dmesg) for lines with NVRM or Xid.",
    ),
];

/// What a code means; none where nobody has written it down.
pub(crate) fn of(code: i32) -> Option<&'static Status> {
    STATUS.iter().find(|status| status.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_once_and_in_sentences() {
        let mut codes: Vec<_> = STATUS.iter().map(|status| status.code).collect();
        assert!(codes.is_sorted());
        codes.dedup();
        assert_eq!(codes.len(), STATUS.len());
        for status in STATUS {
            assert!(status.why.ends_with('.') && status.remedy.ends_with('.'), "{status:?}");
        }
    }
}
