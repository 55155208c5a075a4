//! Curves over training steps.

use std::collections::BTreeMap;

use record::Outcome;

use super::{
    axis::Axis,
    labels,
    layout::*,
    plot::Figure,
    scene::{Anchor, Area, Scene, fit, text_width},
    style::Ink,
};
use crate::{comparison::Comparison, format, quantity::Quantity, row::Row};

/// With more methods than this, curves get a panel each.
pub(super) const OVERLAID: usize = 7;

/// A curve of training losses is drawn with at most this many points.
pub(super) const CURVE_POINTS: usize = 160;

/// A quantity while training: mean over seeds and its least and greatest value.
pub(super) struct Curve<'a> {
    pub(super) row: &'a Row,
    /// Step, mean, least, greatest.
    pub(super) points: Vec<[f64; 4]>,
    pub(super) seeds: usize,
    /// Steps that were averaged.
    pub(super) window: usize,
}

impl<'a> Curve<'a> {
    pub(super) fn outcomes(comparison: &'a Comparison, row: &Row) -> Vec<&'a Outcome> {
        row.runs
            .iter()
            .filter_map(|run| comparison.record(&run.id)?.outcome.as_ref())
            .collect()
    }

    /// Training losses, smoothed by a centred running mean over a twentieth of the steps.
    pub(super) fn losses(comparison: &'a Comparison) -> Vec<Self> {
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
    pub(super) fn metrics(comparison: &'a Comparison) -> Vec<Self> {
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

    pub(super) fn point(step: f64, values: impl Iterator<Item = f64>) -> [f64; 4] {
        let values: Vec<f64> = values.collect();
        let [low, high] = range(values.iter().copied());
        [
            step,
            statistics::mean(&values).unwrap_or(f64::NAN),
            low,
            high,
        ]
    }

    pub(super) fn draw_band(&self, scene: &mut Scene, x: &Axis, y: &Axis) {
        if self.seeds > 1 {
            let s = style_of(self.row);
            let there = self.points.iter().map(|p| [x.at(p[0]), y.at(p[3])]);
            let back = self.points.iter().rev().map(|p| [x.at(p[0]), y.at(p[2])]);
            scene.area(there.chain(back).collect(), s.ink, 0.16);
        }
    }

    pub(super) fn draw(&self, scene: &mut Scene, x: &Axis, y: &Axis, marked: bool) {
        let s = style_of(self.row);
        scene.line(self.line(x, y), s.ink, 2.0);
        if marked {
            for p in &self.points {
                scene.marker([x.at(p[0]), y.at(p[1])], MARK - 1.0, s);
            }
        }
    }

    pub(super) fn line(&self, x: &Axis, y: &Axis) -> Vec<[f64; 2]> {
        self.points
            .iter()
            .map(|p| [x.at(p[0]), y.at(p[1])])
            .collect()
    }
}

/// Centred running mean; the window is cut at the ends.
pub(super) fn running_mean(values: &[f32], window: usize) -> Vec<f64> {
    let half = window / 2;
    (0..values.len())
        .map(|i| {
            let part = &values[i.saturating_sub(half)..(i + half + 1).min(values.len())];
            part.iter().map(|&v| f64::from(v)).sum::<f64>() / part.len() as f64
        })
        .collect()
}

/// The curves of a comparison.
pub(super) struct Curves<'a> {
    comparison: &'a Comparison,
    curves: Vec<Curve<'a>>,
    /// Of the training loss, and not of the metric.
    loss: bool,
}

impl<'a> Curves<'a> {
    /// Of the training loss; `None` where there are none.
    pub(super) fn losses(comparison: &'a Comparison) -> Option<Self> {
        Self::of(comparison, Curve::losses(comparison), true)
    }

    /// Of the main metric; `None` where there are none.
    pub(super) fn metrics(comparison: &'a Comparison) -> Option<Self> {
        Self::of(comparison, Curve::metrics(comparison), false)
    }

    fn of(comparison: &'a Comparison, curves: Vec<Curve<'a>>, loss: bool) -> Option<Self> {
        // Single points are no curves; the ranking shows them.
        let any = curves.iter().any(|c| c.points.len() > 1);
        any.then_some(Self {
            comparison,
            curves,
            loss,
        })
    }
}

impl Figure for Curves<'_> {
    /// In one panel with names at their ends, or a panel each where they are many.
    fn draw(&self, title: &str, width: f64) -> Scene {
        let Self {
            comparison,
            curves,
            loss,
        } = self;
        let loss = *loss;
        let metric = comparison.metric();
        let y_title = match loss {
            true if comparison.dataset.objective == "regression" => {
                "training loss (squared error over the variance)".to_owned()
            }
            true => "training loss (cross-entropy, nats)".to_owned(),
            false => Quantity::Metric.title(metric),
        };
        let mut notes = Vec::new();
        if loss && curves[0].window > 1 {
            notes.push(format!("Running mean over {} steps.", curves[0].window));
        }
        notes.push(match curves.iter().map(|c| c.seeds).max() {
            Some(n) if n > 1 => {
                "Line: mean over seeds. Band: least to greatest of the seeds.".to_owned()
            }
            _ => "One seed: no band.".to_owned(),
        });
        if !loss {
            let outcomes = curves
                .iter()
                .flat_map(|c| Curve::outcomes(comparison, c.row));
            let some = outcomes
                .flat_map(|o| &o.evaluations)
                .find_map(|e| e.examples);
            notes.extend(some.map(|some| {
                format!(
                    "Before the last step {} of {} examples are judged, always the same.",
                    format::count(some),
                    format::count(comparison.dataset.validation_examples)
                )
            }));
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
        let layout = Layout::new(comparison, title, width, &notes);
        let panel_height = match (many, narrow) {
            (true, _) => 120.0,
            (false, true) => 260.0,
            (false, false) => 330.0,
        };
        let panel_head = if many { 22.0 } else { 0.0 };
        let (mut scene, room) =
            layout.scene(24.0 + panel_rows as f64 * (panel_height + panel_head) + AXIS_ROOM);
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
            return scene;
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
        scene
    }

    fn description(&self) -> String {
        let metric = self.comparison.metric();
        let describe = |c: &Curve| {
            let p = c.points.last().copied().unwrap_or_default();
            let value = match self.loss {
                true => format!("{:.3}", p[1]),
                false => format::metric(metric, p[1] / Quantity::Metric.axis_factor(metric)),
            };
            format!("{} ends at {value}", c.row.label)
        };
        self.curves
            .iter()
            .map(describe)
            .collect::<Vec<_>>()
            .join("; ")
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
