//! Numbers measured once per seed: mean, spread, percentiles.

use serde::Serialize;

use crate::{ALPHA, distribution::t_upper};

/// A number measured once per seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The values, one per seed.
    pub values: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (n - 1); absent for one value.
    pub sd: Option<f64>,
    /// Ends of the 95 % t-interval of the mean; absent for one value.
    pub interval: Option<[f64; 2]>,
}

impl Summary {
    /// Sums up these values; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        Some(Self {
            mean: mean(&values)?,
            sd: standard_deviation(&values),
            interval: interval_95(&values),
            values,
        })
    }
}

/// Arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// One number over another; 0 where the other is 0, as scikit-learn has it.
pub(crate) fn ratio(above: f64, below: f64) -> f64 {
    if below == 0.0 { 0.0 } else { above / below }
}

/// Standard deviation with n - 1; `None` of fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Ends of the 95 % interval of the mean after Student (1908); `None` of fewer than two values.
pub fn interval_95(values: &[f64]) -> Option<[f64; 2]> {
    let (mean, sd) = (mean(values)?, standard_deviation(values)?);
    let n = values.len() as f64;
    let half = t_upper(ALPHA / 2.0, n - 1.0) * sd / n.sqrt();
    Some([mean - half, mean + half])
}

/// Percentile (`q` of 100) by linear interpolation between order statistics
/// (type 7 of Hyndman and Fan 1996); `None` of nothing. NaN values are not expected.
pub fn percentile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len().checked_sub(1)? as f64) * q.clamp(0.0, 100.0) / 100.0;
    let [below, above] = [place.floor(), place.ceil()].map(|place| sorted[place as usize]);
    Some(below + (above - below) * place.fract())
}
