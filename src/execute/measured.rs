//! What records tell of runs to come: how long they take, how much memory and how large their weights are.
//!
//! A run costs about as much as one that did the same work: over the same backbone, its weights stored the same way, for the
//! same objective, on the same data by the same recipe. What of these may differ depends on what is asked: a time limit that
//! is too short stops runs for nothing, so other data tell nothing of it; before a comparison a rough sum is better than
//! none, so runs on other data count by the examples that they read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use record::{Asked, Head, head::CostHead, store};

use super::planned::Planned;
use crate::{folders, measure, train::encoded::judged};

/// What makes runs cost alike.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Work {
    backbone: String,
    precision: Option<String>,
    objective: String,
    data: String,
    recipe: String,
    method: String,
    variant: String,
}

impl Work {
    fn of(asked: &Asked) -> Self {
        Self {
            backbone: asked.backbone.digest.clone(),
            precision: asked.backbone.precision.clone(),
            objective: asked.dataset.objective.clone(),
            data: asked.dataset.digest.clone(),
            recipe: asked.recipe.to_string(),
            method: asked.method.name.clone(),
            variant: asked.method.variant.clone(),
        }
    }

    /// Whether an example of a given length is the same work.
    fn same_model(&self, other: &Self) -> bool {
        self.backbone == other.backbone
            && self.precision == other.precision
            && self.objective == other.objective
    }

    fn same_recipe(&self, other: &Self) -> bool {
        self.same_model(other) && self.recipe == other.recipe
    }

    fn same_data(&self, other: &Self) -> bool {
        self.same_recipe(other) && self.data == other.data
    }

    fn same_method(&self, other: &Self) -> bool {
        self.same_data(other) && self.method == other.method
    }

    fn same_variant(&self, other: &Self) -> bool {
        self.same_method(other) && self.variant == other.variant
    }
}

/// How near a run is, nearest first.
type Near = fn(&Work, &Work) -> bool;
/// What a time limit may follow from.
const FOR_TIME: [Near; 3] = [Work::same_variant, Work::same_method, Work::same_data];
/// What tells of memory: on other data, too.
const FOR_MEMORY: [Near; 4] = [
    Work::same_variant,
    Work::same_method,
    Work::same_data,
    Work::same_recipe,
];

/// What a run cost that has ended.
struct RunCost {
    cost: CostHead,
    threads: usize,
    /// Examples that it read.
    examples: f64,
}

/// Costs of runs that have ended.
#[derive(Default)]
pub struct Measured(BTreeMap<Work, Vec<RunCost>>);

impl Measured {
    /// What the records in the folders of these runs, and in one more, tell.
    ///
    /// # Errors
    /// If records cannot be read.
    pub fn of(planned: &[Planned], more: Option<&Path>) -> Result<Self> {
        let mut folders: Vec<_> = planned
            .iter()
            .map(|run| folders::records_folder(&run.plan.out))
            .chain(more.map(Path::to_owned))
            .collect();
        folders.sort();
        folders.dedup();
        Self::in_folders(&folders, |_| true)
    }

    /// What the records in these folders tell that were made on a processor of this machine's model.
    ///
    /// # Errors
    /// If records cannot be read.
    pub fn on_this_machine(folders: &[PathBuf]) -> Result<Self> {
        let processor = measure::circumstances(None).processor;
        Self::in_folders(folders, |head| head.circumstances.processor == processor)
    }

    fn in_folders(folders: &[PathBuf], counts: impl Fn(&Head) -> bool) -> Result<Self> {
        let mut measured = Self::default();
        for folder in folders {
            for head in store::heads(folder)?.iter().filter(|head| counts(head)) {
                measured.add(head);
            }
        }
        Ok(measured)
    }

    fn add(&mut self, head: &Head) {
        if let Some(cost) = head.cost {
            let ended = RunCost {
                cost,
                threads: head.circumstances.threads,
                examples: examples(&head.asked),
            };
            self.0.entry(Work::of(&head.asked)).or_default().push(ended);
        }
    }

    /// The largest of what the nearest runs gave; `None` where no run is near enough.
    fn most(
        &self,
        asked: &Asked,
        near: &[Near],
        of: impl Fn(&RunCost) -> Option<f64>,
    ) -> Option<f64> {
        let wanted = Work::of(asked);
        near.iter().find_map(|near| {
            let known = self.0.iter().filter(|(known, _)| near(known, &wanted));
            let ended = known.flat_map(|(_, ended)| ended);
            ended.filter_map(&of).reduce(f64::max)
        })
    }

    /// Seconds that a run may be expected to take on so many cores: as many as the longest of those most like it. One that was
    /// made on more cores is expected to take as much longer as it had more.
    pub fn seconds(&self, asked: &Asked, cores: usize) -> Option<f64> {
        self.most(asked, &FOR_TIME, |ended| {
            let slower = ended.threads as f64 / cores.max(1) as f64;
            Some(ended.cost.seconds() * slower.max(1.0))
        })
    }

    /// Peak memory of a run, in bytes.
    pub fn memory(&self, asked: &Asked) -> Option<f64> {
        self.most(asked, &FOR_MEMORY, |ended| {
            ended.cost.peak_memory_bytes.map(|b| b as f64)
        })
    }

    /// Seconds, and bytes of weights, of a run, roughly: means over runs of the same method, on the same data where there are any,
    /// else on any, each by the examples that it read.
    pub fn roughly(&self, asked: &Asked) -> Option<(f64, f64)> {
        let (wanted, examples) = (Work::of(asked), examples(asked));
        let alike = || {
            let same = |known: &Work| known.same_model(&wanted) && known.method == wanted.method;
            self.0.iter().filter(move |(known, _)| same(known))
        };
        let nearer = alike().any(|(known, _)| known.data == wanted.data);
        let runs = alike().filter(|(known, _)| !nearer || known.data == wanted.data);
        let (mut seconds, mut bytes) = (Vec::new(), Vec::new());
        for ended in runs.flat_map(|(_, ended)| ended) {
            let cost = &ended.cost;
            let busy = cost.training_seconds + cost.evaluation_seconds;
            let share = examples / ended.examples.max(1.0);
            seconds.push(cost.seconds_to_first_step + busy * share);
            bytes.push(cost.file_bytes as f64);
        }
        Some((statistics::mean(&seconds)?, statistics::mean(&bytes)?))
    }
}

/// Examples that a run reads: trained on, and evaluated. A step goes forth and back, which is three passes.
fn examples(asked: &Asked) -> f64 {
    let number = |key: &str, absent: f64| {
        let value = asked.recipe.get(key).and_then(serde_json::Value::as_f64);
        value.unwrap_or(absent)
    };
    let evaluations = number("evaluations", 1.0) as usize;
    3.0 * number("steps", 0.0) * number("batch", 32.0)
        + judged(evaluations, asked.dataset.validation_examples) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;

    /// A run with one second before its first step and five of evaluations.
    fn run(method: &str, seed: u64, seconds: f64) -> Sample {
        Sample::new(method).seed(seed).with(|r| {
            let cost = r.cost.as_mut().unwrap();
            cost.training_seconds = seconds;
            cost.evaluation_seconds = 5.0;
            cost.seconds_to_first_step = 1.0;
        })
    }

    fn known(runs: &[(&str, u64, f64)]) -> Measured {
        let mut measured = Measured::default();
        for &(method, seed, seconds) in runs {
            measured.add(&Head::from(&run(method, seed, seconds).record()));
        }
        measured
    }

    fn asked(method: &str) -> Asked {
        run(method, 9, 0.0).record().asked
    }

    #[test]
    fn a_run_takes_as_long_as_the_longest_of_those_most_like_it() {
        let measured = known(&[("lora", 0, 60.0), ("lora", 1, 70.0), ("full", 0, 300.0)]);
        assert_eq!(measured.seconds(&asked("lora"), 2), Some(76.0));
        assert_eq!(
            measured.seconds(&asked("ia3"), 2),
            Some(306.0),
            "one of any method"
        );
        let mut other = asked("lora");
        other.method.variant = "rank=64".into();
        assert_eq!(
            measured.seconds(&other, 2),
            Some(76.0),
            "one of the same method"
        );
        assert_eq!(measured.memory(&asked("lora")), Some(500_000_000.0));
    }

    #[test]
    fn a_limit_never_follows_from_another_backbone_precision_objective_data_set_or_recipe() {
        let measured = known(&[("lora", 0, 60.0)]);
        let changes: [fn(&mut Asked); 5] = [
            |a| a.backbone.digest = "c".repeat(64),
            |a| a.backbone.precision = Some("bf16".into()),
            |a| a.dataset.objective = "tokens".into(),
            |a| a.dataset.digest = "e".repeat(64),
            |a| a.recipe = serde_json::json!({"batch": 32, "steps": 5000}),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut other = asked("lora");
            change(&mut other);
            assert_eq!(measured.seconds(&other, 2), None, "{i}");
            // On other data a run takes about as much memory.
            assert_eq!(measured.memory(&other).is_some(), i == 3, "{i}");
            assert_eq!(measured.roughly(&other).is_some(), i >= 3, "{i}");
        }
    }

    #[test]
    fn on_fewer_cores_than_the_record_had_threads_a_run_is_given_as_much_longer() {
        // Made with two threads.
        let measured = known(&[("lora", 0, 60.0)]);
        assert_eq!(measured.seconds(&asked("lora"), 1), Some(132.0));
        assert_eq!(measured.seconds(&asked("lora"), 8), Some(66.0));
    }

    #[test]
    fn before_a_comparison_runs_of_the_same_data_count_and_others_only_without_them() {
        let mut measured = known(&[("lora", 0, 55.0)]);
        let (seconds, _) = measured.roughly(&asked("lora")).unwrap();
        assert!((seconds - 61.0).abs() < 1e-9, "{seconds}");
        // Twice the steps, and so about twice the examples.
        let mut longer = asked("lora");
        longer.recipe["steps"] = 1000.into();
        let (seconds, _) = measured.roughly(&longer).unwrap();
        assert!((seconds - 121.0).abs() < 0.1, "{seconds}");
        let elsewhere = run("lora", 0, 955.0).with(|r| r.asked.dataset.digest = "e".repeat(64));
        measured.add(&Head::from(&elsewhere.record()));
        let (seconds, _) = measured.roughly(&asked("lora")).unwrap();
        assert!((seconds - 61.0).abs() < 1e-9, "{seconds}");
        assert_eq!(measured.roughly(&asked("full")), None);
    }
}
