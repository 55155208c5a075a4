//! The transformer: L layers of attention and a feed-forward network over packed rows.
//!
//! With norms behind the sublayers (the BERT family): `x ← LN(x + Attention(x))`, `x ← LN(x + FFN(x))`. With norms before
//! them (ModernBERT and decoders): `x ← x + Attention(N(x))`, `x ← x + FFN(N(x))`, and a norm behind the last layer. Which
//! it is, and what the sublayers are made of, the family's [`Description`](crate::Description) says. Here are its weights:
//! how they are loaded, named, counted and replaced; how rows go through them is in `model/forward.rs`.

mod forward;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher},
    path::Path,
};

use candle_core::{DType, Tensor, Var};
use kernels::{Attention, Linear, Precision};
use sha2::{Digest, Sha256};

use crate::{
    Config, Error, LayerNorm, Norm, NormKind, Projection, Result, Site, Sublayer,
    pooling::Pooling,
    weights::{Weights, bytes_of, hash, hex, rounded_to_blocks},
};

#[derive(Clone)]
struct Layer {
    projections: [Option<Linear>; Projection::ALL.len()],
    attention_norm: LayerNorm,
    output_norm: LayerNorm,
    /// Over the heads of queries and of keys.
    query_key_norms: Option<[LayerNorm; 2]>,
    attention: Attention,
}

impl Layer {
    /// The linear layer of a place that the family has: others are refused before anything is built on them.
    fn linear(&self, projection: Projection) -> &Linear {
        let linear = self.projections[projection as usize].as_ref();
        linear.expect("a site of the family")
    }
}

/// A weight of a backbone.
enum Part<'a> {
    Tensor(&'a Tensor),
    Linear(&'a Linear),
}

impl Part<'_> {
    fn values(&self) -> Tensor {
        match self {
            Self::Tensor(tensor) => (*tensor).clone(),
            Self::Linear(linear) => linear.weight(),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Tensor(tensor) => tensor.elem_count(),
            Self::Linear(linear) => linear.out_features() * linear.in_features(),
        }
    }
}

/// Gives a tensor by its name and shape, or nothing where it does not exist.
pub type TensorSource<'a> = dyn FnMut(&str, &[usize]) -> Result<Option<Tensor>> + 'a;

/// Makes a linear layer of its weight, with its name, and its bias.
type LinearMaker<'a> = dyn FnMut(&str, Tensor, Option<Tensor>) -> Result<Linear> + 'a;

/// A transformer encoder. Cloning is cheap: weights are shared.
#[derive(Clone)]
pub struct Backbone {
    config: Config,
    words: Tensor,
    positions: Option<Tensor>,
    types: Option<Tensor>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    final_norm: Option<LayerNorm>,
    pooler: Option<Linear>,
    pooling: Pooling,
    precision: Precision,
}

impl Backbone {
    /// Loads frozen weights as [`Backbone::load_in`] does, in f32.
    ///
    /// # Errors
    /// As [`Backbone::load_in`].
    pub fn load(config: Config, weights: &Path) -> Result<Self> {
        Ok(Self::load_in(config, weights, Precision::F32, None)?.0)
    }

    /// Loads frozen weights from a GGUF, a safetensors file, or several with an index, with or without the family's prefix
    /// (`bert.`, `model.` …), and with `weight`/`bias` or `gamma`/`beta` as the names of layer norms. Each weight of a linear
    /// layer goes into `precision` before the next one is read, so that no two are in memory in f32; what is asked for in
    /// blocks of four bits and is stored in none is rounded to Q4_1. Also gives the digest of
    /// the weights as the file has them ([`Backbone::weights_digest`] of the same in f32), which is computed unless it is `known`.
    ///
    /// # Errors
    /// If the file is damaged, a tensor is missing or misshapen (the message names both), or rows that should be rounded to
    /// blocks are not filled by them.
    pub fn load_in(
        config: Config,
        weights: &Path,
        precision: Precision,
        known: Option<String>,
    ) -> Result<(Self, String)> {
        let file = Weights::open(weights)?;
        let prefix = config.architecture.prefix();
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
        let mut hasher = Sha256::new();
        // (Counted at the end: half a pooler is none.)
        let mut of_pooler = Vec::new();
        let mut get = |name: &str, shape: &[usize]| -> Result<Option<Tensor>> {
            let Some(found) = find(name) else {
                return Ok(None);
            };
            let tensor = file.read(&found, shape)?;
            match name.starts_with("pooler.") {
                true => of_pooler.push(tensor.clone()),
                false if known.is_none() => hash(&mut hasher, &tensor)?,
                false => (),
            }
            Ok(Some(tensor))
        };
        let mut linear = |name: &str, weight: Tensor, bias: Option<Tensor>| -> Result<Linear> {
            if precision != Precision::Q4 {
                return Ok(Linear::new(weight, bias)?.in_precision(precision)?);
            }
            let (out, width) = weight.dims2()?;
            let found = find(name).unwrap_or_default();
            let blocks = match file.blocks(&found, [out, width])? {
                Some(blocks) => blocks,
                None => rounded_to_blocks(&weight).map_err(|why| {
                    Error::content(weights, format!("tensor '{found}': precision q4: {why}"))
                })?,
            };
            Ok(Linear::of_blocks(blocks, bias)?)
        };
        let built = Self::build_with(config, &mut get, &mut linear);
        let mut built = built.map_err(|e| match e {
            Error::Unsupported(what) => Error::content(weights, what),
            other => other,
        })?;
        built.precision = precision;
        if let Some(digest) = known {
            return Ok((built, digest));
        }
        for tensor in of_pooler.iter().filter(|_| built.pooler.is_some()) {
            hash(&mut hasher, tensor)?;
        }
        Ok((built, hex(&hasher.finalize())))
    }

    /// Builds a backbone from a function that gives each tensor by its name and shape.
    ///
    /// # Errors
    /// If the function fails or a needed tensor does not exist.
    pub fn build(config: Config, get: &mut TensorSource<'_>) -> Result<Self> {
        let mut whole = |_: &str, weight: Tensor, bias: Option<Tensor>| -> Result<Linear> {
            Ok(Linear::new(weight, bias)?)
        };
        Self::build_with(config, get, &mut whole)
    }

    /// As [`Backbone::build`]; `linear` makes each linear layer of its weight, with its name, and its bias.
    fn build_with(
        config: Config,
        get: &mut TensorSource<'_>,
        linear: &mut LinearMaker<'_>,
    ) -> Result<Self> {
        let c = config.clone();
        let names = c.architecture;
        let d = &c.description;
        let h = c.hidden;
        let mut need = |name: &str, shape: &[usize]| -> Result<Tensor> {
            get(name, shape)?
                .ok_or_else(|| Error::Unsupported(format!("tensor '{name}' is missing")))
        };
        let norm = |need: &mut dyn FnMut(&str, &[usize]) -> Result<Tensor>,
                    name: &str,
                    width: usize|
         -> Result<LayerNorm> {
            let gamma = need(&format!("{name}.weight"), &[width])?;
            Ok(match d.norm {
                NormKind::Rms => LayerNorm::rms(gamma, c.epsilon)?,
                NormKind::LayerNormWithoutBias => LayerNorm::without_bias(gamma, c.epsilon)?,
                NormKind::LayerNorm => {
                    LayerNorm::new(gamma, need(&format!("{name}.bias"), &[width])?, c.epsilon)?
                }
            })
        };
        let words = need(names.words(), &[c.vocabulary, h])?;
        let neutral =
            LayerNorm::neutral(&words.narrow(0, 0, 1)?.flatten_all()?.detach().ones_like()?);
        let positions = match d.rotary {
            Some(_) => None,
            None => Some(need(
                "embeddings.position_embeddings.weight",
                &[c.positions, h],
            )?),
        };
        let types = match c.token_types {
            0 => None,
            n => Some(need("embeddings.token_type_embeddings.weight", &[n, h])?),
        };
        let embedding_norm = match d.embedding_norm {
            true => norm(&mut need, &c.norm_name(Norm::Embeddings), h)?,
            false => neutral.clone(),
        };
        // (A damaged configuration may name any number of layers: the first that is missing ends it.)
        let mut layers = Vec::new();
        for layer in 0..c.layers {
            let mut projections = [const { None }; Projection::ALL.len()];
            for projection in d.projections() {
                let (o, i) = c.shape(projection);
                let name = names.module(Site { layer, projection });
                let of_weight = format!("{name}.weight");
                let weight = need(&of_weight, &[o, i])?;
                let bias = match d.bias(projection) {
                    true => Some(need(&format!("{name}.bias"), &[o])?),
                    false => None,
                };
                projections[projection as usize] = Some(linear(&of_weight, weight, bias)?);
            }
            let mut of = |which| match which {
                Sublayer::Attention if layer == 0 && !d.first_norm => Ok(neutral.clone()),
                _ => norm(&mut need, &names.norm_module(layer, which), h),
            };
            let (attention_norm, output_norm) =
                (of(Sublayer::Attention)?, of(Sublayer::FeedForward)?);
            let query_key_norms = match d.query_key_norms {
                false => None,
                true => Some([
                    norm(
                        &mut need,
                        &format!("layers.{layer}.self_attn.q_norm"),
                        d.head_width,
                    )?,
                    norm(
                        &mut need,
                        &format!("layers.{layer}.self_attn.k_norm"),
                        d.head_width,
                    )?,
                ]),
            };
            layers.push(Layer {
                projections,
                attention_norm,
                output_norm,
                query_key_norms,
                attention: Attention {
                    heads: c.heads,
                    key_value_heads: d.key_value_heads,
                    causal: d.causal,
                    window: d.window(layer),
                },
            });
        }
        let final_norm = match d.pre_norm {
            true => Some(norm(&mut need, &c.norm_name(Norm::Final), h)?),
            false => None,
        };
        let mut of_pooler = |part: &str, shape: &[usize]| match d.pre_norm {
            true => Ok(None),
            false => get(&format!("pooler.dense.{part}"), shape),
        };
        let pooler = match (of_pooler("weight", &[h, h])?, of_pooler("bias", &[h])?) {
            (Some(weight), Some(bias)) => Some(linear("pooler.dense.weight", weight, Some(bias))?),
            _ => None,
        };
        let pooling = match d.causal {
            true => Pooling::Last,
            false => Pooling::Mean,
        };
        Ok(Self {
            config,
            words,
            positions,
            types,
            norm: embedding_norm,
            layers,
            final_norm,
            pooler,
            pooling,
            precision: Precision::F32,
        })
    }

    /// The same backbone with the weights of its linear layers in `precision`, as read from now on; whatever is put in their
    /// place is rounded too, unless it is trained. Embeddings, norms and biases stay as they are.
    ///
    /// # Errors
    /// If blocks of four bits are asked for, which only [`Backbone::load_in`] finds, or a tensor operation fails.
    pub fn in_precision(mut self, precision: Precision) -> Result<Self> {
        if precision == Precision::Q4 {
            return Err(Error::Unsupported(
                "weights go into blocks of four bits as they are loaded".into(),
            ));
        }
        let linears = self
            .layers
            .iter_mut()
            .flat_map(|layer| layer.projections.iter_mut().flatten());
        for linear in linears.chain(&mut self.pooler) {
            *linear = linear.in_precision(precision)?;
        }
        self.precision = precision;
        Ok(self)
    }

    /// How the weights of its linear layers are stored and multiplied.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The same backbone, read in another way. A new one is read by the mean, a decoder by the last row.
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
        if self.config.description.causal && matches!(pooling, Pooling::Cls | Pooling::Pooler) {
            return Err(Error::Unsupported(format!(
                "pooling {}: the first token of a decoder sees no other; use pooling last or mean",
                pooling.name()
            )));
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
            Norm::Final => self.final_norm.as_ref().unwrap_or(&self.norm),
        }
    }

    /// All norms over the hidden state that the family has, from the input upwards.
    pub fn norms(&self) -> impl Iterator<Item = Norm> + use<> {
        let d = &self.config.description;
        let (embeddings, first, last) = (d.embedding_norm, d.first_norm, d.pre_norm);
        let of_layer = |layer| {
            [Sublayer::Attention, Sublayer::FeedForward].map(|which| Norm::Layer(layer, which))
        };
        std::iter::once(Norm::Embeddings)
            .chain((0..self.config.layers).flat_map(of_layer))
            .chain([Norm::Final])
            .filter(move |at| match at {
                Norm::Embeddings => embeddings,
                Norm::Layer(0, Sublayer::Attention) => first,
                Norm::Layer(..) => true,
                Norm::Final => last,
            })
    }

    /// All sites, from the input upwards.
    pub fn sites(&self) -> impl Iterator<Item = Site> + use<> {
        self.config.sites()
    }

    /// Sizes `(out, in)` of the linear layer at a site.
    pub fn shape(&self, site: Site) -> (usize, usize) {
        let linear = self.linear(site);
        (linear.out_features(), linear.in_features())
    }

    /// All weights with the names that transformers gives them, without a prefix, in a fixed order. Those that are held in fewer
    /// bits than f32 are made anew, all of them at the same time.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut out = Vec::new();
        self.visit(&mut |name, part| out.push((name, part.values())));
        out
    }

    /// Shows each of its weights with its name, in a fixed order.
    fn visit(&self, see: &mut dyn FnMut(String, Part<'_>)) {
        let names = self.config.architecture;
        see(names.words().to_owned(), Part::Tensor(&self.words));
        let tables = [
            ("embeddings.position_embeddings.weight", &self.positions),
            ("embeddings.token_type_embeddings.weight", &self.types),
        ];
        for (name, table) in tables {
            if let Some(table) = table {
                see(name.to_owned(), Part::Tensor(table));
            }
        }
        let mut both = |name: String, weight: Part<'_>, bias: Option<&Tensor>| {
            see(format!("{name}.weight"), weight);
            if let Some(bias) = bias {
                see(format!("{name}.bias"), Part::Tensor(bias));
            }
        };
        let d = &self.config.description;
        if d.embedding_norm {
            let name = self.config.norm_name(Norm::Embeddings);
            both(name, Part::Tensor(self.norm.gamma()), shift(&self.norm));
        }
        for (layer, l) in self.layers.iter().enumerate() {
            for projection in d.projections() {
                let linear = l.linear(projection);
                both(
                    names.module(Site { layer, projection }),
                    Part::Linear(linear),
                    linear.bias(),
                );
            }
            for (which, norm) in [
                (Sublayer::Attention, &l.attention_norm),
                (Sublayer::FeedForward, &l.output_norm),
            ] {
                if layer > 0 || d.first_norm || which == Sublayer::FeedForward {
                    let gamma = Part::Tensor(norm.gamma());
                    both(names.norm_module(layer, which), gamma, shift(norm));
                }
            }
            for (part, norm) in ["q_norm", "k_norm"]
                .iter()
                .zip(l.query_key_norms.iter().flatten())
            {
                both(
                    format!("layers.{layer}.self_attn.{part}"),
                    Part::Tensor(norm.gamma()),
                    None,
                );
            }
        }
        if let Some(norm) = &self.final_norm {
            both(
                self.config.norm_name(Norm::Final),
                Part::Tensor(norm.gamma()),
                shift(norm),
            );
        }
        if let Some(pooler) = &self.pooler {
            both("pooler.dense".into(), Part::Linear(pooler), pooler.bias());
        }
    }

    /// Number of parameters, embeddings and pooler included.
    pub fn parameters(&self) -> usize {
        let mut count = 0;
        self.visit(&mut |_, part| count += part.count());
        count
    }

    /// Bytes of its weights in memory, with what products have made of them so far.
    pub fn bytes(&self) -> usize {
        let mut bytes = 0;
        self.visit(&mut |_, part| {
            bytes += match part {
                Part::Linear(linear) => linear.bytes(),
                Part::Tensor(tensor) => tensor.elem_count() * tensor.dtype().size_in_bytes(),
            }
        });
        bytes
    }

    /// SHA-256 over all weights in the order of [`Backbone::tensors`].
    ///
    /// # Errors
    /// If a tensor cannot be read back.
    pub fn weights_digest(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        self.each_values(&mut |bytes| hasher.update(bytes))?;
        Ok(hex(&hasher.finalize()))
    }

    /// A checksum of all weights as they are in memory: another one when any of them has changed. Far quicker than
    /// [`Backbone::weights_digest`]; compare it within one process only.
    ///
    /// # Errors
    /// If a tensor cannot be read back.
    pub fn checksum(&self) -> Result<u64> {
        let mut hasher = DefaultHasher::new();
        self.each_values(&mut |bytes| hasher.write(bytes))?;
        Ok(hasher.finish())
    }

    /// Gives the bytes of each weight in f32 to `take`, in the order of [`Backbone::tensors`].
    fn each_values(&self, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut taken = Ok(());
        self.visit(&mut |_, part| {
            if taken.is_ok() {
                taken = bytes_of(&part.values(), take);
            }
        });
        taken
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

    /// The same architecture with every tensor replaced by what `f` makes of it, in f32.
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
        let shape = |linear: &Linear| [linear.out_features(), linear.in_features()];
        let (new, old) = (shape(&linear), shape(self.linear(site)));
        if new != old {
            return Err(Error::Unsupported(format!(
                "{site}: a weight of shape {new:?} instead of {old:?}"
            )));
        }
        let linear = linear.in_precision(self.precision)?;
        self.layers[site.layer].projections[site.projection as usize] = Some(linear);
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
            Norm::Final => self.final_norm = Some(norm),
        }
        Ok(self)
    }
}

/// The shift of a norm, where it has one.
fn shift(norm: &LayerNorm) -> Option<&Tensor> {
    norm.has_bias().then(|| norm.beta())
}
