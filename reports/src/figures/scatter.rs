//! Predicted against true numbers, of the best method's first seed.

use super::{
    axis::{Axis, range},
    layout::*,
    plot::Figure,
    scene::{Anchor, Area, Scene},
    style::{Ink, SMALL},
};
use crate::{comparison::Comparison, format, row::Row};

/// Points that are drawn; of more examples, as many evenly spaced ones.
const POINTS: usize = 600;

/// Pairs of true and predicted numbers.
pub(super) struct Scatter<'a> {
    comparison: &'a Comparison,
    row: &'a Row,
    seed: u64,
    /// Examples in all.
    all: usize,
    drawn: Vec<[f64; 2]>,
}

impl<'a> Scatter<'a> {
    /// `None` where no numbers are predicted.
    pub(super) fn of(comparison: &'a Comparison) -> Option<Self> {
        if comparison.dataset.objective != "regression" {
            return None;
        }
        let row = comparison.ranked().first()?;
        let run = row.runs.iter().find(|run| run.metric.is_some())?;
        let predictions = &comparison.record(&run.id)?.outcome.as_ref()?.predictions;
        let pairs = predictions.targets.iter().zip(predictions.outputs.iter());
        let pairs: Vec<[f64; 2]> = pairs
            .filter_map(|(truth, predicted)| Some([*truth.first()?, *predicted.first()?]))
            .collect();
        let step = pairs.len().div_ceil(POINTS).max(1);
        let drawn: Vec<[f64; 2]> = pairs.iter().copied().step_by(step).collect();
        (!drawn.is_empty()).then_some(Self {
            comparison,
            row,
            seed: run.seed,
            all: pairs.len(),
            drawn,
        })
    }
}

impl Figure for Scatter<'_> {
    fn draw(&self, title: &str, width: f64) -> Scene {
        let drawn = &self.drawn;
        let layout = Layout::new(self.comparison, title, width, &self.description());
        let height = (width * 0.7).min(420.0);
        let (mut scene, room) = layout.scene(height + AXIS_ROOM);
        let lower_right = [room.right - 10.0, room.bottom - AXIS_ROOM];
        let area = Area::between([room.left + 70.0, room.top + 24.0], lower_right);
        let ends = |i: usize| range(drawn.iter().map(|p| p[i]));
        let mut across = Axis::linear([area.left, area.right], ends(0), 0.04, ticks(width));
        let up = Axis::linear([area.bottom, area.top], ends(1), 0.06, 5);
        across.thin_out(SMALL);
        draw_horizontal_axis(&mut scene, &across, area, "true", true);
        draw_vertical_axis(&mut scene, &up, area);
        scene.note([room.left, room.top + 8.0], "predicted", Anchor::Start);
        let ([a, b], [c, d]) = (ends(0), ends(1));
        let (low, high) = (a.max(c), b.min(d));
        if low < high {
            let at = |x: f64| [across.at(x), up.at(x)];
            scene.dashes([at(low), at(high)], Ink::Muted, 1.0);
        }
        let style = style_of(self.row);
        for [truth, predicted] in drawn {
            scene.dot([across.at(*truth), up.at(*predicted)], 2.2, style.ink, 0.5);
        }
        scene
    }

    fn description(&self) -> Vec<String> {
        let [drawn, all] = [self.drawn.len(), self.all].map(format::count);
        let (label, seed) = (&self.row.label, self.seed);
        vec![format!(
            "{label} with seed {seed}, {drawn} of the {all} validation examples; on the dashed line predicted and true are equal."
        )]
    }
}
