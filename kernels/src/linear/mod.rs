//! `y = x Wᵀ + b`, frozen or trained, with an activation in the epilogue if wanted.
//!
//! With `g = dL/dy`: `dx = g W`, `dW = gᵀ x`, `db = Σ_rows g`; each only where it is asked for.
//!
//! A frozen weight may be in bf16 ([`Precision`]): then `y = r(x) r(W)ᵀ + b` and `dx = r(g) r(W)`, with `r` for rounding and
//! sums in f32. The plain reference rounds x and W, and not g. It may also be in eight or four bits ([`Quantised`]): then W is
//! what they stand for. In both cases nothing else is kept of it, and [`Linear::weight`] makes its values anew.

mod fast;
mod reference;

use std::any::Any;
use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::gemm::{Packed, rounded::Panels};
use crate::path::choose;
use crate::precision::rounded;
use crate::simd::level;
use crate::{Activation, Precision, Quantised};

thread_local! {
    static PACKINGS: Cell<usize> = const { Cell::new(0) };
}

/// How often this thread has put a weight into panels: a frozen one is packed once, a trained one in every forward.
pub fn packings() -> usize {
    PACKINGS.get()
}

/// A linear layer `y = x Wᵀ + b`. A weight or bias that candle does not track is frozen: no gradient is computed or
/// kept for it. One that is a `Var` is trained. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Linear {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The weight; empty where it is held in fewer bits.
    tensor: Tensor,
    few: Option<Few>,
    /// Rows and columns.
    shape: (usize, usize),
    bias: Option<Tensor>,
    precision: Precision,
    /// The frozen weight in panels of its dtype, made by the first forward.
    packed: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// The same for the backward, made by the first.
    packed_backward: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// The frozen weight in panels of bf16 for the backward, made by the first.
    backward: OnceLock<Arc<Panels>>,
}

/// A frozen weight in fewer bits than f32, held once.
#[derive(Debug)]
enum Few {
    /// In panels of bf16 for the forward.
    Bf16(Arc<Panels>),
    Quantised(Quantised),
}

impl Linear {
    /// From a weight `[out, in]` and a bias `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (out, _) = weight.dims2()?;
        let bias = bias.map(|bias| bias.contiguous()).transpose()?;
        if let Some(bias) = &bias
            && bias.dims() != [out]
        {
            bail!(
                "linear: the weight is {:?}, so the bias must be [{out}], got {:?}",
                weight.dims(),
                bias.dims()
            )
        }
        let weight = weight.contiguous()?;
        let shape = weight.dims2()?;
        Ok(Self::of(weight, None, shape, bias, Precision::F32))
    }

    /// From a frozen weight in blocks and a bias `[out]`.
    pub fn of_blocks(weight: Quantised, bias: Option<Tensor>) -> Result<Self> {
        let shape = weight.shape();
        if let Some(bias) = &bias
            && bias.dims() != [shape.0]
        {
            bail!(
                "linear: the weight is {shape:?}, the bias {:?}",
                bias.dims()
            )
        }
        Self::in_few(Few::Quantised(weight), shape, bias, Precision::Q4)
    }

    fn in_few(
        few: Few,
        shape: (usize, usize),
        bias: Option<Tensor>,
        precision: Precision,
    ) -> Result<Self> {
        let nothing = Tensor::zeros(0, DType::F32, &Device::Cpu)?;
        Ok(Self::of(nothing, Some(few), shape, bias, precision))
    }

    fn of(
        tensor: Tensor,
        few: Option<Few>,
        shape: (usize, usize),
        bias: Option<Tensor>,
        precision: Precision,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                tensor,
                few,
                shape,
                bias,
                precision,
                packed: OnceLock::new(),
                packed_backward: OnceLock::new(),
                backward: OnceLock::new(),
            }),
        }
    }

    /// The same layer with its frozen weight in `precision`; one that is trained stays in f32. What is not in blocks of four
    /// bits already becomes bf16 for [`Precision::Q4`]: fewer bits would take away what somebody has put there.
    pub fn in_precision(&self, precision: Precision) -> Result<Self> {
        if self.tensor().track_op() || precision == self.precision() {
            return Ok(self.clone());
        }
        let (weight, bias, shape) = (self.weight(), self.bias().cloned(), self.shared.shape);
        let precision = match precision {
            Precision::Q4 => Precision::Bf16,
            other => other,
        };
        if precision == Precision::F32 {
            return Self::new(weight, bias);
        }
        let whole =
            || -> Result<Vec<f32>> { weight.to_dtype(DType::F32)?.flatten_all()?.to_vec1() };
        // (f64 is for finite differences: only the values are those of few bits.)
        let is_f32 = weight.dtype() == DType::F32;
        let few = match precision {
            Precision::Int8 => Few::Quantised(Quantised::rounded(&whole()?, shape.0, shape.1)),
            _ if is_f32 => {
                let panels = Panels::transpose_of(level(), &whole()?, shape.0, shape.1);
                Few::Bf16(Arc::new(panels))
            }
            _ => return Ok(Self::of(rounded(&weight)?, None, shape, bias, precision)),
        };
        match (is_f32, few) {
            (false, Few::Quantised(few)) => {
                let values = Tensor::from_vec(few.values(), shape, &Device::Cpu)?;
                let values = values.to_dtype(weight.dtype())?;
                Ok(Self::of(values, None, shape, bias, precision))
            }
            (_, few) => Self::in_few(few, shape, bias, precision),
        }
    }

    /// How the weight is stored and multiplied.
    pub fn precision(&self) -> Precision {
        self.shared.precision
    }

    /// The weight, `[out, in]`; where it is held in fewer bits, what they stand for, made anew by each call.
    pub fn weight(&self) -> Tensor {
        let (out, width) = self.shared.shape;
        let values = match &self.shared.few {
            None => return self.tensor().clone(),
            Some(Few::Bf16(panels)) => panels.transposed_values(out),
            Some(Few::Quantised(few)) => few.values(),
        };
        let weight = Tensor::from_vec(values, (out, width), &Device::Cpu);
        weight.expect("as many values as the shape says")
    }

    /// The weight, or nothing where it is held in fewer bits.
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.shared.tensor
    }

    /// The weight's type.
    pub fn dtype(&self) -> DType {
        self.tensor().dtype()
    }

    /// Bytes of the weight in memory: as it is held, and in the panels that products have made of it so far.
    pub fn bytes(&self) -> usize {
        let shared = &*self.shared;
        let held = match &shared.few {
            None => shared.tensor.elem_count() * shared.tensor.dtype().size_in_bytes(),
            Some(Few::Bf16(panels)) => panels.bytes(),
            Some(Few::Quantised(few)) => few.bytes(),
        };
        let packed = [&shared.packed, &shared.packed_backward].map(|packed| {
            packed.get().map_or(0, |packed| {
                let of_f32 = packed.downcast_ref::<Packed<f32>>().map(Packed::bytes);
                of_f32
                    .or_else(|| packed.downcast_ref::<Packed<f64>>().map(Packed::bytes))
                    .unwrap_or(0)
            })
        });
        held + packed.iter().sum::<usize>()
            + shared.backward.get().map_or(0, |panels| panels.bytes())
    }

    /// The bias, `[out]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.shared.bias.as_ref()
    }

    /// The length of an input row.
    pub fn in_features(&self) -> usize {
        self.shared.shape.1
    }

    /// The length of an output row.
    pub fn out_features(&self) -> usize {
        self.shared.shape.0
    }

    /// `x [N, in]` to `[N, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, None)
    }

    /// `f(x Wᵀ + b)`: `x [N, in]` to `[N, out]`.
    pub fn forward_activated(&self, x: &Tensor, f: Activation) -> Result<Tensor> {
        self.apply(x, Some(f))
    }

    fn apply(&self, x: &Tensor, f: Option<Activation>) -> Result<Tensor> {
        let (_, width) = x.dims2()?;
        if width != self.in_features() {
            bail!(
                "linear: a row of x has {width} values, the weight is {:?}",
                self.shared.shape
            )
        }
        let bias = self.bias().unwrap_or(x);
        choose!(
            [x, self.tensor(), bias],
            fast::linear(self, x, f),
            match (self.precision(), x.dtype()) {
                (Precision::Bf16, DType::F32) => {
                    // (Exact: x and what it is rounded to are less than a factor of two apart.)
                    let x = (x + (rounded(x)? - x)?.detach())?;
                    reference::linear(&x, &self.weight(), self.bias(), f)
                }
                _ => reference::linear(x, &self.weight(), self.bias(), f),
            }
        )
    }
}
