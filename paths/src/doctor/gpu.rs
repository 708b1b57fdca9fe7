//! GPUs: the driver, what it offers, and the BAR behind which a GPU's memory lies.

use super::live::{GpuFacts, Gpus};
use super::{Context, Status, Verdict};
use crate::{Bar, BarKind, Cause, Explanation, Function, NvidiaModule};

/// NVIDIA's vendor ID.
const NVIDIA: u16 = 0x10de;

/// Whether the selection is about a GPU.
pub(super) fn is_asked(at: &Context<'_>) -> bool {
    at.device.is_some_and(|device| device.starts_with("cuda:"))
}

/// Who asks about another importer has no use for GPUs.
fn is_beside_the_point(at: &Context<'_>) -> bool {
    at.importer.is_some() && !is_asked(at)
}

/// What a lack of GPUs means: nothing works for who asked for one, and a baseline is missing for others.
fn lack(at: &Context<'_>) -> Status {
    if is_asked(at) { Status::Fail } else { Status::Warn }
}

/// Functions that could be GPUs of NVIDIA's.
fn functions<'a>(at: &Context<'a>) -> Vec<&'a Function> {
    let is_gpu = |function: &&Function| {
        function.vendor == Some(NVIDIA) && function.class.is_some_and(|class| class >> 16 == 0x03)
    };
    at.topology().functions().iter().filter(is_gpu).collect()
}

fn is_there(at: &Context<'_>) -> bool {
    !is_beside_the_point(at) && (is_asked(at) || at.tree.has(NvidiaModule::PATH) || !functions(at).is_empty())
}

/// The driver's answers; none where only the running host could tell.
fn live<'a>(at: &Context<'a>) -> Option<Result<&'a Gpus, &'a Explanation>> {
    Some(at.live?.gpus.as_ref())
}

/// The GPUs that are meant.
fn gpus<'a>(at: &Context<'a>) -> Vec<&'a GpuFacts> {
    let Some(Ok(gpus)) = live(at) else { return Vec::new() };
    if is_beside_the_point(at) {
        return Vec::new();
    }
    gpus.gpus.iter().filter(|gpu| at.device.is_none_or(|wanted| wanted == gpu.target || !is_asked(at))).collect()
}

pub(super) fn driver(at: &Context<'_>) -> Vec<Verdict> {
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
                format!("The driver speaks CUDA {}; {}.", found.cuda, super::context::few(&names)),
            )]
        }
    }
}

pub(super) fn module(at: &Context<'_>) -> Vec<Verdict> {
    if !is_there(at) {
        return Vec::new();
    }
    let Some(module) = NvidiaModule::read(at.tree) else {
        return vec![Verdict::unknown(
            "host",
            format!("Which kernel module drives the GPU is not known: there is no /{} to read.", NvidiaModule::PATH),
            "Look at `modinfo nvidia`: the licence of the open one is Dual MIT/GPL.",
        )];
    };
    let version = module.version.map_or_else(String::new, |version| format!(" {version}"));
    vec![if module.is_open {
        Verdict::pass("host", format!("NVIDIA's open kernel modules{version} drive the GPU."))
    } else {
        Verdict::warn(
            "host",
            format!(
                "NVIDIA's proprietary kernel module{version} drives the GPU, which gives no memory away as dma-bufs."
            ),
            "Install the open kernel modules (Turing and newer).",
        )
        .because(Cause::MechanismRefused)
    }]
}

pub(super) fn dma_buf(at: &Context<'_>) -> Vec<Verdict> {
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

pub(super) fn direct_rdma(at: &Context<'_>) -> Vec<Verdict> {
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

/// The BAR behind which a GPU's memory lies. NVIDIA calls it BAR1, the second of its memory BARs; since Hopper the first one
/// takes two registers, and the second has the number 2.
fn memory_bar_of(bars: &[Bar]) -> Option<&Bar> {
    bars.iter().filter(|bar| bar.kind != BarKind::Io).nth(1)
}

pub(super) fn memory_bar(at: &Context<'_>) -> Vec<Verdict> {
    let unknown = |gpu: &GpuFacts, why: &str| {
        Verdict::unknown(
            &gpu.target,
            format!("How much of its memory BAR1 shows is not known: {why}."),
            "Look at `nvidia-smi -q -d MEMORY`: BAR1 Memory Usage.",
        )
    };
    let of = |gpu: &GpuFacts| {
        let Some(function) = gpu.bdf.and_then(|bdf| at.topology().function(bdf)) else {
            return unknown(gpu, "this machine does not show its function");
        };
        match memory_bar_of(&function.bars) {
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
            None => unknown(gpu, "its function shows no second memory BAR"),
        }
    };
    gpus(at).into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_behind_the_second_memory_bar() {
        let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000";
        let a100 = [
            "0x00000000e4000000 0x00000000e4ffffff 0x0000000000040200",
            "0x0000006000000000 0x0000007fffffffff 0x000000000014220c",
            none,
            "0x0000008000000000 0x0000008001ffffff 0x000000000014220c",
            none,
            "0x0000000000003000 0x000000000000307f 0x0000000000040101",
        ];
        let h100 = [
            "0x0000022e42000000 0x0000022e42ffffff 0x000000000014220c",
            none,
            "0x0000022000000000 0x0000023fffffffff 0x000000000014220c",
            none,
            "0x0000022e40000000 0x0000022e41ffffff 0x000000000014220c",
            none,
        ];
        let found = |lines: [&str; 6]| {
            memory_bar_of(&Bar::parse_all(&lines.join("\n"))).map(|bar| (bar.index, bar.size_bytes >> 30))
        };
        assert_eq!((found(a100), found(h100)), (Some((1, 128)), Some((2, 128))));
        assert_eq!(found([none; 6]), None);
    }
}
