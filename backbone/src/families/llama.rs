//! Decoders of Llama's form: Llama (Touvron et al. 2023; SmolLM2, TinyLlama), Qwen2 and Qwen3 (Yang et al. 2024, 2025).
//!
//! Root-mean-square norms before the sublayers, rotary positions, grouped heads of keys and values, a gated feed-forward
//! network. Qwen2 has biases at query, key and value; Qwen3 norms over queries and keys.

use kernels::Activation;
use serde_json::Value;

use crate::{
    Architecture, Config, Description, FeedForward, NormKind, Projection, Rotary, RotaryScaling,
    Site, Sublayer,
    keys::{Keys, truthy},
};

/// `LlamaConfig()`, `Qwen2Config()` or `Qwen3Config()`.
pub(crate) fn defaults(architecture: Architecture) -> Config {
    let llama = architecture == Architecture::Llama;
    let (hidden, heads) = (4096, 32);
    Config {
        architecture,
        layers: 32,
        hidden,
        heads,
        intermediate: if llama { 11_008 } else { 22_016 },
        vocabulary: if llama { 32_000 } else { 151_936 },
        positions: if llama { 2048 } else { 32_768 },
        position_offset: 0,
        position_padding: None,
        position_table: false,
        token_types: 0,
        activation: Activation::Swish,
        epsilon: 1e-6,
        description: Description {
            norm: NormKind::Rms,
            pre_norm: true,
            embedding_norm: false,
            rotary: Some(Rotary {
                theta: 10_000.0,
                local_theta: 10_000.0,
                scaling: RotaryScaling::None,
            }),
            causal: true,
            attention_bias: architecture == Architecture::Qwen2,
            attention_output_bias: false,
            query_key_norms: architecture == Architecture::Qwen3,
            feed_forward: FeedForward::Gated,
            feed_forward_bias: false,
            ..Description::post_norm(heads, hidden)
        },
    }
}

pub(crate) fn read(keys: &mut Keys<'_>, defaults: Config) -> Config {
    let architecture = defaults.architecture;
    let mut config = Config {
        layers: keys.size("num_hidden_layers", defaults.layers),
        hidden: keys.size("hidden_size", defaults.hidden),
        heads: keys.size("num_attention_heads", defaults.heads),
        intermediate: keys.size("intermediate_size", defaults.intermediate),
        vocabulary: keys.size("vocab_size", defaults.vocabulary),
        positions: keys.size("max_position_embeddings", defaults.positions),
        activation: keys.activation("hidden_act", defaults.activation),
        epsilon: keys.number("rms_norm_eps", defaults.epsilon),
        ..defaults
    };
    let own = match architecture {
        Architecture::Llama => config.heads,
        _ => 32,
    };
    let d = &mut config.description;
    d.key_value_heads = match keys.is_null("num_key_value_heads") {
        true => config.heads,
        false => keys.size("num_key_value_heads", own),
    };
    let divided = config.hidden.checked_div(config.heads).unwrap_or(0);
    d.head_width = match architecture {
        Architecture::Qwen3 => keys.size("head_dim", 128),
        Architecture::Llama if keys.is_null("head_dim") => divided,
        _ => keys.size("head_dim", divided),
    };
    if architecture != Architecture::Qwen2 {
        d.attention_bias = keys.boolean("attention_bias", false);
        d.attention_output_bias = d.attention_bias;
    }
    if architecture == Architecture::Llama {
        d.feed_forward_bias = keys.boolean("mlp_bias", false);
        keys.only("layer_types", "full_attention for each layer", |v| {
            let full = |kinds: &Vec<Value>| kinds.iter().all(|kind| kind == "full_attention");
            v.is_null() || v.as_array().is_some_and(full)
        });
    } else {
        d.windows = windows(keys, config.layers);
    }
    let theta = keys.number("rope_theta", 10_000.0);
    let theta = match keys
        .get("rope_parameters")
        .and_then(|v| v.get("rope_theta"))
    {
        None => theta,
        Some(own)
            if keys
                .get("rope_theta")
                .is_none_or(|v| v.as_f64() == own.as_f64()) =>
        {
            own.as_f64().unwrap_or(f64::NAN)
        }
        Some(own) => {
            keys.wrong("rope_parameters.rope_theta", own, "what rope_theta says");
            theta
        }
    };
    if !(theta.is_finite() && theta > 0.0) {
        let value = serde_json::json!(theta);
        keys.wrong("rope_theta", &value, "a number above 0");
    }
    d.rotary = Some(Rotary {
        theta,
        local_theta: theta,
        scaling: scaling(keys, &["rope_scaling", "rope_parameters"]),
    });
    d.padding = keys.padding("pad_token_id");
    d.tied = keys.boolean("tie_word_embeddings", false);
    keys.only("partial_rotary_factor", "1", |v| v.as_f64() == Some(1.0));
    keys.only("is_decoder", "true or false", |v| v.is_boolean());
    keys.only("add_cross_attention", "false", |v| !truthy(v));
    config
}

/// The windows of a Qwen.
fn windows(keys: &mut Keys<'_>, layers: usize) -> Vec<Option<usize>> {
    let sliding = keys.boolean("use_sliding_window", false);
    let window = match sliding && !keys.is_null("sliding_window") {
        true => Some(keys.size("sliding_window", 4096)),
        false => None,
    };
    let kinds: Option<Vec<bool>> = match keys.get("layer_types") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let kinds = value.as_array().into_iter().flatten();
            let kinds = kinds
                .map(|kind| match kind.as_str() {
                    Some("sliding_attention") => Some(true),
                    Some("full_attention") => Some(false),
                    _ => None,
                })
                .collect::<Option<Vec<bool>>>();
            if kinds.as_ref().is_none_or(|kinds| kinds.len() != layers) {
                let value = value.clone();
                keys.wrong(
                    "layer_types",
                    &value,
                    "full_attention or sliding_attention for each layer",
                );
            }
            kinds
        }
    };
    let Some(window) = window else {
        // The library refuses layers with a window that nobody gives.
        if kinds.is_some_and(|kinds| kinds.contains(&true)) {
            keys.wrong(
                "layer_types",
                &"sliding_attention".into(),
                "full_attention, where use_sliding_window is not true with a sliding_window",
            );
        }
        return Vec::new();
    };
    let from = match kinds {
        Some(_) => 0,
        None => keys.size("max_window_layers", 28),
    };
    (0..layers.min(1 << 16))
        .map(|layer| {
            let local = match &kinds {
                Some(kinds) => kinds.get(layer).copied().unwrap_or(false),
                None => layer >= from,
            };
            local.then_some(window)
        })
        .collect()
}

/// The scaling that these keys describe; those that have a value must say the same.
pub(super) fn scaling(keys: &mut Keys<'_>, names: &[&'static str]) -> RotaryScaling {
    let mut found = None;
    for key in names {
        let Some(value) = keys.get(key).filter(|v| !v.is_null()) else {
            continue;
        };
        match scaling_of(value) {
            None => keys.wrong(
                key,
                value,
                "null, or rope_type default, linear or llama3 with their numbers",
            ),
            Some(own) if found.as_ref().is_some_and(|other| *other != own) => {
                keys.wrong(key, value, "what rope_scaling says");
            }
            own => found = own,
        }
    }
    found.unwrap_or(RotaryScaling::None)
}

/// The scaling that a value describes, if it is one that is followed.
fn scaling_of(value: &Value) -> Option<RotaryScaling> {
    let number = |key: &str| value.get(key).and_then(Value::as_f64).filter(|n| *n > 0.0);
    // (Where newer versions of the library have what stands beside in older ones.)
    let partial = value.get("partial_rotary_factor");
    if partial.is_some_and(|share| share.as_f64() != Some(1.0)) {
        return None;
    }
    let kind = value.get("type").or(value.get("rope_type"));
    match kind.and_then(Value::as_str) {
        Some("default") => Some(RotaryScaling::None),
        Some("linear") => number("factor").map(|factor| RotaryScaling::Linear { factor }),
        Some("llama3") => number("factor")
            .zip(number("low_freq_factor"))
            .zip(number("high_freq_factor"))
            .zip(number("original_max_position_embeddings"))
            .map(|(((factor, low), high), context)| RotaryScaling::Llama3 {
                factor,
                low,
                high,
                context,
            }),
        _ => None,
    }
}

/// The layers that PEFT scales over these families.
pub(crate) fn ia3(architecture: Architecture) -> [&'static [Projection]; 2] {
    use Projection::{Key, Output, Query, Value};
    match architecture {
        Architecture::Llama => [&[Key, Value, Output], &[Output]],
        _ => [&[Query, Value, Output], &[Output]],
    }
}

pub(crate) fn module(Site { layer, projection }: Site) -> String {
    let part = match projection {
        Projection::Query => "self_attn.q_proj",
        Projection::Key => "self_attn.k_proj",
        Projection::Value => "self_attn.v_proj",
        Projection::QueryKeyValue => "self_attn.qkv_proj",
        Projection::AttentionOutput => "self_attn.o_proj",
        Projection::Gate => "mlp.gate_proj",
        Projection::Intermediate => "mlp.up_proj",
        Projection::Output => "mlp.down_proj",
    };
    format!("layers.{layer}.{part}")
}

pub(crate) fn norm(layer: usize, which: Sublayer) -> String {
    match which {
        Sublayer::Attention => format!("layers.{layer}.input_layernorm"),
        Sublayer::FeedForward => format!("layers.{layer}.post_attention_layernorm"),
    }
}
