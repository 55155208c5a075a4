//! Span attention whose scores stay in the cache: per span and head, a block of query rows at a time.
//!
//! The backward makes the probabilities again from the scores and each row's `log Σ e^s`, which is all that is kept.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::Spans;
use crate::gemm::{Left, Product, Right, transpose};
use crate::memory::{Output, with_scratch};
use crate::simd::{Element, Kernel, Level, Vector, level, load, store};
use crate::tape::{Gradients, Node, record, tracked, view};
use crate::threads::{Shared, parallel, threads};

/// Query rows whose scores are held at a time.
const BLOCK: usize = 56;
/// Below this many operations everything stays on one thread.
const SERIAL_BELOW: usize = 200_000;

pub(super) fn attention<T: Element>(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    query_spans: &Spans,
    key_spans: &Spans,
    heads: usize,
) -> Result<Tensor> {
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let (rows, width) = q.dims2()?;
    let keep = tracked(&[&q, &k, &v]);
    let shape = Heads {
        query_spans: query_spans.clone(),
        key_spans: key_spans.clone(),
        heads,
        width,
        level: level(),
    };
    let (mut out, mut log_sums) = (Output::new(rows * width), Output::new(rows * heads));
    {
        let (q, k, v) = (view::<T>(&q)?, view::<T>(&k)?, view::<T>(&v)?);
        let (q, k, v): (&[T], &[T], &[T]) = (&q, &k, &v);
        let (out, log_sums) = (out.ptr(), log_sums.ptr());
        shape.for_each(2, |span, head| {
            shape.forward(span, head, q, k, v, out, log_sums)
        });
    }
    // SAFETY: every head of every span has been written.
    let (out, log_sums) = unsafe { (out.finish(), log_sums.finish()) };
    let node = Attended {
        shape,
        q: q.detach(),
        k: k.detach(),
        v: v.detach(),
        log_sums: if keep { log_sums } else { Vec::new() },
    };
    record(&[&q, &k, &v], out, (rows, width), node)
}

struct Attended<T> {
    shape: Heads,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// `log Σ e^s` by row and head.
    log_sums: Vec<T>,
}

impl<T: Element> Node<T> for Attended<T> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let (q, k, v) = (
            view::<T>(&self.q)?,
            view::<T>(&self.k)?,
            view::<T>(&self.v)?,
        );
        let (q, k, v): (&[T], &[T], &[T]) = (&q, &k, &v);
        let lengths = [q.len(), k.len(), v.len()];
        let wanted = [0, 1, 2].map(|i| into.wants(i));
        let mut outputs = [0, 1, 2].map(|i| Output::new(if wanted[i] { lengths[i] } else { 0 }));
        let to = [0, 1, 2].map(|i| wanted[i].then(|| outputs[i].ptr()));
        self.shape.for_each(5, |span, head| {
            self.shape
                .backward(span, head, [q, k, v], &self.log_sums, grad, to);
        });
        for (i, output) in outputs.into_iter().enumerate() {
            if wanted[i] {
                // SAFETY: every head of every span has been written.
                into.add(i, unsafe { output.finish() });
            }
        }
        Ok(())
    }
}

struct Heads {
    query_spans: Spans,
    key_spans: Spans,
    heads: usize,
    width: usize,
    level: Level,
}

impl Heads {
    /// Calls `f(span, head)` for all of them, in parallel if `products` matrix products per head are worth it.
    fn for_each(&self, products: usize, f: impl Fn(usize, usize) + Sync) {
        let units = self.query_spans.count() * self.heads;
        let scores: usize = self
            .query_spans
            .iter()
            .zip(self.key_spans.iter())
            .map(|(q, k)| q.len() * k.len())
            .sum();
        let operations = 2 * products * scores * self.width;
        let tasks = if operations < SERIAL_BELOW {
            1
        } else {
            units.min(16 * threads())
        };
        parallel(tasks, |task| {
            for unit in task * units / tasks..(task + 1) * units / tasks {
                f(unit / self.heads, unit % self.heads);
            }
        });
    }

    fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// The blocks of query rows of a span.
    fn blocks(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let blocks = rows.len().div_ceil(BLOCK);
        (0..blocks).map(move |i| {
            rows.start + i * rows.len() / blocks..rows.start + (i + 1) * rows.len() / blocks
        })
    }

    /// The product `c [m, n] (+)= scale · a b`, with rows of C and B as long as those of the packed tensors or `step`.
    ///
    /// # Safety
    /// As for [`Product::run`].
    unsafe fn multiply<T: Element>(
        &self,
        (m, n, k): (usize, usize, usize),
        a: Left<T>,
        b: Right<T>,
        to: Target<T>,
    ) {
        let mut product = Product::new(m, n, k, a, b, to.c);
        product.c_row = to.step;
        product.scale = T::from_f64(to.scale);
        if to.accumulate {
            (product.init, product.init_row) = (to.c.cast_const(), to.step);
        }
        // SAFETY: passed on.
        unsafe { product.whole(self.level) }
    }

    #[allow(clippy::too_many_arguments)]
    fn forward<T: Element>(
        &self,
        span: usize,
        head: usize,
        q: &[T],
        k: &[T],
        v: &[T],
        out: Shared<T>,
        log_sums: Shared<T>,
    ) {
        let (queries, keys, d) = (
            self.query_spans.span(span),
            self.key_spans.span(span),
            self.head_width(),
        );
        let (width, column, length) = (self.width, head * d, keys.len());
        let scale = 1.0 / (d as f64).sqrt();
        let step = length.next_multiple_of(16);
        let most = BLOCK.min(queries.len());
        with_scratch((d + most) * step, |scratch: *mut T| {
            // SAFETY: the scratch holds Kᵀ [d, step] and the scores [most, step]; the heads of a span own their columns.
            unsafe {
                let (keys_t, scores) = (scratch, scratch.add(d * step));
                transpose(
                    self.level,
                    &k[keys.start * width + column..],
                    length,
                    width,
                    d,
                    keys_t,
                    step,
                );
                let keys_t = Right::Rows {
                    ptr: keys_t.cast_const(),
                    step,
                };
                let values = Right::rows(&v[keys.start * width + column..], width);
                for rows in Self::blocks(queries) {
                    let block = Left::rows(&q[rows.start * width + column..], width);
                    let to = Target {
                        c: scores,
                        step,
                        scale,
                        accumulate: false,
                    };
                    self.multiply((rows.len(), length, d), block, keys_t, to);
                    let log_sums = log_sums.add(rows.start * self.heads + head);
                    let softmax = Softmax {
                        scores,
                        step,
                        rows: rows.len(),
                        length,
                        log_sums,
                        log_sums_step: self.heads,
                    };
                    T::run(self.level, softmax);
                    let probabilities = Left {
                        ptr: scores.cast_const(),
                        row: step,
                        step: 1,
                    };
                    let c = out.add(rows.start * width + column);
                    let to = Target {
                        c,
                        step: width,
                        scale: 1.0,
                        accumulate: false,
                    };
                    self.multiply((rows.len(), d, length), probabilities, values, to);
                }
            }
        });
    }

    fn backward<T: Element>(
        &self,
        span: usize,
        head: usize,
        [q, k, v]: [&[T]; 3],
        log_sums: &[T],
        grad: &[T],
        [dq, dk, dv]: [Option<Shared<T>>; 3],
    ) {
        let (queries, keys, d) = (
            self.query_spans.span(span),
            self.key_spans.span(span),
            self.head_width(),
        );
        let (width, column, length) = (self.width, head * d, keys.len());
        let scale = 1.0 / (d as f64).sqrt();
        let step = length.next_multiple_of(16);
        let most = BLOCK.min(queries.len());
        let first_block = queries.start;
        with_scratch((2 * d + 2 * most) * step, |scratch: *mut T| {
            // SAFETY: the scratch holds Kᵀ and Vᵀ [d, step], P and dS [most, step]; heads own their columns.
            unsafe {
                let (keys_t, values_t) = (scratch, scratch.add(d * step));
                let (p, ds) = (
                    scratch.add(2 * d * step),
                    scratch.add((2 * d + most) * step),
                );
                let key_rows = keys.start * width + column;
                transpose(self.level, &k[key_rows..], length, width, d, keys_t, step);
                transpose(self.level, &v[key_rows..], length, width, d, values_t, step);
                for rows in Self::blocks(queries) {
                    let at = rows.start * width + column;
                    let n = rows.len();
                    let to = |c, step, accumulate| Target {
                        c,
                        step,
                        scale: 1.0,
                        accumulate,
                    };
                    let (query, g) = (Left::rows(&q[at..], width), Left::rows(&grad[at..], width));
                    let keys_t = Right::Rows {
                        ptr: keys_t.cast_const(),
                        step,
                    };
                    let values_t = Right::Rows {
                        ptr: values_t.cast_const(),
                        step,
                    };
                    self.multiply(
                        (n, length, d),
                        query,
                        keys_t,
                        Target {
                            scale,
                            ..to(p, step, false)
                        },
                    );
                    self.multiply((n, length, d), g, values_t, to(ds, step, false));
                    let log_sums = log_sums[rows.start * self.heads + head..].as_ptr();
                    let softmax = SoftmaxBackward {
                        scores: p,
                        grads: ds,
                        step,
                        rows: n,
                        length,
                        log_sums,
                        log_sums_step: self.heads,
                        scale: T::from_f64(scale),
                    };
                    T::run(self.level, softmax);
                    let more = rows.start > first_block;
                    if let Some(dv) = dv {
                        let p = Left {
                            ptr: p.cast_const(),
                            row: 1,
                            step,
                        };
                        let g = Right::rows(&grad[at..], width);
                        self.multiply((length, d, n), p, g, to(dv.add(key_rows), width, more));
                    }
                    if let Some(dk) = dk {
                        let ds = Left {
                            ptr: ds.cast_const(),
                            row: 1,
                            step,
                        };
                        let query = Right::rows(&q[at..], width);
                        self.multiply((length, d, n), ds, query, to(dk.add(key_rows), width, more));
                    }
                    if let Some(dq) = dq {
                        let ds = Left {
                            ptr: ds.cast_const(),
                            row: step,
                            step: 1,
                        };
                        let key = Right::rows(&k[key_rows..], width);
                        self.multiply((n, d, length), ds, key, to(dq.add(at), width, false));
                    }
                }
            }
        });
    }
}

/// Where a product goes.
struct Target<T> {
    c: *mut T,
    step: usize,
    scale: f64,
    accumulate: bool,
}

/// Rows of scores to rows of probabilities, in place, and `log Σ e^s` of each.
struct Softmax<T> {
    scores: *mut T,
    step: usize,
    rows: usize,
    length: usize,
    log_sums: *mut T,
    log_sums_step: usize,
}

impl<T: Element> Kernel<T> for Softmax<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        // SAFETY: the maker of the kernel promises the rows at each pointer.
        unsafe {
            for row in 0..self.rows {
                let scores = self.scores.add(row * self.step);
                let most = largest::<V>(scores, self.length);
                let mut sums = V::splat(T::default());
                for i in (0..self.length).step_by(V::LANES) {
                    let n = self.length - i;
                    let e = load::<V>(scores.add(i), n).sub(V::splat(most)).exp();
                    store(e, scores.add(i), n);
                    let e = if n < V::LANES {
                        load(scores.add(i), n)
                    } else {
                        e
                    };
                    sums = sums.add(e);
                }
                let sum = sums.sum();
                let share = V::splat(T::from_f64(1.0) / sum);
                for i in (0..self.length).step_by(V::LANES) {
                    let n = self.length - i;
                    store(load::<V>(scores.add(i), n).mul(share), scores.add(i), n);
                }
                *self.log_sums.add(row * self.log_sums_step) =
                    T::from_f64(most.to_f64() + sum.to_f64().ln());
            }
        }
    }
}

/// The largest of `length` values.
/// # Safety
/// They can be read at `p`.
#[inline(always)]
unsafe fn largest<V: Vector>(p: *const V::Scalar, length: usize) -> V::Scalar {
    // SAFETY: passed on; the last vector ends with the last value.
    unsafe {
        let mut most = V::splat(*p);
        if length < V::LANES {
            for i in 1..length {
                most = most.max(V::splat(*p.add(i)));
            }
        } else {
            for i in (0..length).step_by(V::LANES) {
                most = most.max(V::load(p.add(i.min(length - V::LANES))));
            }
        }
        most.largest()
    }
}

/// Scores to probabilities `P`, and `dP` to `dS = scale · P ∘ (dP − rowsum(P ∘ dP))`, both in place.
struct SoftmaxBackward<T> {
    scores: *mut T,
    grads: *mut T,
    step: usize,
    rows: usize,
    length: usize,
    log_sums: *const T,
    log_sums_step: usize,
    scale: T,
}

impl<T: Element> Kernel<T> for SoftmaxBackward<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        // SAFETY: the maker of the kernel promises the rows at each pointer.
        unsafe {
            for row in 0..self.rows {
                let (p, grads) = (
                    self.scores.add(row * self.step),
                    self.grads.add(row * self.step),
                );
                let log_sum = V::splat(*self.log_sums.add(row * self.log_sums_step));
                let mut sum = V::splat(T::default());
                for i in (0..self.length).step_by(V::LANES) {
                    let n = self.length - i;
                    let e = load::<V>(p.add(i), n).sub(log_sum).exp();
                    store(e, p.add(i), n);
                    // Lanes past the end: the gradient is zero there.
                    sum = e.fma(load(grads.add(i), n), sum);
                }
                let sum = V::splat(sum.sum());
                for i in (0..self.length).step_by(V::LANES) {
                    let n = self.length - i;
                    let ds = load::<V>(grads.add(i), n)
                        .sub(sum)
                        .mul(load::<V>(p.add(i), n))
                        .mul(V::splat(self.scale));
                    store(ds, grads.add(i), n);
                }
            }
        }
    }
}
