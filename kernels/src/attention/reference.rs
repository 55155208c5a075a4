//! Span attention composed of candle ops, one span after the other.

use candle_core::{D, Result, Tensor};

use crate::Spans;

pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    query_spans: &Spans,
    key_spans: &Spans,
    heads: usize,
) -> Result<Tensor> {
    let width = q.dim(1)?;
    let head_width = width / heads;
    let by_head = |x: &Tensor, start: usize, length: usize| {
        x.narrow(0, start, length)?
            .reshape((length, heads, head_width))?
            .transpose(0, 1)?
            .contiguous()
    };
    let mut outputs = Vec::with_capacity(query_spans.count());
    for (queries, keys) in query_spans.iter().zip(key_spans.iter()) {
        let q = by_head(q, queries.start, queries.len())?;
        let k = by_head(k, keys.start, keys.len())?;
        let v = by_head(v, keys.start, keys.len())?;
        let scores = (q.matmul(&k.transpose(1, 2)?)? / (head_width as f64).sqrt())?;
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
