//! The rotation in one pass each way.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::RotaryLayout;
use crate::element::Element;
use crate::memory::Output;
use crate::simd::{Kernel, Level, Vector, level, load, store};
use crate::tape::{Gradients, Node, record, view};
use crate::threads::parallel_ranges;

/// Values that a task should at least have to do.
const LEAST: usize = 16_384;

pub(super) fn rotary<T: Element>(
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    head_width: usize,
    layout: RotaryLayout,
) -> Result<Tensor> {
    let (x, cos, sin) = (x.contiguous()?, cos.contiguous()?, sin.contiguous()?);
    let node = Rotated {
        cos,
        sin,
        width: x.dim(1)?,
        head_width,
        layout,
        level: level(),
    };
    let y = node.turn::<T>(&view(&x)?, false)?;
    record(&[&x], y, x.shape(), node)
}

struct Rotated {
    cos: Tensor,
    sin: Tensor,
    width: usize,
    head_width: usize,
    layout: RotaryLayout,
    level: Level,
}

impl Rotated {
    fn turn<T: Element>(&self, x: &[T], back: bool) -> Result<Vec<T>> {
        let (cos, sin) = (view::<T>(&self.cos)?, view::<T>(&self.sin)?);
        let (cos, sin): (&[T], &[T]) = (&cos, &sin);
        let (width, pairs) = (self.width, self.cos.dim(1)?);
        let mut out = Output::new(x.len());
        let to = out.ptr();
        parallel_ranges(x.len() / width, LEAST.div_ceil(width), |range| {
            // SAFETY: rows are disjoint, and lie inside all buffers.
            unsafe {
                let turn = Turn {
                    x: x.as_ptr().add(range.start * width),
                    cos: cos.as_ptr().add(range.start * pairs),
                    sin: sin.as_ptr().add(range.start * pairs),
                    to: to.add(range.start * width),
                    rows: range.len(),
                    heads: width / self.head_width,
                    head_width: self.head_width,
                    pairs,
                    layout: self.layout,
                    sign: T::from_f64(if back { -1.0 } else { 1.0 }),
                };
                T::run(self.level, turn);
            }
        });
        // SAFETY: every row has been written.
        Ok(unsafe { out.finish() })
    }
}

impl<T: Element> Node<T> for Rotated {
    fn name(&self) -> &'static str {
        "rotary"
    }
    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        into.add(0, self.turn(grad, true)?);
        Ok(())
    }
}

struct Turn<T> {
    x: *const T,
    cos: *const T,
    sin: *const T,
    to: *mut T,
    rows: usize,
    heads: usize,
    head_width: usize,
    pairs: usize,
    layout: RotaryLayout,
    /// −1 to turn back.
    sign: T,
}

impl<T: Element> Kernel<T> for Turn<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        let (pairs, sign) = (self.pairs, V::splat(self.sign));
        // SAFETY: the maker of the kernel promises the rows at each pointer.
        unsafe {
            for row in 0..self.rows {
                let (cos, sin) = (self.cos.add(row * pairs), self.sin.add(row * pairs));
                for head in 0..self.heads {
                    let at = (row * self.heads + head) * self.head_width;
                    let (x, to) = (self.x.add(at), self.to.add(at));
                    match self.layout {
                        RotaryLayout::HalfSplit => {
                            for i in (0..pairs).step_by(V::LANES) {
                                let n = pairs - i;
                                let (a, b) =
                                    (load::<V>(x.add(i), n), load::<V>(x.add(pairs + i), n));
                                let cos = load::<V>(cos.add(i), n);
                                let sin = load::<V>(sin.add(i), n).mul(sign);
                                store(a.mul(cos).sub(b.mul(sin)), to.add(i), n);
                                store(b.mul(cos).add(a.mul(sin)), to.add(pairs + i), n);
                            }
                        }
                        // (Neighbours do not fill vectors; the compiler does what it can.)
                        RotaryLayout::Interleaved => {
                            for i in 0..pairs {
                                let (a, b) = (*x.add(2 * i), *x.add(2 * i + 1));
                                let (cos, sin) = (*cos.add(i), *sin.add(i) * self.sign);
                                *to.add(2 * i) = a * cos - b * sin;
                                *to.add(2 * i + 1) = b * cos + a * sin;
                            }
                        }
                    }
                    let rest = self.head_width - 2 * pairs;
                    x.add(2 * pairs)
                        .copy_to_nonoverlapping(to.add(2 * pairs), rest);
                }
            }
        }
    }
}
