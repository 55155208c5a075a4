//! Times, which a machine changes from hour to hour.
//!
//! The replicate of a time is the sitting (a process, or an hour of measuring), not the seed: seeds of one sitting share the
//! machine's mood, and counting them apart says "slower" of what only ran at another time. Two times are compared as the logarithm of
//! their ratio within a sitting; the sittings' means are the sample.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    ALPHA,
    distribution::{t_upper, two_sided},
    sample::{mean, standard_deviation},
};

/// Two times of one sitting, in one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Name of the sitting; times of one name were measured together.
    pub sitting: String,
    /// Time of the first.
    pub first: f64,
    /// Time of the second.
    pub second: f64,
}

/// How many times as long the first takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Geometric mean over sittings of first / second.
    pub ratio: f64,
    /// 95 % interval over sittings; absent with one sitting.
    pub interval: Option<[f64; 2]>,
    /// Two-sided p-value of "equally long"; absent with one sitting.
    pub p: Option<f64>,
    /// Number of sittings.
    pub sittings: usize,
}

impl Ratio {
    /// Of these times; `None` without any, or where one is not above 0.
    pub fn of(times: &[Timed]) -> Option<Self> {
        let mut by_sitting: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for t in times {
            let log = (t.first / t.second).ln();
            if !(t.first > 0.0 && t.second > 0.0 && log.is_finite()) {
                return None;
            }
            by_sitting.entry(&t.sitting).or_default().push(log);
        }
        let logs: Vec<f64> = by_sitting.values().filter_map(|l| mean(l)).collect();
        let (mean, sittings) = (mean(&logs)?, logs.len());
        let spread = standard_deviation(&logs).map(|sd| {
            let (error, df) = (sd / (sittings as f64).sqrt(), (sittings - 1) as f64);
            let half = t_upper(ALPHA / 2.0, df) * error;
            let ends = [(mean - half).exp(), (mean + half).exp()];
            (ends, two_sided(mean, error, df))
        });
        let (interval, p) = spread.unzip();
        Some(Self {
            ratio: mean.exp(),
            interval,
            p,
            sittings,
        })
    }
}
