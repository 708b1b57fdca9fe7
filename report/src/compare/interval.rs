//! How far a difference can be trusted.

use crate::saved::{Distribution, SavedCell};

/// How often an interval holds what it is about.
pub const CONFIDENCE_PERCENT: u32 = 99;
/// So many standard deviations to either side hold that share of a normal distribution.
const DEVIATIONS: f64 = 2.575_829_303_548_9;

/// A difference, in percent of what was before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The figure before.
    pub base: f64,
    /// The figure now.
    pub new: f64,
    /// The difference.
    pub percent: f64,
    /// Its bounds; none where nothing is known of its uncertainty.
    pub bounds_percent: Option<[f64; 2]>,
}

impl Change {
    /// Of two bare figures; none where there is nothing to divide by.
    pub fn of(base: f64, new: f64) -> Option<Self> {
        let percent = percent(new / base);
        (base > 0.0 && new > 0.0 && percent.is_finite()).then_some(Self { base, new, percent, bounds_percent: None })
    }

    /// Of a quantile of two distributions. Without bounds where there are too few samples to have any.
    ///
    /// The bounds of either quantile are the samples at the ranks between which it lies (binomial); those of their ratio
    /// follow from the distances to them (Zou and Donner's method of variance estimates recovery, in logarithms).
    pub fn of_quantile(base: &Distribution, new: &Distribution, share: f64) -> Option<Self> {
        let change = Self::of(base.quantile(share), new.quantile(share))?;
        let bounds_percent = quantile_bounds(base, share).zip(quantile_bounds(new, share)).and_then(|(before, now)| {
            let log = |figure: f64| (figure > 0.0).then(|| figure.ln());
            let (at, low, high) = (log(change.base)?, log(before[0])?, log(before[1])?);
            let (new_at, new_low, new_high) = (log(change.new)?, log(now[0])?, log(now[1])?);
            let difference = new_at - at;
            let below = (new_at - new_low).hypot(high - at);
            let above = (new_high - new_at).hypot(at - low);
            Some([percent((difference - below).exp()), percent((difference + above).exp())])
        });
        Some(Self { bounds_percent, ..change })
    }

    /// Of throughputs. With the slowest window of both, the bounds are how far one mean lies from the other's slowest window.
    pub fn of_throughput(base: &SavedCell, new: &SavedCell) -> Option<Self> {
        let change = Self::of(base.throughput?, new.throughput?)?;
        let slowest =
            |cell: &SavedCell, mean: f64| cell.throughput_min_window.filter(|slowest| (0.0..=mean).contains(slowest));
        let windows = slowest(base, change.base).zip(slowest(new, change.new)).filter(|(before, _)| *before > 0.0);
        let bounds_percent = windows.map(|(before, now)| [percent(now / change.base), percent(change.new / before)]);
        Some(Self { bounds_percent, ..change })
    }
}

fn percent(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}

/// The samples between which a quantile lies; none where it may lie beyond them.
fn quantile_bounds(samples: &Distribution, share: f64) -> Option<[f64; 2]> {
    let count = samples.count() as f64;
    let reach = DEVIATIONS * (count * share * (1.0 - share)).sqrt();
    let (low, high) = ((count * share - reach).floor(), (count * share + reach).ceil() + 1.0);
    (low >= 1.0 && high <= count).then(|| [samples.at_rank(low), samples.at_rank(high)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_samples_have_no_bounds_and_many_have_narrow_ones() {
        let samples = |count: u32| {
            let samples: Vec<f64> = (0..count).map(|at| 1000.0 + f64::from(at % 100)).collect();
            Distribution::of(&samples).unwrap()
        };
        let width = |count| {
            let change = Change::of_quantile(&samples(count), &samples(count), 0.5).unwrap();
            change.bounds_percent.map(|[low, high]| high - low)
        };
        assert_eq!(width(5), None);
        assert!(width(100).unwrap() > 2.0 * width(10_000).unwrap());
    }

    #[test]
    fn figures_without_sense_have_no_difference() {
        for (base, new) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            assert_eq!(Change::of(base, new), None);
        }
    }

    proptest! {
        #[test]
        fn the_difference_lies_within_its_bounds(
            base in prop::collection::vec(1.0..1e9, 1..400), new in prop::collection::vec(1.0..1e9, 1..400)
        ) {
            let (base, new) = (Distribution::of(&base).unwrap(), Distribution::of(&new).unwrap());
            for share in [0.5, 0.9, 0.99] {
                let change = Change::of_quantile(&base, &new, share).unwrap();
                if let Some([low, high]) = change.bounds_percent {
                    prop_assert!(low <= change.percent && change.percent <= high, "{change:?}");
                }
            }
        }
    }
}
