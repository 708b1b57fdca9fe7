//! Compares predictions with a real kernel in emulated machines: the return value of `pci_p2pdma_map_type()` for each pair, the
//! domain type of the importer, and whether the DMA address equals the physical address.

use std::collections::BTreeMap;
use std::path::Path;

use peerpath_paths::{Bdf, Cause, Host, PathName, PathReport, Predictor, Request, Topology, Tree};

struct Row {
    name: String,
    from: Bdf,
    to: Bdf,
    expected: PathName,
    not_viable: bool,
}

fn rows(table: &str) -> Vec<Row> {
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| header.iter().position(|known| *known == name).unwrap();
    let [name, from, to, map_type, outcome, domain] = [
        "name",
        "exporter_bdf",
        "importer_bdf",
        "kernel_map_type",
        "import_errno_or_ok",
        "iommu_domain_type_of_importer",
    ]
    .map(column);
    lines
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|cells| Row {
            name: cells[name].to_owned(),
            from: cells[from].parse().unwrap(),
            to: cells[to].parse().unwrap(),
            expected: match (cells[map_type], cells[outcome], cells[domain]) {
                ("2", ..) | (_, "ENOMEM", _) => PathName::Refused,
                ("3", ..) => PathName::BusAddress,
                ("4", _, "DMA" | "DMA-FQ") => PathName::HostBridgeTranslated,
                ("4", ..) => PathName::HostBridgeBypass,
                other => panic!("{other:?}"),
            },
            not_viable: cells[outcome].ends_with("GROUP_NOT_VIABLE"),
        })
        .collect()
}

fn reports(snapshot: &Path) -> BTreeMap<(Bdf, Bdf), PathReport> {
    let tree = Tree::open(snapshot).unwrap();
    let (host, topology) = (Host::read(&tree), Topology::read(&tree));
    let predictor = Predictor::new(&host, &topology, Request::default());
    let all = predictor.predict_all();
    all.map(|prediction| predictor.report(&prediction)).map(|report| ((report.from, report.to), report)).collect()
}

#[test]
fn predictions_agree_with_the_kernel() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/truth");
    let rows = rows(&std::fs::read_to_string(folder.join("truth.tsv")).unwrap());
    assert!(rows.len() >= 17);
    let mut snapshots: BTreeMap<String, _> = BTreeMap::new();
    for row in &rows {
        let reports =
            snapshots.entry(row.name.clone()).or_insert_with(|| reports(&folder.join(format!("{}.tar.gz", row.name))));
        let report = &reports[&(row.from, row.to)];
        assert_eq!(report.predicted, row.expected, "{}: {report:#?}", row.name);
        assert_eq!(report.cause, (row.expected == PathName::Refused).then_some(Cause::Topology), "{}", row.name);
        assert_eq!(report.blockers.contains(&Cause::GroupNotViable), row.not_viable, "{}: {report:#?}", row.name);
        assert!(report.unknown.is_empty(), "{}: {report:#?}", row.name);
        assert_eq!((report.hops.first(), report.hops.last()), (Some(&row.from), Some(&row.to)), "{}", row.name);
        assert!(!report.deciding.fact.is_empty());
    }
}
