//! Logistic regression, solved to convergence.
//!
//! Minimises `mean loss + |w|² / (2 c n)` over n examples, which is scikit-learn's `LogisticRegression(C = c)` divided by c n; the bias is
//! not penalised. Two classes have one vector w (logits 0 and w x + b), more have one each (softmax). The problem is convex; it is solved
//! by L-BFGS (Liu and Nocedal 1989) in f64 until no component of the gradient is above 1e-7.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

use rayon::prelude::*;

/// Largest component of the gradient at the end.
const TOLERANCE: f64 = 1e-7;
/// Iterations at most.
const MOST: usize = 5_000;
/// Steps that L-BFGS remembers.
const MEMORY: usize = 10;
/// Examples whose gradient is one sum; fixed, so that the bits do not depend on the number of threads.
const CHUNK: usize = 256;

/// What is solved.
pub struct Problem<'a> {
    /// Vectors of the examples, one after the other, `hidden` numbers each.
    pub features: &'a [f32],
    /// Their length.
    pub hidden: usize,
    /// Label of each example, below `classes`.
    pub labels: &'a [u32],
    /// Number of classes, at least two.
    pub classes: usize,
    /// Inverse strength of the penalty.
    pub c: f64,
}

/// The optimum.
pub struct Solution {
    /// Weights `[classes, hidden]`.
    pub weight: Vec<f64>,
    /// Biases `[classes]`.
    pub bias: Vec<f64>,
    /// What is minimised, after each iteration.
    pub values: Vec<f64>,
    /// Whether the gradient vanished.
    pub converged: bool,
}

impl Problem<'_> {
    /// Number of vectors w.
    fn vectors(&self) -> usize {
        match self.classes {
            2 => 1,
            classes => classes,
        }
    }

    /// The value and its gradient at w (all vectors, then all biases).
    fn at(&self, w: &[f64]) -> (f64, Vec<f64>) {
        let (h, k, n) = (self.hidden, self.vectors(), self.labels.len());
        let (weight, bias) = w.split_at(k * h);
        let first_class = self.classes - k;
        let part = |(rows, labels): (&[f32], &[u32])| {
            let (mut loss, mut gradient) = (0.0, vec![0.0; w.len()]);
            let mut logits = vec![0.0; self.classes];
            for (x, &label) in rows.chunks_exact(h).zip(labels) {
                for j in 0..k {
                    let own = &weight[j * h..(j + 1) * h];
                    let dot: f64 = own.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum();
                    logits[first_class + j] = dot + bias[j];
                }
                let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = logits.iter().map(|l| (l - most).exp()).sum();
                loss += sum.ln() + most - logits[label as usize];
                for j in 0..k {
                    let p = (logits[first_class + j] - most).exp() / sum;
                    let d = p - f64::from(u8::from(label as usize == first_class + j));
                    let own = &mut gradient[j * h..(j + 1) * h];
                    own.iter_mut()
                        .zip(x)
                        .for_each(|(g, x)| *g += d * f64::from(*x));
                    gradient[k * h + j] += d;
                }
            }
            (loss, gradient)
        };
        let rows = self.features.par_chunks(CHUNK * h);
        let parts: Vec<(f64, Vec<f64>)> =
            rows.zip(self.labels.par_chunks(CHUNK)).map(part).collect();
        let (mut value, mut gradient) = (0.0, vec![0.0; w.len()]);
        for (loss, own) in parts {
            value += loss / n as f64;
            gradient
                .iter_mut()
                .zip(own)
                .for_each(|(g, x)| *g += x / n as f64);
        }
        let penalty = 1.0 / (self.c * n as f64);
        value += 0.5 * penalty * dot(weight, weight);
        gradient
            .iter_mut()
            .zip(weight)
            .for_each(|(g, w)| *g += penalty * w);
        (value, gradient)
    }

    /// The optimum; `None` if it was asked to stop.
    pub fn solve(&self, stop: &AtomicBool) -> Option<Solution> {
        let (h, k) = (self.hidden, self.vectors());
        let mut w = vec![0.0; k * (h + 1)];
        let (mut value, mut gradient) = self.at(&w);
        let mut memory: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
        let mut values = Vec::new();
        let vanished = |g: &[f64]| g.iter().all(|x| x.abs() <= TOLERANCE);
        while !vanished(&gradient) && values.len() < MOST {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let direction = direction(&gradient, &memory);
            let slope = dot(&direction, &gradient);
            // Without a memory the gradient's own length says nothing about the step.
            let mut step = match memory.is_empty() {
                true => 1.0 / dot(&gradient, &gradient).sqrt().max(1.0),
                false => 1.0,
            };
            let next = loop {
                let there: Vec<f64> = w
                    .iter()
                    .zip(&direction)
                    .map(|(w, d)| w + step * d)
                    .collect();
                let (v, g) = self.at(&there);
                if v <= value + 1e-4 * step * slope {
                    break Some((there, v, g));
                }
                step /= 2.0;
                // Below what f64 tells apart nothing becomes better.
                if step < 1e-14 {
                    break None;
                }
            };
            let Some((there, v, g)) = next else { break };
            let s: Vec<f64> = there.iter().zip(&w).map(|(a, b)| a - b).collect();
            let y: Vec<f64> = g.iter().zip(&gradient).map(|(a, b)| a - b).collect();
            let curvature = dot(&s, &y);
            if curvature > 0.0 {
                memory.push_back((s, y, curvature));
                if memory.len() > MEMORY {
                    memory.pop_front();
                }
            }
            (w, value, gradient) = (there, v, g);
            values.push(value);
        }
        let (weight, bias) = w.split_at(k * h);
        let none = self.classes - k;
        Some(Solution {
            converged: vanished(&gradient),
            weight: [&vec![0.0; none * h], weight].concat(),
            bias: [&vec![0.0; none], bias].concat(),
            values,
        })
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The two-loop recursion of L-BFGS: minus the inverse Hessian, as far as it is remembered, times the gradient.
fn direction(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut q = gradient.to_vec();
    let mut alphas = Vec::new();
    for (s, y, curvature) in memory.iter().rev() {
        let alpha = dot(s, &q) / curvature;
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    if let Some((_, y, curvature)) = memory.back() {
        let scale = curvature / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y, curvature), alpha) in memory.iter().zip(alphas.into_iter().rev()) {
        let beta = dot(y, &q) / curvature;
        q.iter_mut()
            .zip(s)
            .for_each(|(q, s)| *q += (alpha - beta) * s);
    }
    q.iter_mut().for_each(|q| *q = -*q);
    q
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// 40 examples of 3 numbers, the label moving all of them.
    fn solved(classes: usize, c: f64) -> Solution {
        let labels: Vec<u32> = (0..40).map(|i| i % classes as u32).collect();
        let features: Vec<f32> = labels
            .iter()
            .enumerate()
            .flat_map(|(i, &label)| {
                (0..3).map(move |j| {
                    let own = (i as f64 * (j as f64 + 1.0)).sin();
                    (own + f64::from(label) * 0.5 * f64::from(j).cos()) as f32
                })
            })
            .collect();
        let problem = Problem {
            features: &features,
            hidden: 3,
            labels: &labels,
            classes,
            c,
        };
        problem.solve(&AtomicBool::new(false)).unwrap()
    }

    fn near(ours: &[f64], theirs: &[f64]) {
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() < 2e-6, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn the_optimum_equals_scikit_learns() {
        // sklearn 1.9.1: LogisticRegression(C=1.0, tol=1e-12, max_iter=100000).fit(X, y), coef_ and intercept_.
        let two = solved(2, 1.0);
        assert!(two.converged);
        near(
            &two.weight,
            &[
                0.0,
                0.0,
                0.0,
                0.834159836437518,
                0.440288014629064,
                -0.189577763189368,
            ],
        );
        near(&two.bias, &[0.0, -0.32530712142106]);
        // C=0.1, three classes.
        let three = solved(3, 0.1);
        assert!(three.converged);
        near(
            &three.weight,
            &[
                -0.284_770_476_270_767,
                -0.501_588_755_735_527,
                0.117_019_908_545_722,
                -0.027_064_843_301_694,
                0.095_039_048_007_808,
                -0.014_792_334_629_663,
                0.311_835_319_572_461,
                0.406_549_707_727_719,
                -0.102_227_573_916_06,
            ],
        );
        near(
            &three.bias,
            &[
                0.313_272_952_761_238,
                0.044_561_969_464_061,
                -0.357_834_922_225_299,
            ],
        );
    }

    #[test]
    fn the_value_never_rises_and_a_request_to_stop_is_heard() {
        let values = solved(3, 10.0).values;
        assert!(values.len() > 2 && values.windows(2).all(|v| v[1] <= v[0]));
        let problem = Problem {
            features: &[0.0, 1.0],
            hidden: 1,
            labels: &[0, 1],
            classes: 2,
            c: 1.0,
        };
        assert!(problem.solve(&AtomicBool::new(true)).is_none());
    }
}
