//! Latency against the bare backbone: one definition for every table, claim, limit and plot.
//!
//! Every process that times a method times the bare backbone too, in turn and over the same batches. Overhead is the ratio
//! of the two medians **of the same process**, minus 1; over several processes it is the geometric mean with the interval
//! over processes ([`Ratio`]). Absolute times of two rows may come from two states of the machine; the ratio does not.
//!
//! The backbone is measured twice in every setting, as `backbone` and as `backbone_again`. What the two differ by is noise.
//! An overhead is printed as `≈` where its interval holds 0, and with one process where it is below the noise floor: the
//! difference between two measurements of the backbone that 19 of 20 settings keep below.

use std::collections::BTreeSet;

use record::{Latency, RunRecord};
use serde::Serialize;
use statistics::{Ratio, Summary, Timed};

/// The backbone without a method.
pub const BACKBONE: &str = "backbone";
/// The same once more.
pub const BACKBONE_AGAIN: &str = "backbone_again";
/// Fewer passes than this have no 99th percentile of their own.
pub const PASSES_FOR_P99: usize = 100;

/// Examples in the batch, and tokens per example (absent for real sentences).
pub type Setting = (usize, Option<usize>);
/// One real sentence.
pub const SENTENCE: Setting = (1, None);

/// One variant in one setting over processes.
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
    /// The median times what the 99th percentile is over the median in each process that timed at least [`PASSES_FOR_P99`]
    /// passes, in milliseconds: so it is never below a median that more processes have measured.
    pub p99_ms: Option<Summary>,
    /// Medians over the backbone's of the same process; absent where no process measured both.
    pub over_backbone: Option<Ratio>,
}

impl LatencyCell {
    /// Batch and length.
    pub fn setting(&self) -> Setting {
        (self.batch, self.length)
    }

    /// Medians and 99th percentiles as people read them, e.g. `4.13/6.20`.
    pub fn text(&self) -> String {
        let p99 = self
            .p99_ms
            .as_ref()
            .map_or("–".to_owned(), |s| crate::format::ms(s.mean));
        format!("{}/{p99}", crate::format::ms(self.p50_ms.mean))
    }
}

/// The latency of one real sentence in a run, the method not merged.
pub fn sentence(record: &RunRecord) -> Option<&Latency> {
    let one = |l: &&Latency| l.variant == "unmerged" && setting(l) == SENTENCE;
    record.cost.as_ref()?.latency.iter().find(one)
}

fn setting(latency: &Latency) -> Setting {
    (latency.batch, latency.length)
}

/// The latencies of some records.
pub fn of_records<'a>(records: &[&'a RunRecord]) -> Vec<&'a [Latency]> {
    let timed = records
        .iter()
        .filter_map(|r| Some(&*r.cost.as_ref()?.latency));
    timed.collect()
}

/// All settings of some processes, each over these processes, by batch, length and variant.
pub fn cells(processes: &[&[Latency]]) -> Vec<LatencyCell> {
    let all = || processes.iter().flat_map(|r| r.iter());
    let keys: BTreeSet<(Setting, &str)> = all().map(|l| (setting(l), l.variant.as_str())).collect();
    keys.into_iter()
        .filter_map(|(own, variant)| {
            let same = || all().filter(|l| setting(l) == own && l.variant == variant);
            let of = |f: fn(&Latency) -> f64| Summary::of(same().map(f));
            let long = || same().filter(|l| l.samples >= PASSES_FOR_P99);
            let p50_ms = of(|l| l.p50_ms)?;
            let p99_ms = Summary::of(long().map(|l| p50_ms.mean * (l.p99_ms / l.p50_ms)));
            Some(LatencyCell {
                variant: variant.to_owned(),
                batch: own.0,
                length: own.1,
                p50_ms,
                p90_ms: of(|l| l.p90_ms)?,
                p99_ms,
                over_backbone: over_backbone(processes, variant, own),
            })
        })
        .collect()
}

/// How many times as long a variant takes as the bare backbone of the same process; each process is a replicate.
pub fn over_backbone(processes: &[&[Latency]], variant: &str, setting: Setting) -> Option<Ratio> {
    over_settings(processes, variant, |s| s == setting)
}

/// The same over all settings that a process has timed, as the geometric mean.
pub fn over_grid(processes: &[&[Latency]], variant: &str) -> Option<Ratio> {
    over_settings(processes, variant, |_| true)
}

fn over_settings(
    processes: &[&[Latency]],
    variant: &str,
    takes: impl Fn(Setting) -> bool,
) -> Option<Ratio> {
    let timed = processes.iter().enumerate().flat_map(|(i, process)| {
        let own = process.iter().filter(|l| l.variant == variant);
        let own = own.filter(|l| takes(setting(l)));
        own.filter_map(move |l| {
            let bare = |b: &&Latency| b.variant == BACKBONE && setting(b) == setting(l);
            Some(Timed {
                sitting: i.to_string(),
                first: l.p50_ms,
                second: process.iter().find(bare)?.p50_ms,
            })
        })
    });
    Ratio::of(&timed.collect::<Vec<_>>())
}

/// The relative difference that two measurements of the bare backbone of one process keep below in 19 of 20 of these
/// settings (all if `None` is given); absent where it was measured once only.
pub fn noise_floor(processes: &[&[Latency]], setting: Option<Setting>) -> Option<f64> {
    let mut differences: Vec<f64> = processes
        .iter()
        .flat_map(|process| {
            let once = process.iter().filter(|l| l.variant == BACKBONE);
            let once = once
                .map(self::setting)
                .filter(move |s| setting.is_none_or(|w| w == *s));
            once.filter_map(move |s| {
                Some((over_backbone(&[*process], BACKBONE_AGAIN, s)?.ratio - 1.0).abs())
            })
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    let rank = (differences.len() as f64 * 0.95).ceil() as usize;
    differences.get(rank.checked_sub(1)?).copied()
}

/// Whether an overhead is more than noise: its interval does not hold 0, or with one process, it exceeds the noise floor.
pub fn is_shown(ratio: &Ratio, noise: Option<f64>) -> bool {
    match ratio.interval {
        Some([low, high]) => low > 1.0 || high < 1.0,
        None => noise.is_none_or(|noise| (ratio.ratio - 1.0).abs() > noise),
    }
}

/// An overhead for people: `+12 %`, `-3.1 %`, or `≈` where it is not more than noise.
pub fn overhead_text(ratio: &Ratio, noise: Option<f64>) -> String {
    match is_shown(ratio, noise) {
        true => percent(ratio.ratio - 1.0),
        false => "≈".to_owned(),
    }
}

/// A relative difference with its sign.
pub fn percent(relative: f64) -> String {
    match 100.0 * relative {
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
        let noise = noise_floor(&[&run], None);
        assert!((noise.unwrap() - 0.025).abs() < 1e-12, "{noise:?}");
        let text = |variant: &str| {
            overhead_text(&over_backbone(&[&run], variant, SENTENCE).unwrap(), noise)
        };
        assert_eq!(text("unmerged"), "≈");
        assert_eq!(text("mixed_4"), "+25 %");
        assert_eq!(percent(-0.031), "-3.1 %");
    }

    #[test]
    fn the_noise_floor_leaves_one_setting_in_twenty_out() {
        let mut run = Vec::new();
        for batch in 1..=20 {
            run.push(latency(BACKBONE, batch, 100.0));
            run.push(latency(BACKBONE_AGAIN, batch, 100.0 + batch as f64));
        }
        assert!((noise_floor(&[&run], None).unwrap() - 0.19).abs() < 1e-9);
        assert!((noise_floor(&[&run], Some((7, None))).unwrap() - 0.07).abs() < 1e-9);
        assert_eq!(noise_floor(&[&run[..1]], None), None);
        assert_eq!(noise_floor(&[], None), None);
    }

    #[test]
    fn overhead_is_taken_within_a_process_and_then_over_processes() {
        // The machine was twice as slow in the second process: the ratios are 1.2 and 1.3 all the same.
        let a = [latency("unmerged", 8, 1.2), latency(BACKBONE, 8, 1.0)];
        let b = [latency("unmerged", 8, 2.6), latency(BACKBONE, 8, 2.0)];
        // Without the backbone's time a process says nothing about overhead.
        let c = [latency("unmerged", 8, 100.0)];
        let cells = cells(&[&a, &b, &c]);
        assert_eq!(cells.len(), 2);
        let ratio = cells[1].over_backbone.unwrap();
        assert!((ratio.ratio - (1.2f64 * 1.3).sqrt()).abs() < 1e-12);
        assert_eq!(ratio.sittings, 2);
        assert_eq!(cells[1].p50_ms.values, [1.2, 2.6, 100.0]);
    }

    #[test]
    fn a_grid_is_the_geometric_mean_over_its_settings_within_each_process() {
        let run = [
            latency("unmerged", 1, 1.2),
            latency(BACKBONE, 1, 1.0),
            latency("unmerged", 8, 5.0),
            latency(BACKBONE, 8, 5.0),
        ];
        let ratio = over_grid(&[&run, &run], "unmerged").unwrap();
        assert!((ratio.ratio - 1.2f64.sqrt()).abs() < 1e-12);
        assert_eq!(ratio.sittings, 2);
    }

    #[test]
    fn ten_passes_have_no_99th_percentile() {
        let mut run = [latency("unmerged", 1, 4.0)];
        assert_eq!(cells(&[&run])[0].text(), "4.00/–");
        run[0].samples = 100;
        assert_eq!(cells(&[&run])[0].text(), "4.00/8.00");
        // Of several processes those count that have one, for how much longer than their own median they take.
        let short = [latency("unmerged", 1, 5.0)];
        assert_eq!(cells(&[&run, &short])[0].text(), "4.50/9.00");
        let slow = [latency("unmerged", 1, 20.0)];
        assert_eq!(cells(&[&run, &slow])[0].text(), "12.0/24.0");
    }
}
