//! A cost of every method as bars from zero, cheapest first.

use super::{
    axis::Axis,
    layout::*,
    scene::{Anchor, Area, Scene, text_width},
    style::Ink,
};
use crate::{comparison::Comparison, quantity::Quantity, row::Row};

/// A cost of every method as bars from zero, cheapest first.
pub(super) fn bar_chart(
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
    let layout = Layout::new(comparison, title, width, &[spread_note(comparison)]);
    let line = 34.0;
    let (mut scene, room) = layout.scene(MethodLines::height(&rows, line) + AXIS_ROOM);
    let lines = MethodLines::new(&rows, room, line);
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
