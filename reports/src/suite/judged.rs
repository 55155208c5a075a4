//! A data set of a suite, and what was compared on it.

use crate::{comparison::Comparison, row::Row};

/// A data set of a suite.
#[derive(Clone, Copy)]
pub struct Judged<'a> {
    /// Its name.
    pub name: &'a str,
    /// The metrics whose mean is its part of the average; the main metric where there is none.
    pub average: &'a [String],
    /// How much that part counts, 0 or more.
    pub weight: f64,
    /// What was compared on it.
    pub comparison: &'a Comparison,
}

impl<'a> Judged<'a> {
    /// The ranked row of this label.
    pub(super) fn row(&self, label: &str) -> Option<&'a Row> {
        let mut ranked = self.comparison.ranked().iter();
        ranked.find(|row| row.label == label)
    }

    /// A row's part of the average.
    pub(super) fn part(&self, row: &Row) -> Option<f64> {
        let main = [self.comparison.metric().to_owned()];
        let names: &[String] = match self.average {
            [] => &main,
            named => named,
        };
        let values: Option<Vec<f64>> = names
            .iter()
            .map(|name| Some(row.metrics.get(name)?.mean))
            .collect();
        statistics::mean(&values?)
    }

    /// Tokens of a text as the runs read it, on the mean; `None` where no run told.
    pub(super) fn length(&self) -> Option<f64> {
        let records = self.comparison.records.iter();
        let mut costs = records.filter_map(|r| r.cost.as_ref());
        let cost = costs.find(|cost| cost.examples > 0)?;
        Some(cost.tokens as f64 / cost.examples as f64)
    }
}
