//! Virtual tokens and prefixes.

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::{
    super::foreign::Method,
    folder::{EMBEDDINGS, Reading, Writing, Written, object},
};

pub(super) fn read_prompt(reading: &mut Reading<'_>) -> Result<Method> {
    let keys = &mut reading.keys;
    keys.only("num_transformer_submodules", &[1.into()])?;
    keys.without_effect(&[
        "num_attention_heads",
        "num_layers",
        "prompt_tuning_init",
        "prompt_tuning_init_text",
        "prompt_tuning_init_state_dict_path",
        "prompt_tuning_init_state_dict_key",
        "tokenizer_name_or_path",
        "tokenizer_kwargs",
        "token_dim",
        "encoder_reparameterization_type",
        "encoder_hidden_size",
        "encoder_num_layers",
        "encoder_dropout",
    ]);
    let tokens: usize = keys
        .take("num_virtual_tokens")?
        .context("num_virtual_tokens is missing")?;
    let prompt = reading
        .tensors
        .remove(EMBEDDINGS)
        .with_context(|| format!("tensor '{EMBEDDINGS}' is missing"))?;
    ensure!(
        prompt.rank() == 2 && prompt.dims()[0] == tokens,
        "tensor '{EMBEDDINGS}' has shape {:?}, but num_virtual_tokens is {tokens}",
        prompt.dims()
    );
    reading.virtual_tokens = tokens;
    Ok(Method {
        name: "prompt_tuning",
        config: object(json!({
            "virtual_tokens": tokens, "init": "random", "pooling": reading.first_row,
        })),
        tensors: [("prompt".to_owned(), prompt)].into(),
    })
}

pub(super) fn write_prompt(writing: &Writing<'_>) -> Result<Written> {
    let prompt = writing.tensors.get("prompt");
    let prompt: &Tensor = prompt.context("the prompt is missing")?;
    let mut config = prompt_config(writing, prompt.dims()[0]);
    config.insert("prompt_tuning_init".into(), "RANDOM".into());
    Ok(Written {
        peft_type: "PROMPT_TUNING",
        config,
        tensors: [(EMBEDDINGS.to_owned(), prompt.clone())].into(),
    })
}

pub(super) fn read_prefix(reading: &mut Reading<'_>) -> Result<Method> {
    // What made the rows in training is not saved.
    let what_made_them = ["prefix_projection", "encoder_hidden_size", "init_weights"];
    reading.keys.without_effect(&what_made_them);
    let prompt = read_prompt(reading)?;
    Ok(Method {
        name: "prefix_tuning",
        config: object(json!({
            "virtual_tokens": reading.virtual_tokens, "reparametrisation": "none", "positions": "shifted",
        })),
        tensors: prompt
            .tensors
            .into_values()
            .map(|rows| ("prefix".to_owned(), rows))
            .collect(),
    })
}

pub(super) fn write_prefix(writing: &Writing<'_>) -> Result<Written> {
    ensure!(
        writing.export.key("positions") == "shifted",
        "PEFT's positions begin behind the prefix; a prefix trained with 'positions: kept' cannot be written"
    );
    let rows = writing.tensors.get("prefix");
    let rows = rows.context("the prefix is missing")?;
    let mut config = prompt_config(writing, rows.dims()[0]);
    config.insert("prefix_projection".into(), false.into());
    // The sizes are those of keys and values.
    let backbone = writing.export.loaded.backbone.config();
    config.insert("token_dim".into(), backbone.key_width().into());
    let heads = backbone.description.key_value_heads;
    config.insert("num_attention_heads".into(), heads.into());
    Ok(Written {
        peft_type: "PREFIX_TUNING",
        config,
        tensors: [(EMBEDDINGS.to_owned(), rows.clone())].into(),
    })
}

/// The keys of all methods of virtual tokens.
fn prompt_config(writing: &Writing<'_>, tokens: usize) -> Map<String, Value> {
    let backbone = writing.export.loaded.backbone.config();
    object(json!({
        "num_virtual_tokens": tokens, "token_dim": backbone.hidden, "num_transformer_submodules": 1,
        "num_attention_heads": backbone.heads, "num_layers": backbone.layers,
    }))
}
