//! What all figures share: sizes, heading and notes, axes, lines with a method each, and the scale.

use statistics::Summary;

use super::{
    axis::{Axis, range},
    scene::{Anchor, Area, Scene, fit, text_width, wrap},
    style::{BODY, Ink, MARGIN, SMALL, Style, TITLE, style},
};
use crate::{
    comparison::Comparison,
    format,
    quantity::Quantity,
    row::{Row, Standing},
};

/// Widths of the layouts, in CSS pixels.
pub(super) const WIDE: f64 = 800.0;

pub(super) const PAGE: f64 = 640.0;

pub(super) const NARROW: f64 = 360.0;

/// Radius of a marker.
pub(super) const MARK: f64 = 5.5;

/// Room under a plot for the horizontal axis.
pub(super) const AXIS_ROOM: f64 = 46.0;

/// Colour and marker of a row's method.
pub fn style_of(row: &Row) -> Style {
    style(&row.method, row.kind.as_ref())
}

/// Heading and notes of a plot, broken into lines for its width.
pub(super) struct Layout {
    pub(super) width: f64,
    pub(super) title: Vec<String>,
    pub(super) subtitle: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Layout {
    pub(super) fn new(comparison: &Comparison, title: &str, width: f64, notes: &[String]) -> Self {
        let seeds = format::plural(comparison.seeds.len(), "seed");
        let left_out = comparison.rows.iter().filter_map(|row| match row.standing {
            Standing::Ranked => None,
            Standing::Invalid { .. } => Some(format!("{} (invalid)", row.label)),
            Standing::Unfinished => Some(format!("{} (no run ended well)", row.label)),
        });
        let left_out: Vec<String> = left_out.collect();
        let mut notes = notes.join(" ");
        if !left_out.is_empty() {
            notes += &format!(" Not shown: {}.", format::list(&left_out));
        }
        let subtitle = format!("{} · {seeds}", comparison.name);
        Self::of(width, title, &subtitle, &notes)
    }

    pub(super) fn of(width: f64, title: &str, subtitle: &str, notes: &str) -> Self {
        let room = width - 2.0 * MARGIN;
        Self {
            width,
            // Bold is about a tenth wider than what `wrap` measures.
            title: wrap(title, 1.1 * TITLE, room),
            subtitle: wrap(subtitle, BODY, room),
            notes: wrap(notes, SMALL, room),
        }
    }

    pub(super) fn header(&self) -> f64 {
        MARGIN + 22.0 * self.title.len() as f64 + 18.0 * self.subtitle.len() as f64 + 6.0
    }

    pub(super) fn footer(&self) -> f64 {
        match self.notes.len() {
            0 => 8.0,
            n => 16.0 * n as f64 + 14.0,
        }
    }

    /// Where what is between heading and notes ends on the right.
    pub(super) fn right(&self) -> f64 {
        self.width - MARGIN
    }

    /// A scene with room of this height between heading and notes, and that room.
    pub(super) fn scene(&self, height: f64) -> (Scene, Area) {
        let mut scene = Scene::new(self.width, self.header() + height + self.footer());
        let mut y = MARGIN + 8.0;
        for line in &self.title {
            scene.write([MARGIN, y], line, TITLE, Anchor::Start, Ink::Text, true);
            y += 22.0;
        }
        for line in &self.subtitle {
            scene.write([MARGIN, y], line, BODY, Anchor::Start, Ink::Muted, false);
            y += 18.0;
        }
        let top = self.header();
        let mut y = top + height + 12.0;
        for line in &self.notes {
            scene.note([MARGIN, y], line, Anchor::Start);
            y += 16.0;
        }
        let area = Area::between([MARGIN, top], [self.right(), top + height]);
        (scene, area)
    }
}

/// What the marks around a mean say.
pub(super) fn spread_note(comparison: &Comparison) -> String {
    match comparison.ranked().iter().map(|r| r.runs.len()).max() {
        Some(0 | 1) | None => "One seed: the spread over seeds is unknown.".to_owned(),
        _ => "Dots: single seeds. Bars: mean ± 1 standard deviation over seeds.".to_owned(),
    }
}

/// Whether a layout is for a phone.
pub(super) fn is_narrow(width: f64) -> bool {
    width < 500.0
}

/// Numbers that stand on a horizontal axis, about.
pub(super) fn ticks(width: f64) -> usize {
    if is_narrow(width) { 3 } else { 6 }
}

/// Width of the widest of these texts.
pub(super) fn widest<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, em: f64) -> f64 {
    let width = |text: T| text_width(text.as_ref(), em, false);
    texts.into_iter().map(width).fold(0.0, f64::max)
}

/// Width that tick texts of a vertical axis take.
pub(super) fn tick_room(axis: &Axis) -> f64 {
    widest(axis.ticks.iter().map(|(_, text)| text), SMALL) + 8.0
}

pub(super) fn draw_vertical_axis(scene: &mut Scene, axis: &Axis, area: Area) {
    for (value, text) in &axis.ticks {
        let y = axis.at(*value);
        scene.line([[area.left, y], [area.right, y]], Ink::Grid, 1.0);
        scene.note([area.left - 8.0, y], text, Anchor::End);
    }
}

pub(super) fn draw_horizontal_axis(
    scene: &mut Scene,
    axis: &Axis,
    area: Area,
    title: &str,
    grid: bool,
) {
    let bottom = area.bottom;
    for (value, text) in &axis.ticks {
        let x = axis.at(*value);
        if grid {
            scene.line([[x, area.top], [x, bottom]], Ink::Grid, 1.0);
        }
        scene.line([[x, bottom], [x, bottom + 5.0]], Ink::Muted, 1.0);
        // The outermost texts stay on the layout.
        let x = inside(x, text, SMALL, [2.0, scene.width - 2.0]);
        scene.note([x, bottom + 15.0], text, Anchor::Middle);
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
    let middle = (area.left + area.right) / 2.0;
    let x = inside(middle, &title, BODY, [MARGIN, scene.width - MARGIN]);
    scene.text([x, bottom + 35.0], &title, Anchor::Middle);
}

/// The middle of a text that would stand at `x`, moved so that the text stays between these ends.
pub(super) fn inside(x: f64, text: &str, em: f64, [left, right]: [f64; 2]) -> f64 {
    let half = text_width(text, em, false) / 2.0;
    x.clamp(left + half, (right - half).max(left + half))
}

/// A summary's values on an axis: mean, spread, single seeds.
pub(super) struct Marks {
    pub(super) mean: f64,
    pub(super) spread: Option<[f64; 2]>,
    pub(super) seeds: Vec<f64>,
}

impl Marks {
    pub(super) fn of(summary: &Summary, factor: f64) -> Self {
        let mean = factor * summary.mean;
        let spread = |sd: f64| [mean - factor * sd, mean + factor * sd];
        Self {
            mean,
            spread: summary.sd.map(spread),
            seeds: summary.values.iter().map(|v| v * factor).collect(),
        }
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = f64> {
        let spread = self.spread.into_iter().flatten();
        spread.chain(self.seeds.iter().copied()).chain([self.mean])
    }

    pub(super) fn seeds_apart(&self) -> &[f64] {
        match self.spread {
            Some(_) => &self.seeds,
            None => &[],
        }
    }
}

/// What was measured of a ranked row, with its text.
pub(super) struct Valued<'a> {
    pub(super) row: &'a Row,
    pub(super) marks: Marks,
    pub(super) text: String,
}

impl<'a> Valued<'a> {
    /// Of every ranked row of which it was measured.
    pub(super) fn all(
        comparison: &'a Comparison,
        quantity: Quantity,
        text: impl Fn(&Summary) -> String,
    ) -> Vec<Self> {
        let factor = quantity.axis_factor(comparison.metric());
        let of = |row: &'a Row| {
            let summary = quantity.of(row)?;
            Some(Self {
                row,
                marks: Marks::of(&summary, factor),
                text: text(&summary),
            })
        };
        comparison.ranked().iter().filter_map(of).collect()
    }
}

/// A mean with its spread and seeds on a horizontal axis.
pub(super) fn draw_marks(scene: &mut Scene, axis: &Axis, y: f64, marks: &Marks, ink: Ink) {
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

/// Below this mean of the main metric a method is not drawn where that would squeeze all others
/// together (a majority class among trained methods): it lies more than six times as far behind the
/// best as the median does.
pub(crate) fn scale_limit(comparison: &Comparison) -> f64 {
    let ranked = comparison.ranked().iter();
    let means: Vec<f64> = ranked
        .filter_map(|r| Some(r.metric.as_ref()?.mean))
        .collect();
    let [_, best] = range(means.iter().copied());
    let median = statistics::percentile(&means, 50.0).unwrap_or(best);
    best - 6.0 * (best - median).max(0.01)
}

pub(super) fn on_scale(row: &Row, limit: f64) -> bool {
    row.metric.as_ref().is_some_and(|m| m.mean >= limit)
}

/// Names what lies below the scale, with its value.
pub(super) fn below_note(comparison: &Comparison, limit: f64) -> Option<String> {
    let named = |row: &Row| {
        let mean = format::metric(comparison.metric(), row.metric.as_ref()?.mean);
        Some(format!("{} ({mean})", row.label))
    };
    let below = comparison.ranked().iter();
    let below = below.filter(|row| !on_scale(row, limit)).filter_map(named);
    let below: Vec<String> = below.collect();
    (!below.is_empty()).then(|| format!("Below the scale: {}.", format::list(&below)))
}

/// A chart with a line per method, as far as all of them are alike: names, axis and grid.
pub(super) struct Chart {
    pub(super) scene: Scene,
    /// All between heading and notes.
    pub(super) room: Area,
    /// What the axis reaches over.
    pub(super) area: Area,
    pub(super) axis: Axis,
    /// Middle of each line.
    pub(super) middles: Vec<f64>,
}

impl Chart {
    /// With so much room above the lines, lines of this height, and an axis of these values that ends at `right` and leaves `free` as
    /// [`Axis::linear`] does.
    pub(super) fn new(
        layout: &Layout,
        rows: &[&Row],
        [head, line]: [f64; 2],
        right: f64,
        values: [f64; 2],
        free: f64,
        title: &str,
    ) -> Self {
        let left = MARGIN + 22.0;
        let most = 0.38 * (layout.right() - MARGIN) - 22.0;
        let names = rows.iter().map(|row| {
            let variant = row.label.strip_prefix(&row.method).unwrap_or("").trim();
            (fit(&row.method, BODY, most), fit(variant, SMALL, most))
        });
        let names: Vec<(String, String)> = names.collect();
        let height = |variant: &str| line + if variant.is_empty() { 0.0 } else { 8.0 };
        let lines: f64 = names.iter().map(|(_, variant)| height(variant)).sum();
        let (mut scene, room) = layout.scene(head + lines + AXIS_ROOM);
        let methods = widest(names.iter().map(|(method, _)| method), BODY);
        let variants = widest(names.iter().map(|(_, variant)| variant), SMALL);
        let upper_left = [left + methods.max(variants) + 12.0, room.top + head];
        let area = Area::between(upper_left, [right, room.bottom - AXIS_ROOM]);
        let ends = [area.left, area.right];
        let mut axis = Axis::linear(ends, values, free, ticks(layout.width));
        axis.thin_out(SMALL);
        draw_horizontal_axis(&mut scene, &axis, area, title, true);
        let mut top = area.top;
        let mut middles = Vec::new();
        for (row, (name, variant)) in rows.iter().zip(&names) {
            top += height(variant);
            let y = top - height(variant) / 2.0;
            scene.marker([MARGIN + MARK + 1.0, y], MARK, style_of(row));
            let up = if variant.is_empty() { 0.0 } else { 8.0 };
            scene.text([left, y - up], name, Anchor::Start);
            if !variant.is_empty() {
                scene.note([left, y + 8.0], variant, Anchor::Start);
            }
            middles.push(y);
        }
        Self {
            scene,
            room,
            area,
            axis,
            middles,
        }
    }
}
