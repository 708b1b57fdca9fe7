//! Errors of the GPU importer.

use std::io;

use peerpath_cuda::Error as DriverError;
use peerpath_exporter::SourceKind;
use peerpath_paths::{Cause, Explained, Explanation, Severity};

use super::address::{AddressError, FORM};
use super::mechanism::{Mechanism, SPECS};

/// Error of the GPU importer. Each variant names the operation that failed; [`Error::cause`] and the explanation give the
/// reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of a GPU is malformed.
    #[error("cannot use {target:?} as a target")]
    Address {
        /// Target with this address, truncated for display.
        target: String,
        /// Reason why the text is not an address.
        source: AddressError,
    },
    /// The GPU cannot be opened.
    #[error("cannot use GPU {gpu}: {source}")]
    Open {
        /// GPU number in the driver's enumeration, from 0.
        gpu: u32,
        /// Error that the CUDA driver returned.
        source: DriverError,
    },
    /// Every mechanism failed to give the GPU access to the buffer.
    #[error("GPU {gpu} cannot reach {}: {}", of(*.kind), list(.refused))]
    NoMechanism {
        /// GPU number in the driver's enumeration, from 0.
        gpu: u32,
        /// Kind of memory that the buffer contains.
        kind: SourceKind,
        /// Each mechanism that was tried, and the reason why it failed.
        refused: Vec<(Mechanism, Refusal)>,
    },
    /// The GPU is lost, or a driver call for this GPU failed.
    #[error("GPU {gpu} failed: {source}")]
    Failed {
        /// GPU number in the driver's enumeration, from 0.
        gpu: u32,
        /// Error that the CUDA driver returned.
        source: DriverError,
    },
    /// The driver did not unregister a buffer.
    #[error("cannot unregister a buffer from GPU {gpu}: {source}")]
    Release {
        /// GPU number in the driver's enumeration, from 0.
        gpu: u32,
        /// Error that the CUDA driver returned.
        source: DriverError,
    },
    /// The GPU does not have enough free memory for initiator memory (the memory that the buffer exchanges data with).
    #[error("cannot allocate {bytes} bytes of memory of GPU {gpu}: {source}")]
    FarMemory {
        /// GPU number in the driver's enumeration, from 0.
        gpu: u32,
        /// Requested initiator memory, in bytes.
        bytes: u64,
        /// Error that the CUDA driver returned.
        source: DriverError,
    },
    /// The driver did not compile the copy kernels.
    #[error("cannot compile the copy kernels for GPU {gpu}: {source}")]
    Kernels {
        /// GPU number in the driver's enumeration, from 0.
        gpu: u32,
        /// Error that the CUDA driver returned.
        source: DriverError,
    },
    /// The caller requested transfers that the responder posts ([`crate::DataPlaneSettings::both_sides`]).
    #[error("GPU {gpu} cannot run transfers in both directions at once")]
    OneSide {
        /// GPU number in the driver's enumeration, from 0.
        gpu: u32,
    },
    /// An offset or the length is not aligned for a copy kernel.
    #[error(
        "a copy kernel cannot copy {length_bytes} bytes between offset {buffer_offset:#x} of the buffer and offset \
         {far_offset:#x} of the GPU memory"
    )]
    NotAligned {
        /// Length of the transfer, in bytes.
        length_bytes: u32,
        /// Offset in the buffer, in bytes.
        buffer_offset: u64,
        /// Offset in initiator memory, in bytes.
        far_offset: u64,
    },
    /// The transfer exceeds the buffer or initiator memory.
    #[error("cannot post a transfer: {why}")]
    Transfer {
        /// Bound that the transfer exceeds.
        why: String,
    },
    /// An earlier transfer failed, so the data plane accepts no more transfers.
    #[error("cannot post a transfer: an earlier transfer failed")]
    Ended,
}

/// Reason why a mechanism does not give the GPU access to a buffer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The mechanism does not apply to this kind of memory.
    #[error("{0}")]
    NotApplicable(&'static str),
    /// The file descriptor of the dma-buf cannot be duplicated.
    #[error("cannot duplicate the file descriptor: {0}")]
    Duplicate(#[from] io::Error),
    /// The driver refused the import or the registration.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

fn of(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Vfio => "a BAR",
        SourceKind::Cuda => "memory of a GPU",
        SourceKind::Udmabuf | SourceKind::Heap | SourceKind::Host => "host memory",
    }
}

fn list(refused: &[(Mechanism, Refusal)]) -> String {
    let each = refused.iter().map(|(mechanism, refusal)| format!("{}: {refusal}", mechanism.as_str()));
    each.collect::<Vec<_>>().join("; ")
}

/// Explains that no mechanism worked: the condition of each tried mechanism, and a remedy that names the untried ones.
fn no_mechanism(kind: SourceKind, refused: &[(Mechanism, Refusal)]) -> Explanation {
    let cause = match refused {
        [(_, Refusal::Driver(error))] => error.explanation().cause,
        _ => None,
    };
    let asked = |(mechanism, refusal): &(Mechanism, Refusal)| {
        matches!(refusal, Refusal::Driver(_)).then(|| format!("{}: {}", mechanism.as_str(), mechanism.condition()))
    };
    let conditions: Vec<_> = refused.iter().filter_map(asked).collect();
    let why = if conditions.is_empty() {
        "The mechanism does not support this kind of memory.".to_owned()
    } else {
        format!("The driver refused every mechanism. Their preconditions: {}.", conditions.join("; "))
    };
    let tried = |mechanism| refused.iter().any(|(one, _)| *one == mechanism);
    let left: Vec<_> = Mechanism::order(kind).iter().filter(|mechanism| !tried(**mechanism)).collect();
    let remedy = if left.is_empty() {
        match kind {
            SourceKind::Vfio => {
                "Copy through host memory (staged), or try a newer driver or the open kernel modules.".to_owned()
            }
            SourceKind::Cuda => {
                "Use memory of the same GPU, or of a GPU with peer access to it (nvidia-smi topo -p2p rw).".into()
            }
            _ => "Use ordinary host memory.".into(),
        }
    } else {
        let names: Vec<_> = left.into_iter().map(|mechanism| mechanism.as_str()).collect();
        format!("Try the mechanism {}, or let the device choose.", names.join(" or "))
    };
    Explanation { cause: cause.or(Some(Cause::MechanismRefused)), severity: None, why, remedy }
}

impl Explained for Error {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Address { source, .. } => {
                let remedy = match source {
                    AddressError::Number => "Name a GPU by its CUDA number, e.g. cuda:0.".to_owned(),
                    AddressError::Option | AddressError::Mechanism => {
                        let names: Vec<_> = SPECS.iter().map(|spec| spec.name).collect();
                        format!("Omit the option, or name one of the mechanisms {}.", names.join(", "))
                    }
                };
                Explanation::uncaused(format!("The form is {FORM}: {source}."), remedy)
            }
            Self::NoMechanism { kind, refused, .. } => no_mechanism(*kind, refused),
            Self::Open { source, .. }
            | Self::Failed { source, .. }
            | Self::Release { source, .. }
            | Self::FarMemory { source, .. }
            | Self::Kernels { source, .. } => source.explanation(),
            Self::OneSide { .. } => Explanation::uncaused(
                "Bidirectional transfers need an initiator on each side, and a buffer cannot post transfers.",
                "Run copy_in and copy_out in two threads.",
            ),
            Self::NotAligned { .. } => Explanation::uncaused(
                "Each thread of a CUDA kernel copies 4, 8 or 16 aligned bytes.",
                "Use sizes and offsets that are multiples of 4, or the copy engines (copy_in, copy_out).",
            ),
            Self::Transfer { .. } => Explanation::uncaused(
                "The transfer exceeds the buffer or the GPU memory.",
                "Use sizes and offsets within the buffer and the GPU memory.",
            ),
            Self::Ended => Explanation::new(
                Cause::DeviceLost,
                "Transfers stop at the first failure.",
                "Check the first error, then open the GPU again.",
            ),
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Self::Address { .. } | Self::NotAligned { .. } => Severity::BadInput,
            Self::Open { source, .. } | Self::Kernels { source, .. } => source.severity(),
            Self::NoMechanism { .. } | Self::OneSide { .. } => Severity::Unavailable,
            // A shortage of GPU memory does not show whether the path works.
            Self::FarMemory { source, .. } if !source.is_loss() => Severity::Unavailable,
            Self::Failed { .. } | Self::Release { .. } | Self::FarMemory { .. } | Self::Ended => Severity::Failed,
            Self::Transfer { .. } => Severity::Internal,
        }
    }
}

impl Error {
    /// Returns the cause of the failure. `None` if it is unknown.
    pub fn cause(&self) -> Option<Cause> {
        self.explanation().cause
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        Self::new(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i32) -> Refusal {
        Refusal::Driver(DriverError::Refused { call: "cuImportExternalMemory", code, name: "CUDA_ERROR_NOT_SUPPORTED" })
    }

    #[test]
    fn reports_the_driver_error_the_condition_and_untried_mechanisms() {
        let refused = vec![(Mechanism::ExternalDmaBuf, refused(801))];
        let error = Error::NoMechanism { gpu: 0, kind: SourceKind::Vfio, refused };
        assert!(error.to_string().contains("CUDA_ERROR_NOT_SUPPORTED"), "{error}");
        let Explanation { cause, why, remedy, .. } = error.explanation();
        assert_eq!((cause, error.severity()), (Some(Cause::MechanismRefused), Severity::Unavailable));
        assert!(why.contains("Tegra") && remedy.contains("register-io-memory"), "{why} {remedy}");
    }

    #[test]
    fn suggests_staging_when_every_mechanism_failed() {
        let each = Mechanism::order(SourceKind::Vfio).iter().map(|mechanism| (*mechanism, refused(800))).collect();
        let error = Error::NoMechanism { gpu: 0, kind: SourceKind::Vfio, refused: each };
        assert!(error.explanation().remedy.contains("staged"));
    }
}
