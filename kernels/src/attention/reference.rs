//! Span attention composed of candle ops, one span after the other.

use candle_core::{D, Result, Tensor};

use super::Attention;
use crate::Spans;

pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    query_spans: &Spans,
    key_spans: &Spans,
    attention: Attention,
) -> Result<Tensor> {
    let (heads, shared) = (attention.heads, attention.key_value_heads);
    let width = q.dim(1)?;
    let d = width / heads;
    let by_head = |x: &Tensor, start: usize, length: usize, heads: usize| {
        x.narrow(0, start, length)?
            .reshape((length, heads, d))?
            .transpose(0, 1)?
            .contiguous()
    };
    // Each head of keys and values once for every query head that reads it.
    let repeated = |x: Tensor| {
        let (length, group) = (x.dim(1)?, heads / shared);
        x.unsqueeze(1)?
            .broadcast_as((shared, group, length, d))?
            .contiguous()?
            .reshape((heads, length, d))
    };
    let mut outputs = Vec::with_capacity(query_spans.count());
    for (queries, keys) in query_spans.iter().zip(key_spans.iter()) {
        let q = by_head(q, queries.start, queries.len(), heads)?;
        let k = repeated(by_head(k, keys.start, keys.len(), shared)?)?;
        let v = repeated(by_head(v, keys.start, keys.len(), shared)?)?;
        let mut scores = (q.matmul(&k.transpose(1, 2)?)? / (d as f64).sqrt())?;
        if attention.hides() {
            let mut hidden = vec![f64::NEG_INFINITY; queries.len() * keys.len()];
            for (i, row) in hidden.chunks_exact_mut(keys.len()).enumerate() {
                row[attention.seen(i, queries.len(), keys.len())].fill(0.0);
            }
            let hidden = Tensor::from_vec(hidden, (queries.len(), keys.len()), q.device())?;
            scores = scores.broadcast_add(&hidden.to_dtype(q.dtype())?)?;
        }
        let exp = scores
            .broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?
            .exp()?;
        let probabilities = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;
        outputs.push(
            probabilities
                .matmul(&v)?
                .transpose(0, 1)?
                .reshape((queries.len(), width))?,
        );
    }
    Tensor::cat(&outputs, 0)
}
