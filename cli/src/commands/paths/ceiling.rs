//! The ceiling of a pair: the highest rate that the links of its path allow.

use peerpath_bench::environment::Host;
use peerpath_paths::ceiling::{Assumption, CeilingReport, Engine, HopRates, Limit, NoCeiling, PathHops, Port};
use peerpath_paths::{Inventory, PathReport, Tree, is_soft_rdma, printable};
use peerpath_report::units;

/// Computes the ceilings of a pair. `target` is the importer as the user named it.
pub(super) fn of(tree: Tree, inventory: &Inventory, report: &PathReport, target: Option<&str>) -> CeilingReport {
    let function = inventory.topology.function(report.to);
    let of_function = || {
        let names = function.iter().flat_map(|function| &function.devices);
        names.filter_map(|name| name.strip_prefix("verbs:")).collect()
    };
    let devices: Vec<&str> = match target.and_then(|target| target.split_once(':')) {
        Some(("verbs", named)) => vec![named.split('?').next().unwrap_or(named)],
        Some(("iommufd" | "cuda", _)) => Vec::new(),
        _ => of_function(),
    };
    let device = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
    let is_soft = |name: &&str| is_soft_rdma(&tree, &device(name)) == Some(true);
    let soft_only = !devices.is_empty() && devices.iter().all(is_soft);
    let port = devices.iter().find(|name| !is_soft(name)).and_then(|name| {
        let number = name.split('/').nth(1).map_or(Some(1), |number| number.parse().ok())?;
        Port::read(&tree, &device(name), number, None).ok()
    });
    let fake_gpu_driver = tree.is_live() && peerpath_cuda::stand_in().is_some();
    let host = Host::new(tree);
    let engine = match soft_only {
        _ if fake_gpu_driver || report.hops.iter().any(|hop| host.is_emulated(*hop)) => Engine::Emulated,
        true => Engine::SoftRdma,
        false => Engine::Hardware,
    };
    CeilingReport::of(&PathHops::read(&inventory.topology, report), port, engine)
}

/// The lines of a ceiling; none for emulated devices, whose links do not exist.
pub(super) fn text(ceiling: &CeilingReport) -> String {
    let mut text = String::new();
    let mut line = |head: &str, value: &str| text += &format!("  {head:<13} {}\n", printable(value));
    match (&ceiling.write, &ceiling.read) {
        (Limit::None(NoCeiling::Emulated | NoCeiling::Refused), _) => {}
        (Limit::None(reason), _) => line("ceiling", &format!("none: {}", reason.about())),
        (Limit::Unknown(missing), _) | (_, Limit::Unknown(missing)) => {
            line("ceiling", &format!("unknown: it depends on {}", missing.join(", ")));
        }
        (Limit::Known(write), Limit::Known(read)) => {
            let rate = |rate: u64| units::bytes_per_second(rate as f64);
            line("ceiling", &format!("write {}, read {}", rate(write.bytes_per_s), rate(read.bytes_per_s)));
            if write.limited_by == read.limited_by {
                line("slowest hop", &write.limited_by.to_string());
            } else {
                line("slowest hop", &format!("write: {}", write.limited_by));
                line("", &format!("read: {}", read.limited_by));
            }
            if write.assumptions.contains(&Assumption::CurrentSpeed) {
                line("", Assumption::CurrentSpeed.about());
            }
        }
        (_, Limit::None(reason)) => line("ceiling", &format!("none: {}", reason.about())),
    }
    if let Some(HopRates { hop, write_bytes_per_s: Some(rate), .. }) = &ceiling.port {
        line("other hosts", &format!("at most {} through {hop}", units::bytes_per_second(*rate as f64)));
    }
    text
}
