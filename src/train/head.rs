//! The trained head on top of the vectors that are read: the same recipe for every method, counted apart.

use std::collections::BTreeMap;

use backbone::{Activation, HeadKind, LayerNorm, Linear};
use candle_core::{DType, Device, Result, Tensor, Var};
use methods::{Builder, Parameters};
use rand_chacha::ChaCha8Rng;

use super::neighbours::{self, Neighbours};

/// Standard deviation of initial weights, as transformers' `initializer_range`.
const DEVIATION: f64 = 0.02;

/// Name of the output layer's weights.
const OUTPUT_WEIGHT: &str = "head.output.weight";
/// Name of its biases.
const OUTPUT_BIAS: &str = "head.output.bias";
/// Epsilon of a norm in the head, as ModernBERT's.
const EPSILON: f64 = 1e-5;

/// A head `[B, H]` → `[B, C]`; C is 1 where a number is predicted.
pub struct Head {
    dense: Option<(Linear, Activation)>,
    norm: Option<LayerNorm>,
    output: Output,
    parameters: Parameters,
}

/// The last layer.
enum Output {
    /// Trained, or the rows of some words of a frozen output matrix.
    Linear(Linear),
    /// The nearest training examples.
    Neighbours(Neighbours),
    /// The rows of some words of an output matrix `[V, H]`, which belongs to the backbone and is trained with it.
    Words(Tensor, Vec<u32>),
    /// All words.
    Vocabulary(Vocabulary),
}

/// A language model's output over all words, which belongs to the backbone, and how long it writes.
pub struct Vocabulary {
    table: Tensor,
    /// The same as a layer.
    output: Linear,
    /// The token that ends a text.
    pub end: u32,
    /// The most tokens that it writes.
    pub most: usize,
}

impl Vocabulary {
    /// The output matrix `[V, H]`.
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// Logits `[N, V]` of vectors `[N, H]`.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn logits(&self, vectors: &Tensor) -> Result<Tensor> {
        self.output.forward(vectors)
    }
}

impl Head {
    /// A classifier with seeded initial weights: N(0, 0.02²), biases zero.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn new(
        kind: HeadKind,
        hidden: usize,
        classes: usize,
        rng: &mut ChaCha8Rng,
        dtype: DType,
    ) -> methods::Result<Self> {
        Self::build(kind, hidden, classes, dtype, Builder::start(rng))
    }

    /// A classifier to predict with: its tensors are frozen.
    ///
    /// # Errors
    /// If a tensor is missing, misshapen or of no use; the message names it.
    pub fn load(
        kind: HeadKind,
        hidden: usize,
        classes: usize,
        tensors: BTreeMap<String, Tensor>,
    ) -> methods::Result<Self> {
        if tensors.contains_key(neighbours::VECTORS) {
            return Neighbours::load(hidden, classes, tensors).map(Self::of_neighbours);
        }
        Self::build(kind, hidden, classes, DType::F32, Builder::saved(tensors))
    }

    fn build(
        kind: HeadKind,
        hidden: usize,
        classes: usize,
        dtype: DType,
        mut tensors: Builder<'_>,
    ) -> methods::Result<Self> {
        let mut linear = |name: &str, o: usize, i: usize, bias: bool| -> methods::Result<Linear> {
            let weight = tensors.variable(format!("{name}.weight"), &[o, i], |rng| {
                methods::normal(rng, &[o, i], DEVIATION, dtype)
            })?;
            let zeros = |_: &mut _| Tensor::zeros(o, dtype, &Device::Cpu);
            let bias = match bias {
                true => Some(tensors.variable(format!("{name}.bias"), &[o], zeros)?),
                false => None,
            };
            Ok(Linear::new(weight, bias)?)
        };
        let dense = match kind {
            HeadKind::DenseTanh => Some((Activation::Tanh, true)),
            HeadKind::DenseRelu => Some((Activation::Relu, true)),
            HeadKind::DenseNorm => Some((Activation::Gelu, false)),
            HeadKind::Linear | HeadKind::Score | HeadKind::Words | HeadKind::Vocabulary => None,
        };
        let dense = match dense {
            Some((f, bias)) => Some((linear("head.dense", hidden, hidden, bias)?, f)),
            None => None,
        };
        let output = linear("head.output", classes, hidden, kind != HeadKind::Score)?;
        let norm = match kind {
            HeadKind::DenseNorm => {
                let ones = |_: &mut _| Tensor::ones(hidden, dtype, &Device::Cpu);
                let gamma = tensors.variable("head.norm.weight", &[hidden], ones)?;
                Some(LayerNorm::without_bias(gamma, EPSILON)?)
            }
            _ => None,
        };
        let parameters = tensors.take();
        tensors.finish()?;
        Ok(Self {
            dense,
            norm,
            output: Output::Linear(output),
            parameters,
        })
    }

    /// No classifier of its own: the logits of the rows `ids` of a language model's output matrix `table` `[V, H]`. No other row
    /// is read, and those of a frozen table are taken out once.
    ///
    /// # Errors
    /// If an id is outside the table.
    pub fn of_words(table: Tensor, ids: Vec<u32>) -> Result<Self> {
        let output = match table.track_op() {
            true => Output::Words(table, ids),
            false => Output::Linear(Linear::new(kernels::select_rows(&table, &ids)?, None)?),
        };
        Ok(Self {
            dense: None,
            norm: None,
            output,
            parameters: Parameters::default(),
        })
    }

    /// No layers: the nearest training examples vote.
    pub fn of_neighbours(neighbours: Neighbours) -> Self {
        Self {
            dense: None,
            norm: None,
            parameters: neighbours.parameters().clone(),
            output: Output::Neighbours(neighbours),
        }
    }

    /// No classifier: a language model's output matrix `table` `[V, H]`, which writes up to `most` tokens or the token `end`; `layer`
    /// is the same in another form, where there is one.
    ///
    /// # Errors
    /// If the table is no matrix.
    pub fn of_vocabulary(
        table: Tensor,
        layer: Option<Linear>,
        end: u32,
        most: usize,
    ) -> Result<Self> {
        let output = match layer {
            Some(layer) => layer,
            None => Linear::new(table.clone(), None)?,
        };
        let vocabulary = Vocabulary {
            output,
            table,
            end,
            most,
        };
        Ok(Self {
            dense: None,
            norm: None,
            output: Output::Vocabulary(vocabulary),
            parameters: Parameters::default(),
        })
    }

    /// The language model's output, where it is no classifier.
    pub fn vocabulary(&self) -> Option<&Vocabulary> {
        match &self.output {
            Output::Vocabulary(vocabulary) => Some(vocabulary),
            _ => None,
        }
    }

    /// Logits `[B, C]` of pooled vectors `[B, H]`. Over a vocabulary the vectors as they are: logits of all words are never in
    /// memory at once.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn forward(&self, pooled: &Tensor) -> Result<Tensor> {
        let mut x = match &self.dense {
            None => pooled.clone(),
            Some((dense, f)) => dense.forward_activated(pooled, *f)?,
        };
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        match &self.output {
            Output::Linear(output) => output.forward(&x),
            Output::Neighbours(neighbours) => neighbours.forward(&x),
            Output::Words(table, ids) => {
                Linear::new(kernels::select_rows(table, ids)?, None)?.forward(&x)
            }
            Output::Vocabulary(_) => Ok(x),
        }
    }

    /// Makes the head give these outputs `[C]` for every vector: zero weights, and the outputs as bias.
    ///
    /// # Errors
    /// If a tensor cannot be set.
    pub fn say_always(&self, outputs: &[f64]) -> Result<()> {
        let weights = self.parameters.vars();
        let weights = weights.iter().find(|(name, _)| name == OUTPUT_WEIGHT);
        let weights = weights.map_or(0, |(_, var)| var.elem_count());
        self.set(&vec![0.0; weights], outputs)
    }

    /// Whether the logits are weights times the pooled vector plus biases, all of the head's own.
    pub fn is_linear(&self) -> bool {
        let vars = self.parameters.vars();
        let biased = vars.iter().any(|(name, _)| name == OUTPUT_BIAS);
        biased && self.dense.is_none() && self.norm.is_none()
    }

    /// Sets weights `[C, H]` and biases `[C]` of the output layer.
    ///
    /// # Errors
    /// If a tensor cannot be set.
    pub fn set(&self, weight: &[f64], bias: &[f64]) -> Result<()> {
        for (name, var) in self.parameters.vars() {
            let values = match name.as_str() {
                OUTPUT_WEIGHT => weight,
                OUTPUT_BIAS => bias,
                _ => continue,
            };
            let values = Tensor::from_slice(values, var.shape(), &Device::Cpu)?;
            var.set(&values.to_dtype(var.dtype())?)?;
        }
        Ok(())
    }

    /// Its named tensors, `head.…`.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The trainable variables; a classifier that was loaded to predict has none.
    pub fn vars(&self) -> Vec<(String, Var)> {
        self.parameters.vars()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_read_their_own_rows_of_the_vocabulary_and_no_other() {
        // Every other row would make its logit, and a gradient through it, no number.
        let (words, hidden) = (vec![3u32, 1], 4);
        let rows: Vec<f32> = (0..6 * hidden)
            .map(|i| match words.contains(&((i / hidden) as u32)) {
                true => i as f32 / 10.0,
                false => f32::NAN,
            })
            .collect();
        let table = Tensor::from_vec(rows, (6, hidden), &Device::Cpu).unwrap();
        let pooled = Tensor::ones((2, hidden), DType::F32, &Device::Cpu).unwrap();
        let logit = |row: usize| {
            (0..hidden)
                .map(|i| (row * hidden + i) as f32 / 10.0)
                .sum::<f32>()
        };
        let trained = Var::from_tensor(&table).unwrap();
        for table in [&table, trained.as_tensor()] {
            let head = Head::of_words(table.clone(), words.clone()).unwrap();
            let found = head.forward(&pooled).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(found.len(), 2);
            for row in found {
                assert_eq!(row.len(), 2);
                assert!((row[0] - logit(3)).abs() < 1e-5 && (row[1] - logit(1)).abs() < 1e-5);
            }
            assert!(head.vars().is_empty() && !head.is_linear());
        }
        let head = Head::of_words(trained.as_tensor().clone(), words).unwrap();
        let loss = head.forward(&pooled).unwrap().sum_all().unwrap();
        let gradient = loss
            .backward()
            .unwrap()
            .get(&trained)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        for (row, gradient) in gradient.iter().enumerate() {
            let expected = if [1, 3].contains(&row) { 2.0 } else { 0.0 };
            assert_eq!(gradient, &[expected; 4], "{row}");
        }
    }
}
