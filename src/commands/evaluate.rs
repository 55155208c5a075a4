//! `evaluate`: metrics of saved weights on a split of a data set, or on all of it.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use datasets::{Dataset, Encoded, Example, Metric, Objective, Split, Target};
use reports::{format, table::Table};
use serde_json::json;
use statistics::{Counts, argmax};

use crate::{
    labels::{self, Matched},
    objective,
    output::terminal_width,
    plan::DataChoice,
    prepare::{Files, LoadedBackbone, LoadedData},
    texts::{self, Texts},
    train::model::Model,
    weights::{self, SavedConfig, Task},
};

/// All splits.
const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

/// Which examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Training examples.
    Train,
    /// Validation examples.
    Validation,
    /// Test examples.
    Test,
    /// The examples of all splits that have labels.
    All,
}

impl Part {
    fn splits(self) -> &'static [Split] {
        match self {
            Self::Train => &[Split::Train],
            Self::Validation => &[Split::Validation],
            Self::Test => &[Split::Test],
            Self::All => &SPLITS,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            one => one.splits()[0].name(),
        }
    }
}

/// `evaluate`.
///
/// # Errors
/// On bad input.
pub fn evaluate(
    folder: &Path,
    data: &DataChoice,
    part: Part,
    backbone: Option<&str>,
    offline: bool,
    json: bool,
) -> Result<ExitCode> {
    let config = weights::read_config(folder)?;
    let files = Files::new(offline)?;
    let loaded = weights::task_backbone(&files, &config, backbone)?;
    let data = files.data(data)?;
    let examples = examples(&data, part)?;
    if let Some(note) = trained_on(&config, &data.dataset, part) {
        eprintln!("note: {}: {note}", folder.display());
    }
    let task = weights::load(folder, &loaded)?;
    ensure!(
        task.config.objective == data.dataset.objective,
        "{}: the objective of these weights is {}, but that of '{}' is {}{}",
        folder.display(),
        task.config.objective.name(),
        data.dataset.name,
        data.dataset.objective.name(),
        match data.dataset.objective.is_classification() {
            true => format!(
                "; --objective {} reads a file so",
                task.config.objective.name()
            ),
            false => String::new(),
        }
    );
    let run = Evaluated::new(folder, &data, &examples, &loaded, &task, files.cache())?;
    match data.dataset.objective.is_classification() {
        true => {
            let (names, counts) = run.counts(&data, &task)?;
            show(&data, part, &names, &counts, json)?;
        }
        false => run.show(&data, part, &*task.objective, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The examples of the part that have labels, and on standard error which rows they are where that is not plain.
fn examples(data: &LoadedData, part: Part) -> Result<Vec<Example>> {
    let dataset = &data.dataset;
    let labelled = |split: &Split| {
        let examples = dataset.split(*split);
        !examples.is_empty() && examples.iter().all(|e| e.label.is_some())
    };
    let usable: Vec<Split> = SPLITS.into_iter().filter(labelled).collect();
    let examples: Vec<Example> = part
        .splits()
        .iter()
        .filter(|split| usable.contains(split))
        .flat_map(|split| dataset.split(*split))
        .cloned()
        .collect();
    let accepted = usable.iter().map(|split| split.name()).chain(["all"]);
    ensure!(
        !examples.is_empty(),
        "data set '{}': its {} split has no examples whose labels are public; accepted for --split: {}",
        dataset.name,
        part.name(),
        accepted.collect::<Vec<_>>().join(", ")
    );
    for split in part.splits() {
        let count = dataset.split(*split).len();
        if count > 0 && !usable.contains(split) {
            eprintln!(
                "note: the labels of the {} split are not public; its {count} examples are left out",
                split.name()
            );
        }
    }
    let made = dataset
        .made
        .iter()
        .filter(|s| !dataset.split(**s).is_empty());
    let made: Vec<String> = made
        .map(|s| format!("{} for {}", dataset.split(*s).len(), s.name()))
        .collect();
    if part != Part::All && !made.is_empty() {
        let all: usize = usable.iter().map(|s| dataset.split(*s).len()).sum();
        eprintln!(
            "note: '{}': of its {all} rows, peftbench has set aside {}; evaluated here: {} ({}); --split all takes all \
             rows",
            dataset.name,
            made.join(" and "),
            examples.len(),
            part.name()
        );
    }
    Ok(examples)
}

/// What to say where the examples are those that the weights were trained on, or may be.
fn trained_on(config: &SavedConfig, data: &Dataset, part: Part) -> Option<String> {
    if !part.splits().contains(&Split::Train) {
        return None;
    }
    if config.data_digest.as_ref() == Some(&data.digest()) {
        let trained = data.split(Split::Train).len();
        return Some(format!(
            "trained on the training split of this data set: {trained} of the examples evaluated here are that split, so \
             that the numbers are better than on new texts; --split test has examples that training did not see"
        ));
    }
    (config.dataset == data.name).then(|| {
        format!(
            "trained on a data set that is also called '{}', but not on these splits of it: if rows of it are among these, \
             the numbers are better than on new texts",
            data.name
        )
    })
}

/// Outputs of saved weights for the examples, and how the data's classes are matched by name to those of the weights.
struct Evaluated {
    encoded: Encoded,
    outputs: Vec<Vec<f32>>,
    classes: Matched,
}

impl Evaluated {
    /// Runs the weights over the examples.
    ///
    /// # Errors
    /// If the data does not fit the weights.
    fn new(
        folder: &Path,
        data: &LoadedData,
        examples: &[Example],
        loaded: &LoadedBackbone,
        task: &Task,
        cache: &Path,
    ) -> Result<Self> {
        let dataset = &data.dataset;
        let classes = labels::matched(&task.config.labels, &dataset.labels)
            .with_context(|| format!("{} on '{}'", folder.display(), dataset.name))?;
        if let Some(note) = &classes.note {
            eprintln!("note: {}: {note}", folder.display());
        }
        let text = |text: &str| datasets::text_of(text, task.config.strip).to_owned();
        let examples: Vec<Example> = examples
            .iter()
            .map(|e| Example {
                text: text(&e.text),
                pair: e.pair.as_deref().map(text),
                label: e.label.clone(),
            })
            .collect();
        let (tokenizer, max) = (task.tokenizer(loaded), task.config.max_tokens);
        let encoded = match dataset.objective {
            Objective::Tokens => tokenizer.encode_tagged(&examples, max)?,
            _ => tokenizer.encode_cached(&examples, max, cache)?,
        };
        let mut texts = Texts::default();
        for example in &examples {
            texts.row(example.pair.is_some(), task.config.pairs);
        }
        texts.cut = encoded.truncated;
        let same = match dataset.objective {
            Objective::Completion => texts::same_prompts(encoded.same_prompts(&examples)),
            _ => None,
        };
        for note in texts.notes(Some(max)).into_iter().chain(same) {
            eprintln!("note: '{}': {note}", dataset.name);
        }
        let model = Model::new(&loaded.backbone, &*task.method, &task.head);
        Ok(Self {
            outputs: model.all_logits(&encoded).context("evaluating")?,
            encoded,
            classes,
        })
    }

    /// Predictions against the labels, in the order of the data's classes, then those that only the weights have. Of two
    /// classes the weights' order stays where the data has one of them: F1 is that of the second.
    fn counts(&self, data: &LoadedData, task: &Task) -> Result<(Vec<String>, Counts)> {
        if let ([class], [_, _]) = (&self.classes.classes[..], &task.config.labels[..]) {
            let predicted: Vec<u32> = self.outputs.iter().map(|row| argmax(row)).collect();
            let labels = vec![*class; predicted.len()];
            let names = task.config.labels.clone();
            return Ok((names, Counts::of(&labels, &predicted, 2)?));
        }
        let predicted: Vec<u32> = self
            .outputs
            .iter()
            .map(|row| argmax(&self.classes.in_order(row)))
            .collect();
        let labels = self.encoded.labels.iter().filter_map(Target::class);
        let labels: Vec<u32> = labels.collect();
        let mut names = data.dataset.labels.clone();
        let only_of_weights = (0..).zip(&task.config.labels);
        names.extend(
            only_of_weights
                .filter(|(class, _)| !self.classes.classes.contains(class))
                .map(|(_, name)| name.clone()),
        );
        let counts = Counts::of(&labels, &predicted, names.len())?;
        Ok((names, counts))
    }

    /// Prints the metrics and how well each class or type is found.
    fn show(
        mut self,
        data: &LoadedData,
        part: Part,
        objective: &dyn objective::Objective,
        as_json: bool,
    ) -> Result<()> {
        // The weights' own classes may be in another order, or more.
        let of = &self.classes.classes;
        for target in &mut self.encoded.labels {
            *target = match &*target {
                Target::Classes(all) => {
                    let mut own = vec![false; objective.outputs()];
                    for (class, is) in of.iter().zip(all) {
                        own[*class as usize] = *is;
                    }
                    Target::Classes(own)
                }
                Target::Tags(tags) => {
                    Target::Tags(tags.iter().map(|tag| of[*tag as usize]).collect())
                }
                other => other.clone(),
            };
        }
        let metrics = metrics(data, data.dataset.objective.default_metrics());
        let values = objective.metrics(&metrics, &self.encoded, &self.outputs);
        let parts = objective.parts(&self.encoded, &self.outputs);
        let (dataset, examples) = (&data.dataset.name, self.encoded.len());
        if as_json {
            let all = json!({
                "dataset": dataset, "split": part.name(), "examples": examples, "metrics": values, "classes": parts,
            });
            say!("{all}")?;
            return Ok(());
        }
        say_metrics(data, part, examples, &metrics, |m| values[m.name()])?;
        if !parts.is_empty() {
            say!("\n{}", table(&parts).terminal(terminal_width()).trim_end())?;
        }
        Ok(())
    }
}

/// The data set's own metrics, then those of these that are not among them.
fn metrics(data: &LoadedData, more: impl IntoIterator<Item = Metric>) -> Vec<Metric> {
    let mut metrics = data.dataset.metrics.clone();
    for more in more {
        if !metrics.contains(&more) {
            metrics.push(more);
        }
    }
    metrics
}

/// Prints metrics, a line each.
fn say_metrics(
    data: &LoadedData,
    part: Part,
    examples: usize,
    metrics: &[Metric],
    value: impl Fn(Metric) -> f64,
) -> Result<()> {
    let (dataset, part) = (&data.dataset.name, part.name());
    for metric in metrics {
        let (name, value) = (metric.name(), value(*metric));
        say!("{name} {value:.4} ({examples} examples of {dataset}, {part})")?;
    }
    Ok(())
}

/// How well each class or type is found.
fn table(parts: &[objective::Part]) -> Table {
    let headings = ["class", "precision", "recall", "f1", "examples"].map(str::to_owned);
    let rows = parts.iter().map(|p| {
        let [precision, recall, f1] = [p.precision, p.recall, p.f1].map(|x| format!("{x:.4}"));
        vec![p.name.clone(), precision, recall, f1, p.support.to_string()]
    });
    Table::of_texts("", 1, &headings, rows.collect())
}

/// Prints the metrics, the scores of every class and the confusion matrix.
fn show(
    data: &LoadedData,
    part: Part,
    names: &[String],
    counts: &Counts,
    as_json: bool,
) -> Result<()> {
    let more = [Metric::Accuracy, Metric::MacroF1, Metric::WeightedF1];
    let metrics = metrics(data, more);
    let value = |metric| objective::class_metric(metric, counts);
    let (matrix, by_class) = (counts.matrix(), counts.by_class());
    let examples: usize = by_class.iter().map(|class| class.truth).sum();
    let parts = names.iter().cloned().zip(by_class);
    let parts: Vec<_> = parts
        .map(|(name, counts)| objective::Part::new(name, counts))
        .collect();
    if as_json {
        let metrics = metrics
            .iter()
            .map(|m| (m.name().to_owned(), json!(value(*m))));
        let metrics: serde_json::Map<_, _> = metrics.collect();
        let all = json!({
            "dataset": data.dataset.name, "split": part.name(), "examples": examples, "metrics": metrics,
            "classes": parts, "confusion": matrix,
        });
        say!("{all}")?;
        return Ok(());
    }
    say_metrics(data, part, examples, &metrics, value)?;
    let headings: Vec<String> = ["label \\ predicted".to_owned()]
        .into_iter()
        .chain(names.iter().cloned())
        .collect();
    let rows = names.iter().zip(&matrix).map(|(name, row)| {
        let counts = row.iter().map(u64::to_string);
        [name.clone()].into_iter().chain(counts).collect()
    });
    let whole = Table::of_texts("", 1, &headings, rows.collect());
    let width = terminal_width();
    say!("\n{}", table(&parts).terminal(width).trim_end())?;
    let lines = whole.lines(width).0;
    if lines.iter().all(|line| format::width(line) <= width) {
        say!("\n{}", lines.join("\n"))?;
    } else {
        say!("\n{}", confused(names, &matrix).terminal(width).trim_end())?;
        say!("The confusion matrix is wider than the terminal; --json has all of it.")?;
    }
    Ok(())
}

/// The pairs of classes that are confused most.
fn confused(names: &[String], matrix: &[Vec<u64>]) -> Table {
    const MOST: usize = 15;
    let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
    for (label, row) in matrix.iter().enumerate() {
        for (predicted, count) in row.iter().enumerate() {
            if label != predicted && *count > 0 {
                pairs.push((*count, label, predicted));
            }
        }
    }
    pairs.sort_by_key(|(count, label, predicted)| (std::cmp::Reverse(*count), *label, *predicted));
    let headings = ["label", "predicted instead", "examples"].map(str::to_owned);
    let rows = pairs.iter().take(MOST).map(|(count, label, predicted)| {
        vec![
            names[*label].clone(),
            names[*predicted].clone(),
            count.to_string(),
        ]
    });
    Table::of_texts("", 2, &headings, rows.collect())
}
