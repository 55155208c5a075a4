//! A tiny data set and backbone on disk, and the command under test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use candle_core::{
    DType, Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};
use serde_json::Value;
use tempfile::TempDir;

#[path = "skip.rs"]
mod skip;
pub use skip::{required, skip};

/// The tiny BERT of the fixtures: vocabulary 100, H 32, 2 layers, 64 positions.
pub fn tiny_backbone() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert")
}

/// Arguments of a command over rows with `review` and `stars`: a few steps, into `out`. A setting in `more` goes over these.
pub fn few_steps<'a>(
    command: &'a str,
    data: &'a str,
    backbone: &'a str,
    more: &[&'a str],
) -> Vec<&'a str> {
    let mut all = vec![
        command,
        data,
        "--text-column=review",
        "--label-column=stars",
        "--backbone",
        backbone,
        "--budget=quick",
        "--set=recipe.steps=3",
        "--set=recipe.evaluations=1",
        "--set=recipe.batch=8",
        "--out=out",
    ];
    all.extend(more);
    all
}

/// Settings of twice as many steps, and evaluations, as [`few_steps`].
pub const SIX_STEPS: [&str; 2] = ["--set=recipe.steps=6", "--set=recipe.evaluations=2"];

/// Arguments of a command of six steps.
pub fn tiny<'a>(
    command: &'a str,
    data: &'a str,
    backbone: &'a str,
    more: &[&'a str],
) -> Vec<&'a str> {
    few_steps(command, data, backbone, &[&SIX_STEPS[..], more].concat())
}

/// The records of a folder, in the order of their names; none where there is no such folder.
pub fn record_files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .map(|entries| entries.map(|e| e.unwrap().path()).collect())
        .unwrap_or_default();
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    paths
}

/// The words of a line.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// What is typed behind `peftbench`: words, or a line of them.
pub trait Typed {
    fn words(&self) -> Vec<String>;
}

impl Typed for str {
    fn words(&self) -> Vec<String> {
        words(self).words()
    }
}

impl Typed for String {
    fn words(&self) -> Vec<String> {
        self.as_str().words()
    }
}

impl<S: AsRef<str>> Typed for [S] {
    fn words(&self) -> Vec<String> {
        self.iter().map(|word| word.as_ref().to_owned()).collect()
    }
}

impl<S: AsRef<str>, const N: usize> Typed for [S; N] {
    fn words(&self) -> Vec<String> {
        self.as_slice().words()
    }
}

impl<S: AsRef<str>> Typed for Vec<S> {
    fn words(&self) -> Vec<String> {
        self.as_slice().words()
    }
}

/// A folder of its own for a test, with a cache of its own.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// 240 rows of two classes that differ in their words.
    pub fn reviews(&self) -> PathBuf {
        let mut text = String::from("review,stars\n");
        for i in 0..240 {
            let (words, label) = if i % 2 == 0 {
                ("good fine great", "up")
            } else {
                ("bad poor awful", "down")
            };
            text += &format!("{words} number {i},{label}\n");
        }
        self.file("reviews.csv", text)
    }

    /// The command, offline and with the test's own cache and folder.
    pub fn command(&self, typed: &(impl Typed + ?Sized)) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peftbench"));
        self.in_place(command.args(typed.words()));
        command
    }

    /// Makes a command run offline and with the test's own cache and folder.
    pub fn in_place<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir(self.path())
            .env("PEFTBENCH_CACHE", self.path().join("cache"))
            .env("HF_HOME", self.path().join("hf"))
            .env("HF_HUB_OFFLINE", "1")
            .env("COLUMNS", "100")
    }

    pub fn run(&self, typed: &(impl Typed + ?Sized)) -> Output {
        self.command(typed).output().unwrap()
    }

    /// Runs the command and expects success; returns what it printed.
    pub fn ok(&self, typed: &(impl Typed + ?Sized)) -> String {
        let output = self.run(typed);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?}: {message}", typed.words());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Arguments of a command of six steps over the reviews and the tiny backbone.
    pub fn tiny(&self, command: &str, more: &[&str]) -> Vec<String> {
        let (data, backbone) = (self.reviews(), tiny_backbone());
        let (data, backbone) = (data.to_str().unwrap(), backbone.to_str().unwrap());
        tiny(command, data, backbone, more).words()
    }

    /// A command of a few steps over the reviews and the tiny backbone; what it printed.
    pub fn few_steps(&self, command: &str, more: &[&str]) -> String {
        let (data, backbone) = (self.reviews(), tiny_backbone());
        let (data, backbone) = (data.to_str().unwrap(), backbone.to_str().unwrap());
        self.ok(&few_steps(command, data, backbone, more))
    }

    /// Trains a method for a few steps over the reviews; the folder of its weights.
    pub fn trained(&self, method: &str, more: &[&str]) -> String {
        let printed = self.few_steps("train", &[&["--method", method][..], more].concat());
        printed.trim().to_owned()
    }

    /// The records of an output folder, in the order of their names.
    pub fn records(&self, out: &str) -> Vec<Value> {
        record_files(&self.path().join(out).join("records"))
            .iter()
            .map(|p| serde_json::from_slice(&fs::read(p).unwrap()).unwrap())
            .collect()
    }

    /// Runs the command and expects exit code 2 and one message that says all of `says`.
    pub fn refused(&self, typed: &(impl Typed + ?Sized), says: &[&str]) {
        let (output, typed) = (self.run(typed), typed.words());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{typed:?}: {message}");
        assert!(!message.contains("panicked"), "{typed:?}: {message}");
        for part in says {
            assert!(
                message.contains(part),
                "{typed:?}: '{part}' is not in: {message}"
            );
        }
    }
}

/// How far two processes' numbers may be apart: nothing, but on the reference path, whose products, candle's own, may add up
/// in another order from process to process.
pub fn rounding() -> f64 {
    match std::env::var_os("PEFTBENCH_REFERENCE") {
        Some(_) => 1e-6,
        None => 0.0,
    }
}

/// Whether two answers are the same, their numbers but for `rounding` (of what is larger than 1, relative to it).
pub fn near(a: &Value, b: &Value, rounding: f64) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= rounding * a.abs().max(1.0)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b, rounding))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| near(a, b, rounding)))
        }
        (a, b) => a == b,
    }
}

/// No tokenizer, for methods that are built without one.
pub struct NoWords;

impl methods::Vocabulary for NoWords {
    fn encode(&self, _: &str) -> Result<Vec<u32>, String> {
        Err("no tokenizer here".into())
    }

    fn ordinary(&self) -> Vec<u32> {
        Vec::new()
    }
}

/// The largest difference of a tensor to the expected one, relative to the largest value of that, which may not be above the
/// tolerance.
pub fn close(what: &str, got: &Tensor, expected: &Tensor, tolerance: f32) -> f32 {
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (got, expected) = (flat(got), flat(expected));
    assert_eq!(got.len(), expected.len(), "{what}");
    assert!(!got.iter().any(|x| x.is_nan()), "{what}");
    let largest = |values: Vec<f32>| values.into_iter().fold(0f32, |m, x| m.max(x.abs()));
    let gaps = got.iter().zip(&expected).map(|(a, b)| a - b).collect();
    let gap = largest(gaps) / largest(expected).max(f32::MIN_POSITIVE);
    assert!(
        gap <= tolerance,
        "{what}: {gap:.1e} is above {tolerance:.0e}"
    );
    gap
}

/// A decoder of one layer in blocks of eight bits, with its tokenizer of this kind; `more` goes into the header.
pub fn small_gguf(pre: &str, more: &[(&str, gguf_file::Value)]) -> Vec<u8> {
    const H: usize = 32;
    let mut shapes = vec![
        ("token_embd.weight".to_owned(), vec![4, H]),
        ("output_norm.weight".to_owned(), vec![H]),
    ];
    let layers = ["attn_q", "attn_k", "attn_v", "attn_output"];
    for part in layers.iter().chain(&["ffn_gate", "ffn_up", "ffn_down"]) {
        shapes.push((format!("blk.0.{part}.weight"), vec![H, H]));
    }
    for norm in ["attn_norm", "ffn_norm"] {
        shapes.push((format!("blk.0.{norm}.weight"), vec![H]));
    }
    let block = |(name, shape): (String, Vec<usize>)| {
        let kind = match shape.len() {
            1 => GgmlDType::F32,
            _ => GgmlDType::Q8_0,
        };
        let ones = Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
        (name, QTensor::quantize(&ones, kind).unwrap())
    };
    let blocks: Vec<_> = shapes.into_iter().map(block).collect();
    let text = |text: &str| gguf_file::Value::String(text.to_owned());
    let texts = |all: &[&str]| gguf_file::Value::Array(all.iter().copied().map(text).collect());
    let whole = |n: usize| gguf_file::Value::U32(n as u32);
    // The last token is a control token.
    let kinds = [1, 1, 1, 3].map(gguf_file::Value::I32);
    let fields = [
        ("general.architecture", text("llama")),
        ("llama.block_count", whole(1)),
        ("llama.context_length", whole(32)),
        ("llama.embedding_length", whole(H)),
        ("llama.feed_forward_length", whole(H)),
        ("llama.attention.head_count", whole(2)),
        ("llama.attention.head_count_kv", whole(2)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            gguf_file::Value::F32(1e-5),
        ),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text(pre)),
        ("tokenizer.ggml.tokens", texts(&["a", "b", "ab", "</s>"])),
        (
            "tokenizer.ggml.token_type",
            gguf_file::Value::Array(kinds.into()),
        ),
        ("tokenizer.ggml.merges", texts(&["a b"])),
    ];
    let fields = fields.iter().chain(more);
    let fields: Vec<_> = fields.map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = blocks.iter().map(|(n, b)| (n.as_str(), b)).collect();
    let mut bytes = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut bytes, &fields, &tensors).unwrap();
    bytes.into_inner()
}
