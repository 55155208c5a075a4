//! What isolation costs and gives: one set of weights per domain against one set for all.
//!
//! For each method, weights are trained on each domain alone and on all domains together, by the machinery of `compare`
//! (records, one process per run, only what is missing). Then every set of weights predicts the validation split of
//! every domain. Read three numbers per method: the accuracy of a domain's **own** weights, of the **other** domains'
//! weights (what an interference or a mix-up would cost), and of the **one set** trained on all. Every set is trained for
//! the same number of steps, so the one set sees each domain's examples less often.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use datasets::{Split, Target};
use record::{Status, write_whole};
use reports::{
    Kept, format,
    measurement::Measurement,
    table::{Cell, Column, Table, markdown_text},
    words,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use statistics::{ALPHA, Combined, Estimate, Margin, Summary, Verdict};

use crate::{
    execute::{
        local::{self, How},
        progress::Verbosity,
    },
    exit, folders, output,
    plan::{self, DataChoice, RunPlan, Shared, Trial},
    prepare::{Files, LoadedData},
    signals::Signals,
    train::model::Model,
    weights,
};

/// Name of the set that is trained on all domains.
const ALL: &str = "all domains";

/// What is studied.
pub struct Asked {
    /// The domains: data sets with the same labels.
    pub datasets: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// How long each set of weights is trained.
    pub budget: String,
    /// Number of seeds.
    pub seeds: usize,
    /// A backbone's name or folder.
    pub backbone: String,
    /// Overrides, `owner.key=value`.
    pub settings: Vec<String>,
    /// Folder of records, weights and tables.
    pub out: PathBuf,
    /// Whether the network is off.
    pub offline: bool,
    /// Runs at the same time.
    pub jobs: usize,
    /// Smaller differences do not matter.
    pub margin: Margin,
    /// Whether JSON is printed.
    pub json: bool,
    /// Whether nothing but errors is said.
    pub quiet: bool,
}

/// One set of weights on one domain's validation split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crossed {
    /// The method.
    pub method: String,
    /// The seed.
    pub seed: u64,
    /// Where it was trained: a domain, or `all domains`.
    pub trained_on: String,
    /// Where it was evaluated.
    pub evaluated_on: String,
    /// Validation examples.
    pub examples: usize,
    /// The domain's main metric, a fraction.
    pub value: f64,
    /// Size of the weights' file.
    pub file_bytes: u64,
}

/// `domains`.
///
/// # Errors
/// If data or backbone are not found, the domains differ in their labels, or the output folder cannot be written.
pub fn domains(asked: &Asked) -> Result<ExitCode> {
    let domains = &asked.datasets;
    ensure!(
        domains.len() >= 2,
        "--datasets: at least two domains are needed"
    );
    for (i, name) in domains.iter().enumerate() {
        ensure!(
            !domains[..i].contains(name),
            "--datasets: '{name}' is named twice"
        );
    }
    let out = &asked.out;
    folders::check_writable(out, "--out")?;
    let files = Files::new(asked.offline)?;
    let data = domains
        .iter()
        .map(|name| Ok((name.clone(), files.data(&choice(name))?)))
        .collect::<Result<Vec<_>>>()?;
    check_labels(&data)?;
    let all = write_all(&data, &out.join("all_domains"))?;
    drop(data);

    let signals = Signals::handle()?;
    let verbosity = Verbosity::of(asked.quiet, false);
    let how = How {
        verbosity,
        jobs: asked.jobs,
    };
    let seeds = plan::seeds(Some(asked.seeds), "standard")?;
    let mut sets = Vec::new();
    for (name, dataset) in domains
        .iter()
        .map(|d| (d.as_str(), d.clone()))
        .chain([(ALL, all.to_string_lossy().into_owned())])
    {
        let folder = out.join(folder_name(name));
        let (base, trials) = plan_of(asked, dataset, folder)?;
        if verbosity == Verbosity::Normal {
            eprintln!("{name}:");
        }
        let ended = local::compare(&base, &trials, &seeds, how, &signals)?;
        if let Some(code) = ended.interrupted {
            eprintln!("interrupted: the same command goes on with the rest");
            return Ok(ExitCode::from(code));
        }
        sets.push((name.to_owned(), base.out.clone(), ended.records));
    }

    let mut failed = 0;
    let crossed = cross(asked, &files, &sets, &mut failed)?;
    let summary = Summarised::of(&crossed, domains, asked.margin);
    let written = write(out, &crossed, &summary)?;
    if asked.json {
        say!("{}", serde_json::to_string_pretty(&summary.json(&crossed))?)?;
    } else {
        say!("{}", summary.terminal().trim_end())?;
        for path in written {
            eprintln!("wrote {}", path.display());
        }
    }
    if failed > 0 {
        eprintln!("{failed} runs did not end well; the table is without them");
        return Ok(ExitCode::from(exit::SOME_FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

/// A data set's name or path as the name of a folder.
fn folder_name(name: &str) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    name.chars().map(plain).collect()
}

fn choice(name: &str) -> DataChoice {
    DataChoice::of(name, Default::default())
}

fn check_labels(data: &[(String, LoadedData)]) -> Result<()> {
    let (first, expected) = (&data[0].0, &data[0].1.dataset);
    for (name, other) in data {
        let labels = &other.dataset.labels;
        ensure!(
            other.dataset.objective.is_classification(),
            "--datasets: the objective of '{name}' is {}; domains are compared for classification only",
            other.dataset.objective.name()
        );
        ensure!(
            *labels == expected.labels,
            "--datasets: '{name}' has the labels {} but '{first}' has {}; weights can be tried on another domain only if the \
             labels are the same",
            labels.join(", "),
            expected.labels.join(", ")
        );
        let metric = other.dataset.metrics[0];
        ensure!(
            metric == expected.metrics[0],
            "--datasets: '{name}' is judged by {} but '{first}' by {}",
            metric.name(),
            expected.metrics[0].name()
        );
    }
    Ok(())
}

/// Writes the training rows of all domains into one file and the validation rows into another, so that no row that a
/// domain validates on is trained on; returns the YAML that describes them.
fn write_all(data: &[(String, LoadedData)], folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        write_whole(&path, text.as_bytes())?;
        Ok(path)
    };
    let labels = &data[0].1.dataset.labels;
    let pairs = data.iter().any(|(_, d)| {
        d.dataset
            .split(Split::Train)
            .iter()
            .any(|e| e.pair.is_some())
    });
    for split in [Split::Train, Split::Validation] {
        let mut text = String::new();
        for (_, data) in data {
            for example in data.dataset.split(split) {
                let label = example.label.as_ref().and_then(Target::class);
                let label = label.map(|class| &labels[class as usize]);
                let row = match pairs {
                    true => json!({ "text": example.text, "pair": example.pair, "label": label }),
                    false => json!({ "text": example.text, "label": label }),
                };
                text += &row.to_string();
                text.push('\n');
            }
        }
        write(&format!("{}.jsonl", split.name()), &text)?;
    }
    let file = |split: Split| (split.name(), format!("{}.jsonl", split.name()));
    let both = BTreeMap::from([file(Split::Train), file(Split::Validation)]);
    let spec = json!({
        "name": "all_domains",
        "about": "The rows of several data sets together",
        "splits": { "train": "train", "validation": "validation" },
        "format": "jsonl",
        "text": if pairs { vec!["text", "pair"] } else { vec!["text"] },
        "label": { "column": "label", "names": labels },
        "metrics": data[0].1.dataset.metrics,
        "source": {
            "files": { "train": {}, "validation": {} },
            "places": [{ "path": { "folder": ".", "files": both } }],
        },
    });
    write("all_domains.yaml", &serde_yaml::to_string(&spec)?)
}

fn plan_of(asked: &Asked, dataset: String, out: PathBuf) -> Result<(RunPlan, Vec<Trial>)> {
    let shared = Shared {
        data: choice(&dataset),
        offline: asked.offline,
        budget: asked.budget.clone(),
        backbone: asked.backbone.clone(),
        settings: asked.settings.clone(),
        out: Some(out),
        tensorboard: None,
    };
    let (base, overrides) = shared.plan()?;
    let trials = plan::trials(&asked.methods, &overrides)?;
    Ok((base, trials))
}

/// Every set of weights on every domain. What was evaluated before is read from `crossed.json` in the output folder.
fn cross(
    asked: &Asked,
    files: &Files,
    sets: &[(String, PathBuf, Vec<record::Head>)],
    failed: &mut usize,
) -> Result<Vec<Crossed>> {
    let path = asked.out.join("crossed.json");
    // A damaged file costs its evaluations, nothing else.
    let mut known: BTreeMap<String, Crossed> = record::files::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let (base, _) = plan_of(asked, asked.datasets[0].clone(), asked.out.clone())?;
    let loaded = files
        .backbone(&base.backbone, &base.backbone_settings)?
        .load()?;
    let domains = asked
        .datasets
        .iter()
        .map(|name| {
            let data = files.data(&choice(name))?;
            let digest = data.dataset.digest();
            Ok((name, data.dataset, digest))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut crossed = Vec::new();
    for (trained_on, out, records) in sets {
        for record in records {
            if record.status != Status::Ok {
                *failed += 1;
                continue;
            }
            let key = |digest: &str| format!("{} {}", record.id, &digest[..16]);
            let folder = folders::weights_folder(out, &record.id);
            let missing = domains
                .iter()
                .any(|(.., digest)| !known.contains_key(&key(digest)));
            let task = missing
                .then(|| weights::load(&folder, &loaded))
                .transpose()?;
            for (name, dataset, digest) in &domains {
                if let (None, Some(task)) = (known.get(&key(digest)), &task) {
                    let examples = task.tokenizer(&loaded).encode_cached(
                        dataset.split(Split::Validation),
                        task.config.max_tokens,
                        files.cache(),
                    )?;
                    let model = Model::new(&loaded.backbone, &*task.method, &task.head);
                    let logits = model.all_logits(&examples)?;
                    let metric = dataset.metrics[0];
                    let metrics = task.objective.metrics(&[metric], &examples, &logits);
                    let one = Crossed {
                        method: record.asked.method.name.clone(),
                        seed: record.asked.seed,
                        trained_on: trained_on.clone(),
                        evaluated_on: (*name).clone(),
                        examples: examples.len(),
                        value: metrics[metric.name()],
                        file_bytes: record.cost.as_ref().map_or(0, |c| c.file_bytes),
                    };
                    known.insert(key(digest), one);
                }
                crossed.extend(known.get(&key(digest)).cloned());
            }
            write_whole(&path, &serde_json::to_vec_pretty(&known)?)?;
        }
    }
    Ok(crossed)
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
struct Line {
    method: String,
    weights: &'static str,
    /// By domain, over seeds (and over the other domains' weights).
    values: Vec<Option<Summary>>,
    /// Over all of these.
    mean: Option<Summary>,
    /// Bytes of all files that this way needs.
    file_bytes: u64,
}

struct Summarised {
    domains: Vec<String>,
    lines: Vec<Line>,
    margin: Margin,
}

const METRIC: &str = "Main metric on each domain's validation split (%), mean over seeds.";
const STEPS: &str = "Every set of weights was trained for the same number of steps.";
const OWN: &str = "own";
const OTHERS: &str = "other domains'";
const ONE: &str = "one for all";

/// How to read the verdicts.
fn legend(margin: Margin) -> String {
    format!(
        "Verdicts take the domains as a sample of domains and need three of them; equivalent means within {}. {}",
        format::metric_difference("accuracy", margin.get()),
        words::UNDECIDED
    )
}

/// What is shown of the first line against the second, with the domains as the sample.
fn verdict(first: &Line, second: &Line, margin: Margin) -> String {
    let estimates = first
        .values
        .iter()
        .zip(&second.values)
        .filter_map(|(a, b)| {
            let (a, b) = (a.as_ref()?, b.as_ref()?);
            let variance = |s: &Summary| s.sd.map_or(0.0, |sd| sd * sd / s.values.len() as f64);
            Some(Estimate {
                difference: a.mean - b.mean,
                // Without a spread over seeds all of it is between domains.
                variance: (variance(a) + variance(b)).max(1e-8),
            })
        });
    let found = Combined::of(&estimates.collect::<Vec<_>>()).filter(|c| c.datasets >= 3);
    let Some(found) = found else {
        return words::NOT_TESTED.to_owned();
    };
    let [low, high] = found.interval;
    let within = low > -margin.get() && high < margin.get();
    let verdict = Verdict::of(found.difference, found.p < ALPHA, within);
    words::verdict_in_full(verdict, "accuracy", margin)
}

/// Tells whether a result belongs to a kind of weights.
type IsKind = fn(&Crossed) -> bool;

impl Summarised {
    fn of(crossed: &[Crossed], domains: &[String], margin: Margin) -> Self {
        let mut methods: Vec<&String> = Vec::new();
        for c in crossed {
            if !methods.contains(&&c.method) {
                methods.push(&c.method);
            }
        }
        let mut lines = Vec::new();
        for method in methods {
            let of_method = || crossed.iter().filter(|c| c.method == *method);
            let kinds: [(&str, IsKind); 3] = [
                (OWN, |c| c.trained_on == c.evaluated_on),
                (OTHERS, |c| {
                    c.trained_on != c.evaluated_on && c.trained_on != ALL
                }),
                (ONE, |c| c.trained_on == ALL),
            ];
            for (weights, takes) in kinds {
                let values: Vec<Option<Summary>> = domains
                    .iter()
                    .map(|d| {
                        let of = of_method().filter(|c| takes(c) && c.evaluated_on == *d);
                        Summary::of(of.map(|c| c.value))
                    })
                    .collect();
                let means = values.iter().flatten().map(|s| s.mean);
                let sizes: BTreeMap<&str, u64> = of_method()
                    .filter(|c| takes(c) && weights != OTHERS)
                    .map(|c| (c.trained_on.as_str(), c.file_bytes))
                    .collect();
                lines.push(Line {
                    method: method.clone(),
                    weights,
                    mean: Summary::of(means),
                    values,
                    file_bytes: sizes.values().sum(),
                });
            }
        }
        Self {
            domains: domains.to_vec(),
            lines,
            margin,
        }
    }

    fn table(&self) -> Table {
        let percent = |s: &Option<Summary>| {
            let mean = s.as_ref().map(|s| s.mean);
            Cell::of(mean, || format!("{:.1}", 100.0 * mean.unwrap_or_default()))
        };
        let mut columns = vec![
            Column::text("method", "method", "method", 0),
            Column::text("weights", "weights", "weights", 0),
        ];
        columns.extend(self.domains.iter().map(|d| Column::number(d, d, d, 2)));
        columns.push(Column::number("mean", "mean", "mean", 0));
        columns.push(Column::number("file_bytes", "files", "files", 1));
        let row = |line: &Line| {
            let mut row = vec![Cell::text(&line.method), Cell::text(line.weights)];
            row.extend(line.values.iter().map(percent));
            row.push(percent(&line.mean));
            let bytes = Some(line.file_bytes).filter(|b| *b > 0);
            row.push(Cell::of(bytes, || format::bytes(line.file_bytes as f64)));
            row
        };
        Table::new(columns, self.lines.iter().map(row))
    }

    /// What isolation gives and costs, a sentence per method.
    fn sentences(&self) -> Vec<String> {
        self.lines
            .chunks(3)
            .filter_map(|lines| {
                let [own, others, one] = lines else { return None };
                let (a, b, c) = (own.mean.as_ref()?.mean, others.mean.as_ref()?.mean, one.mean.as_ref()?.mean);
                Some(format!(
                    "{}: own weights {:+.1} points against one set for all ({}), {:+.1} against the other domains' weights ({}); {} \
                     files of {} in all against one of {}.",
                    own.method,
                    100.0 * (a - c),
                    verdict(own, one, self.margin),
                    100.0 * (a - b),
                    verdict(own, others, self.margin),
                    self.domains.len(),
                    format::bytes(own.file_bytes as f64),
                    format::bytes(one.file_bytes as f64)
                ))
            })
            .collect()
    }

    fn terminal(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.table().terminal(output::terminal_width()),
            self.sentences().join("\n"),
            legend(self.margin)
        )
    }

    fn markdown(&self) -> String {
        let mut text = format!("{METRIC}\n\n{}\n", self.table().markdown());
        for sentence in self.sentences() {
            text += &format!("- {}\n", markdown_text(&sentence));
        }
        text + &format!("\n{STEPS} {}\n", legend(self.margin))
    }

    fn json(&self, crossed: &[Crossed]) -> serde_json::Value {
        json!({ "domains": self.domains, "margin": self.margin, "lines": self.lines, "sentences": self.sentences(), "crossed": crossed })
    }
}

fn write(out: &Path, crossed: &[Crossed], summary: &Summarised) -> Result<Vec<PathBuf>> {
    let names = [
        "method",
        "seed",
        "trained_on",
        "evaluated_on",
        "examples",
        "value",
        "file_bytes",
    ];
    let row = |c: &Crossed| {
        let values = [
            json!(c.method),
            json!(c.seed),
            json!(c.trained_on),
            json!(c.evaluated_on),
            json!(c.examples),
            json!(c.value),
            json!(c.file_bytes),
        ];
        values.map(|v| Cell::hidden(Some(v))).to_vec()
    };
    let columns = names.map(Column::hidden).to_vec();
    let csv = Table::new(columns, crossed.iter().map(row)).csv(true)?;
    let json = serde_json::to_string_pretty(&summary.json(crossed))?;
    let measurement = Measurement {
        title: "Domains".into(),
        description: format!("{METRIC} {STEPS} {}", legend(summary.margin)),
        tables: vec![summary.table()],
        sentences: summary.sentences(),
    };
    let shown = measurement.write(out)?;
    [
        ("domains.md", summary.markdown()),
        ("domains.csv", csv),
        ("domains.json", json + "\n"),
    ]
    .into_iter()
    .map(|(name, text)| {
        let path = out.join(name);
        write_whole(&path, text.as_bytes())?;
        Ok(path)
    })
    .chain([Ok(shown)])
    .collect()
}
