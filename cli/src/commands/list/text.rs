//! `list` as text.

use peerpath_importers::IMPORTERS;
use peerpath_paths::{ListEntry, printable};
use peerpath_report::units;

use super::usable::ListedFunction;
use crate::table::{self, Table};
use crate::text_layout::{hanging, shortened};

/// The table of usable functions, or of all with `all`; then the GPUs, the functions in use, and the number of functions that
/// need `bind`.
pub(super) fn render(functions: &[ListedFunction], gpus: &str, all: bool, width: usize) -> String {
    if functions.is_empty() {
        return "No PCI functions: /sys/bus/pci/devices is empty.\n".to_owned() + gpus + &forms(width);
    }
    let listed: Vec<&ListEntry> =
        functions.iter().filter(|function| all || function.is_usable).map(|function| &function.entry).collect();
    let mut text = if listed.is_empty() {
        "No function can be used without `peerpath bind`.\n".to_owned()
    } else {
        table_of(&listed).render(width)
    };
    if !gpus.is_empty() {
        text += &format!("\n{gpus}");
    }
    let in_use: Vec<_> = functions.iter().filter(|function| !function.uses.is_empty()).collect();
    if !in_use.is_empty() {
        text += "\nIn use:\n";
    }
    for function in in_use {
        let head = format!("  {}", function.entry.bdf);
        text += &hanging(&head, head.len() + 2, &printable(&function.uses.join("; ")), width);
    }
    // Functions in use are listed above.
    let needs_bind = |function: &&ListedFunction| !function.is_usable && function.uses.is_empty();
    let others = if all { 0 } else { functions.iter().filter(needs_bind).count() };
    text.push('\n');
    match others {
        0 => {}
        1 => text += &hanging("", 0, "1 other function needs `peerpath bind` first; --all lists it.", width),
        _ => {
            let line = format!("{others} other functions need `peerpath bind` first; --all lists them.");
            text += &hanging("", 0, &line, width);
        }
    }
    text + &forms(width)
}

/// Forms of the names that `--from` and `--to` accept.
fn forms(width: usize) -> String {
    let kinds: Vec<_> = IMPORTERS.iter().map(|importer| importer.usage().form).collect();
    format!("Use FUNCTION:BAR with --from.\n{}", hanging("Use", 4, &format!("{} with --to.", kinds.join(", ")), width))
}

fn table_of(entries: &[&ListEntry]) -> Table {
    let mut table = Table::new(vec![
        table::text("function", 0),
        table::text("name", 2),
        table::text("driver", 0),
        table::number("group", 3),
        table::text("domain", 3),
        table::number("NUMA", 4),
        table::number("BAR", 0),
        table::number("size", 0),
        table::text("export", 0),
        table::text("devices", 1),
    ]);
    for entry in entries {
        let exportable = entry.bars.iter().filter(|bar| bar.exportable);
        let mut function = Some(*entry);
        let mut bars: Vec<_> = exportable.map(Some).collect();
        if bars.is_empty() && !entry.devices.is_empty() {
            bars.push(None);
        }
        for bar in bars {
            // Only the first row of a function fills the columns about the function; the rows of its other BARs leave them empty.
            let own = function.take();
            let or_dash = |text: Option<String>| own.map_or(String::new(), |_| text.unwrap_or_else(|| "-".into()));
            table.push(vec![
                own.map_or(String::new(), |entry| entry.bdf.to_string()),
                or_dash(Some(shortened(&entry.name, 40))),
                or_dash(entry.driver.clone()),
                or_dash(entry.iommu_group.map(|group| group.to_string())),
                or_dash(entry.domain_type.clone()),
                or_dash(entry.numa_node.map(|node| node.to_string())),
                bar.map_or("-".into(), |bar| bar.index.to_string()),
                bar.map_or("-".into(), |bar| units::bytes(bar.size_bytes)),
                if bar.is_some() { "yes" } else { "no" }.into(),
                or_dash(Some(entry.devices.join(" "))),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use peerpath_paths::{BarKind, ListBar};

    use super::*;

    fn function(bdf: &str, driver: &str, devices: &[&str], is_usable: bool, uses: &[&str]) -> ListedFunction {
        let bar = ListBar {
            index: 2,
            size_bytes: 16 << 20,
            kind: BarKind::Memory { wide: true, prefetchable: true },
            exportable: true,
            why: None,
        };
        let entry = ListEntry {
            bdf: bdf.parse().unwrap(),
            name: "a card with a name that is longer than the column".to_owned(),
            driver: Some(driver.to_owned()),
            iommu_group: Some(12),
            domain_type: Some("DMA-FQ".to_owned()),
            numa_node: Some(0),
            bars: vec![bar],
            devices: devices.iter().map(ToString::to_string).collect(),
        };
        ListedFunction { entry, is_usable, uses: uses.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn lists_usable_functions_and_who_uses_the_others() {
        let functions = [
            function("0000:03:00.0", "vfio-pci", &[], true, &[]),
            function("0000:04:00.0", "mlx5_core", &["verbs:mlx5_0"], true, &["eth0 has the default route"]),
            function("0000:05:00.0", "nvme", &["nvme:nvme0"], false, &["nvme0n1 is mounted at /home"]),
            function("0000:06:00.0", "xhci_hcd", &[], false, &[]),
        ];
        let text = render(&functions, "", false, 80);
        let (table, below) = text.split_once("\nIn use:\n").unwrap();
        assert!(table.contains("0000:03:00.0") && table.contains("verbs:mlx5_0"), "{text}");
        assert!(!table.contains("0000:05:00.0") && !text.contains("0000:06:00.0"), "{text}");
        assert!(below.contains("  0000:04:00.0  eth0 has the default route\n"), "{text}");
        assert!(below.contains("  0000:05:00.0  nvme0n1 is mounted at /home\n"), "{text}");
        assert!(below.contains("1 other function needs `peerpath bind` first; --all lists it."), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let text = render(&functions, "", true, 80);
        assert!(text.contains("0000:06:00.0") && !text.contains("--all"), "{text}");
    }
}
