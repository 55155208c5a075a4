//! How a batch goes through the layers.
//!
//! Linear layers, norms and activations are row-wise, so they run over all tokens of the batch at once; attention works span by
//! span. Where only one row of an example is read, the last layer computes its query side and feed-forward network for that
//! row alone: the same numbers, less work.

use candle_core::{Device, Tensor};
use kernels::{Activation, RotaryLayout, Spans};

use super::Backbone;
use crate::{
    Batch, Cache, Error, FeedForward, Hooks, Input, KeyValues, LayerNorm, Norm, Pass, Phase,
    Projection, Result, Site, Sublayer,
    cache::{Rows, append},
    pooling::{self, Pooling},
};

/// Cosines and sines of the rows of a batch, `[N, R/2]`.
pub(crate) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Backbone {
    /// The vector of each example, `[B, H]`; or, where the batch says which tokens are read, the last hidden state of each of
    /// them, `[W, H]`.
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
        self.read(None, batch, hooks, phase)
    }

    /// [`Backbone::pooled`] of texts that all begin with what [`Backbone::prefix`] has read with the same hooks, virtual tokens
    /// before it included: `batch` holds what follows. For evaluation only; the same up to rounding.
    ///
    /// # Errors
    /// If the backbone is no decoder that is read at the last token, a text ends with padding, or as [`Backbone::pooled`].
    pub fn pooled_behind<H: Hooks + ?Sized>(
        &self,
        prefix: &Cache,
        batch: &Batch,
        hooks: &H,
    ) -> Result<Tensor> {
        let padding = self.config.description.padding;
        let padded = |span: std::ops::Range<usize>| Some(batch.ids()[span.end - 1]) == padding;
        if !self.shares_prefixes() || batch.read().is_some() || batch.spans().iter().any(padded) {
            return Err(Error::Unsupported(
                "texts share what they begin with where a decoder is read at their last token, which is no padding".into(),
            ));
        }
        kernels::without_gradients(|| self.read(Some(prefix), batch, hooks, Phase::Eval))
    }

    /// Whether texts with the same beginning can share what has been read of it.
    pub fn shares_prefixes(&self) -> bool {
        self.config.description.causal && self.pooling == Pooling::Last
    }

    fn read<H: Hooks + ?Sized>(
        &self,
        prefix: Option<&Cache>,
        batch: &Batch,
        hooks: &H,
        phase: Phase<'_>,
    ) -> Result<Tensor> {
        let pooling = self.pooling;
        let one_by_one = batch.read().is_some();
        let input = self.input(batch)?;
        let input = match prefix {
            None => hooks.input(input, phase)?,
            Some(prefix) => self.go_on(input, prefix)?,
        };
        let x = self.embed(&input, batch, hooks, phase)?;
        let angles = self.angles(&input)?;
        let spans = &input.spans;
        let rows = match (batch.read(), pooling) {
            (Some(read), _) => pooling::rows_of(&input, read),
            (None, Pooling::Last) => {
                pooling::last_rows(&input, batch, self.config.description.padding)
            }
            _ => pooling::first_rows(&input),
        };
        let last = self.layers.len() - 1;
        let mut x = x;
        let all = Pass { phase, spans };
        let step = |index: usize, x: &Tensor, rows: Option<&[u32]>| {
            let mut past = prefix.map(|prefix| prefix.layers.get(index).cloned());
            self.layer(index, x, all, &angles, rows, past.as_mut(), hooks)
        };
        for layer in 0..last {
            x = step(layer, &x, None)?;
        }
        // Where rows hide from each other, the kernel takes a lone query for the last of its example.
        let attention = &self.layers[last].attention;
        let pooled_rows = !one_by_one && pooling != Pooling::Mean;
        let alone = !attention.causal && attention.window.is_none()
            || rows
                .iter()
                .zip(spans.iter())
                .all(|(row, span)| *row as usize + 1 == span.end);
        let single;
        let pass;
        if pooled_rows && alone {
            x = step(last, &x, Some(&rows))?;
            single = Spans::from_lengths(&vec![1; rows.len()])?;
            pass = Pass {
                phase,
                spans: &single,
            };
        } else {
            x = step(last, &x, None)?;
            if !pooled_rows {
                pass = Pass { phase, spans };
            } else {
                x = kernels::select_rows(&x, &rows)?;
                single = Spans::from_lengths(&vec![1; rows.len()])?;
                pass = Pass {
                    phase,
                    spans: &single,
                };
            }
        }
        if let Some(norm) = &self.final_norm {
            x = hooks.apply_norm(Norm::Final, &x, None, norm, pass)?;
        }
        match (&self.pooler, pooling) {
            _ if one_by_one => Ok(kernels::select_rows(&x, &rows)?),
            (_, Pooling::Mean) => Ok(pooling::mean_rows(&x, spans, &input.read_from)?),
            (Some(pooler), Pooling::Pooler) => Ok(pooler.forward_activated(&x, Activation::Tanh)?),
            _ => Ok(x),
        }
    }

    /// The rows after the embedding layer and after every layer, L+1 tensors `[N', H]`; the last has the final norm, where
    /// there is one.
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
        let angles = self.angles(&input)?;
        let spans = &input.spans;
        let mut states = vec![self.embed(&input, batch, hooks, phase)?];
        for layer in 0..self.layers.len() {
            let next = self.layer(
                layer,
                &states[layer],
                Pass { phase, spans },
                &angles,
                None,
                None,
                hooks,
            )?;
            states.push(next);
        }
        if let Some(norm) = &self.final_norm
            && let Some(x) = states.pop()
        {
            let pass = Pass { phase, spans };
            states.push(hooks.apply_norm(Norm::Final, &x, None, norm, pass)?);
        }
        Ok(states)
    }

    pub(crate) fn input(&self, batch: &Batch) -> Result<Input> {
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
    pub(crate) fn embed<H: Hooks + ?Sized>(
        &self,
        input: &Input,
        batch: &Batch,
        hooks: &H,
        phase: Phase<'_>,
    ) -> Result<Tensor> {
        let pass = Pass {
            phase,
            spans: &input.spans,
        };
        self.check_length(input)?;
        let Some(table) = &self.positions else {
            let x = &input.embeddings;
            return hooks.apply_norm(Norm::Embeddings, x, None, &self.norm, pass);
        };
        let rows = input.spans.rows();
        let mut positions = Vec::with_capacity(rows);
        let mut types = Vec::with_capacity(rows);
        for (i, virtual_tokens) in input.virtual_tokens.iter().enumerate() {
            let first = input.first_position[i];
            let length = input.spans.span(i).len();
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
        let mut fixed = kernels::embed(table, &positions)?;
        if !self.config.position_table {
            fixed = fixed.zeros_like()?;
        }
        if let Some(table) = &self.types {
            let known = self.config.token_types;
            if let Some(kind) = types.iter().find(|kind| **kind as usize >= known) {
                return Err(Error::Unsupported(format!(
                    "a text has token type {kind}, as the second of a pair has, but the backbone's type_vocab_size is {known}; \
                     give it single texts, or a tokenizer_config.json whose model_input_names leave token_type_ids out"
                )));
            }
            fixed = kernels::add(&fixed, &kernels::embed(table, &types)?)?;
        }
        let x = &input.embeddings;
        hooks.apply_norm(Norm::Embeddings, x, Some(&fixed), &self.norm, pass)
    }

    fn check_length(&self, input: &Input) -> Result<()> {
        let max = self.config.max_tokens();
        for (i, virtual_tokens) in input.virtual_tokens.iter().enumerate() {
            let (first, length) = (input.first_position[i], input.spans.span(i).len());
            if first + length > max {
                let before = match first {
                    0 => String::new(),
                    n => format!(" behind {n} positions that are taken"),
                };
                return Err(Error::Unsupported(format!(
                    "an example of {length} tokens ({virtual_tokens} of them virtual){before} does not fit the {max} positions"
                )));
            }
        }
        Ok(())
    }

    /// The rotary angles of each row, for layers that see all tokens and for those with a window.
    pub(crate) fn angles(&self, input: &Input) -> Result<Option<[Angles; 2]>> {
        let d = &self.config.description;
        let Some(rotary) = &d.rotary else {
            return Ok(None);
        };
        let spans = input.spans.iter().zip(&input.first_position);
        let positions: Vec<f32> = spans
            .flat_map(|(span, first)| (0..span.len()).map(move |i| (first + i) as f32))
            .collect();
        let of = |local| -> Result<Angles> {
            let angles = rotary.angles(d.head_width, local);
            let shape = (positions.len(), angles.len());
            let all: Vec<f32> = positions
                .iter()
                .flat_map(|position| angles.iter().map(move |angle| position * angle))
                .collect();
            let tensor = |f: fn(f32) -> f32| {
                let values: Vec<f32> = all.iter().map(|angle| f(*angle)).collect();
                Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype())
            };
            Ok(Angles {
                cos: tensor(f32::cos)?,
                sin: tensor(f32::sin)?,
            })
        };
        Ok(Some([of(false)?, of(true)?]))
    }

    /// One encoder layer. With `read`, only those rows go through the query side and the feed-forward
    /// network (one row per example) and come out. With `past`, the keys and values of earlier rows stand before these, and
    /// these are added to them.
    #[expect(clippy::too_many_arguments, reason = "one pass, said once")]
    pub(crate) fn layer<H: Hooks + ?Sized>(
        &self,
        index: usize,
        x: &Tensor,
        all: Pass<'_>,
        angles: &Option<[Angles; 2]>,
        read: Option<&[u32]>,
        past: Option<&mut Option<Rows>>,
        hooks: &H,
    ) -> Result<Tensor> {
        let layer = &self.layers[index];
        let d = &self.config.description;
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
                        phase: all.phase,
                        spans: &single,
                    },
                )
            }
        };
        let (attention_norm, output_norm) = (&layer.attention_norm, &layer.output_norm);
        let before = |which, x: &Tensor, norm: &LayerNorm, pass: Pass<'_>| match d.pre_norm {
            true => hooks.apply_norm(Norm::Layer(index, which), x, None, norm, pass),
            false => Ok(x.clone()),
        };
        // (A sum alone where the norm stood before.)
        let behind = |which, h: Tensor, x: &Tensor, norm: &LayerNorm, pass: Pass<'_>| {
            if d.pre_norm {
                let h =
                    hooks.sublayer(index, which, h, x, &LayerNorm::neutral(norm.gamma()), pass)?;
                return Ok(kernels::add(&h, x)?);
            }
            let h = hooks.sublayer(index, which, h, x, norm, pass)?;
            hooks.apply_norm(Norm::Layer(index, which), &h, Some(x), norm, pass)
        };
        let inside = before(Sublayer::Attention, x, attention_norm, all)?;
        let selected_inside;
        let inside_rows = match read {
            Some(read) if d.pre_norm => {
                selected_inside = kernels::select_rows(&inside, read)?;
                &selected_inside
            }
            Some(_) => rows,
            None => &inside,
        };
        let (mut query, mut keys, values) = if d.fused_attention {
            let all_three = project(Projection::QueryKeyValue, &inside, all)?;
            let part = |first, heads| {
                let (first, width) = (first * d.head_width, heads * d.head_width);
                all_three.narrow(1, first, width)?.contiguous()
            };
            let (heads, shared) = (self.config.heads, d.key_value_heads);
            let query = part(0, heads)?;
            let query = match read {
                Some(read) => kernels::select_rows(&query, read)?,
                None => query,
            };
            (query, part(heads, shared)?, part(heads + shared, shared)?)
        } else {
            (
                project(Projection::Query, inside_rows, pass)?,
                project(Projection::Key, &inside, all)?,
                project(Projection::Value, &inside, all)?,
            )
        };
        if let Some([of_queries, of_keys]) = &layer.query_key_norms {
            (query, keys) = (of_queries.forward(&query)?, of_keys.forward(&keys)?);
        }
        if let Some(angles) = angles {
            let own = &angles[usize::from(layer.attention.window.is_some())];
            let turn = |x: &Tensor, cos: &Tensor, sin: &Tensor| {
                kernels::rotary(x, cos, sin, d.head_width, RotaryLayout::HalfSplit)
            };
            query = match read {
                Some(read) => turn(
                    &query,
                    &kernels::select_rows(&own.cos, read)?,
                    &kernels::select_rows(&own.sin, read)?,
                )?,
                None => turn(&query, &own.cos, &own.sin)?,
            };
            keys = turn(&keys, &own.cos, &own.sin)?;
        }
        let mut own = KeyValues {
            keys,
            values,
            spans: all.spans.clone(),
        };
        if let Some(past) = past {
            let KeyValues {
                keys,
                values,
                spans,
            } = own;
            let rows = append(past.as_ref(), Rows::new(keys, values, spans))?;
            own = KeyValues {
                keys: rows.keys.clone(),
                values: rows.values.clone(),
                spans: rows.spans.clone(),
            };
            *past = Some(rows);
        }
        let KeyValues {
            keys,
            values,
            spans: key_spans,
        } = hooks.keys_values(index, own, all.phase)?;
        let mixed = layer
            .attention
            .forward(&query, &keys, &values, pass.spans, &key_spans)?;
        let h = project(Projection::AttentionOutput, &mixed, pass)?;
        let x = behind(Sublayer::Attention, h, rows, attention_norm, pass)?;

        let inside = before(Sublayer::FeedForward, &x, output_norm, pass)?;
        let activation = self.config.activation;
        let site = Site {
            layer: index,
            projection: Projection::Intermediate,
        };
        let inner = match d.feed_forward {
            FeedForward::Gated => kernels::gated(
                &project(Projection::Gate, &inside, pass)?,
                &project(Projection::Intermediate, &inside, pass)?,
                activation,
            )?,
            FeedForward::GatedFused => kernels::gated_halves(
                &project(Projection::Intermediate, &inside, pass)?,
                activation,
            )?,
            FeedForward::Plain if hooks.acts_on(site) => kernels::activate(
                &project(Projection::Intermediate, &inside, pass)?,
                activation,
            )?,
            FeedForward::Plain => layer
                .linear(Projection::Intermediate)
                .forward_activated(&inside, activation)?,
        };
        let h = project(Projection::Output, &inner, pass)?;
        behind(Sublayer::FeedForward, h, &x, output_norm, pass)
    }
}
