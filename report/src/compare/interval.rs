//! Changes with confidence intervals.

use crate::saved::{Distribution, SavedCell};

/// Half width of the 99 % confidence interval of a normal distribution, in standard deviations.
const DEVIATIONS: f64 = 2.575_829_303_548_9;

/// The change of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// Value in the base result.
    pub(super) base: f64,
    /// Value in the new result.
    pub(super) new: f64,
    /// Change, in percent of the base value.
    pub(super) percent: f64,
    /// Interval of the change. `None` if its uncertainty is unknown.
    pub(super) bounds_percent: Option<[f64; 2]>,
}

impl Change {
    /// Change without an interval. `None` unless both values are positive and finite.
    pub(super) fn of(base: f64, new: f64) -> Option<Self> {
        let percent = percent(new / base);
        (base > 0.0 && new > 0.0 && percent.is_finite()).then_some(Self { base, new, percent, bounds_percent: None })
    }

    /// Change of a quantile of two distributions, without an interval if there are too few samples.
    ///
    /// The bounds of each quantile are samples at two ranks (binomial). The bounds of the ratio follow from them by Zou and
    /// Donner's method of variance estimates recovery (MOVER), applied to logarithms.
    pub(super) fn of_quantile(base: &Distribution, new: &Distribution, share: f64) -> Option<Self> {
        let change = Self::of(base.quantile(share), new.quantile(share))?;
        let bounds_percent = quantile_bounds(base, share).zip(quantile_bounds(new, share)).and_then(|(before, now)| {
            let log = |value: f64| (value > 0.0).then(|| value.ln());
            let (at, low, high) = (log(change.base)?, log(before[0])?, log(before[1])?);
            let (new_at, new_low, new_high) = (log(change.new)?, log(now[0])?, log(now[1])?);
            let difference = new_at - at;
            let below = (new_at - new_low).hypot(high - at);
            let above = (new_high - new_at).hypot(at - low);
            Some([percent((difference - below).exp()), percent((difference + above).exp())])
        });
        Some(Self { bounds_percent, ..change })
    }

    /// Change of the mean throughput. Each run is divided into windows of at least 100 ms. The interval reaches from the lowest
    /// window of `new` relative to the mean of `base`, to the mean of `new` relative to the lowest window of `base`.
    pub(super) fn of_throughput(base: &SavedCell, new: &SavedCell) -> Option<Self> {
        let change = Self::of(base.throughput?, new.throughput?)?;
        let lowest =
            |cell: &SavedCell, mean: f64| cell.throughput_min_window.filter(|lowest| (0.0..=mean).contains(lowest));
        let windows = lowest(base, change.base).zip(lowest(new, change.new)).filter(|(before, _)| *before > 0.0);
        let bounds_percent = windows.map(|(before, now)| [percent(now / change.base), percent(change.new / before)]);
        Some(Self { bounds_percent, ..change })
    }
}

fn percent(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}

/// Samples that bound a quantile with 99 % confidence. `None` if there are too few samples for both bounds.
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
    fn more_samples_give_narrower_bounds_and_few_give_none() {
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
    fn zero_and_non_finite_values_have_no_change() {
        for (base, new) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            assert_eq!(Change::of(base, new), None);
        }
    }

    proptest! {
        #[test]
        fn change_lies_within_its_bounds(
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
