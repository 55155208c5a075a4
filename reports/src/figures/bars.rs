//! A cost of every method as bars from zero, cheapest first.

use statistics::Summary;

use super::{
    axis::range,
    layout::*,
    plot::Figure,
    scene::{Anchor, Area, Scene},
    style::BODY,
};
use crate::{comparison::Comparison, quantity::Quantity, row::Row};

/// A cost of every method.
pub(super) struct Bars<'a> {
    comparison: &'a Comparison,
    quantity: Quantity,
    values: Vec<Valued<'a>>,
}

impl<'a> Bars<'a> {
    /// `None` where it was not measured.
    pub(super) fn of(comparison: &'a Comparison, quantity: Quantity) -> Option<Self> {
        let text = |cost: &Summary| quantity.show(comparison.metric(), cost.mean);
        let mut values = Valued::all(comparison, quantity, text);
        values.sort_by(|a, b| a.marks.mean.total_cmp(&b.marks.mean));
        (!values.is_empty()).then_some(Self {
            comparison,
            quantity,
            values,
        })
    }
}

impl Figure for Bars<'_> {
    fn draw(&self, title: &str, width: f64) -> Scene {
        let values = &self.values;
        let notes = [spread_note(self.comparison)];
        let layout = Layout::new(self.comparison, title, width, &notes);
        let [_, most] = range(values.iter().flat_map(|v| v.marks.ends()));
        let right = layout.right() - widest(values.iter().map(|v| &v.text), BODY) - 10.0;
        let title = self.quantity.title(self.comparison.metric());
        let rows: Vec<&Row> = values.iter().map(|v| v.row).collect();
        let values = [0.0, most];
        let mut chart = Chart::new(&layout, &rows, [0.0, 34.0], right, values, 0.01, &title);
        let (scene, axis) = (&mut chart.scene, &chart.axis);
        for (Valued { row, marks, text }, y) in self.values.iter().zip(&chart.middles) {
            let ink = style_of(row).ink;
            let end = axis.at(marks.mean);
            let bar = Area::between([chart.area.left, y - 5.0], [end, y + 5.0]);
            scene.rectangle(bar, ink, 0.35);
            scene.line([[end, bar.top], [end, bar.bottom]], ink, 2.0);
            draw_marks(scene, axis, *y, marks, ink);
            let last = marks.ends().fold(marks.mean, f64::max);
            scene.text([axis.at(last) + 8.0, *y], text, Anchor::Start);
        }
        chart.scene
    }

    fn description(&self) -> Vec<String> {
        let described = self.values.iter();
        described
            .map(|v| format!("{}: {}", v.row.label, v.text))
            .collect()
    }
}
