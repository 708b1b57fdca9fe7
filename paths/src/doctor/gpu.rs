//! Checks of NVIDIA GPUs: the driver, its capabilities, and the BAR of the GPU's memory.

use super::live::{GpuFacts, Gpus};
use super::{Context, Status, Verdict};
use crate::{Architecture, Bar, BarKind, Bdf, Cause, Explanation, ExporterRule, Function, NvidiaModule};

/// NVIDIA's vendor ID.
const NVIDIA: u16 = 0x10de;

/// First device ID of the GPUs that NVIDIA's open kernel modules support: Turing and newer.
const FIRST_TURING: u16 = 0x1e00;

/// The names of the selected GPUs: `cuda:0`.
fn selected_names<'a>(at: &Context<'a>) -> impl Iterator<Item = &'a str> {
    [at.exporter_device, at.device].into_iter().flatten().filter(|device| device.starts_with("cuda:"))
}

/// The selected functions that are GPUs with NVIDIA's driver.
fn selected_functions<'a>(at: &Context<'a>) -> impl Iterator<Item = &'a Function> {
    let exporter = at.exporter.filter(|_| at.rule() == ExporterRule::Nvidia);
    let importer = at.importer.filter(|importer| ExporterRule::of(importer, None) == ExporterRule::Nvidia);
    [exporter, importer].into_iter().flatten()
}

/// Whether a GPU with NVIDIA's driver is selected, as exporter or importer.
fn is_selected(at: &Context<'_>) -> bool {
    selected_names(at).next().is_some() || selected_functions(at).next().is_some()
}

/// Whether the selection excludes GPUs with NVIDIA's driver: another importer, or another GPU as exporter, is selected.
fn is_irrelevant(at: &Context<'_>) -> bool {
    (at.importer.is_some() || !at.through_vfio()) && !is_selected(at)
}

/// The status if no GPU is available: a failure if a GPU is selected, otherwise a warning, because only the GPU baseline of a run
/// is missing.
fn status_without_gpu(at: &Context<'_>) -> Status {
    if is_selected(at) { Status::Fail } else { Status::Warn }
}

/// GPUs of NVIDIA that NVIDIA's driver drives, or that have no known driver.
fn functions<'a>(at: &Context<'a>) -> Vec<&'a Function> {
    let is_gpu = |function: &&Function| {
        function.vendor == Some(NVIDIA)
            && function.is_gpu()
            && function.driver.as_deref().is_none_or(|driver| driver == ExporterRule::Nvidia.as_str())
    };
    at.topology().functions().iter().filter(is_gpu).collect()
}

fn may_have_gpu(at: &Context<'_>) -> bool {
    !is_irrelevant(at) && (is_selected(at) || at.tree.has(NvidiaModule::PATH) || !functions(at).is_empty())
}

/// Facts from NVIDIA's driver; `None` if facts of the running host are missing.
fn live<'a>(at: &Context<'a>) -> Option<Result<&'a Gpus, &'a Explanation>> {
    Some(at.live?.gpus.as_ref())
}

/// The selected GPUs; every GPU if none is selected; no GPU if the selection excludes GPUs with NVIDIA's driver.
fn gpus<'a>(at: &Context<'a>) -> Vec<&'a GpuFacts> {
    let Some(Ok(gpus)) = live(at) else { return Vec::new() };
    if is_irrelevant(at) {
        return Vec::new();
    }
    let functions: Vec<Bdf> = selected_functions(at).map(|function| function.bdf).collect();
    let wanted = |gpu: &&GpuFacts| {
        !is_selected(at)
            || selected_names(at).any(|name| name == gpu.target)
            || gpu.bdf.is_some_and(|bdf| functions.contains(&bdf))
    };
    gpus.gpus.iter().filter(wanted).collect()
}

pub(super) fn driver(at: &Context<'_>) -> Vec<Verdict> {
    if is_irrelevant(at) {
        return Vec::new();
    }
    match live(at) {
        None if may_have_gpu(at) => {
            numbered(at, at.device, at.importer).into_iter().chain([Verdict::live_only("host")]).collect()
        }
        None => Vec::new(),
        Some(Err(why)) => vec![Verdict::explained(status_without_gpu(at), "host", why)],
        Some(Ok(found)) if found.gpus.is_empty() => vec![Verdict::explained(
            status_without_gpu(at),
            "host",
            &Explanation::new(
                Cause::NoDevice,
                format!("The driver supports CUDA {} and lists no GPU.", found.cuda),
                "Check `nvidia-smi` and CUDA_VISIBLE_DEVICES.",
            ),
        )],
        Some(Ok(found)) if is_selected(at) && gpus(at).is_empty() => vec![Verdict::explained(
            Status::Fail,
            selected_names(at).next().unwrap_or("host"),
            &Explanation::new(
                Cause::NoDevice,
                format!(
                    "The driver lists {} GPU(s), numbered from 0. The selected GPU is not among them.",
                    found.gpus.len()
                ),
                "Choose a GPU that `peerpath list` shows.",
            ),
        )],
        Some(Ok(found)) => {
            let names: Vec<_> = found.gpus.iter().map(|gpu| format!("{} is {}", gpu.target, gpu.name)).collect();
            vec![Verdict::pass(
                "host",
                format!("The driver supports CUDA {}; {}.", found.cuda, super::context::few(&names)),
            )]
        }
    }
}

/// States which function the name of a selected GPU refers to, because a snapshot does not contain the device numbers of CUDA.
pub(super) fn numbered(at: &Context<'_>, device: Option<&str>, function: Option<&Function>) -> Option<Verdict> {
    let (name, bdf) = (device.filter(|device| !at.tree.is_live() && device.starts_with("cuda:"))?, function?.bdf);
    let detail = format!("{name} is {bdf} if GPUs are numbered by address, as nvidia-smi does.");
    Some(Verdict::pass(name, detail))
}

pub(super) fn module(at: &Context<'_>) -> Vec<Verdict> {
    if !may_have_gpu(at) {
        return Vec::new();
    }
    let Some(module) = NvidiaModule::read(at.tree) else {
        return vec![Verdict::unknown(
            "host",
            if at.tree.is_live() {
                format!("The kernel module of the GPU is unknown: /{} does not exist.", NvidiaModule::PATH)
            } else {
                format!(
                    "The kernel module of the GPU is unknown: the snapshot does not contain {}.",
                    NvidiaModule::PATH
                )
            },
            "Check `modinfo nvidia`: the open module has the license Dual MIT/GPL.",
        )];
    };
    let version = module.version.map_or_else(String::new, |version| format!(" {version}"));
    if module.is_open {
        return vec![Verdict::pass("host", format!("The GPU uses NVIDIA's open kernel modules{version}."))];
    }
    let why = why_no_open_modules(at).map_or_else(String::new, |why| format!(" {why}"));
    vec![
        Verdict::warn(
            "host",
            format!("The GPU uses NVIDIA's proprietary kernel module{version}, which exports no dma-bufs.{why}"),
            instead_of_this_module(at),
        )
        .because(Cause::MechanismRefused),
    ]
}

/// The remedy for a kernel module that exports no dma-bufs.
fn instead_of_this_module(at: &Context<'_>) -> &'static str {
    match why_no_open_modules(at) {
        Some(_) => {
            "Register memory of the GPU with nvidia-peermem instead of a dma-buf, or transfer through host memory."
        }
        None => "Install the open kernel modules (Turing and newer), or use the GPU's memory through nvidia-peermem.",
    }
}

/// Why NVIDIA's open kernel modules do not exist for the selected GPUs, or for those of this host if none is selected, as a
/// sentence; `None` if they may exist. They support x86-64 and 64-bit Arm, and GPUs with a GSP: Turing and newer.
fn why_no_open_modules(at: &Context<'_>) -> Option<&'static str> {
    let architecture = at.host().cpu.as_ref().and_then(|cpu| cpu.architecture);
    let machine = at.host().facts.machine.as_deref();
    if matches!(architecture, Some(Architecture::Power { .. } | Architecture::Other))
        || machine.is_some_and(|machine| !["x86_64", "aarch64"].contains(&machine))
    {
        return Some("The open kernel modules do not exist for this architecture.");
    }
    let selected: Vec<_> = selected_functions(at).collect();
    let gpus = if selected.is_empty() { functions(at) } else { selected };
    let is_old = |gpu: &&Function| gpu.device.is_some_and(|device| device < FIRST_TURING);
    (!gpus.is_empty() && gpus.iter().all(is_old))
        .then_some("The open kernel modules support Turing and newer, and this GPU is older.")
}

pub(super) fn dma_buf(at: &Context<'_>) -> Vec<Verdict> {
    let of = |gpu: &GpuFacts| match gpu.dma_buf {
        Some(true) => Verdict::pass(&gpu.target, "The driver exports the GPU's memory as dma-bufs."),
        Some(false) => Verdict::warn(
            &gpu.target,
            "The driver does not export the GPU's memory as dma-bufs.",
            if NvidiaModule::read(at.tree).is_some_and(|module| module.is_open) {
                "Boot Linux 5.12 or newer, or use the GPU's memory through nvidia-peermem."
            } else {
                instead_of_this_module(at)
            },
        )
        .because(Cause::MechanismRefused),
        None => Verdict::warn(
            &gpu.target,
            "The driver is too old to support dma-bufs.",
            "Install a driver for CUDA 11.7 or newer.",
        )
        .because(Cause::DriverTooOld),
    };
    gpus(at).into_iter().map(of).collect()
}

pub(super) fn direct_rdma(at: &Context<'_>) -> Vec<Verdict> {
    let of = |gpu: &GpuFacts| match (gpu.gpu_direct_rdma, gpu.writes_ordered) {
        (Some(true), Some(true)) => Verdict::pass(
            &gpu.target,
            "Other devices can access the GPU's memory, and CUDA kernels that are already running observe their writes in order.",
        ),
        (Some(true), _) => Verdict::warn(
            &gpu.target,
            "Other devices can access the GPU's memory, but a CUDA kernel that is already running may observe their writes out of order.",
            "Wait until the writes have completed, then start the CUDA kernel that reads the data.",
        ),
        (Some(false), _) => Verdict::warn(
            &gpu.target,
            "The driver does not support access by other devices (GPUDirect RDMA).",
            "Use a data-center or workstation GPU, or stage the transfers through host memory.",
        )
        .because(Cause::MechanismRefused),
        (None, _) => Verdict::unknown(
            &gpu.target,
            "The driver does not report whether other devices can access the GPU's memory (GPUDirect RDMA).",
            "Install a driver for CUDA 11.3 or newer.",
        ),
    };
    gpus(at).into_iter().map(of).collect()
}

/// The BAR of the GPU's memory. NVIDIA calls it BAR1: it is the second memory BAR. Since Hopper the first memory BAR has two
/// registers, so the second one has index 2.
pub(super) fn memory_bar_of(bars: &[Bar]) -> Option<&Bar> {
    bars.iter().filter(|bar| bar.kind != BarKind::Io).nth(1)
}

pub(super) fn memory_bar(at: &Context<'_>) -> Vec<Verdict> {
    let unknown = |gpu: &GpuFacts, why: &str| {
        Verdict::unknown(
            &gpu.target,
            format!("The size of BAR1 is unknown: {why}."),
            "Check BAR1 Memory Usage in `nvidia-smi -q -d MEMORY`.",
        )
    };
    let of = |gpu: &GpuFacts| {
        let Some(function) = gpu.bdf.and_then(|bdf| at.topology().function(bdf)) else {
            return unknown(gpu, "the host does not list its PCI function");
        };
        match memory_bar_of(&function.bars) {
            Some(bar) if bar.size_bytes >= gpu.memory_bytes => Verdict::pass(
                &gpu.target,
                format!("BAR1 is {} MiB and maps all of the GPU's memory.", bar.size_bytes >> 20),
            ),
            Some(bar) => Verdict::warn(
                &gpu.target,
                format!(
                    "BAR1 maps {} MiB of {} MiB at a time, which limits the memory that other devices can access.",
                    bar.size_bytes >> 20,
                    gpu.memory_bytes >> 20
                ),
                "Enable resizable BARs and decoding above 4 GiB in the firmware, if the GPU supports them.",
            ),
            None => unknown(gpu, "its PCI function has no second memory BAR"),
        }
    };
    gpus(at).into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar1_is_the_second_memory_bar() {
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
