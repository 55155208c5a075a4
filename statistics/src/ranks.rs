//! Ranks over many data sets.
//!
//! Each data set ranks the methods, 1 for the best, equal ones sharing the mean of their ranks. Two average ranks differ at 5 % if they
//! lie more than the critical difference apart: `CD = q √(K (K + 1) / (6 N))` of K methods on N data sets, q the studentized range
//! quantile at infinite degrees of freedom over √2 (Nemenyi 1963, as Demšar 2006 gives it).

use serde::Serialize;

use crate::{
    ALPHA,
    bisection::bisect,
    distribution::{normal_density, normal_tail},
};

/// Average ranks with their critical difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranks {
    /// Average rank of each method; 1 is best.
    pub average: Vec<f64>,
    /// Average ranks further apart than this differ at 5 %.
    pub critical_difference: f64,
    /// Number of data sets.
    pub datasets: usize,
}

impl Ranks {
    /// Of a table with one row per data set and one metric per method, more being better. `None` without data sets, with fewer than two
    /// methods, with rows of unequal length or numbers that are not finite.
    pub fn of(table: &[Vec<f64>]) -> Option<Self> {
        let methods = table.first()?.len();
        let sound = |row: &Vec<f64>| row.len() == methods && row.iter().all(|x| x.is_finite());
        if methods < 2 || !table.iter().all(sound) {
            return None;
        }
        let mut average = vec![0.0; methods];
        for row in table {
            for (sum, x) in average.iter_mut().zip(row) {
                let above = row.iter().filter(|y| *y > x).count() as f64;
                let equal = row.iter().filter(|y| *y == x).count() as f64;
                *sum += (above + (equal + 1.0) / 2.0) / table.len() as f64;
            }
        }
        let (k, n) = (methods as f64, table.len() as f64);
        let q = studentized_range(methods) / std::f64::consts::SQRT_2;
        Some(Self {
            average,
            critical_difference: q * (k * (k + 1.0) / (6.0 * n)).sqrt(),
            datasets: table.len(),
        })
    }
}

/// What the range of so many standard normal numbers exceeds in 5 %.
fn studentized_range(numbers: usize) -> f64 {
    let k = numbers as i32;
    // P(range <= q) = k ∫ φ(z) (Φ(z) − Φ(z − q))^(k−1) dz, by Simpson's rule.
    let within = |q: f64| {
        let (from, to, steps) = (-9.0, 9.0 + q, 2_000);
        let gap = (to - from) / f64::from(steps);
        let f = |z: f64| normal_density(z) * (normal_tail(z - q) - normal_tail(z)).powi(k - 1);
        let inner: f64 = (1..steps)
            .map(|i| f(from + f64::from(i) * gap) * if i % 2 == 1 { 4.0 } else { 2.0 })
            .sum();
        f64::from(k) * gap / 3.0 * (f(from) + inner + f(to))
    };
    bisect([0.0, 20.0], 50, |q| within(q) < 1.0 - ALPHA)
}
