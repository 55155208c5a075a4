//! Weights from a folder, ours or that of another library, over their backbone.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use backbone::HeadKind;

use crate::{
    backbone_settings::BackboneSettings,
    formats, objective,
    prepare::{Files, LoadedBackbone},
    saved::{self, Saved, Tensors},
    train::{completions, head::Head, words},
};

pub use crate::saved::{CONFIG, FORMAT, SavedConfig, Task, WEIGHTS, save};

/// Reads the configuration of saved weights: a folder of our own, of Hugging Face PEFT or of AdapterHub.
///
/// # Errors
/// If it is missing, damaged or of another format.
pub fn read_config(folder: &Path) -> Result<SavedConfig> {
    if let Some(saved) = formats::read(folder, None)? {
        return Ok(saved.config);
    }
    saved::read_config(folder)
}

/// Loads saved weights, ours or foreign, over their backbone.
///
/// # Errors
/// If the backbone is another one, or a tensor is missing or misshapen.
pub fn load(folder: &Path, loaded: &LoadedBackbone) -> Result<Task> {
    let Saved { config, tensors } = match formats::read(folder, Some(loaded))? {
        Some(saved) => saved,
        None => saved::read(folder)?,
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
    let (own, asked) = (config.precision, loaded.backbone.precision());
    ensure!(
        own == asked,
        "{}: trained over frozen weights in {}, but this backbone is in {}; weights of different precision are used one \
         after the other",
        folder.display(),
        own.name(),
        asked.name()
    );
    let (of_head, of_method): (Tensors, Tensors) = tensors
        .into_iter()
        .partition(|(name, _)| name.starts_with("head."));
    let resolved = methods::resolve_values(&config.method, config.config.clone())
        .with_context(|| folder.display().to_string())?;
    // A method with a backbone of its own makes it from this one: it is read as it was trained.
    let backbone = loaded
        .backbone
        .clone()
        .with_pooling(config.pooling)
        .with_context(|| folder.display().to_string())?;
    let at = || folder.display().to_string();
    let method = resolved.load(&backbone, of_method).with_context(at)?;
    let (positions, taken) = (backbone.config().max_tokens(), method.virtual_tokens());
    ensure!(
        config.max_tokens.saturating_add(taken) <= positions,
        "{}: max_tokens {} with {taken} virtual tokens is more than backbone '{}' reads; accepted: at most {}",
        at(),
        config.max_tokens,
        loaded.name,
        positions.saturating_sub(taken)
    );
    let cut = loaded.tokenizer.max_length().unwrap_or(usize::MAX);
    ensure!(
        config.max_tokens <= cut,
        "{}: trained on texts of up to {} tokens, but the files of backbone '{}' cut them to {cut} (model_max_length of \
         tokenizer_config.json or max_seq_length of sentence_bert_config.json); give that key the value it had",
        at(),
        config.max_tokens,
        loaded.name
    );
    let hidden = loaded.backbone.config().hidden;
    let objective = objective::of(
        config.objective,
        &config.labels,
        config.scale,
        &loaded.tokenizer,
    );
    let (head, of_words) = match (config.head, &config.words) {
        (HeadKind::Vocabulary, _) => {
            let completion = config.completion.as_ref();
            let completion = completion.context("its head is 'vocabulary' but it has no prompt");
            let completion = completion.with_context(at)?;
            (
                completions::head(completion, loaded, method.backbone()).with_context(at)?,
                Some(completions::tokenizer(completion, loaded).with_context(at)?),
            )
        }
        (HeadKind::Words, Some(words)) => (
            words::head(words, loaded, method.backbone()).with_context(at)?,
            Some(loaded.tokenizer.with_words(words)),
        ),
        (HeadKind::Words, None) => bail!("{}: its head is 'words' but it names none", at()),
        (kind, _) => (
            Head::load(kind, hidden, objective.outputs(), of_head).with_context(at)?,
            None,
        ),
    };
    Ok(Task {
        config,
        method,
        head,
        objective,
        of_words,
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
    let settings = BackboneSettings {
        pooling: Some(config.pooling),
        head: Some(config.head),
        precision: None,
        chat: None,
    };
    backbone_of(files, config, named, &settings)
}

/// The backbone that saved weights name, or the one that the user names.
///
/// # Errors
/// If it is not found or damaged.
pub fn backbone_of(
    files: &Files,
    config: &SavedConfig,
    named: Option<&str>,
    settings: &BackboneSettings,
) -> Result<LoadedBackbone> {
    let settings = BackboneSettings {
        precision: settings.precision.or(Some(config.precision)),
        ..settings.clone()
    };
    let found = files.backbone(named.unwrap_or(&config.backbone), &settings);
    match named {
        Some(_) => found,
        None => found.context("the backbone that the weights name; --backbone names another place"),
    }?
    .load()
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
