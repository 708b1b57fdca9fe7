//! What can go wrong with the driver.

use peerpath_paths::{Cause, Explained, Explanation, Severity};

use crate::status::{self, Status};

/// See the variants. Small and without memory of its own: it is made on the way of data, too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no driver.
    #[error("the CUDA driver could not be loaded")]
    NoLibrary {
        /// What the loader said.
        why: String,
    },
    /// The driver lacks a function.
    #[error("the CUDA driver has no {symbol}")]
    MissingSymbol {
        /// Its name.
        symbol: &'static str,
    },
    /// The driver answered with an error.
    #[error("{call} answered {name}")]
    Refused {
        /// The function.
        call: &'static str,
        /// `CUresult`.
        code: i32,
        /// The driver's own name of it.
        name: &'static str,
    },
    /// The host has GPUs, but not that one.
    #[error("there is no GPU {index}")]
    NoGpu {
        /// Which one was named.
        index: u32,
        /// How many there are.
        count: u32,
    },
    /// A call succeeded and gave nothing.
    #[error("{call} succeeded and gave nothing")]
    Nothing {
        /// The function.
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

    /// Whether the GPU, or what this process has of it, is gone for good.
    pub fn is_loss(&self) -> bool {
        self.status().is_some_and(|status| status.cause == Some(Cause::DeviceLost))
    }

    /// The driver's own word, or what stands for it.
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

impl Explained for Error {
    fn explanation(&self) -> Explanation {
        match self {
            Self::NoLibrary { why } => Explanation::new(
                Cause::LibraryMissing,
                format!("libcuda.so.1 comes with NVIDIA's driver, and the loader said: {}.", why.trim_end_matches('.')),
                "Install the driver (libcuda1, nvidia-driver-cuda or the like), or put its folder into LD_LIBRARY_PATH.",
            ),
            Self::MissingSymbol { symbol } => Explanation::new(
                Cause::DriverTooOld,
                format!("{symbol} came with a newer driver than this one."),
                "Install a newer driver of NVIDIA's.",
            ),
            Self::Refused { code, .. } => match self.status() {
                Some(status) => Explanation {
                    cause: status.cause,
                    severity: Some(status.severity),
                    why: status.why.into(),
                    remedy: status.remedy.into(),
                },
                None => Explanation::uncaused(
                    format!("It is error {code} of the driver, whose meaning nobody has written down here."),
                    "Look at the kernel log (dmesg) for lines with NVRM or Xid.",
                ),
            },
            Self::NoGpu { count, .. } => Explanation::new(
                Cause::NoDevice,
                match count {
                    0 => "The driver has no GPU.".to_owned(),
                    1 => "The driver has one GPU: 0.".to_owned(),
                    count => format!("The driver has {count} GPUs, counted from 0."),
                },
                "Name one of those that `peerpath list` shows, or look at CUDA_VISIBLE_DEVICES.",
            ),
            Self::Nothing { .. } => {
                Explanation::uncaused("The driver broke its own contract.", "Try another version of the driver.")
            }
        }
    }

    fn severity(&self) -> Severity {
        match self {
            // Where there is no GPU at all, no number would do.
            Self::NoLibrary { .. } | Self::MissingSymbol { .. } | Self::NoGpu { count: 0, .. } => Severity::Unavailable,
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
    fn a_lost_gpu_is_no_refusal() {
        // Everything that cuda.h says of that the process has to be started anew, among it.
        for code in [214, 220, 226, 700, 702, 709, 714, 715, 716, 717, 718, 719] {
            assert!(refused(code).is_loss() && refused(code).severity() == Severity::Failed, "{code}");
        }
        // A GPU that another process has for itself (46) is not lost.
        for code in [1, 46, 304, 800, 801] {
            assert!(!refused(code).is_loss() && refused(code).severity() == Severity::Unavailable, "{code}");
        }
    }

    #[test]
    fn a_code_of_a_newer_driver_is_named_and_not_interpreted() {
        let error = refused(4711);
        assert_eq!((error.explanation().cause, error.severity()), (None, Severity::Failed));
        assert!(error.explanation().why.contains("4711"));
    }
}
