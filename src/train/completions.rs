//! Completions: nothing but the method is trained. The language model's own output over its vocabulary is the head, and its
//! configuration says which token ends a text.

use anyhow::{Context, Result, bail, ensure};
use backbone::{Backbone, HeadKind, Precision};
use datasets::{Completion, Dataset, TextTokenizer};
use serde_json::Value;

use super::{head::Head, words};
use crate::{chat, prepare::LoadedBackbone};

/// Has the backbone read and write completions of a data set; `chosen` says that the user names a head. In a chat the prompt becomes
/// the user's message, and the completion is the answer.
///
/// # Errors
/// If the backbone is no decoder, a classifier is asked for, or there is no chat to be asked in.
pub fn choose(data: &mut Dataset, loaded: &mut LoadedBackbone, chosen: bool) -> Result<()> {
    let Some(completion) = &mut data.completion else {
        ensure!(
            loaded.head != HeadKind::Vocabulary,
            "backbone: head: 'vocabulary' writes texts, but the objective of '{}' is {}",
            data.name,
            data.objective.name()
        );
        return Ok(());
    };
    let config = loaded.backbone.config();
    ensure!(
        config.description.causal,
        "the objective of '{}' is completion, which takes a decoder (llama, qwen2, qwen3), but backbone '{}' is a {}, which reads texts in \
         both directions and writes none",
        data.name,
        loaded.name,
        config.architecture.name()
    );
    ensure!(
        !chosen || loaded.head == HeadKind::Vocabulary,
        "--set backbone.head={} trains a classifier, but the objective of '{}' is completion; leave the setting out",
        loaded.head.name(),
        data.name
    );
    // A checkpoint without one is refused now, not by the first run.
    words::output_matrix(loaded, &loaded.backbone)?;
    loaded.head = HeadKind::Vocabulary;
    if loaded.chat {
        // What ends the prompt's last line is the chat's.
        let message = completion.prompt.trim_end();
        completion.prompt = chat::message(&loaded.files[1], &loaded.tokenizer, message)?;
    }
    Ok(())
}

/// The backbone's tokenizer for prompts and completions.
///
/// # Errors
/// If the backbone's configuration names no token that ends a text.
pub fn tokenizer(completion: &Completion, loaded: &LoadedBackbone) -> Result<TextTokenizer> {
    let end = end_token(loaded)?;
    Ok(loaded.tokenizer.with_completion(completion, end))
}

/// The language model's output over its vocabulary; `own` is the backbone of a method that trains all of it.
///
/// # Errors
/// As [`tokenizer`], or if the checkpoint has no output matrix.
pub fn head(
    completion: &Completion,
    loaded: &LoadedBackbone,
    own: Option<&Backbone>,
) -> Result<Head> {
    output(loaded, own, end_token(loaded)?, completion.max_new_tokens)
}

/// The same, which writes up to `most` tokens or the token `end`. Over weights in blocks it is in those of its file, whose values are
/// the table's.
///
/// # Errors
/// If the checkpoint has no output matrix.
pub fn output(
    loaded: &LoadedBackbone,
    own: Option<&Backbone>,
    end: u32,
    most: usize,
) -> Result<Head> {
    let backbone = own.unwrap_or(&loaded.backbone);
    let table = words::output_matrix(loaded, backbone)?;
    let [.., path] = &loaded.files;
    let in_blocks = own.is_none() && backbone.precision() == Precision::Q4;
    // (A file may have it in f16 beside matrices in blocks.)
    let layer = match in_blocks {
        true => backbone::output_blocks(path, backbone.config())?,
        false => None,
    };
    Ok(Head::of_vocabulary(table, layer, end, most)?)
}

/// The token that ends a text, as the backbone's configuration names it; the first of several.
fn end_token(loaded: &LoadedBackbone) -> Result<u32> {
    let [path, ..] = &loaded.files;
    let at = || path.display().to_string();
    let config = loaded.config_json()?;
    let named = config.get("eos_token_id").unwrap_or(&Value::Null);
    let first = named.as_array().and_then(|all| all.first());
    let Some(id) = first.unwrap_or(named).as_u64() else {
        bail!(
            "{}: eos_token_id {named}: completions need the number of the token that ends a text",
            at()
        );
    };
    let vocabulary = loaded.backbone.config().vocabulary;
    let id = u32::try_from(id)
        .ok()
        .filter(|id| (*id as usize) < vocabulary);
    id.with_context(|| format!("{}: eos_token_id {named} is not below {vocabulary}", at()))
}
