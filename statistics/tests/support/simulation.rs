//! A generator with known truth: methods whose real difference is known, judged on examples as classifiers are.
//!
//! A probit with crossed effects. Method k with seed i is right on example j if
//! `μ_k + example j + (method × example) kj + seed ki + rest kij > 0`, all effects normal and independent; the variances of
//! example, method × example and rest sum to one. They are calibrated to what was recorded on SST-2: at an accuracy of 85 %,
//! 6.9 % of the examples flip between two seeds of a method, and 7.1 % (close methods) to 9.6 % (distant methods) differ between two methods.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statistics::Scores;
use statrs::distribution::{ContinuousCDF, Normal};

/// Accuracy at which the generator is calibrated.
pub const ACCURACY: f64 = 0.85;
/// Correlation between two seeds of one method (without the seed's own effect) that makes 6.9 % of the examples flip.
const SAME_METHOD: f64 = 0.931_148;
/// Correlation between two close methods, of which 7.1 % differ.
const CLOSE: f64 = 0.927_094;
/// Correlation between two distant methods, of which 9.6 % differ.
const DISTANT: f64 = 0.866_561;

/// How alike the methods are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// 7.1 % of the examples differ between two of them.
    Close,
    /// 9.6 % differ.
    Distant,
}

/// A world in which methods are compared.
#[derive(Clone, Debug)]
pub struct World {
    /// True accuracy of each method, over all seeds and examples that there could be.
    pub accuracy: Vec<f64>,
    /// Standard deviation of each method's accuracy over seeds, of the seed's own effect.
    pub seed_sd: Vec<f64>,
    /// How alike the methods are.
    pub likeness: Likeness,
    /// Examples that they are judged on.
    pub examples: usize,
    /// Seeds of each.
    pub seeds: usize,
}

impl World {
    /// One drawing of this world: the scores of each method. The same number gives the same scores.
    pub fn draw(&self, number: u64) -> Vec<Scores> {
        let mut normal = Normals::new(number);
        let shared = match self.likeness {
            Likeness::Close => CLOSE,
            Likeness::Distant => DISTANT,
        };
        let (of_example, of_method) = (shared.sqrt(), (SAME_METHOD - shared).sqrt());
        let of_rest = (1.0 - SAME_METHOD).sqrt();
        let example: Vec<f64> = (0..self.examples)
            .map(|_| of_example * normal.next())
            .collect();
        self.accuracy
            .iter()
            .zip(&self.seed_sd)
            .map(|(&accuracy, sd)| {
                // A seed's effect moves the accuracy by the density there.
                let of_seed = sd / normal_density(normal_upper(1.0 - ACCURACY));
                let mean = normal_upper(1.0 - accuracy) * (1.0 + of_seed * of_seed).sqrt();
                let own: Vec<f64> = example
                    .iter()
                    .map(|e| mean + e + of_method * normal.next())
                    .collect();
                let rows = (0..self.seeds as u64).map(|seed| {
                    let effect = of_seed * normal.next();
                    let right = own
                        .iter()
                        .map(|x| x + effect + of_rest * normal.next() > 0.0)
                        .collect();
                    (seed, right)
                });
                Scores::right(rows.collect::<Vec<_>>())
            })
            .collect::<Result<_, _>>()
            // Distinct seeds, equal lengths, finite numbers; a world of one example has no scores.
            .unwrap_or_default()
    }
}

/// The number that a standard normal number exceeds with this chance.
fn normal_upper(tail: f64) -> f64 {
    -Normal::standard().inverse_cdf(tail)
}

/// Density of the standard normal distribution.
fn normal_density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
}

/// Standard normal numbers, two at a time (Box and Muller 1958).
pub struct Normals {
    rng: ChaCha8Rng,
    spare: Option<f64>,
}

impl Normals {
    pub fn new(stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0x7065_6674);
        rng.set_stream(stream);
        Self { rng, spare: None }
    }

    pub fn next(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 − u is above 0.
        let radius = (-2.0 * (1.0 - self.rng.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.rng.random::<f64>()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }
}
