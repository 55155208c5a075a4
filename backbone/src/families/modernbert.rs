//! ModernBERT (Warner et al. 2024): a pre-norm encoder with rotary positions, local attention in two of three layers, a
//! gated feed-forward network with gate and input in one matrix, query, key and value in another.

use kernels::Activation;

use crate::{
    Architecture, Config, Description, FeedForward, NormKind, Pooling, Projection, Rotary,
    RotaryScaling, Site, Sublayer,
    keys::{Keys, truthy},
};

/// `ModernBertConfig()`.
pub(crate) fn defaults() -> Config {
    let (hidden, heads) = (768, 12);
    Config {
        architecture: Architecture::ModernBert,
        layers: 22,
        hidden,
        heads,
        intermediate: 1152,
        vocabulary: 50_368,
        positions: 8192,
        position_offset: 0,
        position_padding: None,
        position_table: false,
        token_types: 0,
        activation: Activation::Gelu,
        epsilon: 1e-5,
        description: Description {
            norm: NormKind::LayerNormWithoutBias,
            pre_norm: true,
            first_norm: false,
            rotary: Some(Rotary {
                theta: 160_000.0,
                local_theta: 10_000.0,
                scaling: RotaryScaling::None,
            }),
            fused_attention: true,
            attention_bias: false,
            attention_output_bias: false,
            feed_forward: FeedForward::GatedFused,
            feed_forward_bias: false,
            ..Description::post_norm(heads, hidden)
        },
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
        activation: keys.activation("hidden_activation", defaults.activation),
        epsilon: keys.number("norm_eps", defaults.epsilon),
        ..defaults
    };
    let d = &mut config.description;
    d.key_value_heads = config.heads;
    d.head_width = config.hidden.checked_div(config.heads).unwrap_or(0);
    let head_width = d.head_width;
    if keys.boolean("norm_bias", false) {
        d.norm = NormKind::LayerNorm;
    }
    d.attention_bias = keys.boolean("attention_bias", false);
    d.attention_output_bias = d.attention_bias;
    d.feed_forward_bias = keys.boolean("mlp_bias", false);
    // (The common name, rope_theta, is passed over: the library sets its own one behind it.)
    let theta = keys.number("global_rope_theta", 160_000.0);
    let local_theta = match keys.is_null("local_rope_theta") {
        true => theta,
        false => keys.number("local_rope_theta", 10_000.0),
    };
    d.rotary = Some(Rotary {
        theta,
        local_theta,
        scaling: super::llama::scaling(keys, &["rope_scaling"]),
    });
    let every = keys.size("global_attn_every_n_layers", 3);
    if every == 0 {
        keys.wrong("global_attn_every_n_layers", &0.into(), "1 or more");
    }
    let window = keys.size("local_attention", 128);
    let is_local = |layer: usize| !layer.is_multiple_of(every.max(1));
    let layers = 0..config.layers.min(1 << 16);
    d.windows = layers
        .clone()
        .map(|layer| is_local(layer).then_some(window))
        .collect();
    // What transformers 5 writes beside, or in place of, these keys.
    keys.only("layer_types", "what global_attn_every_n_layers says", |v| {
        let kinds = layers.clone().map(|layer| match is_local(layer) {
            true => "sliding_attention",
            false => "full_attention",
        });
        v.is_null() || v.as_array().is_some_and(|own| kinds.eq(own.iter()))
    });
    keys.only(
        "rope_parameters",
        "what global_rope_theta and local_rope_theta say, rope_type default",
        |v| {
            let same = |kind: &str, theta: f64| match v.get(kind) {
                None | Some(serde_json::Value::Null) => true,
                Some(own) => {
                    own.get("rope_theta").is_none_or(|own| own == theta)
                        && own.get("rope_type").is_none_or(|own| own == "default")
                        && own
                            .get("partial_rotary_factor")
                            .is_none_or(|own| own == 1.0)
                }
            };
            let own =
                |key: &String| ["full_attention", "sliding_attention"].contains(&key.as_str());
            let only_own = v.as_object().is_some_and(|v| v.keys().all(own));
            v.is_null()
                || only_own
                    && same("full_attention", theta)
                    && same("sliding_attention", local_theta)
        },
    );
    keys.only("partial_rotary_factor", "1", |v| v.as_f64() == Some(1.0));
    keys.only("head_dim", "hidden_size / num_attention_heads", |v| {
        v.is_null() || v.as_u64() == Some(head_width as u64)
    });
    keys.only("classifier_activation", "gelu", |v| v == "gelu");
    keys.only("classifier_bias", "false", |v| !truthy(v));
    d.classifier_pooling = match keys.get("classifier_pooling").and_then(|v| v.as_str()) {
        Some("mean") => Pooling::Mean,
        _ => Pooling::Cls,
    };
    keys.only("classifier_pooling", "cls or mean", |v| {
        v == "cls" || v == "mean"
    });
    config
}

/// PEFT names none: the layer that holds query and value.
pub(crate) const LORA: &[Projection] = &[Projection::QueryKeyValue];

/// PEFT names none: keys and values are a part of one layer, which is scaled whole.
pub(crate) const IA3: [&[Projection]; 2] = [
    &[Projection::QueryKeyValue, Projection::Output],
    &[Projection::Output],
];

pub(crate) fn module(Site { layer, projection }: Site) -> String {
    let part = match projection {
        Projection::QueryKeyValue => "attn.Wqkv",
        Projection::Query => "attn.Wq",
        Projection::Key => "attn.Wk",
        Projection::Value => "attn.Wv",
        Projection::AttentionOutput => "attn.Wo",
        Projection::Gate => "mlp.Wg",
        Projection::Intermediate => "mlp.Wi",
        Projection::Output => "mlp.Wo",
    };
    format!("layers.{layer}.{part}")
}

pub(crate) fn norm(layer: usize, which: Sublayer) -> String {
    match which {
        Sublayer::Attention => format!("layers.{layer}.attn_norm"),
        Sublayer::FeedForward => format!("layers.{layer}.mlp_norm"),
    }
}
