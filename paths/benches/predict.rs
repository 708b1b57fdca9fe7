//! Benchmarks of the prediction: all pairs of a host with 512 functions (target: below 100 ms), and the snapshot of an emulated
//! machine, including the time to read the archive (target: below 50 ms).

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use peerpath_paths::{Inventory, Limits, Request, Tree};

fn all_pairs(criterion: &mut Criterion) {
    let inventory = support::large(512).inventory();
    let functions = inventory.topology.functions().len();
    assert_eq!(functions, 512);
    criterion.bench_function("all pairs of 512 functions", |bencher| {
        bencher.iter(|| black_box(inventory.predictor(Request::default()).predict_all().count()));
    });
    criterion.bench_function("reports of all pairs of 512 functions", |bencher| {
        bencher.iter(|| black_box(inventory.reports(None, None, Request::default()).count()));
    });
}

fn snapshots(criterion: &mut Criterion) {
    let small = include_bytes!("../tests/fixtures/truth/08_nested_epyc.tar.gz");
    criterion.bench_function("snapshot of an emulated machine", |bencher| {
        bencher.iter(|| black_box(analyse(small)));
    });
    let large = support::large(512).archive();
    criterion.bench_function("snapshot of 512 functions", |bencher| {
        bencher.iter(|| black_box(analyse(&large)));
    });
}

fn analyse(archive: &[u8]) -> usize {
    let tree = Tree::from_archive(archive, &Limits::default()).expect("the archive is complete");
    Inventory::read(&tree).predictor(Request::default()).predict_all().count()
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = all_pairs, snapshots
}
criterion_main!(benches);
