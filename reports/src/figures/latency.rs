//! Latency of every method, merged and not, with the bare backbone as reference.

use super::{
    axis::range,
    layout::*,
    plot::Figure,
    scene::{Anchor, Scene},
    style::{BODY, Ink, MARGIN, SMALL},
};
use crate::{comparison::Comparison, format, latency as timing, row::Row};

/// The machine was steady if the slowest of the backbone's medians is at most this times the fastest.
pub(super) const STEADY: f64 = 1.1;

/// Latency of one variant of a method, in milliseconds.
pub(super) struct Timed<'a> {
    pub(super) variant: &'a str,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) sd: Option<f64>,
    pub(super) text: String,
}

/// Median and 99th percentile of every method, merged and not.
pub(super) struct Latencies<'a> {
    comparison: &'a Comparison,
    rows: Vec<&'a Row>,
    /// Of each row.
    timed: Vec<Vec<Timed<'a>>>,
    /// Medians of the bare backbone in the same runs.
    bares: Vec<f64>,
    /// Their mean, if the machine was steady: else so were the methods' times not, and one common line would be wrong.
    bare: Option<f64>,
}

/// The median of a variant of a row.
fn p50(row: &Row, variant: &str) -> Option<f64> {
    row.sentence(variant).map(|l| l.p50_ms.mean)
}

impl<'a> Latencies<'a> {
    /// `None` where nothing was timed.
    pub(super) fn of(comparison: &'a Comparison) -> Option<Self> {
        let of = |row: &Row| p50(row, "unmerged").or(p50(row, "merged"));
        let ranked = comparison.ranked().iter();
        let mut rows: Vec<&Row> = ranked.filter(|r| of(r).is_some()).collect();
        rows.sort_by(|a, b| of(a).unwrap_or(0.0).total_cmp(&of(b).unwrap_or(0.0)));
        let bares: Vec<f64> = rows.iter().filter_map(|r| p50(r, "backbone")).collect();
        let [fastest, slowest] = range(bares.iter().copied());
        let timed = |row: &Row, variant: &'a str| {
            let l = row.sentence(variant)?;
            let p50 = l.p50_ms.mean;
            let overhead = |ratio| timing::overhead_text(ratio, comparison.latency_noise);
            let text = l.over_backbone.as_ref().map(overhead);
            Some(Timed {
                variant,
                p50,
                p99: l.p99_ms.as_ref().map_or(p50, |s| s.mean),
                sd: l.p50_ms.sd,
                text: text.unwrap_or_else(|| format::ms(p50)),
            })
        };
        let variants = |row: &&Row| {
            let both = ["unmerged", "merged"].into_iter();
            both.filter_map(|variant| timed(row, variant)).collect()
        };
        (!rows.is_empty()).then(|| Self {
            comparison,
            timed: rows.iter().map(variants).collect(),
            bare: statistics::mean(&bares).filter(|_| slowest <= STEADY * fastest),
            bares,
            rows,
        })
    }
}

impl Figure for Latencies<'_> {
    fn draw(&self, title: &str, width: f64) -> Scene {
        let (rows, timed, bare) = (&self.rows, &self.timed, self.bare);
        let bares = self.bares.iter().copied();
        let merges = timed.iter().any(|variants| variants.len() > 1);
        let mut notes = vec![
            "Marker: median (p50). Tick at the end of the line: 99th percentile (p99).".to_owned(),
        ];
        if merges {
            notes.push("Hollow: merged into the backbone.".into());
        }
        if bare.is_some() {
            notes.push("Dashed line: the bare backbone's median.".into());
        } else if !self.bares.is_empty() {
            let [fastest, slowest] = range(bares.clone()).map(format::ms);
            notes.push(format!(
                "Upright lines: the bare backbone's median in the same runs. It ranged from {fastest} to {slowest} ms: the machine \
                 was not steady, so compare a method with its own line only."
            ));
        }
        let layout = Layout::new(self.comparison, title, width, &notes);
        let line = if merges { 40.0 } else { 32.0 };
        let heading = "over backbone";
        let texts = timed.iter().flatten().map(|m| m.text.as_str());
        let right = layout.right() - widest(texts.chain([heading]), BODY) - 12.0;
        let longest = timed.iter().flatten().map(|m| m.p99.max(m.p50));
        let most = longest.chain(bares).fold(0.0, f64::max);
        let title = "latency, batch of 1 real sentence (ms)";
        let mut chart = Chart::new(&layout, rows, [24.0, line], right, [0.0, most], 0.02, title);
        let (scene, axis) = (&mut chart.scene, &chart.axis);
        let (room, area) = (chart.room, chart.area);
        let head = room.top + 9.0;
        scene.note([room.right, head], heading, Anchor::End);
        if let Some(bare) = bare {
            let x = axis.at(bare);
            scene.dashes([[x, area.top - 4.0], [x, area.bottom]], Ink::Text, 1.4);
            let text = format!("backbone {}", format::ms(bare));
            let at = [inside(x, &text, SMALL, [MARGIN, area.right]), head];
            scene.write(at, &text, SMALL, Anchor::Middle, Ink::Text, false);
        }
        for ((row, variants), middle) in rows.iter().zip(timed).zip(&chart.middles) {
            let s = style_of(row);
            let apart = if variants.len() > 1 { 9.0 } else { 0.0 };
            if let Some(own) = p50(row, "backbone").filter(|_| bare.is_none()) {
                let x = axis.at(own);
                let half = line / 2.0 - 4.0;
                scene.line([[x, middle - half], [x, middle + half]], Ink::Text, 1.6);
            }
            for (i, m) in variants.iter().enumerate() {
                let y = middle + if i == 0 { -apart } else { apart };
                let (a, b) = (axis.at(m.p50), axis.at(m.p99));
                scene.faint_line([[a, y], [b, y]], s.ink, 1.6, 0.6);
                scene.line([[b, y - 5.0], [b, y + 5.0]], s.ink, 2.0);
                if let Some(sd) = m.sd {
                    let (low, high) = (axis.at((m.p50 - sd).max(0.0)), axis.at(m.p50 + sd));
                    scene.line([[low, y], [high, y]], s.ink, 3.5);
                }
                match m.variant {
                    "merged" => scene.hollow_marker([a, y], MARK, s),
                    _ => scene.marker([a, y], MARK, s),
                }
                scene.text([room.right, y], &m.text, Anchor::End);
            }
        }
        chart.scene
    }

    fn description(&self) -> Vec<String> {
        let described = self.rows.iter().zip(&self.timed).flat_map(|(row, timed)| {
            timed.iter().map(move |m| {
                let p50 = format::ms(m.p50);
                format!("{} {}: {p50} ms, {}", row.label, m.variant, m.text)
            })
        });
        described.collect()
    }
}
