//! The statistics of a comparison.
//!
//! Two things vary when a method is run again: the seed, and the examples it is tested on. Over
//! seeds there is a mean, a standard deviation `s` and a t-interval, `mean ± t(0.975, n-1) s / √n`.
//! Between two methods everything is paired: they are tested on the same examples, and their seeds
//! share the order of examples and the initial head. One seed is compared with the exact test of
//! McNemar; all seeds together with a bootstrap that draws seeds and examples with replacement
//! ([`Resamples`]), and the p-values of all pairs are corrected together after Holm.
//!
//! Every function is checked against scipy, statsmodels, scikit-learn and numpy
//! (`tests/fixtures/generate_statistics.py`).

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal, StudentsT};

/// Two-sided error rate of every test and interval.
pub const ALPHA: f64 = 0.05;
/// Chance with which the smallest detectable difference would be detected.
pub const POWER: f64 = 0.8;
/// Bins of the expected calibration error.
pub const CALIBRATION_BINS: usize = 15;
/// Draws of the bootstrap.
pub const DRAWS: usize = 10_000;

/// A number measured once per seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The values, one per seed.
    pub values: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (n - 1); absent for one value.
    pub sd: Option<f64>,
    /// Ends of the 95 % t-interval of the mean; absent for one value.
    pub interval: Option<[f64; 2]>,
}

impl Summary {
    /// Sums up these values; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let mean = mean(&values)?;
        let sd = standard_deviation(&values);
        let interval = interval_95(&values);
        Some(Self {
            values,
            mean,
            sd,
            interval,
        })
    }
}

/// Arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation with n - 1; `None` of fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Ends of the 95 % interval of the mean after Student (1908); `None` of fewer than two values.
pub fn interval_95(values: &[f64]) -> Option<[f64; 2]> {
    let (mean, sd) = (mean(values)?, standard_deviation(values)?);
    let n = values.len() as f64;
    let t = StudentsT::new(0.0, 1.0, n - 1.0)
        .ok()?
        .inverse_cdf(1.0 - ALPHA / 2.0);
    let half = t * sd / n.sqrt();
    Some([mean - half, mean + half])
}

/// Percentile (`q` of 100) by linear interpolation between order statistics
/// (type 7 of Hyndman and Fan 1996); `None` of nothing. NaN values are not expected.
pub fn percentile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len().checked_sub(1)? as f64) * q.clamp(0.0, 100.0) / 100.0;
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    Some(below + (above - below) * place.fract())
}

/// Exact two-sided test of McNemar (1947) for one seed: of the examples that exactly one of two
/// methods got right, is the share of each method 1/2? Binomial, doubled smaller tail, at most 1.
pub fn mcnemar_exact(only_first: u64, only_second: u64) -> f64 {
    let (n, smaller) = (only_first + only_second, only_first.min(only_second));
    match Binomial::new(0.5, n) {
        Ok(binomial) if n > 0 => (2.0 * binomial.cdf(smaller)).min(1.0),
        _ => 1.0,
    }
}

/// p-values corrected for testing them all, after Holm (1979), in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max((p.len() - rank) as f64 * p[i]).min(1.0);
        adjusted[i] = largest;
    }
    adjusted
}

/// Two-sided p-value of a difference with this standard error, by the normal distribution.
pub fn z_test(difference: f64, standard_error: f64) -> f64 {
    if difference == 0.0 {
        return 1.0;
    }
    if standard_error == 0.0 {
        return 0.0;
    }
    2.0 * standard_normal().map_or(0.5, |n| n.sf(difference.abs() / standard_error))
}

/// Smallest true difference that a two-sided z-test finds with probability [`POWER`] at
/// [`ALPHA`] / `comparisons`: `(z(1 - α/2m) + z(power)) · standard error` (Cohen 1988).
pub fn smallest_detectable(standard_error: f64, comparisons: usize) -> f64 {
    let z = |p| standard_normal().map_or(f64::NAN, |n| n.inverse_cdf(p));
    (z(1.0 - ALPHA / 2.0 / comparisons.max(1) as f64) + z(POWER)) * standard_error
}

fn standard_normal() -> Option<Normal> {
    Normal::new(0.0, 1.0).ok()
}

/// A metric that can be computed from predictions, so that it can be computed on a resample too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Share of right predictions.
    Accuracy,
    /// F1 of the label with index 1 where there are two; else the mean over the labels (macro).
    F1,
    /// Matthews' correlation, for any number of labels as Gorodkin (2004) extends it.
    Matthews,
}

impl Metric {
    /// The metric with this name in the records.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "accuracy" => Some(Self::Accuracy),
            "f1" => Some(Self::F1),
            "matthews" => Some(Self::Matthews),
            _ => None,
        }
    }

    /// Its value where `confusion[true * classes + predicted]` examples were counted. A ratio
    /// without denominator is 0, as scikit-learn has it.
    pub fn value(self, confusion: &[f64], classes: usize) -> f64 {
        let total: f64 = confusion.iter().sum();
        let right: f64 = (0..classes).map(|k| confusion[k * classes + k]).sum();
        let ratio = |a: f64, b: f64| if b == 0.0 { 0.0 } else { a / b };
        match self {
            Self::Accuracy => ratio(right, total),
            Self::F1 => {
                let f1 = |k: usize| {
                    let of_true: f64 = (0..classes).map(|j| confusion[k * classes + j]).sum();
                    let of_predicted: f64 = (0..classes).map(|j| confusion[j * classes + k]).sum();
                    ratio(2.0 * confusion[k * classes + k], of_true + of_predicted)
                };
                match classes {
                    2 => f1(1),
                    _ => ratio((0..classes).map(f1).sum(), classes as f64),
                }
            }
            Self::Matthews => {
                let (mut both, mut of_true, mut of_predicted) = (0.0, 0.0, 0.0);
                for k in 0..classes {
                    let t: f64 = (0..classes).map(|j| confusion[k * classes + j]).sum();
                    let p: f64 = (0..classes).map(|j| confusion[j * classes + k]).sum();
                    both += t * p;
                    of_true += t * t;
                    of_predicted += p * p;
                }
                let spread = (total * total - of_predicted) * (total * total - of_true);
                ratio(right * total - both, spread.sqrt())
            }
        }
    }
}

/// Counts of (true, predicted) labels, `[true * classes + predicted]`, each example with a weight.
fn confusion(labels: &[u32], predicted: &[u32], classes: usize, weights: &[u16]) -> Vec<f64> {
    // Whole counts, converted at the end: exact, and faster to add.
    let mut counts = vec![0u64; classes * classes];
    for ((&l, &p), &w) in labels.iter().zip(predicted).zip(weights) {
        counts[l as usize * classes + p as usize] += u64::from(w);
    }
    counts.into_iter().map(|c| c as f64).collect()
}

/// The metric of these predictions.
pub fn metric(metric: Metric, labels: &[u32], predicted: &[u32], classes: usize) -> f64 {
    metric.value(
        &confusion(labels, predicted, classes, &vec![1; labels.len()]),
        classes,
    )
}

/// Index of the largest logit, the first of equals.
pub fn predicted(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &x) in logits.iter().enumerate() {
        if x > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// How well probabilities match outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error over [`CALIBRATION_BINS`] equal bins of the largest probability
    /// (Guo et al. 2017), as a fraction; 0 is best.
    pub ece: f64,
    /// Mean squared distance of the probability vector from the truth (Brier 1950), summed over
    /// labels: 0 is best, 2 is worst.
    pub brier: f64,
    /// Mean negative log-likelihood of the true label, in nats; 0 is best.
    pub nll: f64,
}

impl Calibration {
    /// Of these logits; `None` without examples.
    pub fn of(labels: &[u32], logits: &[Vec<f32>]) -> Option<Self> {
        let n = labels.len() as f64;
        let (mut brier, mut nll) = (0.0, 0.0);
        let mut bins = [(0.0, 0.0); CALIBRATION_BINS];
        for (&label, row) in labels.iter().zip(logits) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exp: Vec<f64> = row
                .iter()
                .map(|&x| (f64::from(x) - f64::from(largest)).exp())
                .collect();
            let sum: f64 = exp.iter().sum();
            nll += sum.ln() - (f64::from(row[label as usize]) - f64::from(largest));
            brier += exp
                .iter()
                .enumerate()
                .map(|(k, e)| (e / sum - f64::from(u8::from(k == label as usize))).powi(2))
                .sum::<f64>();
            // The largest probability has exp = 1. Bin b covers (b / 15, (b + 1) / 15].
            let confidence = 1.0 / sum;
            let bin = (confidence * CALIBRATION_BINS as f64).ceil() as usize;
            let (right, sure) = &mut bins[bin.clamp(1, CALIBRATION_BINS) - 1];
            *right += f64::from(u8::from(predicted(row) == label));
            *sure += confidence;
        }
        let ece = bins
            .iter()
            .map(|(right, sure): &(f64, f64)| (right - sure).abs())
            .sum::<f64>();
        (n > 0.0).then(|| Self {
            ece: ece / n,
            brier: brier / n,
            nll: nll / n,
        })
    }
}

/// Draws of the validation examples with replacement, shared by all methods so that they stay paired.
///
/// The bootstrap (Efron 1979) draws examples and, independently, seeds: a crossed design, whose
/// variance it overstates slightly (the "pigeonhole bootstrap", Owen 2007), on the safe side. With
/// few seeds the variance between seeds is itself badly known (and understated by (n-1)/n).
pub struct Resamples {
    /// How often each example was drawn, `DRAWS` rows.
    counts: Vec<Vec<u16>>,
}

/// The metric of one run on each resample.
pub struct Resampled(Vec<f64>);

/// What the bootstrap says on a difference of two methods.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Mean over seeds of the first minus the second.
    pub difference: f64,
    /// Standard deviation of the difference over the draws.
    pub standard_error: f64,
    /// 2.5th and 97.5th percentile over the draws.
    pub interval: [f64; 2],
    /// Two-sided p-value: [`z_test`] with the standard error above.
    pub p: f64,
}

impl Resamples {
    /// [`DRAWS`] draws of this many examples from an own stream: the same in every report.
    pub fn new(examples: usize) -> Self {
        let mut rng = stream(0);
        let counts = (0..DRAWS)
            .map(|_| {
                let mut row = vec![0u16; examples];
                for _ in 0..examples {
                    let i = rng.random_range(0..examples);
                    row[i] = row[i].saturating_add(1);
                }
                row
            })
            .collect();
        Self { counts }
    }

    /// The metric of one run on every resample.
    pub fn apply(
        &self,
        metric: Metric,
        labels: &[u32],
        predicted: &[u32],
        classes: usize,
    ) -> Resampled {
        let value = |w: &Vec<u16>| metric.value(&confusion(labels, predicted, classes, w), classes);
        Resampled(self.counts.iter().map(value).collect())
    }

    /// Difference of two methods; `pairs` holds one entry per seed that both have: the metric of
    /// the first and second on all examples, and on the resamples.
    pub fn difference(&self, pairs: &[([f64; 2], [&Resampled; 2])]) -> Option<Difference> {
        let difference = mean(&pairs.iter().map(|([a, b], _)| a - b).collect::<Vec<_>>())?;
        let mut rng = stream(1);
        let draws: Vec<f64> = (0..self.counts.len())
            .map(|r| {
                let sum: f64 = (0..pairs.len())
                    .map(|_| {
                        let [a, b] = pairs[rng.random_range(0..pairs.len())].1;
                        a.0[r] - b.0[r]
                    })
                    .sum();
                sum / pairs.len() as f64
            })
            .collect();
        let standard_error = standard_deviation(&draws)?;
        Some(Difference {
            difference,
            standard_error,
            interval: [percentile(&draws, 2.5)?, percentile(&draws, 97.5)?],
            p: z_test(difference, standard_error),
        })
    }
}

/// The report's own random streams; they have nothing to do with the seeds of the runs.
fn stream(purpose: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(0x7065_6674);
    rng.set_stream(purpose);
    rng
}

/// Tie groups: the letters of each of `n` methods, so that two methods share a letter exactly if
/// they can't be told apart (compact letter display, Piepho 2004: insert and absorb). Method 0 has
/// the letter `a` if the methods are given best first. `differ` lists the pairs that can be told apart.
pub fn tie_groups(n: usize, differ: &[(usize, usize)]) -> Vec<String> {
    let mut groups: Vec<Vec<bool>> = vec![vec![true; n]];
    for &(i, j) in differ {
        let mut next: Vec<Vec<bool>> = Vec::new();
        for group in groups {
            if group[i] && group[j] {
                for out in [i, j] {
                    let mut part = group.clone();
                    part[out] = false;
                    next.push(part);
                }
            } else {
                next.push(group);
            }
        }
        // Absorb: a group inside another says nothing of its own. Of equal ones the first stays.
        let inside = |a: &[bool], b: &[bool]| a.iter().zip(b).all(|(&a, &b)| !a || b);
        groups = (0..next.len())
            .filter(|&a| {
                !(0..next.len()).any(|b| {
                    b != a && inside(&next[a], &next[b]) && (b < a || !inside(&next[b], &next[a]))
                })
            })
            .map(|a| next[a].clone())
            .collect();
    }
    let members = |g: &Vec<bool>| (0..n).filter(|&i| g[i]).collect::<Vec<_>>();
    groups.sort_by_key(members);
    (0..n)
        .map(|i| {
            groups
                .iter()
                .enumerate()
                .filter(|(_, g)| g[i])
                .map(|(k, _)| letter(k))
                .collect()
        })
        .collect()
}

/// a … z, then a1 … z1, a2 …
fn letter(k: usize) -> String {
    let base = char::from(b'a' + (k % 26) as u8);
    if k < 26 {
        base.to_string()
    } else {
        format!("{base}{}", k / 26)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::Value;

    fn fixture() -> Value {
        serde_json::from_str(include_str!("../tests/fixtures/statistics.json")).unwrap()
    }

    fn cases(name: &str) -> Vec<Value> {
        let cases = fixture()[name].as_array().unwrap().clone();
        assert!(!cases.is_empty());
        cases
    }

    fn numbers(v: &Value) -> Vec<f64> {
        v.as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect()
    }

    fn close(ours: f64, theirs: &Value) {
        let theirs = theirs.as_f64().unwrap();
        assert!(
            (ours - theirs).abs() <= 1e-9 * theirs.abs().max(1e-3),
            "{ours} but the reference has {theirs}"
        );
    }

    #[test]
    fn means_and_t_intervals_equal_scipy() {
        for case in cases("intervals") {
            let s = Summary::of(numbers(&case["values"])).unwrap();
            close(s.mean, &case["mean"]);
            close(s.sd.unwrap(), &case["standard_deviation"]);
            close(s.interval.unwrap()[0], &case["low"]);
            close(s.interval.unwrap()[1], &case["high"]);
        }
    }

    #[test]
    fn one_value_has_a_mean_but_no_spread_and_none_has_nothing() {
        let one = Summary::of([0.5]).unwrap();
        assert_eq!((one.mean, one.sd, one.interval), (0.5, None, None));
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn percentiles_equal_numpy() {
        for case in cases("percentiles") {
            for (q, expected) in case["p"].as_object().unwrap() {
                close(
                    percentile(&numbers(&case["values"]), q.parse().unwrap()).unwrap(),
                    expected,
                );
            }
        }
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn mcnemar_equals_statsmodels() {
        for case in cases("mcnemar") {
            let count = |k: &str| case[k].as_u64().unwrap();
            let (ours, theirs) = (
                mcnemar_exact(count("only_first"), count("only_second")),
                &case["p"],
            );
            // Relative to the value: one of the cases is 1e-60.
            assert!(
                (ours / theirs.as_f64().unwrap() - 1.0).abs() < 1e-9,
                "{ours} {theirs}"
            );
        }
    }

    #[test]
    fn holm_equals_statsmodels() {
        for case in cases("holm") {
            for (ours, theirs) in holm(&numbers(&case["p"]))
                .iter()
                .zip(case["adjusted"].as_array().unwrap())
            {
                close(*ours, theirs);
            }
        }
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn metrics_and_calibration_equal_scikit_learn_and_numpy() {
        for case in cases("calibration") {
            let labels: Vec<u32> = numbers(&case["labels"]).iter().map(|&x| x as u32).collect();
            let logits: Vec<Vec<f32>> = case["logits"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| numbers(row).iter().map(|&x| x as f32).collect())
                .collect();
            let classes = logits[0].len();
            let predictions: Vec<u32> = logits.iter().map(|row| predicted(row)).collect();
            let ours = Calibration::of(&labels, &logits).unwrap();
            close(ours.nll, &case["nll"]);
            close(ours.brier, &case["brier"]);
            close(ours.ece, &case["ece"]);
            close(
                metric(Metric::Accuracy, &labels, &predictions, classes),
                &case["accuracy"],
            );
            close(
                metric(Metric::Matthews, &labels, &predictions, classes),
                &case["matthews"],
            );
            close(
                metric(Metric::F1, &labels, &predictions, classes),
                &case["f1"],
            );
        }
    }

    #[test]
    fn a_metric_without_a_denominator_is_zero() {
        // Only label 0, always predicted as 0.
        assert_eq!(metric(Metric::F1, &[0, 0], &[0, 0], 2), 0.0);
        assert_eq!(metric(Metric::Matthews, &[0, 0], &[0, 0], 2), 0.0);
    }

    #[test]
    fn the_bootstrap_has_the_standard_error_of_the_closed_form() {
        for case in cases("two_level") {
            let runs = |k: &str| -> Vec<Vec<u32>> {
                case[k]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|r| numbers(r).iter().map(|&x| x as u32).collect())
                    .collect()
            };
            // "Right" is coded as predicting label 1 where the label is 1.
            let (first, second) = (runs("first"), runs("second"));
            let labels = vec![1; first[0].len()];
            let resamples = Resamples::new(labels.len());
            let both = |p: &Vec<u32>| {
                (
                    metric(Metric::Accuracy, &labels, p, 2),
                    resamples.apply(Metric::Accuracy, &labels, p, 2),
                )
            };
            let (first, second): (Vec<_>, Vec<_>) = (
                first.iter().map(both).collect(),
                second.iter().map(both).collect(),
            );
            let pairs: Vec<_> = first
                .iter()
                .zip(&second)
                .map(|((a, ra), (b, rb))| ([*a, *b], [ra, rb]))
                .collect();
            let found = resamples.difference(&pairs).unwrap();
            close(found.difference, &case["difference"]);
            let exact = case["standard_error"].as_f64().unwrap();
            // The error of a standard deviation of n draws is 1/√(2n) = 0.7 %; four of them.
            let allowed = 4.0 / (2.0 * DRAWS as f64).sqrt();
            assert!(
                (found.standard_error / exact - 1.0).abs() < allowed,
                "{} {exact}",
                found.standard_error
            );
            assert!(found.interval[0] < found.difference && found.difference < found.interval[1]);
            assert_eq!(
                found,
                resamples.difference(&pairs).unwrap(),
                "the same draws every time"
            );
        }
    }

    #[test]
    fn equal_predictions_do_not_differ() {
        let labels = [0, 1, 0, 1];
        let resamples = Resamples::new(4);
        let run = resamples.apply(Metric::Accuracy, &labels, &[0, 1, 1, 1], 2);
        let found = resamples
            .difference(&[([0.75, 0.75], [&run, &run])])
            .unwrap();
        assert_eq!(
            (found.difference, found.standard_error, found.p),
            (0.0, 0.0, 1.0)
        );
        assert_eq!(resamples.difference(&[]), None);
    }

    #[test]
    fn z_test_and_detectable_difference_equal_scipy() {
        for case in cases("z_tests") {
            close(
                z_test(
                    case["difference"].as_f64().unwrap(),
                    case["standard_error"].as_f64().unwrap(),
                ),
                &case["p"],
            );
        }
        for case in cases("detectable") {
            let m = case["comparisons"].as_u64().unwrap() as usize;
            close(
                smallest_detectable(case["standard_error"].as_f64().unwrap(), m),
                &case["difference"],
            );
        }
    }

    #[test]
    fn methods_share_a_letter_exactly_if_they_cannot_be_told_apart() {
        assert_eq!(tie_groups(3, &[]), ["a", "a", "a"]);
        assert_eq!(tie_groups(3, &[(0, 1), (0, 2), (1, 2)]), ["a", "b", "c"]);
        // 0 and 2 differ, 1 is near both: not a false order.
        assert_eq!(tie_groups(3, &[(0, 2)]), ["a", "ab", "b"]);
        assert!(tie_groups(0, &[]).is_empty());
        // Every graph on five methods.
        let pairs: Vec<(usize, usize)> = (0..5)
            .flat_map(|i| (i + 1..5).map(move |j| (i, j)))
            .collect();
        for set in 0..1u32 << pairs.len() {
            let differ: Vec<_> = pairs
                .iter()
                .enumerate()
                .filter(|(k, _)| set >> k & 1 == 1)
                .map(|(_, &p)| p)
                .collect();
            let letters = tie_groups(5, &differ);
            for &(i, j) in &pairs {
                let share = letters[i].chars().any(|c| letters[j].contains(c));
                assert_eq!(share, !differ.contains(&(i, j)), "{differ:?} {letters:?}");
            }
        }
    }
}
