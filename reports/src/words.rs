//! The words for what statistics show. Every table, plot, page and command takes them from here.
//!
//! Four things can be said of two methods ([`Verdict`]). *Undecided* must never be read as *equal*: it stands with "neither a
//! difference nor equivalence is shown", and where it can be known, with what would decide.

use record::DatasetFacts;
use statistics::{FEWEST_SEEDS, Looks, Margin, Verdict};

use crate::{format, needs::Needs};

/// That the data set stands in for another, for notes.
pub(crate) fn stand_in_note(dataset: &DatasetFacts) -> Option<String> {
    let (asked, used) = (dataset.stand_in_for.as_ref()?, &dataset.name);
    Some(format!(
        "{asked} was not found. All numbers are from {used}, which stands in for it; they are not results on {asked}."
    ))
}

/// A verdict on the first of two methods, in a table's cell.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Equivalent => "equivalent",
        Verdict::Undecided => "undecided",
    }
}

/// A margin of a metric, e.g. `1.0 points`.
fn in_words(margin: Margin, metric: &str) -> String {
    format::metric_difference(metric, margin.get())
}

/// A verdict in full, e.g. `equivalent within 1.0 points`.
pub fn verdict_in_full(verdict: Verdict, metric: &str, margin: Margin) -> String {
    match verdict {
        Verdict::Equivalent => format!("equivalent within {}", in_words(margin, metric)),
        other => self::verdict(other).to_owned(),
    }
}

/// A verdict where nothing beside it says what undecided means.
pub fn verdict_alone(verdict: Verdict, metric: &str, margin: Margin) -> String {
    match verdict {
        Verdict::Undecided => {
            let undecided = self::verdict(verdict);
            format!("{undecided}: neither a difference nor equivalence is shown")
        }
        other => verdict_in_full(other, metric, margin),
    }
}

/// What stands instead of a verdict on what has the highest mean itself.
pub const HIGHEST: &str = "highest mean";
/// What stands instead of a verdict on the only point of a series.
pub const ALONE: &str = "no other point";
/// What stands instead of a verdict where too few seeds are shared for one.
pub const NOT_TESTED: &str = "not tested";
/// What is said wherever something is undecided.
pub const UNDECIDED: &str =
    "Undecided is not equal: neither a difference nor equivalence is shown.";
/// What is said above claims.
pub const UNDECIDED_CLAIM: &str = "Undecided says neither that a claim holds nor that it does not; what it lacks stands under it.";
/// The test behind every verdict, for legends.
pub const TEST: &str = "crossed seeds and examples after Obuchowski and Rockette, Holm, 5 %";

/// How to read letters and verdicts under a table.
pub fn legend(metric: &str, margin: Margin) -> String {
    format!(
        "Methods without a common letter differ ({TEST}); a shared letter does not say that they are equal. Verdicts are \
         against the highest mean; equivalent means within {}. {UNDECIDED}",
        in_words(margin, metric)
    )
}

/// That so many seeds are too few to rank anything.
pub fn too_few_seeds(seeds: usize) -> String {
    format!(
        "With {} nothing is ranked: another seed may give another order, and a verdict needs {FEWEST_SEEDS}. Run the same \
         command with --seeds {FEWEST_SEEDS} or more.",
        format::plural(seeds, "seed")
    )
}

/// That several looks share the error rate.
pub fn looked_at(looks: &Looks) -> String {
    let looks: Vec<String> = looks.seeds().iter().map(usize::to_string).collect();
    format!(
        "Looks at {} seeds share the 5 %, so the verdicts of each look are stricter than the p-values, which are for a number of \
         seeds fixed beforehand.",
        format::list(&looks)
    )
}

/// What a diverged seed counts as, behind how it ended: where an example has one class of several, and elsewhere.
pub fn diverged_counts(of_classes: bool) -> &'static str {
    match of_classes {
        true => "; it counts as always answering the commonest class",
        false => "; it counts as having nothing right",
    }
}

/// What would decide a pair, e.g. `needs about 12 more seeds (34 min) or 1,800 more examples`.
pub fn needs(needs: &Needs) -> String {
    if needs.more_seeds == Some(0) {
        return "would be decided if it were the only pair and the only look; as all of them share the 5 %, it needs a few more seeds"
            .to_owned();
    }
    let seeds = needs.more_seeds.map(|n| {
        let time = needs.seconds.map(|s| format!(" ({})", format::seconds(s)));
        format::plural(n, "more seed") + &time.unwrap_or_default()
    });
    let examples = needs.more_examples.map(format::count);
    let examples = examples.map(|n| format!("{n} more examples"));
    match (seeds, examples) {
        (Some(a), Some(b)) => format!("needs about {a} or {b}"),
        (Some(a), None) => format!("needs about {a}"),
        (None, Some(b)) => format!("needs about {b}; more seeds alone do not decide it"),
        (None, None) => "needs both more seeds and more examples".to_owned(),
    }
}

/// The sentence that names the recommended method.
pub fn shown_near_best(
    label: &str,
    parameters: Option<usize>,
    metric: &str,
    margin: Margin,
) -> String {
    let parameters = parameters.map_or(String::new(), |p| {
        format!(", with {} trained parameters", format::count(p))
    });
    format!(
        "The cheapest method shown to be less than {} behind the best is {label}{parameters}.",
        in_words(margin, metric)
    )
}

/// The sentence that stands where no method is shown to be near the best.
pub fn none_near_best(metric: &str, margin: Margin) -> String {
    format!(
        "No method is shown to be less than {} behind the best, so none is recommended.",
        in_words(margin, metric)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pair_is_told_to_need_no_seeds() {
        let of = |more_seeds, more_examples| {
            needs(&Needs {
                more_seeds,
                more_examples,
                seconds: Some(120.0),
            })
        };
        assert!(of(Some(0), Some(0)).ends_with("it needs a few more seeds"));
        assert_eq!(
            of(Some(12), Some(1800)),
            "needs about 12 more seeds (2 min 00 s) or 1,800 more examples"
        );
    }
}
