//! DistilBERT (Sanh et al. 2019): BERT without token types and pooler, with names of its own.

use kernels::Activation;

use crate::{Architecture, Config, Description, Projection, Site, Sublayer, keys::Keys};

/// `DistilBertConfig()`.
pub(crate) fn defaults() -> Config {
    Config {
        architecture: Architecture::DistilBert,
        layers: 6,
        hidden: 768,
        heads: 12,
        intermediate: 3072,
        vocabulary: 30_522,
        positions: 512,
        position_offset: 0,
        position_padding: None,
        position_table: true,
        token_types: 0,
        activation: Activation::Gelu,
        epsilon: 1e-12,
        description: Description::post_norm(12, 768),
    }
}

pub(crate) fn read(keys: &mut Keys<'_>, defaults: Config) -> Config {
    // The library maps the common names on its own ones, and the common ones win.
    let mut either = |own: &str, common: &str, default| {
        let own = keys.size(own, default);
        keys.size(common, own)
    };
    let layers = either("n_layers", "num_hidden_layers", defaults.layers);
    let hidden = either("dim", "hidden_size", defaults.hidden);
    let heads = either("n_heads", "num_attention_heads", defaults.heads);
    Config {
        layers,
        hidden,
        heads,
        description: Description::post_norm(heads, hidden),
        intermediate: keys.size("hidden_dim", defaults.intermediate),
        vocabulary: keys.size("vocab_size", defaults.vocabulary),
        positions: keys.size("max_position_embeddings", defaults.positions),
        activation: keys.activation("activation", defaults.activation),
        ..defaults
    }
}

pub(crate) fn module(Site { layer, projection }: Site) -> String {
    let part = match projection {
        Projection::Query => "attention.q_lin",
        Projection::Key => "attention.k_lin",
        Projection::Value => "attention.v_lin",
        Projection::QueryKeyValue | Projection::Gate => "none",
        Projection::AttentionOutput => "attention.out_lin",
        Projection::Intermediate => "ffn.lin1",
        Projection::Output => "ffn.lin2",
    };
    format!("transformer.layer.{layer}.{part}")
}

pub(crate) fn norm(layer: usize, which: Sublayer) -> String {
    match which {
        Sublayer::Attention => format!("transformer.layer.{layer}.sa_layer_norm"),
        Sublayer::FeedForward => format!("transformer.layer.{layer}.output_layer_norm"),
    }
}
