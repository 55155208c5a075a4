//! The plot of a search: the expected best over the compute of its trials.

use statistics::Expected;

use super::{
    axis::range,
    lines::{Across, Line, LinePlot, Spot},
    plot::Plot,
    style::style,
};
use crate::{
    format,
    quantity::Quantity,
    tuning::{Search, Tuning},
};

/// How to read it.
const LEGEND: &str = "Line: expected best of random trials that took so long together, on held-out examples after the first rung's \
                      steps. Band: one standard deviation of that best, within what was found.";

/// The expected best of a search over the compute of its trials; absent without a result.
pub fn tuning_plot(tuning: &Tuning) -> Option<Plot> {
    let metric = &tuning.dataset.main_metric;
    let factor = Quantity::Metric.axis_factor(metric);
    let line = |search: &Search| {
        // Few trials are far from normal: no expectation leaves what was found.
        let found = search.trials.iter().flat_map(|t| &t.results);
        let [worst, best] = range(found.map(|r| r.metric.unwrap_or(0.0)));
        let spot = |e: &Expected| Spot {
            x: two_digits(e.trials as f64 * search.seconds_per_trial),
            mean: e.mean * factor,
            band: [e.mean - e.sd, e.mean + e.sd].map(|v| v.clamp(worst, best) * factor),
            behind: false,
        };
        Line {
            label: search.method.clone(),
            style: style(&search.method, search.kind.as_ref()),
            points: search.expected.iter().map(spot).collect(),
            band: search.expected.len() > 1,
        }
    };
    let searches = tuning.searches.iter().filter(|s| !s.expected.is_empty());
    let lines: Vec<Line> = searches.map(line).collect();
    let legend = lines.iter().any(|l| l.band).then(|| LEGEND.to_owned());
    let title = format!("Expected best {} by compute", format::metric_name(metric));
    let plot = LinePlot {
        metric,
        heading: &tuning.title,
        lines,
        across: Across {
            logarithmic: true,
            ..Across::linear("seconds of training")
        },
        notes: legend
            .into_iter()
            .chain(tuning.notes.iter().cloned())
            .collect(),
    };
    plot.plot("expected-best", &title)
}

/// A time on the axis; nobody tells more apart.
fn two_digits(x: f64) -> f64 {
    format!("{x:.1e}").parse().unwrap_or(x)
}
