//! Two methods over all data sets of a suite.

use statistics::{
    Combined, Evidence, Looks, Margin, Scores, Verdict, every_two, holm, overall_verdicts,
    probability_of_improvement,
};

use super::Judged;

/// Two methods over all data sets. The first is the one that is ahead on the mean.
pub(super) struct Pair<'a> {
    pub first: &'a str,
    pub second: &'a str,
    /// The first minus the second, by all seeds.
    pub combined: Combined,
    /// How often a run of the first beats one of the second.
    pub improvement: Option<f64>,
    /// The first minus the second by data set.
    pub differences: Vec<Evidence>,
    /// p-value corrected for all pairs, as for a number of seeds that was fixed beforehand.
    pub p: f64,
    /// What is shown of the first.
    pub verdict: Verdict,
}

/// Every two of these methods that can be compared on all data sets, the largest difference first.
pub(super) fn pairs<'a>(
    datasets: &[Judged<'_>],
    methods: &[&'a str],
    looks: Option<&Looks>,
    ended: bool,
    margin: Margin,
) -> Vec<Pair<'a>> {
    let of = |first, second| {
        let scores = differences(datasets, first, second)?;
        let pair = pair(datasets, first, second, &scores)?;
        Some((scores, pair))
    };
    let found = every_two(methods.len()).filter_map(|(a, b)| {
        let forward = of(methods[a], methods[b])?;
        match forward.1.combined.difference < 0.0 {
            true => of(methods[b], methods[a]),
            false => Some(forward),
        }
    });
    let (scores, mut pairs): (Vec<Vec<Scores>>, Vec<Pair<'a>>) = found.unzip();
    let p = holm(&pairs.iter().map(|pair| pair.combined.p).collect::<Vec<_>>());
    let verdicts = overall_verdicts(&scores, looks, ended, margin);
    for ((pair, p), verdict) in pairs.iter_mut().zip(p).zip(verdicts) {
        (pair.p, pair.verdict) = (p, verdict);
    }
    pairs.sort_by(|a, b| b.combined.difference.total_cmp(&a.combined.difference));
    pairs
}

/// The first method's scores minus the second's on each data set; `None` where one cannot be compared on them.
fn differences(datasets: &[Judged<'_>], first: &str, second: &str) -> Option<Vec<Scores>> {
    let of = |d: &Judged<'_>| {
        let (a, b) = (d.row(first)?, d.row(second)?);
        a.scores.as_ref()?.minus(b.scores.as_ref()?)
    };
    datasets.iter().map(of).collect()
}

fn pair<'a>(
    datasets: &[Judged<'_>],
    first: &'a str,
    second: &'a str,
    scores: &[Scores],
) -> Option<Pair<'a>> {
    let values = |d: &Judged<'_>, label: &str| {
        let metric = d.row(label).and_then(|row| row.metric.as_ref());
        metric.map_or_else(Vec::new, |m| m.values.clone())
    };
    let runs = datasets
        .iter()
        .map(|d| (values(d, first), values(d, second)));
    Some(Pair {
        first,
        second,
        combined: Combined::of_scores(scores, usize::MAX)?,
        improvement: probability_of_improvement(&runs.collect::<Vec<_>>()),
        differences: scores.iter().map(Evidence::of).collect::<Option<_>>()?,
        p: 1.0,
        verdict: Verdict::Undecided,
    })
}
