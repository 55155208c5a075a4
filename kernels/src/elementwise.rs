//! Loops over whole tensors that several ops need.

use crate::memory::Output;
use crate::simd::{Float, Kernel, Vector, level};
use crate::threads::{Shared, parallel_ranges};

/// Rows that are summed up before their sum is added to those of other groups.
pub(crate) const GROUP: usize = 64;
/// Values that a task should at least have to do.
const LEAST: usize = 16_384;

/// What to make of two values.
#[derive(Clone, Copy)]
pub(crate) enum Combination {
    Sum,
    Product,
}

/// `a + b` or `a ∘ b`.
pub(crate) fn combine<T: Float>(a: &[T], b: &[T], how: Combination) -> Vec<T> {
    let mut out = Output::new(a.len());
    combine_into(a, b, how, out.ptr());
    // SAFETY: `combine_into` writes as many values as `a` has.
    unsafe { out.finish() }
}

/// `target += other`
pub(crate) fn add_assign<T: Float>(target: &mut [T], other: &[T]) {
    let to = Shared(target.as_mut_ptr());
    combine_into(target, other, Combination::Sum, to);
}

fn combine_into<T: Float>(a: &[T], b: &[T], how: Combination, to: Shared<T>) {
    assert_eq!(a.len(), b.len());
    let level = level();
    let (a, b) = (
        Shared(a.as_ptr().cast_mut()),
        (Shared(b.as_ptr().cast_mut()), a.len()),
    );
    let (b, len) = b;
    parallel_ranges(len, LEAST, |range| {
        // SAFETY: ranges are disjoint and inside all three; `to` may be `a`, value by value.
        unsafe {
            let (a, b, to) = (a.add(range.start), b.add(range.start), to.add(range.start));
            T::run(
                level,
                Combine {
                    a,
                    b,
                    to,
                    len: range.len(),
                    how,
                },
            );
        }
    });
}

/// `to[i] = a[i] (+ or ·) b[i]`
pub(crate) struct Combine<T> {
    pub(crate) a: *const T,
    pub(crate) b: *const T,
    pub(crate) to: *mut T,
    pub(crate) len: usize,
    pub(crate) how: Combination,
}

impl<T: Float> Kernel<T> for Combine<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        // SAFETY: the maker of the kernel promises `len` values at each pointer.
        unsafe {
            match self.how {
                Combination::Sum => zip::<V>(self.a, self.b, self.to, self.len, |a, b| a.add(b)),
                Combination::Product => {
                    zip::<V>(self.a, self.b, self.to, self.len, |a, b| a.mul(b))
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn zip<V: Vector>(
    a: *const V::Scalar,
    b: *const V::Scalar,
    to: *mut V::Scalar,
    len: usize,
    f: impl Fn(V, V) -> V,
) {
    // SAFETY: the caller promises `len` values at each pointer.
    unsafe {
        let whole = len / V::LANES * V::LANES;
        for i in (0..whole).step_by(V::LANES) {
            f(V::load(a.add(i)), V::load(b.add(i))).store(to.add(i));
        }
        if let rest @ 1.. = len - whole {
            f(
                V::load_part(a.add(whole), rest),
                V::load_part(b.add(whole), rest),
            )
            .store_part(to.add(whole), rest);
        }
    }
}

/// The sums of the columns of `x [rows, width]`: rows in fixed groups, the groups in order.
pub(crate) fn column_sums<T: Float>(x: &[T], width: usize) -> Vec<T> {
    let rows = x.len() / width;
    let groups = rows.div_ceil(GROUP);
    let mut partial = vec![T::default(); groups * width];
    let to = Shared(partial.as_mut_ptr());
    parallel_ranges(groups, (LEAST / (GROUP * width)).max(1), |range| {
        for group in range {
            // SAFETY: every group has its own row of `partial`.
            let sums = unsafe { std::slice::from_raw_parts_mut(to.add(group * width), width) };
            for row in x[group * GROUP * width..].chunks_exact(width).take(GROUP) {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
            }
        }
    });
    sum_rows(&partial, width)
}

/// The sum of the rows, one after the other.
pub(crate) fn sum_rows<T: Float>(rows: &[T], width: usize) -> Vec<T> {
    let mut sums = vec![T::default(); width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
    }
    sums
}
