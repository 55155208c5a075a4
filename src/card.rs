//! Model cards: the README.md with which weights say what they are, from their record.
//!
//! The front matter is that of the Hugging Face hub (`library_name`, `base_model`, tags, metrics in `model-index`). Numbers come from
//! the run's record; where the folder's comparison is known too, from all its seeds, with interval and verdict. The Python in a card
//! is run by a test.

use std::{fmt::Write, path::Path};

use anyhow::Result;
use datasets::{Completion, Objective, Words};
use methods::Answer;
use record::{RunRecord, store};
use reports::{Comparison, format, words};
use serde_json::{Value, json};
use sources::{HubKind, Place};

use crate::{
    backbones, folders,
    formats::{self, Format},
    saved::SavedConfig,
    train::recipe::Recipe,
};

/// The card's file.
pub const CARD: &str = "README.md";

/// What a card is made from.
pub struct Card<'a> {
    /// The configuration beside the weights.
    pub config: &'a SavedConfig,
    /// Their run, where it is known.
    pub record: Option<&'a RunRecord>,
    /// All that was compared with it, where that is known.
    pub comparison: Option<&'a Comparison>,
    /// The library that reads the folder; absent for our own.
    pub format: Option<Format>,
    /// Whether the classifier is a file of its own.
    pub separate_head: bool,
}

/// The record of a folder that a comparison keeps: `OUT/weights/ID` has `OUT/records/ID.json`.
pub fn record_of(weights: &Path) -> Option<RunRecord> {
    let weights = weights.canonicalize().ok()?;
    let id = weights.file_name()?.to_str()?;
    let out = weights.parent()?.parent()?;
    store::find(&folders::records_folder(out), id).ok()?
}

/// Writes the card of every folder of weights that a comparison keeps.
///
/// # Errors
/// If a card cannot be written.
pub fn write_all(comparison: &Comparison, out: &Path) -> Result<()> {
    for record in &comparison.records {
        let folder = folders::weights_folder(out, &record.id);
        // Weights that were moved or thrown away have none.
        let Ok(config) = crate::saved::read_config(&folder) else {
            continue;
        };
        let card = Card {
            config: &config,
            record: Some(record),
            comparison: Some(comparison),
            format: None,
            separate_head: false,
        };
        card.write(&folder)?;
    }
    Ok(())
}

/// The hub's name of what is predicted. A number is `text-classification` there too, as transformers has one class of models for it,
/// and so is a set of classes.
fn hub_task(objective: Objective) -> &'static str {
    match objective {
        Objective::Classification | Objective::MultiLabel | Objective::Regression => {
            "text-classification"
        }
        Objective::Tokens => "token-classification",
        Objective::Completion => "text-generation",
    }
}

/// What weights are for, in words; `labels` are listed already.
fn purpose(objective: Objective, labels: &str) -> String {
    match objective {
        Objective::Classification => format!("classifying texts as {labels}"),
        Objective::MultiLabel => {
            format!("labelling texts with any number of {labels}")
        }
        Objective::Regression => "predicting a number for a text".to_owned(),
        Objective::Tokens => format!("tagging the words of texts with {labels}"),
        Objective::Completion => "writing texts behind prompts".to_owned(),
    }
}

/// Python that loads a language model of transformers, or one with an adapter of PEFT, with its tokenizer.
fn python_of_model(merged: bool) -> String {
    let load = match merged {
        true => {
            "import transformers\n\nmodel = transformers.AutoModelForCausalLM.from_pretrained(\".\").eval()\nbase = \".\"\n"
        }
        false => {
            "import peft, transformers\n\nmodel = peft.AutoPeftModelForCausalLM.from_pretrained(\".\").eval()\n\
             base = model.peft_config[\"default\"].base_model_name_or_path\n"
        }
    };
    format!("{load}tokenizer = transformers.AutoTokenizer.from_pretrained(base)\n")
}

/// Python that writes behind prompts.
fn python_of_completion(completion: &Completion, merged: bool) -> String {
    format!(
        "{}prompt = {}\n\
         for text in [\"A text\", \"Another text\"]:\n    \
         inputs = tokenizer(prompt.replace(\"{{text}}\", text), return_tensors=\"pt\")\n    \
         written = model.generate(**inputs, do_sample=False, repetition_penalty=1.0, max_new_tokens={})\n    \
         print(tokenizer.decode(written[0, inputs.input_ids.shape[1]:], skip_special_tokens=True))\n",
        python_of_model(merged),
        json!(completion.prompt),
        completion.max_new_tokens
    )
}

/// Python that asks a language model for the word of a class.
fn python_of_words(words: &Words, labels: &[String], merged: bool) -> String {
    let load = python_of_model(merged);
    // JSON's lists of texts are Python's.
    format!(
        "{load}labels, words, template = {}, {}, {}\n\
         ids = [tokenizer(word, add_special_tokens=False).input_ids[0] for word in words]\n\
         for text in [\"A text\", \"Another text\"]:\n    \
         inputs = tokenizer(template.replace(\"{{text}}\", text), return_tensors=\"pt\")\n    \
         print(labels[int(model(**inputs).logits[0, -1, ids].argmax())])\n",
        json!(labels),
        json!(words.words),
        json!(words.template)
    )
}

/// Python that reads a folder of PEFT with its classifier. The library takes number and names of the classes from the base, so
/// that it is given those of the folder; where the base has a classifier of its own, of another size, that one is dropped.
fn python_of_peft(objective: Objective, max_tokens: usize) -> String {
    let tags = objective == Objective::Tokens;
    let texts = match tags {
        true => "[[\"A\", \"text\"], [\"Another\", \"text\"]], is_split_into_words=True",
        false => "[\"A text\", \"Another text\"]",
    };
    let answer = match objective {
        Objective::Regression => "print(logits[:, 0].tolist())\n",
        Objective::MultiLabel => {
            "print([[names[i] for i, x in enumerate(row) if x > 0] for row in logits.tolist()])\n"
        }
        // A word has the tag of its first token.
        Objective::Tokens => {
            "for text, row in enumerate(logits.argmax(-1).tolist()):\n    \
             words = inputs.word_ids(text)\n    \
             print([names[row[words.index(word)]] for word in sorted(set(words) - {None})])\n"
        }
        Objective::Classification | Objective::Completion => {
            "print([names[int(i)] for i in logits.argmax(-1)])\n"
        }
    };
    // RoBERTa's tokenizer wants it for words; others pass over it.
    let spaced = if tags { ", add_prefix_space=True" } else { "" };
    format!(
        "import peft, transformers\n\nnames = transformers.AutoConfig.from_pretrained(\".\").id2label\n\
         model = peft.{}.from_pretrained(\".\", id2label=names, ignore_mismatched_sizes=True).eval()\n\
         base = model.peft_config[\"default\"]\n\
         tokenizer = transformers.AutoTokenizer.from_pretrained(base.base_model_name_or_path, revision=base.revision{spaced})\n\
         inputs = tokenizer({texts}, padding=True, truncation=True, max_length={max_tokens}, return_tensors=\"pt\")\n\
         logits = model(**inputs).logits\n{answer}",
        formats::peft_class(objective)
    )
}

/// The repository of the hub that a name of a backbone means, if it means one.
fn base_model(backbone: &str) -> Option<String> {
    formats::hub_repository(backbone).map(|(repo, _)| repo)
}

/// The repository of the hub that a data set comes from, if it does.
fn hub_data(name: &str) -> Option<String> {
    let spec = datasets::spec(name).ok()?;
    spec.source.places.iter().find_map(|place| match place {
        Place::Hub(hub) if hub.kind == HubKind::Dataset => Some(hub.repo.clone()),
        _ => None,
    })
}

impl Card<'_> {
    /// Writes the card into the folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        Ok(record::write_whole(
            &folder.join(CARD),
            self.text()?.as_bytes(),
        )?)
    }

    /// The card.
    ///
    /// # Errors
    /// If its front matter cannot be written as YAML; not expected.
    pub fn text(&self) -> Result<String> {
        let config = self.config;
        let front = serde_yaml::to_string(&self.front_matter())?;
        let backbone = base_model(&config.backbone).unwrap_or_else(|| plain(&config.backbone));
        let labels: Vec<String> = config
            .labels
            .iter()
            .map(|l| format!("`{}`", plain(l)))
            .collect();
        let mut text = format!(
            "---\n{front}---\n\n# {} on {} over {backbone}\n\nWeights of the method `{}` for {}. {}They \
             were trained with peftbench on `{}`; {}.\n\n## How to use\n\n",
            config.method,
            plain(&config.dataset),
            config.method,
            purpose(config.objective, &format::list_of_at_most(&labels, 12)),
            self.parameters(),
            plain(&config.dataset),
            match config.method.as_str() {
                "full" => format!("the backbone `{backbone}` was trained with them"),
                "random_features" => format!(
                    "of the backbone `{backbone}` only the form is used: its weights were drawn at random, and stayed so"
                ),
                _ => format!("the backbone `{backbone}` was frozen"),
            }
        );
        text += &self.usage();
        text += "\n## Results\n\n| what | value |\n| :-- | :-- |\n";
        for (name, value) in self.results() {
            writeln!(
                text,
                "| {name} | {} |",
                reports::table::markdown_text(&value)
            )?;
        }
        if let Some(record) = self.record {
            text += "\n## Where it comes from\n\n| what | value |\n| :-- | :-- |\n";
            for (name, value) in origin(record)? {
                writeln!(text, "| {name} | {value} |")?;
            }
            write!(
                text,
                "\nThis command makes it again (add where data and backbone of your own lie, and the names of columns):\n\n```\n{}\n```\n",
                command(record, config)?
            )?;
        }
        Ok(text)
    }

    fn front_matter(&self) -> Value {
        let config = self.config;
        let library = match self.format {
            None => "peftbench",
            Some(Format::Peft) => "peft",
            Some(Format::Adapterhub) => "adapter-transformers",
            Some(Format::Merged) => "transformers",
        };
        let task = hub_task(config.objective);
        let mut front = json!({ "library_name": library, "pipeline_tag": task });
        // Random weights come from no model.
        let base = base_model(&config.backbone).filter(|_| config.method != "random_features");
        if let Some(base) = base {
            front["base_model"] = json!(base);
            let whole = self.format == Some(Format::Merged) || config.method == "full";
            front["base_model_relation"] = json!(if whole { "finetune" } else { "adapter" });
        }
        front["tags"] = json!(["peftbench", task, config.method]);
        let hub = hub_data(&config.dataset);
        if let Some(repo) = &hub {
            front["datasets"] = json!([repo]);
        }
        front["metrics"] = config.metrics.keys().cloned().collect();
        let metrics: Vec<Value> = config
            .metrics
            .iter()
            .map(|(name, value)| json!({ "type": name, "value": value }))
            .collect();
        front["model-index"] = json!([{
            "name": format!("{}-{}", config.method, plain(&config.dataset)),
            "results": [{
                "task": { "type": task },
                "dataset": {
                    "name": plain(&config.dataset),
                    "type": hub.unwrap_or_else(|| plain(&config.dataset)),
                    "split": "validation",
                },
                "metrics": metrics,
            }],
        }]);
        front
    }

    fn parameters(&self) -> String {
        let outcome = self.record.and_then(|r| r.outcome.as_ref());
        outcome.map_or_else(String::new, |o| {
            let p = &o.parameters;
            let share = p.method as f64 / p.backbone.max(1) as f64;
            format!(
                "It trained {} parameters ({} of the backbone's {}) and a head of {}. ",
                format::count(p.method),
                format::share(share),
                format::count(p.backbone),
                format::count(p.head)
            )
        })
    }

    fn usage(&self) -> String {
        let shell = match self.format {
            Some(Format::Merged) => "",
            _ => "\nor, without Python, `peftbench predict --weights . --input rows.csv`.\n",
        };
        let mut texts = String::new();
        if self.config.pairs == Some(true) {
            texts += "\nIt was trained on pairs of texts: give it the second ones as well, `tokenizer(texts, seconds)` (of head.py \
                      `model.inputs(texts, seconds)`); `peftbench predict` takes them by `--pair-column`.\n";
        }
        if self.config.strip && self.format.is_some() && !self.separate_head {
            texts += "\nIn training, white space around a text was taken away: give Python `text.strip()`.\n";
        }
        format!("```python\n{}```\n{shell}{texts}", self.python())
    }

    fn python(&self) -> String {
        let config = self.config;
        let Some(format) = self.format else {
            return "import peftbench\n\nprint(peftbench.predict(\".\", [\"A text\", \"Another text\"]))\n".to_owned();
        };
        let merged = format == Format::Merged;
        match (&config.words, &config.completion) {
            _ if format == Format::Adapterhub => {}
            (Some(words), _) => return python_of_words(words, &config.labels, merged),
            (_, Some(completion)) => return python_of_completion(completion, merged),
            _ => {}
        }
        let [load, answer] = match (format, config.objective) {
            _ if self.separate_head => [
                "from head import Classifier\n\nmodel = Classifier(\".\")\n\
                 inputs = model.inputs([\"A text\", \"Another text\"])\n",
                "print([model.labels[i] for i in model(**inputs).argmax(-1)])\n",
            ],
            (Format::Peft, objective) => return python_of_peft(objective, config.max_tokens),
            (Format::Adapterhub, _) => [
                "import json, adapters, transformers\n\nbase = json.load(open(\"adapter_config.json\"))[\"model_name\"]\n\
                 model = adapters.AutoAdapterModel.from_pretrained(base, attn_implementation=\"eager\")\n\
                 model.load_adapter(\".\", set_active=True, use_safetensors=True)\n\
                 inputs = transformers.AutoTokenizer.from_pretrained(base)([\"A text\", \"Another text\"], padding=True, return_tensors=\"pt\")\n",
                "print(model(**inputs).logits.argmax(-1))\n",
            ],
            (Format::Merged, objective) => [
                "from transformers import pipeline\n\n",
                match objective {
                    Objective::Classification => {
                        "classify = pipeline(\"text-classification\", model=\".\")\n\
                         print(classify([\"A text\", \"Another text\"]))\n"
                    }
                    // Every class with its probability.
                    Objective::MultiLabel => {
                        "classify = pipeline(\"text-classification\", model=\".\", top_k=None)\n\
                         print(classify([\"A text\", \"Another text\"]))\n"
                    }
                    Objective::Regression => {
                        "rate = pipeline(\"text-classification\", model=\".\", function_to_apply=\"none\")\n\
                         print([found[\"score\"] for found in rate([\"A text\", \"Another text\"])])\n"
                    }
                    Objective::Tokens => {
                        "find = pipeline(\"token-classification\", model=\".\", aggregation_strategy=\"first\")\n\
                         print(find([\"A text\", \"Another text\"]))\n"
                    }
                    // Has its own lines, above.
                    Objective::Completion => "",
                },
            ],
        };
        [load, answer].concat()
    }

    fn results(&self) -> Vec<(String, String)> {
        let mut rows: Vec<(String, String)> = Vec::new();
        let seed = self
            .record
            .map_or_else(String::new, |r| format!(", seed {}", r.asked.seed));
        for (name, value) in &self.config.metrics {
            rows.push((
                format!("{} of these weights{seed}", format::metric_name(name)),
                format::metric(name, *value),
            ));
        }
        let found = self.comparison.and_then(|comparison| {
            let own = self.record?;
            let place = comparison
                .rows
                .iter()
                .position(|row| row.runs.iter().any(|run| run.id == own.id))?;
            Some((comparison, place))
        });
        if let Some((comparison, place)) = found {
            let (row, metric) = (&comparison.rows[place], comparison.metric());
            if let Some(m) = row.metric.as_ref().filter(|m| m.values.len() > 1) {
                let interval = m.interval.map_or_else(String::new, |i| {
                    format!(
                        ", 95 % interval {} over seeds and examples",
                        format::metric_interval(metric, i)
                    )
                });
                let title = format::metric_title(metric);
                rows.push((
                    format!(
                        "{title}, mean ± sd of {}",
                        format::plural(m.values.len(), "seed")
                    ),
                    format!("{}{interval}", format::metric_spread(metric, m.mean, m.sd)),
                ));
            }
            if place > 0
                && let Some(pair) = comparison.pair(0, place).filter(|p| p.is_tested())
            {
                rows.push((
                    format!("against {}, the highest mean", comparison.rows[0].label),
                    words::verdict_alone(pair.verdict.reversed(), metric, comparison.margin),
                ));
            }
            for (variant, name) in [("unmerged", ""), ("merged", " after merging")] {
                if let (Some(cell), Some(over)) =
                    (row.sentence(variant), row.over_backbone(variant))
                {
                    let over = reports::latency::overhead_text(&over, comparison.latency_noise);
                    let over = match over.as_str() {
                        "≈" => "not measurably",
                        over => over,
                    };
                    rows.push((
                        format!("latency of one sentence{name}, p50/p99"),
                        format!("{} ms, {over} over the backbone", cell.text()),
                    ));
                }
            }
        }
        if let Some(cost) = self.record.and_then(|r| r.cost.as_ref()) {
            rows.push((
                "training time".into(),
                format::seconds(cost.training_seconds),
            ));
            if let Some(bytes) = cost.peak_memory_bytes {
                rows.push((
                    "peak memory of training".into(),
                    format::bytes(bytes as f64),
                ));
            }
            rows.push((
                "file, head included".into(),
                format::bytes(cost.file_bytes as f64),
            ));
        }
        rows
    }
}

/// A name from a file on one line, without the folders before it.
fn plain(name: &str) -> String {
    let last = match Path::new(name).is_absolute() {
        true => Path::new(name)
            .file_name()
            .map(|n| n.to_string_lossy().into_owned()),
        false => None,
    };
    format::visible(&last.unwrap_or_else(|| name.to_owned()))
}

/// Data, hashes, machine and versions.
fn origin(record: &RunRecord) -> Result<Vec<(&'static str, String)>> {
    let (asked, made) = (&record.asked, &record.circumstances);
    let data = match &asked.dataset.stand_in_for {
        Some(wanted) => format!(
            "{} (stands in for {wanted}, which was not found)",
            asked.dataset.name
        ),
        None => asked.dataset.name.clone(),
    };
    let escaped = |text: &str| reports::table::markdown_text(text);
    Ok(vec![
        (
            "data",
            format!(
                "{}: {} to train on, {} to judge by",
                escaped(&data),
                format::count(asked.dataset.train_examples),
                format::count(asked.dataset.validation_examples)
            ),
        ),
        ("SHA-256 of the data", format!("`{}`", asked.dataset.digest)),
        (
            "backbone",
            format!(
                "{}, {} parameters, read by {}",
                escaped(&asked.backbone.name),
                format::count(asked.backbone.parameters),
                escaped(&asked.backbone.pooling)
            ),
        ),
        (
            "SHA-256 of the backbone",
            format!("`{}`", asked.backbone.digest),
        ),
        (
            "method's configuration",
            format!("`{}`", asked.method.config),
        ),
        ("recipe", format!("`{}`", asked.recipe)),
        ("seed", asked.seed.to_string()),
        ("record", format!("`{}`", record.id)),
        (
            "made",
            format!(
                "{} by peftbench {}{} on {}, {}",
                made.started,
                made.version,
                made.revision
                    .as_ref()
                    .map_or_else(String::new, |r| format!(" ({r})")),
                escaped(&made.processor),
                format::plural(made.threads, "thread")
            ),
        ),
    ])
}

/// The command that makes the run again. It tells nobody in which folders of this machine data or backbone lay.
fn command(record: &RunRecord, config: &SavedConfig) -> Result<String> {
    let (asked, backbone) = (&record.asked, &config.backbone);
    let budget = asked.recipe["budget"].as_str().unwrap_or("standard");
    let name = asked
        .dataset
        .stand_in_for
        .as_ref()
        .unwrap_or(&asked.dataset.name);
    let mut command = format!(
        "peftbench train {} --method {} --seed {} --budget {budget} --backbone {}",
        plain(name),
        asked.method.name,
        asked.seed,
        plain(backbone)
    );
    let mut set = |owner: &str, given: &Value, default: &Value| {
        for (key, value) in given.as_object().into_iter().flatten() {
            if default.get(key) != Some(value) && !value.is_null() {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                command += &format!(" --set '{owner}.{key}={value}'");
            }
        }
    };
    let usual = backbones::spec(backbone).ok();
    let usual = usual.map_or_else(
        || json!({}),
        |spec| json!({ "pooling": spec.pooling.name(), "head": spec.head.name() }),
    );
    set("backbone", &read_by(record, config), &usual);
    let answer = match config.words.is_some() || config.completion.is_some() {
        true => Answer::LanguageModel,
        false => Answer::TrainedHead,
    };
    let default = methods::resolve_for(answer, &asked.method.name, &Default::default())?.config;
    set(&asked.method.name, &asked.method.config, &default.into());
    let default = Recipe::resolve(budget, &Default::default(), asked.dataset.train_examples)?;
    set("recipe", &asked.recipe, &serde_json::to_value(default)?);
    if !config.objective.is_classification() && datasets::spec(name).is_err() {
        command += &format!(" --objective {}", config.objective.name());
    }
    let quoted = |text: &str| text.replace('\n', "\\n").replace('\'', "'\\''");
    if let Some(completion) = &config.completion {
        command += &format!(
            " --prompt '{}' --max-new-tokens {}",
            quoted(&completion.prompt),
            completion.max_new_tokens
        );
    }
    if let Some(words) = &config.words {
        command += &format!(
            " --template '{}' --words '{}'",
            quoted(&words.template),
            quoted(&words.words.join(","))
        );
    }
    Ok(command)
}

/// How a run's backbone was read, as `--set backbone.…` takes it. Words and completions bring their own head.
fn read_by(record: &RunRecord, config: &SavedConfig) -> Value {
    let facts = &record.asked.backbone;
    let (pooling, head) = facts
        .pooling
        .split_once(" + ")
        .unwrap_or((facts.pooling.as_str(), "linear"));
    let mut read = json!({ "pooling": pooling });
    if config.words.is_none() && config.completion.is_none() {
        read["head"] = json!(head.replace(' ', "_"));
    }
    if let Some(precision) = &facts.precision {
        read["precision"] = json!(precision);
    }
    read
}
