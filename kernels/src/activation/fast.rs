//! The activations on vectors, with their derivatives.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::Activation;
use crate::element::Element;
use crate::elementwise::{Combination, combine};
use crate::memory::Output;
use crate::simd::{Kernel, Vector, level};
use crate::tape::{Gradients, Node, record, tracked, view};
use crate::threads::parallel_ranges;

/// Values that a task should at least have to do.
const LEAST: usize = 4096;

pub(crate) fn activate<T: Element>(x: &Tensor, f: Activation) -> Result<Tensor> {
    let x = x.contiguous()?;
    let keep = tracked(&[&x]);
    let len = x.elem_count();
    let (mut out, mut derivative) = (Output::new(len), Output::new(if keep { len } else { 0 }));
    {
        let x = view::<T>(&x)?;
        let x: &[T] = &x;
        let (to, slope, level) = (out.ptr(), derivative.ptr(), level());
        parallel_ranges(len, LEAST, |range| {
            // SAFETY: ranges are disjoint and inside the buffers.
            unsafe {
                let from = x.as_ptr().add(range.start);
                let slope = keep.then(|| slope.add(range.start));
                let (len, to) = (range.len(), to.add(range.start));
                T::run(
                    level,
                    Activate {
                        f,
                        from,
                        to,
                        slope,
                        rows: 1,
                        width: len,
                        step: len,
                        slope_step: len,
                    },
                );
            }
        });
    }
    // SAFETY: every range has been written.
    let (out, derivative) = unsafe { (out.finish(), derivative.finish()) };
    record(&[&x], out, x.shape(), Activated { derivative })
}

struct Activated<T> {
    derivative: Vec<T>,
}

impl<T: Element> Node<T> for Activated<T> {
    fn name(&self) -> &'static str {
        "activate"
    }
    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        into.add(0, combine(grad, &self.derivative, Combination::Product));
        Ok(())
    }
}

/// `to = f(from)` and, if wanted, `slope = f'(from)`: `rows` rows of `width` values, `step` apart, those of the slope
/// `slope_step`. `to` may be `from`.
pub(crate) struct Activate<T> {
    pub(crate) f: Activation,
    pub(crate) from: *const T,
    pub(crate) to: *mut T,
    pub(crate) slope: Option<*mut T>,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) step: usize,
    pub(crate) slope_step: usize,
}

impl<T: Element> Kernel<T> for Activate<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        // SAFETY: passed on.
        unsafe { with_formula!(self.f, F => self.each::<V, F>()) }
    }
}

impl<T: Element> Activate<T> {
    #[inline(always)]
    unsafe fn each<V: Vector<Scalar = T>, F: Formula>(&self) {
        // SAFETY: the maker of the kernel promises the rows at each pointer.
        unsafe {
            for row in 0..self.rows {
                for i in (0..self.width).step_by(V::LANES) {
                    let (at, n) = (row * self.step + i, self.width - i);
                    let slope_at = row * self.slope_step + i;
                    if n >= V::LANES {
                        let (y, slope) = F::at(V::load(self.from.add(at)));
                        y.store(self.to.add(at));
                        if let Some(to) = self.slope {
                            slope.store(to.add(slope_at));
                        }
                    } else {
                        let (y, slope) = F::at(V::load_part(self.from.add(at), n));
                        y.store_part(self.to.add(at), n);
                        if let Some(to) = self.slope {
                            slope.store_part(to.add(slope_at), n);
                        }
                    }
                }
            }
        }
    }
}

/// `with_formula!(f, F => …)`: the expression with the formula of the activation `f` as the type `F`.
macro_rules! with_formula {
    ($f:expr, $F:ident => $each:expr) => {
        match $f {
            Activation::Gelu => {
                type $F = $crate::activation::fast::Gelu;
                $each
            }
            Activation::GeluTanh => {
                type $F = $crate::activation::fast::GeluTanh;
                $each
            }
            Activation::Relu => {
                type $F = $crate::activation::fast::Relu;
                $each
            }
            Activation::Swish => {
                type $F = $crate::activation::fast::Swish;
                $each
            }
            Activation::Tanh => {
                type $F = $crate::activation::fast::Tanh;
                $each
            }
        }
    };
}
pub(crate) use with_formula;

/// `f(x)` and `f'(x)`. A trait and not a function passed on: the call of a function value is not always inlined, and then
/// its arithmetic is compiled without the level's instructions, each of them a call.
pub(crate) trait Formula {
    fn at<V: Vector>(x: V) -> (V, V);
}

#[inline(always)]
fn constant<V: Vector>(x: f64) -> V {
    V::splat(<V::Scalar as candle_core::WithDType>::from_f64(x))
}

/// `Φ(x) + x φ(x)`
pub(crate) struct Gelu;

impl Formula for Gelu {
    #[inline(always)]
    fn at<V: Vector>(x: V) -> (V, V) {
        let (cdf, bell) = x.normal_cdf();
        let density = bell.mul(constant(0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2));
        (x.mul(cdf), x.fma(density, cdf))
    }
}

/// With `u = c (x + 0.044715 x³)`, `t = tanh u`: `(1 + t) / 2 + x (1 − t²) / 2 · c (1 + 3 · 0.044715 x²)`
pub(crate) struct GeluTanh;

impl Formula for GeluTanh {
    #[inline(always)]
    fn at<V: Vector>(x: V) -> (V, V) {
        const C: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
        let (one, half, square) = (constant::<V>(1.0), constant::<V>(0.5), x.mul(x));
        let t = x
            .mul(square.fma(constant(C * 0.044715), constant(C)))
            .tanh();
        let half_sum = t.fma(half, half);
        let inner = square.fma(constant(C * 3.0 * 0.044715), constant(C));
        let outer = one.sub(t.mul(t)).mul(half).mul(x);
        (x.mul(half_sum), outer.fma(inner, half_sum))
    }
}

pub(crate) struct Relu;

impl Formula for Relu {
    #[inline(always)]
    fn at<V: Vector>(x: V) -> (V, V) {
        let (zero, one) = (constant::<V>(0.0), constant(1.0));
        (zero.max(x), zero.select_below(x, one, zero))
    }
}

/// `σ(x) (1 + x (1 − σ(x)))`
pub(crate) struct Swish;

impl Formula for Swish {
    #[inline(always)]
    fn at<V: Vector>(x: V) -> (V, V) {
        let one = constant::<V>(1.0);
        let sigmoid = one.div(one.add(constant::<V>(0.0).sub(x).exp()));
        (x.mul(sigmoid), sigmoid.mul(x.fma(one.sub(sigmoid), one)))
    }
}

pub(crate) struct Tanh;

impl Formula for Tanh {
    #[inline(always)]
    fn at<V: Vector>(x: V) -> (V, V) {
        let y = x.tanh();
        (y, constant::<V>(1.0).sub(y.mul(y)))
    }
}
