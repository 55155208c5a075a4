//! One step of AdamW (Loshchilov & Hutter 2019), in place, with PyTorch's arithmetic.
//!
//! `p ← p (1 − lr λ)`, `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
//! `p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`.

use std::sync::Mutex;

use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Result, Tensor, Var, bail};

use crate::simd::{Float, Kernel, Vector, level, load, store};
use crate::tape::view;
use crate::threads::{Shared, parallel_ranges};

/// Values that a task should at least have to do.
const LEAST: usize = 16_384;
/// Values whose squares are summed up before their sum is added to the others.
const CHUNK: usize = 4096;

/// First and second moments of one parameter, flat, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub m: Vec<f32>,
    /// Running mean of its square.
    pub v: Vec<f32>,
}

impl Moments {
    /// Zero moments of a parameter with `elements` values.
    pub fn zeros(elements: usize) -> Self {
        Self {
            m: vec![0.0; elements],
            v: vec![0.0; elements],
        }
    }
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay λ.
    pub weight_decay: f64,
    /// The step's number, from 1.
    pub step: usize,
    /// The gradient is multiplied by this first (clipping by the global norm, averaging over micro-batches).
    pub grad_scale: f64,
}

/// Moves `param` (f32, on the CPU) by one AdamW step along `grad`, and updates its moments.
pub fn adamw_step(param: &Var, grad: &Tensor, state: &mut Moments, step: &AdamWStep) -> Result<()> {
    let n = param.elem_count();
    if grad.shape() != param.shape() || state.m.len() != n || state.v.len() != n {
        bail!(
            "adamw: the parameter is {:?}, the gradient {:?}, the moments {} and {} values",
            param.dims(),
            grad.dims(),
            state.m.len(),
            state.v.len()
        )
    }
    if step.step == 0 {
        bail!("adamw: steps count from 1, got 0")
    }
    param.inplace_op2(
        &grad.contiguous()?,
        &Update {
            step,
            state: Mutex::new(state),
        },
    )
}

struct Update<'a> {
    step: &'a AdamWStep,
    state: Mutex<&'a mut Moments>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        param: &mut CpuStorage,
        param_at: &Layout,
        grad: &CpuStorage,
        grad_at: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(param), CpuStorage::F32(grad)) = (param, grad) else {
            bail!("adamw: parameters and gradients must be f32")
        };
        let (Some((start, end)), Some((grad_start, grad_end))) =
            (param_at.contiguous_offsets(), grad_at.contiguous_offsets())
        else {
            bail!("adamw: the parameter must be contiguous")
        };
        let Ok(mut state) = self.state.lock() else {
            bail!("adamw: the moments were left locked by a panic")
        };
        let Moments { m, v } = &mut **state;
        let s = self.step;
        let correction1 = 1.0 - s.beta1.powi(s.step as i32);
        let correction2 = 1.0 - s.beta2.powi(s.step as i32);
        let (param, grad) = (&mut param[start..end], &grad[grad_start..grad_end]);
        let numbers = Numbers {
            scale: s.grad_scale as f32,
            decay: (1.0 - s.lr * s.weight_decay) as f32,
            beta1: s.beta1 as f32,
            rest1: (1.0 - s.beta1) as f32,
            beta2: s.beta2 as f32,
            rest2: (1.0 - s.beta2) as f32,
            rate: (s.lr / correction1) as f32,
            root: (1.0 / correction2.sqrt()) as f32,
            eps: s.eps as f32,
        };
        let (p, m, v) = (
            Shared(param.as_mut_ptr()),
            Shared(m.as_mut_ptr()),
            Shared(v.as_mut_ptr()),
        );
        let level = level();
        parallel_ranges(grad.len(), LEAST, |range| {
            let grad = &grad[range.clone()];
            // SAFETY: all four are equally long (checked by `adamw_step`), and ranges are disjoint.
            unsafe {
                let (p, m, v) = (p.add(range.start), m.add(range.start), v.add(range.start));
                f32::run(
                    level,
                    Step {
                        numbers,
                        grad,
                        p,
                        m,
                        v,
                    },
                );
            }
        });
        Ok(())
    }
}

/// The numbers of a step as the loop wants them.
#[derive(Clone, Copy)]
struct Numbers {
    scale: f32,
    decay: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

struct Step<'a> {
    numbers: Numbers,
    grad: &'a [f32],
    p: *mut f32,
    m: *mut f32,
    v: *mut f32,
}

impl Kernel<f32> for Step<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = f32>>(self) {
        let s = self.numbers;
        for i in (0..self.grad.len()).step_by(V::LANES) {
            let n = self.grad.len() - i;
            // SAFETY: the maker of the kernel promises as many values at each pointer as the gradient has.
            unsafe {
                let (p_at, m_at, v_at) = (self.p.add(i), self.m.add(i), self.v.add(i));
                let g = load::<V>(self.grad.as_ptr().add(i), n).mul(V::splat(s.scale));
                let m = V::splat(s.rest1).fma(g, V::splat(s.beta1).mul(load(m_at, n)));
                let v = V::splat(s.rest2)
                    .mul(g)
                    .fma(g, V::splat(s.beta2).mul(load(v_at, n)));
                let step = m.div(v.sqrt().fma(V::splat(s.root), V::splat(s.eps)));
                let p = load::<V>(p_at, n)
                    .mul(V::splat(s.decay))
                    .sub(step.mul(V::splat(s.rate)));
                store(m, m_at, n);
                store(v, v_at, n);
                store(p, p_at, n);
            }
        }
    }
}

/// `Σ x²` in f64, always in the same order: for the global norm of gradients.
pub fn sum_of_squares(t: &Tensor) -> Result<f64> {
    let t = t
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .contiguous()?;
    let values = view::<f32>(&t)?;
    let values: &[f32] = &values;
    // Fixed chunks, added up in order: the same bits on any number of threads.
    let mut sums = vec![0f64; values.len().div_ceil(CHUNK)];
    let to = Shared(sums.as_mut_ptr());
    parallel_ranges(sums.len(), LEAST / CHUNK, |range| {
        for i in range {
            let chunk = &values[i * CHUNK..values.len().min((i + 1) * CHUNK)];
            let mut lanes = [0f64; 8];
            for group in chunk.chunks(8) {
                for (lane, &x) in lanes.iter_mut().zip(group) {
                    *lane += f64::from(x) * f64::from(x);
                }
            }
            // SAFETY: each chunk has its own sum.
            unsafe { *to.add(i) = lanes.iter().sum() }
        }
    });
    Ok(sums.iter().sum())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;

    /// Two steps worked by hand for one weight: p = 1, g = 0.5 twice, lr 0.1, no decay. Both times the corrected
    /// moments are 0.5 and 0.25, so each step moves by lr.
    #[test]
    fn a_constant_gradient_moves_the_weight_by_the_learning_rate() {
        let param = Var::new(&[1f32], &Device::Cpu).unwrap();
        let grad = Tensor::new(&[0.5f32], &Device::Cpu).unwrap();
        let mut state = Moments::zeros(1);
        for step in 1..=2 {
            let step = AdamWStep {
                lr: 0.1,
                beta1: 0.9,
                beta2: 0.999,
                eps: 0.0,
                weight_decay: 0.0,
                step,
                grad_scale: 1.0,
            };
            adamw_step(&param, &grad, &mut state, &step).unwrap();
        }
        let p = param.to_vec1::<f32>().unwrap()[0];
        assert!((p - 0.8).abs() < 1e-6, "{p}");
    }

    #[test]
    fn decay_shrinks_the_weight_even_without_a_gradient() {
        let param = Var::new(&[2f32, -4.0], &Device::Cpu).unwrap();
        let grad = param.zeros_like().unwrap();
        let mut state = Moments::zeros(2);
        let step = AdamWStep {
            lr: 0.5,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 1,
            grad_scale: 1.0,
        };
        adamw_step(&param, &grad, &mut state, &step).unwrap();
        assert_eq!(param.to_vec1::<f32>().unwrap(), [1.9, -3.8]);
    }

    #[test]
    fn the_squares_of_every_element_are_added_once() {
        let t = Tensor::arange(0f32, 37.0, &Device::Cpu).unwrap();
        assert_eq!(
            sum_of_squares(&t).unwrap(),
            (0..37).map(|i| f64::from(i * i)).sum::<f64>()
        );
    }
}
