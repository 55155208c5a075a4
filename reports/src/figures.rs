//! Plots of a comparison, as PNG and as SVG.
//!
//! What holds for all of them: units on the axes; a mark per method (its colour and marker,
//! [`style::style`]) that is the same everywhere; names beside the marks instead of a legend; the
//! spread over seeds; a stand-in data set said in the heading and the file name; methods that are not
//! ranked named under the plot instead of drawn. Every plot is laid out three times: for a file,
//! for a page and for a phone.

mod axis;
mod labels;
mod scene;
mod study;
pub mod style;

use std::collections::BTreeMap;

use record::Outcome;
use statistics::Summary;

use crate::comparison::Comparison;
use crate::quantity::{Quantity, pareto_front};
use crate::row::{Row, Standing};
use crate::{Result, format, latency as timing, words};
use axis::Axis;
use labels::Wanting;
use scene::{Anchor, Area, Scene, fit, text_width, wrap};
use style::{Ink, style};

pub use study::{study_plots, tuning_plot};

/// Widths of the layouts, in CSS pixels.
const WIDE: f64 = 800.0;
const PAGE: f64 = 640.0;
const NARROW: f64 = 360.0;
/// Margin around everything.
const MARGIN: f64 = 16.0;
/// Sizes of text.
const TITLE: f64 = 17.0;
const BODY: f64 = 13.0;
const SMALL: f64 = 12.0;
/// Radius of a marker.
const MARK: f64 = 5.5;
/// With more methods than this, curves get a panel each.
const OVERLAID: usize = 7;
/// The machine was steady if the slowest of the backbone's medians is at most this times the fastest.
const STEADY: f64 = 1.1;
/// A curve of training losses is drawn with at most this many points.
const CURVE_POINTS: usize = 160;

/// Draws a plot with a title at a width; `None` if there is nothing to show. With its description.
type Draw<'a> = dyn Fn(&str, f64) -> Option<(Scene, String)> + 'a;

/// A plot of a comparison.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Name for file names, e.g. `accuracy-parameters`.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What it shows, in words with figures, for those who can't see it.
    pub description: String,
    wide: Scene,
    page: Scene,
    narrow: Scene,
}

impl Plot {
    /// A PNG of 1600 pixels width.
    ///
    /// # Errors
    /// If the drawing library refuses; not expected.
    pub fn png(&self) -> Result<Vec<u8>> {
        scene::named(&self.name, self.wide.png())
    }

    /// An SVG element that takes the width of its place; laid out for a page.
    ///
    /// # Errors
    /// If the drawing library refuses; not expected.
    pub fn svg(&self) -> Result<String> {
        scene::named(&self.name, self.page.svg(&self.description))
    }

    /// A whole SVG file.
    ///
    /// # Errors
    /// If the drawing library refuses; not expected.
    pub fn svg_file(&self) -> Result<String> {
        let svg = scene::named(&self.name, self.wide.svg(&self.description))?;
        Ok(svg.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", usize::from(!svg.contains("xmlns="))))
    }

    /// The same, laid out for a phone.
    ///
    /// # Errors
    /// If the drawing library refuses; not expected.
    pub fn narrow_svg(&self) -> Result<String> {
        scene::named(&self.name, self.narrow.svg(&self.description))
    }
}

/// The plots of a comparison for which there is anything to show: ranking, accuracy against
/// parameters, training loss, validation curve, training time, latency, peak memory.
pub fn plots(comparison: &Comparison) -> Vec<Plot> {
    let metric = comparison.metric();
    let title = format::metric_title(metric);
    let name = title.trim_end_matches(" (%)");
    let both = |name: String, title: String, draw: &Draw<'_>| {
        let (wide, description) = draw(&title, WIDE)?;
        let (page, _) = draw(&title, PAGE)?;
        let (narrow, _) = draw(&title, NARROW)?;
        Some(Plot {
            name,
            description: format!("{title}, {}. {description}", comparison.name),
            title,
            wide,
            page,
            narrow,
        })
    };
    let bars = |quantity: Quantity, name: &str, title: &str| {
        both(name.into(), title.into(), &|title, width| {
            bar_chart(comparison, quantity, title, width)
        })
    };
    [
        both(
            format!("{metric}-ranking"),
            format!("Validation {name}, best first"),
            &|title, width| ranking(comparison, title, width),
        ),
        both(
            format!("{metric}-parameters"),
            format!("{} against trained parameters", capital(name)),
            &|title, width| {
                trade_off(
                    comparison,
                    [Quantity::Parameters, Quantity::Metric],
                    title,
                    width,
                )
            },
        ),
        both("training-loss".into(), "Training loss".into(), &|t, w| {
            curves(comparison, &Curve::losses(comparison), true, t, w)
        }),
        both(
            format!("validation-{metric}"),
            format!("Validation {name} while training"),
            &|t, w| curves(comparison, &Curve::metrics(comparison), false, t, w),
        ),
        bars(Quantity::TrainingTime, "training-time", "Training time"),
        both(
            "latency".into(),
            "Latency of one sentence".into(),
            &|t, w| latency(comparison, t, w),
        ),
        bars(
            Quantity::PeakMemory,
            "peak-memory",
            "Peak memory while training",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Colour and marker of a row's method.
pub fn style_of(row: &Row) -> style::Style {
    style(&row.method, row.kind.as_ref())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|c| c.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

/// Heading and notes of a plot, broken into lines for its width.
struct Sheet {
    width: f64,
    title: Vec<String>,
    subtitle: Vec<String>,
    notes: Vec<String>,
}

impl Sheet {
    fn new(comparison: &Comparison, title: &str, width: f64, notes: &[String]) -> Self {
        let seeds = format::plural(comparison.seeds.len(), "seed");
        let left_out: Vec<String> = comparison
            .rows
            .iter()
            .filter_map(|row| match row.standing {
                Standing::Ranked => None,
                Standing::Invalid { .. } => Some(format!("{} (invalid)", row.label)),
                Standing::Unfinished => Some(format!("{} (no run ended well)", row.label)),
            })
            .collect();
        let mut notes = notes.join(" ");
        if !left_out.is_empty() {
            notes += &format!(" Not shown: {}.", format::list(&left_out));
        }
        Self::of(
            width,
            title,
            &format!("{} · {seeds}", comparison.name),
            &notes,
        )
    }

    fn of(width: f64, title: &str, subtitle: &str, notes: &str) -> Self {
        let room = width - 2.0 * MARGIN;
        Self {
            width,
            // Bold is about a tenth wider than what `wrap` measures.
            title: wrap(title, 1.1 * TITLE, room),
            subtitle: wrap(subtitle, BODY, room),
            notes: wrap(notes, SMALL, room),
        }
    }

    fn header(&self) -> f64 {
        MARGIN + 22.0 * self.title.len() as f64 + 18.0 * self.subtitle.len() as f64 + 6.0
    }

    fn footer(&self) -> f64 {
        match self.notes.len() {
            0 => 8.0,
            n => 16.0 * n as f64 + 14.0,
        }
    }

    /// A scene with room of this height between heading and notes, and that room.
    fn scene(&self, height: f64) -> (Scene, Area) {
        let mut scene = Scene::new(self.width, self.header() + height + self.footer());
        let mut y = MARGIN + 8.0;
        for line in &self.title {
            scene.write([MARGIN, y], line, TITLE, Anchor::Start, Ink::Text, true);
            y += 22.0;
        }
        for line in &self.subtitle {
            scene.text([MARGIN, y], line, BODY, Anchor::Start, Ink::Muted);
            y += 18.0;
        }
        let top = self.header();
        let mut y = top + height + 12.0;
        for line in &self.notes {
            scene.text([MARGIN, y], line, SMALL, Anchor::Start, Ink::Muted);
            y += 16.0;
        }
        let area = Area {
            left: MARGIN,
            top,
            right: self.width - MARGIN,
            bottom: top + height,
        };
        (scene, area)
    }
}

/// What the marks around a mean say.
fn spread_note(comparison: &Comparison) -> String {
    match comparison.ranked().iter().map(|r| r.runs.len()).max() {
        Some(0 | 1) | None => "One seed: the spread over seeds is unknown.".to_owned(),
        _ => "Dots: single seeds. Bars: mean ± 1 standard deviation over seeds.".to_owned(),
    }
}

/// Width that tick texts of a vertical axis take.
fn tick_room(axis: &Axis) -> f64 {
    axis.ticks
        .iter()
        .map(|(_, text)| text_width(text, SMALL, false))
        .fold(0.0, f64::max)
        + 8.0
}

fn draw_vertical_axis(scene: &mut Scene, axis: &Axis, area: Area) {
    for (value, text) in &axis.ticks {
        let y = axis.at(*value);
        scene.line([[area.left, y], [area.right, y]], Ink::Grid, 1.0);
        scene.text([area.left - 8.0, y], text, SMALL, Anchor::End, Ink::Muted);
    }
}

fn draw_horizontal_axis(scene: &mut Scene, axis: &Axis, area: Area, title: &str, grid: bool) {
    let bottom = area.bottom;
    for (value, text) in &axis.ticks {
        let x = axis.at(*value);
        if grid {
            scene.line([[x, area.top], [x, bottom]], Ink::Grid, 1.0);
        }
        scene.line([[x, bottom], [x, bottom + 5.0]], Ink::Muted, 1.0);
        // The outermost texts stay on the sheet.
        let half = text_width(text, SMALL, false) / 2.0;
        let x = x.clamp(half + 2.0, (scene.width - half - 2.0).max(half + 2.0));
        scene.text([x, bottom + 15.0], text, SMALL, Anchor::Middle, Ink::Muted);
    }
    for value in &axis.minor {
        let x = axis.at(*value);
        scene.line([[x, bottom], [x, bottom + 3.0]], Ink::Muted, 1.0);
    }
    scene.line([[area.left, bottom], [area.right, bottom]], Ink::Muted, 1.0);
    if let Some(x) = axis.break_at() {
        let gap = Area::around([x, bottom], 3.0, 2.0);
        scene.rectangle(gap, Ink::Paper, 1.0);
        for dx in [-3.0, 3.0] {
            let slash = [[x + dx - 2.5, bottom + 6.0], [x + dx + 2.5, bottom - 6.0]];
            scene.line(slash, Ink::Muted, 1.2);
        }
    }
    let title = fit(title, BODY, scene.width - 2.0 * MARGIN);
    let half = text_width(&title, BODY, false) / 2.0;
    let middle = ((area.left + area.right) / 2.0).clamp(
        MARGIN + half,
        (scene.width - MARGIN - half).max(MARGIN + half),
    );
    let at = [middle, bottom + 35.0];
    scene.text(at, &title, BODY, Anchor::Middle, Ink::Text);
}

/// Room under a plot for the horizontal axis.
const AXIS_ROOM: f64 = 46.0;

/// A summary's values on an axis: mean, spread, single seeds.
struct Marks {
    mean: f64,
    spread: Option<[f64; 2]>,
    seeds: Vec<f64>,
}

impl Marks {
    fn of(summary: &Summary, factor: f64) -> Self {
        let mean = factor * summary.mean;
        Self {
            mean,
            spread: summary
                .sd
                .map(|sd| [mean - factor * sd, mean + factor * sd]),
            seeds: summary.values.iter().map(|v| v * factor).collect(),
        }
    }

    fn ends(&self) -> impl Iterator<Item = f64> {
        let spread = self.spread.into_iter().flatten();
        spread.chain(self.seeds.iter().copied()).chain([self.mean])
    }

    fn seeds_apart(&self) -> &[f64] {
        match self.spread {
            Some(_) => &self.seeds,
            None => &[],
        }
    }
}

fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| {
        [low.min(v), high.max(v)]
    })
}

/// Below this mean of the main metric a method is not drawn where that would squeeze all others
/// together (a majority class among trained methods): it lies more than six times as far behind the
/// best as the median does.
pub(crate) fn scale_limit(comparison: &Comparison) -> f64 {
    let means: Vec<f64> = comparison
        .ranked()
        .iter()
        .filter_map(|r| Some(r.metric.as_ref()?.mean))
        .collect();
    let [_, best] = range(means.iter().copied());
    let median = statistics::percentile(&means, 50.0).unwrap_or(best);
    best - 6.0 * (best - median).max(0.01)
}

fn on_scale(row: &Row, limit: f64) -> bool {
    row.metric.as_ref().is_some_and(|m| m.mean >= limit)
}

/// Names what lies below the scale, with its value.
fn below_note(comparison: &Comparison, limit: f64) -> Option<String> {
    let below: Vec<String> = comparison
        .ranked()
        .iter()
        .filter(|row| !on_scale(row, limit))
        .filter_map(|row| {
            let mean = row.metric.as_ref()?.mean;
            Some(format!(
                "{} ({})",
                row.label,
                format::metric(comparison.metric(), mean)
            ))
        })
        .collect();
    (!below.is_empty()).then(|| format!("Below the scale: {}.", format::list(&below)))
}

/// Two quantities against each other, with the Pareto front.
fn trade_off(
    comparison: &Comparison,
    [qx, qy]: [Quantity; 2],
    title: &str,
    width: f64,
) -> Option<(Scene, String)> {
    let metric = comparison.metric();
    let limit = scale_limit(comparison);
    let points: Vec<(&Row, Marks, Marks)> = comparison
        .ranked()
        .iter()
        .filter(|row| on_scale(row, limit))
        .filter_map(|row| {
            Some((
                row,
                Marks::of(&qx.of(row)?, qx.axis_factor(metric)),
                Marks::of(&qy.of(row)?, qy.axis_factor(metric)),
            ))
        })
        .collect();
    if points.is_empty() {
        return None;
    }
    let mut notes = vec![spread_note(comparison)];
    if points.len() > 1 {
        notes.push(
            "Dashed line and bold names: the Pareto front, which no method beats in both.".into(),
        );
    }
    if qx == Quantity::Parameters && points.iter().any(|(_, x, _)| x.mean == 0.0) {
        notes.push("The axis is broken: 0 has no logarithm.".into());
    }
    notes.extend(below_note(comparison, limit));
    let sheet = Sheet::new(comparison, title, width, &notes);
    let (mut scene, room) = sheet.scene(if width < 500.0 { 330.0 } else { 400.0 });

    let ends = range(points.iter().flat_map(|(_, _, y)| y.ends()));
    let vertical = Axis::linear([room.bottom - AXIS_ROOM, room.top + 24.0], ends, 0.08, 6);
    let area = Area {
        left: room.left + tick_room(&vertical),
        top: room.top + 24.0,
        right: room.right,
        bottom: room.bottom - AXIS_ROOM,
    };
    let xs: Vec<f64> = points.iter().map(|(_, x, _)| x.mean).collect();
    let ends = [area.left + 6.0, area.right - 6.0];
    let mut horizontal = if qx.logarithmic() {
        Axis::logarithmic(ends, &xs, axis::decade)
    } else {
        Axis::linear(
            ends,
            range(points.iter().flat_map(|(_, x, _)| x.ends())),
            0.06,
            6,
        )
    };
    horizontal.thin_out(SMALL);
    scene.text(
        [MARGIN, room.top + 8.0],
        &qy.title(metric),
        BODY,
        Anchor::Start,
        Ink::Text,
    );
    draw_vertical_axis(&mut scene, &vertical, area);
    draw_horizontal_axis(&mut scene, &horizontal, area, &qx.title(metric), false);

    let at = |x: f64, y: f64| [horizontal.at(x), vertical.at(y)];
    let means: Vec<[f64; 2]> = points.iter().map(|(_, x, y)| [x.mean, y.mean]).collect();
    let front = pareto_front(&means, [qx.higher_is_better(), qy.higher_is_better()]);
    let mut on_front: Vec<[f64; 2]> = (means.iter().zip(&front))
        .filter(|(_, front)| **front)
        .map(|(&[x, y], _)| at(x, y))
        .collect();
    on_front.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let mut soft = Vec::new();
    for pair in on_front.windows(2) {
        let corner = [pair[1][0], pair[0][1]];
        for ends in [[pair[0], corner], [corner, pair[1]]] {
            scene.dashes(ends, Ink::Muted, 1.2);
            soft.push(Area {
                left: ends[0][0].min(ends[1][0]),
                right: ends[0][0].max(ends[1][0]),
                top: ends[0][1].min(ends[1][1]),
                bottom: ends[0][1].max(ends[1][1]),
            });
        }
    }
    let mut solid = Vec::new();
    for (row, x, y) in &points {
        let ink = style_of(row).ink;
        if let Some([low, high]) = y.spread {
            let ends = [at(x.mean, high), at(x.mean, low)];
            scene.line(ends, ink, 1.6);
            for end in ends {
                scene.line([[end[0] - 4.0, end[1]], [end[0] + 4.0, end[1]]], ink, 1.6);
            }
            solid.push(Area {
                left: ends[0][0] - 5.0,
                right: ends[0][0] + 5.0,
                top: ends[0][1] - 2.0,
                bottom: ends[1][1] + 2.0,
            });
        }
        for seed in y.seeds_apart() {
            let [px, py] = at(x.mean, *seed);
            scene.dot([px + 9.0, py], 2.0, ink, 0.75);
            solid.push(Area::around([px + 9.0, py], 3.0, 3.0));
        }
    }
    for (row, x, y) in &points {
        scene.marker(at(x.mean, y.mean), MARK, style_of(row));
        solid.push(Area::around(at(x.mean, y.mean), MARK + 3.0, MARK + 3.0));
    }
    let longest = if width < 500.0 { 140.0 } else { 230.0 };
    let names: Vec<String> = points
        .iter()
        .map(|(row, ..)| fit(&row.label, 1.08 * BODY, longest))
        .collect();
    let wanting: Vec<Wanting> = points
        .iter()
        .zip(names.iter().zip(&front))
        .map(|((_, x, y), (name, bold))| Wanting {
            at: at(x.mean, y.mean),
            width: text_width(name, BODY, *bold),
            height: BODY + 2.0,
        })
        .collect();
    let bounds = Area {
        left: area.left + 2.0,
        top: area.top - 10.0,
        right: scene.width - 6.0,
        bottom: area.bottom - 3.0,
    };
    let places = labels::place(&wanting, &solid, &soft, bounds);
    for ((place, far), want) in places.iter().zip(&wanting) {
        if *far {
            let end = labels::nearest(place, want.at);
            let (dx, dy) = (end[0] - want.at[0], end[1] - want.at[1]);
            let length = dx.hypot(dy);
            let start = [
                want.at[0] + dx / length * (MARK + 3.0),
                want.at[1] + dy / length * (MARK + 3.0),
            ];
            scene.line([start, end], Ink::Muted, 1.0);
        }
    }
    for (((place, _), name), bold) in places.iter().zip(&names).zip(&front) {
        scene.rectangle(*place, Ink::Paper, 0.8);
        let at = [place.left, (place.top + place.bottom) / 2.0];
        scene.write(at, name, BODY, Anchor::Start, Ink::Text, *bold);
    }
    let description = points.iter().map(|(row, x, y)| {
        format!(
            "{}: {} at {}",
            row.label,
            qy.show(metric, y.mean / qy.axis_factor(metric)),
            qx.show(metric, x.mean / qx.axis_factor(metric))
        )
    });
    Some((scene, description.collect::<Vec<_>>().join("; ")))
}

/// The name column and the lines of a chart with a line per method.
struct Lines {
    /// Where the names end and the plot starts.
    plot_left: f64,
    /// Middle of each line.
    middles: Vec<f64>,
    names: Vec<(String, Option<String>)>,
}

impl Lines {
    fn new(rows: &[&Row], room: Area, height: f64) -> Self {
        let most = 0.38 * room.width();
        let names: Vec<(String, Option<String>)> = rows
            .iter()
            .map(|row| {
                let variant = row.label.strip_prefix(&row.method).unwrap_or("").trim();
                let method = fit(&row.method, BODY, most - 22.0);
                let variant = fit(variant, SMALL, most - 22.0);
                (method, (!variant.is_empty()).then_some(variant))
            })
            .collect();
        let widest = names
            .iter()
            .flat_map(|(method, variant)| {
                let variant = variant.as_deref().unwrap_or("");
                [
                    text_width(method, BODY, false),
                    text_width(variant, SMALL, false),
                ]
            })
            .fold(0.0, f64::max);
        let mut top = room.top;
        let middles = names
            .iter()
            .map(|(_, variant)| {
                let h = height + if variant.is_some() { 8.0 } else { 0.0 };
                top += h;
                top - h / 2.0
            })
            .collect();
        Self {
            plot_left: room.left + 22.0 + widest + 12.0,
            middles,
            names,
        }
    }

    fn height(rows: &[&Row], height: f64) -> f64 {
        let two = rows.iter().filter(|r| r.label != r.method).count();
        rows.len() as f64 * height + 8.0 * two as f64
    }

    fn draw(&self, scene: &mut Scene, rows: &[&Row]) {
        for ((row, y), (name, variant)) in rows.iter().zip(&self.middles).zip(&self.names) {
            scene.marker([MARGIN + MARK + 1.0, *y], MARK, style_of(row));
            let up = if variant.is_some() { 8.0 } else { 0.0 };
            let left = MARGIN + 22.0;
            scene.text([left, y - up], name, BODY, Anchor::Start, Ink::Text);
            if let Some(variant) = variant {
                scene.text([left, y + 8.0], variant, SMALL, Anchor::Start, Ink::Muted);
            }
        }
    }
}

/// A mean with its spread and seeds on a horizontal axis.
fn draw_marks(scene: &mut Scene, axis: &Axis, y: f64, marks: &Marks, ink: Ink) {
    if let Some([low, high]) = marks.spread {
        let (low, high) = (axis.at(low), axis.at(high));
        scene.line([[low, y], [high, y]], ink, 1.8);
        for x in [low, high] {
            scene.line([[x, y - 4.0], [x, y + 4.0]], ink, 1.8);
        }
    }
    for seed in marks.seeds_apart() {
        scene.dot([axis.at(*seed), y + 9.0], 2.0, ink, 0.75);
    }
}

/// The main metric of every method with tie groups, best first.
fn ranking(comparison: &Comparison, title: &str, width: f64) -> Option<(Scene, String)> {
    let metric = comparison.metric();
    let factor = Quantity::Metric.axis_factor(metric);
    let (rows, all): (Vec<&Row>, Vec<Marks>) = comparison
        .ranked()
        .iter()
        .filter_map(|row| Some((row, Marks::of(row.metric.as_ref()?, factor))))
        .unzip();
    if rows.is_empty() {
        return None;
    }
    let ties = rows.iter().any(|r| !r.letters.is_empty()) && rows.len() > 1;
    let mut notes = vec![spread_note(comparison)];
    if ties {
        notes.push(words::legend(metric, comparison.margin));
    }
    let sheet = Sheet::new(comparison, title, width, &notes);
    let line = 34.0;
    let head = 20.0;
    let (mut scene, room) = sheet.scene(head + Lines::height(&rows, line) + AXIS_ROOM);
    let inner = Area {
        top: room.top + head,
        ..room
    };
    let lines = Lines::new(&rows, inner, line);
    let letters = rows
        .iter()
        .map(|r| text_width(&r.letters, BODY, true))
        .fold(text_width("letters", SMALL, false), f64::max);
    let letters = if ties { letters + 10.0 } else { 0.0 };
    let texts: Vec<String> = rows
        .iter()
        .map(|r| {
            r.metric
                .as_ref()
                .map_or_else(String::new, |m| format::metric_spread(metric, m.mean, m.sd))
        })
        .collect();
    let values = texts
        .iter()
        .map(|t| text_width(t, BODY, false))
        .fold(0.0, f64::max)
        + 12.0;
    let area = Area {
        left: lines.plot_left,
        right: room.right - letters - values,
        top: inner.top,
        bottom: room.bottom - AXIS_ROOM,
    };
    let limit = scale_limit(comparison);
    let shown = |row: &Row| on_scale(row, limit);
    let drawn = rows.iter().zip(&all).filter(|(row, _)| shown(row));
    let ends = range(drawn.flat_map(|(_, marks)| marks.ends()));
    let mut axis = Axis::linear(
        [area.left, area.right],
        ends,
        0.08,
        if width < 500.0 { 3 } else { 6 },
    );
    axis.thin_out(SMALL);
    draw_horizontal_axis(
        &mut scene,
        &axis,
        area,
        &Quantity::Metric.title(metric),
        true,
    );
    lines.draw(&mut scene, &rows);
    let head_y = room.top + 8.0;
    if ties {
        scene.text([room.right, head_y], "letters", SMALL, Anchor::End, Ink::Muted);
    }
    for (((row, marks), text), y) in rows.iter().zip(&all).zip(&texts).zip(&lines.middles) {
        let s = style_of(row);
        if shown(row) {
            draw_marks(&mut scene, &axis, *y, marks, s.ink);
            scene.marker([axis.at(marks.mean), *y], MARK, s);
        } else {
            // An arrow out of the scale; the value stands beside.
            let [x, y] = [area.left + 4.0, *y];
            scene.line([[x, y], [x + 22.0, y]], s.ink, 1.8);
            scene.line([[x + 5.0, y - 4.0], [x, y], [x + 5.0, y + 4.0]], s.ink, 1.8);
        }
        scene.text(
            [room.right - letters, *y],
            text,
            BODY,
            Anchor::End,
            Ink::Text,
        );
        if ties {
            scene.write(
                [room.right, *y],
                &row.letters,
                BODY,
                Anchor::End,
                Ink::Text,
                true,
            );
        }
    }
    let description = rows.iter().zip(&texts).map(|(row, text)| match ties {
        true => format!("{}: {text} (letters {})", row.label, row.letters),
        false => format!("{}: {text}", row.label),
    });
    Some((scene, description.collect::<Vec<_>>().join("; ")))
}

/// A cost of every method as bars from zero, cheapest first.
fn bar_chart(
    comparison: &Comparison,
    quantity: Quantity,
    title: &str,
    width: f64,
) -> Option<(Scene, String)> {
    let metric = comparison.metric();
    let factor = quantity.axis_factor(metric);
    let mut bars: Vec<(&Row, Marks)> = comparison
        .ranked()
        .iter()
        .filter_map(|row| Some((row, Marks::of(&quantity.of(row)?, factor))))
        .collect();
    bars.sort_by(|(_, a), (_, b)| a.mean.total_cmp(&b.mean));
    if bars.is_empty() {
        return None;
    }
    let rows: Vec<&Row> = bars.iter().map(|(row, _)| *row).collect();
    let sheet = Sheet::new(comparison, title, width, &[spread_note(comparison)]);
    let line = 34.0;
    let (mut scene, room) = sheet.scene(Lines::height(&rows, line) + AXIS_ROOM);
    let lines = Lines::new(&rows, room, line);
    let texts: Vec<String> = bars
        .iter()
        .map(|(_, m)| quantity.show(metric, m.mean / factor))
        .collect();
    let values = texts
        .iter()
        .map(|t| text_width(t, BODY, false))
        .fold(0.0, f64::max);
    let area = Area {
        left: lines.plot_left,
        right: room.right - values - 10.0,
        top: room.top,
        bottom: room.bottom - AXIS_ROOM,
    };
    let [_, most] = range(bars.iter().flat_map(|(_, m)| m.ends()));
    let ticks = if width < 500.0 { 3 } else { 6 };
    let mut axis = Axis::linear([area.left, area.right], [0.0, most], 0.01, ticks);
    axis.thin_out(SMALL);
    draw_horizontal_axis(&mut scene, &axis, area, &quantity.title(metric), true);
    lines.draw(&mut scene, &rows);
    for (((row, marks), text), y) in bars.iter().zip(&texts).zip(&lines.middles) {
        let s = style_of(row);
        let bar = Area {
            left: area.left,
            right: axis.at(marks.mean),
            top: y - 5.0,
            bottom: y + 5.0,
        };
        scene.rectangle(bar, s.ink, 0.35);
        scene.line([[bar.right, bar.top], [bar.right, bar.bottom]], s.ink, 2.0);
        draw_marks(&mut scene, &axis, *y, marks, s.ink);
        let end = marks.ends().fold(marks.mean, f64::max);
        let at = [axis.at(end) + 8.0, *y];
        scene.text(at, text, BODY, Anchor::Start, Ink::Text);
    }
    let description = rows
        .iter()
        .zip(&texts)
        .map(|(row, text)| format!("{}: {text}", row.label));
    Some((scene, description.collect::<Vec<_>>().join("; ")))
}

/// Latency of one variant of a method, in milliseconds.
struct Timed<'a> {
    variant: &'a str,
    p50: f64,
    p99: f64,
    sd: Option<f64>,
    text: String,
}

/// Median and 99th percentile of every method, merged and not, with the bare backbone as reference.
fn latency(comparison: &Comparison, title: &str, width: f64) -> Option<(Scene, String)> {
    let mut rows: Vec<&Row> = comparison
        .ranked()
        .iter()
        .filter(|r| r.sentence("unmerged").is_some() || r.sentence("merged").is_some())
        .collect();
    let p50 = |row: &Row, variant: &str| row.sentence(variant).map(|l| l.p50_ms.mean);
    let of = |row: &Row| p50(row, "unmerged").or(p50(row, "merged")).unwrap_or(0.0);
    rows.sort_by(|a, b| of(a).total_cmp(&of(b)));
    if rows.is_empty() {
        return None;
    }
    let bares: Vec<f64> = rows.iter().filter_map(|r| p50(r, "backbone")).collect();
    // Each run times the bare backbone too. Where these times differ, so did the machine, and one
    // common line would be wrong for every method.
    let [fastest, slowest] = range(bares.iter().copied());
    let steady = slowest <= STEADY * fastest;
    let bare = statistics::mean(&bares).filter(|_| steady);
    let merges = rows
        .iter()
        .any(|r| r.sentence("merged").is_some() && r.sentence("unmerged").is_some());
    let mut notes = vec![
        "Marker: median (p50). Tick at the end of the line: 99th percentile (p99).".to_owned(),
    ];
    if merges {
        notes.push("Hollow: merged into the backbone.".into());
    }
    if bare.is_some() {
        notes.push("Dashed line: the bare backbone's median.".into());
    } else if !bares.is_empty() {
        notes.push(format!(
            "Upright lines: the bare backbone's median in the same runs. It ranged from {} to {} ms: the machine \
             was not steady, so compare a method with its own line only.",
            format::ms(fastest),
            format::ms(slowest)
        ));
    }
    let sheet = Sheet::new(comparison, title, width, &notes);
    let line = if merges { 40.0 } else { 32.0 };
    let head = 24.0;
    let (mut scene, room) = sheet.scene(head + Lines::height(&rows, line) + AXIS_ROOM);
    let inner = Area {
        top: room.top + head,
        ..room
    };
    let lines = Lines::new(&rows, inner, line);
    let marks: Vec<Vec<Timed>> = rows
        .iter()
        .map(|row| {
            ["unmerged", "merged"]
                .into_iter()
                .filter_map(|variant| {
                    let l = row.sentence(variant)?;
                    let p50 = l.p50_ms.mean;
                    let text = match &l.over_backbone {
                        Some(ratio) => timing::overhead_text(ratio, comparison.latency_noise),
                        None => format::ms(p50),
                    };
                    Some(Timed {
                        variant,
                        p50,
                        p99: l.p99_ms.as_ref().map_or(p50, |s| s.mean),
                        sd: l.p50_ms.sd,
                        text,
                    })
                })
                .collect()
        })
        .collect();
    let widest = |texts: &mut dyn Iterator<Item = &str>| {
        texts
            .map(|t| text_width(t, BODY, false))
            .fold(0.0, f64::max)
    };
    let heading = "over backbone";
    let mut texts = marks
        .iter()
        .flatten()
        .map(|m| m.text.as_str())
        .chain([heading]);
    let values = widest(&mut texts);
    let area = Area {
        left: lines.plot_left,
        right: room.right - values - 12.0,
        top: inner.top,
        bottom: room.bottom - AXIS_ROOM,
    };
    let most = marks
        .iter()
        .flatten()
        .map(|m| m.p99.max(m.p50))
        .chain(bares.iter().copied())
        .fold(0.0, f64::max);
    let ticks = if width < 500.0 { 3 } else { 6 };
    let mut axis = Axis::linear([area.left, area.right], [0.0, most], 0.02, ticks);
    axis.thin_out(SMALL);
    draw_horizontal_axis(
        &mut scene,
        &axis,
        area,
        "latency, batch of 1 real sentence (ms)",
        true,
    );
    lines.draw(&mut scene, &rows);
    scene.text(
        [room.right, room.top + 9.0],
        heading,
        SMALL,
        Anchor::End,
        Ink::Muted,
    );
    if let Some(bare) = bare {
        let x = axis.at(bare);
        scene.dashes([[x, area.top - 4.0], [x, area.bottom]], Ink::Text, 1.4);
        let text = format!("backbone {}", format::ms(bare));
        let half = text_width(&text, SMALL, false) / 2.0;
        let x = x.clamp(MARGIN + half, (area.right - half).max(MARGIN + half));
        scene.text([x, room.top + 9.0], &text, SMALL, Anchor::Middle, Ink::Text);
    }
    for ((row, marks), middle) in rows.iter().zip(&marks).zip(&lines.middles) {
        let s = style_of(row);
        let apart = if marks.len() > 1 { 9.0 } else { 0.0 };
        if let Some(own) = p50(row, "backbone").filter(|_| !steady) {
            let x = axis.at(own);
            let half = line / 2.0 - 4.0;
            scene.line([[x, middle - half], [x, middle + half]], Ink::Text, 1.6);
        }
        for (i, m) in marks.iter().enumerate() {
            let y = middle + if i == 0 { -apart } else { apart };
            let (a, b) = (axis.at(m.p50), axis.at(m.p99));
            scene.faint_line([[a, y], [b, y]], s.ink, 1.6, 0.6);
            scene.line([[b, y - 5.0], [b, y + 5.0]], s.ink, 2.0);
            if let Some(sd) = m.sd {
                let (low, high) = (axis.at((m.p50 - sd).max(0.0)), axis.at(m.p50 + sd));
                scene.line([[low, y], [high, y]], s.ink, 3.5);
            }
            match m.variant {
                "merged" => scene.hollow_marker([a, y], MARK, s),
                _ => scene.marker([a, y], MARK, s),
            }
            let at = [room.right, y];
            scene.text(at, &m.text, BODY, Anchor::End, Ink::Text);
        }
    }
    let described = rows.iter().zip(&marks).flat_map(|(row, marks)| {
        marks
            .iter()
            .map(move |m| format!("{} {}: {} ms, {}", row.label, m.variant, format::ms(m.p50), m.text))
    });
    Some((scene, described.collect::<Vec<_>>().join("; ")))
}

/// A quantity while training: mean over seeds and its least and greatest value.
struct Curve<'a> {
    row: &'a Row,
    /// Step, mean, least, greatest.
    points: Vec<[f64; 4]>,
    seeds: usize,
    /// Steps that were averaged.
    window: usize,
}

impl<'a> Curve<'a> {
    fn outcomes(comparison: &'a Comparison, row: &Row) -> Vec<&'a Outcome> {
        row.runs
            .iter()
            .filter_map(|run| comparison.record(&run.id)?.outcome.as_ref())
            .collect()
    }

    /// Training losses, smoothed by a centred running mean over a twentieth of the steps.
    fn losses(comparison: &'a Comparison) -> Vec<Self> {
        let mut curves = Vec::new();
        for row in comparison.ranked() {
            let outcomes = Self::outcomes(comparison, row);
            let steps = outcomes.iter().map(|o| o.loss.len()).min().unwrap_or(0);
            let window = (steps / 20).max(1);
            let smooth: Vec<Vec<f64>> = outcomes
                .iter()
                .map(|o| running_mean(&o.loss, window))
                .collect();
            let every = steps.div_ceil(CURVE_POINTS).max(1);
            let points = (0..steps)
                .filter(|i| i % every == 0 || i + 1 == steps)
                .map(|i| Self::point(i as f64 + 1.0, smooth.iter().map(|s| s[i])))
                .collect();
            curves.push(Self {
                row,
                points,
                seeds: outcomes.len(),
                window,
            });
        }
        curves.retain(|c| !c.points.is_empty());
        curves
    }

    /// The main metric on the validation split at each evaluation that all seeds have.
    fn metrics(comparison: &'a Comparison) -> Vec<Self> {
        let limit = scale_limit(comparison);
        let metric = comparison.metric();
        let factor = Quantity::Metric.axis_factor(metric);
        let mut curves = Vec::new();
        for row in comparison.ranked().iter().filter(|r| on_scale(r, limit)) {
            let outcomes = Self::outcomes(comparison, row);
            let mut at: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for evaluation in outcomes.iter().flat_map(|o| &o.evaluations) {
                if let Some(value) = evaluation.metrics.get(metric) {
                    at.entry(evaluation.step).or_default().push(value * factor);
                }
            }
            let points = at
                .into_iter()
                .filter(|(_, values)| values.len() == outcomes.len())
                .map(|(step, values)| Self::point(step as f64, values.into_iter()))
                .collect();
            curves.push(Self {
                row,
                points,
                seeds: outcomes.len(),
                window: 1,
            });
        }
        curves.retain(|c| !c.points.is_empty());
        curves
    }

    fn point(step: f64, values: impl Iterator<Item = f64>) -> [f64; 4] {
        let values: Vec<f64> = values.collect();
        let [low, high] = range(values.iter().copied());
        [
            step,
            statistics::mean(&values).unwrap_or(f64::NAN),
            low,
            high,
        ]
    }

    fn draw_band(&self, scene: &mut Scene, x: &Axis, y: &Axis) {
        if self.seeds > 1 {
            let s = style_of(self.row);
            let there = self.points.iter().map(|p| [x.at(p[0]), y.at(p[3])]);
            let back = self.points.iter().rev().map(|p| [x.at(p[0]), y.at(p[2])]);
            scene.area(there.chain(back).collect(), s.ink, 0.16);
        }
    }

    fn draw(&self, scene: &mut Scene, x: &Axis, y: &Axis, marked: bool) {
        let s = style_of(self.row);
        scene.line(self.line(x, y), s.ink, 2.0);
        if marked {
            for p in &self.points {
                scene.marker([x.at(p[0]), y.at(p[1])], MARK - 1.0, s);
            }
        }
    }

    fn line(&self, x: &Axis, y: &Axis) -> Vec<[f64; 2]> {
        self.points
            .iter()
            .map(|p| [x.at(p[0]), y.at(p[1])])
            .collect()
    }
}

/// Centred running mean; the window is cut at the ends.
fn running_mean(values: &[f32], window: usize) -> Vec<f64> {
    let half = window / 2;
    (0..values.len())
        .map(|i| {
            let part = &values[i.saturating_sub(half)..(i + half + 1).min(values.len())];
            part.iter().map(|&v| f64::from(v)).sum::<f64>() / part.len() as f64
        })
        .collect()
}

/// Curves over training steps: in one panel with names at their ends, or a panel each where they are many.
fn curves(
    comparison: &Comparison,
    curves: &[Curve],
    loss: bool,
    title: &str,
    width: f64,
) -> Option<(Scene, String)> {
    let first = curves.first()?;
    // Single points are no curves; the ranking shows them.
    if curves.iter().all(|c| c.points.len() < 2) {
        return None;
    }
    let metric = comparison.metric();
    let y_title = match loss {
        true => "training loss (cross-entropy, nats)".to_owned(),
        false => Quantity::Metric.title(metric),
    };
    let mut notes = Vec::new();
    if loss && first.window > 1 {
        notes.push(format!("Running mean over {} steps.", first.window));
    }
    notes.push(match curves.iter().map(|c| c.seeds).max() {
        Some(n) if n > 1 => {
            "Line: mean over seeds. Band: least to greatest of the seeds.".to_owned()
        }
        _ => "One seed: no band.".to_owned(),
    });
    if !loss {
        notes.extend(below_note(comparison, scale_limit(comparison)));
    }
    let narrow = width < 500.0;
    let many = curves.len() > OVERLAID;
    if many {
        notes.push("In each panel the other methods are grey.".into());
    }
    let columns = match (many, narrow) {
        (false, _) => 1,
        (true, true) => 2,
        (true, false) if width < WIDE => 3,
        (true, false) => 4,
    };
    let panel_rows = if many {
        curves.len().div_ceil(columns)
    } else {
        1
    };
    let sheet = Sheet::new(comparison, title, width, &notes);
    let panel_height = match (many, narrow) {
        (true, _) => 120.0,
        (false, true) => 260.0,
        (false, false) => 330.0,
    };
    let panel_head = if many { 22.0 } else { 0.0 };
    let (mut scene, room) =
        sheet.scene(24.0 + panel_rows as f64 * (panel_height + panel_head) + AXIS_ROOM);
    let [low, high] = range(
        curves
            .iter()
            .flat_map(|c| &c.points)
            .flat_map(|p| [p[2], p[3]]),
    );
    let [_, last] = range(curves.iter().flat_map(|c| &c.points).map(|p| p[0]));
    let y_over = |from: f64, to: f64| {
        let ticks = if many { 3 } else { 6 };
        Axis::linear([from, to], [low, high], 0.05, ticks)
    };
    let left = room.left + tick_room(&y_over(panel_height, 0.0));
    scene.text(
        [MARGIN, room.top + 6.0],
        &y_title,
        BODY,
        Anchor::Start,
        Ink::Text,
    );
    let describe = |c: &Curve| {
        let p = c.points.last().copied().unwrap_or_default();
        let value = match loss {
            true => format!("{:.3}", p[1]),
            false => format::metric(metric, p[1] / Quantity::Metric.axis_factor(metric)),
        };
        format!("{} ends at {value}", c.row.label)
    };
    let description = curves.iter().map(describe).collect::<Vec<_>>().join("; ");

    if !many {
        let most = if narrow { 110.0 } else { 200.0 };
        let names: Vec<String> = curves
            .iter()
            .map(|c| fit(&c.row.label, BODY, most))
            .collect();
        let names_width = names
            .iter()
            .map(|n| text_width(n, BODY, false))
            .fold(0.0, f64::max);
        let area = Area {
            left,
            top: room.top + 24.0,
            right: room.right - names_width - 38.0,
            bottom: room.bottom - AXIS_ROOM,
        };
        let y = y_over(area.bottom, area.top);
        let ticks = if narrow { 3 } else { 6 };
        let mut x = Axis::linear([area.left, area.right], [0.0, last], 0.0, ticks);
        x.thin_out(SMALL);
        draw_vertical_axis(&mut scene, &y, area);
        draw_horizontal_axis(&mut scene, &x, area, "training steps", false);
        // The best is drawn last, on top.
        for curve in curves.iter().rev() {
            curve.draw_band(&mut scene, &x, &y);
        }
        for curve in curves.iter().rev() {
            curve.draw(&mut scene, &x, &y, !loss);
        }
        let ends: Vec<[f64; 2]> = curves
            .iter()
            .filter_map(|c| c.line(&x, &y).last().copied())
            .collect();
        let wanted: Vec<f64> = ends.iter().map(|e| e[1]).collect();
        let places = labels::spread(&wanted, BODY + 4.0, [area.top, area.bottom]);
        for (((curve, name), end), place) in curves.iter().zip(&names).zip(&ends).zip(places) {
            let s = style_of(curve.row);
            let text_at = area.right + 34.0;
            scene.line(
                [[end[0] + 7.0, end[1]], [text_at - 14.0, place]],
                s.ink,
                1.0,
            );
            scene.marker([text_at - 8.0, place], MARK - 1.5, s);
            scene.text([text_at, place], name, BODY, Anchor::Start, Ink::Text);
        }
        return Some((scene, description));
    }

    let gap = 14.0;
    let panel_width = (room.right - left - gap * (columns as f64 - 1.0)) / columns as f64;
    for (i, curve) in curves.iter().enumerate() {
        let (column, row) = (i % columns, i / columns);
        let top = room.top + 24.0 + row as f64 * (panel_height + panel_head) + panel_head;
        let panel_left = left + column as f64 * (panel_width + gap);
        let area = Area {
            left: panel_left,
            top,
            right: panel_left + panel_width,
            bottom: top + panel_height - 8.0,
        };
        let mut y = y_over(area.bottom, area.top);
        if column > 0 {
            y.ticks.iter_mut().for_each(|(_, text)| text.clear());
        }
        draw_vertical_axis(&mut scene, &y, area);
        let x = Axis::linear([area.left, area.right], [0.0, last], 0.0, 2);
        scene.line(
            [[area.left, area.bottom], [area.right, area.bottom]],
            Ink::Muted,
            1.0,
        );
        for other in curves {
            scene.faint_line(other.line(&x, &y), Ink::Muted, 1.0, 0.3);
        }
        curve.draw_band(&mut scene, &x, &y);
        curve.draw(&mut scene, &x, &y, false);
        let name = fit(&curve.row.label, SMALL, panel_width - 18.0);
        let y = top - 10.0;
        scene.marker([area.left + 6.0, y], MARK - 1.0, style_of(curve.row));
        scene.text(
            [area.left + 16.0, y],
            &name,
            SMALL,
            Anchor::Start,
            Ink::Text,
        );
        if i + columns >= curves.len() {
            let at = |x: f64| [x, area.bottom + 12.0];
            let steps = format::count(last as usize);
            scene.text(at(area.left), "0", SMALL, Anchor::Start, Ink::Muted);
            scene.text(at(area.right), &steps, SMALL, Anchor::End, Ink::Muted);
        }
    }
    let at = [(room.left + room.right) / 2.0, room.bottom - 8.0];
    scene.text(at, "training steps", BODY, Anchor::Middle, Ink::Text);
    Some((scene, description))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use record::RunRecord;
    use crate::sample::{self, Sample};

    fn comparison(records: &[RunRecord]) -> Comparison {
        let mut all = Comparison::from_records(records);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// In every layout: every text is on the sheet, and no two overlap.
    fn assert_readable(comparison: &Comparison) {
        for plot in plots(comparison) {
            for scene in [&plot.wide, &plot.page, &plot.narrow] {
                let sheet = Area {
                    left: 0.0,
                    top: 0.0,
                    right: scene.width,
                    bottom: scene.height,
                };
                let texts = scene.texts();
                for (i, (text, area)) in texts.iter().enumerate() {
                    let at = format!("{} at width {}: `{text}` {area:?}", plot.name, scene.width);
                    assert!(sheet.contains(area), "{at} is not on the sheet");
                    for (other, its_area) in &texts[..i] {
                        assert!(
                            !area.overlaps(its_area),
                            "{at} covers `{other}` {its_area:?}"
                        );
                    }
                }
            }
        }
    }

    fn texts(plot: &Plot) -> Vec<String> {
        let texts = plot.wide.texts();
        texts.into_iter().map(|(text, _)| text.to_owned()).collect()
    }

    fn named<'a>(plots: &'a [Plot], name: &str) -> &'a Plot {
        plots.iter().find(|p| p.name == name).unwrap()
    }

    #[test]
    fn every_plot_names_every_method_and_the_unit_of_its_axis() {
        let plots = plots(&comparison(&sample::realistic_comparison(&sample::FIVE, 3)));
        let expected = [
            ("accuracy-ranking", "accuracy (%)"),
            ("accuracy-parameters", "accuracy (%)"),
            ("training-loss", "training loss (cross-entropy, nats)"),
            ("validation-accuracy", "accuracy (%)"),
            ("training-time", "training time (s)"),
            ("latency", "latency, batch of 1 real sentence (ms)"),
            ("peak-memory", "peak memory in training (MB)"),
        ];
        let found: Vec<&str> = plots.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(found, expected.map(|(name, _)| name));
        for (plot, (_, unit)) in plots.iter().zip(expected) {
            let texts = texts(plot);
            for text in sample::FIVE.into_iter().chain([unit]) {
                assert!(
                    texts.iter().any(|t| t == text),
                    "{} lacks {text}: {texts:?}",
                    plot.name
                );
            }
        }
        let texts = texts(named(&plots, "accuracy-parameters"));
        assert!(texts.iter().any(|t| t == "trained parameters, head apart"));
    }

    #[test]
    fn five_methods_are_readable_with_one_seed_and_with_three() {
        for seeds in [1, 3] {
            assert_readable(&comparison(&sample::realistic_comparison(
                &sample::FIVE,
                seeds,
            )));
        }
    }

    #[test]
    fn twenty_methods_are_readable() {
        assert_readable(&comparison(&sample::realistic_comparison(
            &sample::TWENTY,
            3,
        )));
    }

    #[test]
    fn many_variants_of_one_method_are_readable() {
        let mut records = sample::realistic_comparison(&sample::FIVE, 2);
        for rank in [1, 2, 4, 16, 32] {
            for seed in 0..2 {
                let variant =
                    format!("rank={rank} target_modules=[query,key,value,attention_output]");
                let config = serde_json::json!({ "rank": rank });
                let run = sample::realistic("lora", seed).parameters(9216 * rank);
                records.push(run.variant(&variant, config).record());
            }
        }
        assert_readable(&comparison(&records));
    }

    #[test]
    fn one_method_alone_is_plotted_too() {
        for method in ["lora", "head_only"] {
            let comparison = comparison(&sample::realistic_comparison(&[method], 1));
            assert_eq!(plots(&comparison).len(), 7);
            assert_readable(&comparison);
        }
    }

    #[test]
    fn nothing_is_plotted_where_nothing_ended_well() {
        let run = Sample::new("lora").ended(record::Status::Interrupted);
        assert!(plots(&comparison(&[run.record()])).is_empty());
    }

    #[test]
    fn what_is_not_ranked_is_named_under_the_plot_and_not_drawn() {
        let comparison = comparison(&sample::troubled_comparison(2));
        assert_readable(&comparison);
        for plot in plots(&comparison) {
            let all = texts(&plot);
            assert!(!all.iter().any(|t| t == "bitfit"), "{}", plot.name);
            let all = all.join(" ");
            for note in ["bitfit (invalid)", "ia3 (no run ended well)"] {
                assert!(all.contains(note), "{}: {all}", plot.name);
            }
        }
    }

    #[test]
    fn a_stand_in_is_said_in_every_plot() {
        let records = sample::realistic_comparison(&sample::FIVE, 1);
        let records = sample::on_data(records, "movie_snippets", Some("sst2"));
        let comparison = comparison(&records);
        for plot in plots(&comparison) {
            let all = texts(&plot).join(" ");
            assert!(all.contains("sst2 → movie_snippets (stand-in)"), "{all}");
            assert!(plot.description.contains("stand-in"));
        }
    }

    #[test]
    fn what_would_squeeze_all_others_together_is_named_below_the_scale() {
        let plots = plots(&comparison(&sample::realistic_comparison(
            &sample::TWENTY,
            3,
        )));
        for name in ["accuracy-parameters", "validation-accuracy"] {
            let texts = texts(named(&plots, name));
            assert!(!texts.iter().any(|t| t == "majority"), "{name}");
            let all = texts.join(" ");
            assert!(
                all.contains("Below the scale: random_features (58")
                    && all.contains("majority (50"),
                "{all}"
            );
        }
        // The ranking has a line and a value for every method.
        assert!(
            texts(named(&plots, "accuracy-ranking"))
                .iter()
                .any(|t| t == "majority")
        );
    }

    #[test]
    fn a_method_without_parameters_stands_at_zero_behind_a_break() {
        let plots = plots(&comparison(&sample::realistic_comparison(&sample::FIVE, 3)));
        let texts = texts(named(&plots, "accuracy-parameters"));
        assert!(
            texts.iter().any(|t| t == "0") && texts.iter().any(|t| t == "100 k"),
            "{texts:?}"
        );
        assert!(texts.join(" ").contains("The axis is broken"));
    }

    #[test]
    fn a_file_is_a_png_of_1600_pixels_and_an_svg_with_a_description() {
        let comparison = comparison(&sample::realistic_comparison(&sample::FIVE, 3));
        let plots = plots(&comparison);
        let plot = named(&plots, "accuracy-parameters");
        let png = plot.png().unwrap();
        let decoder = png::Decoder::new(png.as_slice());
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(info.width, 1600);
        // The markers' colours are in it.
        for method in sample::FIVE {
            let rgb = style(method, sample::realistic(method, 0).record().kind.as_ref()).ink.rgb();
            assert!(pixels.chunks(3).any(|p| p == rgb), "{method} is not drawn");
        }
        let svg = plot.svg().unwrap();
        assert!(svg.starts_with(
            "<svg role=\"img\" aria-label=\"Accuracy against trained parameters, sst2 · minilm."
        ));
        assert!(svg.contains("prompt_tuning: 8") && svg.trim_end().ends_with("</svg>"));
        assert!(plot.narrow_svg().unwrap().contains("viewBox=\"0 0 720 "));
    }

    #[test]
    fn on_an_unsteady_machine_each_method_has_its_own_backbone_as_reference() {
        let timed = |method: &str, slower: f64| {
            let run = Sample::new(method).latency("backbone", 4.0 * slower, 6.0 * slower);
            run.latency("unmerged", 5.0 * slower, 7.0 * slower).record()
        };
        let of = |slower: f64| {
            let plots = plots(&comparison(&[timed("lora", 1.0), timed("adapter", slower)]));
            texts(named(&plots, "latency")).join(" ")
        };
        assert!(of(1.05).contains("Dashed line: the bare backbone's median."));
        let unsteady = of(2.0);
        assert!(
            unsteady.contains("It ranged from 4.00 to 8.00 ms"),
            "{unsteady}"
        );
        assert!(!unsteady.contains("Dashed line"));
    }

    #[test]
    fn a_single_evaluation_is_no_curve() {
        let run = Sample::new("lora").with(|r| {
            r.outcome.as_mut().unwrap().evaluations.remove(0);
        });
        let plots = plots(&comparison(&[run.record()]));
        assert!(plots.iter().all(|p| p.name != "validation-accuracy"));
        assert!(plots.iter().any(|p| p.name == "training-loss"));
    }

    #[test]
    fn the_running_mean_is_centred_and_cut_at_the_ends() {
        assert_eq!(
            running_mean(&[1.0, 2.0, 3.0, 4.0, 8.0], 3),
            [1.5, 2.0, 3.0, 5.0, 6.0]
        );
        assert_eq!(running_mean(&[1.0, 5.0], 1), [1.0, 5.0]);
    }
}
