//! The pairs of a comparison with their numbers.

use serde::Serialize;
use statistics::Sigma;

use crate::{Comparison, format, pair::Pair, words};

#[derive(Serialize)]
pub(super) struct PairView {
    first: String,
    second: String,
    seeds: usize,
    difference: String,
    standard_error: Option<String>,
    interval: Option<String>,
    p: Option<String>,
    p_value: Option<f64>,
    verdict: String,
    /// The verdict in a word.
    kind: &'static str,
    needs: Option<String>,
    sigma: Option<String>,
    mcnemar: String,
}

pub(super) fn pairs(comparison: &Comparison) -> Vec<PairView> {
    let metric = comparison.metric();
    let view = |pair: &Pair| {
        let mcnemar = pair.mcnemar.iter().map(|m| {
            let (first, second, p) = (m.only_first, m.only_second, format::p_value(m.p));
            format!("seed {}: {first} : {second}, {p}", m.seed)
        });
        let plain = |x: f64| format::metric_spread(metric, x, None);
        let of = |f: &dyn Fn(&statistics::Evidence) -> String| pair.evidence.as_ref().map(f);
        PairView {
            first: comparison.rows[pair.first].label.clone(),
            second: comparison.rows[pair.second].label.clone(),
            seeds: pair.seeds,
            difference: format::metric_difference(metric, pair.difference),
            standard_error: of(&|e| plain(e.standard_error)),
            interval: of(&|e| format::metric_interval(metric, e.interval)),
            p: pair.corrected.map(|c| format::p_value(c.p)),
            p_value: pair.corrected.map(|c| c.p),
            verdict: match pair.is_tested() {
                true => words::verdict_in_full(pair.verdict, metric, comparison.margin),
                false => words::NOT_TESTED.to_owned(),
            },
            kind: pair.verdict_text(false),
            needs: pair.needs.as_ref().map(words::needs),
            sigma: pair
                .sigma
                .map(|s| [s.seed, s.example, s.residual].map(plain).join(" / ")),
            mcnemar: mcnemar.collect::<Vec<_>>().join("; "),
        }
    };
    comparison.pairs.iter().map(view).collect()
}

/// Medians over the pairs of the standard deviations that the uncertainty is made of.
pub(super) fn sigma(comparison: &Comparison) -> Vec<(&'static str, String)> {
    type Of = fn(Sigma) -> f64;
    let median = |(name, of): (&'static str, Of)| {
        let values = comparison.pairs.iter().filter_map(|p| p.sigma.map(of));
        let median = statistics::percentile(&values.collect::<Vec<_>>(), 50.0)?;
        Some((name, format::metric_difference(comparison.metric(), median)))
    };
    let kinds: [(_, Of); 3] = [
        ("σₛ over seeds", |s| s.seed),
        ("σₓ over examples", |s| s.example),
        ("σₑ of what neither explains", |s| s.residual),
    ];
    kinds.into_iter().filter_map(median).collect()
}
