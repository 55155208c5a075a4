//! The row ops as copies and sums of slices.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::Spans;
use crate::element::Element;
use crate::memory::Output;
use crate::tape::{Gradients, Node, record, view};
use crate::threads::parallel_ranges;

pub(super) fn select_rows<T: Element>(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (table_rows, width) = x.dims2()?;
    let mut out = Vec::with_capacity(rows.len() * width);
    {
        let x = view::<T>(&x)?;
        for &row in rows {
            out.extend_from_slice(&x[row as usize * width..][..width]);
        }
    }
    let node = Selected {
        rows: if x.track_op() {
            rows.to_vec()
        } else {
            Vec::new()
        },
        table_rows,
        width,
    };
    record(&[&x], out, (rows.len(), width), node)
}

struct Selected {
    rows: Vec<u32>,
    table_rows: usize,
    width: usize,
}

impl<T: Element> Node<T> for Selected {
    fn name(&self) -> &'static str {
        "select-rows"
    }
    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let mut table = vec![T::default(); self.table_rows * self.width];
        for (&row, grad) in self.rows.iter().zip(grad.chunks_exact(self.width)) {
            add_row(&mut table[row as usize * self.width..][..self.width], grad);
        }
        into.add(0, table);
        Ok(())
    }
}

fn add_row<T: Element>(to: &mut [T], row: &[T]) {
    to.iter_mut().zip(row).for_each(|(to, &x)| *to += x);
}

pub(super) fn prepend_rows<T: Element>(
    prefix: &Tensor,
    x: &Tensor,
    spans: &Spans,
) -> Result<Tensor> {
    let (prefix, x) = (prefix.contiguous()?, x.contiguous()?);
    let (added, width) = prefix.dims2()?;
    let rows = spans.rows() + spans.count() * added;
    let mut out = Vec::with_capacity(rows * width);
    {
        let (prefix, x) = (view::<T>(&prefix)?, view::<T>(&x)?);
        for span in spans.iter() {
            out.extend_from_slice(&prefix);
            out.extend_from_slice(&x[span.start * width..span.end * width]);
        }
    }
    record(
        &[&prefix, &x],
        out,
        (rows, width),
        Prepended {
            spans: spans.clone(),
            added,
            width,
        },
    )
}

struct Prepended {
    spans: Spans,
    added: usize,
    width: usize,
}

impl<T: Element> Node<T> for Prepended {
    fn name(&self) -> &'static str {
        "prepend-rows"
    }
    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let parts = |i: usize| {
            let span = self.spans.span(i);
            let start = (span.start + i * self.added) * self.width;
            let (prefix, rest) = grad[start..].split_at(self.added * self.width);
            (prefix, &rest[..span.len() * self.width])
        };
        if into.wants(0) {
            let mut prefix = vec![T::default(); self.added * self.width];
            (0..self.spans.count()).for_each(|i| add_row(&mut prefix, parts(i).0));
            into.add(0, prefix);
        }
        if into.wants(1) {
            let mut x = Vec::with_capacity(self.spans.rows() * self.width);
            (0..self.spans.count()).for_each(|i| x.extend_from_slice(parts(i).1));
            into.add(1, x);
        }
        Ok(())
    }
}

pub(super) fn mean_spans<T: Element>(x: &Tensor, spans: &Spans, skip: usize) -> Result<Tensor> {
    let x = x.contiguous()?;
    let width = x.dims2()?.1;
    let mut out = Output::new(spans.count() * width);
    {
        let (to, x) = (out.ptr(), view::<T>(&x)?);
        let x: &[T] = &x;
        parallel_ranges(spans.count(), 8, |range| {
            for i in range {
                let rows = spans.span(i).start + skip..spans.span(i).end;
                let share = T::from_f64(1.0 / rows.len() as f64);
                let mut mean = vec![T::default(); width];
                rows.for_each(|row| add_row(&mut mean, &x[row * width..][..width]));
                for (j, &sum) in mean.iter().enumerate() {
                    // SAFETY: each span has its own row of the result.
                    unsafe { *to.add(i * width + j) = sum * share }
                }
            }
        });
    }
    // SAFETY: the row of every span has been written.
    let out = unsafe { out.finish() };
    record(
        &[&x],
        out,
        (spans.count(), width),
        Averaged {
            spans: spans.clone(),
            skip,
            width,
        },
    )
}

struct Averaged {
    spans: Spans,
    skip: usize,
    width: usize,
}

impl<T: Element> Node<T> for Averaged {
    fn name(&self) -> &'static str {
        "mean-spans"
    }
    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let mut x = Vec::with_capacity(self.spans.rows() * self.width);
        for (span, grad) in self.spans.iter().zip(grad.chunks_exact(self.width)) {
            x.resize(x.len() + self.skip * self.width, T::default());
            let share = T::from_f64(1.0 / (span.len() - self.skip) as f64);
            for _ in self.skip..span.len() {
                x.extend(grad.iter().map(|&g| g * share));
            }
        }
        into.add(0, x);
        Ok(())
    }
}
