//! The linear layer on packed panels.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Result, Tensor};

use super::{Few, Linear, PACKINGS};
use crate::activation::Activation;
use crate::activation::fast::Activate;
use crate::element::Element;
use crate::elementwise::{Combination, Combine, column_sums};
use crate::gemm::rounded::{Bf16Unit, Panels, Round, Scale, bf16_unit};
use crate::gemm::{Left, Packed, Product, Right};
use crate::memory::{Output, with_scratch};
use crate::simd::{Float, Level, level};
use crate::tape::{Gradients, Node, View, record, tracked, view};
use crate::threads::parallel_ranges;
use crate::{Precision, Quantised};

pub(super) fn linear<T: Element>(
    layer: &Linear,
    x: &Tensor,
    f: Option<Activation>,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (m, n, k) = (x.dims()[0], layer.out_features(), layer.in_features());
    let (weight, bias) = (layer.tensor(), layer.bias());
    let no_bias;
    let inputs = [
        &x,
        weight,
        match bias {
            Some(bias) => bias,
            None => {
                no_bias = Tensor::zeros(0, x.dtype(), x.device())?;
                &no_bias
            }
        },
    ];
    let keep = f.is_some() && tracked(&inputs);
    let half = layer.is_rounded::<T>();
    let room = |wanted| if wanted { m * n } else { 0 };
    let (mut y, mut whole, mut rounded) = (
        Output::new(m * n),
        Output::<T>::new(room(keep && !half)),
        Output::<u16>::new(room(keep && half)),
    );
    let (to, level) = (y.ptr(), level());
    let (whole_slope, rounded_slope) = (whole.ptr(), rounded.ptr());
    {
        let x = view::<T>(&x)?;
        let bias = bias.map(view::<T>).transpose()?;
        let operand = layer.operand::<T>(level, Pass::Forward)?;
        let mut product = Product::new(m, n, k, Left::rows(&x, k), operand.right(k), to.0);
        if let Some(bias) = &bias {
            product.init = bias.as_ptr();
        }
        let done = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
            let Some(f) = f else { return };
            let (rows, width, at) = (rows.len(), columns.len(), rows.start * n + columns.start);
            // SAFETY: this part of y has just been written and belongs to this task.
            let activate = |slope: Option<*mut T>, slope_step| unsafe {
                let (from, to) = (to.add(at).cast_const(), to.add(at));
                T::run(
                    level,
                    Activate {
                        f,
                        from,
                        to,
                        slope,
                        rows,
                        width,
                        step: n,
                        slope_step,
                    },
                );
            };
            match (keep, half) {
                (false, _) => activate(None, n),
                // SAFETY: as above.
                (true, false) => activate(Some(unsafe { whole_slope.add(at) }), n),
                (true, true) => with_scratch(rows * width, |slope: *mut T| {
                    activate(Some(slope), width);
                    // SAFETY: as above; what is rounded is f32.
                    unsafe {
                        f32::run(
                            level,
                            Round {
                                from: slope.cast_const().cast::<f32>(),
                                step: width,
                                rows,
                                width,
                                to: rounded_slope.add(at),
                                to_row: n,
                            },
                        );
                    }
                }),
            }
        };
        // SAFETY: sizes were checked when the layer was made and by `Linear::apply`; what is in few bits is multiplied by f32.
        unsafe {
            match layer.quantised() {
                Some(few) if m == 1 && T::DTYPE == DType::F32 => {
                    let init = bias.as_ref().map(|bias| bias.as_ptr().cast());
                    few.times_row(level, x.as_ptr().cast(), init, to.0.cast());
                    done(0..1, 0..n);
                }
                _ => product.run(level, None, f.is_some().then_some(&done as _)),
            }
        }
    }
    // SAFETY: the product covers all of y, and the activation all of the slope that is kept.
    let (y, whole, rounded) = unsafe { (y.finish(), whole.finish(), rounded.finish()) };
    let node = Applied {
        layer: layer.clone(),
        // Only a trained weight's gradient reads the input.
        x: weight.track_op().then(|| x.detach()),
        slope: keep.then_some(match half {
            true => Slope::Rounded(rounded),
            false => Slope::Whole(whole),
        }),
    };
    record(&inputs, y, (m, n), node)
}

/// The slope of the activation at each value, in bf16 if the weight is.
enum Slope<T> {
    Whole(Vec<T>),
    Rounded(Vec<u16>),
}

impl<T: Element> Slope<T> {
    /// Some of a gradient times the slope there.
    /// # Safety
    /// They can be written at `to`.
    unsafe fn scale(&self, level: Level, grad: &[T], range: std::ops::Range<usize>, to: *mut T) {
        let (a, len) = (grad[range.clone()].as_ptr(), range.len());
        // SAFETY: the function's promise; where the slope is rounded, the gradient is f32.
        unsafe {
            match self {
                Self::Whole(slope) => T::run(
                    level,
                    Combine {
                        a,
                        b: slope[range].as_ptr(),
                        to,
                        len,
                        how: Combination::Product,
                    },
                ),
                Self::Rounded(slope) => f32::run(
                    level,
                    Scale {
                        a: a.cast(),
                        b: slope[range].as_ptr(),
                        to: to.cast(),
                        len,
                    },
                ),
            }
        }
    }
}

/// A whole gradient times the slope.
fn scaled<T: Element>(level: Level, grad: &[T], slope: &Slope<T>) -> Vec<T> {
    let mut out = Output::new(grad.len());
    let to = out.ptr();
    parallel_ranges(grad.len(), 4096, |range| {
        // SAFETY: ranges are disjoint and inside the buffers.
        unsafe { slope.scale(level, grad, range.clone(), to.add(range.start)) }
    });
    // SAFETY: every range has been written.
    unsafe { out.finish() }
}

struct Applied<T> {
    layer: Linear,
    x: Option<Tensor>,
    slope: Option<Slope<T>>,
}

impl<T: Element> Node<T> for Applied<T> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let (n, k) = (self.layer.out_features(), self.layer.in_features());
        let m = grad.len() / n;
        let level = level();
        let operand = self.layer.operand::<T>(level, Pass::Backward)?;
        let right = operand.right(k);
        let trained = into.wants(1) || into.wants(2);
        match &self.slope {
            // Nobody else reads g ∘ f'(u): each block of its rows is made where it is used.
            Some(slope) if !trained => {
                let make = |rows: std::ops::Range<usize>, to: *mut T| {
                    // SAFETY: the product hands over room for the rows.
                    unsafe { slope.scale(level, grad, rows.start * n..rows.end * n, to) }
                };
                into.write(0, |so_far, to| {
                    let mut product = Product::new(m, k, n, Left::rows(grad, n), right, to);
                    if let Some(so_far) = so_far {
                        (product.init, product.init_row) = (so_far, k);
                    }
                    // SAFETY: g is [m, n], the weight [n, k], the result [m, k].
                    unsafe { product.run(level, Some(&make), None) }
                });
                return Ok(());
            }
            _ => {}
        }
        let grad = match &self.slope {
            Some(slope) => &Arc::new(scaled(level, grad, slope)),
            None => grad,
        };
        if into.wants(0) {
            into.write(0, |so_far, to| {
                let mut product = Product::new(m, k, n, Left::rows(grad, n), right, to);
                if let Some(so_far) = so_far {
                    (product.init, product.init_row) = (so_far, k);
                }
                // SAFETY: as above.
                unsafe { product.run(level, None, None) }
            });
        }
        if let (true, Some(x)) = (into.wants(1), &self.x) {
            let x = view::<T>(x)?;
            into.write(1, |so_far, to| {
                let mut product =
                    Product::new(n, k, m, Left::transposed(grad, n), Right::rows(&x, k), to);
                if let Some(so_far) = so_far {
                    (product.init, product.init_row) = (so_far, k);
                }
                // SAFETY: gᵀ is [n, m], x [m, k], the result [n, k].
                unsafe { product.run(level, None, None) }
            });
        }
        if into.wants(2) {
            into.add(2, column_sums(grad, n));
        }
        Ok(())
    }
}

/// Which product with a weight is made.
#[derive(Clone, Copy)]
enum Pass {
    /// `x Wᵀ`
    Forward,
    /// `g W`
    Backward,
}

/// A weight as the right operand of a product.
enum Operand<'a, T> {
    Rows(View<'a, T>),
    Packed(Arc<Packed<T>>),
    Rounded(Arc<Panels>, Bf16Unit),
    Made(Box<dyn Fn(usize, *mut T) + Sync + 'a>),
}

impl<T> Operand<'_, T> {
    /// `k`: columns of the weight.
    fn right(&self, k: usize) -> Right<'_, T> {
        match self {
            Self::Rows(rows) => Right::rows(rows, k),
            Self::Packed(packed) => Right::Packed(packed),
            Self::Rounded(panels, unit) => Right::Rounded(panels, *unit),
            Self::Made(make) => Right::Made(&**make),
        }
    }
}

impl Linear {
    /// Whether products with numbers of this type are in bf16: those with f32 are, where the weight is.
    fn is_rounded<T: Element>(&self) -> bool {
        self.precision() == Precision::Bf16 && T::DTYPE == DType::F32
    }

    /// The frozen weight in blocks, or in whole numbers of eight bits.
    fn quantised(&self) -> Option<&Quantised> {
        match &self.shared.few {
            Some(Few::Quantised(few)) => Some(few),
            _ => None,
        }
    }

    /// What a pass multiplies by.
    fn operand<T: Element>(&self, level: Level, pass: Pass) -> Result<Operand<'_, T>> {
        Ok(match &self.shared.few {
            Some(Few::Bf16(held)) => Operand::Rounded(self.rounded(held, level, pass), bf16_unit()),
            Some(Few::Quantised(few)) => Operand::Made(Box::new(move |panel, to: *mut T| {
                // SAFETY: a product hands over room for a panel; the ops that get here are those of f32.
                unsafe {
                    match pass {
                        Pass::Forward => few.panel_of_transpose(level, panel, to.cast()),
                        Pass::Backward => few.panel(level, panel, to.cast()),
                    }
                }
            })),
            None => match pass {
                Pass::Forward => Operand::Packed(self.packed(level)?),
                // A trained weight is another one in the next step.
                Pass::Backward if self.tensor().track_op() => Operand::Rows(view(self.tensor())?),
                Pass::Backward => {
                    let (n, k) = (self.out_features(), self.in_features());
                    Operand::Packed(self.kept(
                        &self.shared.packed_backward,
                        level,
                        |weight: &[T]| Packed::of(level, weight, k, n, k),
                    )?)
                }
            },
        })
    }

    /// The frozen weight in panels of bf16: those that are held, or made of their values, for the backward once, and for another
    /// level by each call.
    fn rounded(&self, held: &Arc<Panels>, level: Level, pass: Pass) -> Arc<Panels> {
        let (n, k) = (self.out_features(), self.in_features());
        let values = || {
            PACKINGS.set(PACKINGS.get() + 1);
            held.transposed_values(n)
        };
        match pass {
            Pass::Forward if held.level == level => held.clone(),
            Pass::Forward => Arc::new(Panels::transpose_of(level, &values(), n, k)),
            Pass::Backward => {
                let kept = &self.shared.backward;
                if let Some(panels) = kept.get().filter(|panels| panels.level == level) {
                    return panels.clone();
                }
                let panels = Arc::new(Panels::of(level, &values(), n, k));
                // Another thread may have been faster, or kept those of another level.
                let _ = kept.set(panels.clone());
                panels
            }
        }
    }

    /// The weight in panels for `x Wᵀ`: see [`Linear::kept`].
    pub(crate) fn packed<T: Element>(&self, level: Level) -> Result<Arc<Packed<T>>> {
        let (n, k) = (self.out_features(), self.in_features());
        self.kept(&self.shared.packed, level, |weight: &[T]| {
            Packed::transpose_of(level, weight, n, k)
        })
    }

    /// Panels of the weight: made once if it is frozen, for each call if it is trained or another level is wanted.
    fn kept<T: Element>(
        &self,
        kept: &OnceLock<Arc<dyn Any + Send + Sync>>,
        level: Level,
        panels: impl Fn(&[T]) -> Packed<T>,
    ) -> Result<Arc<Packed<T>>> {
        let make = || -> Result<Arc<Packed<T>>> {
            PACKINGS.set(PACKINGS.get() + 1);
            Ok(Arc::new(panels(&view::<T>(self.tensor())?)))
        };
        if self.tensor().track_op() {
            return make();
        }
        if let Some(packed) = kept
            .get()
            .and_then(|packed| packed.clone().downcast::<Packed<T>>().ok())
        {
            return if packed.level == level {
                Ok(packed)
            } else {
                make()
            };
        }
        let packed = make()?;
        // Another thread may have been faster; its panels are the same.
        let _ = kept.set(packed.clone());
        Ok(packed)
    }
}
