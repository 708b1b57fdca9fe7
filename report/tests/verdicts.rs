//! How often the verdicts of `compare` are right, on synthetic results with known changes.
//!
//! A repeat has an offset (the variation from repeat to repeat) and samples with noise of their own around it, with late ones.
//! The figures of a repeat are the quantiles of its samples, or their mean rate. The generator knows nothing of the method.
//!
//! `PEERPATH_RATES=1 cargo test -p peerpath-report --test verdicts -- --nocapture` prints the rates of `docs/compare.md`.

use std::fmt::Write as _;

use peerpath_report::compare::{Comparison, Options, Unit, Verdict, compare};
use peerpath_report::saved::{self, Saved, SavedCell, SavedLatency, SavedRepeat};

const OPTIONS: Options = Options { threshold_percent: 5.0, force: false };
const CELLS: usize = 12;
const COMPARISONS: u64 = 1000;
const SAMPLES: usize = 120;
/// Spread of the samples within a repeat, and share and factor of the late ones.
const SAMPLE_SPREAD: f64 = 0.05;
const LATE: (f64, f64) = (0.05, 1.8);

/// Reproducible pseudo-random numbers (splitmix64).
struct Draws(u64);

impl Draws {
    /// Uniform between 0 and 1, both excluded.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((mixed ^ (mixed >> 31)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Student's t with 3 degrees of freedom, scaled to a standard deviation of 1.
    fn t3(&mut self) -> f64 {
        let squares: f64 = (0..3).map(|_| self.normal().powi(2)).sum();
        self.normal() / squares.sqrt()
    }
}

/// The variation from repeat to repeat, in relative terms.
#[derive(Clone, Copy)]
enum Noise {
    /// Normal offsets with this standard deviation.
    Normal(f64),
    /// Normal offsets whose standard deviation differs from cell to cell, by a factor of up to 10.
    Unequal(f64),
    /// Offsets of t3 with this standard deviation.
    Heavy(f64),
    /// Log-normal factors: only slower.
    Skewed(f64),
    /// This share of the cells has two modes: slower by this much, in this share of their repeats.
    Bimodal { cells: f64, slower: f64, share: f64 },
    /// Slower by this much at the end of the run than at its start. The repeats of cells are interleaved.
    Drift(f64),
    /// The same, only in the new run.
    NewDrift(f64),
    /// An offset for each cell of a run that all of its repeats share, and 1 % from repeat to repeat.
    Run(f64),
}

/// The mean of the log of a repeat's factor is not zero for all kinds of noise; both sides have the same one.
struct Generator {
    noise: Noise,
    repeats: usize,
    /// Relative latency of the first cell in the new results.
    changed: f64,
    template: Saved,
}

impl Generator {
    fn new(noise: Noise, repeats: usize, changed: f64) -> Self {
        let mut cells = String::new();
        for at in 0..CELLS {
            let (mode, comma) = (if at % 2 == 0 { "completion" } else { "bandwidth" }, if at == 0 { "" } else { "," });
            let _ = write!(
                cells,
                r#"{comma}{{"source": {{"kind": "host"}}, "target": {{"kind": "verbs", "device": "a"}}, "op": "write",
                "direction": "into_source", "mode": "{mode}", "size_bytes": {}, "depth": 1, "outcome": "passed",
                "verified_bytes": 1}}"#,
                64 << at
            );
        }
        let text = format!(
            r#"{{"schema_version": 2, "environment": {{"emulated": false, "soft_rdma": false}}, "cells": [{cells}]}}"#
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("result.json");
        std::fs::write(&file, text).unwrap();
        Self { noise, repeats, changed, template: saved::read(&file).unwrap() }
    }

    /// A result with these repeats.
    fn result(&self, draws: &mut Draws, is_new: bool) -> Saved {
        let mut saved = self.template.clone();
        for (at, cell) in saved.cells.iter_mut().enumerate() {
            let changed = if is_new && at == 0 { self.changed } else { 1.0 };
            // The cells must vary equally on both sides, so their kind does not depend on the draws.
            let kind = (at as f64 + 0.5) / CELLS as f64;
            let of_run = if let Noise::Run(spread) = self.noise { (spread * draws.normal()).exp() } else { 1.0 };
            cell.repeats = (0..self.repeats)
                .map(|repeat| {
                    let time = (repeat * CELLS + at) as f64 / (self.repeats * CELLS) as f64;
                    let offset = match self.noise {
                        Noise::Normal(spread) => 1.0 + spread * draws.normal(),
                        Noise::Unequal(spread) => 1.0 + spread * 10.0_f64.powf(kind - 0.5) * draws.normal(),
                        Noise::Heavy(spread) => (1.0 + spread * draws.t3()).max(0.2),
                        Noise::Skewed(spread) => 1.0 + 0.03 * (spread * draws.normal()).exp(),
                        Noise::Bimodal { cells, slower, share } => {
                            let is_slower = kind < cells && draws.uniform() < share;
                            (1.0 + 0.01 * draws.normal()) * if is_slower { 1.0 + slower } else { 1.0 }
                        }
                        Noise::Drift(by) => (1.0 + 0.01 * draws.normal()) * (1.0 + by * time),
                        Noise::NewDrift(by) => {
                            (1.0 + 0.01 * draws.normal()) * (1.0 + if is_new { by * time } else { 0.0 })
                        }
                        Noise::Run(_) => of_run * (1.0 + 0.01 * draws.normal()),
                    };
                    repeat_of(draws, 2000.0 * offset * changed, cell.mode == "bandwidth")
                })
                .collect();
            set_median_repeat(cell);
        }
        saved
    }

    fn comparison(&self, seed: u64, results: usize) -> Comparison {
        let mut draws = Draws(seed);
        let mut side = |is_new| (0..results).map(|_| self.result(&mut draws, is_new)).collect::<Vec<_>>();
        let (base, new) = (side(false), side(true));
        compare(&base.iter().collect::<Vec<_>>(), &new.iter().collect::<Vec<_>>(), OPTIONS).unwrap()
    }

    fn rates(&self, results: usize) -> Rates {
        let mut rates = Rates::default();
        for seed in 0..COMPARISONS {
            rates.count(&self.comparison(seed * 0x1234_5678_9abc, results), self.changed != 1.0);
        }
        rates
    }
}

/// A repeat with samples around a latency in nanoseconds. Their quantiles have three digits, as those of a histogram.
fn repeat_of(draws: &mut Draws, latency_ns: f64, is_bandwidth: bool) -> SavedRepeat {
    // Counts of the samples by their ratio to the latency, in steps of a thousandth.
    let mut counts = [0_u32; 2048];
    let mut sum = 0.0;
    for _ in 0..SAMPLES {
        let late = if draws.uniform() < LATE.0 { LATE.1 } else { 1.0 };
        let ratio = late * (1.0 + SAMPLE_SPREAD * 12.0_f64.sqrt() * (draws.uniform() - 0.5));
        sum += ratio;
        counts[(ratio * 1000.0) as usize] += 1;
    }
    let iterations = Some(SAMPLES as u64);
    if is_bandwidth {
        let mean_ns = latency_ns * sum / SAMPLES as f64;
        return SavedRepeat { iterations, throughput: Some(4096.0 / (mean_ns * 1e-9)), ..SavedRepeat::default() };
    }
    let at = |share: f64| {
        let mut left = (share * SAMPLES as f64) as u32 + 1;
        let step = counts.iter().position(|count| {
            left = left.saturating_sub(*count);
            left == 0
        });
        Some(latency_ns * step.unwrap() as f64 / 1000.0)
    };
    let latency = SavedLatency { p50: at(0.5), p99: at(0.99), ..SavedLatency::default() };
    SavedRepeat { iterations, latency: Some(latency), ..SavedRepeat::default() }
}

fn set_median_repeat(cell: &mut SavedCell) {
    let figure = |repeat: &SavedRepeat| repeat.throughput.or(repeat.p50()).unwrap();
    let mut order: Vec<&SavedRepeat> = cell.repeats.iter().collect();
    order.sort_by(|one, other| figure(one).total_cmp(&figure(other)));
    let median = order[(order.len() - 1) / 2].clone();
    (cell.iterations, cell.latency, cell.throughput) = (median.iterations, median.latency, median.throughput);
}

/// Numbers of cells by verdict.
#[derive(Debug, Default)]
struct Rates {
    unchanged: usize,
    /// Unchanged cells with a better or worse row.
    called: usize,
    /// Unchanged cells whose p50 or throughput is the same.
    same: usize,
    changed: usize,
    /// Changed cells with a worse row.
    found: usize,
    /// Unchanged p99 rows, and those that are the same.
    tails: usize,
    same_tails: usize,
}

impl Rates {
    fn count(&mut self, comparison: &Comparison, first_changed: bool) {
        let changed_key = &comparison.cells[0].key;
        let mut keys: Vec<&str> = comparison.cells.iter().map(|row| row.key.as_str()).collect();
        keys.dedup();
        assert_eq!(keys.len(), CELLS);
        for key in keys {
            let rows = || comparison.cells.iter().filter(|row| row.key == key);
            let any = |verdict| rows().any(|row| row.verdict == verdict);
            if first_changed && key == changed_key {
                self.changed += 1;
                self.found += usize::from(any(Verdict::Worse));
                continue;
            }
            self.unchanged += 1;
            self.called += usize::from(any(Verdict::Better) || any(Verdict::Worse));
            let is_tail = |metric: &str| metric == "latency_p99_ns";
            let same = |tail| rows().filter(|row| is_tail(row.metric) == tail && row.verdict == Verdict::Same).count();
            self.same += same(false);
            self.same_tails += same(true);
            self.tails += rows().filter(|row| is_tail(row.metric)).count();
        }
    }

    fn text(&self) -> String {
        let share = |count: usize, of: usize| format!("{:.2} %", 100.0 * count as f64 / of.max(1) as f64);
        let found = if self.changed == 0 { "-".to_owned() } else { share(self.found, self.changed) };
        let (called, same) = (share(self.called, self.unchanged), share(self.same, self.unchanged));
        format!("{called} | {found} | {same} | {}", share(self.same_tails, self.tails))
    }
}

fn at_most_one_call_in_a_hundred(repeats: usize) {
    let kinds = [
        ("normal, 2 %", Noise::Normal(0.02)),
        ("normal, 10 %", Noise::Normal(0.10)),
        ("normal, 1.3 to 13 %", Noise::Unequal(0.04)),
        ("t3, 5 %", Noise::Heavy(0.05)),
        ("log-normal", Noise::Skewed(1.0)),
        ("two modes, 20 % apart, equally frequent", Noise::Bimodal { cells: 1.0, slower: 0.2, share: 0.5 }),
        ("two modes, 20 % apart, one in 5 repeats", Noise::Bimodal { cells: 1.0, slower: 0.2, share: 0.2 }),
        ("the same modes in one cell of 12", Noise::Bimodal { cells: 0.05, slower: 0.2, share: 0.5 }),
        ("drift of 20 %, both runs", Noise::Drift(0.2)),
    ];
    let checked =
        ["normal, 2 %", "t3, 5 %", "log-normal", "two modes, 20 % apart, equally frequent", "drift of 20 %, both runs"];
    let mut wrong = Vec::new();
    // The others take as long again.
    for (name, noise) in kinds.into_iter().filter(|(name, _)| prints_rates() || checked.contains(name)) {
        let rates = Generator::new(noise, repeats, 1.0).rates(1);
        report(name, repeats, 1, &rates);
        if rates.called * 100 > rates.unchanged {
            wrong.push(format!("{name}: {rates:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn noise_is_called_a_change_in_at_most_one_cell_of_a_hundred_with_3_repeats() {
    at_most_one_call_in_a_hundred(3);
}

#[test]
fn noise_is_called_a_change_in_at_most_one_cell_of_a_hundred_with_5_repeats() {
    at_most_one_call_in_a_hundred(5);
}

#[test]
fn a_change_of_ten_percent_is_found_and_unchanged_cells_are_the_same() {
    for (repeats, found, same) in [(3, 0.7, 0.5), (5, 0.9, 0.8)] {
        let rates = Generator::new(Noise::Normal(0.02), repeats, 1.1).rates(1);
        report("normal, 2 %, one cell slower by 10 %", repeats, 1, &rates);
        assert!(rates.found as f64 >= found * rates.changed as f64, "{repeats} repeats: {rates:?}");
        assert!(rates.same as f64 >= same * rates.unchanged as f64, "{repeats} repeats: {rates:?}");
        assert!(rates.called * 100 <= rates.unchanged, "{repeats} repeats: {rates:?}");
    }
}

/// Repeats of one run do not show how runs vary, several results do.
#[test]
fn several_results_include_the_variation_from_run_to_run() {
    for (results, most_called) in [(1, 1.0), (3, 0.01)] {
        if results == 1 && !prints_rates() {
            continue;
        }
        let rates = Generator::new(Noise::Run(0.04), 3, 1.0).rates(results);
        report("4 % from run to run", 3, results, &rates);
        assert!(rates.called as f64 <= most_called * rates.unchanged as f64, "{results} results: {rates:?}");
    }
    let generator = Generator::new(Noise::Run(0.04), 3, 1.0);
    assert_eq!(generator.comparison(1, 2).unit, Unit::Result);
    assert_eq!(generator.comparison(1, 1).unit, Unit::Repeat);
}

/// The noise that the documentation names as limits of the method.
#[test]
fn prints_the_rates_at_the_limits_of_the_method() {
    if !prints_rates() {
        return;
    }
    for (name, noise) in [
        ("the same modes in half of the cells", Noise::Bimodal { cells: 0.5, slower: 0.2, share: 0.5 }),
        ("drift of 10 %, only the new run", Noise::NewDrift(0.1)),
        ("drift of 20 %, only the new run", Noise::NewDrift(0.2)),
    ] {
        for repeats in [3, 5] {
            report(name, repeats, 1, &Generator::new(noise, repeats, 1.0).rates(1));
        }
    }
}

/// The claim of an inconclusive row, on the whole: the proposed number of repeats decides most of the rows.
#[test]
fn proposed_repeats_decide() {
    let few = Generator::new(Noise::Normal(0.04), 3, 1.0);
    let needed: Vec<usize> = (0..50)
        .flat_map(|seed| few.comparison(seed, 1).cells)
        .filter(|row| row.metric == "latency_p50_ns")
        .filter_map(|row| row.observations_needed)
        .collect();
    let mut sorted = needed;
    sorted.sort_unstable();
    let middle = sorted[sorted.len() / 2];
    assert!((8..40).contains(&middle), "{middle}");
    let rates = {
        let many = Generator::new(Noise::Normal(0.04), middle, 1.0);
        let mut rates = Rates::default();
        (0..50).for_each(|seed| rates.count(&many.comparison(seed + 1000, 1), false));
        rates
    };
    assert!(rates.same as f64 > 0.7 * rates.unchanged as f64, "{middle} repeats: {rates:?}");
}

fn report(name: &str, repeats: usize, results: usize, rates: &Rates) {
    if prints_rates() {
        println!("| {name} | {repeats} | {results} | {} |", rates.text());
    }
}

fn prints_rates() -> bool {
    std::env::var_os("PEERPATH_RATES").is_some()
}
