//! Multi-head attention, span by span (Vaswani et al. 2017): no score crosses a span, nothing is padded or masked.
//!
//! Per span and head, with rows of d = H / heads values: `P = softmax(q kᵀ / √d)`, `o = P v`. Backward, with `g = dL/do`:
//! `dv = Pᵀ g`, `dP = g vᵀ`, `dS = P ∘ (dP − rowsum(P ∘ dP))`, `dq = dS k / √d`, `dk = dSᵀ q / √d`.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::Spans;
use crate::path::choose;

/// `softmax(q kᵀ/√d) v` per span and head: `q [M, H]`, `k` and `v` `[N, H]`, result `[M, H]`. Span `i` of the queries
/// attends to span `i` of the keys; a query span may be shorter (one row per example) or longer.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    query_spans: &Spans,
    key_spans: &Spans,
    heads: usize,
) -> Result<Tensor> {
    let (rows, width) = q.dims2()?;
    if heads == 0 || width % heads != 0 {
        bail!("attention: {heads} heads do not divide a row of {width} values")
    }
    if k.dims() != v.dims() || k.dims2()?.1 != width {
        bail!(
            "attention: q is {:?}, k {:?}, v {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        )
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
    choose!(
        [q, k, v],
        fast::attention(q, k, v, query_spans, key_spans, heads),
        reference::attention(q, k, v, query_spans, key_spans, heads)
    )
}
