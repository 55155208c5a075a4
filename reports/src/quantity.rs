//! What methods are compared by. Name, unit and direction belong to the quantity, so that tables,
//! plots, the page and recommendations agree on them.

use serde::{Deserialize, Serialize};

use statistics::Summary;

use crate::{format, row::Row};

/// Something measured of every method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// The data set's main metric, on the validation split.
    Metric,
    /// Parameters that the method trains, head apart.
    Parameters,
    /// Seconds of training steps.
    TrainingTime,
    /// Median latency of one sentence, method not merged.
    Latency,
    /// Median latency of one sentence after merging, for methods that merge.
    MergedLatency,
    /// Peak resident memory of the training process.
    PeakMemory,
    /// Size of the saved weights, head included.
    FileSize,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Metric,
        Self::Parameters,
        Self::TrainingTime,
        Self::Latency,
        Self::MergedLatency,
        Self::PeakMemory,
        Self::FileSize,
    ];

    /// Name in data files and addresses.
    pub fn key(self) -> &'static str {
        match self {
            Self::Metric => "metric",
            Self::Parameters => "parameters",
            Self::TrainingTime => "training_time",
            Self::Latency => "latency",
            Self::MergedLatency => "merged_latency",
            Self::PeakMemory => "peak_memory",
            Self::FileSize => "file_size",
        }
    }

    /// Title of an axis with the unit; `metric` is the name of the main metric.
    pub fn title(self, metric: &str) -> String {
        match self {
            Self::Metric => format::metric_title(metric),
            Self::Parameters => "trained parameters, head apart".into(),
            Self::TrainingTime => "training time (s)".into(),
            Self::Latency => "latency p50, one sentence (ms)".into(),
            Self::MergedLatency => "latency p50 merged, one sentence (ms)".into(),
            Self::PeakMemory => "peak memory in training (MB)".into(),
            Self::FileSize => "saved weights, head included (kB)".into(),
        }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        self == Self::Metric
    }

    /// Whether its axis is logarithmic.
    pub fn logarithmic(self) -> bool {
        matches!(self, Self::Parameters | Self::FileSize)
    }

    /// Factor from the stored unit to the one on the axis.
    pub fn axis_factor(self, metric: &str) -> f64 {
        match self {
            Self::Metric if format::in_percent(metric) => 100.0,
            Self::PeakMemory => 1e-6,
            Self::FileSize => 1e-3,
            _ => 1.0,
        }
    }

    /// A value as people read it, with its unit.
    pub fn show(self, metric: &str, value: f64) -> String {
        match self {
            Self::Metric => format::metric(metric, value),
            Self::Parameters => format::count(value.round() as usize),
            Self::TrainingTime => format::seconds(value),
            Self::Latency | Self::MergedLatency => format!("{} ms", format::ms(value)),
            Self::PeakMemory | Self::FileSize => format::bytes(value),
        }
    }

    /// Of a latency, which one: [`record::Latency::variant`].
    pub(crate) fn variant(self) -> Option<&'static str> {
        match self {
            Self::Latency => Some("unmerged"),
            Self::MergedLatency => Some("merged"),
            _ => None,
        }
    }

    /// Its values over the seeds of a row; absent where it was not measured.
    pub fn of(self, row: &Row) -> Option<Summary> {
        match self {
            Self::Metric => row.metric.clone(),
            Self::Parameters => Summary::of(row.parameters.map(|p| p.method as f64)),
            Self::TrainingTime => row.training_seconds.clone(),
            Self::Latency | Self::MergedLatency => {
                Some(row.sentence(self.variant()?)?.p50_ms.clone())
            }
            Self::PeakMemory => row.peak_memory_bytes.clone(),
            Self::FileSize => row.file_bytes.clone(),
        }
    }
}

/// Which of these points no other point beats: none is at least as good in both and better in one.
pub fn pareto_front(points: &[[f64; 2]], higher_is_better: [bool; 2]) -> Vec<bool> {
    let good = |p: &[f64; 2]| [0, 1].map(|i| if higher_is_better[i] { p[i] } else { -p[i] });
    let beats = |a: [f64; 2], b: [f64; 2]| a[0] >= b[0] && a[1] >= b[1] && a != b;
    points
        .iter()
        .map(|p| !points.iter().any(|q| beats(good(q), good(p))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_what_nothing_beats() {
        // (parameters, accuracy): fewer and more are better.
        let points = [
            [0.0, 0.80],
            [7.0, 0.81],
            [73.0, 0.84],
            [226.0, 0.84],
            [22.0, 0.80],
        ];
        assert_eq!(
            pareto_front(&points, [false, true]),
            [true, true, true, false, false]
        );
        // Equal points do not beat each other.
        assert_eq!(
            pareto_front(&[[1.0, 1.0], [1.0, 1.0]], [true, true]),
            [true, true]
        );
    }
}
