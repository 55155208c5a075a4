//! A data set in memory: examples with what is true of them, in three splits.

use std::{collections::BTreeMap, path::PathBuf};

use sha2::{Digest, Sha256};

use crate::{
    Completion, Error, Metric, Objective, Result, Split, Target, Words, group, hex,
    meaning::OUTSIDE, split,
};

/// A row of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The text, or the first of two; where each word has a tag, the words, one on each line.
    pub text: String,
    /// The second text.
    pub pair: Option<String>,
    /// What is true of it; `None` where that is hidden.
    pub label: Option<Target>,
}

/// The words of an example whose words have tags.
pub fn split_words(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
}

/// A text as it is tokenised: without white space around it where the data set or the task says so. Training, evaluation
/// and prediction all take their texts through this.
pub fn text_of(text: &str, strip: bool) -> &str {
    if strip { text.trim() } else { text }
}

/// A data set in memory.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// What is predicted.
    pub objective: Objective,
    /// Names of the classes or tags; an example's label is an index into them. None for a number or a text.
    pub labels: Vec<String>,
    /// How it is judged, the main metric first.
    pub metrics: Vec<Metric>,
    /// Splits that had no file and were taken out of the training rows by hash of the text.
    pub made: Vec<Split>,
    /// Rows left out because their rating is on the threshold.
    pub dropped: usize,
    /// Rows left out because they have no text or no label.
    pub dropped_missing: usize,
    /// Whether white space around texts was cut off: what saved weights have to keep, see [`text_of`].
    pub strip: bool,
    /// With what a language model is asked for the class.
    pub words: Option<Words>,
    /// What completions are written behind, and how long they may be.
    pub completion: Option<Completion>,
    /// The longest text in tokens, in place of the recipe's own.
    pub max_tokens: Option<usize>,
    /// What was done to the rows and has to be said.
    pub notes: Vec<String>,
    pub(crate) splits: BTreeMap<Split, Vec<Example>>,
    /// The group of each training example, where a column says it.
    pub(crate) groups: Option<Vec<String>>,
    pub(crate) parts: bool,
    /// The file of the training rows and its column of labels.
    pub(crate) labelled: (PathBuf, String),
}

impl Dataset {
    /// The examples of a split, in the order of the file. Every training and validation example has a label; of a test
    /// split all have or none has. A test split may be empty.
    pub fn split(&self, split: Split) -> &[Example] {
        self.splits.get(&split).map_or(&[], Vec::as_slice)
    }

    /// Whether its examples are pairs of texts.
    pub fn has_pairs(&self) -> bool {
        let first = self.splits.values().flatten().next();
        first.is_some_and(|example| example.pair.is_some())
    }

    /// Whether there is something to learn from it.
    ///
    /// # Errors
    /// If all training examples have one label, the same number or the same classes, or no word of them is of an entity.
    pub fn check_trainable(&self) -> Result<()> {
        let train = self.split(Split::Train).iter();
        let mut targets = train.filter_map(|e| e.label.as_ref());
        let Some(first) = targets.next() else {
            return Ok(());
        };
        let name = |label: &u32| self.labels[*label as usize].as_str();
        let no_entity = |target: &Target| target.labels().iter().all(|tag| name(tag) == OUTSIDE);
        let constant = match first {
            Target::Tags(_) => no_entity(first) && targets.all(no_entity),
            // One text may be the answer to everything.
            Target::Text(_) => false,
            _ => targets.all(|target| target == first),
        };
        if !constant {
            return Ok(());
        }
        let what = match first {
            Target::Class(only) => format!(
                "all rows for training have the label '{}'; a classifier needs at least two classes",
                name(only)
            ),
            Target::Number(only) => format!(
                "all rows for training have the number {only}; there is nothing to learn from it"
            ),
            Target::Classes(_) => {
                let own = first.labels();
                let own: Vec<&str> = own.iter().map(name).collect();
                format!(
                    "all rows for training have the same classes ({}); there is nothing to learn from them",
                    if own.is_empty() {
                        "none".to_owned()
                    } else {
                        own.join(", ")
                    }
                )
            }
            Target::Tags(_) | Target::Text(_) => format!(
                "every word for training has the tag {OUTSIDE}; without an entity there is nothing to find"
            ),
        };
        Err(Error::Constant {
            dataset: self.name.clone(),
            path: self.labelled.0.clone(),
            column: self.labelled.1.clone(),
            what,
        })
    }

    /// Indices of the training examples that stay, and of those held out: about `fraction` of them (0 … 1), by hash and
    /// independent of how splits were made. Examples of one group are on one side.
    pub fn hold_out(&self, fraction: f64) -> (Vec<u32>, Vec<u32>) {
        let train = self.split(Split::Train);
        let parts = self.parts.then(|| group::parts(train));
        let groups = parts.as_deref().or(self.groups.as_deref());
        split::hold_out(train, groups, fraction)
    }

    /// SHA-256 over labels, texts and their classes of the training and validation splits, which is what a run depends
    /// on, in hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for name in &self.labels {
            part(name.as_bytes());
        }
        for split in [Split::Train, Split::Validation] {
            part(split.name().as_bytes());
            for example in self.split(split) {
                part(example.text.as_bytes());
                part(example.pair.as_deref().unwrap_or_default().as_bytes());
                let hidden = || u32::MAX.to_le_bytes().into();
                part(&example.label.as_ref().map_or_else(hidden, Target::bytes));
            }
        }
        if !self.objective.is_classification() {
            part(self.objective.name().as_bytes());
        }
        hex(&hash.finalize())
    }
}
