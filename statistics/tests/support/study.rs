//! How often the statistics are wrong, in worlds whose truth is known ([`World`]).
//!
//! Each function draws a world many times, from fixed streams, and counts. The same drawings give the same rates on any
//! number of threads. What was chosen by looking at some streams is confirmed on others ([`Drawings::fresh`]).

use rayon::prelude::*;

use statistics::{
    ALPHA, Combined, Error, Evidence, Family, Looks, Margin, Metric, Procedure, Range, Ratio,
    Recommendation, Row, Scores, State, Timed, Verdict, overall_verdicts, recommend,
    standard_deviation, with_best_or_neighbours,
};

pub use simulation::Likeness;
use simulation::{ACCURACY, Normals, World};

#[path = "simulation.rs"]
mod simulation;

/// Standard errors that a normal number exceeds in 5 %, to either side.
const Z: f64 = 1.959_963_984_540_054;

/// Streams of true differences and times, apart from those of the scores.
const TRUTHS: u64 = 1 << 40;
/// First of the streams on which nothing was chosen. Those from 2⁵⁰ on were looked at before the degrees of freedom of today.
const FRESH: u64 = 1 << 51;

/// Which drawings of a world are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawings {
    first: u64,
    count: usize,
}

impl Drawings {
    /// So many from the streams that have been looked at before.
    pub const fn of(count: usize) -> Self {
        Self { first: 0, count }
    }

    /// The first half of these.
    #[must_use]
    pub const fn half(self) -> Self {
        Self {
            count: self.count / 2,
            ..self
        }
    }

    /// So many from streams on which nothing was chosen.
    pub const fn fresh(count: usize) -> Self {
        Self {
            first: FRESH,
            count,
        }
    }
}

/// What each drawing gives, in the order of the drawings.
fn each<T: Send>(drawings: Drawings, of: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let numbers = (0..drawings.count).into_par_iter();
    numbers.map(|i| of(drawings.first + i as u64)).collect()
}

/// Shares of drawings in which each of N things happened.
pub fn rates<const N: usize>(
    drawings: Drawings,
    happened: impl Fn(u64) -> [bool; N] + Sync,
) -> [f64; N] {
    let all = each(drawings, happened);
    std::array::from_fn(|i| share(&all, |happened| happened[i]))
}

/// Share of drawings in which one thing happened.
fn rate(drawings: Drawings, happened: impl Fn(u64) -> bool + Sync) -> f64 {
    share(&each(drawings, happened), |happened| *happened)
}

/// Share of drawings of which something is so.
fn share<T>(all: &[T], is: impl Fn(&T) -> bool) -> f64 {
    all.iter().filter(|given| is(given)).count() as f64 / all.len() as f64
}

/// What a rate must keep to. False verdicts have no lower bar: to be wrong more rarely than promised is no error. What it costs is that
/// true differences are missed, and for that there is [`Bar::FOUND`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    least: f64,
    most: f64,
}

impl Bar {
    /// False differences of a pair with three seeds.
    pub const FALSE_AT_3: Self = Self::at_most(0.075);
    /// False differences of a pair with five seeds or more.
    pub const FALSE: Self = Self::at_most(0.065);
    /// True differences found from five seeds on, over those that a test finds which knows the variances. The bootstrap that was used before has
    /// about half.
    pub const FOUND: Self = Self::at_least(0.6);
    /// Coverage of a 95 % interval.
    pub const COVERAGE: Self = Self::at_least(0.93);
    /// False equivalence of methods that differ by the margin.
    pub const EQUIVALENCE: Self = Self::at_most(0.06);
    /// Any false difference of a family with moderated variances.
    pub const FAMILY_MODERATED: Self = Self::at_most(0.06);
    /// Any false difference of a family with each pair's own variance.
    pub const FAMILY: Self = Self::at_most(0.09);
    /// Any false verdict of going on until it is decided.
    pub const SEQUENTIAL: Self = Self::at_most(0.06);
    /// Choosing a method that is worse by the margin or more.
    pub const CHOICE: Self = Self::at_most(0.05);
    /// False differences over data sets, and of times.
    pub const COMBINED: Self = Self::at_most(0.075);

    const fn at_most(most: f64) -> Self {
        Self { least: 0.0, most }
    }

    const fn at_least(least: f64) -> Self {
        let most = f64::INFINITY;
        Self { least, most }
    }

    /// Whether a rate keeps to it.
    pub fn holds(self, rate: f64) -> bool {
        (self.least..=self.most).contains(&rate)
    }

    /// Whether a rate among so many drawings is outside it by more than three standard errors of the simulation.
    pub fn is_far(self, rate: f64, drawings: usize) -> bool {
        let error = |bar: f64| (bar * (1.0 - bar) / drawings as f64).sqrt();
        rate < self.least - 3.0 * error(self.least) || rate > self.most + 3.0 * error(self.most)
    }
}

/// In percent.
impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        // Without the tails of binary fractions.
        let percent = |x: f64| (1000.0 * x).round() / 10.0;
        match self.most.is_finite() {
            true => write!(f, "at most {}", percent(self.most)),
            false => write!(f, "at least {}", percent(self.least)),
        }
    }
}

/// Two methods, judged by their own variance alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairRates {
    /// A difference is claimed where there is none.
    pub false_difference: f64,
    /// The 95 % interval of a true difference of 1.5 points covers it.
    pub coverage: f64,
    /// Equivalence is claimed of two methods that differ by the margin.
    pub false_equivalence: f64,
    /// The true difference of 1.5 points is found.
    pub found: f64,
    /// It is found by a test that knows how much differences vary from drawing to drawing.
    pub found_by_knowing: f64,
}

/// Rates of pairs at each number of seeds, which are the first of one drawing.
pub fn pairs<const S: usize>(
    seeds: [usize; S],
    seed_sd: f64,
    likeness: Likeness,
    examples: usize,
    drawings: Drawings,
) -> [PairRates; S] {
    let margin = Margin::POINT;
    let behind = |behind: f64| {
        let accuracy = vec![ACCURACY, ACCURACY - behind];
        let most = seeds.into_iter().max();
        let world = world(accuracy, seed_sd, likeness, examples, most);
        each(drawings, |number| {
            let scores = world.draw(number);
            let differences = scores[0].minus(&scores[1]);
            seeds.map(|s| Evidence::of(&differences.as_ref()?.first(s)?))
        })
    };
    let far = 0.015;
    let (equal, ahead, by_margin) = (behind(0.0), behind(far), behind(margin.get()));
    std::array::from_fn(|i| {
        let of = |all: &[[Option<Evidence>; S]], is: &dyn Fn(&Evidence) -> bool| {
            share(all, |at| at[i].as_ref().is_some_and(is))
        };
        let differences = ahead.iter().filter_map(|at| Some(at[i]?.difference));
        let differences: Vec<f64> = differences.collect();
        let bound = Z * standard_deviation(&differences).unwrap_or(f64::INFINITY);
        PairRates {
            false_difference: of(&equal, &|e| e.p < ALPHA),
            coverage: of(&ahead, &|e| e.interval[0] <= far && far <= e.interval[1]),
            false_equivalence: of(&by_margin, &|e| e.p_equivalent(margin) < ALPHA),
            found: of(&ahead, &|e| e.p < ALPHA && e.difference > 0.0),
            found_by_knowing: of(&ahead, &|e| e.difference > bound),
        }
    })
}

/// False differences of a metric that is no mean over examples, by pseudo-values: two equal methods, a quarter of the examples with label 1.
pub fn metric_pairs<const S: usize>(
    metric: Metric,
    seeds: [usize; S],
    seed_sd: f64,
    examples: usize,
    drawings: Drawings,
) -> [f64; S] {
    let most = seeds.into_iter().max();
    let world = equal(vec![seed_sd; 2], Likeness::Distant, examples, most);
    let labels: Vec<u32> = (0..examples).map(|j| u32::from(j % 4 == 0)).collect();
    let by_metric = |scores: &Scores| {
        let rows = scores.seeds().zip(scores.rows()).map(|(seed, row)| {
            // A wrong prediction is the other label.
            let pairs = labels.iter().zip(row);
            let predicted: Vec<u32> = pairs
                .map(|(&l, &right)| if right > 0.5 { l } else { 1 - l })
                .collect();
            Ok((seed, metric.scores(&labels, &predicted, 2)?))
        });
        Scores::new(rows.collect::<Result<Vec<_>, Error>>()?)
    };
    rates(drawings, |number| {
        let scores = world.draw(number);
        let differences = match (by_metric(&scores[0]), by_metric(&scores[1])) {
            (Ok(first), Ok(second)) => first.minus(&second),
            _ => None,
        };
        seeds.map(|s| {
            differences
                .as_ref()
                .and_then(|d| Evidence::of(&d.first(s)?))
                .is_some_and(|e| e.p < ALPHA)
        })
    })
}

/// How often the 95 % interval of one method's accuracy covers it, at each number of seeds.
pub fn rows<const S: usize>(
    seeds: [usize; S],
    accuracy: f64,
    seed_sd: f64,
    examples: usize,
    drawings: Drawings,
) -> [f64; S] {
    let most = seeds.into_iter().max();
    let world = world(vec![accuracy], seed_sd, Likeness::Close, examples, most);
    rates(drawings, |number| {
        let scores = world.draw(number);
        seeds.map(|s| {
            scores[0].first(s).is_some_and(|first| {
                let [low, high] = Row::of(&first, Range::Share).interval;
                low <= accuracy && accuracy <= high
            })
        })
    })
}

/// How often any of several equal methods is said to be better than another, at each number of seeds.
pub fn families<const S: usize>(
    seeds: [usize; S],
    seed_sd: Vec<f64>,
    likeness: Likeness,
    examples: usize,
    drawings: Drawings,
) -> [f64; S] {
    let world = equal(seed_sd, likeness, examples, seeds.into_iter().max());
    rates(drawings, |number| {
        let scores = world.draw(number);
        seeds.map(|s| {
            let first: Vec<Scores> = scores.iter().filter_map(|m| m.first(s)).collect();
            let family = Family::new(&first, Margin::POINT);
            family.pairs.iter().any(|p| p.told_apart())
        })
    })
}

/// How often a pair of a family is said to differ where its methods are equal: the first two of the methods, without a correction.
pub fn pair_in_family(
    seeds: usize,
    seed_sd: Vec<f64>,
    likeness: Likeness,
    examples: usize,
    drawings: Drawings,
) -> f64 {
    let world = equal(seed_sd, likeness, examples, Some(seeds));
    rate(drawings, |number| {
        let family = Family::new(&world.draw(number), Margin::POINT);
        family.pair(0, 1).is_some_and(|p| p.evidence.p < ALPHA)
    })
}

/// Methods of the same accuracy, whose seeds vary by these numbers.
fn equal(seed_sd: Vec<f64>, likeness: Likeness, examples: usize, seeds: Option<usize>) -> World {
    let accuracy = vec![ACCURACY; seed_sd.len()];
    World {
        seed_sd,
        ..world(accuracy, 0.0, likeness, examples, seeds)
    }
}

/// Methods of these accuracies, whose seeds vary alike.
fn world(
    accuracy: Vec<f64>,
    seed_sd: f64,
    likeness: Likeness,
    examples: usize,
    seeds: Option<usize>,
) -> World {
    World {
        seed_sd: vec![seed_sd; accuracy.len()],
        accuracy,
        likeness,
        examples,
        seeds: seeds.unwrap_or(0),
    }
}

/// What going on until it is decided gets wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SequentialRates {
    /// Any difference is claimed among equal methods.
    pub false_difference: f64,
    /// Any equivalence is claimed of methods that differ by the margin: the first is ahead of all others by it.
    pub false_equivalence: f64,
    /// One of these others is recommended at the end.
    pub worse_choice: f64,
}

/// Rates of the whole procedure with so many methods, seeds being added as it asks.
pub fn sequential(
    methods: usize,
    seed_sd: f64,
    likeness: Likeness,
    examples: usize,
    drawings: Drawings,
) -> SequentialRates {
    let procedure = Procedure {
        looks: Looks::default(),
        margin: Margin::POINT,
    };
    let most = procedure.looks.seeds().last().copied();
    // The further in the list, the cheaper.
    let costs: Vec<f64> = (0..methods).rev().map(|c| c as f64).collect();
    let among: Vec<usize> = (0..methods).collect();
    let run = |behind: f64| {
        let mut accuracy = vec![ACCURACY - behind; methods];
        accuracy[0] = ACCURACY;
        let world = world(accuracy, seed_sd, likeness, examples, most);
        rates(drawings, |number| {
            let end = go_on(&procedure, &world.draw(number));
            let differ = |v: Verdict| matches!(v, Verdict::Better | Verdict::Worse);
            let chosen = recommend(&end.family, &costs, &among);
            [
                end.pairs.iter().any(|p| differ(p.verdict)),
                end.pairs
                    .iter()
                    .any(|p| p.first == 0 && p.verdict == Verdict::Equivalent),
                matches!(chosen, Some(Recommendation::Shown { method: 1.., .. })),
            ]
        })
    };
    let [false_difference, ..] = run(0.0);
    let [_, false_equivalence, worse_choice] = run(procedure.margin.get());
    SequentialRates {
        false_difference,
        false_equivalence,
        worse_choice,
    }
}

/// How often somebody who adds seeds by hand, and stops at the first difference that is shown, is shown one of two equal methods: the first number
/// of seeds is judged as if it had been fixed, each later one as the last of the looks so far.
pub fn by_hand(seeds: &[usize], seed_sd: f64, examples: usize, drawings: Drawings) -> f64 {
    let most = seeds.last().copied();
    let world = equal(vec![seed_sd; 2], Likeness::Distant, examples, most);
    rate(drawings, |number| {
        let scores = world.draw(number);
        let shown = |looks: &[usize]| {
            let now = looks.last().copied().unwrap_or(0);
            let own: Vec<Scores> = scores.iter().filter_map(|m| m.first(now)).collect();
            let looks = Looks::new(looks.to_vec()).ok().filter(|_| looks.len() > 1);
            let family = Procedure::family(&own, Margin::POINT, looks.as_ref());
            family.pairs.iter().any(|p| p.told_apart())
        };
        (1..=seeds.len()).any(|looks| shown(&seeds[..looks]))
    })
}

/// Gives methods seeds out of `all` as the procedure asks, to its end.
fn go_on(procedure: &Procedure, all: &[Scores]) -> State {
    let mut have = vec![procedure.looks.seeds()[0]; all.len()];
    loop {
        let now: Vec<Scores> = all
            .iter()
            .zip(&have)
            .filter_map(|(m, &seeds)| m.first(seeds))
            .collect();
        let means: Vec<f64> = now.iter().map(Scores::mean).collect();
        let state = procedure.state(&now, |a, b| with_best_or_neighbours(&means, a, b));
        if state.wanted.is_empty() {
            return state;
        }
        for (method, seeds) in state.wanted {
            have[method] = seeds;
        }
    }
}

/// What `recommend` chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choices {
    /// Any method.
    pub any: f64,
    /// A method that is truly worse than the best by the margin or more.
    pub worse: f64,
    /// The same, by the rule that takes the cheapest of what has not been told apart from the highest mean.
    pub worse_untold: f64,
}

/// Choices among methods that are behind the best by so much; the further in the list, the cheaper.
pub fn choices(
    behind: &[f64],
    seeds: usize,
    seed_sd: f64,
    examples: usize,
    drawings: Drawings,
) -> Choices {
    let accuracy = behind.iter().map(|b| ACCURACY - b).collect();
    let world = world(accuracy, seed_sd, Likeness::Distant, examples, Some(seeds));
    let margin = Margin::POINT;
    let costs: Vec<f64> = (0..behind.len()).rev().map(|c| c as f64).collect();
    let among: Vec<usize> = (0..behind.len()).collect();
    let worse = |i: usize| behind[i] >= margin.get();
    let [any, bad, untold] = rates(drawings, |number| {
        let scores = world.draw(number);
        let family = Family::new(&scores, margin);
        let chosen = match recommend(&family, &costs, &among) {
            Some(Recommendation::Shown { method, .. }) => Some(method),
            _ => None,
        };
        let best = among
            .iter()
            .copied()
            .max_by(|&a, &b| scores[a].mean().total_cmp(&scores[b].mean()))
            .unwrap_or(0);
        let untold = among
            .iter()
            .rev()
            .copied()
            .find(|&i| i == best || family.pair(best, i).is_none_or(|p| !p.told_apart()));
        [
            chosen.is_some(),
            chosen.is_some_and(worse),
            untold.is_some_and(worse),
        ]
    });
    Choices {
        any,
        worse: bad,
        worse_untold: untold,
    }
}

/// False differences of the bootstrap over seeds and examples that these statistics replaced: a z-test with the variance that
/// drawing seeds and examples with replacement has, in closed form (Owen 2007).
pub fn bootstrap<const S: usize>(
    seeds: [usize; S],
    seed_sd: f64,
    likeness: Likeness,
    examples: usize,
    drawings: Drawings,
) -> [f64; S] {
    let most = seeds.into_iter().max();
    let world = equal(vec![seed_sd; 2], likeness, examples, most);
    rates(drawings, |number| {
        let scores = world.draw(number);
        let differences = scores[0].minus(&scores[1]);
        seeds.map(|s| {
            let own = differences.as_ref().and_then(|d| d.first(s));
            own.is_some_and(|d| (d.mean() / resampled_variance(&d).sqrt()).abs() > Z)
        })
    })
}

fn resampled_variance(d: &Scores) -> f64 {
    let (s, n) = (d.seeds().count() as f64, d.examples() as f64);
    let mut columns = vec![0.0; d.examples()];
    let (mut rows, mut squares) = (0.0, 0.0);
    for row in d.rows() {
        rows += row.iter().sum::<f64>().powi(2);
        for (column, x) in columns.iter_mut().zip(row) {
            *column += x;
            squares += x * x;
        }
    }
    let columns: f64 = columns.iter().map(|c| c * c).sum();
    let all = (d.mean() * s * n).powi(2);
    let (keep_s, keep_n) = ((s - 1.0) / s, (n - 1.0) / n);
    (keep_s * keep_n * all + keep_s * columns + keep_n * rows + squares) / (s * n).powi(2)
        - d.mean().powi(2)
}

/// The second method's scores minus the first's on each of so many data sets of 400 examples, on which it is truly ahead by a
/// number that varies around zero; as many of the seeds as `take` says.
fn differences(
    count: usize,
    between: f64,
    seeds: usize,
    number: u64,
    take: impl Fn(&[Scores]) -> usize,
) -> Vec<Scores> {
    let mut normal = Normals::new(number + TRUTHS);
    let of = |dataset: u64| {
        let accuracy = vec![ACCURACY, ACCURACY + between * normal.next()];
        let world = world(accuracy, 0.007, Likeness::Distant, 400, Some(seeds));
        let scores = world.draw(number * 1_000 + dataset);
        scores[1].minus(&scores[0])?.first(take(&scores))
    };
    (0..count as u64).filter_map(of).collect()
}

/// False differences over so many data sets, whose true differences vary around zero; five seeds of each.
pub fn datasets(count: usize, between: f64, drawings: Drawings) -> f64 {
    rate(drawings, |number| {
        let differences = differences(count, between, 5, number, |_| 5);
        Combined::of_scores(&differences, 5).is_some_and(|c| c.p < ALPHA)
    })
}

/// The same where each data set goes on until its two methods are decided there, and all of them together are looked at each time.
pub fn datasets_going_on(count: usize, between: f64, drawings: Drawings) -> f64 {
    let procedure = Procedure {
        looks: Looks::default(),
        margin: Margin::POINT,
    };
    let most = procedure.looks.seeds().last().copied().unwrap_or(0);
    let decided = |scores: &[Scores]| procedure.state(scores, |_, _| true).pairs[0].seeds;
    rate(drawings, |number| {
        let differences = [differences(count, between, most, number, decided)];
        let looks = Some(&procedure.looks);
        let found = overall_verdicts(&differences, looks, true, procedure.margin);
        matches!(found[0], Verdict::Better | Verdict::Worse)
    })
}

/// False "slower" over so many sittings: three runs of each of two equally fast methods in each, one after the other, while the machine
/// drifts by 3 % from hour to hour and single runs vary by 1 %.
pub fn sittings(count: usize, drawings: Drawings) -> f64 {
    rate(drawings, |number| {
        let mut normal = Normals::new(number + TRUTHS);
        let mut times = Vec::new();
        for sitting in 0..count {
            // The second method runs later than the first, on a machine that has changed since.
            let moods = [normal.next(), normal.next()].map(|m| 0.03 * m);
            for _ in 0..3 {
                let [first, second] = moods.map(|m| (m + 0.01 * normal.next()).exp());
                times.push(Timed {
                    sitting: sitting.to_string(),
                    first,
                    second,
                });
            }
        }
        let ratio = Ratio::of(&times);
        ratio.and_then(|r| r.p).is_some_and(|p| p < ALPHA)
    })
}
