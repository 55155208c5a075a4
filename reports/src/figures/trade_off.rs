//! Two quantities against each other, with the Pareto front.

use super::{
    axis::{self, Axis, range},
    labels::{self, Name},
    layout::*,
    plot::Figure,
    scene::{Anchor, Area, Scene, fit, text_width},
    style::{BODY, Ink, MARGIN, SMALL},
};
use crate::{
    comparison::Comparison,
    quantity::{Quantity, pareto_front},
    row::Row,
};

/// Two quantities of every method.
pub(super) struct TradeOff<'a> {
    comparison: &'a Comparison,
    /// Across and up.
    quantities: [Quantity; 2],
    points: Vec<(&'a Row, Marks, Marks)>,
    /// Whether a point is on the Pareto front.
    front: Vec<bool>,
}

impl<'a> TradeOff<'a> {
    /// `None` where no method has both.
    pub(super) fn of(comparison: &'a Comparison, [qx, qy]: [Quantity; 2]) -> Option<Self> {
        let metric = comparison.metric();
        let limit = scale_limit(comparison);
        let marks = |row: &Row, q: Quantity| Some(Marks::of(&q.of(row)?, q.axis_factor(metric)));
        let shown = comparison
            .ranked()
            .iter()
            .filter(|row| on_scale(row, limit));
        let points: Vec<(&Row, Marks, Marks)> = shown
            .filter_map(|row| Some((row, marks(row, qx)?, marks(row, qy)?)))
            .collect();
        let means: Vec<[f64; 2]> = points.iter().map(|(_, x, y)| [x.mean, y.mean]).collect();
        let front = pareto_front(&means, [qx.higher_is_better(), qy.higher_is_better()]);
        (!points.is_empty()).then_some(Self {
            comparison,
            quantities: [qx, qy],
            points,
            front,
        })
    }
}

impl Figure for TradeOff<'_> {
    fn draw(&self, title: &str, width: f64) -> Scene {
        let Self {
            comparison,
            quantities: [qx, qy],
            points,
            front,
        } = self;
        let metric = comparison.metric();
        let mut notes = vec![spread_note(comparison)];
        if points.len() > 1 {
            notes.push(
                "Dashed line and bold names: the Pareto front, which no method beats in both."
                    .into(),
            );
        }
        if *qx == Quantity::Parameters && points.iter().any(|(_, x, _)| x.mean == 0.0) {
            notes.push("The axis is broken: 0 has no logarithm.".into());
        }
        notes.extend(below_note(comparison, scale_limit(comparison)));
        let layout = Layout::new(comparison, title, width, &notes);
        let (mut scene, room) = layout.scene(if is_narrow(width) { 330.0 } else { 400.0 });

        let ends = range(points.iter().flat_map(|(_, _, y)| y.ends()));
        let vertical = Axis::linear([room.bottom - AXIS_ROOM, room.top + 24.0], ends, 0.08, 6);
        let upper_left = [room.left + tick_room(&vertical), room.top + 24.0];
        let area = Area::between(upper_left, [room.right, room.bottom - AXIS_ROOM]);
        let xs: Vec<f64> = points.iter().map(|(_, x, _)| x.mean).collect();
        let ends = [area.left + 6.0, area.right - 6.0];
        let mut horizontal = if qx.logarithmic() {
            Axis::logarithmic(ends, &xs, axis::decade)
        } else {
            let values = range(points.iter().flat_map(|(_, x, _)| x.ends()));
            Axis::linear(ends, values, 0.06, 6)
        };
        horizontal.thin_out(SMALL);
        scene.text([MARGIN, room.top + 8.0], &qy.title(metric), Anchor::Start);
        draw_vertical_axis(&mut scene, &vertical, area);
        draw_horizontal_axis(&mut scene, &horizontal, area, &qx.title(metric), false);

        let at = |x: f64, y: f64| [horizontal.at(x), vertical.at(y)];
        let mut on_front: Vec<[f64; 2]> = (points.iter().zip(front))
            .filter(|(_, front)| **front)
            .map(|((_, x, y), _)| at(x.mean, y.mean))
            .collect();
        on_front.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let mut soft = Vec::new();
        for pair in on_front.windows(2) {
            let corner = [pair[1][0], pair[0][1]];
            for [a, b] in [[pair[0], corner], [corner, pair[1]]] {
                scene.dashes([a, b], Ink::Muted, 1.2);
                let upper_left = [a[0].min(b[0]), a[1].min(b[1])];
                soft.push(Area::between(upper_left, [a[0].max(b[0]), a[1].max(b[1])]));
            }
        }
        let mut solid = Vec::new();
        for (row, x, y) in points {
            let ink = style_of(row).ink;
            if let Some([low, high]) = y.spread {
                let ends = [at(x.mean, high), at(x.mean, low)];
                scene.line(ends, ink, 1.6);
                for [x, y] in ends {
                    scene.line([[x - 4.0, y], [x + 4.0, y]], ink, 1.6);
                }
                solid.push(Area::between(ends[0], ends[1]).grown(5.0, 2.0));
            }
            for seed in y.seeds_apart() {
                let [px, py] = at(x.mean, *seed);
                scene.dot([px + 9.0, py], 2.0, ink, 0.75);
                solid.push(Area::around([px + 9.0, py], 3.0, 3.0));
            }
        }
        for (row, x, y) in points {
            scene.marker(at(x.mean, y.mean), MARK, style_of(row));
            solid.push(Area::around(at(x.mean, y.mean), MARK + 3.0, MARK + 3.0));
        }
        let longest = if is_narrow(width) { 140.0 } else { 230.0 };
        let names = points
            .iter()
            .map(|(row, ..)| fit(&row.label, 1.08 * BODY, longest));
        let names: Vec<String> = names.collect();
        let wants = points.iter().zip(names.iter().zip(front));
        let wants = wants.map(|((_, x, y), (name, bold))| Name {
            at: at(x.mean, y.mean),
            width: text_width(name, BODY, *bold),
            height: BODY + 2.0,
        });
        let wants: Vec<Name> = wants.collect();
        let lower_right = [scene.width - 6.0, area.bottom - 3.0];
        let bounds = Area::between([area.left + 2.0, area.top - 10.0], lower_right);
        let places = labels::place(&wants, &solid, &soft, bounds);
        for ((place, far), want) in places.iter().zip(&wants) {
            if *far {
                let end = labels::nearest(place, want.at);
                let way = [0, 1].map(|i| end[i] - want.at[i]);
                let length = way[0].hypot(way[1]);
                let start = [0, 1].map(|i| want.at[i] + way[i] / length * (MARK + 3.0));
                scene.line([start, end], Ink::Muted, 1.0);
            }
        }
        for (((place, _), name), bold) in places.iter().zip(&names).zip(front) {
            scene.rectangle(*place, Ink::Paper, 0.8);
            let at = [place.left, (place.top + place.bottom) / 2.0];
            scene.write(at, name, BODY, Anchor::Start, Ink::Text, *bold);
        }
        scene
    }

    fn description(&self) -> Vec<String> {
        let metric = self.comparison.metric();
        let [qx, qy] = self.quantities;
        let shown = |q: Quantity, marks: &Marks| q.show(metric, marks.mean / q.axis_factor(metric));
        let points = self.points.iter();
        points
            .map(|(row, x, y)| format!("{}: {} at {}", row.label, shown(qy, y), shown(qx, x)))
            .collect()
    }
}
