//! exp, tanh and the normal distribution on f32 vectors. Polynomials are weighted least-maximum fits of the quotient
//! to be approximated (relative error below 4e-8 before rounding).

use super::Vector;

/// What the exponential needs from an f32 vector on top of arithmetic.
pub(crate) trait Bits: Vector<Scalar = f32> {
    /// For a value `1.5 · 2²³ + n` with a whole `n`: the float `2ⁿ`, put together in its bits.
    fn power_of_two(self) -> Self;
}

/// `p(x) = c[0] + c[1] x + c[2] x² + …`
#[inline(always)]
fn polynomial<V: Vector<Scalar = f32>>(x: V, c: &[f32]) -> V {
    let mut y = V::splat(c[c.len() - 1]);
    for &c in c[..c.len() - 1].iter().rev() {
        y = y.fma(x, V::splat(c));
    }
    y
}

/// `e^x = 2ⁿ e^r` with `x = n ln 2 + r`, `|r| ≤ ln 2 / 2`. Below −87 it stays at `e^−87`, above 88 at `e^88`.
#[inline(always)]
pub(crate) fn exp<V: Bits>(x: V) -> V {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to a whole number
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = V::splat(88.0).min(V::splat(-87.0).max(x));
    let shifted = x.fma(V::splat(std::f32::consts::LOG2_E), V::splat(SHIFT));
    let n = shifted.sub(V::splat(SHIFT));
    let r = n.fma(V::splat(-LN2_LOW), n.fma(V::splat(-LN2_HIGH), x));
    let tail = polynomial(
        r,
        &[
            0.499_999_93,
            0.166_665_21,
            0.041_668_39,
            0.008_368_71,
            0.001_381_46,
        ],
    );
    let e = tail.fma(r.mul(r), r).add(V::splat(1.0));
    e.mul(shifted.power_of_two())
}

/// An odd polynomial near 0, `1 − 2 / (e^{2x} + 1)` elsewhere.
#[inline(always)]
pub(crate) fn tanh<V: Bits>(x: V) -> V {
    let square = x.mul(x);
    let near = polynomial(
        square,
        &[
            -0.333_332_82,
            0.133_314_42,
            -0.053_739_71,
            0.020_639_08,
            -0.005_704_98,
        ],
    );
    let near = near.mul(square).fma(x, x);
    let one = V::splat(1.0);
    let far = one.sub(V::splat(2.0).div(exp(x.add(x)).add(one)));
    square.select_below(V::splat(0.625 * 0.625), near, far)
}

/// `Φ(−|x|) = e^{−x²/2} t p(t)` with `t = 1 / (1 + 0.35 |x|)`; the other side is one minus that.
#[inline(always)]
pub(crate) fn normal_cdf<V: Bits>(x: V) -> (V, V) {
    let (zero, one) = (V::splat(0.0), V::splat(1.0));
    let absolute = zero.sub(x).max(x);
    let t = one.div(absolute.fma(V::splat(0.35), one));
    let p = polynomial(
        t,
        &[
            0.139_621_4,
            0.139_861_87,
            0.119_832_87,
            0.105_508,
            -0.023_109_83,
            0.159_174_13,
            -0.255_714_2,
            0.143_971_67,
            -0.029_145_923,
        ],
    );
    let bell = exp(x.mul(x).mul(V::splat(-0.5)));
    let tail = bell.mul(p.mul(t));
    (x.select_below(zero, tail, one.sub(tail)), bell)
}
