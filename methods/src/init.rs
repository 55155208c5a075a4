//! Starts of tensors, drawn from a seeded stream or factored out of a weight, and seeded dropout.

use backbone::{Linear, Phase};
use candle_core::{DType, Device, Tensor};
use nalgebra::DMatrix;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{Result, parameters::Builder};

/// A tensor drawn uniformly from `±bound`.
pub(crate) fn uniform(
    rng: &mut ChaCha8Rng,
    shape: &[usize],
    bound: f64,
    dtype: DType,
) -> candle_core::Result<Tensor> {
    let n = shape.iter().product();
    tensor(
        (0..n)
            .map(|_| bound * (2.0 * rng.random::<f64>() - 1.0))
            .collect(),
        shape,
        dtype,
    )
}

/// A tensor drawn from a normal distribution around 0 (Box and Muller 1958).
///
/// # Errors
/// If the tensor cannot be made.
pub fn normal(
    rng: &mut ChaCha8Rng,
    shape: &[usize],
    deviation: f64,
    dtype: DType,
) -> candle_core::Result<Tensor> {
    let n = shape.iter().product();
    let draw = |rng: &mut ChaCha8Rng| {
        let (a, b) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
        deviation * (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    };
    tensor((0..n).map(|_| draw(rng)).collect(), shape, dtype)
}

/// A tensor of zeros.
pub(crate) fn zeros(shape: &[usize], dtype: DType) -> candle_core::Result<Tensor> {
    Tensor::zeros(shape, dtype, &Device::Cpu)
}

/// A trained linear layer from rows of `i` values to rows of `o` that starts as torch's: `NAME.weightPIECE` and
/// `NAME.biasPIECE` from U(±1/√in).
pub(crate) fn dense(
    tensors: &mut Builder<'_>,
    [name, piece]: [&str; 2],
    o: usize,
    i: usize,
    dtype: DType,
) -> Result<Linear> {
    let bound = 1.0 / (i as f64).sqrt();
    let mut part = |part: &str, shape: &[usize]| {
        let name = format!("{name}.{part}{piece}");
        tensors.variable(name, shape, |rng| uniform(rng, shape, bound, dtype))
    };
    let weight = part("weight", &[o, i])?;
    Ok(Linear::new(weight, Some(part("bias", &[o])?))?)
}

fn tensor(values: Vec<f64>, shape: &[usize], dtype: DType) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)
}

fn as_matrix(weight: &Tensor) -> candle_core::Result<DMatrix<f64>> {
    let (o, i) = weight.dims2()?;
    let values = weight.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
    Ok(DMatrix::from_row_slice(o, i, &values))
}

fn from_matrix(matrix: &DMatrix<f64>, dtype: DType) -> candle_core::Result<Tensor> {
    // Its columns are stored one after the other.
    let transposed = Tensor::from_slice(
        matrix.as_slice(),
        (matrix.ncols(), matrix.nrows()),
        &Device::Cpu,
    )?;
    transposed.t()?.contiguous()?.to_dtype(dtype)
}

/// `A [r, in]` and `B [out, r]` with `s · B A` the best approximation of rank r to `weight` `[out, in]`: of its singular
/// values Σ, `A = √(Σ/s) Vᵀ` and `B = U √(Σ/s)`. Computed in f64.
pub(crate) fn singular_factors(
    weight: &Tensor,
    r: usize,
    scaling: f64,
) -> candle_core::Result<(Tensor, Tensor)> {
    let svd = as_matrix(weight)?.svd(true, true);
    let (Some(u), Some(v_t)) = (svd.u, svd.v_t) else {
        candle_core::bail!("the singular vectors were not computed");
    };
    let roots = svd.singular_values.rows(0, r).map(|v| (v / scaling).sqrt());
    let diagonal = DMatrix::from_diagonal(&roots);
    let (a, b) = (&diagonal * v_t.rows(0, r), u.columns(0, r) * &diagonal);
    Ok((
        from_matrix(&a, weight.dtype())?,
        from_matrix(&b, weight.dtype())?,
    ))
}

/// With `weight = Q R`: R's first r rows `[r, in]` and Q's first r columns `[out, r]`. Computed in f64.
pub(crate) fn qr_factors(weight: &Tensor, r: usize) -> candle_core::Result<(Tensor, Tensor)> {
    let (q, upper) = as_matrix(weight)?.qr().unpack();
    let (a, b) = (upper.rows(0, r).into_owned(), q.columns(0, r).into_owned());
    Ok((
        from_matrix(&a, weight.dtype())?,
        from_matrix(&b, weight.dtype())?,
    ))
}

/// Dropout (Srivastava et al. 2014) with probability `p` in training, the identity in evaluation.
pub(crate) fn dropout(x: &Tensor, p: f64, phase: Phase<'_>) -> candle_core::Result<Tensor> {
    match phase {
        Phase::Train(rng) if p > 0.0 => {
            let mut rng = rng.borrow_mut();
            let keep = (0..x.elem_count())
                .map(|_| rng.random::<f64>() >= p)
                .collect();
            kernels::dropout(x, keep, p)
        }
        _ => Ok(x.clone()),
    }
}

/// The largest bottleneck, in hidden sizes: more is a slip of the pen, and can take more memory than there is.
const WIDEST: usize = 8;

/// The width of an adapter's bottleneck.
pub(crate) fn bottleneck(hidden: usize, reduction_factor: f64) -> usize {
    (hidden as f64 / reduction_factor) as usize
}

/// Checks that a bottleneck has a width, and one that is meant.
pub(crate) fn check_reduction_factor(
    hidden: usize,
    reduction_factor: f64,
) -> std::result::Result<(), String> {
    let least = 1.0 / WIDEST as f64;
    if (least..=hidden as f64).contains(&reduction_factor) {
        return Ok(());
    }
    Err(format!(
        "reduction_factor {reduction_factor} must be from {least} to {hidden} (the hidden size)"
    ))
}

/// The largest alpha of LoRA and its kin: weights are of the order of 1, and far beyond it f32 has no number for the sum.
const STRONGEST: f64 = 1e6;

/// Checks the strength of a low-rank update.
pub(crate) fn check_alpha(alpha: f64) -> std::result::Result<(), String> {
    if alpha > 0.0 && alpha <= STRONGEST {
        return Ok(());
    }
    Err(format!(
        "alpha {alpha:e} must be above 0 and at most {STRONGEST:e}"
    ))
}

/// Checks a number of virtual tokens, behind which two special tokens and one of the text must still fit.
pub(crate) fn check_virtual_tokens(
    count: usize,
    backbone: &backbone::Config,
) -> std::result::Result<(), String> {
    let positions = backbone.max_tokens();
    let most = positions.saturating_sub(3);
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(format!(
        "virtual_tokens {count} must be in 1 … {most}: the position table has {positions} rows and the text needs room"
    ))
}

/// Checks a dropout probability.
pub(crate) fn check_dropout(p: f64) -> std::result::Result<(), String> {
    if (0.0..1.0).contains(&p) {
        Ok(())
    } else {
        Err(format!("dropout {p} must be at least 0 and below 1"))
    }
}
