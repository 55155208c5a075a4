//! `evaluate`: metrics of saved weights on a split of a data set.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use datasets::{Example, Split};

use crate::{
    labels,
    plan::DataChoice,
    prepare::{Files, LoadedBackbone, LoadedData},
    train::trainer::{Model, metrics_of},
    weights,
};

/// `evaluate`.
///
/// # Errors
/// On bad input.
pub fn evaluate(
    folder: &Path,
    data: &DataChoice,
    split: Split,
    backbone: Option<&str>,
    offline: bool,
    json: bool,
) -> Result<ExitCode> {
    let config = weights::read_config(folder)?;
    let files = Files::new(offline)?;
    let loaded = weights::task_backbone(&files, &config, backbone)?;
    let data = files.data(data)?;
    let (metrics, examples) = measured(folder, &data, split, &loaded, files.cache())?;
    if json {
        say!(
            "{}",
            serde_json::json!({ "dataset": data.dataset.name, "split": split.name(), "examples": examples, "metrics": metrics })
        )?;
    } else {
        for (name, value) in metrics {
            say!(
                "{name} {value:.4} ({examples} examples of {}, {})",
                data.dataset.name,
                split.name()
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Metrics of saved weights on a split.
///
/// # Errors
/// If the data does not fit the weights.
fn measured(
    folder: &Path,
    data: &LoadedData,
    split: Split,
    loaded: &LoadedBackbone,
    cache: &Path,
) -> Result<(BTreeMap<String, f64>, usize)> {
    let task = weights::load(folder, loaded)?;
    let dataset = &data.dataset;
    let classes = labels::matched(&task.config.labels, &dataset.labels)
        .with_context(|| format!("{} on '{}'", folder.display(), dataset.name))?;
    if let Some(note) = &classes.note {
        eprintln!("note: {}: {note}", folder.display());
    }
    let examples = dataset.split(split);
    anyhow::ensure!(
        examples.iter().all(|e| e.label.is_some()) && !examples.is_empty(),
        "data set '{}': the labels of its {} split are not public; use another split",
        dataset.name,
        split.name()
    );
    let text = |text: &str| datasets::text_of(text, task.config.strip).to_owned();
    let examples: Vec<Example> = examples
        .iter()
        .map(|e| Example {
            text: text(&e.text),
            pair: e.pair.as_deref().map(text),
            label: e.label,
        })
        .collect();
    let encoded = loaded
        .tokenizer
        .encode_cached(&examples, task.config.max_tokens, cache)?;
    let model = Model {
        backbone: &loaded.backbone,
        method: &*task.method,
        head: &task.head,
    };
    let logits = model.all_logits(&encoded).context("evaluating")?;
    // In the order of the data's classes, those that only the classifier knows after them.
    let logits: Vec<Vec<f32>> = logits.iter().map(|row| classes.in_order(row)).collect();
    let labels: Vec<u32> = (0..encoded.len()).map(|i| encoded.label(i)).collect();
    Ok((
        metrics_of(&dataset.metrics, &labels, &logits, task.config.labels.len()),
        labels.len(),
    ))
}
