//! What can go wrong with a GPU that imports.

use std::io;

use peerpath_cuda::Error as DriverError;
use peerpath_exporter::SourceKind;
use peerpath_paths::{Cause, Explained, Explanation, Severity};

use super::address::AddressProblem;
use super::mechanism::{Mechanism, SPECS};

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{text:?} is no GPU to import with")]
    Address { text: String, source: AddressProblem },
    #[error("GPU {gpu} cannot be used: {source}")]
    Open { gpu: u32, source: DriverError },
    #[error("GPU {gpu} reaches no {}: {}", of(*.kind), list(.refused))]
    NoMechanism { gpu: u32, kind: SourceKind, refused: Vec<(Mechanism, Refusal)> },
    #[error("GPU {gpu} failed: {source}")]
    Failed { gpu: u32, source: DriverError },
    #[error("a registration with GPU {gpu} was not taken back: {source}")]
    Release { gpu: u32, source: DriverError },
    #[error("{bytes} bytes of memory of GPU {gpu} could not be had: {source}")]
    FarMemory { gpu: u32, bytes: u64, source: DriverError },
    #[error("the kernels were not compiled for GPU {gpu}: {source}")]
    Kernels { gpu: u32, source: DriverError },
    #[error("GPU {gpu} posts from one side only")]
    OneSide { gpu: u32 },
    #[error("a kernel does not move {length_bytes} bytes at {buffer_offset:#x} and {far_offset:#x}")]
    NotInWords { length_bytes: u32, buffer_offset: u64, far_offset: u64 },
    #[error("a transfer cannot be done: {why}")]
    Transfer { why: String },
    #[error("nothing goes through any more")]
    Ended,
}

/// Why a mechanism was not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It is not for such memory.
    #[error("{0}")]
    NotFor(&'static str),
    /// The source could not be given away.
    #[error("its file descriptor could not be duplicated: {0}")]
    Duplicate(#[from] io::Error),
    /// The driver's answer.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

fn of(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Vfio => "BAR",
        SourceKind::Cuda => "memory of a GPU",
        SourceKind::Udmabuf | SourceKind::Heap | SourceKind::Host => "memory of the host",
    }
}

fn list(refused: &[(Mechanism, Refusal)]) -> String {
    let each = refused.iter().map(|(mechanism, refusal)| format!("{}: {refusal}", mechanism.as_str()));
    each.collect::<Vec<_>>().join("; ")
}

/// When the mechanisms could have worked, and what is left.
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
        "The mechanism is not for such memory.".to_owned()
    } else {
        format!("Of what the driver refused, {}.", conditions.join("; "))
    };
    let tried = |mechanism| refused.iter().any(|(one, _)| *one == mechanism);
    let left: Vec<_> = Mechanism::order(kind).iter().filter(|mechanism| !tried(**mechanism)).collect();
    let remedy = if left.is_empty() {
        match kind {
            SourceKind::Vfio => {
                "Nothing else is left to try but a copy by the CPU (--path staged); a newer driver, or the open kernel modules, may take it."
                    .to_owned()
            }
            SourceKind::Cuda => "Use memory of the same GPU, or of one that it reaches (nvidia-smi topo -p2p rw).".into(),
            _ => "Use host:SIZE, which needs nothing but pages.".into(),
        }
    } else {
        let names: Vec<_> = left.into_iter().map(|mechanism| mechanism.as_str()).collect();
        format!("Try --mechanism {}, or leave the option out.", names.join(" or "))
    };
    Explanation { cause: cause.or(Some(Cause::MechanismRefused)), severity: None, why, remedy }
}

impl Explained for Error {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Address { source, .. } => {
                let names: Vec<_> = SPECS.iter().map(|spec| spec.name).collect();
                Explanation::uncaused(
                    format!("An address is N[?mechanism=M], and {source}."),
                    format!("Name a GPU, for example cuda:0; mechanisms are {}.", names.join(", ")),
                )
            }
            Self::NoMechanism { kind, refused, .. } => no_mechanism(*kind, refused),
            Self::Open { source, .. }
            | Self::Failed { source, .. }
            | Self::Release { source, .. }
            | Self::FarMemory { source, .. }
            | Self::Kernels { source, .. } => source.explanation(),
            Self::OneSide { .. } => Explanation::uncaused(
                "The other side is memory, and posts nothing by itself.",
                "Leave out --bidirectional; copy_in and copy_out beside one another take two threads of your own.",
            ),
            Self::NotInWords { .. } => Explanation::uncaused(
                "Each thread of a kernel moves a word of 4, 8 or 16 bytes.",
                "Use sizes that are multiples of 4, or copy_in and copy_out.",
            ),
            Self::Transfer { .. } => Explanation::uncaused(
                "It does not fit the buffer or the far side.",
                "Use sizes and offsets within both.",
            ),
            Self::Ended => Explanation::new(
                Cause::DeviceLost,
                "A transfer failed before, and with it everything behind it.",
                "See the first failure.",
            ),
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Self::Address { .. } | Self::NotInWords { .. } => Severity::BadInput,
            Self::Open { source, .. } | Self::Kernels { source, .. } => source.severity(),
            Self::NoMechanism { .. } | Self::OneSide { .. } => Severity::Unavailable,
            // That the GPU has no room says nothing about the way.
            Self::FarMemory { source, .. } if !source.is_loss() => Severity::Unavailable,
            Self::Failed { .. } | Self::Release { .. } | Self::FarMemory { .. } | Self::Ended => Severity::Failed,
            Self::Transfer { .. } => Severity::Internal,
        }
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
    fn a_refusal_says_the_drivers_word_the_condition_and_what_is_left() {
        let refused = vec![(Mechanism::ExternalDmaBuf, refused(801))];
        let error = Error::NoMechanism { gpu: 0, kind: SourceKind::Vfio, refused };
        assert!(error.to_string().contains("CUDA_ERROR_NOT_SUPPORTED"), "{error}");
        let Explanation { cause, why, remedy, .. } = error.explanation();
        assert_eq!((cause, error.severity()), (Some(Cause::MechanismRefused), Severity::Unavailable));
        assert!(why.contains("Tegra") && remedy.contains("register-io-memory"), "{why} {remedy}");
    }

    #[test]
    fn when_everything_was_tried_staging_is_left() {
        let each = Mechanism::order(SourceKind::Vfio).iter().map(|mechanism| (*mechanism, refused(800))).collect();
        let error = Error::NoMechanism { gpu: 0, kind: SourceKind::Vfio, refused: each };
        assert!(error.explanation().remedy.contains("staged"));
    }
}
