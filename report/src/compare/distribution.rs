//! Student's t distribution and the polygamma functions.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Degrees of freedom from which the normal distribution is used.
const NORMAL_FROM: f64 = 10_000.0;

/// Probability that a t distributed value is above `t`.
pub(super) fn above(t: f64, degrees: f64) -> f64 {
    distribution(degrees, |distribution| distribution.sf(t))
}

/// The value that a t distributed value does not exceed with probability `share` (0.5 to 1).
pub(super) fn quantile(share: f64, degrees: f64) -> f64 {
    let z = normal_quantile(share);
    let mut t = rough_quantile(z, degrees);
    // Newton's method converges from below, where the tail is convex; bisection bounds the step elsewhere.
    let (mut low, mut high) = (0.0, f64::INFINITY);
    for _ in 0..60 {
        let excess = above(t, degrees) - (1.0 - share);
        if excess > 0.0 {
            low = t
        } else {
            high = t
        }
        let step = t * 1e-6;
        let slope = (above(t - step, degrees) - above(t + step, degrees)) / (2.0 * step);
        let next = t + excess / slope;
        let next = if next > low && next < high { next } else { f64::midpoint(low, high.min(2.0 * low + 1.0)) };
        if (next - t).abs() <= 1e-6 * t {
            return next;
        }
        t = next;
    }
    t
}

/// The quantile of the t distribution at which the normal distribution has `z`: the expansion of Cornish and Fisher (Abramowitz
/// and Stegun 26.7.5), too low by up to a tenth with four degrees of freedom.
pub(super) fn rough_quantile(z: f64, degrees: f64) -> f64 {
    let square = z * z;
    z + z * (square + 1.0) / (4.0 * degrees) + z * ((5.0 * square + 16.0) * square + 3.0) / (96.0 * degrees * degrees)
}

/// The value that a normally distributed value does not exceed with probability `share`.
pub(super) fn normal_quantile(share: f64) -> f64 {
    Normal::standard().inverse_cdf(share)
}

fn distribution(degrees: f64, of: impl Fn(&dyn ContinuousCDF<f64, f64>) -> f64) -> f64 {
    if degrees < NORMAL_FROM
        && let Ok(student) = StudentsT::new(0.0, 1.0, degrees)
    {
        of(&student)
    } else {
        of(&Normal::standard())
    }
}

/// Derivative of the logarithm of the gamma function.
pub(super) fn digamma(x: f64) -> f64 {
    statrs::function::gamma::digamma(x)
}

/// Second derivative of the logarithm of the gamma function, for `x` above zero: recurrence, then the asymptotic series
/// (Abramowitz and Stegun 6.4.6 and 6.4.12).
pub(super) fn trigamma(x: f64) -> f64 {
    let (mut x, mut sum) = (x, 0.0);
    while x < 10.0 {
        sum += 1.0 / (x * x);
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    sum + 1.0 / x + y / 2.0 + y / x * (1.0 / 6.0 - y * (1.0 / 30.0 - y * (1.0 / 42.0 - y / 30.0)))
}

/// The `x` with this `trigamma(x)`.
pub(super) fn inverse_trigamma(value: f64) -> f64 {
    // The function falls from infinity to zero.
    let (mut low, mut high) = (1e-8_f64, 1e8_f64);
    for _ in 0..100 {
        let middle = (low * high).sqrt();
        if trigamma(middle) > value { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(value: f64, expected: f64) {
        assert!((value / expected - 1.0).abs() < 2e-4, "{value}, expected {expected}");
    }

    /// Tables of Student's t: quantiles of Abramowitz and Stegun, table 26.10.
    #[test]
    fn quantiles_match_published_tables() {
        for (share, degrees, expected) in [
            (0.95, 1.0, 6.314),
            (0.95, 4.0, 2.132),
            (0.95, 8.0, 1.860),
            (0.975, 4.0, 2.776),
            (0.995, 4.0, 4.604),
            (0.995, 8.0, 3.355),
            (0.9995, 4.0, 8.610),
            (0.975, 120.0, 1.980),
            (0.975, f64::INFINITY, 1.960),
        ] {
            let found = quantile(share, degrees);
            if degrees >= 4.0 {
                let rough = rough_quantile(normal_quantile(share), degrees);
                assert!((rough / found - 1.0).abs() < 0.15, "{share} {degrees}: {rough} {found}");
            }
            assert!((found - expected).abs() < 6e-4, "{share} {degrees}: {found}, expected {expected}");
        }
    }

    #[test]
    fn tails_are_exact_where_they_have_a_closed_form() {
        for t in [0.1_f64, 1.0, 3.0, 30.0] {
            near(above(t, 1.0), 0.5 - t.atan() / std::f64::consts::PI);
            near(above(t, 2.0), 0.5 * (1.0 - t / (2.0 + t * t).sqrt()));
        }
        assert!(above(1e6, 4.0) < 1e-20 && above(1e6, 4.0) >= 0.0);
        for t in [1.0, 3.5, 5.0] {
            let (just_below, above_limit) = (above(t, NORMAL_FROM - 1.0), above(t, NORMAL_FROM));
            assert!((just_below / above_limit - 1.0).abs() < 0.05, "{just_below} {above_limit}");
        }
    }

    #[test]
    fn polygammas_match_closed_forms() {
        near(trigamma(1.0), std::f64::consts::PI.powi(2) / 6.0);
        near(trigamma(0.5), std::f64::consts::PI.powi(2) / 2.0);
        near(digamma(1.0), -0.577_215_664_9);
        for x in [0.01, 0.7, 2.0, 50.0, 1e4] {
            near(inverse_trigamma(trigamma(x)), x);
        }
    }
}
