//! What all figures share: sizes, heading and notes, axes, lines with a method each, and the scale.

use statistics::Summary;

use super::{
    axis::Axis,
    scene::{Anchor, Area, Scene, fit, text_width, wrap},
    style::{Ink, Style, style},
};
use crate::{
    comparison::Comparison,
    format,
    row::{Row, Standing},
};

/// Widths of the layouts, in CSS pixels.
pub(super) const WIDE: f64 = 800.0;

pub(super) const PAGE: f64 = 640.0;

pub(super) const NARROW: f64 = 360.0;

/// Margin around everything.
pub(super) const MARGIN: f64 = 16.0;

/// Sizes of text.
pub(super) const TITLE: f64 = 17.0;

pub(super) const BODY: f64 = 13.0;

pub(super) const SMALL: f64 = 12.0;

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
            right: self.right(),
            bottom: top + height,
        };
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
    let widths = texts.into_iter();
    let widths = widths.map(|text| text_width(text.as_ref(), em, false));
    widths.fold(0.0, f64::max)
}

/// Width that tick texts of a vertical axis take.
pub(super) fn tick_room(axis: &Axis) -> f64 {
    widest(axis.ticks.iter().map(|(_, text)| text), SMALL) + 8.0
}

pub(super) fn draw_vertical_axis(scene: &mut Scene, axis: &Axis, area: Area) {
    for (value, text) in &axis.ticks {
        let y = axis.at(*value);
        scene.line([[area.left, y], [area.right, y]], Ink::Grid, 1.0);
        scene.text([area.left - 8.0, y], text, SMALL, Anchor::End, Ink::Muted);
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

/// A summary's values on an axis: mean, spread, single seeds.
pub(super) struct Marks {
    pub(super) mean: f64,
    pub(super) spread: Option<[f64; 2]>,
    pub(super) seeds: Vec<f64>,
}

impl Marks {
    pub(super) fn of(summary: &Summary, factor: f64) -> Self {
        let mean = factor * summary.mean;
        Self {
            mean,
            spread: summary
                .sd
                .map(|sd| [mean - factor * sd, mean + factor * sd]),
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

pub(super) fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
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

pub(super) fn on_scale(row: &Row, limit: f64) -> bool {
    row.metric.as_ref().is_some_and(|m| m.mean >= limit)
}

/// Names what lies below the scale, with its value.
pub(super) fn below_note(comparison: &Comparison, limit: f64) -> Option<String> {
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
        let (mut scene, room) = layout.scene(head + MethodLines::height(rows, line) + AXIS_ROOM);
        let top = room.top + head;
        let lines = MethodLines::new(rows, Area { top, ..room }, line);
        let area = Area {
            left: lines.plot_left,
            right,
            top,
            bottom: room.bottom - AXIS_ROOM,
        };
        let ends = [area.left, area.right];
        let mut axis = Axis::linear(ends, values, free, ticks(layout.width));
        axis.thin_out(SMALL);
        draw_horizontal_axis(&mut scene, &axis, area, title, true);
        lines.draw(&mut scene, rows);
        Self {
            scene,
            room,
            area,
            axis,
            middles: lines.middles,
        }
    }
}

/// The name column and the lines of a chart with a line per method.
struct MethodLines {
    /// Where the names end and the plot starts.
    plot_left: f64,
    /// Middle of each line.
    middles: Vec<f64>,
    names: Vec<(String, Option<String>)>,
}

impl MethodLines {
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
        let methods = widest(names.iter().map(|(method, _)| method), BODY);
        let variants = widest(
            names.iter().filter_map(|(_, variant)| variant.as_ref()),
            SMALL,
        );
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
            plot_left: room.left + 22.0 + methods.max(variants) + 12.0,
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
