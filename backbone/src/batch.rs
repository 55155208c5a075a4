//! Packed batches: real tokens only, one example after another.

use candle_core::Tensor;
use kernels::Spans;

use crate::{Error, Result};

/// Token ids of B examples laid end to end; no padding.
#[derive(Clone, Debug)]
pub struct Batch {
    ids: Vec<u32>,
    types: Vec<u32>,
    spans: Spans,
}

impl Batch {
    /// A batch of N ids with their token types; `offsets` are the B+1 borders between examples.
    ///
    /// # Errors
    /// If the lengths disagree or an example is empty.
    pub fn new(ids: Vec<u32>, types: Vec<u32>, offsets: Vec<usize>) -> Result<Self> {
        let spans = Spans::new(offsets)?;
        if ids.len() != types.len() || ids.len() != spans.rows() {
            return Err(Error::Unsupported(format!(
                "a batch of {} ids, {} token types and {} rows in its offsets",
                ids.len(),
                types.len(),
                spans.rows()
            )));
        }
        Ok(Self { ids, types, spans })
    }

    /// Token ids, `[N]`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Token types, `[N]`.
    pub fn types(&self) -> &[u32] {
        &self.types
    }

    /// Where each example begins and ends.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }
}

/// What enters the first layer: word embeddings before positions and token types are added,
/// with virtual tokens already put before the text.
#[derive(Clone, Debug)]
pub struct Input {
    /// `[N', H]`.
    pub embeddings: Tensor,
    /// Where each example begins and ends, virtual tokens included.
    pub spans: Spans,
    /// Virtual tokens before the text of each example, `[B]`.
    pub virtual_tokens: Vec<usize>,
    /// Position of each example's first row, `[B]`: 0 unless something that has no row stands before it.
    pub first_position: Vec<usize>,
    /// First row of each example that pooling reads, counted from the example's first row, `[B]`:
    /// the number of virtual tokens to read the text only, 0 to read the virtual tokens too.
    pub read_from: Vec<usize>,
}
