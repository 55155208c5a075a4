//! Lines over one axis in one panel, with their names at the ends.

use super::{
    axis::{self, Axis, range},
    labels,
    layout::*,
    plot::{Figure, Plot},
    scene::{Anchor, Area, Scene, fit},
    style::{BODY, MARGIN, SMALL, Style},
};
use crate::{format, quantity::Quantity};

/// Room over a panel for the title of its vertical axis.
pub(super) const HEAD: f64 = 24.0;

/// How to read lines with bands.
pub(super) const BANDS: &str = "Line: mean over seeds. Band: least to greatest of the seeds.";

/// A line with the band around it.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) style: Style,
    pub(super) points: Vec<Spot>,
    /// Whether there is a band, which one seed does not have.
    pub(super) band: bool,
}

/// A point of a line.
pub(super) struct Spot {
    pub(super) x: f64,
    pub(super) mean: f64,
    /// The ends of the band.
    pub(super) band: [f64; 2],
    /// Whether it is shown to be worse than the point of its line with the highest mean.
    pub(super) behind: bool,
}

impl Line {
    pub(super) fn path(&self, x: &Axis, y: &Axis) -> Vec<[f64; 2]> {
        let place = |p: &Spot| [x.at(p.x), y.at(p.mean)];
        self.points.iter().map(place).collect()
    }

    pub(super) fn draw_band(&self, scene: &mut Scene, x: &Axis, y: &Axis) {
        if self.band {
            let points = self.points.iter();
            let end = |i: usize| move |p: &Spot| [x.at(p.x), y.at(p.band[i])];
            let outline = points.clone().map(end(1)).chain(points.rev().map(end(0)));
            scene.area(outline.collect(), self.style.ink, 0.16);
        }
    }
}

/// The least and the greatest value of some lines, bands included.
pub(super) fn values(lines: &[Line]) -> [f64; 2] {
    range(lines.iter().flat_map(|l| &l.points).flat_map(|p| p.band))
}

/// What is on the horizontal axis.
pub(super) struct Across {
    pub(super) title: String,
    pub(super) logarithmic: bool,
    /// Texts at 0, 1, 2 … instead of numbers.
    pub(super) categories: Vec<String>,
}

impl Across {
    /// Equal distances for equal differences.
    pub(super) fn linear(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            logarithmic: false,
            categories: Vec::new(),
        }
    }

    /// A place as people read it.
    pub(super) fn text(&self, x: f64) -> String {
        let category = self.categories.get(x as usize);
        category.cloned().unwrap_or_else(|| number(x))
    }

    fn axis(&self, ends: [f64; 2], lines: &[Line], ticks: usize) -> Axis {
        let mut xs: Vec<f64> = lines.iter().flat_map(|l| &l.points).map(|p| p.x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let mut axis = if !self.categories.is_empty() {
            let n = self.categories.len() as f64;
            let place = (ends[1] - ends[0]) / n;
            let mut axis = Axis::linear(ends, [-0.5, n - 0.5], 0.0, 2);
            let texts = self
                .categories
                .iter()
                .map(|text| fit(text, SMALL, place - 4.0));
            axis.ticks = (0..).map(f64::from).zip(texts).collect();
            axis
        } else if self.logarithmic {
            let mut axis = Axis::logarithmic(ends, &xs, axis::decade);
            // The places that were measured are what a reader looks for.
            axis.ticks = xs.iter().map(|x| (*x, number(*x))).collect();
            axis
        } else {
            let [first, last] = range(xs.into_iter());
            Axis::linear(ends, [first.min(0.0), last], 0.0, ticks)
        };
        axis.thin_out(SMALL);
        axis
    }
}

/// A number on an axis as people read it.
fn number(x: f64) -> String {
    match x {
        x if x >= 10_000.0 => format::count_short(x),
        x if x >= 1_000.0 => format::count(x.round() as usize),
        x if x >= 0.01 || x == 0.0 => format!("{x}"),
        x => format!("{x:e}"),
    }
}

/// Lines in one panel.
pub(super) struct Panel<'a> {
    /// Title of the vertical axis.
    pub(super) up: &'a str,
    pub(super) across: &'a Across,
    pub(super) lines: &'a [Line],
    /// Whether every point has its method's marker.
    pub(super) marked: bool,
}

impl Panel<'_> {
    /// A figure of nothing else.
    pub(super) fn scene(&self, layout: &Layout) -> Scene {
        let (height, most) = match is_narrow(layout.width) {
            true => (260.0, 110.0),
            false => (330.0, 200.0),
        };
        let (mut scene, room) = layout.scene(HEAD + height + AXIS_ROOM);
        scene.text([MARGIN, room.top + 6.0], self.up, Anchor::Start);
        let (top, bottom) = (room.top + HEAD, room.bottom - AXIS_ROOM);
        let y = Axis::linear([bottom, top], values(self.lines), 0.05, 6);
        let names = self.lines.iter().map(|l| fit(&l.label, BODY, most));
        let names: Vec<String> = names.collect();
        let ends = [
            room.left + tick_room(&y),
            room.right - widest(&names, BODY) - 38.0,
        ];
        let area = Area::between([ends[0], top], [ends[1], bottom]);
        let x = self.across.axis(ends, self.lines, ticks(scene.width));
        draw_vertical_axis(&mut scene, &y, area);
        draw_horizontal_axis(&mut scene, &x, area, &self.across.title, false);
        // The best is drawn last, on top.
        for line in self.lines.iter().rev() {
            line.draw_band(&mut scene, &x, &y);
        }
        for line in self.lines.iter().rev() {
            let path = line.path(&x, &y);
            scene.line(path.clone(), line.style.ink, 2.0);
            for (p, at) in line.points.iter().zip(path).filter(|_| self.marked) {
                match p.behind {
                    true => scene.hollow_marker(at, MARK - 1.0, line.style),
                    false => scene.marker(at, MARK - 1.0, line.style),
                }
            }
        }
        let ends = self.lines.iter().filter_map(|l| l.points.last());
        let ends = ends.map(|p| [x.at(p.x), y.at(p.mean)]);
        let wanted: Vec<f64> = ends.clone().map(|end| end[1]).collect();
        let places = labels::spread(&wanted, BODY + 4.0, [area.top, area.bottom]);
        for (((line, name), end), place) in self.lines.iter().zip(&names).zip(ends).zip(places) {
            let text_at = area.right + 34.0;
            let link = [[end[0] + 7.0, end[1]], [text_at - 14.0, place]];
            scene.line(link, line.style.ink, 1.0);
            scene.marker([text_at - 8.0, place], MARK - 1.5, line.style);
            scene.text([text_at, place], name, Anchor::Start);
        }
        scene
    }
}

/// Lines of the main metric under a heading: of a study, of a search.
pub(super) struct LinePlot<'a> {
    /// Name of the metric.
    pub(super) metric: &'a str,
    /// What was studied.
    pub(super) heading: &'a str,
    pub(super) lines: Vec<Line>,
    pub(super) across: Across,
    /// How to read it, and what to know of it.
    pub(super) notes: Vec<String>,
}

impl LinePlot<'_> {
    /// `None` where there is nothing to show.
    pub(super) fn plot(self, name: &str, title: &str) -> Option<Plot> {
        let any = !self.lines.is_empty();
        Plot::of(self.heading, name, title, any.then_some(self))
    }
}

impl Figure for LinePlot<'_> {
    fn draw(&self, title: &str, width: f64) -> Scene {
        let panel = Panel {
            up: &Quantity::Metric.title(self.metric),
            across: &self.across,
            lines: &self.lines,
            marked: true,
        };
        let notes = self.notes.join(" ");
        panel.scene(&Layout::of(width, title, self.heading, &notes))
    }

    fn description(&self) -> Vec<String> {
        let factor = Quantity::Metric.axis_factor(self.metric);
        let describe = |line: &Line| {
            let values = line.points.iter().map(|p| {
                let mean = format::metric(self.metric, p.mean / factor);
                format!("{mean} at {}", self.across.text(p.x))
            });
            format!("{}: {}", line.label, values.collect::<Vec<_>>().join(", "))
        };
        self.lines.iter().map(describe).collect()
    }
}
