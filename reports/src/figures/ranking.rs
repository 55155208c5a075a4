//! The main metric of every method with its letters, highest mean first.

use statistics::Summary;

use super::{
    axis::range,
    layout::*,
    plot::Figure,
    scene::{Anchor, Scene, text_width},
    style::{BODY, Ink, SMALL},
};
use crate::{comparison::Comparison, format, quantity::Quantity, row::Row, words};

/// The main metric of every ranked method.
pub(super) struct Ranking<'a> {
    comparison: &'a Comparison,
    values: Vec<Valued<'a>>,
    /// Whether there are letters.
    ties: bool,
}

impl<'a> Ranking<'a> {
    /// `None` where nothing is ranked.
    pub(super) fn of(comparison: &'a Comparison) -> Option<Self> {
        let text = |m: &Summary| format::metric_spread(comparison.metric(), m.mean, m.sd);
        let values = Valued::all(comparison, Quantity::Metric, text);
        (!values.is_empty()).then(|| Self {
            ties: values.iter().any(|v| !v.row.letters.is_empty()) && values.len() > 1,
            comparison,
            values,
        })
    }
}

impl Figure for Ranking<'_> {
    fn draw(&self, title: &str, width: f64) -> Scene {
        let (comparison, values) = (self.comparison, &self.values);
        let (metric, limit) = (comparison.metric(), scale_limit(comparison));
        let mut notes = vec![spread_note(comparison)];
        if self.ties {
            notes.push(words::legend(metric, comparison.margin));
        }
        let layout = Layout::new(comparison, title, width, &notes);
        let letters = values
            .iter()
            .map(|v| text_width(&v.row.letters, BODY, true));
        let letters = letters.fold(text_width("letters", SMALL, false), f64::max);
        let letters = if self.ties { letters + 10.0 } else { 0.0 };
        let text_room = widest(values.iter().map(|v| &v.text), BODY) + 12.0;
        let right = layout.right() - letters - text_room;
        let drawn = values.iter().filter(|v| on_scale(v.row, limit));
        let ends = range(drawn.flat_map(|v| v.marks.ends()));
        let title = Quantity::Metric.title(metric);
        let rows: Vec<&Row> = values.iter().map(|v| v.row).collect();
        let mut chart = Chart::new(&layout, &rows, [20.0, 34.0], right, ends, 0.08, &title);
        let (scene, axis, room) = (&mut chart.scene, &chart.axis, chart.room);
        if self.ties {
            scene.note([room.right, room.top + 8.0], "letters", Anchor::End);
        }
        for (Valued { row, marks, text }, &y) in values.iter().zip(&chart.middles) {
            let s = style_of(row);
            if on_scale(row, limit) {
                draw_marks(scene, axis, y, marks, s.ink);
                scene.marker([axis.at(marks.mean), y], MARK, s);
            } else {
                // An arrow out of the scale; the value stands beside.
                let x = chart.area.left + 4.0;
                scene.line([[x, y], [x + 22.0, y]], s.ink, 1.8);
                scene.line([[x + 5.0, y - 4.0], [x, y], [x + 5.0, y + 4.0]], s.ink, 1.8);
            }
            scene.text([room.right - letters, y], text, Anchor::End);
            if self.ties {
                let at = [room.right, y];
                scene.write(at, &row.letters, BODY, Anchor::End, Ink::Text, true);
            }
        }
        chart.scene
    }

    fn description(&self) -> Vec<String> {
        let described = self.values.iter().map(|v| match self.ties {
            true => format!("{}: {} (letters {})", v.row.label, v.text, v.row.letters),
            false => format!("{}: {}", v.row.label, v.text),
        });
        described.collect()
    }
}
