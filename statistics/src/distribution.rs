//! Tails and quantiles of the normal, Student's t and the chi-squared distribution.

use statrs::distribution::{ChiSquared, ContinuousCDF, Normal, StudentsT};

/// From here on Student's t is the normal distribution to six digits.
pub(crate) const MANY: f64 = 1e6;

/// Chance that a standard normal number exceeds `z`.
pub(crate) fn normal_tail(z: f64) -> f64 {
    Normal::standard().sf(z)
}

/// The number that a standard normal number exceeds with this chance.
pub(crate) fn normal_upper(tail: f64) -> f64 {
    // From the lower tail, where small chances keep their digits.
    -Normal::standard().inverse_cdf(tail)
}

/// Chance that Student's t with `df` degrees of freedom exceeds `t`.
pub(crate) fn t_tail(t: f64, df: f64) -> f64 {
    match StudentsT::new(0.0, 1.0, df) {
        Ok(d) if df < MANY => d.sf(t),
        _ => normal_tail(t),
    }
}

/// Two-sided p-value of "0" of a number with this standard error and its degrees of freedom.
pub(crate) fn two_sided(value: f64, standard_error: f64, df: f64) -> f64 {
    match standard_error > 0.0 {
        true => (2.0 * t_tail(value.abs() / standard_error, df)).min(1.0),
        false => f64::from(u8::from(value == 0.0)),
    }
}

/// The number that Student's t with `df` degrees of freedom exceeds with this chance.
pub(crate) fn t_upper(tail: f64, df: f64) -> f64 {
    match StudentsT::new(0.0, 1.0, df) {
        Ok(d) if df < MANY => -d.inverse_cdf(tail),
        _ => normal_upper(tail),
    }
}

/// The number that a chi-squared number with `df` degrees of freedom, above 0, stays below with this chance.
pub(crate) fn chi_squared_lower(chance: f64, df: f64) -> f64 {
    ChiSquared::new(df).map_or(df, |d| d.inverse_cdf(chance))
}

/// Density of the standard normal distribution.
pub(crate) fn normal_density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
}
