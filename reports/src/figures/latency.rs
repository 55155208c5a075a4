//! Latency of every method, merged and not, with the bare backbone as reference.

use super::{
    axis::Axis,
    layout::*,
    scene::{Anchor, Area, Scene, text_width},
    style::Ink,
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

/// Median and 99th percentile of every method, merged and not, with the bare backbone as reference.
pub(super) fn latency(comparison: &Comparison, title: &str, width: f64) -> Option<(Scene, String)> {
    let mut rows: Vec<&Row> = comparison
        .ranked()
        .iter()
        .filter(|r| r.sentence("unmerged").is_some() || r.sentence("merged").is_some())
        .collect();
    let p50 = |row: &Row, variant: &str| row.sentence(variant).map(|l| l.p50_ms.mean);
    let of = |row: &Row| p50(row, "unmerged").or(p50(row, "merged")).unwrap_or(0.0);
    rows.sort_by(|a, b| of(a).total_cmp(&of(b)));
    if rows.is_empty() {
        return None;
    }
    let bares: Vec<f64> = rows.iter().filter_map(|r| p50(r, "backbone")).collect();
    // Each run times the bare backbone too. Where these times differ, so did the machine, and one
    // common line would be wrong for every method.
    let [fastest, slowest] = range(bares.iter().copied());
    let steady = slowest <= STEADY * fastest;
    let bare = statistics::mean(&bares).filter(|_| steady);
    let merges = rows
        .iter()
        .any(|r| r.sentence("merged").is_some() && r.sentence("unmerged").is_some());
    let mut notes = vec![
        "Marker: median (p50). Tick at the end of the line: 99th percentile (p99).".to_owned(),
    ];
    if merges {
        notes.push("Hollow: merged into the backbone.".into());
    }
    if bare.is_some() {
        notes.push("Dashed line: the bare backbone's median.".into());
    } else if !bares.is_empty() {
        notes.push(format!(
            "Upright lines: the bare backbone's median in the same runs. It ranged from {} to {} ms: the machine \
             was not steady, so compare a method with its own line only.",
            format::ms(fastest),
            format::ms(slowest)
        ));
    }
    let layout = Layout::new(comparison, title, width, &notes);
    let line = if merges { 40.0 } else { 32.0 };
    let head = 24.0;
    let (mut scene, room) = layout.scene(head + MethodLines::height(&rows, line) + AXIS_ROOM);
    let inner = Area {
        top: room.top + head,
        ..room
    };
    let lines = MethodLines::new(&rows, inner, line);
    let marks: Vec<Vec<Timed>> = rows
        .iter()
        .map(|row| {
            ["unmerged", "merged"]
                .into_iter()
                .filter_map(|variant| {
                    let l = row.sentence(variant)?;
                    let p50 = l.p50_ms.mean;
                    let text = match &l.over_backbone {
                        Some(ratio) => timing::overhead_text(ratio, comparison.latency_noise),
                        None => format::ms(p50),
                    };
                    Some(Timed {
                        variant,
                        p50,
                        p99: l.p99_ms.as_ref().map_or(p50, |s| s.mean),
                        sd: l.p50_ms.sd,
                        text,
                    })
                })
                .collect()
        })
        .collect();
    let widest = |texts: &mut dyn Iterator<Item = &str>| {
        texts
            .map(|t| text_width(t, BODY, false))
            .fold(0.0, f64::max)
    };
    let heading = "over backbone";
    let mut texts = marks
        .iter()
        .flatten()
        .map(|m| m.text.as_str())
        .chain([heading]);
    let values = widest(&mut texts);
    let area = Area {
        left: lines.plot_left,
        right: room.right - values - 12.0,
        top: inner.top,
        bottom: room.bottom - AXIS_ROOM,
    };
    let most = marks
        .iter()
        .flatten()
        .map(|m| m.p99.max(m.p50))
        .chain(bares.iter().copied())
        .fold(0.0, f64::max);
    let ticks = if width < 500.0 { 3 } else { 6 };
    let mut axis = Axis::linear([area.left, area.right], [0.0, most], 0.02, ticks);
    axis.thin_out(SMALL);
    draw_horizontal_axis(
        &mut scene,
        &axis,
        area,
        "latency, batch of 1 real sentence (ms)",
        true,
    );
    lines.draw(&mut scene, &rows);
    scene.text(
        [room.right, room.top + 9.0],
        heading,
        SMALL,
        Anchor::End,
        Ink::Muted,
    );
    if let Some(bare) = bare {
        let x = axis.at(bare);
        scene.dashes([[x, area.top - 4.0], [x, area.bottom]], Ink::Text, 1.4);
        let text = format!("backbone {}", format::ms(bare));
        let half = text_width(&text, SMALL, false) / 2.0;
        let x = x.clamp(MARGIN + half, (area.right - half).max(MARGIN + half));
        scene.text([x, room.top + 9.0], &text, SMALL, Anchor::Middle, Ink::Text);
    }
    for ((row, marks), middle) in rows.iter().zip(&marks).zip(&lines.middles) {
        let s = style_of(row);
        let apart = if marks.len() > 1 { 9.0 } else { 0.0 };
        if let Some(own) = p50(row, "backbone").filter(|_| !steady) {
            let x = axis.at(own);
            let half = line / 2.0 - 4.0;
            scene.line([[x, middle - half], [x, middle + half]], Ink::Text, 1.6);
        }
        for (i, m) in marks.iter().enumerate() {
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
            let at = [room.right, y];
            scene.text(at, &m.text, BODY, Anchor::End, Ink::Text);
        }
    }
    let described = rows.iter().zip(&marks).flat_map(|(row, marks)| {
        marks.iter().map(move |m| {
            format!(
                "{} {}: {} ms, {}",
                row.label,
                m.variant,
                format::ms(m.p50),
                m.text
            )
        })
    });
    Some((scene, described.collect::<Vec<_>>().join("; ")))
}
