//! A loaded task on its way out, into a folder of another library.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    prepare::LoadedBackbone,
    saved::{Task, Tensors},
};

/// A loaded task as it is written into a foreign folder.
pub struct Export<'a> {
    /// Method and head.
    pub task: &'a Task,
    /// The backbone it was trained over.
    pub loaded: &'a LoadedBackbone,
    /// Where the head may be a file of its own, for a classifier that transformers' classes cannot hold.
    pub separate_head: bool,
}

impl Export<'_> {
    /// What the method ships and the head's variables, by our names.
    pub(super) fn tensors(&self) -> Result<(Tensors, Tensors)> {
        let mut head: Tensors = self.task.head.parameters().tensors().into_iter().collect();
        // Whoever reads it knows no scale: the last layer gives the numbers themselves.
        if let Some(scale) = self.task.config.scale {
            let weight = head.get_mut("head.output.weight");
            let weight = weight.context("head.output.weight is missing")?;
            *weight = (&*weight * scale.deviation)?;
            let bias = head.get_mut("head.output.bias");
            let bias = bias.context(
                "this head has no bias, so it cannot hold the mean of the numbers that it was trained on",
            )?;
            *bias = bias.affine(scale.deviation, scale.mean)?;
        }
        Ok((self.task.method.shipped()?.into_iter().collect(), head))
    }

    /// What a file says beside its tensors, so that whoever reads it has the same classes and cuts texts as in training.
    pub(super) fn metadata(&self) -> Result<Vec<(&'static str, String)>> {
        let config = &self.task.config;
        let words = config.words.as_ref().map(serde_json::to_string);
        let words = words.transpose()?.map(|words| ("words", words));
        let objective = match config.objective.is_classification() {
            true => None,
            false => Some(("objective", serde_json::to_string(&config.objective)?)),
        };
        let pairs = config.pairs.map(|pairs| ("pairs", pairs.to_string()));
        let lower = self.loaded.tokenizer.lower_case();
        let lower = lower.then(|| ("lower_case", "true".to_owned()));
        Ok(Vec::from([
            ("labels", serde_json::to_string(&config.labels)?),
            ("max_tokens", config.max_tokens.to_string()),
            ("strip", config.strip.to_string()),
        ])
        .into_iter()
        .chain(words)
        .chain(objective)
        .chain(pairs)
        .chain(lower)
        .collect())
    }

    /// What a reader in Python has to do with texts, so that they are read as in training.
    pub(super) fn texts(&self) -> String {
        let config = &self.task.config;
        let strip = match config.strip {
            true => ", and take white space around texts away first: text.strip()",
            false => "",
        };
        let lower = match self.loaded.tokenizer.lower_case() {
            true => {
                ", and make texts lower-case, as the backbone's sentence_bert_config.json says: text.lower()"
            }
            false => "",
        };
        format!(
            "training read up to {0} tokens of a text: in Python give the tokenizer truncation=True, max_length={0}{strip}{lower}",
            config.max_tokens
        )
    }

    /// How a language model is asked for the class, or to write, in words; nothing where there is a classifier.
    pub(super) fn words(&self) -> Option<String> {
        let config = &self.task.config;
        if let Some(completion) = &config.completion {
            return Some(format!(
                "completions are written behind the prompt {:?}: model.generate(…, do_sample=False, \
                 repetition_penalty=1.0, max_new_tokens={})",
                completion.prompt, completion.max_new_tokens
            ));
        }
        let words = config.words.as_ref()?;
        Some(format!(
            "the classes are words of the language model: behind the template {:?}, the first tokens of {:?} have the logits of {}",
            words.template,
            words.words,
            config.labels.join(", ")
        ))
    }

    /// A key of the method's resolved configuration.
    pub(super) fn key(&self, key: &str) -> &Value {
        self.task.config.config.get(key).unwrap_or(&Value::Null)
    }
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    Ok(record::write_whole(path, text.as_bytes())?)
}
