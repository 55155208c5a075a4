//! How a method acts on the backbone.
//!
//! Every hook defaults to the identity, so a method writes only what it changes. A hook sees the rows of
//! the packed batch and the spans they belong to: row-wise methods ignore the spans.

use std::cell::RefCell;

use candle_core::Tensor;
use kernels::Spans;
use rand_chacha::ChaCha8Rng;

use crate::{Input, LayerNorm, Norm, Result, Site, Sublayer};

/// Training or evaluation. Dropout exists in training only and draws from the run's own stream.
#[derive(Clone, Copy)]
pub enum Phase<'a> {
    /// Training, with the stream that dropout draws from.
    Train(&'a RefCell<ChaCha8Rng>),
    /// Evaluation: nothing is random.
    Eval,
}

/// What a hook is told about the pass it is called in.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// Training or evaluation.
    pub phase: Phase<'a>,
    /// The spans that the hook's rows belong to. In the last layer these can be shorter than the
    /// example: rows that nobody reads are not computed.
    pub spans: &'a Spans,
}

/// What the queries of a layer attend to.
#[derive(Clone, Debug)]
pub struct KeyValues {
    /// `[N, H]`, heads side by side.
    pub keys: Tensor,
    /// `[N, H]`, heads side by side.
    pub values: Tensor,
    /// The rows of each example.
    pub spans: Spans,
}

/// The places where a method may act.
pub trait Hooks {
    /// At the input: embeddings in, embeddings out; examples may grow at their front.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn input(&self, input: Input, _phase: Phase<'_>) -> Result<Input> {
        Ok(input)
    }

    /// Whether [`Hooks::linear_input`] or [`Hooks::linear`] changes anything at this site. Where they do not,
    /// the backbone uses its fused operations and does not call them.
    fn acts_on(&self, _site: Site) -> bool {
        false
    }

    /// At a linear site, before it: what the frozen layer reads instead of its input `x` `[N, in]`.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn linear_input(&self, _site: Site, x: &Tensor, _pass: Pass<'_>) -> Result<Tensor> {
        Ok(x.clone())
    }

    /// At a linear site: its input `x` `[N, in]` and output `y` `[N, out]` give the new output.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn linear(&self, _site: Site, _x: &Tensor, y: Tensor, _pass: Pass<'_>) -> Result<Tensor> {
        Ok(y)
    }

    /// At a layer's attention: its keys and values, after their projections, give those that the queries attend
    /// to. An example may get rows before its own; rows beyond the queries' are read and never returned.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn keys_values(&self, _layer: usize, own: KeyValues, _phase: Phase<'_>) -> Result<KeyValues> {
        Ok(own)
    }

    /// At a sublayer's output `h` `[N, H]`, before `residual` `[N, H]` (the sublayer's input, or what stands before its norm)
    /// is added and `norm` applied by the backbone; where norms stand before the sublayers, `norm` is neutral.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn sublayer(
        &self,
        _layer: usize,
        _which: Sublayer,
        h: Tensor,
        _residual: &Tensor,
        _norm: &LayerNorm,
        _pass: Pass<'_>,
    ) -> Result<Tensor> {
        Ok(h)
    }

    /// At a layer norm: the one to apply instead of the frozen one.
    fn norm<'a>(&'a self, _at: Norm, frozen: &'a LayerNorm) -> &'a LayerNorm {
        frozen
    }

    /// `LN(h + residual)`, both `[N, H]`, or `LN(h)` where the norm stands before a sublayer, with the norm that
    /// [`Hooks::norm`] names. Over the embeddings, `residual` is the sum of positions and token types. Only hooks that serve
    /// different rows by different norms override it.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn apply_norm(
        &self,
        at: Norm,
        h: &Tensor,
        residual: Option<&Tensor>,
        frozen: &LayerNorm,
        _pass: Pass<'_>,
    ) -> Result<Tensor> {
        let norm = self.norm(at, frozen);
        Ok(match residual {
            Some(residual) => norm.forward_residual(h, residual)?,
            None => norm.forward(h)?,
        })
    }
}

/// The bare backbone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}
