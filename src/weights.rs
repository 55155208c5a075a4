//! What a run leaves for use: method weights and head in one safetensors file, with a configuration beside.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use backbone::{HeadKind, Pooling, TensorFile};
use candle_core::Tensor;
use methods::PeftMethod;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    formats::{self, Saved, Tensors},
    prepare::{Files, LoadedBackbone, Vocabulary},
    train::head::Head,
};

/// Version of the folder's format.
const FORMAT: u32 = 1;
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
    /// The classifier.
    pub head: HeadKind,
    /// Label names in the order of their indices.
    pub labels: Vec<String>,
    /// The data set it was trained on.
    pub dataset: String,
    /// Longest text in tokens.
    pub max_tokens: usize,
    /// Validation metrics after training.
    pub metrics: BTreeMap<String, f64>,
}

/// A method with its head, ready to predict.
pub struct Task {
    /// The configuration.
    pub config: SavedConfig,
    /// The method.
    pub method: Box<dyn PeftMethod>,
    /// The classifier.
    pub head: Head,
}

/// Saves a method and its head into `folder`; returns the size of the weights in bytes.
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
        .chain(
            head.vars()
                .iter()
                .map(|(name, var)| (name.clone(), var.as_detached_tensor())),
        )
        .collect();
    let path = folder.join(WEIGHTS);
    let partial = folder.join(format!("{WEIGHTS}.partial"));
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(tensors, Some(metadata), &partial)
        .with_context(|| format!("{}: cannot be written", partial.display()))?;
    fs::rename(&partial, &path)
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    let json = serde_json::to_string_pretty(config)?;
    let path_of_config = folder.join(CONFIG);
    fs::write(&path_of_config, json + "\n")
        .with_context(|| format!("{}: cannot be written", path_of_config.display()))?;
    Ok(fs::metadata(&path)?.len())
}

/// Reads the configuration of saved weights: a folder of our own, of Hugging Face PEFT or of AdapterHub.
///
/// # Errors
/// If it is missing, damaged or of another format.
pub fn read_config(folder: &Path) -> Result<SavedConfig> {
    if let Some(saved) = formats::read(folder, None)? {
        return Ok(saved.config);
    }
    let path = folder.join(CONFIG);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "{}: cannot be read; is this a folder written by peftbench train, Hugging Face PEFT or AdapterHub?",
            path.display()
        )
    })?;
    let config: SavedConfig =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    ensure!(
        config.format == FORMAT,
        "{}: format {} is not {FORMAT}",
        path.display(),
        config.format
    );
    ensure!(
        config.labels.len() >= 2,
        "{}: labels: at least two are needed",
        path.display()
    );
    Ok(config)
}

/// Loads saved weights, ours or foreign, over their backbone.
///
/// # Errors
/// If the backbone is another one, or a tensor is missing or misshapen.
pub fn load(folder: &Path, loaded: &LoadedBackbone) -> Result<Task> {
    let Saved { config, tensors } = match formats::read(folder, Some(loaded))? {
        Some(saved) => saved,
        None => read_own(folder)?,
    };
    // Folders of earlier versions know the weights only.
    if config.backbone_digest == loaded.weights_digest {
        eprintln!(
            "note: {}: its digest of the backbone covers the weights only; that configuration and tokenizer are those it \
             was trained over is not checked",
            folder.display()
        );
    }
    ensure!(
        [&loaded.digest, &loaded.weights_digest].contains(&&config.backbone_digest),
        "{}: trained over backbone '{}' (digest {}…), but this one is '{}' (digest {}…)",
        folder.display(),
        config.backbone,
        short(&config.backbone_digest),
        loaded.name,
        short(&loaded.digest)
    );
    let (of_head, of_method): (Tensors, Tensors) = tensors
        .into_iter()
        .partition(|(name, _)| name.starts_with("head."));
    let resolved = methods::resolve_values(&config.method, config.config.clone())
        .with_context(|| folder.display().to_string())?;
    // The start is overwritten, so any stream will do.
    let mut rng = datasets::stream(0, "overwritten");
    let rng: &mut ChaCha8Rng = &mut rng;
    // A method with a backbone of its own makes it from this one: it is read as it was trained.
    let backbone = loaded
        .backbone
        .clone()
        .with_pooling(config.pooling)
        .with_context(|| folder.display().to_string())?;
    let mut method = resolved.build(&mut methods::Context {
        backbone: &backbone,
        rng: &mut *rng,
        words: &Vocabulary(&loaded.tokenizer),
    })?;
    let hidden = loaded.backbone.config().hidden;
    let head = Head::new(
        config.head,
        hidden,
        config.labels.len(),
        rng,
        loaded.backbone.dtype(),
    )?;
    let at = || folder.display().to_string();
    method.load(&of_method).with_context(at)?;
    methods::restore(head.vars(), &of_head).with_context(at)?;
    Ok(Task {
        config,
        method,
        head,
    })
}

/// The backbone that saved weights name, or the one that the user names, read as they ask for.
///
/// # Errors
/// If it is not found or damaged.
pub fn task_backbone(
    files: &Files,
    config: &SavedConfig,
    named: Option<&str>,
) -> Result<LoadedBackbone> {
    let choice = named.unwrap_or(&config.backbone);
    let overrides = [
        ("pooling".to_owned(), config.pooling.name().to_owned()),
        (
            "head".to_owned(),
            serde_yaml::to_string(&config.head)?.trim().to_owned(),
        ),
    ];
    let found = files.backbone(choice, &overrides.into());
    match named {
        Some(_) => found,
        None => found.context("the backbone that the weights name; --backbone names another place"),
    }?
    .load()
}

fn read_own(folder: &Path) -> Result<Saved> {
    let config = read_config(folder)?;
    let file = TensorFile::open(&folder.join(WEIGHTS))?;
    let names = file.names().into_iter();
    let tensors = names.map(|name| Ok((name.clone(), file.read(&name, None)?)));
    Ok(Saved {
        config,
        tensors: tensors.collect::<Result<_>>()?,
    })
}

/// The current format's number.
pub const fn format() -> u32 {
    FORMAT
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
