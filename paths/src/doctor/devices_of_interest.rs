//! The functions of interest, whose transfers users measure: GPUs, accelerators, NICs, NVMe drives, and functions bound to VFIO.

use super::Context;
use crate::Function;
use crate::vfio::is_vfio_driver;

/// Whether the function has memory that other functions access: a GPU, an accelerator, or a function bound to VFIO.
pub(super) fn has_memory(function: &Function) -> bool {
    if function.is_bridge() {
        return false;
    }
    // Base classes 0x05 (memory controllers, which FPGAs use) and 0x0b (processors).
    let class = function.class.map(|class| class >> 16);
    function.is_accelerator()
        || matches!(class, Some(0x05 | 0x0b))
        || function.driver.as_deref().is_some_and(is_vfio_driver)
}

/// Whether the function is of interest as an exporter or importer.
pub(super) fn is_of_interest(function: &Function) -> bool {
    if function.is_bridge() {
        return false;
    }
    let class = function.class.map(|class| class >> 8);
    has_memory(function) || matches!(class, Some(0x0108)) || class.is_some_and(|class| class >> 8 == 0x02)
}

/// The selected functions; the functions of interest if none is selected.
pub(super) fn selected<'a>(at: &Context<'a>) -> Vec<&'a Function> {
    let selected: Vec<_> = [at.exporter, at.importer].into_iter().flatten().collect();
    if selected.is_empty() {
        at.topology().functions().iter().filter(|function| is_of_interest(function)).collect()
    } else {
        selected
    }
}
