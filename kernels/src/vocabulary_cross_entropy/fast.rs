//! Words by rows: the table is read where it lies, by every block of rows once, and never copied.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::element::Element;
use crate::gemm::{Left, Product, Right, transpose};
use crate::memory::{Aligned, Output, with_scratch};
use crate::simd::{Kernel, Level, Vector, level};
use crate::tape::{Gradients, Node, record, tracked, view};
use crate::threads::{Shared, parallel};

/// Rows that pass over the vocabulary together.
const ROWS: usize = 64;
/// Words whose logits are held at a time.
const WORDS: usize = 512;
/// Parts of the vocabulary that have sums of their own. Fixed, so that the sums have one order.
const PARTS: usize = 32;
/// Rows are padded to whole vectors of any level.
const LANES: usize = 16;

pub(super) fn vocabulary_cross_entropy<T: Element>(
    hidden: &Tensor,
    table: &Tensor,
    labels: &[u32],
) -> Result<Tensor> {
    let (hidden, table) = (hidden.contiguous()?, table.contiguous()?);
    let (rows, width) = hidden.dims2()?;
    let recorded = tracked(&[&hidden, &table]);
    let (towards_hidden, towards_table) =
        (recorded && hidden.track_op(), recorded && table.track_op());
    let mut slopes = vec![T::default(); if towards_hidden { rows * width } else { 0 }];
    let mut log_sums = Vec::with_capacity(rows);
    let mut loss = 0.0;
    {
        let (hidden, table) = (view::<T>(&hidden)?, view::<T>(&table)?);
        let table = Table {
            words: table.len() / width,
            data: &table,
            width,
            level: level(),
        };
        for start in (0..rows).step_by(ROWS) {
            let labels = &labels[start..rows.min(start + ROWS)];
            let rows = start * width..(start + labels.len()) * width;
            let block = Block::new(table.level, &hidden[rows.clone()], width);
            let slopes = towards_hidden.then(|| &mut slopes[rows]);
            loss += table.pass(&block, labels, slopes, &mut log_sums);
        }
    }
    let share = T::from_f64(1.0 / rows as f64);
    slopes.iter_mut().for_each(|slope| *slope *= share);
    let node = Entropy {
        slopes,
        kept: towards_table.then(|| Kept {
            hidden: hidden.detach(),
            table: table.detach(),
            labels: labels.to_vec(),
            log_sums,
        }),
    };
    let loss = vec![T::from_f64(loss / rows as f64)];
    record(&[&hidden, &table], loss, (), node)
}

struct Entropy<T> {
    /// `(P − Y) t / M`, if the rows are trained.
    slopes: Vec<T>,
    /// What the gradient of a trained table needs.
    kept: Option<Kept<T>>,
}

struct Kept<T> {
    hidden: Tensor,
    table: Tensor,
    labels: Vec<u32>,
    /// `log Σ_v e^{h·t_v}` of each row.
    log_sums: Vec<T>,
}

impl<T: Element> Node<T> for Entropy<T> {
    fn name(&self) -> &'static str {
        "vocabulary-cross-entropy"
    }

    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        if into.wants(0) {
            let scaled = self.slopes.iter().map(|&slope| slope * grad[0]);
            into.add(0, scaled.collect());
        }
        if let (true, Some(kept)) = (into.wants(1), &self.kept) {
            into.add(1, kept.table_gradient(grad[0])?);
        }
        Ok(())
    }
}

impl<T: Element> Kept<T> {
    fn table_gradient(&self, grad: T) -> Result<Vec<T>> {
        let (rows, width) = self.hidden.dims2()?;
        let (hidden, data) = (view::<T>(&self.hidden)?, view::<T>(&self.table)?);
        let table = Table {
            words: data.len() / width,
            data: &data,
            width,
            level: level(),
        };
        let blocks: Vec<(Block<T>, Vec<T>, Range<usize>)> = (0..rows)
            .step_by(ROWS)
            .map(|start| {
                let rows = start..rows.min(start + ROWS);
                let block = Block::new(
                    table.level,
                    &hidden[rows.start * width..rows.end * width],
                    width,
                );
                let mut log_sums = self.log_sums[rows.clone()].to_vec();
                log_sums.resize(block.padded, T::default());
                (block, log_sums, rows)
            })
            .collect();
        let hidden: &[T] = &hidden;
        let mut out = Output::new(data.len());
        let to = out.ptr();
        parallel(table.words.div_ceil(WORDS), |task| {
            let words = task * WORDS..table.words.min((task + 1) * WORDS);
            let c = Shared(
                // SAFETY: every task has its own rows of the result.
                unsafe { to.add(words.start * width) },
            );
            for (i, (block, log_sums, rows)) in blocks.iter().enumerate() {
                with_scratch(WORDS * block.padded, |logits: *mut T| {
                    // SAFETY: the scratch has room for the logits of these words and rows.
                    unsafe {
                        table.logits(block, words.clone(), logits);
                        let kernel = Probabilities {
                            logits,
                            words: words.len(),
                            rows: block.padded,
                            log_sums: log_sums.as_ptr(),
                        };
                        T::run(table.level, kernel);
                        for (row, &label) in self.labels[rows.clone()].iter().enumerate() {
                            if words.contains(&(label as usize)) {
                                let word = label as usize - words.start;
                                *logits.add(word * block.padded + row) -= T::from_f64(1.0);
                            }
                        }
                        let left = Left {
                            ptr: logits.cast_const(),
                            row: block.padded,
                            step: 1,
                        };
                        let right = Right::<T>::rows(&hidden[rows.start * width..], width);
                        let mut product =
                            Product::new(words.len(), width, rows.len(), left, right, c.0);
                        product.scale = grad * T::from_f64(1.0 / self.labels.len() as f64);
                        if i > 0 {
                            (product.init, product.init_row) = (c.0.cast_const(), width);
                        }
                        product.whole(table.level);
                    }
                });
            }
        });
        // SAFETY: the rows of all words have been written.
        Ok(unsafe { out.finish() })
    }
}

/// Some rows, transposed: `[H, padded]`, zeros in the padding.
struct Block<T> {
    transposed: Aligned<T>,
    rows: usize,
    padded: usize,
}

impl<T: Element> Block<T> {
    fn new(level: Level, hidden: &[T], width: usize) -> Self {
        let rows = hidden.len() / width;
        let padded = rows.next_multiple_of(LANES);
        let mut transposed = Aligned::zeros(width * padded);
        // SAFETY: the transpose has `width` rows of `padded` values.
        unsafe {
            transpose(
                level,
                hidden,
                rows,
                width,
                width,
                transposed.as_mut_ptr(),
                padded,
            )
        }
        Self {
            transposed,
            rows,
            padded,
        }
    }
}

struct Table<'a, T> {
    data: &'a [T],
    words: usize,
    width: usize,
    level: Level,
}

impl<T: Element> Table<'_, T> {
    /// The logits of some words for the rows of a block: `[words, padded]`.
    /// # Safety
    /// They can be written at `to`.
    unsafe fn logits(&self, block: &Block<T>, words: Range<usize>, to: *mut T) {
        let left = Left::rows(&self.data[words.start * self.width..], self.width);
        let right = Right::Rows {
            ptr: block.transposed.as_ptr(),
            step: block.padded,
        };
        // SAFETY: the operands are as large as said; the caller's promise.
        unsafe {
            Product::new(words.len(), block.padded, self.width, left, right, to).whole(self.level)
        }
    }

    /// The sum of the rows' losses; their log-sums go to the end of `log_sums`, `(P − Y) t` to `slopes`.
    fn pass(
        &self,
        block: &Block<T>,
        labels: &[u32],
        slopes: Option<&mut [T]>,
        log_sums: &mut Vec<T>,
    ) -> f64 {
        let (width, padded) = (self.width, block.padded);
        let parts = PARTS.min(self.words.div_ceil(WORDS));
        let keep = slopes.is_some();
        // By part: the largest logit and Σ e^{z − largest} of each row, and, if kept, Σ e^{z − largest} t.
        let mut largest = vec![T::from_f64(f64::NEG_INFINITY); parts * padded];
        let mut sums = vec![T::default(); parts * padded];
        let mut weighted = vec![T::default(); if keep { parts * block.rows * width } else { 0 }];
        let mut label_logits = vec![T::default(); block.rows];
        {
            let (largest, sums) = (Shared(largest.as_mut_ptr()), Shared(sums.as_mut_ptr()));
            let weighted = Shared(weighted.as_mut_ptr());
            let label_logits = Shared(label_logits.as_mut_ptr());
            parallel(parts, |part| {
                let of_part = part * self.words / parts..(part + 1) * self.words / parts;
                with_scratch((WORDS + 1) * padded, |scratch: *mut T| {
                    for start in of_part.clone().step_by(WORDS) {
                        let words = start..of_part.end.min(start + WORDS);
                        // SAFETY: the scratch has room for the logits of these words and a factor per row; every part has its
                        // own sums, and every label is in one part.
                        unsafe {
                            let (factors, logits) = (scratch, scratch.add(padded));
                            self.logits(block, words.clone(), logits);
                            for (row, &label) in labels.iter().enumerate() {
                                if words.contains(&(label as usize)) {
                                    let word = label as usize - words.start;
                                    *label_logits.add(row) = *logits.add(word * padded + row);
                                }
                            }
                            let running = Running {
                                logits,
                                words: words.len(),
                                rows: padded,
                                largest: largest.add(part * padded),
                                sums: sums.add(part * padded),
                                factors,
                            };
                            T::run(self.level, running);
                            if keep {
                                let to = weighted.add(part * block.rows * width);
                                let rescale = Rescale {
                                    to,
                                    factors,
                                    rows: block.rows,
                                    width,
                                };
                                if start > of_part.start {
                                    T::run(self.level, rescale);
                                }
                                let left = Left {
                                    ptr: logits.cast_const(),
                                    row: 1,
                                    step: padded,
                                };
                                let right = Right::rows(&self.data[start * width..], width);
                                let mut product =
                                    Product::new(block.rows, width, words.len(), left, right, to);
                                (product.init, product.init_row) = (to.cast_const(), width);
                                product.whole(self.level);
                            }
                        }
                    }
                });
            });
        }
        let mut loss = 0.0;
        let at = |part: usize, row: usize| part * padded + row;
        for row in 0..block.rows {
            let most = (0..parts).fold(f64::NEG_INFINITY, |most, part| {
                most.max(largest[at(part, row)].to_f64())
            });
            let sum: f64 = (0..parts)
                .map(|part| {
                    let share = (largest[at(part, row)].to_f64() - most).exp();
                    share * sums[at(part, row)].to_f64()
                })
                .sum();
            let log_sum = most + sum.ln();
            loss += log_sum - label_logits[row].to_f64();
            log_sums.push(T::from_f64(log_sum));
            // The sums now hold each part's weight in the row's gradient.
            for part in 0..parts {
                let weight = (largest[at(part, row)].to_f64() - log_sum).exp();
                sums[at(part, row)] = T::from_f64(weight);
            }
        }
        if let Some(slopes) = slopes {
            let to = Shared(slopes.as_mut_ptr());
            parallel(block.rows, |row| {
                // SAFETY: every row has its own place.
                let slope = unsafe { std::slice::from_raw_parts_mut(to.add(row * width), width) };
                let label = labels[row] as usize;
                let word = &self.data[label * width..][..width];
                slope
                    .iter_mut()
                    .zip(word)
                    .for_each(|(slope, &t)| *slope -= t);
                for part in 0..parts {
                    let weight = sums[at(part, row)];
                    let sum = &weighted[(part * block.rows + row) * width..][..width];
                    slope
                        .iter_mut()
                        .zip(sum)
                        .for_each(|(slope, &x)| *slope += weight * x);
                }
            });
        }
        loss
    }
}

/// Takes the logits of some more words into each row's largest logit and sum; they become `e^{z − largest}`. A factor per
/// row says by how much earlier sums shrink.
struct Running<T> {
    /// `[words, rows]`; the rows are whole vectors.
    logits: *mut T,
    words: usize,
    rows: usize,
    largest: *mut T,
    sums: *mut T,
    factors: *mut T,
}

impl<T: Element> Kernel<T> for Running<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        // SAFETY: the maker of the kernel promises the values at each pointer.
        unsafe {
            for row in (0..self.rows).step_by(V::LANES) {
                let before = V::load(self.largest.add(row));
                let mut largest = before;
                for word in 0..self.words {
                    largest = largest.max(V::load(self.logits.add(word * self.rows + row)));
                }
                let factor = before.sub(largest).exp();
                let mut sum = V::load(self.sums.add(row)).mul(factor);
                for word in 0..self.words {
                    let at = self.logits.add(word * self.rows + row);
                    let e = V::load(at).sub(largest).exp();
                    e.store(at);
                    sum = sum.add(e);
                }
                largest.store(self.largest.add(row));
                sum.store(self.sums.add(row));
                factor.store(self.factors.add(row));
            }
        }
    }
}

/// Multiplies each of `rows` rows by its factor.
struct Rescale<T> {
    to: *mut T,
    factors: *const T,
    rows: usize,
    width: usize,
}

impl<T: Element> Kernel<T> for Rescale<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        // SAFETY: the maker of the kernel promises the values at each pointer.
        unsafe {
            for row in 0..self.rows {
                let factor = V::splat(*self.factors.add(row));
                for i in (0..self.width).step_by(V::LANES) {
                    let (at, n) = (self.to.add(row * self.width + i), self.width - i);
                    let scaled = crate::simd::load::<V>(at, n).mul(factor);
                    crate::simd::store(scaled, at, n);
                }
            }
        }
    }
}

/// Logits to `e^{z − log Σ e^z}`.
struct Probabilities<T> {
    /// `[words, rows]`; the rows are whole vectors.
    logits: *mut T,
    words: usize,
    rows: usize,
    log_sums: *const T,
}

impl<T: Element> Kernel<T> for Probabilities<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        // SAFETY: the maker of the kernel promises the values at each pointer.
        unsafe {
            for word in 0..self.words {
                for row in (0..self.rows).step_by(V::LANES) {
                    let at = self.logits.add(word * self.rows + row);
                    let log_sums = V::load(self.log_sums.add(row));
                    V::load(at).sub(log_sums).exp().store(at);
                }
            }
        }
    }
}
