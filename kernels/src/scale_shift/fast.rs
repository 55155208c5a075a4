//! Scale and shift in one pass each way.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::element::Element;
use crate::elementwise::{Combination, column_sums, combine};
use crate::memory::Output;
use crate::tape::{Gradients, Node, record, view};
use crate::threads::parallel_ranges;

/// Values that a task should at least have to do.
const LEAST: usize = 16_384;

pub(super) fn scale_shift<T: Element>(
    x: &Tensor,
    width: usize,
    scale: Option<&Tensor>,
    shift: Option<&Tensor>,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let nothing = Tensor::zeros(0, x.dtype(), x.device())?;
    let whole = |t: Option<&Tensor>| t.map(Tensor::contiguous).transpose();
    let (scale, shift) = (whole(scale)?, whole(shift)?);
    let y = {
        let scale = scale.as_ref().map(view::<T>).transpose()?;
        let shift = shift.as_ref().map(view::<T>).transpose()?;
        apply(&view::<T>(&x)?, width, scale.as_deref(), shift.as_deref())
    };
    let node = Applied {
        width,
        // Only a trained scale's gradient reads the input.
        x: scale.as_ref().filter(|s| s.track_op()).map(|_| x.detach()),
        scale: scale.as_ref().map(Tensor::detach),
    };
    let inputs = [
        &x,
        scale.as_ref().unwrap_or(&nothing),
        shift.as_ref().unwrap_or(&nothing),
    ];
    record(&inputs, y, x.shape(), node)
}

fn apply<T: Element>(x: &[T], width: usize, scale: Option<&[T]>, shift: Option<&[T]>) -> Vec<T> {
    let mut out = Output::new(x.len());
    let to = out.ptr();
    parallel_ranges(x.len() / width, LEAST.div_ceil(width), |range| {
        for row in range {
            let from = &x[row * width..][..width];
            // SAFETY: every row is written by one task, and lies inside the result.
            let write = |j: usize, y: T| unsafe { *to.add(row * width + j) = y };
            match (scale, shift) {
                (Some(s), Some(t)) => {
                    for (j, ((&x, &s), &t)) in from.iter().zip(s).zip(t).enumerate() {
                        write(j, x * s + t);
                    }
                }
                (Some(s), None) => {
                    for (j, (&x, &s)) in from.iter().zip(s).enumerate() {
                        write(j, x * s);
                    }
                }
                (None, Some(t)) => {
                    for (j, (&x, &t)) in from.iter().zip(t).enumerate() {
                        write(j, x + t);
                    }
                }
                (None, None) => {
                    for (j, &x) in from.iter().enumerate() {
                        write(j, x);
                    }
                }
            }
        }
    });
    // SAFETY: every row has been written.
    unsafe { out.finish() }
}

struct Applied {
    width: usize,
    x: Option<Tensor>,
    scale: Option<Tensor>,
}

impl<T: Element> Node<T> for Applied {
    fn name(&self) -> &'static str {
        "scale-shift"
    }

    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        if into.wants(0) {
            match &self.scale {
                Some(scale) => {
                    let scale = view::<T>(scale)?;
                    into.add(0, apply(grad, self.width, Some(&scale), None));
                }
                None => into.add_shared(0, grad.clone()),
            }
        }
        if let (true, Some(x)) = (into.wants(1), &self.x) {
            let products = combine(grad, &view::<T>(x)?, Combination::Product);
            into.add(1, column_sums(&products, self.width));
        }
        if into.wants(2) {
            into.add(2, column_sums(grad, self.width));
        }
        Ok(())
    }
}
