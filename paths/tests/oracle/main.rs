//! Compares predictions with a second implementation of the kernel's rules, on random machines.
//!
//! [`model`] draws a machine from a seed, [`tree`] writes it as the files of a host, `peerpath-paths` reads these files and
//! predicts, and [`kernel`] restates the C functions of Linux 7.2.12 and 7.3.4 on the model. [`kernel`] and `peerpath-paths`
//! share no code and no table. Each kind of disagreement is reported once, for the smallest machine that still shows it.
//! `PEERPATH_ORACLE_PERCENT` sets the number of machines in percent of the default number: `1000` compares ten times the default.
//!
//! Modelled: several segments and root buses, root buses behind VMD, cascaded switches, bridges to conventional PCI,
//! multifunction devices, virtual functions with and without a bus of their own, devices without accessible extended
//! configuration space; ACS on every kind of function, each control bit, behind other capabilities; the order of the kernel's
//! list after devices were removed and rescanned; device IDs in the allowlist and next to it; vendors and families of processors,
//! arm64; groups of each domain type, functions without a group, hosts without an IOMMU; BARs just below and above the limit of a
//! DMA mask; sizes of IOVA spans; every form of `swiotlb=`; buffers of several ranges.
//!
//! Not modelled: memory encryption and confidential guests, Xen, GART and other DMA operations of a platform, `dma-ranges` and
//! `bus_dma_limit` of firmware (arm64: an untranslated mapping may be unknown), the 32-bit limit below VIA bridges, reserved
//! regions and windows of host bridges (a span that fits only between 2 and 4 GiB, or at one place, may be refused or unknown),
//! domain types `blocked` and `unmanaged`, no-IOMMU groups, results that P2PDMA cached before ACS changed, hot-unplugged devices,
//! `pci=` options (their effect is in configuration space), the driver names in `/proc/bus/pci/devices`, exporters other than
//! vfio-pci, and importers with an address space of their own.

mod kernel;
mod model;
mod tree;
mod visible;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use peerpath_paths::{Bdf, Cause, Inventory, PathName, Request};

use kernel::{Answer, Verdict};
use model::{Lost, Machine};

/// Number of trees with every fact that the rules read.
const COMPLETE_TREES: u64 = 80_000;
/// Number of trees that lack facts.
const INCOMPLETE_TREES: u64 = 40_000;

#[test]
fn predictions_agree_with_the_kernels_rules() {
    let answers = compare(0..trees(COMPLETE_TREES), false);
    // Every result must occur often enough.
    for (answer, least) in [
        ("bus-address", 10_000),
        ("host-bridge-bypass", 10_000),
        ("host-bridge-translated", 10_000),
        ("refused topology", 10_000),
        ("refused swiotlb-forced", 1_000),
        ("refused dma-mask", 1_000),
        ("refused multi-range-defect", 1_000),
    ] {
        let count = answers.get(answer).copied().unwrap_or(0);
        assert!(count * COMPLETE_TREES >= least * trees(COMPLETE_TREES), "{answer}: {answers:?}");
    }
}

#[test]
fn a_lost_fact_gives_the_same_prediction_or_none() {
    let answers = compare(1_000_000..1_000_000 + trees(INCOMPLETE_TREES), true);
    let unknown = answers.get("unknown").copied().unwrap_or(0);
    let all: u64 = answers.values().sum();
    assert!(unknown > all / 20 && unknown < all / 4 * 3, "{answers:?}");
}

/// Scales the usual number of trees by `PEERPATH_ORACLE_PERCENT`.
fn trees(usual: u64) -> u64 {
    let percent = std::env::var("PEERPATH_ORACLE_PERCENT").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    usual * percent / 100
}

/// Compares all pairs of each machine and counts the predictions. Fails with one example for each kind of disagreement.
fn compare(seeds: Range<u64>, with_lost_facts: bool) -> BTreeMap<String, u64> {
    let counts = Mutex::new(BTreeMap::new());
    let examples: Mutex<BTreeMap<String, (u64, Machine, Disagreement)>> = Mutex::new(BTreeMap::new());
    let next = Mutex::new(seeds);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = BTreeMap::new();
                loop {
                    let Some(seed) = next.lock().unwrap().next() else { break };
                    let machine = Machine::draw(seed, with_lost_facts);
                    if let Some(found) = disagreement(&machine, Some(&mut own)) {
                        let mut examples = examples.lock().unwrap();
                        examples.entry(found.kind()).or_insert((0, machine, found)).0 += 1;
                    }
                }
                for (answer, count) in own {
                    *counts.lock().unwrap().entry(answer).or_default() += count;
                }
            });
        }
    });
    let examples = examples.into_inner().unwrap();
    let describe =
        |(machines, machine, found)| format!("in {machines} machines, such as\n{}", smallest(machine, found));
    let described: Vec<String> = examples.into_values().map(describe).collect();
    assert!(described.is_empty(), "predictions differ {}", described.join("\n"));
    counts.into_inner().unwrap()
}

/// A pair on which prediction and oracle disagree.
struct Disagreement {
    from: usize,
    to: usize,
    predicted: Answer,
    unknown: Vec<String>,
    right: Verdict,
}

impl Disagreement {
    /// Names the predicted result and the correct one. Disagreements with the same text are of one kind.
    fn kind(&self) -> String {
        let right: Vec<String> = self.right.answers.iter().copied().map(text).collect();
        format!("predicted {}, {} is right", text(self.predicted), right.join(" or "))
    }
}

/// The first disagreement among the pairs of a machine.
fn disagreement(machine: &Machine, mut counts: Option<&mut BTreeMap<String, u64>>) -> Option<Disagreement> {
    let inventory = Inventory::read(&tree::tree(machine));
    let predictor = inventory.predictor(Request { ranges: machine.ranges, ..Request::default() });
    let certain = kernel::heads(machine);
    let possible = visible::possible_heads(machine);
    let bdf = |index: usize| -> Bdf { machine.address(index).parse().expect("the address is valid") };
    for from in machine.exporters() {
        for to in machine.importers() {
            let roots = [machine.functions[from].root, machine.functions[to].root];
            let all = visible::combinations(&possible, &certain, roots);
            let right = join(all.iter().map(|heads| kernel::dma_buf_phys_vec_to_sgt(machine, heads, from, to)));
            let report = predictor.explain(bdf(from), bdf(to)).expect("both functions exist");
            let predicted = Answer { path: report.predicted, cause: report.cause };
            if !agrees(machine, predicted, &right) {
                return Some(Disagreement { from, to, predicted, unknown: report.unknown, right });
            }
            if let Some(counts) = &mut counts {
                *counts.entry(text(predicted)).or_default() += 1;
            }
        }
    }
    None
}

/// Joins the verdicts for all lists that the files permit.
fn join(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let mut joined = Verdict { answers: Vec::new(), open: false };
    for verdict in verdicts {
        joined.open |= verdict.open;
        for answer in verdict.answers {
            if !joined.answers.contains(&answer) {
                joined.answers.push(answer);
            }
        }
    }
    joined.open |= joined.answers.len() > 1;
    joined
}

fn agrees(machine: &Machine, predicted: Answer, right: &Verdict) -> bool {
    if right.answers.contains(&predicted) {
        return true;
    }
    let depends = right.open || !machine.lost.is_empty();
    // Without the command line, or the kernel's version that decides how `swiotlb=` is compared, a DMA mask that is too small is
    // the only known cause. With swiotlb=force the kernel refuses before it compares the mask.
    let forced = Answer { path: PathName::Refused, cause: Some(Cause::SwiotlbForced) };
    if (machine.is_lost(Lost::CommandLine) || machine.is_lost(Lost::Release))
        && predicted.cause == Some(Cause::DmaMask)
        && right.answers.contains(&forced)
    {
        return true;
    }
    match (predicted.path, predicted.cause) {
        (PathName::Unknown, None) => depends,
        // The kernel refuses, and several causes are possible.
        (PathName::Refused, None) => depends && right.answers.iter().any(|answer| answer.path == PathName::Refused),
        _ => false,
    }
}

fn text(answer: Answer) -> String {
    let cause = answer.cause.map_or_else(String::new, |cause: Cause| format!(" {cause}"));
    format!("{}{cause}", answer.path)
}

/// Removes functions and facts as long as a disagreement with the same results remains, and describes what is left.
fn smallest(mut machine: Machine, mut found: Disagreement) -> String {
    'again: loop {
        for smaller in simpler(&machine) {
            let same = |other: &Disagreement| other.predicted == found.predicted && other.right == found.right;
            if let Some(other) = disagreement(&smaller, None).filter(same) {
                (machine, found) = (smaller, other);
                continue 'again;
            }
        }
        break;
    }
    let (from, to) = (machine.address(found.from), machine.address(found.to));
    format!("{from} -> {to}: {}\n{machine}  unknown: {:?}\n", found.kind(), found.unknown)
}

/// Machines that each lack one function or fact of this one.
fn simpler(machine: &Machine) -> Vec<Machine> {
    let mut all = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Machine)| {
        let mut smaller = machine.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    let is_needed =
        |index: usize| machine.present().any(|other| other != index && machine.is_at_or_below(other, index));
    for index in machine.present().filter(|index| !is_needed(*index)) {
        offer(&|smaller| smaller.functions[index].removed = true);
    }
    for fact in 0..machine.lost.len() {
        offer(&|smaller| {
            smaller.lost.remove(fact);
        });
    }
    for index in machine.present() {
        let function = &machine.functions[index];
        if function.acs.is_some() {
            offer(&|smaller| smaller.functions[index].acs = None);
        }
        if function.shifted_capability || !function.before_acs.is_empty() {
            offer(&|smaller| {
                smaller.functions[index].shifted_capability = false;
                smaller.functions[index].before_acs.clear();
            });
        }
    }
    if machine.ranges > 1 {
        offer(&|smaller| smaller.ranges = 1);
    }
    if machine.command_line != "quiet" {
        offer(&|smaller| smaller.command_line = "quiet".to_owned());
    }
    // A lost fact of a removed function has no effect.
    all.retain(|smaller| smaller.exporters().next().is_some());
    for smaller in &mut all {
        let functions = &smaller.functions;
        smaller
            .lost
            .retain(|fact| !matches!(fact, Lost::Config(index) | Lost::Ids(index) if functions[*index].removed));
    }
    all
}
