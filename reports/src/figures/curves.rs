//! Curves over training steps.

use std::collections::BTreeMap;

use record::Outcome;

use super::{
    axis::{Axis, range},
    layout::*,
    lines::{Across, BANDS, HEAD, Line, Panel, Spot, values},
    plot::Figure,
    scene::{Anchor, Area, Scene, fit},
    style::{Ink, MARGIN, SMALL},
};
use crate::{comparison::Comparison, format, quantity::Quantity, row::Row};

/// With more methods than this, curves get a panel each.
const OVERLAID: usize = 7;

/// A curve of training losses is drawn with at most this many points.
const CURVE_POINTS: usize = 160;

/// The curves of a comparison: means over seeds, between the least and the greatest of them.
pub(super) struct Curves<'a> {
    comparison: &'a Comparison,
    lines: Vec<Line>,
    /// Of the training loss, how many steps were averaged; absent of the metric.
    window: Option<usize>,
}

impl<'a> Curves<'a> {
    /// Training losses, smoothed by a centred running mean over a twentieth of the steps; `None` where there are none.
    pub(super) fn losses(comparison: &'a Comparison) -> Option<Self> {
        let (mut lines, mut window) = (Vec::new(), None);
        for row in comparison.ranked() {
            let outcomes = outcomes(comparison, row);
            let steps = outcomes.iter().map(|o| o.loss.len()).min().unwrap_or(0);
            let own = (steps / 20).max(1);
            let smooth = outcomes.iter().map(|o| running_mean(&o.loss, own));
            let smooth: Vec<Vec<f64>> = smooth.collect();
            let every = steps.div_ceil(CURVE_POINTS).max(1);
            let points = (0..steps).filter(|i| i % every == 0 || i + 1 == steps);
            let points = points.map(|i| spot(i + 1, smooth.iter().map(|s| s[i])));
            lines.push(line(row, points.collect(), outcomes.len()));
            window = window.or((steps > 0).then_some(own));
        }
        Self::of(comparison, lines, Some(window.unwrap_or(1)))
    }

    /// The main metric on the validation split at each evaluation that all seeds have; `None` where there are none.
    pub(super) fn metrics(comparison: &'a Comparison) -> Option<Self> {
        let limit = scale_limit(comparison);
        let metric = comparison.metric();
        let factor = Quantity::Metric.axis_factor(metric);
        let mut lines = Vec::new();
        for row in comparison.ranked().iter().filter(|r| on_scale(r, limit)) {
            let outcomes = outcomes(comparison, row);
            let mut at: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for evaluation in outcomes.iter().flat_map(|o| &o.evaluations) {
                if let Some(value) = evaluation.metrics.get(metric) {
                    at.entry(evaluation.step).or_default().push(value * factor);
                }
            }
            at.retain(|_, values| values.len() == outcomes.len());
            let points = at
                .into_iter()
                .map(|(step, values)| spot(step, values.into_iter()));
            lines.push(line(row, points.collect(), outcomes.len()));
        }
        Self::of(comparison, lines, None)
    }

    fn of(comparison: &'a Comparison, mut lines: Vec<Line>, window: Option<usize>) -> Option<Self> {
        lines.retain(|l| !l.points.is_empty());
        // Single points are no curves; the ranking shows them.
        let any = lines.iter().any(|l| l.points.len() > 1);
        any.then_some(Self {
            comparison,
            lines,
            window,
        })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(window) = self.window.filter(|window| *window > 1) {
            notes.push(format!("Running mean over {window} steps."));
        }
        notes.push(match self.lines.iter().any(|l| l.band) {
            true => BANDS.to_owned(),
            false => "One seed: no band.".to_owned(),
        });
        if self.window.is_none() {
            let comparison = self.comparison;
            let ranked = comparison.ranked();
            let outcomes = ranked.iter().flat_map(|row| outcomes(comparison, row));
            let mut evaluations = outcomes.flat_map(|o| &o.evaluations);
            notes.extend(evaluations.find_map(|e| e.examples).map(|some| {
                let all = format::count(comparison.dataset.validation_examples);
                let some = format::count(some);
                format!(
                    "Before the last step {some} of {all} examples are judged, always the same."
                )
            }));
            notes.extend(below_note(comparison, scale_limit(comparison)));
        }
        if self.lines.len() > OVERLAID {
            notes.push("In each panel the other methods are grey.".into());
        }
        notes
    }

    /// A panel for each method, in which the others are grey.
    fn panels(&self, layout: &Layout, up: &str) -> Scene {
        let lines = &self.lines;
        let columns = match layout.width {
            width if is_narrow(width) => 2,
            width if width < WIDE => 3,
            _ => 4,
        };
        let (height, head, gap) = (120.0, 22.0, 14.0);
        let panel_rows = lines.len().div_ceil(columns) as f64;
        let (mut scene, room) = layout.scene(HEAD + panel_rows * (height + head) + AXIS_ROOM);
        scene.text([MARGIN, room.top + 6.0], up, Anchor::Start);
        let ends = values(lines);
        let y_over = |from: f64, to: f64| Axis::linear([from, to], ends, 0.05, 3);
        let [_, last] = range(lines.iter().flat_map(|l| &l.points).map(|p| p.x));
        let left = room.left + tick_room(&y_over(height, 0.0));
        let panel_width = (room.right - left - gap * (columns as f64 - 1.0)) / columns as f64;
        for (i, line) in lines.iter().enumerate() {
            let (column, row) = (i % columns, i / columns);
            let top = room.top + HEAD + row as f64 * (height + head) + head;
            let panel_left = left + column as f64 * (panel_width + gap);
            let lower_right = [panel_left + panel_width, top + height - 8.0];
            let area = Area::between([panel_left, top], lower_right);
            let mut y = y_over(area.bottom, area.top);
            if column > 0 {
                y.ticks.iter_mut().for_each(|(_, text)| text.clear());
            }
            draw_vertical_axis(&mut scene, &y, area);
            let x = Axis::linear([area.left, area.right], [0.0, last], 0.0, 2);
            let floor = [[area.left, area.bottom], [area.right, area.bottom]];
            scene.line(floor, Ink::Muted, 1.0);
            for other in lines {
                scene.faint_line(other.path(&x, &y), Ink::Muted, 1.0, 0.3);
            }
            line.draw_band(&mut scene, &x, &y);
            scene.line(line.path(&x, &y), line.style.ink, 2.0);
            let name = fit(&line.label, SMALL, panel_width - 18.0);
            let y = top - 10.0;
            scene.marker([area.left + 6.0, y], MARK - 1.0, line.style);
            let at = [area.left + 16.0, y];
            scene.write(at, &name, SMALL, Anchor::Start, Ink::Text, false);
            if i + columns >= lines.len() {
                let below = area.bottom + 12.0;
                let steps = format::count(last as usize);
                scene.note([area.left, below], "0", Anchor::Start);
                scene.note([area.right, below], &steps, Anchor::End);
            }
        }
        let at = [(room.left + room.right) / 2.0, room.bottom - 8.0];
        scene.text(at, "training steps", Anchor::Middle);
        scene
    }
}

fn outcomes<'a>(comparison: &'a Comparison, row: &Row) -> Vec<&'a Outcome> {
    let records = comparison.records_of(row);
    records.filter_map(|r| r.outcome.as_ref()).collect()
}

fn line(row: &Row, points: Vec<Spot>, seeds: usize) -> Line {
    Line {
        label: row.label.clone(),
        style: style_of(row),
        points,
        band: seeds > 1,
    }
}

fn spot(step: usize, values: impl Iterator<Item = f64>) -> Spot {
    let values: Vec<f64> = values.collect();
    Spot {
        x: step as f64,
        mean: statistics::mean(&values).unwrap_or(f64::NAN),
        band: range(values.into_iter()),
        behind: false,
    }
}

/// Centred running mean; the window is cut at the ends.
fn running_mean(values: &[f32], window: usize) -> Vec<f64> {
    let half = window / 2;
    let mean = |i: usize| {
        let part = &values[i.saturating_sub(half)..(i + half + 1).min(values.len())];
        part.iter().map(|&v| f64::from(v)).sum::<f64>() / part.len() as f64
    };
    (0..values.len()).map(mean).collect()
}

impl Figure for Curves<'_> {
    /// In one panel with names at their ends, or a panel each where they are many.
    fn draw(&self, title: &str, width: f64) -> Scene {
        let up = match self.window {
            None => Quantity::Metric.title(self.comparison.metric()),
            Some(_) if self.comparison.dataset.objective == "regression" => {
                "training loss (squared error over the variance)".to_owned()
            }
            Some(_) => "training loss (cross-entropy, nats)".to_owned(),
        };
        let layout = Layout::new(self.comparison, title, width, &self.notes());
        if self.lines.len() > OVERLAID {
            return self.panels(&layout, &up);
        }
        let panel = Panel {
            up: &up,
            across: &Across::linear("training steps"),
            lines: &self.lines,
            marked: self.window.is_none(),
        };
        panel.scene(&layout)
    }

    fn description(&self) -> Vec<String> {
        let metric = self.comparison.metric();
        let describe = |line: &Line| {
            let mean = line.points.last().map_or(0.0, |p| p.mean);
            let value = match self.window {
                Some(_) => format!("{mean:.3}"),
                None => format::metric(metric, mean / Quantity::Metric.axis_factor(metric)),
            };
            format!("{} ends at {value}", line.label)
        };
        self.lines.iter().map(describe).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::running_mean;

    #[test]
    fn the_running_mean_is_centred_and_cut_at_the_ends() {
        assert_eq!(
            running_mean(&[1.0, 2.0, 3.0, 4.0, 8.0], 3),
            [1.5, 2.0, 3.0, 5.0, 6.0]
        );
        assert_eq!(running_mean(&[1.0, 5.0], 1), [1.0, 5.0]);
    }
}
