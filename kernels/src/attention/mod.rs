//! Multi-head attention, span by span (Vaswani et al. 2017): no score crosses a span, and nothing is padded.
//!
//! Per span and head, with rows of d values: `P = softmax(q kᵀ / √d)`, `o = P v`. Backward, with `g = dL/do`:
//! `dv = Pᵀ g`, `dP = g vᵀ`, `dS = P ∘ (dP − rowsum(P ∘ dP))`, `dq = dS k / √d`, `dk = dSᵀ q / √d`.
//!
//! Attention may be causal, have a window, and share each head of keys and values among several of the queries (Ainslie
//! et al. 2023, arXiv:2305.13245). What a block of queries does not see is not computed.

mod fast;
mod reference;

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use crate::Spans;
use crate::path::choose;

/// How queries attend to keys.
///
/// Where something is hidden (`causal` or `window`), the queries of a span stand at its last positions: with M queries
/// and N ≥ M keys, query `i` has the position `N − M + i`. So one query after a cache of keys sees all of them, and so do
/// queries whose span begins with keys of a trained prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; it divides `heads`, and query head `h` reads head `h / (heads / key_value_heads)`.
    pub key_value_heads: usize,
    /// Whether a query sees no key behind its own position.
    pub causal: bool,
    /// If set to w: a causal query sees the last w keys up to its own (as `sliding_window` of transformers means it), any
    /// other sees those at a distance of at most w/2 on both sides (as `local_attention` of ModernBERT means it).
    pub window: Option<usize>,
}

/// [`Attention::full`] over `heads` heads, applied.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    query_spans: &Spans,
    key_spans: &Spans,
    heads: usize,
) -> Result<Tensor> {
    Attention::full(heads).forward(q, k, v, query_spans, key_spans)
}

impl Attention {
    /// Every query sees every key of its span, and has its own head of keys and values.
    pub fn full(heads: usize) -> Self {
        Self {
            heads,
            key_value_heads: heads,
            causal: false,
            window: None,
        }
    }

    /// `softmax(q kᵀ/√d) v` per span and head: `q [M, heads·d]`, `k` and `v` `[N, key_value_heads·d]`, result
    /// `[M, heads·d]`. Span `i` of the queries attends to span `i` of the keys; a query span may be shorter (one row per
    /// example) or, where nothing is hidden, longer.
    pub fn forward(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        query_spans: &Spans,
        key_spans: &Spans,
    ) -> Result<Tensor> {
        let (rows, width) = q.dims2()?;
        let (heads, shared) = (self.heads, self.key_value_heads);
        if heads == 0 || width % heads != 0 {
            bail!("attention: {heads} heads do not divide a row of {width} values")
        }
        if shared == 0 || heads % shared != 0 {
            bail!("attention: {shared} heads of keys and values do not divide {heads} of queries")
        }
        if k.dims() != v.dims() || k.dims2()?.1 != width / heads * shared {
            bail!(
                "attention: q is {:?} with {heads} heads, k {:?} and v {:?} with {shared}",
                q.dims(),
                k.dims(),
                v.dims()
            )
        }
        if self.window == Some(0) {
            bail!("attention: a window of 0 keys shows nothing")
        }
        if query_spans.count() != key_spans.count() {
            bail!(
                "attention: {} query spans but {} key spans",
                query_spans.count(),
                key_spans.count()
            )
        }
        query_spans.check_rows("attention: q", rows)?;
        key_spans.check_rows("attention: k", k.dims()[0])?;
        let longer = |(q, k): (Range<usize>, Range<usize>)| q.len() > k.len();
        if self.hides()
            && let Some(i) = query_spans.iter().zip(key_spans.iter()).position(longer)
        {
            bail!(
                "attention: span {i} has {} queries but {} keys, so the queries have no positions",
                query_spans.span(i).len(),
                key_spans.span(i).len()
            )
        }
        choose!(
            [q, k, v],
            fast::attention(q, k, v, query_spans, key_spans, *self),
            reference::attention(q, k, v, query_spans, key_spans, *self)
        )
    }

    fn hides(&self) -> bool {
        self.causal || self.window.is_some()
    }

    /// The keys that query `i` of `queries` sees, of a span of `keys`.
    fn seen(&self, i: usize, queries: usize, keys: usize) -> Range<usize> {
        if !self.hides() {
            return 0..keys;
        }
        let position = keys - queries + i;
        match (self.causal, self.window) {
            (true, None) => 0..position + 1,
            (true, Some(w)) => (position + 1).saturating_sub(w)..position + 1,
            (false, Some(w)) => {
                position.saturating_sub(w / 2)..keys.min((position + 1).saturating_add(w / 2))
            }
            (false, None) => 0..keys,
        }
    }
}
