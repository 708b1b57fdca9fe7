//! What the driver's error codes mean, and what to do about them: each once.

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
const fn refusal(code: i32, cause: Cause, why: &'static str, remedy: &'static str) -> Status {
    Status { code, cause: Some(cause), severity: Severity::Unavailable, why, remedy }
}

/// What went wrong although it could have worked.
const fn failure(code: i32, cause: Cause, why: &'static str, remedy: &'static str) -> Status {
    Status { code, cause: Some(cause), severity: Severity::Failed, why, remedy }
}

const XID: &str = "Look at the kernel log (dmesg) for Xid messages, then reset the GPU: nvidia-smi --gpu-reset.";

static STATUS: &[Status] = &[
    refusal(
        1,
        Cause::MechanismRefused,
        "The driver does not take this memory, this handle or one of these flags.",
        "Choose another --mechanism; other memory or a newer driver may be taken.",
    ),
    refusal(
        2,
        Cause::LimitReached,
        "The GPU, or its BAR1, has no room left for so much.",
        "Ask for less, or end what else uses the GPU.",
    ),
    refusal(3, Cause::NoDevice, "The driver could not be started.", "Look at what `nvidia-smi` says."),
    failure(4, Cause::DeviceLost, "The driver has been shut down in this process.", "Run it again."),
    refusal(
        34,
        Cause::LibraryMissing,
        "This libcuda is the stub that programs are linked with, and no driver.",
        "Take the folder `stubs` out of LD_LIBRARY_PATH.",
    ),
    refusal(
        36,
        Cause::DriverTooOld,
        "The function came with a newer driver than this one.",
        "Install a newer driver of NVIDIA's.",
    ),
    refusal(
        46,
        Cause::InUse,
        "The GPU cannot be had now: another process has it for itself, its compute mode lets nobody, or it awaits a reset.",
        "Look at `nvidia-smi -q -d COMPUTE,PIDS`, then at the kernel log (dmesg) for Xid messages.",
    ),
    refusal(
        100,
        Cause::NoDevice,
        "The driver sees no GPU of NVIDIA's.",
        "Look at what `nvidia-smi` says, and at CUDA_VISIBLE_DEVICES; in a container, at how GPUs are handed to it.",
    ),
    refusal(
        101,
        Cause::NoDevice,
        "The driver does not know this GPU.",
        "Name one of those that `peerpath list` shows.",
    ),
    failure(205, Cause::MechanismRefused, "The memory could not be mapped for the GPU.", "Choose another --mechanism."),
    failure(
        209,
        Cause::DriverTooOld,
        "The driver cannot translate our kernels for this GPU.",
        "Use copy_in and copy_out, or another version of the driver.",
    ),
    failure(214, Cause::DeviceLost, "The GPU has met an error in its memory that it cannot correct.", XID),
    refusal(
        217,
        Cause::Topology,
        "The driver lets these two GPUs not reach each other.",
        "Look at `nvidia-smi topo -p2p rw`; GPUs below one switch, or with NVLink, can.",
    ),
    failure(220, Cause::DeviceLost, "An NVLink of the GPU has met an error that it cannot correct.", XID),
    refusal(
        221,
        Cause::LibraryMissing,
        "The driver's compiler for kernels is not installed (libnvidia-ptxjitcompiler).",
        "Install the whole driver, or use copy_in and copy_out.",
    ),
    refusal(
        222,
        Cause::DriverTooOld,
        "The driver is older than the language that our kernels are written in.",
        "Install a newer driver, or use copy_in and copy_out.",
    ),
    refusal(
        223,
        Cause::DriverTooOld,
        "Compiling kernels has been switched off (CUDA_DISABLE_PTX_JIT).",
        "Unset it, or use copy_in and copy_out.",
    ),
    failure(226, Cause::DeviceLost, "The GPU has met an error, and ended the work that it touched.", XID),
    refusal(
        304,
        Cause::MechanismRefused,
        "The operating system refused a call of the driver's.",
        "Look at the kernel log (dmesg) for lines with NVRM; choose another --mechanism.",
    ),
    refusal(400, Cause::MechanismRefused, "The driver does not take this handle.", "Choose another --mechanism."),
    failure(700, Cause::DeviceLost, "The GPU accessed memory that is not mapped for it, or that was taken back.", XID),
    failure(
        702,
        Cause::DeviceLost,
        "Work on the GPU took longer than the driver allows, as it does where the GPU drives a screen.",
        "Use smaller sizes, or a GPU without a screen.",
    ),
    failure(709, Cause::DeviceLost, "What this process had of the GPU has been destroyed.", "Run it again."),
    refusal(711, Cause::LimitReached, "The GPU reaches as many other GPUs as it can.", "Use fewer GPUs in one run."),
    refusal(
        712,
        Cause::InUse,
        "Part of this memory is registered with the driver already.",
        "Leave out the other use of the same memory.",
    ),
    failure(713, Cause::MechanismRefused, "The driver does not know this memory.", "Report this as a bug."),
    failure(714, Cause::DeviceLost, "The GPU's stack was damaged.", XID),
    failure(715, Cause::DeviceLost, "The GPU met an instruction that it does not have.", XID),
    failure(716, Cause::DeviceLost, "The GPU accessed memory at an address that is no multiple of the word.", XID),
    failure(717, Cause::DeviceLost, "The GPU accessed memory in a way that is not for it.", XID),
    failure(718, Cause::DeviceLost, "The GPU lost its place in a kernel.", XID),
    failure(719, Cause::DeviceLost, "A kernel on the GPU ended by an error.", XID),
    refusal(
        800,
        Cause::NoPermission,
        "The driver does not let this user do that.",
        "Run as root; registering I/O memory needs it.",
    ),
    refusal(
        801,
        Cause::MechanismRefused,
        "This driver, this GPU or this operating system does not offer it.",
        "Choose another --mechanism; the open kernel modules and a newer driver offer more.",
    ),
    refusal(
        802,
        Cause::NoDevice,
        "The system is not ready for CUDA yet: the Fabric Manager does not run, or is another version.",
        "Start nvidia-fabricmanager of the driver's version.",
    ),
    refusal(
        803,
        Cause::DriverTooOld,
        "libcuda and the kernel module are of different versions.",
        "Load the module of the installed version, or boot again.",
    ),
    refusal(
        804,
        Cause::DriverTooOld,
        "This GPU does not take libcuda of a newer version than the kernel module.",
        "Install the driver as a whole, without compatibility packages.",
    ),
    refusal(
        999,
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

    #[test]
    fn the_codes_are_those_of_the_header() {
        use cudarc::driver::sys::CUresult;
        for (code, theirs) in [
            (1, CUresult::CUDA_ERROR_INVALID_VALUE),
            (2, CUresult::CUDA_ERROR_OUT_OF_MEMORY),
            (3, CUresult::CUDA_ERROR_NOT_INITIALIZED),
            (4, CUresult::CUDA_ERROR_DEINITIALIZED),
            (34, CUresult::CUDA_ERROR_STUB_LIBRARY),
            (36, CUresult::CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER),
            (46, CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE),
            (100, CUresult::CUDA_ERROR_NO_DEVICE),
            (101, CUresult::CUDA_ERROR_INVALID_DEVICE),
            (205, CUresult::CUDA_ERROR_MAP_FAILED),
            (209, CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU),
            (214, CUresult::CUDA_ERROR_ECC_UNCORRECTABLE),
            (217, CUresult::CUDA_ERROR_PEER_ACCESS_UNSUPPORTED),
            (220, CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE),
            (221, CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND),
            (222, CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION),
            (223, CUresult::CUDA_ERROR_JIT_COMPILATION_DISABLED),
            (226, CUresult::CUDA_ERROR_CONTAINED),
            (304, CUresult::CUDA_ERROR_OPERATING_SYSTEM),
            (400, CUresult::CUDA_ERROR_INVALID_HANDLE),
            (700, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS),
            (702, CUresult::CUDA_ERROR_LAUNCH_TIMEOUT),
            (709, CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED),
            (711, CUresult::CUDA_ERROR_TOO_MANY_PEERS),
            (712, CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED),
            (713, CUresult::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED),
            (714, CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR),
            (715, CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION),
            (716, CUresult::CUDA_ERROR_MISALIGNED_ADDRESS),
            (717, CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE),
            (718, CUresult::CUDA_ERROR_INVALID_PC),
            (719, CUresult::CUDA_ERROR_LAUNCH_FAILED),
            (800, CUresult::CUDA_ERROR_NOT_PERMITTED),
            (801, CUresult::CUDA_ERROR_NOT_SUPPORTED),
            (802, CUresult::CUDA_ERROR_SYSTEM_NOT_READY),
            (803, CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH),
            (804, CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE),
            (999, CUresult::CUDA_ERROR_UNKNOWN),
        ] {
            assert_eq!(code, theirs as i32);
            assert!(of(code).is_some(), "{theirs:?}");
        }
    }
}
