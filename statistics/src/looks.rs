//! Looking several times, while seeds are added, at a known error rate.
//!
//! Whoever adds seeds until p < 0.05 is wrong far more often than in 5 %. The mean over the first s seeds behaves like a Brownian
//! motion that is looked at when it has so much information; at each look only a part of the error rate may be spent. Lan and
//! DeMets (1983) spend, up to the fraction t of the information, `α*(t) = 2 − 2 Φ(z(1 − α/2) / √t)`, which is hard at first, as the
//! bounds of O'Brien and Fleming (1979) are. Information is taken to grow with the number of seeds. Where the examples limit it, it
//! grows more slowly: the looks are then more alike than assumed, and less is spent than allowed.
//!
//! What a look may spend is turned into a two-sided level for its p-value (the significance level approach, Jennison and
//! Turnbull 2000, section 3.3), so that Student's t with its degrees of freedom can be judged by it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use crate::{
    Error, FEWEST_SEEDS,
    bisection::bisect,
    distribution::{normal_density, normal_tail, normal_upper},
};

/// Points of the grid on which the density of what has not stopped is kept; odd, for Simpson's rule.
const POINTS: usize = 401;

/// Looks and an error rate.
type Key = (Vec<usize>, u64);

/// Levels that have been computed.
static KNOWN: Mutex<BTreeMap<Key, Vec<f64>>> = Mutex::new(BTreeMap::new());

/// The numbers of seeds at which a comparison is looked at, ascending from [`FEWEST_SEEDS`] on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Looks(Vec<usize>);

impl Default for Looks {
    fn default() -> Self {
        Self(vec![3, 5, 10, 20])
    }
}

impl Looks {
    /// Looks at these numbers of seeds.
    ///
    /// # Errors
    /// Unless there is one at least, they ascend, and the first is not below [`FEWEST_SEEDS`].
    pub fn new(seeds: Vec<usize>) -> Result<Self, Error> {
        let ascends = seeds.windows(2).all(|w| w[0] < w[1]);
        if ascends && seeds.first().is_some_and(|&s| s >= FEWEST_SEEDS) {
            Ok(Self(seeds))
        } else {
            Err(Error::Looks(seeds))
        }
    }

    /// The default looks, 3, 5, 10 and 20 seeds, up to a largest number of seeds, which is the last.
    ///
    /// # Errors
    /// If that is below [`FEWEST_SEEDS`].
    pub fn up_to(most: usize) -> Result<Self, Error> {
        let Self(mut seeds) = Self::default();
        seeds.retain(|&s| s < most);
        seeds.push(most);
        Self::new(seeds)
    }

    /// The numbers of seeds.
    pub fn seeds(&self) -> &[usize] {
        &self.0
    }

    /// How many of the looks have been made with so many seeds.
    pub fn made(&self, seeds: usize) -> usize {
        self.0.iter().filter(|&&look| look <= seeds).count()
    }

    /// Two-sided level of the p-value at each look, which together spend `alpha`. Computed once per process.
    pub fn levels(&self, alpha: f64) -> Vec<f64> {
        let key = (self.0.clone(), alpha.to_bits());
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(levels) = known().get(&key) {
            return levels.clone();
        }
        let levels = self.compute(alpha);
        known().insert(key, levels.clone());
        levels
    }

    fn compute(&self, alpha: f64) -> Vec<f64> {
        let last = self.0[self.0.len() - 1] as f64;
        let z = normal_upper(alpha / 2.0);
        let mut spent = 0.0;
        let mut inside: Option<Inside> = None;
        let mut time = 0.0;
        let mut levels = Vec::new();
        for &seeds in &self.0 {
            let now = seeds as f64 / last;
            // What is left at the last look, exactly.
            let share = if now < 1.0 {
                2.0 * normal_tail(z / now.sqrt())
            } else {
                alpha
            };
            let allowed = share - spent;
            spent += allowed;
            let step = (now - time).sqrt();
            let crossing = |bound: f64| match &inside {
                None => 2.0 * normal_tail(bound / step),
                Some(inside) => 2.0 * inside.mass(|w| normal_tail((bound - w) / step)),
            };
            let bound = bisect([0.0, 40.0 * now.sqrt()], 60, |b| crossing(b) > allowed);
            levels.push(2.0 * normal_tail(bound / now.sqrt()));
            if now < 1.0 {
                let density = |w: f64| match &inside {
                    None => normal_density(w / step) / step,
                    Some(inside) => inside.mass(|from| normal_density((w - from) / step) / step),
                };
                inside = Some(Inside::new(bound, density));
            }
            time = now;
        }
        levels
    }

    /// One-sided levels, for a test of non-inferiority or each side of equivalence, which together spend `alpha`.
    pub fn levels_one_sided(&self, alpha: f64) -> Vec<f64> {
        // Of the symmetric bounds that spend twice as much, one side.
        self.levels(2.0 * alpha).iter().map(|l| l / 2.0).collect()
    }
}

/// Density of the motion where it has not crossed a bound yet, on a grid from −bound to bound.
struct Inside {
    points: Vec<[f64; 2]>,
}

impl Inside {
    /// With weights of Simpson's rule multiplied in.
    fn new(bound: f64, density: impl Fn(f64) -> f64) -> Self {
        let gap = 2.0 * bound / (POINTS - 1) as f64;
        let points = (0..POINTS)
            .map(|i| {
                let w = -bound + i as f64 * gap;
                let simpson = match i {
                    _ if i == 0 || i == POINTS - 1 => 1.0,
                    _ if i % 2 == 1 => 4.0,
                    _ => 2.0,
                };
                [w, density(w) * simpson * gap / 3.0]
            })
            .collect();
        Self { points }
    }

    /// Integral of the density times `f`.
    fn mass(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.points.iter().map(|[w, mass]| mass * f(*w)).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn looks_ascend_from_three_seeds() {
        assert!(Looks::new(vec![3, 5]).is_ok());
        for bad in [vec![], vec![2, 5], vec![5, 3], vec![3, 3]] {
            assert_eq!(Looks::new(bad.clone()), Err(Error::Looks(bad)));
        }
        assert_eq!(Looks::up_to(12).unwrap().seeds(), [3, 5, 10, 12]);
        assert_eq!(Looks::up_to(10).unwrap().seeds(), [3, 5, 10]);
        assert!(Looks::up_to(2).is_err());
    }

    #[test]
    fn one_look_spends_all() {
        let levels = Looks::new(vec![5]).unwrap().levels(0.05);
        assert!((levels[0] - 0.05).abs() < 1e-12);
    }
}
