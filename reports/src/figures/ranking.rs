//! The main metric of every method with its letters, highest mean first.

use super::{
    axis::Axis,
    layout::*,
    scene::{Anchor, Area, Scene, text_width},
    style::Ink,
};
use crate::{comparison::Comparison, format, quantity::Quantity, row::Row, words};

/// The main metric of every method with tie groups, best first.
pub(super) fn ranking(comparison: &Comparison, title: &str, width: f64) -> Option<(Scene, String)> {
    let metric = comparison.metric();
    let factor = Quantity::Metric.axis_factor(metric);
    let (rows, all): (Vec<&Row>, Vec<Marks>) = comparison
        .ranked()
        .iter()
        .filter_map(|row| Some((row, Marks::of(row.metric.as_ref()?, factor))))
        .unzip();
    if rows.is_empty() {
        return None;
    }
    let ties = rows.iter().any(|r| !r.letters.is_empty()) && rows.len() > 1;
    let mut notes = vec![spread_note(comparison)];
    if ties {
        notes.push(words::legend(metric, comparison.margin));
    }
    let layout = Layout::new(comparison, title, width, &notes);
    let line = 34.0;
    let head = 20.0;
    let (mut scene, room) = layout.scene(head + MethodLines::height(&rows, line) + AXIS_ROOM);
    let inner = Area {
        top: room.top + head,
        ..room
    };
    let lines = MethodLines::new(&rows, inner, line);
    let letters = rows
        .iter()
        .map(|r| text_width(&r.letters, BODY, true))
        .fold(text_width("letters", SMALL, false), f64::max);
    let letters = if ties { letters + 10.0 } else { 0.0 };
    let texts: Vec<String> = rows
        .iter()
        .map(|r| {
            r.metric
                .as_ref()
                .map_or_else(String::new, |m| format::metric_spread(metric, m.mean, m.sd))
        })
        .collect();
    let values = texts
        .iter()
        .map(|t| text_width(t, BODY, false))
        .fold(0.0, f64::max)
        + 12.0;
    let area = Area {
        left: lines.plot_left,
        right: room.right - letters - values,
        top: inner.top,
        bottom: room.bottom - AXIS_ROOM,
    };
    let limit = scale_limit(comparison);
    let shown = |row: &Row| on_scale(row, limit);
    let drawn = rows.iter().zip(&all).filter(|(row, _)| shown(row));
    let ends = range(drawn.flat_map(|(_, marks)| marks.ends()));
    let mut axis = Axis::linear(
        [area.left, area.right],
        ends,
        0.08,
        if width < 500.0 { 3 } else { 6 },
    );
    axis.thin_out(SMALL);
    draw_horizontal_axis(
        &mut scene,
        &axis,
        area,
        &Quantity::Metric.title(metric),
        true,
    );
    lines.draw(&mut scene, &rows);
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
    for (((row, marks), text), y) in rows.iter().zip(&all).zip(&texts).zip(&lines.middles) {
        let s = style_of(row);
        if shown(row) {
            draw_marks(&mut scene, &axis, *y, marks, s.ink);
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
    let description = rows.iter().zip(&texts).map(|(row, text)| match ties {
        true => format!("{}: {text} (letters {})", row.label, row.letters),
        false => format!("{}: {text}", row.label),
    });
    Some((scene, description.collect::<Vec<_>>().join("; ")))
}
