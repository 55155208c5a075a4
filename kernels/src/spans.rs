//! Examples laid end to end: where each one starts and ends in a packed `[N, H]` tensor.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, bail};

/// B spans laid end to end in a packed `[N, H]` tensor: B+1 offsets from 0 to N. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans(Arc<[usize]>);

impl Spans {
    /// From B+1 offsets: the first is 0 and each is larger than the one before, so that no span is empty.
    pub fn new(offsets: Vec<usize>) -> Result<Self> {
        if offsets.first() != Some(&0) {
            bail!(
                "spans: the first offset must be 0, got {:?}",
                offsets.first()
            )
        }
        if offsets.len() < 2 {
            bail!("spans: at least one span is needed, got the single offset 0")
        }
        if let Some(i) = offsets.windows(2).position(|pair| pair[0] >= pair[1]) {
            bail!(
                "spans: span {i} is empty or backwards, from {} to {}",
                offsets[i],
                offsets[i + 1]
            )
        }
        Ok(Self(offsets.into()))
    }

    /// From the number of rows of each span.
    pub fn from_lengths(lengths: &[usize]) -> Result<Self> {
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        offsets.push(0);
        let mut end = 0;
        for length in lengths {
            end += length;
            offsets.push(end);
        }
        Self::new(offsets)
    }

    /// The B+1 offsets.
    pub fn offsets(&self) -> &[usize] {
        &self.0
    }

    /// B, the number of spans.
    pub fn count(&self) -> usize {
        self.0.len() - 1
    }

    /// N, the number of rows of all spans.
    pub fn rows(&self) -> usize {
        self.0[self.count()]
    }

    /// The rows of span `i`; panics if there is no such span, as slices do.
    pub fn span(&self, i: usize) -> Range<usize> {
        self.0[i]..self.0[i + 1]
    }

    /// The spans in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.0.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// An error if `rows` is not the number of rows that the spans describe.
    pub(crate) fn check_rows(&self, op: &str, rows: usize) -> Result<()> {
        if rows != self.rows() {
            bail!(
                "{op}: the tensor has {rows} rows but the spans end at {}",
                self.rows()
            )
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lengths_and_offsets_describe_the_same_spans() {
        let spans = Spans::from_lengths(&[2, 1, 4]).unwrap();
        assert_eq!(spans, Spans::new(vec![0, 2, 3, 7]).unwrap());
        assert_eq!((spans.count(), spans.rows()), (3, 7));
        assert_eq!(spans.iter().collect::<Vec<_>>(), vec![0..2, 2..3, 3..7]);
        assert_eq!(spans.span(1), 2..3);
    }

    #[test]
    fn an_empty_span_is_refused_with_its_index() {
        let error = Spans::from_lengths(&[2, 0, 4]).unwrap_err().to_string();
        assert!(error.contains("span 1"), "{error}");
        assert!(Spans::new(vec![0]).is_err());
        assert!(Spans::new(vec![1, 2]).is_err());
        assert!(Spans::new(vec![]).is_err());
    }
}
