//! Where methods change places from one data set to another, and which property of the data goes with it.

use statistics::Correlation;

use super::{Judged, pair::Pair};
use crate::format;

/// Data sets that a correlation with a property needs at least.
const FEWEST: usize = 5;

/// That two methods change places from one data set to another, and which property of the data goes with it; `None` where they do
/// not. A place is taken for sure where the 95 % interval of the difference leaves out 0.
pub(super) fn change(datasets: &[Judged<'_>], pair: &Pair<'_>) -> Option<String> {
    let shown = |ahead: bool| -> Vec<&str> {
        let of = datasets.iter().zip(&pair.differences);
        let sure = of.filter(|(_, e)| match ahead {
            true => e.interval[0] > 0.0,
            false => e.interval[1] < 0.0,
        });
        sure.map(|(d, _)| d.name).collect()
    };
    let (ahead, behind) = (shown(true), shown(false));
    if ahead.is_empty() || behind.is_empty() {
        return None;
    }
    let mut said = format!(
        "{} and {} change places: the first is ahead on {}, the second on {} (95 % intervals of each, not corrected).",
        pair.first,
        pair.second,
        format::list(&ahead),
        format::list(&behind)
    );
    if let Some((name, correlation, known)) = property(datasets, pair) {
        let more = match correlation > 0.0 {
            true => "more",
            false => "fewer",
        };
        said += &format!(
            " What goes with it most is {name}: the {more}, the better for {} (rank correlation {:.2} over {} data sets: a \
             description, no test).",
            pair.first,
            correlation.abs(),
            known
        );
    }
    Some(said)
}

/// The property of the data with which the difference goes most, the correlation of their ranks, and over how many data sets; `None` of few
/// data sets, or where no property goes with it.
fn property(datasets: &[Judged<'_>], pair: &Pair<'_>) -> Option<(&'static str, f64, usize)> {
    type Of = fn(&Judged<'_>) -> Option<f64>;
    let properties: [(&str, Of); 3] = [
        ("the training examples", |d| {
            Some(d.comparison.dataset.train_examples as f64)
        }),
        ("the tokens of a text", |d| d.length()),
        // (A number to predict has no classes.)
        ("the classes", |d| {
            let classes = d.comparison.dataset.labels.len();
            (classes > 0).then_some(classes as f64)
        }),
    ];
    let correlation = |of: Of| {
        let known = datasets.iter().zip(&pair.differences);
        let known = known.filter_map(|(d, e)| Some((of(d)?, e.difference)));
        let (values, differences): (Vec<f64>, Vec<f64>) = known.unzip();
        let found = Correlation::Spearman.value(&values, &differences);
        (values.len() >= FEWEST && found != 0.0).then_some((found, values.len()))
    };
    let found = properties.into_iter().filter_map(|(name, of)| {
        let (found, known) = correlation(of)?;
        Some((name, found, known))
    });
    found.max_by(|(_, a, _), (_, b, _)| a.abs().total_cmp(&b.abs()))
}
