//! How a method acts on the backbone.
//!
//! Every hook defaults to the identity, so a method writes only what it changes. A hook sees the rows of
//! the packed batch and the spans they belong to: row-wise methods ignore the spans.

use std::cell::RefCell;

use candle_core::Tensor;
use kernels::{LayerNorm, Spans};
use rand_chacha::ChaCha8Rng;

use crate::{Input, Result, Site, Sublayer};

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

/// The places where a method may act.
pub trait Hooks {
    /// At the input: embeddings in, embeddings out; examples may grow at their front.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn input(&self, input: Input, _phase: Phase<'_>) -> Result<Input> {
        Ok(input)
    }

    /// Whether [`Hooks::linear`] changes anything at this site. Where it does not, the backbone uses its
    /// fused operations and does not call the hook.
    fn acts_on(&self, _site: Site) -> bool {
        false
    }

    /// At a linear site: its input `x` `[N, in]` and output `y` `[N, out]` give the new output.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn linear(&self, _site: Site, _x: &Tensor, y: Tensor, _pass: Pass<'_>) -> Result<Tensor> {
        Ok(y)
    }

    /// At a sublayer's output `h` `[N, H]`, before `residual` `[N, H]` (the sublayer's input) is added and
    /// `norm` applied by the backbone.
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
}

/// The bare backbone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}
