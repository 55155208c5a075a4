//! Names beside points, so that no name covers a point or another name.
//!
//! Greedy: each name in turn takes the cheapest of the places around its point, near ones first
//! (Christensen, Marks and Shieber 1995 survey this and better but slower ways).

use super::scene::Area;

/// A point that wants a name.
pub(super) struct Name {
    pub at: [f64; 2],
    pub width: f64,
    pub height: f64,
}

/// Directions in order of preference: right, upper right, lower right, left, …
const DIRECTIONS: [[f64; 2]; 12] = [
    [1.0, 0.0],
    [0.85, -0.6],
    [0.85, 0.6],
    [-1.0, 0.0],
    [0.0, -1.0],
    [0.0, 1.0],
    [-0.85, -0.6],
    [-0.85, 0.6],
    [0.5, -0.9],
    [0.5, 0.9],
    [-0.5, -0.9],
    [-0.5, 0.9],
];
const DISTANCES: [f64; 7] = [11.0, 18.0, 28.0, 42.0, 60.0, 84.0, 110.0];

/// A rectangle for each name, and whether it is so far away that a line has to lead to it.
/// `solid` must not be covered (points, error bars), `soft` should not (lines).
pub(super) fn place(
    wants: &[Name],
    solid: &[Area],
    soft: &[Area],
    bounds: Area,
) -> Vec<(Area, bool)> {
    let mut placed: Vec<Area> = Vec::new();
    for want in wants {
        let mut best = (f64::INFINITY, Area::around(want.at, 0.0, 0.0));
        for (ring, distance) in DISTANCES.iter().enumerate() {
            for (rank, [dx, dy]) in DIRECTIONS.iter().enumerate() {
                let area = beside(want, *dx, *dy, *distance);
                let grown = area.grown(2.0, 1.0);
                let hits = |others: &[Area]| others.iter().filter(|o| o.overlaps(&grown)).count();
                let outside = f64::from(u8::from(!bounds.contains(&area)));
                // A name that another point is nearer to would be read as that point's.
                let own = distance_to(&area, want.at);
                let stolen = wants
                    .iter()
                    .filter(|w| w.at != want.at && distance_to(&area, w.at) < own + 3.0)
                    .count();
                let cost = 1e6 * outside
                    + 1e4 * hits(&placed) as f64
                    + 1e3 * hits(solid) as f64
                    + 40.0 * stolen as f64
                    + 6.0 * hits(soft) as f64
                    + 10.0 * ring as f64
                    + rank as f64;
                if cost < best.0 {
                    best = (cost, area);
                }
            }
        }
        placed.push(best.1);
    }
    let far = |(want, area): (&Name, Area)| (area, distance_to(&area, want.at) > 15.0);
    wants.iter().zip(placed).map(far).collect()
}

fn beside(want: &Name, dx: f64, dy: f64, distance: f64) -> Area {
    let [x, y] = [want.at[0] + dx * distance, want.at[1] + dy * distance];
    let left = match dx {
        dx if dx > 0.3 => x,
        dx if dx < -0.3 => x - want.width,
        _ => x - want.width / 2.0,
    };
    let top = match dy {
        dy if dy > 0.8 => y,
        dy if dy < -0.8 => y - want.height,
        _ => y - want.height / 2.0,
    };
    Area::between([left, top], [left + want.width, top + want.height])
}

/// The point of the rectangle that is nearest to this one.
pub(super) fn nearest(area: &Area, at: [f64; 2]) -> [f64; 2] {
    [
        at[0].clamp(area.left, area.right),
        at[1].clamp(area.top, area.bottom),
    ]
}

fn distance_to(area: &Area, at: [f64; 2]) -> f64 {
    let near = nearest(area, at);
    (near[0] - at[0]).hypot(near[1] - at[1])
}

/// Moves positions apart so that neighbours have `gap` between them, staying in `[low, high]` where
/// that is possible. The order is kept.
pub(super) fn spread(wanted: &[f64], gap: f64, [low, high]: [f64; 2]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // Blocks of names that touch stand around the mean of what they want.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for &i in &order {
        let mut block = (wanted[i], 1);
        while let Some(&(centre, n)) = blocks.last() {
            let last = centre + (n as f64 - 1.0) / 2.0 * gap;
            let first = block.0 - (block.1 as f64 - 1.0) / 2.0 * gap;
            if first - last >= gap {
                break;
            }
            blocks.pop();
            let both = n + block.1;
            block = (
                (centre * n as f64 + block.0 * block.1 as f64) / both as f64,
                both,
            );
        }
        blocks.push(block);
    }
    let positions = blocks.iter().flat_map(|&(centre, n)| {
        (0..n).map(move |k| centre + (k as f64 - (n as f64 - 1.0) / 2.0) * gap)
    });
    let mut positions: Vec<f64> = positions.collect();
    // Push back inside, from the bottom up and then from the top down.
    let mut most = high;
    for p in positions.iter_mut().rev() {
        *p = p.min(most);
        most = *p - gap;
    }
    let mut least = low;
    for p in positions.iter_mut() {
        *p = p.max(least);
        least = *p + gap;
    }
    let mut result = vec![0.0; wanted.len()];
    for (p, i) in positions.into_iter().zip(order) {
        result[i] = p;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_keeps_order_gap_and_bounds() {
        assert_eq!(
            spread(&[10.0, 50.0], 10.0, [0.0, 100.0]),
            [10.0, 50.0],
            "what does not touch stays"
        );
        assert_eq!(spread(&[50.0, 50.0], 10.0, [0.0, 100.0]), [45.0, 55.0]);
        assert_eq!(
            spread(&[99.0, 98.0, 20.0], 10.0, [0.0, 100.0]),
            [100.0, 90.0, 20.0]
        );
        let close = spread(&[1.0, 2.0, 3.0, 4.0], 5.0, [0.0, 100.0]);
        assert!(close.windows(2).all(|w| w[1] - w[0] >= 5.0 - 1e-9) && close[0] >= 0.0);
    }

    #[test]
    fn names_of_close_points_do_not_overlap() {
        let wants: Vec<Name> = (0..8)
            .map(|i| Name {
                at: [200.0 + 4.0 * f64::from(i), 150.0 + 3.0 * f64::from(i % 3)],
                width: 70.0,
                height: 14.0,
            })
            .collect();
        let solid: Vec<Area> = wants.iter().map(|w| Area::around(w.at, 6.0, 6.0)).collect();
        let bounds = Area::between([0.0, 0.0], [400.0, 300.0]);
        let placed = place(&wants, &solid, &[], bounds);
        for (i, (a, _)) in placed.iter().enumerate() {
            assert!(bounds.contains(a));
            assert!(placed[..i].iter().all(|(b, _)| !a.overlaps(b)));
            assert!(solid.iter().all(|s| !a.overlaps(s)));
        }
    }
}
