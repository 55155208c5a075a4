//! The Python libraries (`peer.py`) in each of their modes beside ours in each precision, in turn, each run in a process of
//! its own, on the same token ids in the same batches; then the ratios of ours to the best of theirs.
//!
//! `PEFTBENCH_PYTHON` names a Python that can import torch, transformers, peft and adapters; without it, a virtual
//! environment is made in `reports/out/bench/venv` and they are installed there.

pub mod decoder;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use backbone::{Backbone, Precision};
use datasets::Encoded;
use methods::{HeadOnly, PeftMethod};
use peftbench::{
    train::encoded::EncodedData,
    train::model::{Model, batch_of},
    train::prepared::Prepared,
};
use record::RunRecord;
use serde::Deserialize;

use crate::{
    common::{self, median},
    roofline,
};

/// Steps that are timed, after [`WARM_UP`] others.
const STEPS: usize = 60;
const WARM_UP: usize = 5;
/// Sentences whose latency is taken, the first eighth for warm-up.
const SENTENCES: usize = 256;
/// Of one process of each side.
const REPEATS: usize = 3;

const PACKAGES: [&str; 4] = ["torch", "transformers<4.58", "peft", "adapters"];

/// Our name, the script's name.
const METHODS: [(&str, &str); 5] = [
    ("lora", "lora"),
    ("prompt_tuning", "prompt"),
    ("adapter", "adapter"),
    ("full", "full"),
    ("head_only", "head"),
];

/// The script's modes: PyTorch in f32, its autocast to bf16, frozen weights in bf16 under autocast, torch.compile in f32.
const MODES: [&str; 4] = ["f32", "autocast", "frozen", "compile"];

/// What one run of either side gives.
#[derive(Clone, Deserialize)]
struct Figures {
    examples_per_second: f64,
    /// From the second epoch on, where it differs.
    #[serde(default)]
    later_examples_per_second: f64,
    peak_mb: f64,
    seconds_to_first_step: f64,
    /// Median latency of one sentence, in ms.
    latency_ms: f64,
    /// The same, merged.
    #[serde(default)]
    merged_ms: f64,
}

pub fn main(arguments: &[&str]) -> Result<()> {
    if let [decoder::BACKBONE, ref rest @ ..] = arguments[..] {
        return decoder::main(rest);
    }
    let mut repeats = REPEATS;
    let mut names = Vec::new();
    for argument in arguments {
        match argument.strip_prefix("--repeats=") {
            Some(n) => repeats = n.parse().context("--repeats=N")?,
            None => names.push(*argument),
        }
    }
    for name in &names {
        ensure!(
            METHODS.iter().any(|(ours, _)| ours == name),
            "peer: '{name}' has no counterpart; known: {METHODS:?}"
        );
    }
    let out = common::out()?;
    let python = python(&out)?;
    let settings = [Precision::F32, Precision::Bf16]
        .into_iter()
        .map(|precision| Ok((precision, roofline::setting(precision)?)))
        .collect::<Result<Vec<_>>>()?;
    let setting = &settings[0].1;
    let work = out.join("peer-batches.json");
    write_batches(setting, &work, STEPS, SENTENCES)?;
    let model = peer_model(setting, &out)?;

    let ours = settings.iter().map(|(p, _)| format!("ours, {}", p.name()));
    let theirs = MODES.map(|mode| format!("PyTorch, {mode}"));
    let mut table = heading(&ours.chain(theirs).collect::<Vec<_>>());
    for (ours, theirs) in METHODS {
        if !names.is_empty() && !names.contains(&ours) {
            continue;
        }
        let mut own = vec![Vec::new(); settings.len()];
        let mut peer = vec![Vec::new(); MODES.len()];
        for round in 1..=repeats {
            for (figures, (precision, setting)) in own.iter_mut().zip(&settings) {
                eprintln!("{ours}, {}: {round} of {repeats}", precision.name());
                figures.push(run_own(ours, *precision, setting, &out)?);
            }
            for (figures, mode) in peer.iter_mut().zip(MODES) {
                eprintln!("PyTorch, {mode}: {round} of {repeats}");
                match run_peer(&python, theirs, mode, &model, &work) {
                    Ok(found) => figures.push(found),
                    Err(error) => eprintln!("note: PyTorch, {mode}: {error:#}"),
                }
            }
        }
        rows(&mut table, ours, &own, &peer)?;
    }
    println!("{table}");
    let path = out.join("peer.md");
    fs::write(&path, &table)?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// A LoRA step and one sentence of PyTorch in f32, in milliseconds; each call is a process.
pub fn lora_in_f32() -> Result<impl Fn() -> Result<[f64; 2]>> {
    let out = common::out()?;
    let python = python(&out)?;
    let setting = roofline::setting(Precision::F32)?;
    // Beside busy processes each step takes long.
    let work = out.join("busy-batches.json");
    write_batches(&setting, &work, 10, 64)?;
    let model = peer_model(&setting, &out)?;
    Ok(move || {
        let figures = run_peer(&python, "lora", "f32", &model, &work)?;
        Ok([32e3 / figures.examples_per_second, figures.latency_ms])
    })
}

/// The head of a table with these columns.
fn heading(columns: &[String]) -> String {
    let (columns, rule) = (columns.join(" | "), "---:|".repeat(columns.len() + 1));
    format!("| method | figure | {columns} | our best / their best |\n|---|---|{rule}\n")
}

/// A row: method and figure, the values of our columns and of theirs (`–` where there is none), and the ratio of the best, each
/// with so many digits. `most` says that more is better.
fn row(
    table: &mut String,
    [method, figure]: [&str; 2],
    most: bool,
    [ours, theirs]: [&[f64]; 2],
    [digits, of_ratio]: [usize; 2],
) -> Result<()> {
    let best = |values: &[f64]| match most {
        true => values.iter().copied().fold(f64::NAN, f64::max),
        false => values.iter().copied().fold(f64::NAN, f64::min),
    };
    write!(table, "| {method} | {figure} |")?;
    for value in ours.iter().chain(theirs) {
        match value.is_nan() {
            true => write!(table, " – |")?,
            false => write!(table, " {value:.digits$} |")?,
        }
    }
    writeln!(table, " {:.of_ratio$} |", best(ours) / best(theirs))?;
    Ok(())
}

/// A row per figure: medians of our precisions, of their modes (`–` for one that failed), and the ratio of the best.
fn rows(table: &mut String, name: &str, own: &[Vec<Figures>], peer: &[Vec<Figures>]) -> Result<()> {
    type Figure = fn(&Figures) -> f64;
    let figures: [(&str, bool, Figure); 5] = [
        ("training, examples/s", true, |f| f.examples_per_second),
        ("latency of one sentence, p50 ms", false, |f| f.latency_ms),
        ("the same, merged", false, |f| f.merged_ms),
        ("peak resident memory, MB", false, |f| f.peak_mb),
        ("process start to first step, s", false, |f| {
            f.seconds_to_first_step
        }),
    ];
    let medians = |sides: &[Vec<Figures>], f: Figure| -> Vec<f64> {
        let of = |figures: &Vec<Figures>| median(&figures.iter().map(f).collect::<Vec<_>>());
        sides.iter().map(of).collect()
    };
    for (what, most, figure) in figures {
        let (ours, theirs) = (medians(own, figure), medians(peer, figure));
        if !theirs.iter().chain(&ours).any(|value| *value > 0.0) {
            continue;
        }
        row(table, [name, what], most, [&ours, &theirs], [2, 3])?;
    }
    let later = own[0].iter().map(|f| f.later_examples_per_second);
    let later = median(&later.collect::<Vec<_>>());
    if later > 0.0 {
        let rest = " |".repeat(own.len() + peer.len());
        writeln!(
            table,
            "| {name} | training from the second epoch on, examples/s | {later:.0} |{rest}"
        )?;
    }
    Ok(())
}

/// The Python to use, with its packages installed if it is ours.
fn python(out: &Path) -> Result<PathBuf> {
    if let Some(python) = std::env::var_os("PEFTBENCH_PYTHON") {
        return Ok(python.into());
    }
    let folder = out.join("venv");
    let python = folder.join("bin/python");
    if !python.exists() {
        eprintln!(
            "making {} with {}; set PEFTBENCH_PYTHON to use a Python that has them",
            folder.display(),
            PACKAGES.join(", ")
        );
        done(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        done(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet"])
                .args(PACKAGES),
        )?;
    }
    Ok(python)
}

fn done(command: &mut Command) -> Result<Vec<u8>> {
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(output.stdout)
}

/// Token ids and labels of the batches, and validation sentences, as both sides use them.
fn write_batches(setting: &Prepared, path: &Path, steps: usize, sentences: usize) -> Result<()> {
    let encoded = roofline::encoded(setting)?;
    let batches = batches(&encoded, WARM_UP + steps);
    let validation = &encoded.validation;
    let sentences: Vec<_> = (0..validation.len().min(sentences))
        .map(|i| validation.example(i).0)
        .collect();
    let all = serde_json::json!({ "warm_up": WARM_UP, "batches": batches, "sentences": sentences });
    fs::write(path, serde_json::to_vec(&all)?)?;
    Ok(())
}

/// Token ids and labels of the first batches.
fn batches(encoded: &EncodedData, steps: usize) -> Vec<serde_json::Value> {
    let order = roofline::order(encoded, steps);
    let of = |batch: &Vec<u32>| some(&encoded.train, batch);
    order.iter().map(of).collect()
}

/// Token ids and labels of some examples.
fn some(examples: &Encoded, indices: &[u32]) -> serde_json::Value {
    let ids = indices.iter().map(|i| examples.example(*i as usize).0);
    let labels = indices.iter().map(|i| examples.label(*i as usize).class());
    serde_json::json!({ "ids": ids.collect::<Vec<_>>(), "labels": labels.collect::<Vec<_>>() })
}

/// A folder with the backbone's configuration and weights as transformers reads them.
fn peer_model(setting: &Prepared, out: &Path) -> Result<PathBuf> {
    let folder = out.join("peer-model");
    fs::create_dir_all(&folder)?;
    let c = setting.backbone.backbone.config();
    let config = serde_json::json!({
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": c.hidden, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "intermediate_size": c.intermediate, "vocab_size": c.vocabulary,
        "max_position_embeddings": c.positions, "type_vocab_size": c.token_types, "hidden_act": "gelu",
        "layer_norm_eps": c.epsilon, "pad_token_id": 0,
    });
    fs::write(folder.join("config.json"), serde_json::to_vec(&config)?)?;
    let tensors: BTreeMap<String, _> = setting.backbone.backbone.tensors().into_iter().collect();
    let format = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(tensors, Some(format), &folder.join("model.safetensors"))?;
    Ok(folder)
}

fn run_peer(python: &Path, method: &str, mode: &str, model: &Path, work: &Path) -> Result<Figures> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer/peer.py");
    let output = done(
        Command::new(python)
            .arg(script)
            .args(["--method", method, "--mode", mode])
            .arg("--model")
            .arg(model)
            .arg("--batches")
            .arg(work)
            .env("THREADS", kernels::threads().to_string())
            .env("TOKENIZERS_PARALLELISM", "false"),
    )?;
    last_line(output)
}

/// What a process has printed in its last line.
fn last_line<T: for<'a> Deserialize<'a>>(output: Vec<u8>) -> Result<T> {
    let text = String::from_utf8(output)?;
    serde_json::from_str(text.lines().last().unwrap_or_default())
        .with_context(|| format!("instead of JSON: {text}"))
}

/// The command itself, as a user runs it.
fn run_own(method: &str, precision: Precision, setting: &Prepared, out: &Path) -> Result<Figures> {
    let folder = tempfile::tempdir_in(out)?;
    let precision = format!("backbone.precision={}", precision.name());
    let steps = format!("recipe.steps={}", WARM_UP + STEPS);
    let mut command = Command::new(env!("CARGO_BIN_EXE_peftbench"));
    command
        .args([
            "train",
            "sst2",
            "--method",
            method,
            "--json",
            "--set",
            "backbone.pooling=pooler",
            "--set",
            &precision,
            "--set",
            &steps,
        ])
        .args(["--set", "recipe.evaluations=1"])
        .arg("--out")
        .arg(folder.path());
    if method == "prompt_tuning" {
        command.args(["--set", "prompt_tuning.pooling=first"]);
    }
    let record: RunRecord = serde_json::from_slice(&done(&mut command)?)?;
    let cost = record.cost.context("the run has no cost")?;
    let timed: f64 = cost.step_seconds[WARM_UP..]
        .iter()
        .map(|s| f64::from(*s))
        .sum();
    let later = if method == "head_only" {
        later_epochs(setting)?
    } else {
        0.0
    };
    let [latency_ms, merged_ms] = latencies(setting, method)?;
    Ok(Figures {
        examples_per_second: (32 * STEPS) as f64 / timed,
        later_examples_per_second: later,
        peak_mb: cost.peak_memory_bytes.unwrap_or_default() as f64 / (1 << 20) as f64,
        seconds_to_first_step: cost.seconds_to_first_step,
        latency_ms,
        merged_ms,
    })
}

/// Median latency of one sentence in ms, unmerged and (0 where it cannot be) merged: the loop of `peer.py`, one variant
/// after the other. (A record's latencies are taken in turn with others, so that each pass finds the cache cold.)
fn latencies(setting: &Prepared, method: &str) -> Result<[f64; 2]> {
    let backbone = &setting.backbone.backbone;
    let resolved = methods::resolve(method, &Default::default())?;
    let method = common::shipped(&resolved, backbone)?;
    let head = common::head(backbone)?;
    let examples = &roofline::encoded(setting)?.validation;
    let time = |backbone: &Backbone, method: &dyn PeftMethod| -> Result<f64> {
        let model = Model::new(backbone, method, &head);
        let mut times = Vec::new();
        for i in 0..SENTENCES.min(examples.len()) {
            let batch = batch_of(examples, &[i as u32])?;
            let clock = Instant::now();
            model.logits(&batch)?;
            times.push(1e3 * clock.elapsed().as_secs_f64());
        }
        Ok(median(&times[times.len() / 8..]))
    };
    let merged = match method.merge(backbone) {
        Ok(merged) => time(&merged, &HeadOnly)?,
        Err(_) => 0.0,
    };
    Ok([time(backbone, &*method)?, merged])
}

/// Examples per second of the second and third epoch over some batches, for a method whose features are constant.
fn later_epochs(setting: &Prepared) -> Result<f64> {
    let epoch = roofline::order(&*roofline::encoded(setting)?, STEPS);
    let order = [epoch.clone(), epoch.clone(), epoch].concat();
    let resolved = methods::resolve("head_only", &Default::default())?;
    let method = common::build(&resolved, &setting.backbone.backbone)?;
    let trained = roofline::train(
        setting,
        &resolved,
        &*method,
        &order,
        roofline::QUICKLY_JUDGED,
    )?;
    let seconds = trained.step_seconds[STEPS..].iter();
    Ok((2 * 32 * STEPS) as f64 / seconds.map(|s| f64::from(*s)).sum::<f64>())
}
