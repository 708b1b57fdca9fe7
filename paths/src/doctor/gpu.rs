//! GPUs: the driver, what it offers, and the BAR behind which a GPU's memory lies.

use super::live::{GpuFacts, Gpus};
use super::{Examination, Status, Verdict};
use crate::{Cause, Explanation, Function};

/// NVIDIA's vendor ID.
const NVIDIA: u16 = 0x10de;
/// The driver says here what it is.
const MODULE: &str = "proc/driver/nvidia/version";
/// A GPU's memory is behind this BAR.
const MEMORY_BAR: u8 = 1;

/// Whether the question is about a GPU.
pub(super) fn is_asked(at: &Examination<'_>) -> bool {
    at.device.is_some_and(|device| device.starts_with("cuda:"))
}

/// Who asks about another importer has no use for GPUs.
fn is_beside_the_point(at: &Examination<'_>) -> bool {
    at.importer.is_some() && !is_asked(at)
}

/// What a lack of GPUs means: nothing works for who asked for one, and a baseline is missing for others.
fn lack(at: &Examination<'_>) -> Status {
    if is_asked(at) { Status::Fail } else { Status::Warn }
}

/// Functions that could be GPUs of NVIDIA's.
fn functions<'a>(at: &Examination<'a>) -> Vec<&'a Function> {
    let is_gpu = |function: &&Function| {
        function.vendor == Some(NVIDIA) && function.class.is_some_and(|class| class >> 16 == 0x03)
    };
    at.topology().functions().iter().filter(is_gpu).collect()
}

fn is_there(at: &Examination<'_>) -> bool {
    !is_beside_the_point(at) && (is_asked(at) || at.tree.has(MODULE) || !functions(at).is_empty())
}

/// The driver's answers; none where only the running host could tell.
fn live<'a>(at: &Examination<'a>) -> Option<Result<&'a Gpus, &'a Explanation>> {
    Some(at.live?.gpus.as_ref())
}

/// The GPUs that are meant.
fn gpus<'a>(at: &Examination<'a>) -> Vec<&'a GpuFacts> {
    let Some(Ok(gpus)) = live(at) else { return Vec::new() };
    if is_beside_the_point(at) {
        return Vec::new();
    }
    gpus.gpus.iter().filter(|gpu| at.device.is_none_or(|wanted| wanted == gpu.target || !is_asked(at))).collect()
}

pub(super) fn driver(at: &Examination<'_>) -> Vec<Verdict> {
    if is_beside_the_point(at) {
        return Vec::new();
    }
    match live(at) {
        None if is_there(at) => vec![Verdict::live_only("host")],
        None => Vec::new(),
        Some(Err(why)) => vec![Verdict::explained(lack(at), "host", why)],
        Some(Ok(found)) if found.gpus.is_empty() => vec![Verdict::explained(
            lack(at),
            "host",
            &Explanation::new(
                Cause::NoDevice,
                format!("The driver speaks CUDA {} and has no GPU.", found.cuda),
                "Look at what `nvidia-smi` says, and at CUDA_VISIBLE_DEVICES.",
            ),
        )],
        Some(Ok(found)) if is_asked(at) && gpus(at).is_empty() => vec![Verdict::explained(
            Status::Fail,
            at.device.unwrap_or_default(),
            &Explanation::new(
                Cause::NoDevice,
                format!("The driver has {} GPU(s), counted from 0, and not that one.", found.gpus.len()),
                "Name one of those that `peerpath list` shows.",
            ),
        )],
        Some(Ok(found)) => {
            let names: Vec<_> = found.gpus.iter().map(|gpu| format!("{} is {}", gpu.target, gpu.name)).collect();
            vec![Verdict::pass(
                "host",
                format!("The driver speaks CUDA {}; {}.", found.cuda, super::examination::few(&names)),
            )]
        }
    }
}

pub(super) fn module(at: &Examination<'_>) -> Vec<Verdict> {
    if !is_there(at) {
        return Vec::new();
    }
    let Some(text) = at.tree.text(MODULE) else {
        return vec![Verdict::unknown(
            "host",
            format!("Which kernel module drives the GPU is not known: there is no /{MODULE} to read."),
            "Look at `modinfo nvidia`: the licence of the open one is Dual MIT/GPL.",
        )];
    };
    vec![if text.contains("Open Kernel Module") {
        Verdict::pass("host", "NVIDIA's open kernel modules drive the GPU.")
    } else {
        Verdict::warn(
            "host",
            "NVIDIA's proprietary kernel module drives the GPU, which gives no memory away as dma-bufs.",
            "Install the open kernel modules (Turing and newer).",
        )
        .because(Cause::MechanismRefused)
    }]
}

pub(super) fn dma_buf(at: &Examination<'_>) -> Vec<Verdict> {
    let of = |gpu: &GpuFacts| match gpu.dma_buf {
        Some(true) => Verdict::pass(&gpu.target, "Its memory can be had as dma-bufs."),
        Some(false) => Verdict::warn(
            &gpu.target,
            "The driver gives none of its memory as a dma-buf, so no other device gets at it that way.",
            "Install the open kernel modules, on Linux 5.12 or newer.",
        )
        .because(Cause::MechanismRefused),
        None => Verdict::warn(
            &gpu.target,
            "The driver is too old to know of dma-bufs.",
            "Install one of CUDA 11.7 or newer.",
        )
        .because(Cause::DriverTooOld),
    };
    gpus(at).into_iter().map(of).collect()
}

pub(super) fn direct_rdma(at: &Examination<'_>) -> Vec<Verdict> {
    let of = |gpu: &GpuFacts| match (gpu.gpu_direct_rdma, gpu.writes_ordered) {
        (Some(true), Some(true)) => {
            Verdict::pass(&gpu.target, "Other devices may reach its memory, and their writes are in order for it.")
        }
        (Some(true), _) => Verdict::warn(
            &gpu.target,
            "Other devices may reach its memory, but a kernel that runs meanwhile may see their writes out of order.",
            "Let a kernel look at them only after it was told that they have arrived.",
        ),
        (Some(false), _) => Verdict::warn(
            &gpu.target,
            "The driver lets no other device reach its memory (GPUDirect RDMA).",
            "Use a GPU for data centres or workstations; others stage through host memory.",
        )
        .because(Cause::MechanismRefused),
        (None, _) => Verdict::unknown(
            &gpu.target,
            "Whether other devices may reach its memory (GPUDirect RDMA), the driver does not say.",
            "Install one of CUDA 11.3 or newer.",
        ),
    };
    gpus(at).into_iter().map(of).collect()
}

pub(super) fn memory_bar(at: &Examination<'_>) -> Vec<Verdict> {
    let of = |gpu: &GpuFacts| {
        let function = gpu.bdf.and_then(|bdf| at.topology().function(bdf));
        let bar = function.and_then(|function| function.bars.iter().find(|bar| bar.index == MEMORY_BAR));
        match bar {
            Some(bar) if bar.size_bytes >= gpu.memory_bytes => {
                Verdict::pass(&gpu.target, format!("BAR1 of {} MiB shows all of its memory.", bar.size_bytes >> 20))
            }
            Some(bar) => Verdict::warn(
                &gpu.target,
                format!(
                    "BAR1 shows {} MiB of {} at once; what other devices are to reach has to fit into it.",
                    bar.size_bytes >> 20,
                    gpu.memory_bytes >> 20
                ),
                "Enable resizable BARs and decoding above 4 GiB in the firmware, where the GPU has them.",
            ),
            None => Verdict::unknown(
                &gpu.target,
                "How much of its memory BAR1 shows is not known: this machine does not show its function.",
                "Look at `nvidia-smi -q -d MEMORY`: BAR1 Memory Usage.",
            ),
        }
    };
    gpus(at).into_iter().map(of).collect()
}
