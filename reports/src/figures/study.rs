//! Plots of a study: the main metric over what is varied, and the learning curves where the study asks for them.

use statistics::{Summary, Verdict};

use super::{
    layout::range,
    lines::{Across, Line, LinePlot, Spot},
    plot::Plot,
    style::{Ink, Marker, Style, style},
};
use crate::{
    comparison::slug,
    format,
    quantity::Quantity,
    studies::{CurvePoint, Point, Position, Series, Study},
    words,
};

/// The plots of a study for which there is anything to show.
pub fn study_plots(study: &Study) -> Vec<Plot> {
    let metric = format::metric_title(study.metric());
    let metric = metric.trim_end_matches(" (%)");
    let axis = &study.axis;
    let labels = longest(study);
    let over = Across {
        title: axis.title.clone(),
        logarithmic: axis.logarithmic,
        categories: match axis.position {
            Position::Category => labels.clone(),
            _ => Vec::new(),
        },
    };
    let lines = lines(study, &labels);
    let plot = LinePlot {
        metric: study.metric(),
        heading: &study.title,
        notes: notes(study, &lines, true),
        across: over,
        lines,
    };
    let title = format!("Validation {metric} by {}", axis.title);
    let mut all = vec![plot.plot("metric".to_owned(), title)];
    for label in labels.iter().filter(|_| study.curves) {
        let lines = curves(study, label);
        let plot = LinePlot {
            metric: study.metric(),
            heading: &study.title,
            notes: notes(study, &lines, false),
            across: Across::linear("training steps"),
            lines,
        };
        let title = format!(
            "Validation {metric} while training, {}: {label}",
            axis.title
        );
        all.push(plot.plot(format!("curves-{}", slug(label)), title));
    }
    all.into_iter().flatten().collect()
}

/// How to read the lines, and what to know of the study. Where their points are compared with the best one of each, that too.
fn notes(study: &Study, lines: &[Line], compared: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if lines.iter().any(|l| l.band) {
        notes.push("Line: mean over seeds. Band: least to greatest of the seeds.".to_owned());
    }
    if lines.iter().flat_map(|l| &l.points).any(|p| p.behind) {
        notes.push(format!(
            "Hollow: shown to be worse than the highest mean of its line ({}). Filled does not mean equal.",
            words::TEST
        ));
    } else if compared && lines.iter().any(|l| l.points.len() > 1) {
        notes.push(words::UNDECIDED.to_owned());
    }
    notes.extend(study.notes.iter().cloned());
    notes
}

/// Labels of the series with the most points.
fn longest(study: &Study) -> Vec<String> {
    let series = study.series.iter().max_by_key(|s| s.points.len());
    series.map_or_else(Vec::new, |s| {
        s.points.iter().map(|p| p.label.clone()).collect()
    })
}

/// A series has its method's colour and marker; several of one method are told apart by other ones.
fn style_of(study: &Study, series: &Series) -> Style {
    let own = style(&series.method, series.kind.as_ref());
    let before = study
        .series
        .iter()
        .take_while(|s| s.label != series.label)
        .filter(|s| s.method == series.method)
        .count();
    let others: Vec<Marker> = Marker::ALL
        .into_iter()
        .filter(|m| *m != own.marker)
        .collect();
    match before {
        0 => own,
        n => Style {
            ink: [Ink::Text, Ink::Grey, Ink::Orange, Ink::Purple][(n - 1) % 4],
            marker: others[(n - 1) % others.len()],
        },
    }
}

/// A line for each series, over what is varied.
fn lines(study: &Study, categories: &[String]) -> Vec<Line> {
    let place = |p: &Point| match study.axis.position {
        Position::Category => Some(categories.iter().position(|c| *c == p.label)? as f64),
        _ => p.x,
    };
    let of = |series: &Series| {
        let points = series.points.iter().filter_map(|p| {
            let behind = p.verdict == Some(Verdict::Worse);
            Some(spot(study, place(p)?, p.metric.as_ref()?, behind))
        });
        let mut points: Vec<Spot> = points.collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let band = series.points.iter().any(|p| p.seeds.len() > 1);
        line(study, series, points, band)
    };
    study.series.iter().filter_map(of).collect()
}

/// The learning curve of each series at the point with this label.
fn curves(study: &Study, label: &str) -> Vec<Line> {
    let of = |series: &Series| {
        let point = series.points.iter().find(|p| p.label == label)?;
        let spot = |c: &CurvePoint| spot(study, c.step as f64, &c.metric, false);
        let points = point.curve.iter().map(spot).collect();
        line(study, series, points, point.seeds.len() > 1)
    };
    study.series.iter().filter_map(of).collect()
}

fn spot(study: &Study, x: f64, metric: &Summary, behind: bool) -> Spot {
    let factor = Quantity::Metric.axis_factor(study.metric());
    Spot {
        x,
        mean: metric.mean * factor,
        band: range(metric.values.iter().copied()).map(|v| v * factor),
        behind,
    }
}

/// `None` without points.
fn line(study: &Study, series: &Series, points: Vec<Spot>, band: bool) -> Option<Line> {
    (!points.is_empty()).then(|| Line {
        label: series.label.clone(),
        style: style_of(study, series),
        points,
        band,
    })
}
