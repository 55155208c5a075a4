//! The stored facts of a run.
//!
//! A record has four parts: what was **asked** (everything that determines the run; its digest names
//! the file), the **outcome** (equal bit for bit when the same run is repeated on the same machine),
//! the **cost** (times and memory, which vary), and the **circumstances** (versions and machine).
//! Ratios, means and ranks are never stored: the report derives them.

#![forbid(unsafe_code)]

pub mod answers;
pub mod error;
pub mod files;
pub mod head;
mod record_file;
mod rows;
mod sound;
pub mod store;

#[cfg(test)]
extern crate self as record;
#[cfg(test)]
#[path = "../../reports/tests/support/sample.rs"]
mod sample;

pub use error::{Error, Result};
pub use files::write_whole;
pub use head::Head;
pub use rows::Rows;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the record format; a reader refuses a record with another one.
pub const FORMAT: u32 = 1;

/// One run: one method, trained on one data set over one backbone with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Always [`FORMAT`].
    pub format: u32,
    /// First 16 hexadecimal digits of the SHA-256 of [`Asked`]; also the file's name.
    pub id: String,
    /// How the run ended.
    pub status: Status,
    /// Everything that determines the run.
    pub asked: Asked,
    /// Under what circumstances it ran.
    pub circumstances: Circumstances,
    /// What the registry says of the method, for showing it; absent in records of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What it cost; absent unless the run ended well.
    pub cost: Option<Cost>,
    /// What came out; absent unless the run ended well. It is long, so it stands last: see [`head`].
    pub outcome: Option<Outcome>,
}

/// What the registry says of a method, so that reports need no list of methods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Its family, which has a colour: `prompt`, `lora`, `adapter`, `selective`, `combined`, `whole`, `head`, or `floor` for
    /// what shows where the bottom is and is never recommended.
    pub family: String,
    /// Its number in the family, which has a mark.
    pub member: usize,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Status {
    /// Trained to the last step and evaluated.
    Ok,
    /// The loss or a gradient stopped being finite.
    Diverged {
        /// Step at which it happened, counted from 1.
        step: usize,
        /// What was not finite, with the variable's name.
        reason: String,
    },
    /// An error ended the run.
    Failed {
        /// The whole error chain.
        error: String,
    },
    /// The user or the system stopped it.
    Interrupted,
}

impl Status {
    /// Whether the run came to its end, so that making it again would give the same: it ended well, or diverged.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Ok | Self::Diverged { .. })
    }

    /// In a word, as in its JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Diverged { .. } => "diverged",
            Self::Failed { .. } => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Everything that determines a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The data.
    pub dataset: DatasetFacts,
    /// The frozen transformer.
    pub backbone: BackboneFacts,
    /// The method with its resolved configuration.
    pub method: MethodFacts,
    /// The recipe that all methods share, resolved (batch, steps, schedule, optimiser, evaluation).
    pub recipe: serde_json::Value,
    /// Seed of every random stream of the run.
    pub seed: u64,
    /// `fast` or `reference`: which implementation of the operations ran.
    pub op_path: String,
    /// Versions of the code that decides the numbers: of crates (`kernels`, `backbone`, …) and of the method, under its
    /// name. They grow when the same question would get other bits. Empty in records of before they were kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numerics: BTreeMap<String, u32>,
}

/// The data set as it was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFacts {
    /// Name of the data set that was read.
    pub name: String,
    /// Name of the data set that the user asked for, where that was not found.
    pub stand_in_for: Option<String>,
    /// SHA-256 over the texts and labels of the splits in use.
    pub digest: String,
    /// Label names in the order of their indices.
    pub labels: Vec<String>,
    /// Examples in the training split.
    pub train_examples: usize,
    /// Examples in the validation split.
    pub validation_examples: usize,
    /// Name of the metric that ranks methods on this data set, e.g. `accuracy`.
    pub main_metric: String,
    /// What is predicted: `classification`, `multi_label`, `regression`, `tokens` or `completion`. Records of before it was kept are of
    /// classification, whose records do not name it.
    #[serde(default = "classification", skip_serializing_if = "is_classification")]
    pub objective: String,
    /// Training examples that were longer than what the run reads (the recipe's `max_tokens`, the backbone's positions, for completions
    /// `max_new_tokens`) and were cut.
    pub truncated: usize,
}

/// The objective of records that name none.
pub const CLASSIFICATION: &str = "classification";

fn classification() -> String {
    CLASSIFICATION.to_owned()
}

fn is_classification(objective: &String) -> bool {
    objective == CLASSIFICATION
}

/// The frozen transformer as it was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneFacts {
    /// Name in the registry or the folder's name.
    pub name: String,
    /// SHA-256 over the weights.
    pub digest: String,
    /// `bert`, `roberta` or `distilbert`.
    pub architecture: String,
    /// Number of layers L.
    pub layers: usize,
    /// Hidden size H.
    pub hidden: usize,
    /// All parameters, embeddings included.
    pub parameters: usize,
    /// How an example's vector is read: `mean`, `cls` or `pooler`.
    pub pooling: String,
    /// How its weights are stored and multiplied, where that is not f32: `bf16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
}

impl BackboneFacts {
    /// Its name, with the precision where that is not f32: `minilm (bf16)`.
    pub fn label(&self) -> String {
        match &self.precision {
            Some(precision) => format!("{} ({precision})", self.name),
            None => self.name.clone(),
        }
    }
}

/// The method as it was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodFacts {
    /// Name in the registry, e.g. `lora`.
    pub name: String,
    /// What distinguishes this configuration from the method's defaults, e.g. `rank=4`; empty for the defaults.
    pub variant: String,
    /// The resolved configuration.
    pub config: serde_json::Value,
    /// The search that found the configuration; absent for one that was given (defaults or overrides).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<Tuned>,
}

/// The search that found a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// Configurations that were tried, the same number for every method.
    pub trials: usize,
    /// What they were judged by, in words, e.g. `10 % of the training split`. Never the validation split.
    pub judged_by: String,
}

/// What came out of a run, equal bit for bit when the run is repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Parameter counts.
    pub parameters: Parameters,
    /// SHA-256 of the order of examples.
    pub order_digest: String,
    /// SHA-256 of the head as it was initialised.
    pub head_digest: String,
    /// Training loss of every step.
    pub loss: Vec<f32>,
    /// Validation results on the way, in order of steps; the last entry is the final one.
    pub evaluations: Vec<Evaluation>,
    /// Predictions on the validation split after the last step.
    pub predictions: Predictions,
    /// What was checked in the run itself; a record with a failed check is invalid.
    pub checks: Vec<Check>,
}

/// Parameter counts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Trained by the method itself.
    pub method: usize,
    /// Trained in the head.
    pub head: usize,
    /// In the backbone, trained or not.
    pub backbone: usize,
    /// Written by the method into its file (can differ from `method`: prefix tuning drops its MLP). Head apart.
    pub shipped: usize,
}

/// Validation results at one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Optimiser steps done.
    pub step: usize,
    /// Mean loss: of classes, tags and tokens that are written the cross-entropy, of numbers the squared error over their variance in training.
    pub loss: f64,
    /// Metric values by name (`accuracy`, `f1`, `matthews`), as fractions.
    pub metrics: BTreeMap<String, f64>,
    /// Predicted labels as [`answers`] writes them; empty in older records, and where a prediction is no label.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub predicted: String,
    /// How many examples were judged; absent for all of them, as after the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<usize>,
}

/// Predictions on the validation split, in the order of the split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predictions {
    /// True label indices of classification; empty for other objectives.
    pub labels: Vec<u32>,
    /// C logits per example of classification; empty for other objectives.
    pub logits: Rows<f32>,
    /// What is true of each example, for other objectives than classification: its number; 0 or 1 for each class; the index of
    /// each word's tag.
    #[serde(default, skip_serializing_if = "Rows::is_empty")]
    pub targets: Rows<f64>,
    /// What is predicted of each example, for other objectives than classification: the number; the logit of each class; the
    /// index of each word's tag.
    #[serde(default, skip_serializing_if = "Rows::is_empty")]
    pub outputs: Rows<f64>,
    /// What is written behind each prompt, for completions only: no other record holds texts of the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<Written>,
}

/// What a run writes behind a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The prompt, as it was read.
    pub prompt: String,
    /// The completions that the data has for it, at least one.
    pub references: Vec<String>,
    /// What the run writes.
    pub text: String,
}

impl Predictions {
    /// Number of examples; of completions, of different prompts.
    pub fn len(&self) -> usize {
        let others = self.targets.len().max(self.texts.len());
        self.labels.len().max(others)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One check made in the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Short name, e.g. `merged_equals_unmerged`.
    pub name: String,
    /// Whether it held.
    pub passed: bool,
    /// What was measured, in words, e.g. `largest difference of logits 3.1e-7`.
    pub detail: String,
}

/// Times and memory of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Seconds of training steps, evaluation excluded.
    pub training_seconds: f64,
    /// Examples trained on, repetitions counted.
    pub examples: usize,
    /// Real tokens trained on (no virtual tokens), repetitions counted.
    pub tokens: usize,
    /// Seconds of all evaluations together.
    pub evaluation_seconds: f64,
    /// Seconds from the start of the process to the end of the first step.
    pub seconds_to_first_step: f64,
    /// Peak resident memory of the process up to the end of training, in bytes; absent where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Size of the method's saved weights (head included), in bytes.
    pub file_bytes: u64,
    /// Memory that the loaded weights take beside the backbone, head included, in bytes; absent in older records.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
    /// Inference latencies.
    pub latency: Vec<Latency>,
    /// Seconds of each training step.
    pub step_seconds: Vec<f32>,
}

/// Latency of one forward pass in one setting, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// `unmerged`; `merged`; `mixed_4` or `mixed_16` (the batch belongs to so many tasks of this method); `backbone` (no
    /// method at all) and `backbone_again` (the same once more: what the two differ by is noise).
    pub variant: String,
    /// Examples in the batch.
    pub batch: usize,
    /// Tokens per example; absent when real validation sentences were used.
    pub length: Option<usize>,
    /// Timed passes.
    pub samples: usize,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// Under what circumstances a run was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Circumstances {
    /// Start of the run, RFC 3339, UTC; `unknown` where the clock was out of range. Nothing is decided by it.
    pub started: String,
    /// Names the claim under which the run was made; absent in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Version of peftbench.
    pub version: String,
    /// Revision of its source, with `-dirty` where it had uncommitted changes; absent outside a checkout.
    pub revision: Option<String>,
    /// Processor model.
    pub processor: String,
    /// Threads used for computing.
    pub threads: usize,
    /// Cores that other work of the machine kept busy during the run, on average; absent where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// The scheduler's name of the task that made the run, e.g. `slurm 4711_3`; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Operating system and architecture, e.g. `linux-x86_64`.
    pub system: String,
    /// Versions of the libraries that decide the numbers, by name.
    pub libraries: BTreeMap<String, String>,
}

/// Share of a run's threads that other work may keep busy before the run's times count as measured on a busy machine.
const BUSY: f64 = 0.1;

impl Circumstances {
    /// Whether other work of the machine kept more than a tenth as many cores busy as the run had threads.
    pub fn busy(&self) -> bool {
        self.load
            .is_some_and(|load| load > BUSY * self.threads as f64)
    }
}
