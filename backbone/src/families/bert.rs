//! BERT (Devlin et al. 2019), RoBERTa (Liu et al. 2019) and XLM-RoBERTa (Conneau et al. 2020).
//!
//! RoBERTa's positions begin behind the id of the padding token, and a token of that id in a text has the padding's
//! position and does not advance the count.

use kernels::Activation;

use crate::{
    Architecture, Config, Description, Projection, Site, Sublayer,
    keys::{Keys, truthy},
};

/// `BertConfig()`, `RobertaConfig()` or `XLMRobertaConfig()`.
pub(crate) fn defaults(model_type: &str) -> Config {
    let bert = Config {
        architecture: Architecture::Bert,
        layers: 12,
        hidden: 768,
        heads: 12,
        intermediate: 3072,
        vocabulary: 30_522,
        positions: 512,
        position_offset: 0,
        position_padding: None,
        position_table: true,
        token_types: 2,
        activation: Activation::Gelu,
        epsilon: 1e-12,
        description: Description::post_norm(12, 768),
    };
    if model_type == "bert" {
        return bert;
    }
    Config {
        architecture: Architecture::Roberta,
        vocabulary: if model_type == "roberta" {
            50_265
        } else {
            30_522
        },
        position_offset: 2,
        position_padding: Some(1),
        ..bert
    }
}

pub(crate) fn read(keys: &mut Keys<'_>, defaults: Config) -> Config {
    let mut config = Config {
        layers: keys.size("num_hidden_layers", defaults.layers),
        hidden: keys.size("hidden_size", defaults.hidden),
        heads: keys.size("num_attention_heads", defaults.heads),
        intermediate: keys.size("intermediate_size", defaults.intermediate),
        vocabulary: keys.size("vocab_size", defaults.vocabulary),
        positions: keys.size("max_position_embeddings", defaults.positions),
        token_types: keys.size("type_vocab_size", defaults.token_types),
        activation: keys.activation("hidden_act", defaults.activation),
        epsilon: keys.number("layer_norm_eps", defaults.epsilon),
        // The library adds the table where the type is 'absolute', and nothing where it is null.
        position_table: !keys.is_null("position_embedding_type"),
        ..defaults
    };
    config.description = Description::post_norm(config.heads, config.hidden);
    keys.only("position_embedding_type", "absolute", |v| {
        v.is_null() || v == "absolute"
    });
    keys.only("is_decoder", "false: an encoder sees the whole text", |v| {
        !truthy(v)
    });
    keys.only(
        "add_cross_attention",
        "false: there is no encoder beside it",
        |v| !truthy(v),
    );
    if config.architecture == Architecture::Roberta {
        match keys.integer("pad_token_id", 1) {
            Some(padding) if padding >= -1 => {
                config.position_offset = (padding + 1) as usize;
                config.position_padding = u32::try_from(padding).ok();
            }
            Some(padding) => keys.wrong(
                "pad_token_id",
                &padding.into(),
                "an id: positions begin behind it",
            ),
            None => keys.wrong(
                "pad_token_id",
                &serde_json::Value::Null,
                "an id: positions begin behind it",
            ),
        }
    }
    config
}

/// The layers that PEFT scales: its `output.dense` is the end of `attention.output.dense`, too.
pub(crate) const IA3: [&[Projection]; 2] = {
    use Projection::{AttentionOutput, Key, Output, Value};
    [
        &[Key, Value, AttentionOutput, Output],
        &[AttentionOutput, Output],
    ]
};

pub(crate) fn module(Site { layer, projection }: Site) -> String {
    let part = match projection {
        Projection::Query => "attention.self.query",
        Projection::Key => "attention.self.key",
        Projection::Value => "attention.self.value",
        Projection::QueryKeyValue | Projection::Gate => "none",
        Projection::AttentionOutput => "attention.output.dense",
        Projection::Intermediate => "intermediate.dense",
        Projection::Output => "output.dense",
    };
    format!("encoder.layer.{layer}.{part}")
}

pub(crate) fn norm(layer: usize, which: Sublayer) -> String {
    match which {
        Sublayer::Attention => format!("encoder.layer.{layer}.attention.output.LayerNorm"),
        Sublayer::FeedForward => format!("encoder.layer.{layer}.output.LayerNorm"),
    }
}
