//! Errors of the CUDA driver.

use std::io;

use peerpath_paths::{Cause, Explained, Explanation, Severity, limit_of_open_files};

use crate::status::{self, Status};

/// Error of the CUDA driver. The type is small and cheap to create, because the data path returns it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The driver is not installed, or cannot be loaded.
    #[error("cannot load the CUDA driver")]
    NoLibrary {
        /// Message of the dynamic loader.
        why: String,
    },
    /// The driver lacks a function.
    #[error("the CUDA driver lacks {symbol}")]
    MissingSymbol {
        /// Name of the function.
        symbol: &'static str,
    },
    /// A call returned an error.
    #[error("{call} returned {name}")]
    Refused {
        /// Name of the called function.
        call: &'static str,
        /// Returned `CUresult`.
        code: i32,
        /// Name of the `CUresult`, from the driver.
        name: &'static str,
    },
    /// No GPU has this number.
    #[error("there is no GPU {index}")]
    NoGpu {
        /// Requested GPU number.
        index: u32,
        /// Number of GPUs.
        count: u32,
    },
    /// A call reported success but returned no result.
    #[error("{call} reported success but returned no result")]
    Nothing {
        /// Name of the called function.
        call: &'static str,
    },
}

impl Error {
    fn status(&self) -> Option<&'static Status> {
        match self {
            Self::Refused { code, .. } => status::of(*code),
            _ => None,
        }
    }

    /// Whether the GPU, or the context of this process on the GPU, is lost.
    pub fn is_loss(&self) -> bool {
        self.status().is_some_and(|status| status.cause == Some(Cause::DeviceLost))
    }

    /// Returns the driver's name of the error if it has one, otherwise a short description.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Refused { name, .. } => name,
            Self::NoLibrary { .. } => "no driver",
            Self::MissingSymbol { symbol } => symbol,
            Self::NoGpu { .. } => "no such GPU",
            Self::Nothing { call } => call,
        }
    }
}

impl Error {
    /// Returns the cause of the failure. `None` if it is unknown.
    pub fn cause(&self) -> Option<Cause> {
        self.explanation().cause
    }
}

impl Explained for Error {
    fn explanation(&self) -> Explanation {
        match self {
            Self::NoLibrary { why } => limit_of_open_files(&io::Error::other(why.clone())).unwrap_or_else(|| {
                Explanation::new(
                    Cause::LibraryMissing,
                    format!(
                        "The NVIDIA driver provides libcuda.so.1. The loader reports: {}.",
                        why.trim_end_matches('.')
                    ),
                    "Install the driver (libcuda1 or nvidia-driver-cuda), or add its folder to LD_LIBRARY_PATH.",
                )
            }),
            Self::MissingSymbol { symbol } => Explanation::new(
                Cause::DriverTooOld,
                format!("{symbol} needs a newer driver."),
                "Install a newer NVIDIA driver.",
            ),
            Self::Refused { code, .. } => match self.status() {
                Some(status) => Explanation {
                    cause: status.cause,
                    severity: Some(status.severity),
                    why: status.why.into(),
                    remedy: status.remedy.into(),
                },
                None => Explanation::uncaused(
                    format!("The driver returned the unknown error {code}."),
                    "Check the kernel log (dmesg) for lines with NVRM or Xid.",
                ),
            },
            Self::NoGpu { count, .. } => Explanation::new(
                Cause::NoDevice,
                match count {
                    0 => "The driver reports no GPU.".to_owned(),
                    1 => "The driver reports one GPU, with number 0.".to_owned(),
                    count => format!("The driver reports {count} GPUs, numbered from 0."),
                },
                "Name a GPU that `nvidia-smi -L` lists, and check CUDA_VISIBLE_DEVICES.",
            ),
            Self::Nothing { .. } => Explanation::uncaused(
                "The NVIDIA driver returned a value that its API does not define.",
                "Use another version of the driver.",
            ),
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Self::NoLibrary { .. } | Self::MissingSymbol { .. } => Severity::Unavailable,
            Self::NoGpu { .. } => Severity::BadInput,
            Self::Refused { .. } => self.status().map_or(Severity::Failed, |status| status.severity),
            Self::Nothing { .. } => Severity::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i32) -> Error {
        Error::Refused { call: "cuSomething", code, name: "CUDA_ERROR_SOMETHING" }
    }

    #[test]
    fn lost_gpu_is_a_failure_and_not_a_refusal() {
        // The list includes every code after which cuda.h requires the process to be restarted.
        for code in [214, 220, 226, 700, 702, 709, 714, 715, 716, 717, 718, 719] {
            assert!(refused(code).is_loss() && refused(code).severity() == Severity::Failed, "{code}");
        }
        // A GPU that another process uses in exclusive mode (46) is not lost.
        for code in [1, 46, 304, 800, 801] {
            assert!(!refused(code).is_loss() && refused(code).severity() == Severity::Unavailable, "{code}");
        }
    }

    #[test]
    fn unknown_code_has_no_cause() {
        let error = refused(4711);
        assert_eq!((error.explanation().cause, error.severity()), (None, Severity::Failed));
        assert!(error.explanation().why.contains("4711"));
    }
}
