//! Tests of differences between two groups of observations, with variances that many tests estimate together.

use super::distribution::{above, digamma, inverse_trigamma, normal_quantile, quantile, rough_quantile, trigamma};

/// Smallest variance of the logarithm of a figure: that of rounding to three digits, as histograms do.
const MIN_VARIANCE: f64 = 1e-6 / 12.0;
/// Fewest variances from which a prior is estimated.
const MIN_VARIANCES: usize = 3;
/// Share of wrong statements among better and worse ones (Benjamini-Hochberg).
pub(super) const FALSE_DISCOVERIES: f64 = 0.01;
/// Error probability of each of the two tests of equivalence. The interval has twice of it outside.
const EQUIVALENCE_ERROR: f64 = 0.05;
/// Probability with which the proposed number of observations decides.
const POWER: f64 = 0.8;
/// Highest number of observations of a side that is proposed.
const MAX_PROPOSED: usize = 100;

/// Observations of one figure on both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Contrast {
    /// Mean of `new` minus mean of `base`.
    difference: f64,
    /// Variance within the sides, pooled.
    variance: f64,
    /// Degrees of freedom of the variance.
    degrees: f64,
    /// Number of observations of `base` and of `new`.
    counts: [usize; 2],
}

impl Contrast {
    /// `None` with fewer than two observations on a side: their variation is then unknown.
    pub(super) fn of(base: &[f64], new: &[f64]) -> Option<Self> {
        if base.len() < 2 || new.len() < 2 {
            return None;
        }
        let squares = |values: &[f64]| values.iter().map(|value| (value - mean(values)).powi(2)).sum::<f64>();
        let degrees = (base.len() + new.len() - 2) as f64;
        let variance = ((squares(base) + squares(new)) / degrees).max(MIN_VARIANCE);
        Some(Self { difference: mean(new) - mean(base), variance, degrees, counts: [base.len(), new.len()] })
    }
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The distribution of variances over tests: a scaled inverse chi-square distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prior {
    /// Variance towards which the others are shrunk (s0 squared).
    variance: f64,
    /// Median of the variances.
    median: f64,
    /// Weight of that variance, in degrees of freedom (d0). Infinite if all tests have the same variance.
    degrees: f64,
    /// Degrees of freedom of all tests together.
    pooled_degrees: f64,
}

impl Prior {
    /// Estimates the prior from the mean and the variance of the logarithms of the variances (Smyth 2004, section 6.2).
    pub(super) fn of(contrasts: &[Contrast]) -> Self {
        let pooled_degrees = contrasts.iter().map(|one| one.degrees).sum();
        if contrasts.len() < MIN_VARIANCES {
            return Self { variance: 0.0, median: 0.0, degrees: 0.0, pooled_degrees };
        }
        let logs: Vec<f64> = contrasts
            .iter()
            .map(|one| one.variance.ln() - digamma(one.degrees / 2.0) + (one.degrees / 2.0).ln())
            .collect();
        let typical = mean(&logs);
        let spread = logs.iter().map(|log| (log - typical).powi(2)).sum::<f64>() / (logs.len() - 1) as f64;
        let expected: Vec<f64> = contrasts.iter().map(|one| trigamma(one.degrees / 2.0)).collect();
        let excess = spread - mean(&expected);
        let (degrees, shift) = if excess > 0.0 {
            let half = inverse_trigamma(excess);
            (2.0 * half, digamma(half) - half.ln())
        } else {
            (f64::INFINITY, 0.0)
        };
        let mut variances: Vec<f64> = contrasts.iter().map(|one| one.variance).collect();
        variances.sort_by(f64::total_cmp);
        let median = variances[variances.len() / 2];
        Self { variance: (typical + shift).exp(), median, degrees, pooled_degrees }
    }

    /// The estimate of a difference, with its variance shrunk towards the prior.
    ///
    /// The variance is never below the median variance: a few observations that are close together by chance would otherwise
    /// make a large statistic, e.g. if a figure has two modes and all observations of a side are in one of them. The degrees
    /// of freedom do not exceed those of all tests together, as in limma.
    pub(super) fn moderate(&self, contrast: &Contrast) -> Estimate {
        let degrees = (self.degrees + contrast.degrees).min(self.pooled_degrees);
        let weight = self.degrees / (self.degrees + contrast.degrees);
        let weight = if weight.is_nan() { 1.0 } else { weight };
        let variance = weight * self.variance + (1.0 - weight) * contrast.variance;
        Estimate {
            difference: contrast.difference,
            variance: variance.max(self.median),
            degrees,
            counts: contrast.counts,
        }
    }
}

/// A difference with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    /// Mean of `new` minus mean of `base`.
    pub(super) difference: f64,
    /// Variance of an observation.
    variance: f64,
    /// Degrees of freedom of the variance.
    degrees: f64,
    /// Number of observations of `base` and of `new`.
    pub(super) counts: [usize; 2],
}

impl Estimate {
    fn error(&self) -> f64 {
        let [base, new] = self.counts.map(|count| 1.0 / count as f64);
        (self.variance * (base + new)).sqrt()
    }

    /// Two-sided p value of the null hypothesis that both sides have the same mean.
    pub(super) fn p(&self) -> f64 {
        (2.0 * above((self.difference / self.error()).abs(), self.degrees)).min(1.0)
    }

    /// The interval of 90 %. Both one-sided tests of equivalence reject at 5 % if it is within the bounds (Schuirmann 1987).
    pub(super) fn interval(&self) -> [f64; 2] {
        let reach = quantile(1.0 - EQUIVALENCE_ERROR, self.degrees) * self.error();
        [self.difference - reach, self.difference + reach]
    }

    /// Number of observations on each side that decides with a probability of 80 %, if difference and variance are as they
    /// seem: against zero if the difference is outside of `bounds`, else for equivalence. `None` if over 100.
    ///
    /// `significant_p` is the p value below which a difference is significant.
    pub(super) fn observations_needed(&self, bounds: [f64; 2], significant_p: f64) -> Option<usize> {
        let [low, high] = bounds;
        let (distance, error) = if (low..=high).contains(&self.difference) {
            // Near the middle, the other test can fail, too: this is the higher one of two probabilities.
            ((self.difference - low).min(high - self.difference), EQUIVALENCE_ERROR)
        } else {
            (self.difference.abs(), significant_p / 2.0)
        };
        let [base, new] = self.counts;
        let now = base.min(new);
        let (reach, power) = (normal_quantile(1.0 - error), normal_quantile(POWER));
        let decides = |count: &usize| {
            let degrees = self.degrees + 2.0 * (*count as f64 - now as f64);
            let reach = rough_quantile(reach, degrees) + power;
            reach * (2.0 * self.variance / *count as f64).sqrt() <= distance
        };
        (now + 1..=MAX_PROPOSED).find(decides)
    }
}

/// p values adjusted by the method of Benjamini and Hochberg (1995): the smallest share of false discoveries at which a test is
/// significant.
pub(super) fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&one, &other| p[other].total_cmp(&p[one]));
    let mut adjusted = vec![1.0; p.len()];
    let mut lowest = 1.0_f64;
    for (at, &index) in order.iter().enumerate() {
        let rank = p.len() - at;
        lowest = lowest.min(p[index] * p.len() as f64 / rank as f64);
        adjusted[index] = lowest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-3 * expected.abs().max(1e-3), "{value}, expected {expected}");
    }

    /// Without a prior this is Student's test.
    #[test]
    fn few_tests_use_the_variance_of_each() {
        let contrast = Contrast::of(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap();
        let estimate = Prior::of(&[contrast, contrast]).moderate(&contrast);
        near(estimate.difference, 3.0);
        near(estimate.p(), 0.021_312);
        near(estimate.interval()[0], 3.0 - 2.131_847 * (2.0_f64 / 3.0).sqrt());
    }

    #[test]
    fn a_single_observation_has_no_contrast() {
        assert_eq!(Contrast::of(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(Contrast::of(&[1.0, 2.0], &[]), None);
    }

    #[test]
    fn equal_variances_are_pooled() {
        let contrasts: Vec<_> = (0..10).map(|_| Contrast::of(&[0.0, 1.0], &[0.0, 1.0]).unwrap()).collect();
        let prior = Prior::of(&contrasts);
        assert_eq!((prior.degrees, prior.pooled_degrees), (f64::INFINITY, 20.0));
        let estimate = prior.moderate(&contrasts[0]);
        assert_eq!(estimate.degrees, 20.0);
    }

    /// Variances drawn from a prior with 8 degrees of freedom and a typical variance of 4.
    #[test]
    fn recovers_the_prior_of_simulated_variances() {
        let mut state = 7_u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        };
        let mut chi_square = |degrees: u32| -2.0 * (0..degrees / 2).map(|_| uniform().ln()).sum::<f64>();
        let contrasts: Vec<_> = (0..5000)
            .map(|_| {
                let variance = 4.0 * 8.0 / chi_square(8);
                let variance = variance * chi_square(4) / 4.0;
                Contrast { difference: 0.0, variance, degrees: 4.0, counts: [3, 3] }
            })
            .collect();
        let prior = Prior::of(&contrasts);
        assert!((7.0..9.0).contains(&prior.degrees) && (3.8..4.2).contains(&prior.variance), "{prior:?}");
    }

    #[test]
    fn a_variance_of_zero_does_not_make_a_difference_certain() {
        let noisy = |at: f64| Contrast::of(&[at, at + 0.2, at], &[at + 0.2, at, at + 0.2]).unwrap();
        let lucky = Contrast::of(&[0.0, 0.0, 0.0], &[0.2, 0.2, 0.2]).unwrap();
        let mut contrasts: Vec<_> = (0..11).map(|at| noisy(f64::from(at))).collect();
        contrasts.push(lucky);
        assert!(Prior::of(&contrasts).moderate(&lucky).p() > 0.01);
        assert!(Prior::of(&[lucky]).moderate(&lucky).p() > 0.0);
    }

    /// The example of Benjamini and Hochberg (1995): the first four of 15 are significant at 5 %.
    #[test]
    fn adjusts_the_published_example() {
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
            0.7590, 1.0,
        ];
        let significant = adjusted(&p).iter().filter(|p| **p <= 0.05).count();
        assert_eq!(significant, 4);
        assert_eq!(adjusted(&[]), Vec::<f64>::new());
    }

    #[test]
    fn proposes_more_observations_for_more_noise_and_none_without_hope() {
        let estimate = |difference: f64, deviation: f64| Estimate {
            difference,
            variance: deviation * deviation,
            degrees: 48.0,
            counts: [3, 3],
        };
        let bounds = [0.95_f64.ln(), 1.05_f64.ln()];
        let quiet = estimate(0.0, 0.03).observations_needed(bounds, 0.001).unwrap();
        let noisy = estimate(0.0, 0.06).observations_needed(bounds, 0.001).unwrap();
        assert!((4..10).contains(&quiet) && noisy > 2 * quiet, "{quiet} {noisy}");
        assert!(estimate(0.1, 0.06).observations_needed(bounds, 0.001).is_some());
        assert_eq!(estimate(0.0487, 0.03).observations_needed(bounds, 0.001), None);
        assert_eq!(estimate(0.0, 0.03).observations_needed([0.0, 0.0], 0.001), None);
    }

    proptest! {
        #[test]
        fn results_are_finite_and_ordered(
            base in prop::collection::vec(-700.0..700.0, 2..9), new in prop::collection::vec(-700.0..700.0, 2..9),
            others in prop::collection::vec((0.0..1e6, 0.0..1e-3), 0..9)
        ) {
            let mut contrasts: Vec<Contrast> =
                others.iter().map(|(at, step)| Contrast::of(&[*at, at + step], &[*at, *at]).unwrap()).collect();
            contrasts.push(Contrast::of(&base, &new).unwrap());
            let prior = Prior::of(&contrasts);
            for contrast in &contrasts {
                let estimate = prior.moderate(contrast);
                let [low, high] = estimate.interval();
                prop_assert!((0.0..=1.0).contains(&estimate.p()), "{estimate:?}");
                prop_assert!(low <= estimate.difference && estimate.difference <= high, "{estimate:?}");
            }
            let p: Vec<f64> = contrasts.iter().map(|one| prior.moderate(one).p()).collect();
            for (adjusted, p) in adjusted(&p).iter().zip(&p) {
                prop_assert!(*adjusted >= p * (1.0 - 1e-12) && *adjusted <= 1.0);
            }
        }
    }
}
