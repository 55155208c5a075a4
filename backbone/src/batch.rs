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
    read: Option<Vec<Vec<u32>>>,
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
        Ok(Self {
            ids,
            types,
            spans,
            read: None,
        })
    }

    /// The same batch, of which these tokens of each example are read one by one (counted from the example's first, `[B]`
    /// lists) instead of one vector for each example.
    ///
    /// # Errors
    /// If there is not one list for each example, or a token is behind its example's end.
    pub fn reading(mut self, tokens: Vec<Vec<u32>>) -> Result<Self> {
        let fits = |(read, span): (&Vec<u32>, std::ops::Range<usize>)| {
            read.iter().all(|token| (*token as usize) < span.len())
        };
        if tokens.len() != self.spans.count() || !tokens.iter().zip(self.spans.iter()).all(fits) {
            return Err(Error::Unsupported(format!(
                "{} lists of tokens to read from {} examples, or a token behind the end of its own",
                tokens.len(),
                self.spans.count()
            )));
        }
        self.read = Some(tokens);
        Ok(self)
    }

    /// The same batch without the first `n` tokens of each example.
    ///
    /// # Errors
    /// If an example has no more tokens than that, or tokens are read one by one.
    pub fn behind(&self, n: usize) -> Result<Self> {
        if self.read.is_some() || self.spans.iter().any(|span| span.len() <= n) {
            return Err(Error::Unsupported(format!(
                "an example of a batch has no tokens behind its first {n}, or its tokens are read one by one"
            )));
        }
        let rest = |all: &[u32]| -> Vec<u32> {
            let spans = self.spans.iter();
            spans
                .flat_map(|span| all[span.start + n..span.end].to_vec())
                .collect()
        };
        let lengths: Vec<usize> = self.spans.iter().map(|span| span.len() - n).collect();
        Ok(Self {
            ids: rest(&self.ids),
            types: rest(&self.types),
            spans: Spans::from_lengths(&lengths)?,
            read: None,
        })
    }

    /// The tokens of each example that are read; absent where each example has one vector.
    pub fn read(&self) -> Option<&[Vec<u32>]> {
        self.read.as_deref()
    }

    /// Vectors that are read of an example.
    pub fn vectors(&self, example: usize) -> usize {
        self.read.as_ref().map_or(1, |read| read[example].len())
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
