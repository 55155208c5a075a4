//! Going on until it is decided: which rows of a comparison want more seeds, which pairs are decided, and why the others are not.

use std::collections::BTreeMap;

use serde::Serialize;
use statistics::{Open, Procedure, Remedy, Scores, Verdict, with_best_or_neighbours};

use crate::{Comparison, format, row::Row, words};

/// Where a comparison stands that goes on until it is decided.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Progress {
    /// Rows that are to have more seeds, and how many in all; empty when nothing is left to do.
    pub wanted: BTreeMap<usize, usize>,
    /// The pairs that are cared about.
    pub pairs: Vec<Cared>,
}

/// A pair that is cared about.
#[derive(Clone, Debug, Serialize)]
pub struct Cared {
    /// Label of the first method.
    pub first: String,
    /// Label of the second.
    pub second: String,
    /// What is shown of the first.
    pub verdict: Verdict,
    /// Seeds of the look that decided it, or of the last look at it.
    pub seeds: usize,
    /// Why it is open; absent once it is decided.
    pub open: Option<String>,
}

/// Two rows as the user names them: by method or label.
pub type Named = (String, String);

/// Where a comparison stands. Only the rows of `own` (by place) can have more seeds; of their pairs, those named are cared about, or
/// where none is named, each with the best and neighbours; two floors never are. `None` where the metric cannot be taken apart by example,
/// so that nothing can be tested.
pub fn progress(
    comparison: &Comparison,
    procedure: &Procedure,
    own: &[usize],
    named: &[Named],
) -> Option<Progress> {
    let scores = comparison.ranked_scores()?;
    let rows = comparison.ranked();
    let own: Vec<usize> = own.iter().copied().filter(|&i| i < rows.len()).collect();
    let means: Vec<f64> = own.iter().map(|&i| scores[i].mean()).collect();
    let cares = |a: usize, b: usize| -> bool {
        let place = |row| own.iter().position(|&i| i == row);
        let (Some(first), Some(second)) = (place(a), place(b)) else {
            return false;
        };
        if rows[a].is_floor() && rows[b].is_floor() {
            return false;
        }
        match named {
            [] => with_best_or_neighbours(&means, first, second),
            named => named.iter().any(|(x, y)| {
                (is(&rows[a], x) && is(&rows[b], y)) || (is(&rows[a], y) && is(&rows[b], x))
            }),
        }
    };
    let state = procedure.state(&scores, cares);
    let label = |i: usize| rows[i].label.clone();
    let pairs = state.pairs.iter().filter(|p| cares(p.first, p.second));
    Some(Progress {
        pairs: pairs
            .map(|p| Cared {
                first: label(p.first),
                second: label(p.second),
                verdict: p.verdict,
                seeds: p.seeds,
                open: p
                    .open
                    .as_ref()
                    .map(|open| why(comparison, &scores, [p.first, p.second], open)),
            })
            .collect(),
        wanted: state.wanted,
    })
}

/// Whether a row is what the user names.
pub fn is(row: &Row, name: &str) -> bool {
    row.label == name || row.method == name
}

fn why(comparison: &Comparison, scores: &[Scores], rows: [usize; 2], open: &Open) -> String {
    let needs = |remedy: &Remedy| {
        let evidence = comparison.family.pair(rows[0], rows[1])?.evidence;
        Some(words::needs(&comparison.needs(&evidence, remedy, &rows)))
    };
    match open {
        Open::NextLook { seeds } => match rows.map(|i| scores[i].seeds().count()) {
            [a, b] if a.min(b) >= *seeds => "not looked at yet".to_owned(),
            _ => format!("the next look is at {seeds} seeds"),
        },
        Open::LooksSpent { remedy } => format!(
            "all looks are made; a new comparison {}",
            needs(remedy).unwrap_or_default()
        ),
        Open::SeedsDoNotHelp { remedy } => format!(
            "more seeds cannot decide it: the examples alone leave a standard error of {}; it {}",
            format::metric_difference(comparison.metric(), remedy.floor_of_examples),
            needs(remedy).unwrap_or_default()
        ),
    }
}

impl Progress {
    /// How many pairs are decided, and each that is not, a sentence per entry.
    pub fn sentences(&self) -> Vec<String> {
        if self.pairs.is_empty() {
            let none = "No pair can be judged yet: that needs 3 seeds of two methods, and one of them must be no floor.";
            return vec![none.to_owned()];
        }
        let open: Vec<&Cared> = self.pairs.iter().filter(|p| p.open.is_some()).collect();
        let mut said = vec![format!(
            "{} of {} decided.",
            self.pairs.len() - open.len(),
            format::plural(self.pairs.len(), "pair")
        )];
        said.extend(open.iter().map(|p| {
            format!(
                "Undecided: {} and {} after {}: {}.",
                p.first,
                p.second,
                format::plural(p.seeds, "seed"),
                p.open.as_deref().unwrap_or_default()
            )
        }));
        said
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;
    use record::RunRecord;
    use statistics::{Looks, Margin};

    /// `seeds` runs of a method that is wrong on so many of 1,000 examples from a place on, which the seed moves.
    fn runs(method: &str, seeds: u64, from: usize, wrong: usize) -> Vec<RunRecord> {
        let one = |seed: u64| {
            let from = from + 3 * seed as usize;
            Sample::new(method)
                .seed(seed)
                .right(1000, move |i| !(from..from + wrong).contains(&i))
                .record()
        };
        (0..seeds).map(one).collect()
    }

    fn procedure() -> Procedure {
        Procedure {
            looks: Looks::default(),
            margin: Margin::POINT,
        }
    }

    fn stands(records: &[RunRecord], named: &[Named]) -> (Vec<(String, usize)>, Progress) {
        let comparison = Comparison::from_records(records).remove(0);
        let own: Vec<usize> = (0..comparison.rows.len()).collect();
        let found = progress(&comparison, &procedure(), &own, named).unwrap();
        let wanted = found.wanted.iter();
        let wanted = wanted.map(|(&i, &seeds)| (comparison.rows[i].label.clone(), seeds));
        (wanted.collect(), found)
    }

    #[test]
    fn only_methods_in_an_open_pair_that_is_cared_about_want_more_seeds() {
        let records = [
            runs("full", 3, 0, 100),
            runs("lora", 3, 300, 106),
            runs("head_only", 3, 500, 400),
        ]
        .concat();
        let (wanted, found) = stands(&records, &[]);
        assert_eq!(wanted, [("full".to_owned(), 5), ("lora".to_owned(), 5)]);
        assert_eq!(
            found.sentences(),
            [
                "2 of 3 pairs decided.",
                "Undecided: full and lora after 3 seeds: the next look is at 5 seeds."
            ]
        );
        let named = [("head_only".to_owned(), "lora".to_owned())];
        let (wanted, found) = stands(&records, &named);
        assert!(wanted.is_empty() && found.pairs.len() == 1);
        assert_eq!(found.pairs[0].open, None);
    }

    #[test]
    fn what_no_number_of_seeds_decides_is_given_up_with_its_reason() {
        let records = [runs("full", 5, 0, 100), runs("lora", 5, 300, 104)].concat();
        let (wanted, found) = stands(&records, &[]);
        assert!(wanted.is_empty());
        let said = found.sentences().join(" ");
        assert!(
            said.contains("more seeds cannot decide it") && said.contains("more examples"),
            "{said}"
        );
    }

    #[test]
    fn two_floors_are_never_cared_about() {
        let floor = |method: &str, seed| {
            Sample::new(method)
                .seed(seed)
                .right(100, |i| i % 2 == 0)
                .record()
        };
        let records: Vec<RunRecord> = (0..3)
            .flat_map(|s| [floor("majority", s), floor("random_features", s)])
            .collect();
        assert!(stands(&records, &[]).1.pairs.is_empty());
    }
}
