//! The sum of Kronecker products in plain loops: it has as many values as a small adapter.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::element::Element;
use crate::tape::{Gradients, Node, record, view};

pub(super) fn kronecker_sum<T: Element>(
    a: &Tensor,
    left: &Tensor,
    right: &Tensor,
    sizes: [usize; 3],
) -> Result<Tensor> {
    let [a, left, right] = [a.contiguous()?, left.contiguous()?, right.contiguous()?];
    let [n, u, v] = sizes;
    let factors = [
        view::<T>(&a)?.to_vec(),
        view::<T>(&left)?.to_vec(),
        view::<T>(&right)?.to_vec(),
    ];
    let mut weight = vec![T::default(); n * v * n * u];
    each(sizes, |at, [ia, il, ir]| {
        weight[at] += factors[0][ia] * factors[1][il] * factors[2][ir];
    });
    record(
        &[&a, &left, &right],
        weight,
        (n * v, n * u),
        Summed { factors, sizes },
    )
}

/// Calls `f` with the place in the weight and the places in the three factors of each product in the sum.
fn each([n, u, v]: [usize; 3], mut f: impl FnMut(usize, [usize; 3])) {
    for i in 0..n {
        for q in 0..n {
            for k in 0..v {
                for p in 0..n {
                    let row = (q * v + k) * n * u + p * u;
                    for j in 0..u {
                        f(row + j, [(i * n + p) * n + q, i * u + j, i * v + k]);
                    }
                }
            }
        }
    }
}

struct Summed<T> {
    factors: [Vec<T>; 3],
    sizes: [usize; 3],
}

impl<T: Element> Node<T> for Summed<T> {
    fn name(&self) -> &'static str {
        "kronecker-sum"
    }

    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        for i in (0..3).filter(|&i| into.wants(i)).collect::<Vec<_>>() {
            let (b, c) = ((i + 1) % 3, (i + 2) % 3);
            let mut sums = vec![T::default(); self.factors[i].len()];
            each(self.sizes, |at, places| {
                sums[places[i]] +=
                    grad[at] * self.factors[b][places[b]] * self.factors[c][places[c]];
            });
            into.add(i, sums);
        }
        Ok(())
    }
}
