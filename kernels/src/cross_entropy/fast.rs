//! Cross-entropy in f64, whatever the logits are: they are few.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::element::Element;
use crate::tape::{Gradients, Node, record, view};

pub(super) fn cross_entropy<T: Element>(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let logits = logits.contiguous()?;
    let (rows, classes) = logits.dims2()?;
    let mut slopes = Vec::with_capacity(rows * classes);
    let mut loss = 0.0;
    for (row, &label) in view::<T>(&logits)?.chunks_exact(classes).zip(labels) {
        let row: Vec<f64> = row.iter().map(|z| z.to_f64()).collect();
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|z| (z - most).exp()).sum();
        loss += sum.ln() + most - row[label as usize];
        slopes.extend(row.iter().enumerate().map(|(class, z)| {
            let p = (z - most).exp() / sum;
            T::from_f64((p - f64::from(u8::from(class == label as usize))) / rows as f64)
        }));
    }
    record(
        &[&logits],
        vec![T::from_f64(loss / rows as f64)],
        (),
        Entropy { slopes },
    )
}

struct Entropy<T> {
    slopes: Vec<T>,
}

impl<T: Element> Node<T> for Entropy<T> {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }
    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        into.add(
            0,
            self.slopes.iter().map(|&slope| slope * grad[0]).collect(),
        );
        Ok(())
    }
}
