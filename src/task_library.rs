//! Many tasks over one backbone.
//!
//! A [`TaskLibrary`] holds one frozen backbone and any number of trained methods with their heads, a few kilobytes
//! to megabytes each. Tasks are added and dropped while others predict, from any thread: whoever predicts holds the
//! tasks of its rows until it is done. Rows of different tasks and methods share a forward pass ([`Mixed`]): the
//! frozen products run once over all rows, and each task's rows see its own prompt, low-rank update or adapter.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use backbone::{Backbone, Batch, Hooks, Mixed, Phase};
use datasets::{Encoded, Example, Objective};
use methods::PeftMethod;
use serde::{Deserialize, Serialize};

use crate::{
    generate,
    objective::{Answered, Prediction},
    prepare::{Files, LoadedBackbone},
    train::{head::Head, model::by_example},
    weights::{self, SavedConfig, Task},
};

/// Rows that share a forward pass.
const PASS: usize = 32;

/// A row to predict.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Name of the task.
    pub task: String,
    /// The text.
    pub text: String,
    /// The second text of a pair.
    #[serde(default)]
    pub pair: Option<String>,
    /// The words, where they are known; then there is no text. A task with a tag for each word takes a text apart at its spaces.
    #[serde(default)]
    pub tokens: Option<Vec<String>>,
}

/// The answer to a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// What is said of it.
    #[serde(flatten)]
    pub prediction: Prediction,
    /// Whether it was longer than its task reads, as in training; what was cut off had no say.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// Told of a row by its place: its answer as far as it is known, and whether that is all of it.
pub type Tell<'a> = dyn FnMut(usize, &Answer, bool) + 'a;

/// Neighbouring examples of a batch that belong to one task.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The task's method.
    pub method: &'a dyn PeftMethod,
    /// Its classifier.
    pub head: &'a Head,
    /// How many examples of the batch.
    pub examples: usize,
}

/// Outputs of the examples of a batch that belong to `parts`, in order, in one pass without a gradient. Examples may have
/// different numbers of classes; they all have one vector each, or all are read word by word.
///
/// # Errors
/// As [`Backbone::pooled`], and if the parts do not add up to the batch.
pub fn mixed_logits(
    backbone: &Backbone,
    batch: &Batch,
    parts: &[Part<'_>],
) -> backbone::Result<Vec<Vec<f32>>> {
    kernels::without_gradients(|| {
        let hooks = parts.iter().map(|p| (p.method as &dyn Hooks, p.examples));
        let pooled = backbone.pooled(batch, &Mixed::new(hooks), Phase::Eval)?;
        let mut logits = Vec::with_capacity(batch.spans().count());
        let mut start = 0;
        for part in parts.iter().filter(|p| p.examples > 0) {
            let examples = logits.len()..logits.len() + part.examples;
            let counts: Vec<usize> = examples.map(|i| batch.vectors(i)).collect();
            let count = counts.iter().sum();
            let of_part = part.head.forward(&pooled.narrow(0, start, count)?)?;
            let rows = of_part.to_dtype(candle_core::DType::F32)?.to_vec2()?;
            logits.extend(by_example(rows, counts.into_iter()));
            start += count;
        }
        Ok(logits)
    })
}

/// A task in memory.
pub struct LoadedTask {
    task: Task,
    /// The shared weights, read as this task reads them, or the task's own copy.
    backbone: Backbone,
    file_bytes: u64,
    resident_bytes: u64,
}

impl LoadedTask {
    /// What its file says about it.
    pub fn config(&self) -> &SavedConfig {
        &self.task.config
    }

    /// Size of its weights on disk, head included.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Memory that it takes beside the backbone that all tasks share, head included.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// The backbone it runs over: the shared weights, or its own copy for a method that trains the backbone itself.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Its share of a batch.
    pub fn part(&self, examples: usize) -> Part<'_> {
        Part {
            method: &*self.task.method,
            head: &self.task.head,
            examples,
        }
    }

    /// Tasks with the same key can share a pass.
    fn pass_key(&self, name: &str) -> String {
        match (self.task.method.backbone(), self.by_words()) {
            (Some(_), _) => format!("own {name}"),
            _ if self.task.head.vocabulary().is_some() => format!("writes {name}"),
            (None, true) => "words".to_owned(),
            (None, false) => self.backbone.pooling().name().to_owned(),
        }
    }

    /// Whether it has a tag for each word.
    pub fn by_words(&self) -> bool {
        self.config().objective == Objective::Tokens
    }
}

/// One loaded backbone and any number of tasks over it. Share it behind an [`Arc`]: every function takes `&self`.
pub struct TaskLibrary {
    loaded: LoadedBackbone,
    tasks: RwLock<BTreeMap<String, Arc<LoadedTask>>>,
}

impl TaskLibrary {
    /// A library without tasks.
    pub fn new(loaded: LoadedBackbone) -> Self {
        Self {
            loaded,
            tasks: RwLock::default(),
        }
    }

    /// The backbone that all tasks share.
    pub fn loaded(&self) -> &LoadedBackbone {
        &self.loaded
    }

    /// Loads the weights in `folder` as the task `name`; one that has this name already is replaced.
    ///
    /// # Errors
    /// If the weights are damaged or were trained over another backbone. The library stays as it was.
    pub fn add(&self, name: &str, folder: &Path) -> Result<()> {
        let task = weights::load(folder, &self.loaded)?;
        let resident_bytes = task.resident_bytes(&self.loaded.backbone);
        let backbone = match task.method.backbone() {
            Some(own) => own.clone(),
            None => self
                .loaded
                .backbone
                .clone()
                .with_pooling(task.config.pooling)
                .with_context(|| folder.display().to_string())?,
        };
        let loaded = Arc::new(LoadedTask {
            task,
            backbone,
            file_bytes: weights_bytes(folder)?,
            resident_bytes,
        });
        let mut tasks = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
        tasks.insert(name.to_owned(), loaded);
        Ok(())
    }

    /// Adds every folder in `folder` as a task of the folder's name; says for each whether it could be loaded.
    ///
    /// # Errors
    /// If `folder` cannot be read or has no folders in it.
    pub fn add_all(&self, folder: &Path) -> Result<BTreeMap<String, Result<()>>> {
        let folders = task_folders(folder)?;
        Ok(folders
            .into_iter()
            .map(|(name, path)| {
                let added = self.add(&name, &path);
                (name, added)
            })
            .collect())
    }

    /// Drops a task; returns whether there was one of this name. Predictions under way still finish.
    pub fn remove(&self, name: &str) -> bool {
        let mut tasks = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
        tasks.remove(name).is_some()
    }

    /// The task of this name.
    pub fn get(&self, name: &str) -> Option<Arc<LoadedTask>> {
        let tasks = self.tasks.read().unwrap_or_else(PoisonError::into_inner);
        tasks.get(name).cloned()
    }

    /// Names of all tasks, sorted.
    pub fn names(&self) -> Vec<String> {
        let tasks = self.tasks.read().unwrap_or_else(PoisonError::into_inner);
        tasks.keys().cloned().collect()
    }

    /// Predicts rows of any tasks; answers come in the order of the rows. A row that cannot be answered (its task is not
    /// loaded, or its text cannot be tokenised) has its own error and does not touch the others.
    pub fn predict(&self, rows: &[Row]) -> Vec<Result<Answer>> {
        self.predict_telling(rows, &mut |_, _, _| ())
    }

    /// The same, telling of each answer as soon as it is there, and of a text that is written after each of its tokens. What is told
    /// of a row may be told again from its beginning.
    pub fn predict_telling(&self, rows: &[Row], tell: &mut Tell<'_>) -> Vec<Result<Answer>> {
        let mut of_task: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, row) in rows.iter().enumerate() {
            of_task.entry(&row.task).or_default().push(i);
        }
        let mut answers: BTreeMap<usize, Result<Answer>> = BTreeMap::new();
        let mut passes: BTreeMap<String, Vec<Share>> = BTreeMap::new();
        for (name, indices) in of_task {
            let Some(task) = self.get(name) else {
                let known = self.names().join(", ");
                answers.extend(indices.into_iter().map(|i| {
                    let error = anyhow!("unknown task '{name}'; loaded: {known}");
                    (i, Err(error))
                }));
                continue;
            };
            match self.encode(&task, rows, &indices) {
                Ok((texts, encoded, cut)) => {
                    passes.entry(task.pass_key(name)).or_default().push(Share {
                        task,
                        rows: indices,
                        texts,
                        encoded,
                        cut,
                    })
                }
                // One of them is at fault: each by itself, then.
                Err(_) => {
                    for i in indices {
                        match self.encode(&task, rows, &[i]) {
                            Ok((texts, encoded, cut)) => {
                                passes.entry(task.pass_key(name)).or_default().push(Share {
                                    task: Arc::clone(&task),
                                    rows: vec![i],
                                    texts,
                                    encoded,
                                    cut,
                                });
                            }
                            Err(error) => {
                                answers.insert(i, Err(error));
                            }
                        }
                    }
                }
            }
        }
        for shares in passes.values() {
            // Rows of one task stay together, so that a pass has few groups.
            let all: Vec<(&Share, usize)> = shares
                .iter()
                .flat_map(|share| (0..share.rows.len()).map(move |i| (share, i)))
                .collect();
            for rows in all.chunks(PASS) {
                match pass(rows, tell) {
                    Ok(predicted) => answers.extend(predicted.into_iter().map(|(i, p)| (i, Ok(p)))),
                    Err(_) => {
                        for row in rows.chunks(1) {
                            match pass(row, tell) {
                                Ok(p) => answers.extend(p.into_iter().map(|(i, p)| (i, Ok(p)))),
                                Err(error) => {
                                    answers.insert(row[0].0.rows[row[0].1], Err(error));
                                }
                            }
                        }
                    }
                }
            }
        }
        answers.into_values().collect()
    }

    /// The rows as their task reads them, their token ids, and which of them were cut.
    fn encode(
        &self,
        task: &LoadedTask,
        rows: &[Row],
        indices: &[usize],
    ) -> Result<(Vec<String>, Encoded, Vec<bool>)> {
        let texts = |examples: Vec<Example>| examples.into_iter().map(|e| e.text).collect();
        let max = task.task.config.max_tokens;
        if task.by_words() {
            let examples = indices.iter().map(|i| words_of(&rows[*i]));
            let examples: Vec<Example> = examples.collect::<Result<_>>()?;
            let encode = |examples: &[Example]| self.loaded.tokenizer.encode_tagged(examples, max);
            let encoded = encode(&examples)?;
            let cut = cut(&encoded, &examples, encode)?;
            return Ok((texts(examples), encoded, cut));
        }
        let text = |text: &str| datasets::text_of(text, task.task.config.strip).to_owned();
        let examples: Vec<Example> = indices
            .iter()
            .map(|i| {
                let row = &rows[*i];
                ensure!(
                    row.tokens.is_none(),
                    "a list of words was given, and {} whole texts",
                    match row.task.as_str() {
                        "" => "these weights read".to_owned(),
                        task => format!("the task '{task}' reads"),
                    }
                );
                Ok(Example {
                    text: text(&row.text),
                    pair: row.pair.as_deref().map(text),
                    label: None,
                })
            })
            .collect::<Result<_>>()?;
        let encode = |examples: &[Example]| task.task.tokenizer(&self.loaded).encode(examples, max);
        let encoded = encode(&examples)?;
        let cut = cut(&encoded, &examples, encode)?;
        Ok((texts(examples), encoded, cut))
    }
}

/// Which of these examples were cut: where some were and others not, each is asked.
fn cut(
    encoded: &Encoded,
    examples: &[Example],
    encode: impl Fn(&[Example]) -> datasets::Result<Encoded>,
) -> datasets::Result<Vec<bool>> {
    let one = |example: &Example| {
        encode(std::slice::from_ref(example)).map(|encoded| encoded.truncated > 0)
    };
    match encoded.truncated {
        0 => Ok(vec![false; examples.len()]),
        all if all == examples.len() => Ok(vec![true; all]),
        _ => examples.iter().map(one).collect(),
    }
}

/// A row as an example whose words have tags.
fn words_of(row: &Row) -> Result<Example> {
    ensure!(
        row.pair.is_none(),
        "a pair was given, but the task '{}' has a tag for each word of one text",
        row.task
    );
    let words: Vec<&str> = match &row.tokens {
        Some(tokens) => tokens.iter().map(String::as_str).collect(),
        None => row.text.split_whitespace().collect(),
    };
    ensure!(
        !words.iter().any(|word| word.contains(['\n', '\r'])),
        "a token has a line break in it"
    );
    Ok(Example {
        text: words.join("\n"),
        pair: None,
        label: None,
    })
}

/// Rows of one task, tokenised.
struct Share {
    task: Arc<LoadedTask>,
    /// Their places among all rows.
    rows: Vec<usize>,
    texts: Vec<String>,
    encoded: Encoded,
    /// Which of them were longer than the task reads.
    cut: Vec<bool>,
}

/// One forward pass over rows of tasks that can share it; rows of a task stand together.
fn pass(rows: &[(&Share, usize)], tell: &mut Tell<'_>) -> Result<Vec<(usize, Answer)>> {
    let (mut ids, mut types, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut last: Option<&Share> = None;
    for (share, i) in rows {
        let (example_ids, example_types) = share.encoded.example(*i);
        ids.extend_from_slice(example_ids);
        types.extend(example_types.iter().map(|t| u32::from(*t)));
        offsets.push(ids.len());
        match parts.last_mut() {
            Some(part) if last.is_some_and(|l| std::ptr::eq(l, *share)) => part.examples += 1,
            _ => parts.push(share.task.part(1)),
        }
        last = Some(share);
    }
    let Some((first, _)) = rows.first() else {
        return Ok(Vec::new());
    };
    if let Some(vocabulary) = first.task.task.head.vocabulary() {
        let prompts = rows.iter().map(|(share, i)| share.encoded.example(*i).0);
        let prompts: Vec<&[u32]> = prompts.collect();
        let method = &*first.task.task.method;
        let outputs = |ids: &[u32]| -> Vec<f32> { ids.iter().map(|id| *id as f32).collect() };
        let mut tell = |i: usize, ids: &[u32], ended: bool| {
            let (place, answer) = answer(&rows[i], outputs(ids));
            tell(place, &answer, ended);
        };
        let backbone = &first.task.backbone;
        let written = generate::greedy_telling(backbone, method, vocabulary, &prompts, &mut tell)?;
        let both = rows.iter().zip(&written);
        return Ok(both.map(|(row, ids)| answer(row, outputs(ids))).collect());
    }
    let mut batch = Batch::new(ids, types, offsets)?;
    if first.task.by_words() {
        let tokens = |(share, i): &(&Share, usize)| {
            let words = share.encoded.words[*i].iter();
            words.map(|word| word.token).collect()
        };
        batch = batch.reading(rows.iter().map(tokens).collect())?;
    }
    let logits = mixed_logits(&first.task.backbone, &batch, &parts)?;
    ensure!(logits.len() == rows.len(), "a row without logits");
    ensure!(
        logits.iter().flatten().all(|v| v.is_finite()),
        "the logits are not finite numbers: method or head are too strong for f32"
    );
    let both = rows.iter().zip(logits);
    let answers: Vec<_> = both.map(|(row, logits)| answer(row, logits)).collect();
    for (place, answer) in &answers {
        tell(*place, answer, true);
    }
    Ok(answers)
}

/// What the outputs of a row say, with its place among all rows.
fn answer((share, i): &(&Share, usize), outputs: Vec<f32>) -> (usize, Answer) {
    let example = Answered {
        text: &share.texts[*i],
        words: share.encoded.words.get(*i).map_or(&[][..], Vec::as_slice),
    };
    let objective = &share.task.task.objective;
    let answer = Answer {
        prediction: objective.answer(&example, outputs),
        cut: share.cut[*i],
    };
    (share.rows[*i], answer)
}

/// A library over the backbone of `config`, or the named one.
///
/// # Errors
/// If the backbone is not found or damaged.
pub fn open(config: &SavedConfig, named: Option<&str>, offline: bool) -> Result<TaskLibrary> {
    let files = Files::new(offline)?;
    let loaded = weights::backbone_of(&files, config, named, &Default::default())?;
    Ok(TaskLibrary::new(loaded))
}

/// A library, still without tasks, over the named backbone, or over that of the first task in a folder whose backbone can be
/// opened: what is wrong with one task is no reason to refuse the others.
///
/// # Errors
/// If no task can be read, or the backbone is not found or damaged.
pub fn open_for(folder: &Path, named: Option<&str>, offline: bool) -> Result<TaskLibrary> {
    let (mut first_error, mut tried) = (None, Vec::new());
    for path in task_folders(folder)?.values() {
        let config = match weights::read_config(path) {
            Ok(config) => config,
            Err(error) => {
                first_error.get_or_insert(error);
                continue;
            }
        };
        let backbone = (config.backbone.clone(), config.precision);
        if tried.contains(&backbone) {
            continue;
        }
        match open(&config, named, offline) {
            Ok(library) => return Ok(library),
            Err(error) if named.is_some() => return Err(error),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
        tried.push(backbone);
    }
    let error = first_error.context("no task")?;
    Err(error.context(format!("{}: no task there is readable", folder.display())))
}

/// The same with the tasks of the folder; and why those that cannot be used cannot.
///
/// # Errors
/// As [`open_for`].
pub fn open_all(
    folder: &Path,
    named: Option<&str>,
    offline: bool,
) -> Result<(TaskLibrary, BTreeMap<String, String>)> {
    let library = open_for(folder, named, offline)?;
    let unusable = library
        .add_all(folder)?
        .into_iter()
        .filter_map(|(name, added)| Some((name, format!("{:#}", added.err()?))))
        .collect();
    Ok((library, unusable))
}

/// The folders in `folder` by name, sorted.
///
/// # Errors
/// If it cannot be read or has none.
pub fn task_folders(folder: &Path) -> Result<BTreeMap<String, std::path::PathBuf>> {
    let mut folders = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.is_dir()
            && let Some(name) = path.file_name()
        {
            folders.insert(name.to_string_lossy().into_owned(), path);
        }
    }
    if folders.is_empty() {
        bail!(
            "{}: no folders of saved weights there; each task is a folder written by peftbench train, \
             and its name is the task's name",
            folder.display()
        );
    }
    Ok(folders)
}

/// Size of the safetensors files in a folder of weights.
///
/// # Errors
/// If the folder cannot be read.
pub fn weights_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            bytes += fs::metadata(&path)?.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_can_be_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<TaskLibrary>();
    }
}
