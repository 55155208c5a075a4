//! Named places in the backbone where a method may act.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One of the linear layers of a layer. Which of them a family has, its description says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// Attention query, H → H.
    Query,
    /// Attention key, H → H.
    Key,
    /// Attention value, H → H.
    Value,
    /// Query, key and value in one matrix, where a family has them so.
    QueryKeyValue,
    /// Attention output, H → H.
    AttentionOutput,
    /// The gate of a gated feed-forward network, H → intermediate (before the activation).
    Gate,
    /// First feed-forward layer, H → intermediate (before the activation, or what a gate is multiplied with).
    Intermediate,
    /// Second feed-forward layer, intermediate → H.
    Output,
}

impl Projection {
    /// All of them, in the order of the computation.
    pub const ALL: [Self; 8] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::QueryKeyValue,
        Self::AttentionOutput,
        Self::Gate,
        Self::Intermediate,
        Self::Output,
    ];

    /// The name used in configurations and tensor names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::QueryKeyValue => "query_key_value",
            Self::AttentionOutput => "attention_output",
            Self::Gate => "gate",
            Self::Intermediate => "intermediate",
            Self::Output => "output",
        }
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Projection {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        // The names of decoders in the field.
        let s = match s {
            "q_proj" => "query",
            "k_proj" => "key",
            "v_proj" => "value",
            "o_proj" => "attention_output",
            "gate_proj" => "gate",
            "up_proj" | "up" => "intermediate",
            "down_proj" | "down" => "output",
            "Wqkv" => "query_key_value",
            other => other,
        };
        Self::ALL
            .into_iter()
            .find(|p| p.name() == s)
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::name).join(", ");
                format!("unknown target module '{s}'; known: {known}")
            })
    }
}

/// A linear layer of the backbone, written `encoder.3.query`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// Encoder layer, counted from 0 at the input.
    pub layer: usize,
    /// Which linear layer in it.
    pub projection: Projection,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "encoder.{}.{}", self.layer, self.projection)
    }
}

impl FromStr for Site {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        s.strip_prefix("encoder.")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(layer, projection)| {
                Some(Self {
                    layer: layer.parse().ok()?,
                    projection: projection.parse().ok()?,
                })
            })
            .ok_or_else(|| {
                let known = Projection::ALL.map(Projection::name).join(", ");
                format!(
                    "unknown site '{s}'; expected encoder.LAYER.MODULE with a module of {known}"
                )
            })
    }
}

/// One of the two sublayers of an encoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sublayer {
    /// Self-attention with its output projection.
    Attention,
    /// The feed-forward network.
    FeedForward,
}

impl Sublayer {
    /// The name used in tensor names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::FeedForward => "feed_forward",
        }
    }
}

/// A layer norm of the backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Norm {
    /// Over the embeddings, before the first layer.
    Embeddings,
    /// Over a sublayer's output plus its residual, or before the sublayer, in this layer counted from 0.
    Layer(usize, Sublayer),
    /// Behind the last layer of a transformer whose norms stand before the sublayers.
    Final,
}
