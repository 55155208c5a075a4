//! Span attention whose scores stay in the cache: per span and head, a block of query rows at a time, with the keys
//! that any of them sees.
//!
//! The backward makes the probabilities again from the scores and each row's `log Σ e^s`, which is all that is kept.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::Attention;
use crate::Spans;
use crate::element::Element;
use crate::gemm::{Left, Product, Right, transpose};
use crate::memory::{Output, with_scratch};
use crate::simd::{Kernel, Level, Vector, level, load, store};
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
    attention: Attention,
) -> Result<Tensor> {
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let (rows, width) = q.dims2()?;
    let heads = attention.heads;
    let keep = tracked(&[&q, &k, &v]);
    let shape = Heads {
        query_spans: query_spans.clone(),
        key_spans: key_spans.clone(),
        attention,
        group: heads / attention.key_value_heads,
        head_width: width / heads,
        level: level(),
    };
    let (mut out, mut log_sums) = (Output::new(rows * width), Output::new(rows * heads));
    {
        let (q, k, v) = (view::<T>(&q)?, view::<T>(&k)?, view::<T>(&v)?);
        let (q, k, v): (&[T], &[T], &[T]) = (&q, &k, &v);
        let (out, log_sums) = (out.ptr(), log_sums.ptr());
        shape.for_each(2, 4 * threads(), |span, head, part| {
            shape.forward(span, head, part, [q, k, v], out, log_sums)
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
        // Whole heads of keys: the sums in their gradients have one order.
        self.shape.for_each(5, 1, |span, head, _| {
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
    attention: Attention,
    /// Query heads that read one head of keys and values.
    group: usize,
    /// d
    head_width: usize,
    level: Level,
}

impl Heads {
    /// Calls `f(span, head of keys, (part, parts))` for all of them, in parallel if `products` matrix products per head
    /// are worth it; in at least `least` calls, if the queries are long enough: each call transposes the keys that it reads.
    fn for_each(
        &self,
        products: usize,
        least: usize,
        f: impl Fn(usize, usize, (usize, usize)) + Sync,
    ) {
        let heads = self.attention.key_value_heads;
        let units = self.query_spans.count() * heads;
        let scores: usize = self
            .query_spans
            .iter()
            .zip(self.key_spans.iter())
            .map(|(q, k)| q.len() * k.len())
            .sum();
        let operations = 2 * products * scores * self.width();
        let serial = operations < SERIAL_BELOW || threads() == 1;
        let longest = self.query_spans.iter().map(|q| q.len()).max().unwrap_or(1);
        let parts = if serial {
            1
        } else {
            least.div_ceil(units).min(longest.div_ceil(BLOCK))
        };
        let calls = units * parts;
        let tasks = if serial { 1 } else { calls.min(16 * threads()) };
        parallel(tasks, |task| {
            for call in task * calls / tasks..(task + 1) * calls / tasks {
                let (unit, part) = (call / parts, call % parts);
                f(unit / heads, unit % heads, (part, parts));
            }
        });
    }

    /// The length of a row of queries.
    fn width(&self) -> usize {
        self.attention.heads * self.head_width
    }

    /// The length of a row of keys.
    fn key_width(&self) -> usize {
        self.attention.key_value_heads * self.head_width
    }

    /// How many blocks of query rows read one head of the keys of a span: for each head of queries that does, so many that
    /// none is longer than [`BLOCK`].
    fn blocks(&self, queries: &Range<usize>) -> usize {
        self.group * queries.len().div_ceil(BLOCK)
    }

    /// Block `i` of those that read `head` of the keys: its head of queries, and its rows.
    fn block(&self, queries: &Range<usize>, head: usize, i: usize) -> (usize, Range<usize>) {
        let (start, n) = (queries.start, queries.len());
        let of_head = n.div_ceil(BLOCK);
        let (head, i) = (head * self.group + i / of_head, i % of_head);
        (head, start + i * n / of_head..start + (i + 1) * n / of_head)
    }

    /// The keys that any of some query rows sees, counted from the start of the span.
    fn seen(&self, span: usize, rows: &Range<usize>) -> Range<usize> {
        let (queries, keys) = (self.query_spans.span(span), self.key_spans.span(span));
        let of = |row: usize| {
            self.attention
                .seen(row - queries.start, queries.len(), keys.len())
        };
        of(rows.start).start..of(rows.end - 1).end
    }

    /// What each of some rows sees, within `seen`.
    fn view(&self, span: usize, rows: &Range<usize>, seen: &Range<usize>) -> RowView {
        let (queries, keys) = (self.query_spans.span(span), self.key_spans.span(span));
        RowView {
            attention: self.attention,
            first: rows.start - queries.start,
            queries: queries.len(),
            keys: keys.len(),
            seen: seen.clone(),
        }
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

    /// A part of the blocks of the query heads that read `head` of the keys.
    fn forward<T: Element>(
        &self,
        span: usize,
        head: usize,
        (part, parts): (usize, usize),
        [q, k, v]: [&[T]; 3],
        out: Shared<T>,
        log_sums: Shared<T>,
    ) {
        let (queries, keys, d) = (
            self.query_spans.span(span),
            self.key_spans.span(span),
            self.head_width,
        );
        let (width, key_width, heads) = (self.width(), self.key_width(), self.attention.heads);
        let scale = 1.0 / (d as f64).sqrt();
        let most = BLOCK.min(queries.len());
        let blocks = self.blocks(&queries);
        let blocks = (part * blocks / parts..(part + 1) * blocks / parts)
            .map(|i| self.block(&queries, head, i));
        let seen = blocks.clone().map(|(_, rows)| self.seen(span, &rows));
        let Some(used) = seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)) else {
            return;
        };
        let step = used.len().next_multiple_of(16);
        with_scratch((d + most) * step, |scratch: *mut T| {
            // SAFETY: the scratch holds Kᵀ [d, step] and the scores [most, step]; the heads of a span own their columns, and
            // parts own their rows.
            unsafe {
                let (keys_t, scores) = (scratch, scratch.add(d * step));
                transpose(
                    self.level,
                    &k[(keys.start + used.start) * key_width + head * d..],
                    used.len(),
                    key_width,
                    d,
                    keys_t,
                    step,
                );
                for (head_of_queries, rows) in blocks.clone() {
                    let column = head_of_queries * d;
                    let seen = self.seen(span, &rows);
                    let keys_t = Right::Rows {
                        ptr: keys_t.add(seen.start - used.start).cast_const(),
                        step,
                    };
                    let values = &v[(keys.start + seen.start) * key_width + head * d..];
                    let block = Left::rows(&q[rows.start * width + column..], width);
                    let to = Target {
                        c: scores,
                        step,
                        scale,
                        accumulate: false,
                    };
                    self.multiply((rows.len(), seen.len(), d), block, keys_t, to);
                    let softmax = Softmax {
                        scores,
                        step,
                        rows: rows.len(),
                        view: self.view(span, &rows, &seen),
                        log_sums: log_sums.add(rows.start * heads + head_of_queries),
                        log_sums_step: heads,
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
                    let values = Right::rows(values, key_width);
                    self.multiply((rows.len(), d, seen.len()), probabilities, values, to);
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
            self.head_width,
        );
        let (width, key_width, heads) = (self.width(), self.key_width(), self.attention.heads);
        let length = keys.len();
        let scale = 1.0 / (d as f64).sqrt();
        let step = length.next_multiple_of(16);
        let most = BLOCK.min(queries.len());
        // Where blocks see different keys, they add to zeros.
        if self.attention.hides() {
            for to in [dk, dv].into_iter().flatten() {
                for row in keys.clone() {
                    // SAFETY: the heads of a span own their columns.
                    unsafe { to.add(row * key_width + head * d).write_bytes(0, d) }
                }
            }
        }
        with_scratch((2 * d + 2 * most) * step, |scratch: *mut T| {
            // SAFETY: the scratch holds Kᵀ and Vᵀ [d, step], P and dS [most, step]; heads own their columns.
            unsafe {
                let (keys_t, values_t) = (scratch, scratch.add(d * step));
                let (p, ds) = (
                    scratch.add(2 * d * step),
                    scratch.add((2 * d + most) * step),
                );
                let from = keys.start * key_width + head * d;
                transpose(self.level, &k[from..], length, key_width, d, keys_t, step);
                transpose(self.level, &v[from..], length, key_width, d, values_t, step);
                for i in 0..self.blocks(&queries) {
                    let (head_of_queries, rows) = self.block(&queries, head, i);
                    let at = rows.start * width + head_of_queries * d;
                    let n = rows.len();
                    let seen = self.seen(span, &rows);
                    let m = seen.len();
                    let key_rows = (keys.start + seen.start) * key_width + head * d;
                    let to = |c, step, accumulate| Target {
                        c,
                        step,
                        scale: 1.0,
                        accumulate,
                    };
                    let (query, g) = (Left::rows(&q[at..], width), Left::rows(&grad[at..], width));
                    let keys_t = Right::Rows {
                        ptr: keys_t.add(seen.start).cast_const(),
                        step,
                    };
                    let values_t = Right::Rows {
                        ptr: values_t.add(seen.start).cast_const(),
                        step,
                    };
                    self.multiply(
                        (n, m, d),
                        query,
                        keys_t,
                        Target {
                            scale,
                            ..to(p, step, false)
                        },
                    );
                    self.multiply((n, m, d), g, values_t, to(ds, step, false));
                    let softmax = SoftmaxBackward {
                        scores: p,
                        grads: ds,
                        step,
                        rows: n,
                        view: self.view(span, &rows, &seen),
                        log_sums: log_sums[rows.start * heads + head_of_queries..].as_ptr(),
                        log_sums_step: heads,
                        scale: T::from_f64(scale),
                    };
                    T::run(self.level, softmax);
                    let more = i > 0;
                    if let Some(dv) = dv {
                        let p = Left {
                            ptr: p.cast_const(),
                            row: 1,
                            step,
                        };
                        let g = Right::rows(&grad[at..], width);
                        self.multiply((m, d, n), p, g, to(dv.add(key_rows), key_width, more));
                    }
                    if let Some(dk) = dk {
                        let ds = Left {
                            ptr: ds.cast_const(),
                            row: 1,
                            step,
                        };
                        let query = Right::rows(&q[at..], width);
                        self.multiply((m, d, n), ds, query, to(dk.add(key_rows), key_width, more));
                    }
                    if let Some(dq) = dq {
                        let ds = Left {
                            ptr: ds.cast_const(),
                            row: step,
                            step: 1,
                        };
                        let key = Right::rows(&k[key_rows..], key_width);
                        self.multiply((n, d, m), ds, key, to(dq.add(at), width, false));
                    }
                }
            }
        });
    }
}

/// The keys that the rows of a block see.
struct RowView {
    attention: Attention,
    /// The first row's number in its span.
    first: usize,
    queries: usize,
    keys: usize,
    /// The keys that there are scores for.
    seen: Range<usize>,
}

impl RowView {
    /// What row `i` of the block sees, counted from the first score.
    #[inline(always)]
    fn row(&self, i: usize) -> Range<usize> {
        let row = self.attention.seen(self.first + i, self.queries, self.keys);
        row.start - self.seen.start..row.end - self.seen.start
    }

    /// Sets the values of a row outside `inside` to zero.
    /// # Safety
    /// As many values as there are scores in a row can be written at `row`.
    #[inline(always)]
    unsafe fn hide<T>(&self, row: *mut T, inside: &Range<usize>) {
        // SAFETY: passed on; zero bytes are the number zero.
        unsafe {
            row.write_bytes(0, inside.start);
            row.add(inside.end)
                .write_bytes(0, self.seen.len() - inside.end);
        }
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
    view: RowView,
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
                let inside = self.view.row(row);
                self.view.hide(self.scores.add(row * self.step), &inside);
                let scores = self.scores.add(row * self.step + inside.start);
                let length = inside.len();
                let most = largest::<V>(scores, length);
                let mut sums = V::splat(T::default());
                for i in (0..length).step_by(V::LANES) {
                    let n = length - i;
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
                for i in (0..length).step_by(V::LANES) {
                    let n = length - i;
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
    view: RowView,
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
                let inside = self.view.row(row);
                for scores in [self.scores, self.grads] {
                    self.view.hide(scores.add(row * self.step), &inside);
                }
                let at = row * self.step + inside.start;
                let (p, grads, length) = (self.scores.add(at), self.grads.add(at), inside.len());
                let log_sum = V::splat(*self.log_sums.add(row * self.log_sums_step));
                let mut sum = V::splat(T::default());
                for i in (0..length).step_by(V::LANES) {
                    let n = length - i;
                    let e = load::<V>(p.add(i), n).sub(log_sum).exp();
                    store(e, p.add(i), n);
                    // Lanes past the end: the gradient is zero there.
                    sum = e.fma(load(grads.add(i), n), sum);
                }
                let sum = V::splat(sum.sum());
                for i in (0..length).step_by(V::LANES) {
                    let n = length - i;
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
