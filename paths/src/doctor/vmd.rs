//! Checks for functions behind Intel's Volume Management Device (VMD), a controller with a root bus of its own. The firmware
//! hides drives and slots behind it.

use std::collections::BTreeMap;

use super::context::few;
use super::devices_of_interest::selected;
use super::{Context, Verdict};
use crate::Bdf;

pub(super) fn check(at: &Context<'_>) -> Vec<Verdict> {
    let mut behind: BTreeMap<Bdf, Vec<String>> = BTreeMap::new();
    for function in selected(at) {
        if let Some(controller) = at.topology().vmd_above(function) {
            behind.entry(controller).or_default().push(function.bdf.to_string());
        }
    }
    behind
        .into_iter()
        .map(|(controller, functions)| {
            Verdict::warn(
                controller,
                format!(
                    "{} behind this VMD controller: they share its root bus and its IOMMU group. The kernel judges this root bus \
                     separately from those of the processor, and VFIO cannot own the group while the driver of the controller is \
                     bound.",
                    match functions.as_slice() {
                        [one] => format!("{one} is"),
                        _ => format!("{} are", few(&functions)),
                    }
                ),
                "Switch VMD off in the firmware for the slots of these functions.",
            )
        })
        .collect()
}
