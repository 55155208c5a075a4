//! What records tell of runs to come: how long they take, and how much memory.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use record::{Asked, Head, head::CostHead, store};

use super::planned::Planned;
use crate::folders;

/// Costs of runs that have ended, by what makes other runs cost about the same.
#[derive(Default)]
pub struct Measured {
    /// By backbone and recipe, then by method and variant.
    known: BTreeMap<[String; 2], BTreeMap<[String; 2], Vec<CostHead>>>,
}

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
        let mut measured = Self::default();
        for folder in folders {
            for head in store::heads(&folder)? {
                measured.add(&head);
            }
        }
        Ok(measured)
    }

    fn add(&mut self, head: &Head) {
        if let Some(cost) = head.cost {
            let conditions = [
                head.asked.backbone.digest.clone(),
                head.asked.recipe.to_string(),
            ];
            let method = [
                head.asked.method.name.clone(),
                head.asked.method.variant.clone(),
            ];
            let like = self
                .known
                .entry(conditions)
                .or_default()
                .entry(method)
                .or_default();
            like.push(cost);
        }
    }

    /// The largest of what the runs most like this one gave: of the same method and variant, else of the same method, else
    /// of any, over the same backbone by the same recipe. `None` where there are none.
    fn most(&self, asked: &Asked, of: fn(&CostHead) -> Option<f64>) -> Option<f64> {
        let conditions = [asked.backbone.digest.clone(), asked.recipe.to_string()];
        let known = self.known.get(&conditions)?;
        let largest = |same: &dyn Fn(&[String; 2]) -> bool| {
            let like = known.iter().filter(|(method, _)| same(method));
            like.flat_map(|(_, costs)| costs)
                .filter_map(of)
                .reduce(f64::max)
        };
        largest(&|m| m[0] == asked.method.name && m[1] == asked.method.variant)
            .or_else(|| largest(&|m| m[0] == asked.method.name))
            .or_else(|| largest(&|_| true))
    }

    /// Seconds of a run.
    pub fn seconds(&self, asked: &Asked) -> Option<f64> {
        self.most(asked, |cost| Some(cost.seconds()))
    }

    /// Peak memory of a run, in bytes.
    pub fn memory(&self, asked: &Asked) -> Option<f64> {
        self.most(asked, |cost| cost.peak_memory_bytes.map(|b| b as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn a_run_takes_as_long_as_the_longest_of_those_most_like_it() {
        let mut measured = Measured::default();
        let record = |method: &str, seed: u64, seconds: f64| {
            Sample::new(method).seed(seed).with(|r| {
                if let Some(cost) = &mut r.cost {
                    cost.training_seconds = seconds;
                    cost.evaluation_seconds = 5.0;
                    cost.seconds_to_first_step = 1.0;
                }
            })
        };
        for (method, seed, seconds) in [("lora", 0, 60.0), ("lora", 1, 70.0), ("full", 0, 300.0)] {
            measured.add(&Head::from(&record(method, seed, seconds).record()));
        }
        let asked = |method: &str| record(method, 9, 0.0).record().asked;
        assert_eq!(measured.seconds(&asked("lora")), Some(76.0));
        assert_eq!(
            measured.seconds(&asked("ia3")),
            Some(306.0),
            "one of any method"
        );
        let mut other = asked("lora");
        other.method.variant = "rank=64".into();
        assert_eq!(
            measured.seconds(&other),
            Some(76.0),
            "one of the same method"
        );
        other.recipe = serde_json::json!({"batch": 32, "steps": 5000});
        assert_eq!(
            measured.seconds(&other),
            None,
            "another recipe tells nothing"
        );
        assert_eq!(measured.memory(&asked("lora")), Some(500_000_000.0));
    }
}
