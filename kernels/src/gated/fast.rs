//! The gated activation in one pass each way.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::activation::Activation;
use crate::activation::fast::{Formula, with_formula};
use crate::element::Element;
use crate::memory::Output;
use crate::simd::{Kernel, Level, Vector, level, load, store};
use crate::tape::{Gradients, Node, record, view};
use crate::threads::{Shared, parallel_ranges};

/// Values that a task should at least have to do.
const LEAST: usize = 4096;

pub(super) fn gated<T: Element>(gate: &Tensor, up: &Tensor, f: Activation) -> Result<Tensor> {
    let (gate, up) = (gate.contiguous()?, up.contiguous()?);
    let shape = Rows {
        f,
        width: gate.dim(1)?,
        step: gate.dim(1)?,
        level: level(),
    };
    let y = shape.forward(&view::<T>(&gate)?, &view::<T>(&up)?);
    let node = Gated {
        shape,
        gate: gate.detach(),
        up: up.detach(),
    };
    record(&[&gate, &up], y, gate.shape(), node)
}

pub(super) fn gated_halves<T: Element>(x: &Tensor, f: Activation) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (rows, step) = x.dims2()?;
    let shape = Rows {
        f,
        width: step / 2,
        step,
        level: level(),
    };
    let y = {
        let x = view::<T>(&x)?;
        shape.forward(&x, &x[step / 2..])
    };
    let node = GatedHalves {
        shape,
        x: x.detach(),
    };
    record(&[&x], y, (rows, step / 2), node)
}

/// Rows of `width` values of each operand, `step` apart.
struct Rows {
    f: Activation,
    width: usize,
    step: usize,
    level: Level,
}

impl Rows {
    fn forward<T: Element>(&self, gate: &[T], up: &[T]) -> Vec<T> {
        let mut y = Output::new(gate.len().div_ceil(self.step) * self.width);
        self.each(gate, up, None, [Some(y.ptr()), None], self.width);
        // SAFETY: every row has been written.
        unsafe { y.finish() }
    }

    /// With `grad`, the gradients of gate and up go to `to`, rows `to_step` apart; without, the result to the first.
    fn each<T: Element>(
        &self,
        gate: &[T],
        up: &[T],
        grad: Option<&[T]>,
        to: [Option<Shared<T>>; 2],
        to_step: usize,
    ) {
        let rows = gate.len().div_ceil(self.step);
        parallel_ranges(rows, LEAST.div_ceil(self.width), |range| {
            for row in range {
                // SAFETY: rows are disjoint, and lie inside all buffers.
                unsafe {
                    let gate = Gate {
                        f: self.f,
                        gate: gate.as_ptr().add(row * self.step),
                        up: up.as_ptr().add(row * self.step),
                        grad: grad.map(|grad| grad.as_ptr().add(row * self.width)),
                        to: to.map(|to| to.map(|to| to.add(row * to_step))),
                        width: self.width,
                    };
                    T::run(self.level, gate);
                }
            }
        });
    }
}

struct Gated {
    shape: Rows,
    gate: Tensor,
    up: Tensor,
}

impl<T: Element> Node<T> for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }
    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let (gate, up) = (view::<T>(&self.gate)?, view::<T>(&self.up)?);
        let wanted = [into.wants(0), into.wants(1)];
        let mut outputs = wanted.map(|wanted| Output::new(if wanted { grad.len() } else { 0 }));
        let to = [0, 1].map(|i| wanted[i].then(|| outputs[i].ptr()));
        self.shape
            .each(&gate, &up, Some(grad), to, self.shape.width);
        for (i, output) in outputs.into_iter().enumerate() {
            if wanted[i] {
                // SAFETY: every row has been written.
                into.add(i, unsafe { output.finish() });
            }
        }
        Ok(())
    }
}

struct GatedHalves {
    shape: Rows,
    x: Tensor,
}

impl<T: Element> Node<T> for GatedHalves {
    fn name(&self) -> &'static str {
        "gated-halves"
    }
    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let (x, width) = (view::<T>(&self.x)?, self.shape.width);
        let mut dx = Output::new(x.len());
        let to = dx.ptr();
        // SAFETY: an offset inside the result.
        let halves = [Some(to), Some(Shared(unsafe { to.add(width) }))];
        let up = &x[width..];
        self.shape.each(&x, up, Some(grad), halves, self.shape.step);
        // SAFETY: both halves of every row have been written.
        into.add(0, unsafe { dx.finish() });
        Ok(())
    }
}

/// One row.
struct Gate<T> {
    f: Activation,
    gate: *const T,
    up: *const T,
    grad: Option<*const T>,
    to: [Option<*mut T>; 2],
    width: usize,
}

impl<T: Element> Kernel<T> for Gate<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        // SAFETY: passed on.
        unsafe { with_formula!(self.f, F => self.each::<V, F>()) }
    }
}

impl<T: Element> Gate<T> {
    #[inline(always)]
    unsafe fn each<V: Vector<Scalar = T>, F: Formula>(&self) {
        // SAFETY: the maker of the kernel promises the row at each pointer.
        unsafe {
            for i in (0..self.width).step_by(V::LANES) {
                let n = self.width - i;
                let (y, slope) = F::at(load::<V>(self.gate.add(i), n));
                let up = load::<V>(self.up.add(i), n);
                match self.grad {
                    None => {
                        if let [Some(to), _] = self.to {
                            store(y.mul(up), to.add(i), n);
                        }
                    }
                    Some(grad) => {
                        let g = load::<V>(grad.add(i), n);
                        if let [Some(to), _] = self.to {
                            store(g.mul(up).mul(slope), to.add(i), n);
                        }
                        if let [_, Some(to)] = self.to {
                            store(g.mul(y), to.add(i), n);
                        }
                    }
                }
            }
        }
    }
}
