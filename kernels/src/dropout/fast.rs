//! Dropout in one pass each way.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::element::Element;
use crate::memory::Output;
use crate::tape::{Gradients, Node, record, view};
use crate::threads::parallel_ranges;

/// Values that a task should at least have to do.
const LEAST: usize = 16_384;

pub(super) fn dropout<T: Element>(x: &Tensor, keep: Vec<bool>, p: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let node = Dropped {
        keep,
        scale: 1.0 / (1.0 - p),
    };
    let out = node.apply(&view::<T>(&x)?);
    record(&[&x], out, x.shape(), node)
}

struct Dropped {
    keep: Vec<bool>,
    scale: f64,
}

impl Dropped {
    fn apply<T: Element>(&self, x: &[T]) -> Vec<T> {
        let mut out = Output::new(x.len());
        let (to, scale) = (out.ptr(), T::from_f64(self.scale));
        parallel_ranges(x.len(), LEAST, |range| {
            for (i, (&x, &keep)) in range
                .clone()
                .zip(x[range.clone()].iter().zip(&self.keep[range]))
            {
                // SAFETY: ranges are disjoint and inside the result.
                unsafe { *to.add(i) = if keep { x * scale } else { T::default() } }
            }
        });
        // SAFETY: every value has been written.
        unsafe { out.finish() }
    }
}

impl<T: Element> Node<T> for Dropped {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        into.add(0, self.apply(grad));
        Ok(())
    }
}
