//! One step of AdamW (Loshchilov & Hutter 2019), in place, with PyTorch's arithmetic.
//!
//! `p ← p (1 − lr λ)`, `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
//! `p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`.

use std::sync::Mutex;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};

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
        let (scale, decay) = (s.grad_scale as f32, (1.0 - s.lr * s.weight_decay) as f32);
        let (beta1, beta2) = (s.beta1 as f32, s.beta2 as f32);
        let (rest1, rest2) = ((1.0 - s.beta1) as f32, (1.0 - s.beta2) as f32);
        let (rate, root, eps) = (
            (s.lr / correction1) as f32,
            correction2.sqrt() as f32,
            s.eps as f32,
        );
        let param = &mut param[start..end];
        for (((p, &g), m), v) in param
            .iter_mut()
            .zip(&grad[grad_start..grad_end])
            .zip(m)
            .zip(v)
        {
            let g = g * scale;
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * g * g;
            *p = *p * decay - rate * (*m / (v.sqrt() / root + eps));
        }
        Ok(())
    }
}

/// `Σ x²` in f64, always in the same order: for the global norm of gradients.
pub fn sum_of_squares(t: &Tensor) -> Result<f64> {
    let t = t.flatten_all()?.to_dtype(candle_core::DType::F32)?;
    // Sixteen running sums: the compiler can keep them in vectors, and the order is fixed.
    let values = t.to_vec1::<f32>()?;
    let mut sums = [0f64; 16];
    for chunk in values.chunks(16) {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
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
