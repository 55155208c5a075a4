//! Latency against the bare backbone, and which differences are more than noise.
//!
//! The backbone is measured twice in every setting, as `backbone` and as `backbone_again`, with everything else in
//! between. What the two differ by is noise; the **noise floor** is the difference that they keep below in 19 of 20
//! settings. A method whose overhead is below it is printed as `≈`: nothing was measured.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::record::Latency;
use crate::statistics::Summary;

/// The backbone without a method.
pub const BACKBONE: &str = "backbone";
/// The same once more.
pub const BACKBONE_AGAIN: &str = "backbone_again";

/// One variant in one setting over seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatencyCell {
    /// As in [`Latency::variant`].
    pub variant: String,
    /// Examples in the batch.
    pub batch: usize,
    /// Tokens per example; absent for real sentences.
    pub length: Option<usize>,
    /// Medians, in milliseconds.
    pub p50_ms: Summary,
    /// 90th percentiles, in milliseconds.
    pub p90_ms: Summary,
    /// 99th percentiles, in milliseconds.
    pub p99_ms: Summary,
    /// Median over the backbone's median in the same setting, minus 1.
    pub overhead: Option<f64>,
}

/// All settings of some runs, each over these runs, by batch, length and variant.
pub fn cells(runs: &[&[Latency]]) -> Vec<LatencyCell> {
    let all = || runs.iter().flat_map(|r| r.iter());
    let keys: BTreeSet<(usize, Option<usize>, &str)> = all()
        .map(|l| (l.batch, l.length, l.variant.as_str()))
        .collect();
    let of = |batch, length, variant: &str, f: fn(&Latency) -> f64| {
        let same =
            all().filter(|l| (l.batch, l.length, l.variant.as_str()) == (batch, length, variant));
        Summary::of(same.map(f))
    };
    keys.into_iter()
        .filter_map(|(batch, length, variant)| {
            let p50_ms = of(batch, length, variant, |l| l.p50_ms)?;
            let backbone = of(batch, length, BACKBONE, |l| l.p50_ms);
            Some(LatencyCell {
                variant: variant.to_owned(),
                batch,
                length,
                overhead: backbone.and_then(|b| overhead(p50_ms.mean, b.mean)),
                p50_ms,
                p90_ms: of(batch, length, variant, |l| l.p90_ms)?,
                p99_ms: of(batch, length, variant, |l| l.p99_ms)?,
            })
        })
        .collect()
}

/// `own / backbone − 1`.
pub fn overhead(own: f64, backbone: f64) -> Option<f64> {
    (backbone > 0.0).then(|| own / backbone - 1.0)
}

/// The relative difference that two measurements of the bare backbone keep below in 19 of 20 settings; absent where it was
/// measured once only.
pub fn noise_floor(runs: &[&[Latency]]) -> Option<f64> {
    let mut differences: Vec<f64> = runs
        .iter()
        .flat_map(|run| {
            run.iter()
                .filter(|l| l.variant == BACKBONE)
                .filter_map(|once| {
                    let again = run.iter().find(|l| {
                        l.variant == BACKBONE_AGAIN
                            && l.batch == once.batch
                            && l.length == once.length
                    })?;
                    Some(overhead(again.p50_ms, once.p50_ms)?.abs())
                })
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    let rank = (differences.len() as f64 * 0.95).ceil() as usize;
    differences.get(rank.checked_sub(1)?).copied()
}

/// An overhead for people: `+12 %`, `-3.1 %`, or `≈` where the noise is as large.
pub fn overhead_text(overhead: f64, noise: Option<f64>) -> String {
    if noise.is_some_and(|noise| overhead.abs() <= noise) {
        return "≈".to_owned();
    }
    match 100.0 * overhead {
        x if x.abs() < 9.95 => format!("{x:+.1} %"),
        x => format!("{x:+.0} %"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn latency(variant: &str, batch: usize, p50_ms: f64) -> Latency {
        Latency {
            variant: variant.into(),
            batch,
            length: None,
            samples: 10,
            p50_ms,
            p90_ms: p50_ms,
            p99_ms: 2.0 * p50_ms,
        }
    }

    #[test]
    fn a_difference_below_that_of_the_backbone_to_itself_is_not_printed() {
        let run = [
            latency(BACKBONE, 1, 4.0),
            latency(BACKBONE_AGAIN, 1, 4.1),
            latency("unmerged", 1, 4.09),
            latency("mixed_4", 1, 5.0),
        ];
        let noise = noise_floor(&[&run]);
        assert!((noise.unwrap() - 0.025).abs() < 1e-12, "{noise:?}");
        let text = |variant: &str| {
            let cells = cells(&[&run]);
            let cell = cells.iter().find(|c| c.variant == variant).unwrap();
            overhead_text(cell.overhead.unwrap(), noise)
        };
        assert_eq!(text("unmerged"), "≈");
        assert_eq!(text("mixed_4"), "+25 %");
        assert_eq!(overhead_text(-0.031, noise), "-3.1 %");
        assert_eq!(overhead_text(0.001, None), "+0.1 %");
    }

    #[test]
    fn the_noise_floor_leaves_one_setting_in_twenty_out() {
        let mut run = Vec::new();
        for batch in 1..=20 {
            run.push(latency(BACKBONE, batch, 100.0));
            run.push(latency(BACKBONE_AGAIN, batch, 100.0 + batch as f64));
        }
        assert!((noise_floor(&[&run]).unwrap() - 0.19).abs() < 1e-12);
        assert_eq!(noise_floor(&[&run[..1]]), None);
        assert_eq!(noise_floor(&[]), None);
    }

    #[test]
    fn settings_are_averaged_over_runs_and_ordered() {
        let (a, b) = (
            [latency("unmerged", 8, 2.0), latency(BACKBONE, 8, 1.0)],
            [latency("unmerged", 8, 4.0)],
        );
        let cells = cells(&[&a, &b]);
        assert_eq!(cells.len(), 2);
        assert_eq!((cells[1].p50_ms.mean, cells[1].p99_ms.mean), (3.0, 6.0));
        assert_eq!(cells[1].overhead, Some(2.0));
    }
}
