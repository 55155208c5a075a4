//! A cost of every method as bars from zero, cheapest first.

use super::{
    layout::*,
    plot::Figure,
    scene::{Anchor, Area, Scene},
    style::Ink,
};
use crate::{comparison::Comparison, quantity::Quantity, row::Row};

/// A cost of every method.
pub(super) struct Bars<'a> {
    comparison: &'a Comparison,
    quantity: Quantity,
    rows: Vec<&'a Row>,
    marks: Vec<Marks>,
    texts: Vec<String>,
}

impl<'a> Bars<'a> {
    /// `None` where it was not measured.
    pub(super) fn of(comparison: &'a Comparison, quantity: Quantity) -> Option<Self> {
        let metric = comparison.metric();
        let factor = quantity.axis_factor(metric);
        let ranked = comparison.ranked().iter();
        let mut bars: Vec<(&Row, Marks)> = ranked
            .filter_map(|row| Some((row, Marks::of(&quantity.of(row)?, factor))))
            .collect();
        bars.sort_by(|(_, a), (_, b)| a.mean.total_cmp(&b.mean));
        let text = |(_, m): &(&Row, Marks)| quantity.show(metric, m.mean / factor);
        let texts: Vec<String> = bars.iter().map(text).collect();
        let (rows, marks): (Vec<_>, Vec<_>) = bars.into_iter().unzip();
        (!rows.is_empty()).then_some(Self {
            comparison,
            quantity,
            rows,
            marks,
            texts,
        })
    }
}

impl Figure for Bars<'_> {
    fn draw(&self, title: &str, width: f64) -> Scene {
        let (rows, texts) = (&self.rows, &self.texts);
        let notes = [spread_note(self.comparison)];
        let layout = Layout::new(self.comparison, title, width, &notes);
        let [_, most] = range(self.marks.iter().flat_map(Marks::ends));
        let right = layout.right() - widest(texts, BODY) - 10.0;
        let title = self.quantity.title(self.comparison.metric());
        let mut chart = Chart::new(&layout, rows, [0.0, 34.0], right, [0.0, most], 0.01, &title);
        let (scene, axis, area) = (&mut chart.scene, &chart.axis, chart.area);
        for (((row, marks), text), y) in rows.iter().zip(&self.marks).zip(texts).zip(&chart.middles)
        {
            let s = style_of(row);
            let bar = Area {
                left: area.left,
                right: axis.at(marks.mean),
                top: y - 5.0,
                bottom: y + 5.0,
            };
            scene.rectangle(bar, s.ink, 0.35);
            scene.line([[bar.right, bar.top], [bar.right, bar.bottom]], s.ink, 2.0);
            draw_marks(scene, axis, *y, marks, s.ink);
            let end = marks.ends().fold(marks.mean, f64::max);
            let at = [axis.at(end) + 8.0, *y];
            scene.text(at, text, BODY, Anchor::Start, Ink::Text);
        }
        chart.scene
    }

    fn description(&self) -> Vec<String> {
        let described = self.rows.iter().zip(&self.texts);
        described
            .map(|(row, text)| format!("{}: {text}", row.label))
            .collect()
    }
}
