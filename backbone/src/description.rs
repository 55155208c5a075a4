//! A transformer as data: what a family's layers are made of.
//!
//! A family's file makes a [`Description`] out of `config.json`; the forward pass is built from it once and asks nothing of
//! the family's name.

use serde::Serialize;

use crate::{Pooling, Projection};

/// How rows are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Layer norm (Ba et al. 2016) with a shift.
    LayerNorm,
    /// Layer norm without a shift.
    LayerNormWithoutBias,
    /// Root-mean-square norm (Zhang & Sennrich 2019).
    Rms,
}

/// The feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedForward {
    /// `W₂ f(W₁ x)`.
    Plain,
    /// `W₂ (f(G x) ∘ U x)` with `G` and `U` apart (Shazeer 2020).
    Gated,
    /// The same with `G` and `U` in one matrix, gate first.
    GatedFused,
}

/// Rotary positions (Su et al. 2021): pairs of value `i` and value `i + R/2` of each head are turned.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rotary {
    /// The base of the angles.
    pub theta: f64,
    /// The base in layers with a window, where it is another.
    pub local_theta: f64,
    /// How angles are stretched for longer texts.
    pub scaling: RotaryScaling,
}

/// Stretching of rotary angles.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RotaryScaling {
    /// None.
    None,
    /// All angles divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3's: slow angles divided by the factor, fast ones kept, those between interpolated.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Angles that turn fewer times than this over the original context are slow.
        low: f64,
        /// Angles that turn more times than this over the original context are fast.
        high: f64,
        /// The context that the model was first trained for.
        context: f64,
    },
}

impl Rotary {
    /// The angle per position of each pair of a head of `width` values, `[width/2]`.
    pub(crate) fn angles(&self, width: usize, local: bool) -> Vec<f32> {
        let theta = if local { self.local_theta } else { self.theta };
        // In f32, as the library computes them.
        (0..width / 2)
            .map(|i| {
                let power = (2 * i) as f32 / width as f32;
                let angle = 1.0 / (theta as f32).powf(power);
                self.scaling.apply(angle)
            })
            .collect()
    }
}

impl RotaryScaling {
    fn apply(&self, angle: f32) -> f32 {
        match *self {
            Self::None => angle,
            Self::Linear { factor } => angle / factor as f32,
            Self::Llama3 {
                factor,
                low,
                high,
                context,
            } => {
                let (factor, low, high) = (factor as f32, low as f32, high as f32);
                let turns = context as f32 * angle / std::f32::consts::TAU;
                if turns < low {
                    angle / factor
                } else if turns > high {
                    angle
                } else {
                    let smooth = (turns - low) / (high - low);
                    (1.0 - smooth) * angle / factor + smooth * angle
                }
            }
        }
    }
}

/// What the layers of a transformer are made of, beyond its sizes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Its norms.
    pub norm: NormKind,
    /// Whether norms stand before the sublayers, with one more behind the last layer, instead of behind them.
    pub pre_norm: bool,
    /// Whether the embeddings are normalised.
    pub embedding_norm: bool,
    /// Whether the first layer's attention has a norm before it.
    pub first_norm: bool,
    /// Rotary positions; without them a table of positions is added to the embeddings.
    pub rotary: Option<Rotary>,
    /// Whether a token sees no later one.
    pub causal: bool,
    /// Per layer, the tokens that it sees at once; `None` for all.
    pub windows: Vec<Option<usize>>,
    /// Heads of keys and values.
    pub key_value_heads: usize,
    /// Values of a head.
    pub head_width: usize,
    /// Whether query, key and value are one matrix.
    pub fused_attention: bool,
    /// Whether query, key and value have biases.
    pub attention_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub attention_output_bias: bool,
    /// Whether queries and keys are normalised, head by head.
    pub query_key_norms: bool,
    /// The feed-forward network.
    pub feed_forward: FeedForward,
    /// Whether it has biases.
    pub feed_forward_bias: bool,
    /// The id that stands for padding: reading the last token passes over it.
    pub padding: Option<u32>,
    /// How the library's own classifier reads the model, where the configuration says it. (What is used is recorded with
    /// what is trained.)
    #[serde(skip)]
    pub classifier_pooling: Pooling,
    /// Whether the output matrix of a language model is the table of word embeddings. (It is read only where words are
    /// scored, and recorded there.)
    #[serde(skip)]
    pub tied: bool,
}

impl Description {
    /// A post-norm encoder of the BERT family.
    pub fn post_norm(heads: usize, hidden: usize) -> Self {
        Self {
            norm: NormKind::LayerNorm,
            pre_norm: false,
            embedding_norm: true,
            first_norm: true,
            rotary: None,
            causal: false,
            windows: Vec::new(),
            key_value_heads: heads,
            head_width: hidden.checked_div(heads).unwrap_or(0),
            fused_attention: false,
            attention_bias: true,
            attention_output_bias: true,
            query_key_norms: false,
            feed_forward: FeedForward::Plain,
            feed_forward_bias: true,
            padding: None,
            classifier_pooling: Pooling::Cls,
            tied: false,
        }
    }

    /// The linear layers of a layer, in the order of the computation.
    pub fn projections(&self) -> impl Iterator<Item = Projection> + use<> {
        let (fused, gate) = (
            self.fused_attention,
            self.feed_forward == FeedForward::Gated,
        );
        Projection::ALL
            .into_iter()
            .filter(move |projection| match projection {
                Projection::Query | Projection::Key | Projection::Value => !fused,
                Projection::QueryKeyValue => fused,
                Projection::Gate => gate,
                _ => true,
            })
    }

    /// The window of a layer.
    pub(crate) fn window(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }

    /// Whether anything has a bias: a linear layer, or a norm over the hidden state.
    pub fn has_biases(&self) -> bool {
        self.norm == NormKind::LayerNorm || self.projections().any(|p| self.bias(p))
    }

    /// Whether the linear layer has a bias.
    pub(crate) fn bias(&self, projection: Projection) -> bool {
        match projection {
            Projection::Query | Projection::Key | Projection::Value | Projection::QueryKeyValue => {
                self.attention_bias
            }
            Projection::AttentionOutput => self.attention_output_bias,
            Projection::Gate | Projection::Intermediate | Projection::Output => {
                self.feed_forward_bias
            }
        }
    }
}
