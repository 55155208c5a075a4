//! Plots of a study: the main metric over what is varied, and the learning curves where the study asks for them. And of
//! a search: the expected best over its compute.

use super::axis::{self, Axis};
use super::labels;
use super::layout::{
    AXIS_ROOM, BODY, Layout, MARGIN, MARK, NARROW, PAGE, SMALL, WIDE, draw_horizontal_axis,
    draw_vertical_axis, range, tick_room,
};
use super::plot::Plot;
use super::scene::{Anchor, Area, Scene, fit, text_width};
use super::style::{Ink, Marker, Style, style};
use crate::comparison::slug;
use crate::format;
use crate::quantity::Quantity;
use crate::studies::{CurvePoint, Position, Series, Study};
use crate::tuning::Tuning;
use crate::words;
use statistics::{Expected, Summary, Verdict};

/// What a plot's lines have in common.
struct Frame<'a> {
    /// Name of the metric.
    metric: &'a str,
    /// What was studied.
    heading: &'a str,
    /// What line and band are.
    legend: &'a str,
    /// Whether the points of a line are compared with its best one.
    told_apart: bool,
    notes: &'a [String],
}

impl<'a> Frame<'a> {
    fn of(study: &'a Study) -> Self {
        Self {
            metric: study.metric(),
            heading: &study.title,
            legend: "Line: mean over seeds. Band: least to greatest of the seeds.",
            told_apart: true,
            notes: &study.notes,
        }
    }
}

/// One drawn line.
struct Line {
    label: String,
    style: Style,
    points: Vec<Spot>,
    /// Whether the bands are over more than one seed.
    band: bool,
}

/// One point of a line.
struct Spot {
    x: f64,
    mean: f64,
    /// The ends of the band.
    band: [f64; 2],
    /// Whether it is shown to be worse than the point of its line with the highest mean.
    behind: bool,
}

/// What is on the horizontal axis.
struct Across {
    title: String,
    logarithmic: bool,
    /// Texts at 0, 1, 2 … instead of numbers.
    categories: Vec<String>,
}

/// The plots of a study for which there is anything to show.
pub fn study_plots(study: &Study) -> Vec<Plot> {
    let metric = format::metric_title(study.metric());
    let name = metric.trim_end_matches(" (%)").to_owned();
    let over = Across {
        title: study.axis.title.clone(),
        logarithmic: study.axis.logarithmic,
        categories: match study.axis.position {
            Position::Category => longest(study),
            _ => Vec::new(),
        },
    };
    let frame = Frame::of(study);
    let mut all = vec![plot(
        &frame,
        "metric",
        &format!("Validation {name} by {}", study.axis.title),
        &lines(study),
        &over,
    )];
    if study.curves {
        let steps = Across {
            title: "training steps".into(),
            logarithmic: false,
            categories: Vec::new(),
        };
        let frame = Frame {
            told_apart: false,
            ..frame
        };
        for label in longest(study) {
            let title = format!(
                "Validation {name} while training, {}: {label}",
                study.axis.title
            );
            all.push(plot(
                &frame,
                &format!("curves-{}", slug(&label)),
                &title,
                &curves(study, &label),
                &steps,
            ));
        }
    }
    all.into_iter().flatten().collect()
}

/// The expected best of a search over the compute of its trials; absent without a result.
pub fn tuning_plot(tuning: &Tuning) -> Option<Plot> {
    let metric = &tuning.dataset.main_metric;
    let factor = Quantity::Metric.axis_factor(metric);
    let lines: Vec<Line> = tuning
        .searches
        .iter()
        .map(|search| {
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
        })
        .collect();
    let title = format::metric_title(metric);
    plot(
        &Frame {
            metric,
            heading: &tuning.title,
            legend: "Line: expected best of random trials that took so long together, on held-out examples after the first rung's steps. Band: one standard deviation of that best, within what was found.",
            told_apart: false,
            notes: &tuning.notes,
        },
        "expected-best",
        &format!(
            "Expected best {} by compute",
            title.trim_end_matches(" (%)")
        ),
        &lines,
        &Across {
            title: "seconds of training".into(),
            logarithmic: true,
            categories: Vec::new(),
        },
    )
}

/// A time on the axis; nobody tells more apart.
fn two_digits(x: f64) -> f64 {
    format!("{x:.1e}").parse().unwrap_or(x)
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

impl Spot {
    fn of(x: f64, summary: &Summary, factor: f64) -> Self {
        Self {
            x,
            mean: summary.mean * factor,
            band: range(summary.values.iter().copied()).map(|v| v * factor),
            behind: false,
        }
    }
}

fn lines(study: &Study) -> Vec<Line> {
    let factor = Quantity::Metric.axis_factor(study.metric());
    let categories = longest(study);
    let line = |series: &Series| {
        let mut points: Vec<Spot> = series
            .points
            .iter()
            .filter_map(|p| {
                let x = match study.axis.position {
                    Position::Category => categories.iter().position(|c| *c == p.label)? as f64,
                    _ => p.x?,
                };
                Some(Spot {
                    behind: p.verdict == Some(Verdict::Worse),
                    ..Spot::of(x, p.metric.as_ref()?, factor)
                })
            })
            .collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Line {
            label: series.label.clone(),
            style: style_of(study, series),
            band: series.points.iter().any(|p| p.seeds.len() > 1),
            points,
        }
    };
    study.series.iter().map(line).collect()
}

fn curves(study: &Study, label: &str) -> Vec<Line> {
    let factor = Quantity::Metric.axis_factor(study.metric());
    study
        .series
        .iter()
        .filter_map(|series| {
            let point = series.points.iter().find(|p| p.label == label)?;
            let points = point.curve.iter();
            let spot = |c: &CurvePoint| Spot::of(c.step as f64, &c.metric, factor);
            Some(Line {
                label: series.label.clone(),
                style: style_of(study, series),
                points: points.map(spot).collect(),
                band: point.seeds.len() > 1,
            })
        })
        .collect()
}

fn plot(frame: &Frame, name: &str, title: &str, lines: &[Line], across: &Across) -> Option<Plot> {
    let lines: Vec<&Line> = lines.iter().filter(|l| !l.points.is_empty()).collect();
    if lines.is_empty() {
        return None;
    }
    let factor = Quantity::Metric.axis_factor(frame.metric);
    let at = |x: f64| match across.categories.get(x as usize) {
        Some(text) => text.clone(),
        None => number(x),
    };
    let described = lines.iter().map(|l| {
        let values: Vec<String> = l
            .points
            .iter()
            .map(|p| {
                format!(
                    "{} at {}",
                    format::metric(frame.metric, p.mean / factor),
                    at(p.x)
                )
            })
            .collect();
        format!("{}: {}", l.label, values.join(", "))
    });
    let described: Vec<String> = described.collect();
    Some(Plot {
        name: name.to_owned(),
        title: title.to_owned(),
        description: format!("{title}, {}. {}", frame.heading, described.join("; ")),
        wide: draw(frame, title, &lines, across, WIDE),
        page: draw(frame, title, &lines, across, PAGE),
        narrow: draw(frame, title, &lines, across, NARROW),
    })
}

fn draw(frame: &Frame, title: &str, lines: &[&Line], across: &Across, width: f64) -> Scene {
    let narrow = width < 500.0;
    let points = || lines.iter().flat_map(|l| &l.points);
    let mut notes = Vec::new();
    let behind = format!(
        "Hollow: shown to be worse than the highest mean of its line ({}). Filled does not mean equal.",
        words::TEST
    );
    if lines.iter().any(|l| l.band) {
        notes.push(frame.legend);
    }
    if points().any(|p| p.behind) {
        notes.push(&behind);
    } else if frame.told_apart && points().count() > lines.len() {
        notes.push(words::UNDECIDED);
    }
    notes.extend(frame.notes.iter().map(String::as_str));
    let layout = Layout::of(width, title, frame.heading, &notes.join(" "));
    let height = if narrow { 260.0 } else { 330.0 };
    let (mut scene, room) = layout.scene(24.0 + height + AXIS_ROOM);
    let at = [MARGIN, room.top + 6.0];
    let metric = Quantity::Metric.title(frame.metric);
    scene.text(at, &metric, BODY, Anchor::Start, Ink::Text);

    let [low, high] = range(points().flat_map(|p| p.band));
    let y_over = |from: f64, to: f64| Axis::linear([from, to], [low, high], 0.05, 6);
    let left = room.left + tick_room(&y_over(height, 0.0));
    let most = if narrow { 110.0 } else { 200.0 };
    let names: Vec<String> = lines.iter().map(|l| fit(&l.label, BODY, most)).collect();
    let names_width = names
        .iter()
        .map(|n| text_width(n, BODY, false))
        .fold(0.0, f64::max);
    let area = Area {
        left,
        top: room.top + 24.0,
        right: room.right - names_width - 28.0,
        bottom: room.bottom - AXIS_ROOM,
    };
    let y = y_over(area.bottom, area.top);
    let ends = [area.left + 8.0, area.right - 8.0];
    let xs: Vec<f64> = points().map(|p| p.x).collect();
    let [first, last] = range(xs.iter().copied());
    let mut x = if !across.categories.is_empty() {
        let n = across.categories.len() as f64;
        let mut x = Axis::linear(ends, [-0.5, n - 0.5], 0.0, 2);
        let place = (area.right - area.left) / n;
        x.ticks = across
            .categories
            .iter()
            .enumerate()
            .map(|(i, c)| (i as f64, fit(c, SMALL, place - 4.0)))
            .collect();
        x
    } else if across.logarithmic {
        let mut x = Axis::logarithmic(ends, &xs, axis::decade);
        // The places that were measured are what a reader looks for.
        x.ticks = marked(&xs);
        x
    } else {
        Axis::linear(
            ends,
            [first.min(0.0), last],
            0.0,
            if narrow { 3 } else { 6 },
        )
    };
    x.thin_out(SMALL);
    draw_vertical_axis(&mut scene, &y, area);
    draw_horizontal_axis(&mut scene, &x, area, &across.title, false);
    for line in lines.iter().rev() {
        let place = |p: &Spot, value: f64| [x.at(p.x), y.at(value)];
        if line.band {
            let there = line.points.iter().map(|p| place(p, p.band[1]));
            let back = line.points.iter().rev().map(|p| place(p, p.band[0]));
            scene.area(there.chain(back).collect(), line.style.ink, 0.16);
        }
        let mean: Vec<[f64; 2]> = line.points.iter().map(|p| place(p, p.mean)).collect();
        scene.line(mean, line.style.ink, 2.0);
        for p in &line.points {
            let at = place(p, p.mean);
            if p.behind {
                scene.hollow_marker(at, MARK - 1.0, line.style);
            } else {
                scene.marker(at, MARK - 1.0, line.style);
            }
        }
    }
    let ends: Vec<[f64; 2]> = lines
        .iter()
        .filter_map(|l| l.points.last())
        .map(|p| [x.at(p.x), y.at(p.mean)])
        .collect();
    let wanted: Vec<f64> = ends.iter().map(|e| e[1]).collect();
    let places = labels::spread(&wanted, BODY + 4.0, [area.top, area.bottom]);
    for (((line, name), end), place) in lines.iter().zip(&names).zip(&ends).zip(places) {
        let text_at = area.right + 24.0;
        let link = [[end[0] + 7.0, end[1]], [text_at - 14.0, place]];
        scene.line(link, line.style.ink, 1.0);
        scene.marker([text_at - 8.0, place], MARK - 1.5, line.style);
        scene.text([text_at, place], name, BODY, Anchor::Start, Ink::Text);
    }
    scene
}

/// Ticks at the measured places.
fn marked(xs: &[f64]) -> Vec<(f64, String)> {
    let mut places = xs.to_vec();
    places.sort_by(f64::total_cmp);
    places.dedup();
    places.into_iter().map(|x| (x, number(x))).collect()
}

/// A place on the axis as people read it.
fn number(x: f64) -> String {
    match x {
        x if x >= 10_000.0 => format::count_short(x),
        x if x >= 1_000.0 => format::count(x.round() as usize),
        x if x >= 0.01 || x == 0.0 => format!("{x}"),
        x => format!("{x:e}"),
    }
}
