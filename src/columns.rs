//! Which columns of a row are its texts and its task: the same for `predict` and `serve`.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use crate::task_library::Row;

/// Name of the only task where there is one.
pub const ONLY: &str = "";
/// The column of words, where there is no other.
const TOKENS: &str = "tokens";

/// The columns of a row to predict.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The text.
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// Whether the pair's column may be missing.
    pair_if_there: bool,
    /// Whether a row names its task.
    task: bool,
}

impl Columns {
    /// The named columns, `text` and, where there is one, `pair` unless others are named.
    ///
    /// # Errors
    /// If more than two are named, or one of them twice.
    pub fn of(texts: &[String], pair: Option<&str>, task: bool) -> Result<Self> {
        let (text, second) = match texts {
            [] => ("text".to_owned(), None),
            [text] => (text.clone(), None),
            [text, pair] => (text.clone(), Some(pair.clone())),
            more => bail!(
                "--text-column: {} columns ({}); accepted: one, or two for pairs",
                more.len(),
                more.join(", ")
            ),
        };
        let pair = match (pair, second) {
            (Some(pair), Some(second)) => bail!(
                "--pair-column {pair}: the second --text-column, '{second}', names the second text already; leave one of \
                 them out"
            ),
            (pair, second) => pair.map(str::to_owned).or(second),
        };
        ensure!(
            pair.as_ref() != Some(&text),
            "'{text}' is named as the first and as the second text; --text-column and --pair-column need columns of their own"
        );
        Ok(Self {
            text,
            pair_if_there: pair.is_none(),
            pair: Some(pair.unwrap_or_else(|| "pair".to_owned())),
            task,
        })
    }

    /// Columns that a header has to have.
    pub fn needed(&self) -> Vec<String> {
        let pair = self.pair.clone().filter(|_| !self.pair_if_there);
        let task = self.task.then(|| "task".to_owned());
        [Some(self.text.clone()), pair, task]
            .into_iter()
            .flatten()
            .collect()
    }

    /// A row's further columns, and what is predicted. `unusable` are the tasks that cannot be used and why; without it there is
    /// a single task, which no row names.
    pub fn take(
        &self,
        mut fields: Map<String, Value>,
        unusable: Option<&BTreeMap<String, String>>,
    ) -> (Map<String, Value>, Result<Row>) {
        let text = |column: &str, value: Option<Value>| match value {
            Some(Value::String(text)) => Ok(text),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            None | Some(Value::Null) => Err(anyhow!("column '{column}' is missing or empty")),
            Some(_) => Err(anyhow!(
                "column '{column}' is not text; accepted: a text or a number"
            )),
        };
        let task = match (fields.get("task"), unusable) {
            (Some(_), Some(_)) => text("task", fields.shift_remove("task")),
            (None, Some(_)) => Err(anyhow!(
                "column 'task' is missing; it names the task of the row"
            )),
            (_, None) => Ok(ONLY.to_owned()),
        };
        // A task with a tag for each word takes its words as a list.
        let column = match fields.contains_key(&self.text) || self.text != "text" {
            true => self.text.as_str(),
            false if fields.get(TOKENS).is_some_and(Value::is_array) => TOKENS,
            false => self.text.as_str(),
        };
        let (first, tokens) = match fields.shift_remove(column) {
            Some(Value::Array(tokens)) => {
                let words = tokens.into_iter().map(|token| text(column, Some(token)));
                let words = words.collect::<Result<Vec<String>>>();
                let joined = words.as_ref().map(|words| words.join(" "));
                (joined.map_err(|e| anyhow!("{e}")), words.ok())
            }
            value => (text(column, value), None),
        };
        let second = self.pair.as_ref().and_then(|pair| {
            let value = fields.shift_remove(pair).filter(|value| !value.is_null());
            (value.is_some() || !self.pair_if_there).then(|| text(pair, value))
        });
        let row = || {
            let row = Row {
                task: task?,
                text: first?,
                pair: second.transpose()?,
                tokens,
            };
            // Training refuses such rows too: a label for nothing says nothing.
            for (column, text) in [
                Some((column, &row.text)),
                self.pair.as_deref().zip(row.pair.as_ref()),
            ]
            .into_iter()
            .flatten()
            {
                ensure!(!text.trim().is_empty(), "column '{column}' is empty");
            }
            if let Some(error) = unusable.and_then(|unusable| unusable.get(&row.task)) {
                bail!("task '{}' cannot be used: {error}", row.task);
            }
            Ok(row)
        };
        let row = row();
        (fields, row)
    }
}
