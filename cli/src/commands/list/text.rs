//! `list` as text.

use peerpath_importers::IMPORTERS;
use peerpath_paths::printable;
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
    let listed: Vec<&ListedFunction> = functions.iter().filter(|function| all || function.is_usable).collect();
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

fn table_of(functions: &[&ListedFunction]) -> Table {
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
        table::text("target", 1),
        table::text("other devices", 2),
    ]);
    for function in functions {
        let entry = &function.entry;
        let exportable = entry.bars.iter().filter(|bar| bar.exportable);
        let mut first = Some(entry);
        let mut bars: Vec<_> = exportable.map(Some).collect();
        if bars.is_empty() && !entry.devices.is_empty() {
            bars.push(None);
        }
        let others: Vec<&str> =
            entry.devices.iter().filter(|device| !function.targets.contains(device)).map(String::as_str).collect();
        let joined = |names: String| Some(names).filter(|names| !names.is_empty());
        for bar in bars {
            // Only the first row of a function fills the columns about the function; the rows of its other BARs leave them empty.
            let own = first.take();
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
                if bar.is_some() { export(function) } else { "no" }.into(),
                or_dash(joined(function.targets.join(" "))),
                or_dash(joined(others.join(" "))),
            ]);
        }
    }
    table
}

/// Whether an exportable BAR of a function can be exported now.
fn export(function: &ListedFunction) -> &'static str {
    match (function.is_source, function.uses.is_empty()) {
        (true, _) => "yes",
        (false, true) => "after bind",
        (false, false) => "in use",
    }
}

#[cfg(test)]
mod tests {
    use peerpath_paths::{BarKind, ListBar, ListEntry};

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
        let targets = devices.iter().filter(|name| name.starts_with("verbs:")).map(ToString::to_string).collect();
        let is_source = driver == "vfio-pci" && uses.is_empty();
        ListedFunction { entry, is_usable, is_source, targets, uses: uses.iter().map(ToString::to_string).collect() }
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

    #[test]
    fn states_what_can_be_exported_now_and_what_is_a_target() {
        let functions = [
            function("0000:03:00.0", "vfio-pci", &[], true, &[]),
            function("0000:04:00.0", "mlx5_core", &["verbs:mlx5_0", "net:eth0"], true, &["eth0 has the default route"]),
            function("0000:06:00.0", "xhci_hcd", &[], false, &[]),
        ];
        let text = render(&functions, "", true, usize::MAX);
        let ends =
            |bdf: &str, end: &str| text.lines().any(|line| line.starts_with(bdf) && line.trim_end().ends_with(end));
        assert!(ends("0000:03:00.0", "16 MiB  yes         -             -"), "{text}");
        assert!(ends("0000:04:00.0", "16 MiB  in use      verbs:mlx5_0  net:eth0"), "{text}");
        assert!(ends("0000:06:00.0", "16 MiB  after bind  -             -"), "{text}");
    }
}
