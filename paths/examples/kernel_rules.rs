//! Prints the tables of kernel rules as JSON, for `scripts/lab check-rules`.

use peerpath_paths::kernel_rules::{KERNEL_RULES, KernelRules, listed_devices};
use peerpath_paths::{DmaBufSupport, RDMA_DRIVERS};
use serde_json::json;

fn main() {
    let drivers = RDMA_DRIVERS.iter().map(|driver| {
        let support = match driver.support {
            DmaBufSupport::Dynamic => "dynamic",
            DmaBufSupport::PinnedRevocable => "pinned-revocable",
            DmaBufSupport::PinnedForever => "pinned-forever",
            DmaBufSupport::None => "none",
        };
        json!({ "name": driver.name, "support": support })
    });
    let tables = json!({
        "newest": KernelRules::NEWEST.to_string(),
        "listed_devices": listed_devices().collect::<Vec<_>>(),
        "rules": KERNEL_RULES,
        "rdma_drivers": drivers.collect::<Vec<_>>(),
    });
    println!("{tables:#}");
}
