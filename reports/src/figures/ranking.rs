//! The main metric of every method with its letters, highest mean first.

use super::{
    layout::*,
    plot::Figure,
    scene::{Anchor, Scene, text_width},
    style::Ink,
};
use crate::{comparison::Comparison, format, quantity::Quantity, row::Row, words};

/// The main metric of every ranked method.
pub(super) struct Ranking<'a> {
    comparison: &'a Comparison,
    rows: Vec<&'a Row>,
    marks: Vec<Marks>,
    texts: Vec<String>,
    /// Whether there are letters.
    ties: bool,
    /// What is below is not on the scale.
    limit: f64,
}

impl<'a> Ranking<'a> {
    /// `None` where nothing is ranked.
    pub(super) fn of(comparison: &'a Comparison) -> Option<Self> {
        let metric = comparison.metric();
        let factor = Quantity::Metric.axis_factor(metric);
        let (mut rows, mut marks, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for row in comparison.ranked() {
            let Some(m) = &row.metric else { continue };
            rows.push(row);
            marks.push(Marks::of(m, factor));
            texts.push(format::metric_spread(metric, m.mean, m.sd));
        }
        (!rows.is_empty()).then(|| Self {
            ties: rows.iter().any(|r| !r.letters.is_empty()) && rows.len() > 1,
            limit: scale_limit(comparison),
            comparison,
            rows,
            marks,
            texts,
        })
    }
}

impl Figure for Ranking<'_> {
    fn draw(&self, title: &str, width: f64) -> Scene {
        let Self {
            comparison,
            rows,
            marks: all,
            texts,
            ties,
            limit,
        } = self;
        let (ties, limit) = (*ties, *limit);
        let metric = comparison.metric();
        let mut notes = vec![spread_note(comparison)];
        if ties {
            notes.push(words::legend(metric, comparison.margin));
        }
        let layout = Layout::new(comparison, title, width, &notes);
        let letters = rows
            .iter()
            .map(|r| text_width(&r.letters, BODY, true))
            .fold(text_width("letters", SMALL, false), f64::max);
        let letters = if ties { letters + 10.0 } else { 0.0 };
        let values = widest(texts, BODY) + 12.0;
        let right = layout.right() - letters - values;
        let shown = |row: &Row| on_scale(row, limit);
        let drawn = rows.iter().zip(all).filter(|(row, _)| shown(row));
        let ends = range(drawn.flat_map(|(_, marks)| marks.ends()));
        let title = Quantity::Metric.title(metric);
        let mut chart = Chart::new(&layout, rows, [20.0, 34.0], right, ends, 0.08, &title);
        let (scene, axis) = (&mut chart.scene, &chart.axis);
        let (room, area) = (chart.room, chart.area);
        let head_y = room.top + 8.0;
        if ties {
            scene.text(
                [room.right, head_y],
                "letters",
                SMALL,
                Anchor::End,
                Ink::Muted,
            );
        }
        for (((row, marks), text), y) in rows.iter().zip(all).zip(texts).zip(&chart.middles) {
            let s = style_of(row);
            if shown(row) {
                draw_marks(scene, axis, *y, marks, s.ink);
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
        chart.scene
    }

    fn description(&self) -> Vec<String> {
        let described = self.rows.iter().zip(&self.texts);
        let described = described.map(|(row, text)| match self.ties {
            true => format!("{}: {text} (letters {})", row.label, row.letters),
            false => format!("{}: {text}", row.label),
        });
        described.collect()
    }
}
