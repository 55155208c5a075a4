//! Plots of a study: the main metric over what is varied, and the learning curves where the study asks for them.

use statistics::{Summary, Verdict};

use super::{
    axis::range,
    lines::{Across, BANDS, Line, LinePlot, Spot},
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
    let metric = format::metric_name(study.metric());
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
    let plot = |lines: Vec<Line>, compared: bool, across: Across, name: &str, title: String| {
        let plot = LinePlot {
            metric: study.metric(),
            heading: &study.title,
            notes: notes(study, &lines, compared),
            across,
            lines,
        };
        plot.plot(name, &title)
    };
    let title = format!("Validation {metric} by {}", axis.title);
    let main = plot(lines(study, &labels), true, over, "metric", title);
    let shown = labels.iter().filter(|_| study.curves);
    let curves = shown.filter_map(|label| {
        let title = format!(
            "Validation {metric} while training, {}: {label}",
            axis.title
        );
        let name = format!("curves-{}", slug(label));
        let steps = Across::linear("training steps");
        plot(curves(study, label), false, steps, &name, title)
    });
    main.into_iter().chain(curves).collect()
}

/// How to read the lines, and what to know of the study. Where their points are compared with the best one of each, that too.
fn notes(study: &Study, lines: &[Line], compared: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if lines.iter().any(|l| l.band) {
        notes.push(BANDS.to_owned());
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
    let longest = study.series.iter().max_by_key(|s| s.points.len());
    let points = longest.into_iter().flat_map(|s| &s.points);
    points.map(|p| p.label.clone()).collect()
}

/// A series has its method's colour and marker; several of one method are told apart by other ones.
fn style_of(study: &Study, series: &Series) -> Style {
    let own = style(&series.method, series.kind.as_ref());
    let before = study.series.iter().take_while(|s| s.label != series.label);
    let before = before.filter(|s| s.method == series.method).count();
    let others = Marker::ALL.into_iter().filter(|m| *m != own.marker);
    let others: Vec<Marker> = others.collect();
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
