//! Whose times, memory and latencies count.
//!
//! Quality may come from any machine. What runs cost is compared only within one processor model and number of threads: that of
//! most runs, or a chosen model. Of a method's runs there, those count that had their cores to themselves; where none had, the
//! busy ones count and are marked.

use std::collections::{BTreeMap, BTreeSet};

use record::RunRecord;
use serde::Serialize;

use crate::format;

/// What stands behind a time that was measured while other work kept cores busy.
pub const MARK: &str = "*";

/// A processor model and the number of threads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Machine {
    /// Processor model.
    pub processor: String,
    /// Threads used for computing.
    pub threads: usize,
}

impl Machine {
    fn of(record: &RunRecord) -> Self {
        Self {
            processor: record.circumstances.processor.clone(),
            threads: record.circumstances.threads,
        }
    }

    /// In words.
    pub fn name(&self) -> String {
        let threads = format::plural(self.threads, "thread");
        format!("{}, {threads}", format::visible(&self.processor))
    }

    /// Whether this machine made a run.
    pub fn made(&self, record: &RunRecord) -> bool {
        *self == Self::of(record)
    }
}

/// The hour in which a run started. What was measured in one hour is one sitting of the machine.
pub(crate) fn sitting(record: &RunRecord) -> &str {
    let started = &record.circumstances.started;
    started.get(..13).unwrap_or(started)
}

/// The machines of the runs that ended well, with the number of their runs, most first.
fn machines<'a>(records: impl Iterator<Item = &'a RunRecord>) -> Vec<(Machine, usize)> {
    let mut counts: BTreeMap<Machine, usize> = BTreeMap::new();
    for record in records.filter(|r| r.cost.is_some()) {
        *counts.entry(Machine::of(record)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts
}

/// Whose costs count in a comparison or a study.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CostsOn {
    /// The machine; absent where no run ended well, or none on the chosen model.
    pub machine: Option<Machine>,
    /// What a reader has to know of it.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// Ids of the records whose costs count.
    #[serde(skip)]
    counted: BTreeSet<String>,
}

impl CostsOn {
    /// Of trials, each with its runs; `model` is a part of the processor's name that is to be chosen.
    pub fn of(trials: &[Vec<&RunRecord>], model: Option<&str>) -> Self {
        let all = || trials.iter().flatten().copied();
        let found = machines(all());
        let chosen = |m: &Machine| {
            model.is_none_or(|model| m.processor.to_lowercase().contains(&model.to_lowercase()))
        };
        let mut known = found.iter().map(|(m, _)| m);
        let machine = known.find(|m| chosen(m)).cloned();
        let mut notes = Vec::new();
        if found.len() > 1 || (machine.is_none() && !found.is_empty()) {
            let listed = found
                .iter()
                .map(|(m, n)| format!("{} ({})", m.name(), format::plural(*n, "run")));
            let listed = listed.collect::<Vec<_>>().join("; ");
            notes.push(match &machine {
                Some(machine) => format!(
                    "Runs were made on different machines or with different numbers of threads: {listed}. Times, memory and \
                     latencies are those of {} only; --costs-on MODEL chooses another.",
                    machine.name()
                ),
                None => format!(
                    "No run was made on a processor whose name holds '{}', so there are no times, memory and latencies; runs \
                     were made on: {listed}.",
                    model.unwrap_or_default()
                ),
            });
        }
        let (mut counted, mut busy) = (BTreeSet::new(), Vec::new());
        for trial in trials {
            let made = |r: &RunRecord| machine.as_ref().is_some_and(|m| m.made(r));
            let mut here = trial.clone();
            here.retain(|r| r.cost.is_some() && made(r));
            if here.iter().any(|r| !r.circumstances.busy()) {
                here.retain(|r| !r.circumstances.busy());
            } else {
                busy.extend(here.iter().filter_map(|r| r.circumstances.load));
            }
            counted.extend(here.iter().map(|r| r.id.clone()));
        }
        if let Some(most) = busy.iter().copied().reduce(f64::max) {
            notes.push(format!(
                "{MARK} Measured while other work kept cores of the machine busy (up to {most:.1} beside the run): these times are \
                 longer than those of an idle machine."
            ));
        }
        Self {
            machine,
            notes,
            counted,
        }
    }

    /// Whether the costs of a run count.
    pub fn counts(&self, record: &RunRecord) -> bool {
        self.counted.contains(&record.id)
    }

    /// Whether what counts of these runs was measured on a busy machine.
    pub fn busy(&self, records: &[&RunRecord]) -> bool {
        let mut counted = records.iter().filter(|r| self.counts(r));
        counted.any(|r| r.circumstances.busy())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Comparison, sample::Sample, tables};

    /// Runs of two methods on two processors, the second ones twice as fast.
    fn mixed() -> Vec<RunRecord> {
        let on = |processor: &str, load: f64, sample: Sample| {
            sample
                .with(|r| {
                    r.circumstances.processor = processor.into();
                    r.circumstances.load = Some(load);
                })
                .record()
        };
        let run = |method: &str, seed: u64, seconds: f64| {
            Sample::new(method).seed(seed).training_seconds(seconds)
        };
        vec![
            on("Old CPU", 0.01, run("lora", 0, 100.0)),
            on("Old CPU", 1.0, run("lora", 1, 170.0)),
            on("New CPU", 0.0, run("lora", 2, 50.0)),
            on("Old CPU", 0.8, run("full", 0, 300.0)),
            on("New CPU", 0.0, run("full", 1, 150.0)),
        ]
    }

    fn times(comparison: &Comparison) -> Vec<(String, Vec<f64>, bool)> {
        let rows = comparison.rows.iter();
        rows.map(|r| {
            let values = r.training_seconds.as_ref().map(|s| s.values.clone());
            (r.label.clone(), values.unwrap_or_default(), r.busy)
        })
        .collect()
    }

    #[test]
    fn costs_are_those_of_one_machine_and_of_quiet_runs_where_there_are_any() {
        let comparison = Comparison::from_records(&mixed()).remove(0);
        let mut found = times(&comparison);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            found,
            [
                ("full".to_owned(), vec![300.0], true),
                ("lora".to_owned(), vec![100.0], false),
            ]
        );
        // All seeds count for quality.
        assert!(
            comparison
                .rows
                .iter()
                .all(|r| r.metric.as_ref().unwrap().values.len() >= 2)
        );
        let notes = comparison.notes.join("\n");
        assert!(
            notes.contains("Old CPU, 2 threads (3 runs); New CPU, 2 threads (2 runs)"),
            "{notes}"
        );
        assert!(notes.contains("up to 0.8 beside"), "{notes}");
    }

    #[test]
    fn a_time_from_a_busy_machine_is_marked_in_every_table() {
        let comparison = Comparison::from_records(&mixed()).remove(0);
        for text in [
            tables::terminal(&comparison, 200, false),
            tables::markdown(&comparison),
            tables::latex(&comparison),
        ] {
            assert!(
                text.contains("5 min 00 s*") || text.contains("5 min 00 s\\*"),
                "{text}"
            );
        }
        let table = tables::json(&comparison)["table"].clone();
        let busy = table
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["busy"] == true);
        assert_eq!(busy.count(), 1, "{table}");
    }

    #[test]
    fn a_model_is_chosen_by_a_part_of_its_name_and_an_unknown_one_is_said() {
        let on = |model| {
            let judging = crate::Judging::default().with_costs_on(Some(model));
            Comparison::judged(mixed(), &judging).remove(0)
        };
        let mut found = times(&on("new"));
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!((&found[0].1, &found[1].1), (&vec![150.0], &vec![50.0]));
        let none = on("EPYC");
        assert!(times(&none).iter().all(|(_, values, _)| values.is_empty()));
        assert!(
            none.notes
                .iter()
                .any(|n| n.contains("'EPYC'") && n.contains("Old CPU")),
            "{:?}",
            none.notes
        );
    }
}
