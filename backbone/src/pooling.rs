//! Which rows of an example its vector is read from.

use candle_core::Tensor;
use kernels::Spans;
use serde::{Deserialize, Serialize};

use crate::{Batch, Input};

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
    /// The last row that is not padding, as transformers reads a decoder.
    Last,
}

impl Pooling {
    /// The name used in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Pooler => "pooler",
            Self::Last => "last",
        }
    }
}

/// The last row of each example that is not padding; of a text that is nothing else, the first.
pub(crate) fn last_rows(input: &Input, batch: &Batch, padding: Option<u32>) -> Vec<u32> {
    let examples = input.spans.iter().zip(batch.spans().iter());
    let last = examples
        .zip(&input.virtual_tokens)
        .map(|((span, own), virtual_tokens)| {
            let ids = &batch.ids()[own];
            let real = match padding {
                // Virtual tokens are embeddings, in which the library cannot see a padding token.
                Some(padding) if *virtual_tokens == 0 => {
                    ids.iter().rposition(|id| *id != padding).unwrap_or(0)
                }
                _ => span.len() - 1,
            };
            (span.start + real) as u32
        });
    last.collect()
}

/// Rows of tokens that are counted from the first of their example.
pub(crate) fn rows_of(input: &Input, tokens: &[Vec<u32>]) -> Vec<u32> {
    let starts = input.spans.iter().zip(&input.virtual_tokens);
    let rows = starts
        .zip(tokens)
        .flat_map(|((span, virtual_tokens), tokens)| {
            let first = (span.start + virtual_tokens) as u32;
            tokens.iter().map(move |token| first + token)
        });
    rows.collect()
}

/// The first row of each example that pooling reads.
pub(crate) fn first_rows(input: &Input) -> Vec<u32> {
    let starts = input.spans.offsets().iter().zip(&input.read_from);
    starts.map(|(start, from)| (start + from) as u32).collect()
}

/// Mean over the rows of each span from its `read_from` on, `[B, H]`.
pub(crate) fn mean_rows(
    x: &Tensor,
    spans: &Spans,
    read_from: &[usize],
) -> candle_core::Result<Tensor> {
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
