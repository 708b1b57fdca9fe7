//! Combinations of the plan's values that have no cell, or a cell with another value.

use std::collections::BTreeSet;

use peerpath_exporter::format_bytes;

use super::Plan;
use super::bounds::ATOMIC_BYTES;

/// Maximum number of combinations that a note lists.
const MOST_LISTED: usize = 8;

impl Plan {
    /// Sentences about combinations that do not run as the plan lists them, without a period at the end.
    pub fn notes(&self) -> Vec<String> {
        self.too_short_ranges().into_iter().chain(self.other_atomic_sizes()).collect()
    }

    fn too_short_ranges(&self) -> Option<String> {
        let mut omitted = BTreeSet::new();
        for leg in self.legs() {
            let too_short = self.combinations(leg).filter(|cell| cell.has_too_short_ranges());
            omitted.extend(too_short.map(|cell| (cell.size_bytes, cell.ranges.unwrap_or(1))));
        }
        let mut texts: Vec<_> = omitted
            .iter()
            .take(MOST_LISTED)
            .map(|(size, count)| format!("{} in {count} ranges", format_bytes(*size)))
            .collect();
        if omitted.len() > MOST_LISTED {
            texts.push(format!("and {} more", omitted.len() - MOST_LISTED));
        }
        (!texts.is_empty()).then(|| format!("not measured, because a range has at least 4 KiB: {}", texts.join(", ")))
    }

    fn other_atomic_sizes(&self) -> Option<String> {
        let atomics: Vec<_> = self.ops.iter().filter(|op| op.is_atomic()).map(|op| op.as_str()).collect();
        let has_other_size = self.sizes_bytes.iter().any(|size| *size != ATOMIC_BYTES);
        (has_other_size && !atomics.is_empty())
            .then(|| format!("measured with 8 bytes instead of the sizes of the plan: {}", atomics.join(", ")))
    }
}
