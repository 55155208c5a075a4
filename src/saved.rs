//! A folder of saved weights: method and head in one safetensors file, with a configuration beside.
//!
//! [`crate::formats`] reads folders of other libraries into the same.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use backbone::{Backbone, HeadKind, Pooling, Precision, TensorFile};
use candle_core::Tensor;
use datasets::{Completion, Objective, TextTokenizer, Words};
use methods::PeftMethod;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    folders::{self, ADAPTER_CONFIG},
    objective::{self, Scale},
    prepare::LoadedBackbone,
    train::head::Head,
};

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a folder of weights holds.
pub struct Saved {
    /// Its configuration.
    pub config: SavedConfig,
    /// Tensors of the method and of the head, by our names.
    pub tensors: Tensors,
}

/// Version of the folder's format.
pub const FORMAT: u32 = 1;
/// Method weights and head.
pub const WEIGHTS: &str = "weights.safetensors";
/// The configuration beside them.
pub const CONFIG: &str = "peftbench.json";

/// The configuration beside saved weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedConfig {
    /// Always 1.
    pub format: u32,
    /// The method's name.
    pub method: String,
    /// Its resolved configuration.
    pub config: Map<String, Value>,
    /// Name or folder of the backbone.
    pub backbone: String,
    /// SHA-256 over the backbone's weights, configuration and tokenizer.
    pub backbone_digest: String,
    /// How an example's vector is read.
    pub pooling: Pooling,
    /// The precision of the frozen weights that it was trained over.
    #[serde(default, skip_serializing_if = "is_f32")]
    pub precision: Precision,
    /// The classifier.
    pub head: HeadKind,
    /// What is predicted. Folders of classification do not say it.
    #[serde(default, skip_serializing_if = "Objective::is_classification")]
    pub objective: Objective,
    /// The scale that numbers were learnt on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Label names in the order of their indices; none where a number is predicted, or a text.
    pub labels: Vec<String>,
    /// SHA-256 of the file of weights, in hexadecimal digits. (Folders of earlier versions do not say it.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// SHA-256 over the other keys and values, in hexadecimal digits. (Folders of earlier versions do not say it.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_sha256: Option<String>,
    /// The data set it was trained on.
    pub dataset: String,
    /// SHA-256 over that data set's training and validation examples, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_digest: Option<String>,
    /// Whether it was trained on pairs of texts, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<bool>,
    /// Longest text in tokens.
    pub max_tokens: usize,
    /// Whether white space around texts is cut off. (Folders of earlier versions do not say it; it always was.)
    #[serde(default = "stripped")]
    pub strip: bool,
    /// What stands around a text and for the classes, where the classifier is [`HeadKind::Words`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Words>,
    /// What completions are written behind, and how long they may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<Completion>,
    /// Validation metrics after training.
    pub metrics: BTreeMap<String, f64>,
}

fn stripped() -> bool {
    true
}

fn is_f32(precision: &Precision) -> bool {
    *precision == Precision::F32
}

/// A method with its head, ready to predict.
pub struct Task {
    /// The configuration.
    pub config: SavedConfig,
    /// The method.
    pub method: Box<dyn PeftMethod>,
    /// The head.
    pub head: Head,
    /// What is predicted.
    pub objective: Box<dyn objective::Objective>,
    /// The tokenizer that puts a template around texts, where there is one.
    pub(crate) of_words: Option<TextTokenizer>,
}

impl Task {
    /// The tokenizer of its texts; `loaded` is the backbone it was loaded over.
    pub fn tokenizer<'a>(&'a self, loaded: &'a LoadedBackbone) -> &'a TextTokenizer {
        self.of_words.as_ref().unwrap_or(&loaded.tokenizer)
    }

    /// Bytes in memory that it takes beside `frozen`, the backbone that it was loaded over, head included.
    pub fn resident_bytes(&self, frozen: &Backbone) -> u64 {
        methods::resident_bytes(&*self.method, frozen) + self.head.parameters().bytes()
    }
}

/// Saves a method and its head into `folder`, with the SHA-256 of the weights and of their configuration in the latter; returns the
/// size of the weights in bytes.
///
/// # Errors
/// If the folder cannot be written.
pub fn save(
    folder: &Path,
    config: &SavedConfig,
    method: &dyn PeftMethod,
    head: &Head,
) -> Result<u64> {
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    let tensors: BTreeMap<String, Tensor> = method
        .shipped()?
        .into_iter()
        .chain(head.parameters().tensors())
        .collect();
    let path = folder.join(WEIGHTS);
    write_tensors(&path, tensors, &[])?;
    let mut config = SavedConfig {
        weights_sha256: Some(sha256_of(&path)?),
        ..config.clone()
    };
    config.config_sha256 = Some(sha256_of_keys(&serde_json::to_vec(&config)?)?);
    let json = serde_json::to_string_pretty(&config)? + "\n";
    record::write_whole(&folder.join(CONFIG), json.as_bytes())?;
    Ok(fs::metadata(&path)?.len())
}

/// Reads the configuration of a folder of our own; the folder's kind is not asked.
///
/// # Errors
/// If it is missing, damaged, edited or of another format.
pub fn read_config(folder: &Path) -> Result<SavedConfig> {
    let path = folder.join(CONFIG);
    ensure!(
        path.exists(),
        "{}: is not there; is this a folder written by peftbench train, Hugging Face PEFT or AdapterHub?{}",
        path.display(),
        below(folder)
    );
    let text = folders::read_small(&path)?;
    let config: SavedConfig =
        serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    ensure!(
        config.format == FORMAT,
        "{}: format {} is not {FORMAT}",
        path.display(),
        config.format
    );
    let unnamed = match config.objective {
        Objective::Regression => Some("a number has none"),
        Objective::Completion => Some("a text that is written has none"),
        _ => None,
    };
    ensure!(
        if unnamed.is_some() {
            config.labels.is_empty()
        } else {
            config.labels.len() >= 2
        },
        "{}: labels: {}",
        path.display(),
        unnamed.unwrap_or("at least two are needed")
    );
    ensure!(
        (config.objective == Objective::Completion) == (config.head == HeadKind::Vocabulary)
            && (config.objective == Objective::Completion) == config.completion.is_some(),
        "{}: objective completion, head vocabulary and a completion's prompt belong together; this folder has {}, {} and {}",
        path.display(),
        config.objective.name(),
        config.head.name(),
        match &config.completion {
            Some(completion) => completion.to_string(),
            None => "no prompt".to_owned(),
        }
    );
    let sound = |scale: &Scale| {
        scale.mean.is_finite() && scale.deviation.is_finite() && scale.deviation > 0.0
    };
    ensure!(
        config.scale.as_ref().is_none_or(sound),
        "{}: scale: mean and deviation must be finite and the deviation above 0",
        path.display()
    );
    if let Some(saved) = &config.config_sha256 {
        let found = sha256_of_keys(&text).with_context(|| path.display().to_string())?;
        ensure!(
            found == *saved,
            "{}: not as it was saved: the sha256 of its other keys is {found}, and config_sha256 says {saved}; it is damaged or was \
             edited: copy the folder again, or take config_sha256 out of it where that is meant",
            path.display()
        );
    }
    Ok(config)
}

/// SHA-256 over what a configuration holds but for the key that says it. Neither white space nor the order of the keys counts.
fn sha256_of_keys(json: &[u8]) -> Result<String> {
    let mut keys: BTreeMap<String, Value> = serde_json::from_slice(json)?;
    keys.remove("config_sha256");
    let digest = Sha256::digest(serde_json::to_vec(&keys)?);
    Ok(format!("{digest:x}"))
}

/// What to say where a folder has no weights, but folders in it have: PEFT puts an adapter with a name into one.
fn below(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join(CONFIG).exists() || path.join(ADAPTER_CONFIG).exists())
        .map(|path| path.display().to_string())
        .collect();
    found.sort();
    match found.is_empty() {
        true => String::new(),
        false => format!(" Weights are in {}: name that folder", found.join(", ")),
    }
}

/// Reads a folder of our own.
///
/// # Errors
/// As [`read_config`], or if the weights are damaged, not finite, or not those that the configuration was saved with.
pub fn read(folder: &Path) -> Result<Saved> {
    let config = read_config(folder)?;
    let path = folder.join(WEIGHTS);
    let tensors = read_tensors(&TensorFile::open(&path)?)?;
    if let Some(saved) = &config.weights_sha256 {
        let found = sha256_of(&path)?;
        ensure!(
            found == *saved,
            "{}: not the weights that {CONFIG} was saved with: their sha256 is {found}, and weights_sha256 says {saved}; they \
             are damaged or were changed: copy the folder again, or take weights_sha256 and config_sha256 out of {CONFIG} where \
             that is meant",
            path.display()
        );
    }
    Ok(Saved { config, tensors })
}

fn sha256_of(path: &Path) -> Result<String> {
    sources::sha256_of(path).with_context(|| format!("{}: cannot be read", path.display()))
}

/// All tensors of a file.
///
/// # Errors
/// If one cannot be read, or has a value that is not finite; the message names it with the first such place.
pub fn read_tensors(file: &TensorFile) -> Result<Tensors> {
    let names = file.names().into_iter();
    let tensors = names.map(|name| {
        let tensor = file.read(&name, None)?;
        let at = || format!("{}: tensor '{name}'", file.path().display());
        check_finite(&tensor).with_context(at)?;
        Ok((name, tensor))
    });
    tensors.collect()
}

fn check_finite(tensor: &Tensor) -> Result<()> {
    let values = tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?;
    let values = values.to_vec1::<f32>()?;
    let Some(mut at) = values.iter().position(|v| !v.is_finite()) else {
        return Ok(());
    };
    let value = values[at];
    let mut place: Vec<usize> = Vec::new();
    for size in tensor.dims().iter().rev() {
        place.push(at % size);
        at /= size;
    }
    place.reverse();
    anyhow::bail!(
        "the value at {place:?} is {value}, which is not a finite number; the weights are damaged"
    )
}

/// Writes tensors whole or not at all, with the metadata that Python's readers ask for.
///
/// # Errors
/// If the file cannot be written.
pub fn write_tensors(path: &Path, tensors: Tensors, metadata: &[(&str, String)]) -> Result<()> {
    let metadata = [("format", "pt".to_owned())]
        .iter()
        .chain(metadata)
        .map(|(k, v)| (k.to_string(), v.clone()))
        .collect();
    let tensors: BTreeMap<_, _> = tensors
        .into_iter()
        .map(|(name, t)| Ok((name, t.contiguous()?)))
        .collect::<Result<_>>()?;
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok(record::write_whole(path, &bytes)?)
}
