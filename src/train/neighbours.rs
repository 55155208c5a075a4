//! A classifier that remembers: the classes of the training examples whose vectors are nearest.
//!
//! Vectors are brought to length one, so that their products are cosines. The k with the largest have one vote each; of equally near ones the
//! first in the training set is taken. The outputs are the logarithms of the shares of the votes, each class having one more than it
//! got (Laplace), so that none is minus infinity.

use std::collections::BTreeMap;

use backbone::Linear;
use candle_core::{DType, Device, Tensor};
use methods::{Builder, Parameters};
use rand_chacha::ChaCha8Rng;

/// Rows whose cosines with all vectors are in memory at once.
const ROWS: usize = 32;

/// Name of the vectors `[n, H]`.
pub const VECTORS: &str = "head.neighbours.vectors";
/// Name of their classes `[n]`.
const CLASSES: &str = "head.neighbours.classes";
/// Name of the number that votes `[1]`.
const VOTES: &str = "head.neighbours.votes";

/// The remembered examples.
pub struct Neighbours {
    /// Its weights are the vectors: it gives the cosines with all of them.
    cosines: Linear,
    labels: Vec<u32>,
    classes: usize,
    votes: usize,
    parameters: Parameters,
}

impl Neighbours {
    /// Remembers vectors (one after the other, `hidden` numbers each) with their labels, below `classes`; `votes` of them are asked.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn new(
        mut vectors: Vec<f32>,
        hidden: usize,
        labels: &[u32],
        classes: usize,
        votes: usize,
    ) -> methods::Result<Self> {
        vectors.chunks_exact_mut(hidden).for_each(to_length_one);
        let vectors = Tensor::from_vec(vectors, (labels.len(), hidden), &Device::Cpu)?;
        // Files hold floats: f32 has every integer of 24 bits.
        let labels: Vec<f32> = labels.iter().map(|l| *l as f32).collect();
        let labels = Tensor::from_vec(labels, vectors.dim(0)?, &Device::Cpu)?;
        let votes = Tensor::new(&[votes as f32], &Device::Cpu)?;
        let tensors = [(VECTORS, vectors), (CLASSES, labels), (VOTES, votes)];
        let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
        Self::load(hidden, classes, tensors.into())
    }

    /// From saved tensors.
    ///
    /// # Errors
    /// If one is missing, misshapen or holds what cannot be; the message names it.
    pub fn load(
        hidden: usize,
        classes: usize,
        tensors: BTreeMap<String, Tensor>,
    ) -> methods::Result<Self> {
        let count = tensors
            .get(VECTORS)
            .map_or(0, |t| t.dims().first().copied().unwrap_or(0));
        let mut tensors = Builder::saved(tensors);
        // They were saved, so nothing is drawn.
        let none = |_: &mut ChaCha8Rng| Tensor::zeros(0, DType::F32, &Device::Cpu);
        let vectors = tensors.constant(VECTORS, &[count, hidden], none)?;
        let labels = tensors.constant(CLASSES, &[count], none)?;
        let votes = tensors.constant(VOTES, &[1], none)?;
        let parameters = tensors.take();
        tensors.finish()?;
        let whole = |tensor: &Tensor, name: &str, below: usize| -> methods::Result<Vec<u32>> {
            let values: Vec<f32> = tensor.to_dtype(DType::F32)?.to_vec1()?;
            let is_whole = |v: &f32| *v >= 0.0 && v.fract() == 0.0 && (*v as usize) < below;
            match values.iter().find(|v| !is_whole(v)) {
                Some(bad) => Err(methods::Error::Weights(format!(
                    "tensor '{name}' holds {bad}; accepted are whole numbers from 0 to {}",
                    below.saturating_sub(1)
                ))),
                None => Ok(values.into_iter().map(|v| v as u32).collect()),
            }
        };
        let labels = whole(&labels, CLASSES, classes)?;
        let votes = whole(&votes, VOTES, usize::MAX)?
            .into_iter()
            .map(|v| v as usize);
        Ok(Self {
            cosines: Linear::new(vectors.to_dtype(DType::F32)?, None)?,
            votes: votes.sum::<usize>().clamp(1, count.max(1)),
            labels,
            classes,
            parameters,
        })
    }

    /// Logarithms `[B, C]` of the shares of the votes, of vectors `[B, H]`.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn forward(&self, pooled: &Tensor) -> candle_core::Result<Tensor> {
        let (rows, hidden) = pooled.dims2()?;
        let mut x: Vec<f32> = pooled.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        x.chunks_exact_mut(hidden).for_each(to_length_one);
        let mut outputs = Vec::with_capacity(rows * self.classes);
        // The cosines of all rows at once could fill the memory.
        for some in x.chunks(ROWS * hidden) {
            let some = Tensor::from_slice(some, (some.len() / hidden, hidden), &Device::Cpu)?;
            let cosines: Vec<Vec<f32>> = self.cosines.forward(&some)?.to_vec2()?;
            outputs.extend(cosines.iter().flat_map(|row| self.shares(row)));
        }
        Tensor::from_vec(outputs, (rows, self.classes), &Device::Cpu)
    }

    fn shares(&self, cosines: &[f32]) -> Vec<f32> {
        let mut order: Vec<usize> = (0..cosines.len()).collect();
        let nearer = |a: &usize, b: &usize| cosines[*b].total_cmp(&cosines[*a]).then(a.cmp(b));
        if self.votes < order.len() {
            order.select_nth_unstable_by(self.votes, nearer);
            order.truncate(self.votes);
        }
        let mut votes = vec![1.0; self.classes];
        for i in order {
            votes[self.labels[i] as usize] += 1.0;
        }
        let all: f32 = votes.iter().sum();
        votes.into_iter().map(|v| (v / all).ln()).collect()
    }

    /// Its named tensors.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

/// Divides by the Euclidean length; nothing remains nothing.
fn to_length_one(x: &mut [f32]) {
    let squares: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
    let length = squares.sqrt();
    if length > 0.0 {
        x.iter_mut()
            .for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn classes_of(outputs: &Tensor) -> Vec<u32> {
        let rows: Vec<Vec<f32>> = outputs.to_vec2().unwrap();
        rows.iter().map(|row| statistics::argmax(row)).collect()
    }

    #[test]
    fn the_nearest_by_angle_vote_and_the_first_class_wins_a_draw() {
        // At 0, 10, 80, 90 and 180 degrees, of any length.
        let at = |degrees: f64, length: f64| {
            let angle = degrees.to_radians();
            [(length * angle.cos()) as f32, (length * angle.sin()) as f32]
        };
        let vectors = [
            at(0.0, 1.0),
            at(10.0, 9.0),
            at(80.0, 0.1),
            at(90.0, 3.0),
            at(180.0, 1.0),
        ];
        let labels = [0, 0, 1, 1, 2];
        let of = |votes| Neighbours::new(vectors.concat(), 2, &labels, 3, votes).unwrap();
        let asked = [at(4.0, 5.0), at(85.0, 1.0), at(170.0, 0.5)];
        let asked = Tensor::from_vec(asked.concat(), (3, 2), &Device::Cpu).unwrap();
        assert_eq!(classes_of(&of(1).forward(&asked).unwrap()), [0, 1, 2]);
        // Of the last, the nearest three are at 180, 90 and 80 degrees; with two, classes 1 and 2 have a vote each.
        assert_eq!(classes_of(&of(3).forward(&asked).unwrap()), [0, 1, 1]);
        assert_eq!(classes_of(&of(2).forward(&asked).unwrap()), [0, 1, 1]);
        // With more votes than examples all of them vote: shares 3, 3 and 2 of 8.
        let all: Vec<Vec<f32>> = of(99).forward(&asked).unwrap().to_vec2().unwrap();
        for (found, share) in all[0].iter().zip([3.0, 3.0, 2.0]) {
            assert!((found - (share / 8.0_f32).ln()).abs() < 1e-6);
        }
    }

    #[test]
    fn votes_and_classes_equal_scikit_learns() {
        // 40 examples of 3 numbers, the label moving all of them; sklearn 1.9.1: KNeighborsClassifier(k, metric="cosine",
        // algorithm="brute").fit(X, y), predict(Q) and predict_proba(Q) · k.
        let labels: Vec<u32> = (0..40).map(|i| i % 3).collect();
        let vectors: Vec<f32> = (0..40)
            .flat_map(|i| {
                let label = f64::from(i % 3);
                (0..3).map(move |j| {
                    let j = f64::from(j);
                    ((f64::from(i) * (j + 1.0)).sin() + label * 0.5 * j.cos()) as f32
                })
            })
            .collect();
        let asked: Vec<f32> = (0..10)
            .flat_map(|i| {
                (0..3).map(move |j| ((0.7 * f64::from(i) + 1.3 * f64::from(j)).sin() + 0.2) as f32)
            })
            .collect();
        let asked = Tensor::from_vec(asked, (10, 3), &Device::Cpu).unwrap();
        let five = [
            [0, 2, 3],
            [0, 2, 3],
            [1, 1, 3],
            [1, 1, 3],
            [2, 2, 1],
            [5, 0, 0],
            [5, 0, 0],
            [3, 0, 2],
            [2, 0, 3],
            [0, 2, 3],
        ];
        for (votes, classes) in [
            (1, [2, 2, 1, 0, 0, 0, 0, 0, 2, 2]),
            (5, [2, 2, 2, 2, 0, 0, 0, 0, 2, 2]),
            (20, [2, 2, 2, 2, 0, 0, 0, 0, 1, 2]),
        ] {
            let of = Neighbours::new(vectors.clone(), 3, &labels, 3, votes).unwrap();
            let outputs = of.forward(&asked).unwrap();
            assert_eq!(classes_of(&outputs), classes, "{votes}");
            let rows: Vec<Vec<f32>> = outputs.to_vec2().unwrap();
            for (row, theirs) in rows.iter().zip(five).filter(|_| votes == 5) {
                let ours = row.iter().map(|log| (log.exp() * 8.0).round() as i32 - 1);
                assert_eq!(ours.collect::<Vec<_>>(), theirs);
            }
        }
    }

    #[test]
    fn what_was_saved_predicts_the_same_and_damage_is_named() {
        let vectors = vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8];
        let made = Neighbours::new(vectors, 2, &[0, 1, 1], 2, 1).unwrap();
        let saved: BTreeMap<String, Tensor> = made.parameters().tensors().into_iter().collect();
        let asked = Tensor::new(&[[0.9f32, 0.1], [0.1, 0.9]], &Device::Cpu).unwrap();
        let outputs = |n: &Neighbours| n.forward(&asked).unwrap().to_vec2::<f32>().unwrap();
        let read = Neighbours::load(2, 2, saved.clone()).unwrap();
        assert_eq!(outputs(&read), outputs(&made));
        let refused = |tensors: BTreeMap<String, Tensor>| {
            Neighbours::load(2, 2, tensors).err().unwrap().to_string()
        };
        let mut beyond = saved.clone();
        beyond.insert(
            CLASSES.to_owned(),
            Tensor::new(&[0f32, 1.0, 2.0], &Device::Cpu).unwrap(),
        );
        assert!(refused(beyond).contains("holds 2; accepted are whole numbers from 0 to 1"));
        let mut less = saved;
        less.remove(VOTES);
        assert!(refused(less).contains("'head.neighbours.votes' is missing"));
    }
}
