//! The row ops composed of candle ops.

use candle_core::{Result, Tensor};

use crate::Spans;

pub(crate) fn select_rows(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    x.contiguous()?
        .index_select(&Tensor::new(rows, x.device())?, 0)
}

pub(crate) fn prepend_rows(prefix: &Tensor, x: &Tensor, spans: &Spans) -> Result<Tensor> {
    let mut parts = Vec::with_capacity(2 * spans.count());
    for span in spans.iter() {
        parts.push(prefix.clone());
        parts.push(x.narrow(0, span.start, span.len())?);
    }
    Tensor::cat(&parts, 0)
}

pub(crate) fn mean_spans(x: &Tensor, spans: &Spans, skip: usize) -> Result<Tensor> {
    let means = spans
        .iter()
        .map(|span| {
            x.narrow(0, span.start + skip, span.len() - skip)?
                .mean_keepdim(0)
        })
        .collect::<Result<Vec<_>>>()?;
    Tensor::cat(&means, 0)
}
