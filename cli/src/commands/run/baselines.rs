//! What `run` measures in addition if no option selects cells: the same transfers with host memory, and through a copy in host
//! memory. They answer whether a figure of the BAR is good on this host.

use std::time::Duration;

use peerpath_bench::plan::Plan;
use peerpath_exporter::Source;
use peerpath_importers::Role;
use peerpath_paths::{Inventory, PathName, Tree};

use super::options::RunCommand;

/// Maximum size of the host memory. The default cells need less.
const MOST_BYTES: u64 = 64 << 20;
/// Time for the measurements of all cells without `--duration`.
const BUDGET: Duration = Duration::from_secs(60);
/// Limits of the time of one cell.
const LEAST_TIME: Duration = Duration::from_millis(300);
const MOST_TIME: Duration = Duration::from_secs(5);

impl RunCommand {
    /// Adds the baselines to a plan whose sources are BARs, unless an option selects cells.
    pub(super) fn add_baselines(&self, plan: &mut Plan, tree: &Tree) {
        let are_bars = plan.sources.iter().all(|source| matches!(source, Source::Vfio { .. }));
        let transfer = |target: &peerpath_bench::plan::Target| {
            let ops = target.importer.capabilities().ops;
            ops.iter().any(|spec| matches!(spec.role, Role::Transfer(_)))
        };
        if self.peer.is_some() || self.selects_cells() || !are_bars || !plan.targets.iter().all(transfer) {
            return;
        }
        plan.paths.push(Some(PathName::Staged));
        plan.sources
            .extend(as_long_as(&plan.sources, &Inventory::read(tree)).map(|size_bytes| Source::Host { size_bytes }));
    }

    fn selects_cells(&self) -> bool {
        let lists = [self.size.len(), self.qps.len(), self.depth.len(), self.rate.len(), self.threads.len()];
        let others = [self.op.len(), self.mode.len(), self.path.len(), self.ranges.len()];
        self.bidirectional || lists.into_iter().chain(others).any(|given| given > 0)
    }
}

/// The length of the longest BAR; `None` if none is readable.
fn as_long_as(sources: &[Source], inventory: &Inventory) -> Option<u64> {
    let length = |source: &Source| {
        let Source::Vfio { bdf, bar, .. } = source else { return None };
        let bars = &inventory.topology.function(*bdf)?.bars;
        bars.iter().find(|found| found.index == bar.get()).map(|bar| bar.size_bytes.min(MOST_BYTES))
    };
    sources.iter().filter_map(length).max()
}

/// The time limit of a cell if the user names none.
pub(super) fn time_per_cell(cells: usize) -> Duration {
    (BUDGET / u32::try_from(cells.max(1)).unwrap_or(u32::MAX)).clamp(LEAST_TIME, MOST_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_cells_share_a_minute() {
        for (cells, milliseconds) in [(0, 5000), (1, 5000), (12, 5000), (60, 1000), (200, 300), (100_000, 300)] {
            assert_eq!(time_per_cell(cells), Duration::from_millis(milliseconds), "{cells} cells");
        }
    }
}
