//! A decoder on both sides: `bench peer smollm2-135m [--repeats=N | --accuracy]`.
//!
//! Training: classes are words of the vocabulary, on the same token ids in the same batches, over the same weights, those of
//! the GGUF in f32 or rounded from there. Inference: a prompt, then greedy tokens one by one. Each run is a process
//! (`decoder.py` for the Python libraries); tokens are those of the texts, without virtual ones and padding.
//!
//! `--accuracy`: LoRA and prompt tuning are trained on both sides as long as a quick comparison trains them, on the same
//! batches at the same rates, and judged by the same sentences; it fails where the two differ by more than 1.5 points.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use backbone::Precision;
use methods::{HeadOnly, PeftMethod};
use peftbench::{
    generate, measure,
    plan::Trial,
    prepare::Vocabulary,
    saved::write_tensors,
    train::{completions, head::Head, prepared::Prepared},
};
use serde_json::{Value, json};

use super::{batches, done, heading, last_line, python, row, some};
use crate::{
    common::{self, median},
    roofline,
};

pub const BACKBONE: &str = "smollm2-135m";

/// Steps that are timed, after [`WARM_UP`] others.
const STEPS: usize = 2;
const WARM_UP: usize = 1;
/// Tokens of the prompt, and those written behind it.
const PROMPT: usize = 512;
const WRITTEN: usize = 64;

/// Steps before the accuracy, the validation sentences of GLUE that it is of, and how far the two sides may be apart.
const ACCURACY_STEPS: usize = 150;
const SENTENCES: usize = 872;
const APART: f64 = 0.015;

/// Our columns, and those of the script's modes.
const OURS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Q4];
const THEIRS: [(&str, &str); 3] = [
    ("f32", "PyTorch, f32"),
    ("bf16", "PyTorch, bf16"),
    ("llama_cpp", "llama.cpp"),
];

/// What is done, with which method of ours and of the script.
const TASKS: [(&str, &str, &str); 5] = [
    ("training", "lora", "lora"),
    ("training", "prompt_tuning", "prompt"),
    ("training", "full", "full"),
    ("inference", "none", "none"),
    ("inference", "lora", "lora"),
];

/// A figure's title, its key, and whether more is better.
type Figure = (&'static str, &'static str, bool);
const OF_TRAINING: [Figure; 2] = [
    ("training, tokens/s", "tokens_per_second", true),
    ("peak resident memory, MB", "peak_mb", false),
];
const OF_INFERENCE: [Figure; 3] = [
    ("prompt of 512 tokens, tokens/s", "prefill", true),
    ("64 tokens behind it, tokens/s", "decode", true),
    ("peak resident memory, MB", "peak_mb", false),
];

/// What each column's runs gave.
type Columns = BTreeMap<String, Vec<Value>>;

pub fn main(arguments: &[&str]) -> Result<()> {
    let repeats = match arguments[..] {
        [] => 1,
        ["--accuracy"] => return accuracy(),
        [one] => {
            let n = one.strip_prefix("--repeats=").and_then(|n| n.parse().ok());
            n.with_context(|| {
                format!("peer {BACKBONE}: expected --repeats=N or --accuracy, got {one}")
            })?
        }
        _ => bail!("peer {BACKBONE}: expected --repeats=N or --accuracy, got {arguments:?}"),
    };
    let out = common::out()?;
    let python = python(&out)?;
    let files = prepare(&out, WARM_UP + STEPS)?;
    let mut table = heading(&[our_columns(), their_columns()].concat());
    // llama.cpp has no file of a LoRA: its figures stand beside ours with one, too.
    let mut without_lora = Vec::new();
    for (what, ours, theirs) in TASKS {
        let mut columns = Columns::new();
        for round in 1..=repeats {
            eprintln!("{what}, {ours}: {round} of {repeats}");
            for precision in OURS {
                let rounded = precision != Precision::F32;
                // Blocks of four bits are for inference, and what is trained as a whole is in f32.
                if what == "training" && (precision == Precision::Q4 || ours == "full" && rounded) {
                    continue;
                }
                let mut command = Command::new(std::env::current_exe()?);
                let arguments = ["peer-decoder", what, ours, precision.name(), "--bench"];
                add(
                    &mut columns,
                    &format!("ours, {}", precision.name()),
                    command.args(arguments),
                );
            }
            for (mode, title) in THEIRS {
                if mode == "llama_cpp" && (what, ours) != ("inference", "none") {
                    continue;
                }
                let mut command = files.script(&python);
                command.args([what, "--method", theirs, "--mode", mode]);
                add(&mut columns, title, &mut command);
            }
        }
        match (what, ours) {
            ("inference", "none") => {
                without_lora = columns.get("llama.cpp").cloned().unwrap_or_default();
                same_tokens(&columns);
            }
            ("inference", _) => {
                columns.insert("llama.cpp".to_owned(), without_lora.clone());
            }
            // A prompt's start is drawn, so that its first loss is another.
            _ if ours != "prompt_tuning" => same_loss(&columns),
            _ => {}
        }
        let figures = match what {
            "training" => &OF_TRAINING[..],
            _ => &OF_INFERENCE[..],
        };
        for (title, key, most) in figures {
            let [own, others] =
                [our_columns(), their_columns()].map(|all| all.map(|c| value(&columns, &c, key)));
            row(&mut table, [ours, title], *most, [&own, &others], [0, 2])?;
        }
    }
    println!("{table}");
    println!(
        "llama.cpp reads the prompt without LoRA in all rows; ‘none’ is the backbone as it is."
    );
    let path = out.join("peer-decoder.md");
    fs::write(&path, &table)?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// Both sides' accuracy after the same training.
fn accuracy() -> Result<()> {
    let out = common::out()?;
    let python = python(&out)?;
    let files = prepare(&out, ACCURACY_STEPS)?;
    let mut table = "| method | ours | transformers and PEFT |\n|---|--:|--:|\n".to_owned();
    let mut apart = 0f64;
    for (ours, theirs) in [("lora", "lora"), ("prompt_tuning", "prompt")] {
        eprintln!("{ours}: {ACCURACY_STEPS} steps here");
        let mut own = Command::new(std::env::current_exe()?);
        own.args(["peer-decoder", "accuracy", ours, "f32", "--bench"]);
        let own: Value = last_line(done(&mut own)?)?;
        eprintln!("{ours}: the same in PyTorch");
        let mut other = files.script(&python);
        other.args(["accuracy", "--method", theirs, "--mode", "f32"]);
        let other: Value = last_line(done(&mut other)?)?;
        let [own, other] = [own, other].map(|figures| figures["accuracy"].as_f64());
        let (own, other) = own.zip(other).context("a side says no accuracy")?;
        table += &format!(
            "| {ours} | {:.1} % | {:.1} % |\n",
            100.0 * own,
            100.0 * other
        );
        apart = apart.max((own - other).abs());
    }
    println!("{table}");
    ensure!(
        apart <= APART,
        "the two sides are {:.1} points apart, more than {}",
        100.0 * apart,
        100.0 * APART
    );
    Ok(())
}

/// Runs a process and keeps its figures; says why, where there are none.
fn add(columns: &mut Columns, column: &str, command: &mut Command) {
    let found = done(command).and_then(last_line::<Value>);
    match found {
        Ok(figures) => match figures["missing"].as_str() {
            Some(missing) => eprintln!("note: {column}: {missing}"),
            None => columns.entry(column.to_owned()).or_default().push(figures),
        },
        Err(error) => eprintln!("note: {column}: {error:#}"),
    }
}

/// Names of our columns.
fn our_columns() -> [String; 3] {
    OURS.map(|precision| format!("ours, {}", precision.name()))
}

/// Names of theirs.
fn their_columns() -> [String; 3] {
    THEIRS.map(|(_, title)| title.to_owned())
}

/// The median of a column's runs.
fn value(columns: &Columns, column: &str, key: &str) -> f64 {
    let runs = columns.get(column).into_iter().flatten();
    let values: Vec<f64> = runs.filter_map(|run| run[key].as_f64()).collect();
    median(&values)
}

/// Says so where both sides did not begin with the same loss in f32: then they did not do the same.
fn same_loss(columns: &Columns) {
    let of = |column| -> Option<f64> { columns.get(column)?.first()?["first_loss"].as_f64() };
    if let (Some(ours), Some(theirs)) = (of("ours, f32"), of("PyTorch, f32"))
        && (ours - theirs).abs() > 1e-3 * theirs.abs()
    {
        eprintln!("WARNING: the first step's loss is {ours} here and {theirs} in PyTorch");
    }
}

/// Says so where both sides did not write the same tokens in f32.
fn same_tokens(columns: &Columns) {
    let of = |column: &str| Some(columns.get(column)?.first()?["written"].clone());
    let (ours, theirs) = (of("ours, f32"), of("PyTorch, f32"));
    if ours.is_some() && theirs.is_some() && ours != theirs {
        eprintln!("WARNING: other tokens are written here ({ours:?}) than in PyTorch ({theirs:?})");
    }
}

/// What the script reads.
struct Files {
    model: PathBuf,
    gguf: PathBuf,
    work: PathBuf,
}

impl Files {
    fn script(&self, python: &Path) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer/decoder.py");
        let mut command = Command::new(python);
        command.arg(script);
        for (flag, path) in [
            ("--model", &self.model),
            ("--gguf", &self.gguf),
            ("--work", &self.work),
        ] {
            command.arg(flag).arg(path);
        }
        command
            .env("THREADS", kernels::threads().to_string())
            .env("TOKENIZERS_PARALLELISM", "false");
        command
    }
}

fn setting(precision: Precision) -> Result<Prepared> {
    Prepared::load_silently(&roofline::plan(BACKBONE, None, precision)?)
}

/// Tokens that begin the prompt: those of the first training texts.
fn prompt(setting: &Prepared) -> Result<Vec<u32>> {
    let ids = &roofline::encoded(setting)?.train.ids;
    Ok(ids.iter().copied().take(PROMPT).collect())
}

/// Writes the batches of so many steps, validation sentences, the prompt, and the weights as transformers reads them.
fn prepare(out: &Path, steps: usize) -> Result<Files> {
    let setting = setting(Precision::F32)?;
    let loaded = &setting.backbone;
    let encoded = roofline::encoded(&setting)?;
    let words = setting.words.as_ref();
    let words = words.context("SST-2 was not found, and its stand-in has no words")?;
    let work = out.join("peer-decoder-work.json");
    let judged: Vec<u32> = (0..encoded.validation.len().min(SENTENCES) as u32).collect();
    let recipe = roofline::recipe(&encoded, steps)?;
    let schedule: Vec<f64> = (0..steps).map(|step| recipe.schedule(step)).collect();
    let all = json!({
        "warm_up": WARM_UP, "batches": batches(&encoded, steps), "schedule": schedule,
        "validation": some(&encoded.validation, &judged),
        "words": words.ids(&loaded.tokenizer)?, "prompt": prompt(&setting)?, "tokens": WRITTEN,
    });
    fs::write(&work, serde_json::to_vec(&all)?)?;
    let model = out.join("peer-decoder-model");
    fs::create_dir_all(&model)?;
    let config = serde_json::to_vec(&loaded.config_json()?)?;
    fs::write(model.join("config.json"), config)?;
    let (weights, whose) = (model.join("model.safetensors"), model.join("digest"));
    let [.., gguf] = &loaded.files;
    if !weights.exists() || fs::read_to_string(&whose).ok().as_ref() != Some(&loaded.weights_digest)
    {
        let prefix = loaded.backbone.config().architecture.prefix();
        let tensors = loaded.backbone.tensors().into_iter();
        let tensors = tensors.map(|(name, tensor)| (format!("{prefix}{name}"), tensor));
        write_tensors(&weights, tensors.collect(), &[])?;
        fs::write(&whose, &loaded.weights_digest)?;
    }
    Ok(Files {
        model,
        gguf: gguf.clone(),
        work,
    })
}

/// Our side of one run, in a process of its own: its figures as JSON.
pub fn own(what: &str, method: &str, precision: &str) -> Result<()> {
    let precision = OURS.into_iter().find(|p| p.name() == precision);
    let setting = setting(precision.context("peer-decoder: no such precision")?)?;
    let mut figures = match what {
        "training" => train(&setting, method, WARM_UP + STEPS, roofline::QUICKLY_JUDGED)?,
        "accuracy" => train(&setting, method, ACCURACY_STEPS, SENTENCES)?,
        _ => go_on(&setting, method)?,
    };
    let peak = measure::peak_memory().unwrap_or_default();
    figures["peak_mb"] = json!(peak as f64 / (1 << 20) as f64);
    println!("{figures}");
    Ok(())
}

fn train(setting: &Prepared, method: &str, steps: usize, judged: usize) -> Result<Value> {
    let resolved = setting.method(&Trial::of(method)?)?;
    let method = resolved.build(&mut methods::Context {
        backbone: &setting.backbone.backbone,
        rng: &mut datasets::stream(0, "method"),
        words: &Vocabulary(&setting.backbone.tokenizer),
    })?;
    let encoded = roofline::encoded(setting)?;
    let order = roofline::order(&encoded, steps);
    let trained = roofline::train(setting, &resolved, &*method, &order, judged)?;
    let lengths = encoded.train.lengths();
    let timed = order[WARM_UP..].iter().flatten();
    let tokens: usize = timed.map(|i| lengths[*i as usize]).sum();
    let seconds: f32 = trained.step_seconds[WARM_UP..].iter().sum();
    Ok(json!({
        "tokens_per_second": tokens as f64 / f64::from(seconds), "first_loss": trained.loss[0],
        "accuracy": trained.evaluations.last().and_then(|e| e.metrics.get("accuracy")),
    }))
}

fn go_on(setting: &Prepared, method: &str) -> Result<Value> {
    let backbone = &setting.backbone.backbone;
    let lora;
    let method: &dyn PeftMethod = match method {
        "none" => &HeadOnly,
        name => {
            lora = common::shipped(&setting.method(&Trial::of(name)?)?, backbone)?;
            &*lora
        }
    };
    let prompt = prompt(setting)?;
    // No token ends a text.
    let output = |most| completions::output(&setting.backbone, None, u32::MAX, most);
    let (one, all) = (output(1)?, output(WRITTEN)?);
    let write = |head: &Head, prompt: &[u32]| -> Result<(Vec<u32>, f64)> {
        let vocabulary = head.vocabulary().context("a head over the vocabulary")?;
        let clock = Instant::now();
        let mut written = generate::greedy(backbone, method, vocabulary, &[prompt])?;
        let seconds = clock.elapsed().as_secs_f64();
        Ok((written.remove(0), seconds))
    };
    for head in [&one, &all] {
        write(head, &prompt[..8])?;
    }
    let (_, prefill) = write(&one, &prompt)?;
    let (written, whole) = write(&all, &prompt)?;
    Ok(json!({
        "prefill": PROMPT as f64 / prefill, "decode": (WRITTEN - 1) as f64 / (whole - prefill), "written": written,
    }))
}
