//! The encoder: `x ← LN(x + Attention(x))`, `x ← LN(x + FFN(x))`, L times over packed rows.
//!
//! Post-norm encoders of the BERT family (Devlin et al. 2019; Liu et al. 2019; Sanh et al. 2019). Linear
//! layers, norms and activations are row-wise, so they run over all tokens of the batch at once; attention
//! works span by span. Where only one row of an example is read, the last layer computes its query side
//! and feed-forward network for that row alone: the same numbers, less work.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor, Var};
use kernels::{Activation, LayerNorm, Linear, Spans};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Batch, Config, Error, Hooks, Input, KeyValues, Norm, Pass, Phase, Projection, Result, Site,
    Sublayer,
    weights::{Weights, hex},
};

/// How the vector of an example is read from its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the example's rows.
    Mean,
    /// The first row.
    Cls,
    /// The first row through the checkpoint's own frozen dense layer and tanh (BERT's pooler).
    Pooler,
}

impl Pooling {
    /// The name used in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Pooler => "pooler",
        }
    }
}

#[derive(Clone)]
struct Layer {
    projections: [Linear; 6],
    attention_norm: LayerNorm,
    output_norm: LayerNorm,
}

impl Layer {
    fn linear(&self, projection: Projection) -> &Linear {
        &self.projections[projection as usize]
    }
}

/// Gives a tensor by its name and shape, or nothing where it does not exist.
pub type TensorSource<'a> = dyn FnMut(&str, &[usize]) -> Result<Option<Tensor>> + 'a;

/// A transformer encoder. Cloning is cheap: weights are shared.
#[derive(Clone)]
pub struct Backbone {
    config: Config,
    words: Tensor,
    positions: Tensor,
    types: Option<Tensor>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    pooler: Option<Linear>,
    pooling: Pooling,
}

impl Backbone {
    /// Loads frozen weights from a safetensors file, or from several with an index, with or without the `bert.`, `roberta.` or `distilbert.`
    /// prefix, and with `weight`/`bias` or `gamma`/`beta` as the names of layer norms.
    ///
    /// # Errors
    /// If the file is damaged or a tensor is missing or misshapen; the message names both.
    pub fn load(config: Config, weights: &Path) -> Result<Self> {
        let file = Weights::open(weights)?;
        let prefix = format!("{}.", config.architecture.name());
        let find = |name: &str| -> Option<String> {
            let old = name
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta");
            [
                name.to_owned(),
                format!("{prefix}{name}"),
                old.clone(),
                format!("{prefix}{old}"),
            ]
            .into_iter()
            .find(|n| file.contains(n))
        };
        Self::build(config, &mut |name, shape| match find(name) {
            Some(found) => file.read(&found, shape).map(Some),
            None => Ok(None),
        })
        .map_err(|e| match e {
            Error::Unsupported(what) => Error::content(weights, what),
            other => other,
        })
    }

    /// Builds a backbone from a function that gives each tensor by its name and shape.
    ///
    /// # Errors
    /// If the function fails or a needed tensor does not exist.
    pub fn build(config: Config, get: &mut TensorSource<'_>) -> Result<Self> {
        let c = config.clone();
        let names = c.architecture;
        let h = c.hidden;
        let mut need = |name: &str, shape: &[usize]| -> Result<Tensor> {
            get(name, shape)?
                .ok_or_else(|| Error::Unsupported(format!("tensor '{name}' is missing")))
        };
        let norm = |need: &mut dyn FnMut(&str, &[usize]) -> Result<Tensor>,
                    name: &str|
         -> Result<LayerNorm> {
            let gamma = need(&format!("{name}.weight"), &[h])?;
            Ok(LayerNorm::new(
                gamma,
                need(&format!("{name}.bias"), &[h])?,
                c.epsilon,
            )?)
        };
        let linear = |need: &mut dyn FnMut(&str, &[usize]) -> Result<Tensor>,
                      name: &str,
                      o: usize,
                      i: usize| {
            let weight = need(&format!("{name}.weight"), &[o, i])?;
            Ok::<_, Error>(Linear::new(
                weight,
                Some(need(&format!("{name}.bias"), &[o])?),
            )?)
        };
        let words = need("embeddings.word_embeddings.weight", &[c.vocabulary, h])?;
        let positions = need("embeddings.position_embeddings.weight", &[c.positions, h])?;
        let types = match c.token_types {
            0 => None,
            n => Some(need("embeddings.token_type_embeddings.weight", &[n, h])?),
        };
        let embedding_norm = norm(&mut need, "embeddings.LayerNorm")?;
        // (A damaged configuration may name any number of layers: the first that is missing ends it.)
        let mut layers = Vec::new();
        for layer in 0..c.layers {
            let mut projections = Vec::with_capacity(6);
            for projection in Projection::ALL {
                let (o, i) = match projection {
                    Projection::Intermediate => (c.intermediate, h),
                    Projection::Output => (h, c.intermediate),
                    _ => (h, h),
                };
                projections.push(linear(
                    &mut need,
                    &names.module(Site { layer, projection }),
                    o,
                    i,
                )?);
            }
            let projections = projections
                .try_into()
                .map_err(|_| Error::Unsupported("a layer has six linear layers".into()))?;
            layers.push(Layer {
                projections,
                attention_norm: norm(&mut need, &names.norm_module(layer, Sublayer::Attention))?,
                output_norm: norm(&mut need, &names.norm_module(layer, Sublayer::FeedForward))?,
            });
        }
        let pooler = match (
            get("pooler.dense.weight", &[h, h])?,
            get("pooler.dense.bias", &[h])?,
        ) {
            (Some(weight), Some(bias)) => Some(Linear::new(weight, Some(bias))?),
            _ => None,
        };
        Ok(Self {
            config,
            words,
            positions,
            types,
            norm: embedding_norm,
            layers,
            pooler,
            pooling: Pooling::Mean,
        })
    }

    /// The same backbone, read in another way. A new one is read by the mean.
    ///
    /// # Errors
    /// If the pooler is asked for and the checkpoint has none.
    pub fn with_pooling(mut self, pooling: Pooling) -> Result<Self> {
        if pooling == Pooling::Pooler && self.pooler.is_none() {
            return Err(Error::Unsupported(
                "this checkpoint has no pooler (pooler.dense.weight); use pooling mean or cls"
                    .into(),
            ));
        }
        self.pooling = pooling;
        Ok(self)
    }

    /// How an example's vector is read.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Sizes and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The type of the weights.
    pub fn dtype(&self) -> DType {
        self.words.dtype()
    }

    /// The word embedding table, `[vocabulary, H]`.
    pub fn word_embeddings(&self) -> &Tensor {
        &self.words
    }

    /// The linear layer at a site.
    pub fn linear(&self, site: Site) -> &Linear {
        self.layers[site.layer].linear(site.projection)
    }

    /// One of its layer norms.
    pub fn norm(&self, at: Norm) -> &LayerNorm {
        match at {
            Norm::Embeddings => &self.norm,
            Norm::Layer(layer, Sublayer::Attention) => &self.layers[layer].attention_norm,
            Norm::Layer(layer, Sublayer::FeedForward) => &self.layers[layer].output_norm,
        }
    }

    /// All layer norms, from the input upwards.
    pub fn norms(&self) -> impl Iterator<Item = Norm> + use<> {
        let of_layer = |layer| {
            [Sublayer::Attention, Sublayer::FeedForward].map(|which| Norm::Layer(layer, which))
        };
        std::iter::once(Norm::Embeddings).chain((0..self.config.layers).flat_map(of_layer))
    }

    /// Whether the checkpoint has a pooler.
    pub fn has_pooler(&self) -> bool {
        self.pooler.is_some()
    }

    /// All sites, from the input upwards.
    pub fn sites(&self) -> impl Iterator<Item = Site> + use<> {
        (0..self.config.layers).flat_map(|layer| {
            Projection::ALL
                .into_iter()
                .map(move |projection| Site { layer, projection })
        })
    }

    /// Sizes `(out, in)` of the linear layer at a site.
    pub fn shape(&self, site: Site) -> (usize, usize) {
        let linear = self.linear(site);
        (linear.out_features(), linear.in_features())
    }

    /// All weights with the names that transformers gives them, without a prefix, in a fixed order.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let names = self.config.architecture;
        let mut out = vec![
            (
                "embeddings.word_embeddings.weight".to_owned(),
                self.words.clone(),
            ),
            (
                "embeddings.position_embeddings.weight".to_owned(),
                self.positions.clone(),
            ),
        ];
        if let Some(types) = &self.types {
            out.push((
                "embeddings.token_type_embeddings.weight".to_owned(),
                types.clone(),
            ));
        }
        let mut both = |name: String, weight: &Tensor, bias: Option<&Tensor>| {
            out.push((format!("{name}.weight"), weight.clone()));
            if let Some(bias) = bias {
                out.push((format!("{name}.bias"), bias.clone()));
            }
        };
        both(
            "embeddings.LayerNorm".into(),
            self.norm.gamma(),
            Some(self.norm.beta()),
        );
        for (layer, l) in self.layers.iter().enumerate() {
            for projection in Projection::ALL {
                let linear = l.linear(projection);
                both(
                    names.module(Site { layer, projection }),
                    linear.weight(),
                    linear.bias(),
                );
            }
            for (which, norm) in [
                (Sublayer::Attention, &l.attention_norm),
                (Sublayer::FeedForward, &l.output_norm),
            ] {
                both(
                    names.norm_module(layer, which),
                    norm.gamma(),
                    Some(norm.beta()),
                );
            }
        }
        if let Some(pooler) = &self.pooler {
            both("pooler.dense".into(), pooler.weight(), pooler.bias());
        }
        out
    }

    /// Number of parameters, embeddings and pooler included.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|(_, t)| t.elem_count()).sum()
    }

    /// SHA-256 over all weights in the order of [`Backbone::tensors`].
    ///
    /// # Errors
    /// If a tensor cannot be read back.
    pub fn weights_digest(&self) -> Result<String> {
        let tensors = self.tensors();
        crate::digest_of(tensors.iter().map(|(_, t)| t))
    }

    /// SHA-256 over everything that decides what the backbone makes of a text: its weights (as
    /// [`Backbone::weights_digest`] gives them), what of its configuration changes numbers, and its tokenizer's digest.
    pub fn digest(&self, weights: &str, tokenizer: &[u8; 32]) -> String {
        let mut hasher = Sha256::new();
        hasher.update(weights);
        hasher.update(serde_json::to_string(&self.config).unwrap_or_default());
        hasher.update(tokenizer);
        hex(&hasher.finalize())
    }

    /// The same architecture with every tensor replaced by what `f` makes of it.
    ///
    /// # Errors
    /// If `f` fails.
    pub fn map(&self, f: &mut dyn FnMut(&str, Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut tensors: BTreeMap<String, Tensor> = self.tensors().into_iter().collect();
        Self::build(self.config.clone(), &mut |name, _| {
            tensors.remove(name).map(|t| f(name, t)).transpose()
        })?
        .with_pooling(self.pooling)
    }

    /// A copy whose every weight that the pooled vector depends on is a trainable variable, with the variables by
    /// name.
    ///
    /// # Errors
    /// If a tensor cannot be copied.
    pub fn trainable(&self) -> Result<(Self, Vec<(String, Var)>)> {
        let mut vars = Vec::new();
        let copy = self.map(&mut |name, t| {
            if name.starts_with("pooler.") && self.pooling != Pooling::Pooler {
                return Ok(t);
            }
            let var = Var::from_tensor(&t)?;
            vars.push((name.to_owned(), var.clone()));
            Ok(var.as_tensor().clone())
        })?;
        Ok((copy, vars))
    }

    /// A new backbone with `deltas` `[out, in]` added to the weights at their sites; the rest is shared.
    ///
    /// # Errors
    /// If a delta has another shape than its site.
    pub fn merged(&self, deltas: &[(Site, Tensor)]) -> Result<Self> {
        deltas
            .iter()
            .try_fold(self.clone(), |merged, (site, delta)| {
                let linear = merged.linear(*site);
                let weight = (linear.weight() + delta)?;
                let linear = Linear::new(weight, linear.bias().cloned())?;
                merged.with_linear(*site, linear)
            })
    }

    /// The same backbone with another linear layer at a site; the rest is shared.
    ///
    /// # Errors
    /// If it has another shape.
    pub fn with_linear(mut self, site: Site, linear: Linear) -> Result<Self> {
        let (new, old) = (linear.weight().dims(), self.linear(site).weight().dims());
        if new != old {
            return Err(Error::Unsupported(format!(
                "{site}: a weight of shape {new:?} instead of {old:?}"
            )));
        }
        self.layers[site.layer].projections[site.projection as usize] = linear;
        Ok(self)
    }

    /// The same backbone with another layer norm; the rest is shared.
    ///
    /// # Errors
    /// If it is for rows of another length.
    pub fn with_norm(mut self, at: Norm, norm: LayerNorm) -> Result<Self> {
        if norm.gamma().dims() != [self.config.hidden] {
            return Err(Error::Unsupported(format!(
                "{at:?}: a layer norm for {:?} instead of {} values",
                norm.gamma().dims(),
                self.config.hidden
            )));
        }
        match at {
            Norm::Embeddings => self.norm = norm,
            Norm::Layer(layer, Sublayer::Attention) => self.layers[layer].attention_norm = norm,
            Norm::Layer(layer, Sublayer::FeedForward) => self.layers[layer].output_norm = norm,
        }
        Ok(self)
    }

    /// The vector of each example, `[B, H]`.
    ///
    /// # Errors
    /// If an id is outside the vocabulary, an example is longer than the position table, or a tensor operation
    /// fails.
    pub fn pooled<H: Hooks + ?Sized>(
        &self,
        batch: &Batch,
        hooks: &H,
        phase: Phase<'_>,
    ) -> Result<Tensor> {
        let pooling = self.pooling;
        let input = hooks.input(self.input(batch)?, phase)?;
        let mut x = self.embed(&input, batch, hooks, phase)?;
        let spans = &input.spans;
        let first: Vec<u32> = spans
            .offsets()
            .iter()
            .zip(&input.read_from)
            .map(|(start, from)| (start + from) as u32)
            .collect();
        let last = self.layers.len() - 1;
        for layer in 0..last {
            x = self.layer(layer, &x, spans, None, hooks, phase)?;
        }
        if pooling == Pooling::Mean {
            x = self.layer(last, &x, spans, None, hooks, phase)?;
            return Ok(mean_rows(&x, spans, &input.read_from)?);
        }
        let x = self.layer(last, &x, spans, Some(&first), hooks, phase)?;
        match (&self.pooler, pooling) {
            (Some(pooler), Pooling::Pooler) => Ok(pooler.forward_activated(&x, Activation::Tanh)?),
            _ => Ok(x),
        }
    }

    /// The rows after the embedding layer and after every layer, L+1 tensors `[N', H]`.
    ///
    /// # Errors
    /// As [`Backbone::pooled`].
    pub fn hidden_states<H: Hooks + ?Sized>(
        &self,
        batch: &Batch,
        hooks: &H,
        phase: Phase<'_>,
    ) -> Result<Vec<Tensor>> {
        let input = hooks.input(self.input(batch)?, phase)?;
        let mut states = vec![self.embed(&input, batch, hooks, phase)?];
        for layer in 0..self.layers.len() {
            let next = self.layer(layer, &states[layer], &input.spans, None, hooks, phase)?;
            states.push(next);
        }
        Ok(states)
    }

    fn input(&self, batch: &Batch) -> Result<Input> {
        let vocabulary = self.config.vocabulary as u32;
        if let Some(id) = batch.ids().iter().find(|id| **id >= vocabulary) {
            return Err(Error::Unsupported(format!(
                "token id {id} is outside the vocabulary of {vocabulary}; the tokenizer belongs to another backbone"
            )));
        }
        let examples = batch.spans().count();
        Ok(Input {
            embeddings: kernels::embed(&self.words, batch.ids())?,
            spans: batch.spans().clone(),
            virtual_tokens: vec![0; examples],
            first_position: vec![0; examples],
            read_from: vec![0; examples],
        })
    }

    /// Adds positions and token types and applies the norm. Virtual tokens have token type 0.
    fn embed<H: Hooks + ?Sized>(
        &self,
        input: &Input,
        batch: &Batch,
        hooks: &H,
        phase: Phase<'_>,
    ) -> Result<Tensor> {
        let rows = input.spans.rows();
        let mut positions = Vec::with_capacity(rows);
        let mut types = Vec::with_capacity(rows);
        let max = self.config.max_tokens();
        for (i, virtual_tokens) in input.virtual_tokens.iter().enumerate() {
            let first = input.first_position[i];
            let length = input.spans.span(i).len();
            if first + length > max {
                let before = match first {
                    0 => String::new(),
                    n => format!(" behind {n} positions that are taken"),
                };
                return Err(Error::Unsupported(format!(
                    "an example of {length} tokens ({virtual_tokens} of them virtual){before} does not fit the {max} positions"
                )));
            }
            let mut next = (first + self.config.position_offset) as u32;
            let ids = &batch.ids()[batch.spans().span(i)];
            match self.config.position_padding {
                // Virtual tokens are embeddings, in which the library cannot see a padding token.
                Some(padding) if *virtual_tokens == 0 => {
                    positions.extend(ids.iter().map(|id| match *id == padding {
                        true => padding,
                        false => {
                            next += 1;
                            next - 1
                        }
                    }));
                }
                _ => positions.extend(next..next + length as u32),
            }
            types.extend(std::iter::repeat_n(0, *virtual_tokens));
            types.extend_from_slice(&batch.types()[batch.spans().span(i)]);
        }
        let mut fixed = kernels::embed(&self.positions, &positions)?;
        if !self.config.position_table {
            fixed = fixed.zeros_like()?;
        }
        if let Some(table) = &self.types {
            let types: Vec<u32> = types
                .iter()
                .map(|t| (*t).min(self.config.token_types as u32 - 1))
                .collect();
            fixed = kernels::add(&fixed, &kernels::embed(table, &types)?)?;
        }
        let pass = Pass {
            phase,
            spans: &input.spans,
        };
        hooks.apply_norm(
            Norm::Embeddings,
            &input.embeddings,
            &fixed,
            &self.norm,
            pass,
        )
    }

    /// One encoder layer. With `read`, only those rows go through the query side and the feed-forward
    /// network (one row per example) and come out.
    fn layer<H: Hooks + ?Sized>(
        &self,
        index: usize,
        x: &Tensor,
        spans: &Spans,
        read: Option<&[u32]>,
        hooks: &H,
        phase: Phase<'_>,
    ) -> Result<Tensor> {
        let layer = &self.layers[index];
        let all = Pass { phase, spans };
        let project = |projection, x: &Tensor, pass: Pass<'_>| -> Result<Tensor> {
            let site = Site {
                layer: index,
                projection,
            };
            if !hooks.acts_on(site) {
                return Ok(layer.linear(projection).forward(x)?);
            }
            let x = hooks.linear_input(site, x, pass)?;
            let y = layer.linear(projection).forward(&x)?;
            hooks.linear(site, &x, y, pass)
        };
        let single;
        let selected;
        let (rows, pass) = match read {
            None => (x, all),
            Some(read) => {
                single = Spans::from_lengths(&vec![1; read.len()])?;
                selected = kernels::select_rows(x, read)?;
                (
                    &selected,
                    Pass {
                        phase,
                        spans: &single,
                    },
                )
            }
        };
        let query = project(Projection::Query, rows, pass)?;
        let own = KeyValues {
            keys: project(Projection::Key, x, all)?,
            values: project(Projection::Value, x, all)?,
            spans: spans.clone(),
        };
        let KeyValues {
            keys,
            values,
            spans: key_spans,
        } = hooks.keys_values(index, own, phase)?;
        let heads = self.config.heads;
        let mixed = kernels::attention(&query, &keys, &values, pass.spans, &key_spans, heads)?;
        let h = project(Projection::AttentionOutput, &mixed, pass)?;
        let (norm, which) = (&layer.attention_norm, Sublayer::Attention);
        let h = hooks.sublayer(index, which, h, rows, norm, pass)?;
        let x = hooks.apply_norm(Norm::Layer(index, which), &h, rows, norm, pass)?;

        let site = Site {
            layer: index,
            projection: Projection::Intermediate,
        };
        let inner = if hooks.acts_on(site) {
            kernels::activate(
                &project(Projection::Intermediate, &x, pass)?,
                self.config.activation,
            )?
        } else {
            layer
                .linear(Projection::Intermediate)
                .forward_activated(&x, self.config.activation)?
        };
        let h = project(Projection::Output, &inner, pass)?;
        let (norm, which) = (&layer.output_norm, Sublayer::FeedForward);
        let h = hooks.sublayer(index, which, h, &x, norm, pass)?;
        hooks.apply_norm(Norm::Layer(index, which), &h, &x, norm, pass)
    }

    /// A small backbone with seeded random weights, for tests and as the floor of a comparison.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn random(config: Config, rng: &mut rand_chacha::ChaCha8Rng) -> Result<Self> {
        Self::build(config, &mut |name, shape| {
            let n: usize = shape.iter().product();
            let values: Vec<f32> = match name {
                _ if name.ends_with("LayerNorm.weight") || name.ends_with("layer_norm.weight") => {
                    vec![1.0; n]
                }
                _ if name.ends_with(".bias") => vec![0.0; n],
                _ => normal(rng, n, 0.02),
            };
            Ok(Some(Tensor::from_vec(values, shape, &Device::Cpu)?))
        })
    }
}

/// `n` draws from a normal distribution (Box and Muller 1958).
fn normal(rng: &mut rand_chacha::ChaCha8Rng, n: usize, deviation: f32) -> Vec<f32> {
    use rand_chacha::rand_core::RngCore;
    let mut unit = || ((rng.next_u32() >> 8) as f32 + 0.5) / (1u32 << 24) as f32;
    (0..n)
        .map(|_| {
            let (a, b) = (unit(), unit());
            deviation * (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
        })
        .collect()
}

/// Mean over the rows of each span from its `read_from` on, `[B, H]`.
fn mean_rows(x: &Tensor, spans: &Spans, read_from: &[usize]) -> candle_core::Result<Tensor> {
    if let Some(first) = read_from.first()
        && read_from.iter().all(|r| r == first)
    {
        return kernels::mean_spans(x, spans, *first);
    }
    // Tasks with different numbers of virtual tokens in one batch: gather the rows that are read.
    let mut rows = Vec::with_capacity(spans.rows());
    let mut lengths = Vec::with_capacity(read_from.len());
    for (i, from) in read_from.iter().enumerate() {
        let span = spans.span(i);
        lengths.push(span.len() - from);
        rows.extend((span.start + from..span.end).map(|r| r as u32));
    }
    kernels::mean_spans(
        &kernels::select_rows(x, &rows)?,
        &Spans::from_lengths(&lengths)?,
        0,
    )
}
