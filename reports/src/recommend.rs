//! Which method for me? What fits the constraints, by records, with evidence and uncertainty.
//!
//! The records of the data set whose training-set size is nearest (by ratio) to the one asked for decide. Every
//! method stands against each constraint with its 95 % interval. Recommended is the method with the fewest parameters among
//! those that fit and are **shown** to be less than the margin behind the best of them ([`statistics::recommend`]); where
//! none is shown, the answer says what would show it. Floors are never recommended, and neither is what is not above them; the answer
//! names what was left out.

use std::collections::BTreeSet;

use serde::Serialize;
use statistics::Summary;

use crate::{
    Comparison, Pair, claims::Verdict, format, latency::percent, quantity::Quantity, row::Row,
    table::wrap, words,
};

/// What is asked for. Every limit is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Wishes {
    /// Name of the data set.
    pub dataset: String,
    /// Examples to train on.
    pub train_size: Option<usize>,
    /// Largest size of the saved weights, head included, in bytes.
    pub max_size: Option<f64>,
    /// Largest latency over the bare backbone's, minus 1.
    pub max_latency_overhead: Option<f64>,
    /// Most parameters that the method trains, head apart.
    pub max_parameters: Option<f64>,
    /// Largest peak memory of training, in bytes.
    pub max_memory: Option<f64>,
    /// Longest training, in seconds.
    pub max_training_seconds: Option<f64>,
    /// Smallest main metric, as a fraction.
    pub min_metric: Option<f64>,
}

/// An answer with its evidence.
#[derive(Clone, Debug, Serialize)]
pub struct Recommendation {
    /// What was asked for.
    pub wishes: Wishes,
    /// The comparison that decides.
    pub comparison: String,
    /// Name of its main metric.
    pub metric: String,
    /// Training examples in it.
    pub train_examples: usize,
    /// Label of the recommended row; absent if nothing fits.
    pub recommended: Option<String>,
    /// The answer in words, a sentence per entry.
    pub answer: Vec<String>,
    /// Every method: those that fit first, best first.
    pub candidates: Vec<Candidate>,
    /// What a reader has to know before believing it.
    pub notes: Vec<String>,
}

/// One method against the constraints.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// Method and variant.
    pub label: String,
    /// Main metric over seeds.
    pub metric: Summary,
    /// Its letters in the comparison.
    pub letters: String,
    /// What is shown of it against the highest mean.
    pub verdict: &'static str,
    /// Whether it fits all constraints; undecided where an interval lies across a limit.
    pub fits: Verdict,
    /// The constraints.
    pub constraints: Vec<Constraint>,
    /// Ids of the records behind it.
    pub records: Vec<String>,
}

/// One constraint on one method.
#[derive(Clone, Debug, Serialize)]
pub struct Constraint {
    /// What is limited.
    pub what: String,
    /// The value; absent where it was not measured.
    pub value: Option<f64>,
    /// Its 95 % interval; absent with one seed.
    pub interval: Option<[f64; 2]>,
    /// The limit.
    pub limit: f64,
    /// Whether it holds.
    pub verdict: Verdict,
    /// All of it as people read it.
    pub text: String,
}

/// The comparisons of the data set that hold a result.
fn of_data<'a>(
    comparisons: &'a [Comparison],
    wishes: &Wishes,
) -> impl Iterator<Item = &'a Comparison> {
    comparisons.iter().filter(|c| {
        let d = &c.dataset;
        // Trials of a search are judged on examples that others train on.
        (d.name == wishes.dataset || d.stand_in_for.as_ref() == Some(&wishes.dataset))
            && c.recipe.get("held_out").is_none()
            && !c.ranked().is_empty()
    })
}

/// The comparison that decides: of the data set, nearest in training examples, then with the most valid runs.
fn nearest<'a>(comparisons: &'a [Comparison], wishes: &Wishes) -> Option<&'a Comparison> {
    let distance = |c: &Comparison| {
        let (n, wanted) = (c.dataset.train_examples as f64, wishes.train_size);
        // Without a size: the more the better.
        wanted.map_or(-n, |size| (n / size as f64).ln().abs())
    };
    let methods = |c: &Comparison| {
        let names = c.ranked().iter().map(|r| r.method.as_str());
        names.collect::<BTreeSet<_>>().len()
    };
    let runs = |c: &Comparison| -> usize { c.ranked().iter().map(|r| r.ended_well().0).sum() };
    of_data(comparisons, wishes).min_by(|a, b| {
        distance(a)
            .total_cmp(&distance(b))
            .then(methods(b).cmp(&methods(a)))
            .then(runs(b).cmp(&runs(a)))
    })
}

/// Recommends a method; `None` if there are no valid records of the data set.
pub fn recommend(comparisons: &[Comparison], wishes: &Wishes) -> Option<Recommendation> {
    let comparison = nearest(comparisons, wishes)?;
    let rows = comparison.ranked();
    let metric = comparison.metric();
    let judged: Vec<(usize, Candidate)> = rows
        .iter()
        .enumerate()
        .filter_map(|(i, row)| {
            let verdict = comparison.verdict_on(i);
            Some((i, candidate(row, verdict, wishes, metric)?))
        })
        .collect();
    let fitting: Vec<usize> = judged
        .iter()
        .filter(|(_, c)| c.fits != Verdict::DoesNotHold)
        .map(|(i, _)| *i)
        .collect();
    let (chosen, mut answer) = comparison.recommended(&fitting);
    if let Some(row) = chosen.map(|i| &rows[i]) {
        let reached = row.metric.as_ref().map(|m| shown_metric(metric, m));
        let reached = reached.unwrap_or_default();
        let parameters = row.parameters.map_or_else(String::new, |p| {
            format!(", {} trained parameters", format::count(p.method))
        });
        answer.insert(0, format!("{}: {reached} {metric}{parameters}.", row.label));
    }
    if let Some((_, c)) = judged.iter().find(|(i, _)| Some(*i) == chosen)
        && c.fits == Verdict::Undecided
    {
        let is_open = |c: &&Constraint| c.verdict == Verdict::Undecided;
        let open = c.constraints.iter().filter(is_open);
        let open: Vec<&str> = open.map(|c| c.what.as_str()).collect();
        answer.push(format!(
            "Whether it keeps the limit of {} is within the noise: measure it with more seeds.",
            format::list(&open)
        ));
    }
    let eligible = comparison.eligible();
    if let Some(&best) = fitting.iter().find(|i| eligible.contains(i)) {
        let told_apart = |&i: &usize| comparison.pair(i, best).is_some_and(Pair::told_apart);
        let ahead = (0..best).filter(|i| !fitting.contains(i) && told_apart(i));
        let ahead: Vec<&str> = ahead.map(|i| rows[i].label.as_str()).collect();
        if !ahead.is_empty() {
            answer.push(format!(
                "Outside the limits, shown to be better than {}: {}.",
                rows[best].label,
                format::list(&ahead)
            ));
        }
    }

    let mut notes = Vec::new();
    let trained = comparison.dataset.train_examples;
    if let Some(asked) = &comparison.dataset.stand_in_for {
        notes.push(format!(
            "{asked} was not found; this is from {}, which stands in for it.",
            comparison.dataset.name
        ));
    }
    if let Some(size) = wishes.train_size
        && !(0.5..=2.0).contains(&(trained as f64 / size as f64))
    {
        notes.push(format!(
            "The nearest records train on {} examples, not {}: run `peftbench sweep {} --study train_size`, or \
             `peftbench compare {} --set recipe.train_examples={size}`.",
            format::count(trained),
            format::count(size),
            wishes.dataset,
            wishes.dataset
        ));
    }
    let others = of_data(comparisons, wishes)
        .filter(|c| !std::ptr::eq(*c, comparison) && c.dataset.train_examples == trained);
    let others: Vec<&str> = others.map(|other| other.name.as_str()).collect();
    if !others.is_empty() {
        notes.push(format!(
            "Other comparisons train on as many examples and are not used here: {}. This one has the most methods, then the most runs.",
            format::list_of_at_most(&others, 3)
        ));
    }
    let mut candidates: Vec<Candidate> = judged.into_iter().map(|(_, c)| c).collect();
    candidates.sort_by_key(|c| c.fits == Verdict::DoesNotHold);
    Some(Recommendation {
        wishes: wishes.clone(),
        comparison: comparison.name.clone(),
        metric: metric.to_owned(),
        train_examples: trained,
        recommended: chosen.map(|i| rows[i].label.clone()),
        answer,
        candidates,
        notes,
    })
}

fn shown_metric(name: &str, summary: &Summary) -> String {
    let mean = format::metric(name, summary.mean);
    match summary.interval {
        None => mean,
        Some([low, high]) => format!(
            "{mean} (95 % interval {} … {})",
            format::metric_spread(name, low, None),
            format::metric(name, high)
        ),
    }
}

fn candidate(row: &Row, verdict: &'static str, wishes: &Wishes, metric: &str) -> Option<Candidate> {
    let busy = match row.busy {
        true => ", measured on a busy machine,",
        false => "",
    };
    let (longest, time) = (wishes.max_training_seconds, format!("training time{busy}"));
    let limits = [
        (wishes.min_metric, Quantity::Metric, metric),
        (wishes.max_parameters, Quantity::Parameters, "parameters"),
        (wishes.max_size, Quantity::FileSize, "size"),
        (wishes.max_memory, Quantity::PeakMemory, "memory"),
        (longest, Quantity::TrainingTime, &time),
    ];
    let limited = limits.into_iter().filter_map(|(limit, quantity, what)| {
        let found = quantity.of(row).map(|s| (s.mean, s.interval));
        let (at_least, show) = (quantity.higher_is_better(), |x| quantity.show(metric, x));
        Some(constraint(what.into(), found, limit?, at_least, &show))
    });
    let mut constraints: Vec<Constraint> = limited.collect();
    if let Some(limit) = wishes.max_latency_overhead {
        // A method that merges can be merged before it serves.
        let (variant, what) = match row.sentence("merged") {
            Some(_) => ("merged", "latency overhead, merged"),
            None => ("unmerged", "latency overhead"),
        };
        let found = row.over_backbone(variant);
        let found = found.map(|r| (r.ratio - 1.0, r.interval.map(|i| i.map(|x| x - 1.0))));
        let what = format!("{what}{busy}");
        constraints.push(constraint(what, found, limit, false, &percent));
    }
    let any = |v| constraints.iter().any(|c| c.verdict == v);
    Some(Candidate {
        label: row.label.clone(),
        metric: row.metric.clone()?,
        letters: row.letters.clone(),
        verdict,
        fits: if any(Verdict::DoesNotHold) {
            Verdict::DoesNotHold
        } else if any(Verdict::Undecided) {
            Verdict::Undecided
        } else {
            Verdict::Holds
        },
        constraints,
        records: row.runs.iter().map(|r| r.id.clone()).collect(),
    })
}

fn constraint(
    what: String,
    found: Option<(f64, Option<[f64; 2]>)>,
    limit: f64,
    at_least: bool,
    show: &dyn Fn(f64) -> String,
) -> Constraint {
    let (keeps, side): (fn(&f64, &f64) -> bool, _) = match at_least {
        true => (f64::ge, "at least"),
        false => (f64::le, "at most"),
    };
    let (verdict, measured) = match found {
        None => (Verdict::Undecided, "not measured".to_owned()),
        Some((value, interval)) => {
            let [low, high] = interval.unwrap_or([value, value]);
            let verdict = match (keeps(&low, &limit), keeps(&high, &limit)) {
                (true, true) => Verdict::Holds,
                (false, false) => Verdict::DoesNotHold,
                _ => Verdict::Undecided,
            };
            let interval = match interval {
                Some([l, h]) if l < h => format!(" ({} … {})", show(l), show(h)),
                _ => String::new(),
            };
            (verdict, format!("{}{interval}", show(value)))
        }
    };
    Constraint {
        text: format!("{what} {measured}, {side} {}", show(limit)),
        what,
        value: found.map(|f| f.0),
        interval: found.and_then(|f| f.1),
        limit,
        verdict,
    }
}

/// The recommendation for a terminal.
pub fn terminal(recommendation: &Recommendation) -> String {
    let mut text = String::new();
    for sentence in &recommendation.answer {
        text += &format!("{}\n", wrap(sentence, 100));
    }
    text += &format!("\nEvidence: {}\n", recommendation.comparison);
    let candidates = &recommendation.candidates;
    let widths = candidates.iter().map(|c| c.label.chars().count());
    let width = widths.max().unwrap_or(0);
    for c in candidates {
        let fits = match c.fits {
            Verdict::Holds => "fits",
            Verdict::Undecided => "may fit",
            Verdict::DoesNotHold => "does not fit",
        };
        text += &format!(
            "  {:width$}  {fits:12}  {:12}  {}\n",
            c.label,
            c.verdict,
            shown_metric(&recommendation.metric, &c.metric)
        );
        for constraint in &c.constraints {
            text += &format!("  {:width$}    {}\n", "", constraint.text);
        }
    }
    let undecided = words::verdict(statistics::Verdict::Undecided);
    if candidates.iter().any(|c| c.verdict == undecided) {
        text += &format!("{}\n", words::UNDECIDED);
    }
    for note in &recommendation.notes {
        text += &format!("! {note}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;
    use record::RunRecord;

    /// Three seeds of full (best, large), lora and adapter (like it), head_only (worse, smallest).
    fn records(train: usize) -> Vec<RunRecord> {
        let mut all = Vec::new();
        for seed in 0..3 {
            for (method, parameters, bytes, wrong, latency) in [
                ("full", 22_713_216, 90_000_000, 100, 4.0),
                ("lora", 73_728, 300_000, 103, 4.8),
                ("adapter", 226_080, 900_000, 101, 4.6),
                ("head_only", 0, 3_300, 300, 4.0),
            ] {
                let mut sample = Sample::new(method)
                    .seed(seed)
                    .parameters(parameters)
                    .file_bytes(bytes)
                    .right(1000, move |i| i >= wrong)
                    .latency("backbone", 4.0, 6.0)
                    .latency("unmerged", latency + 0.01 * seed as f64, 7.0)
                    .with(|r| r.asked.dataset.train_examples = train);
                if method == "lora" {
                    sample = sample.latency("merged", 4.0, 6.0);
                }
                all.push(sample.record());
            }
        }
        all
    }

    fn ask(wishes: Wishes) -> Recommendation {
        let wishes = Wishes {
            dataset: "sst2".into(),
            ..wishes
        };
        recommend(&Comparison::from_records(&records(16_000)), &wishes).unwrap()
    }

    #[test]
    fn without_limits_the_cheapest_of_those_like_the_best_is_recommended() {
        let found = ask(Wishes::default());
        assert_eq!(found.recommended.as_deref(), Some("lora"));
        assert!(
            found.answer[2].contains("So are") && found.answer[2].contains("adapter and full"),
            "{:?}",
            found.answer
        );
    }

    #[test]
    fn limits_leave_out_what_does_not_keep_them_and_say_what_they_cost() {
        let found = ask(Wishes {
            max_size: Some(100_000.0),
            ..Wishes::default()
        });
        assert_eq!(found.recommended.as_deref(), Some("head_only"));
        assert!(
            found
                .answer
                .iter()
                .any(|a| a
                    == "Outside the limits, shown to be better than head_only: full, adapter and lora."),
            "{:?}",
            found.answer
        );
        assert_eq!(found.candidates[0].label, "head_only");
        assert_eq!(
            found.candidates[1].constraints[0].text,
            "size 90.0 MB, at most 100 kB"
        );
    }

    #[test]
    fn a_method_that_merges_is_judged_by_its_merged_latency() {
        let found = ask(Wishes {
            max_latency_overhead: Some(0.05),
            max_size: Some(1e6),
            ..Wishes::default()
        });
        assert_eq!(found.recommended.as_deref(), Some("lora"));
        let adapter = found.candidates.iter().find(|c| c.label == "adapter");
        assert_eq!(adapter.unwrap().fits, Verdict::DoesNotHold);
    }

    #[test]
    fn a_limit_inside_the_interval_is_undecided_and_said() {
        // 4.6, 4.61 and 4.62 ms over 4.0 ms: 15.25 % ± 0.6.
        let found = ask(Wishes {
            max_latency_overhead: Some(0.153),
            max_size: Some(1e6),
            min_metric: Some(0.898),
            ..Wishes::default()
        });
        // lora merges, and its metric of 89.7 % may be 89.8 % on other examples.
        assert_eq!(found.recommended.as_deref(), Some("lora"));
        let adapter = found
            .candidates
            .iter()
            .find(|c| c.label == "adapter")
            .unwrap();
        assert_eq!(adapter.fits, Verdict::Undecided);
        assert!(found.answer.iter().any(|a| a.contains("within the noise")));
        assert!(terminal(&found).contains("may fit"));
    }

    #[test]
    fn undecided_is_not_left_to_be_read_as_equal() {
        let run = |method: &str, seed: u64, from: usize, wrong: usize| {
            Sample::new(method)
                .seed(seed)
                .right(1000, move |i| !(from..from + wrong).contains(&i))
                .record()
        };
        let records: Vec<RunRecord> = (0..3)
            .flat_map(|seed| [run("full", seed, 0, 100), run("lora", seed, 300, 104)])
            .collect();
        let wishes = Wishes {
            dataset: "sst2".into(),
            ..Wishes::default()
        };
        let found = recommend(&Comparison::from_records(&records), &wishes).unwrap();
        assert_eq!(found.candidates[1].verdict, "undecided");
        assert!(terminal(&found).contains("Undecided is not equal"));
        // Said where there is something undecided only.
        let decided = ask(Wishes::default());
        assert!(decided.candidates.iter().all(|c| c.verdict != "undecided"));
        assert!(!terminal(&decided).contains("Undecided"));
    }

    #[test]
    fn another_comparison_of_the_same_data_is_named_where_it_was_not_used() {
        let mut all = records(16_000);
        let rounded = Sample::new("lora").with(|r| {
            r.asked.backbone.precision = Some("bf16".into());
            r.asked.dataset.train_examples = 16_000;
        });
        all.push(rounded.record());
        let wishes = Wishes {
            dataset: "sst2".into(),
            ..Wishes::default()
        };
        let found = recommend(&Comparison::from_records(&all), &wishes).unwrap();
        assert_eq!(found.recommended.as_deref(), Some("lora"));
        assert!(
            found
                .notes
                .iter()
                .any(|n| n.contains("not used here: sst2 · minilm (bf16)")),
            "{:?}",
            found.notes
        );
    }

    #[test]
    fn nothing_fits_is_an_answer_and_another_data_set_has_none() {
        let found = ask(Wishes {
            min_metric: Some(0.99),
            ..Wishes::default()
        });
        assert_eq!(found.recommended, None);
        assert_eq!(found.answer, ["No method fits all of these limits."]);
        let wishes = Wishes {
            dataset: "cola".into(),
            ..Wishes::default()
        };
        assert!(recommend(&Comparison::from_records(&records(16)), &wishes).is_none());
    }

    #[test]
    fn the_nearest_training_set_size_decides_and_a_far_one_is_said() {
        let mut all = records(16_000);
        all.extend(records(64));
        let comparisons = Comparison::from_records(&all);
        let ask = |size| {
            let wishes = Wishes {
                dataset: "sst2".into(),
                train_size: Some(size),
                ..Wishes::default()
            };
            recommend(&comparisons, &wishes).unwrap()
        };
        assert_eq!(ask(100).train_examples, 64);
        assert!(ask(100).notes.is_empty());
        assert_eq!(ask(5_000).train_examples, 16_000);
        assert!(ask(5_000).notes[0].contains("train_size"));
    }
}
