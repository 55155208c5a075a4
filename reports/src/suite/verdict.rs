//! What holds over all data sets of a suite: its tables, and what they say.

use std::collections::BTreeSet;

use statistics::{Looks, Margin, Ranks, Verdict};

use super::{
    Judged,
    pair::{Pair, pairs},
    places::change,
};
use crate::{
    format,
    measurement::Measurement,
    row::Row,
    table::{Cell, Column, Table},
    words,
};

/// The verdict over these data sets, in the order given: its tables and what they say. `ended` says that none of them goes on, whatever
/// looks are left.
pub fn judge(
    title: &str,
    about: &str,
    datasets: &[Judged<'_>],
    ended: bool,
    margin: Margin,
) -> Measurement {
    let methods = methods(datasets);
    let looks = looks(datasets);
    let pairs = pairs(datasets, &methods, looks.as_ref(), ended, margin);
    let ranks = ranks(datasets, &methods);
    let mut tables = vec![matrix(datasets, ranks.as_ref().map(|r| (&methods[..], r)))];
    if !pairs.is_empty() {
        tables.push(pair_table(&pairs));
    }
    let mut sentences = sentences(datasets, &methods, &pairs, ranks.as_ref(), margin);
    sentences.extend(looks.as_ref().map(words::looked_at));
    Measurement {
        title: title.to_owned(),
        description: about.to_owned(),
        tables,
        sentences,
    }
}

/// The numbers of seeds at which any of the data sets was looked at; absent where each had one look.
fn looks(datasets: &[Judged<'_>]) -> Option<Looks> {
    let all = datasets.iter().filter_map(|d| d.comparison.looks.as_ref());
    let seeds: BTreeSet<usize> = all.flat_map(|looks| looks.seeds()).copied().collect();
    Looks::new(seeds.into_iter().collect()).ok()
}

/// The methods that are ranked on every data set and learn something from the texts, in the order of the first.
fn methods<'a>(datasets: &'a [Judged<'a>]) -> Vec<&'a str> {
    let Some(first) = datasets.first() else {
        return Vec::new();
    };
    let everywhere = |row: &&Row| {
        let known = |d: &Judged<'_>| d.row(&row.label).is_some_and(|row| d.part(row).is_some());
        !row.is_floor_by_name() && datasets.iter().all(known)
    };
    let rows = first.comparison.ranked().iter().filter(everywhere);
    rows.map(|row| row.label.as_str()).collect()
}

fn ranks(datasets: &[Judged<'_>], methods: &[&str]) -> Option<Ranks> {
    let of = |d: &Judged<'_>| -> Option<Vec<f64>> {
        methods.iter().map(|m| d.part(d.row(m)?)).collect()
    };
    let table: Option<Vec<Vec<f64>>> = datasets.iter().map(of).collect();
    Ranks::of(&table?)
}

/// Methods by data sets: the main metric and what is shown against the data set's best.
fn matrix(datasets: &[Judged<'_>], ranks: Option<(&[&str], &Ranks)>) -> Table {
    let mut columns = vec![
        Column::text("method", "method", "method", 0),
        Column::number("average", "average", "average (points)", 0),
        Column::number("rank", "rank", "average rank", 1),
    ];
    columns.extend(datasets.iter().map(|d| {
        let metric = format::metric_title(d.comparison.metric());
        Column::number(d.name, d.name, &format!("{}, {metric}", d.name), 2)
    }));
    let mut labels: Vec<&str> = Vec::new();
    for row in datasets.iter().flat_map(|d| d.comparison.ranked()) {
        if !labels.contains(&row.label.as_str()) {
            labels.push(&row.label);
        }
    }
    let average = |label: &str| -> Option<f64> {
        let (mut sum, mut weights) = (0.0, 0.0);
        for d in datasets.iter().filter(|d| d.weight > 0.0) {
            sum += d.weight * d.part(d.row(label)?)?;
            weights += d.weight;
        }
        (weights > 0.0).then(|| sum / weights)
    };
    labels.sort_by(|a, b| {
        let value = |label: &str| average(label).unwrap_or(f64::NEG_INFINITY);
        value(b).total_cmp(&value(a))
    });
    let rank = |label: &str| {
        let (methods, ranks) = ranks?;
        let place = methods.iter().position(|m| *m == label)?;
        Some(ranks.average[place])
    };
    let rows = labels.iter().map(|label| {
        let (mean, place) = (average(label), rank(label));
        let mut cells = vec![
            Cell::text(*label),
            Cell::of(mean, || format!("{:.1}", 100.0 * mean.unwrap_or_default())),
            Cell::of(place, || format!("{:.2}", place.unwrap_or_default())),
        ];
        cells.extend(datasets.iter().map(|d| cell(d, label)));
        cells
    });
    Table {
        caption: "Main metric on each data set, ± over seeds, against its highest: ★ the highest, ≈ equivalent, ▽ worse, ? \
                  undecided, nothing where too few seeds were run for a verdict"
            .to_owned(),
        columns,
        rows: rows.collect(),
    }
}

fn cell(d: &Judged<'_>, label: &str) -> Cell {
    let ranked = d.comparison.ranked();
    let Some(place) = ranked.iter().position(|row| row.label == label) else {
        return Cell::hidden(None::<f64>);
    };
    let tested = d.comparison.pair(0, place).filter(|pair| pair.is_tested());
    let mark = match tested.map(|pair| pair.verdict) {
        _ if place == 0 => " ★",
        Some(Verdict::Better) => " ▽",
        Some(Verdict::Equivalent) => " ≈",
        Some(Verdict::Undecided) => " ?",
        Some(Verdict::Worse) | None => "",
    };
    let metric = ranked[place].metric.as_ref();
    Cell::of(metric.map(|m| m.mean), || {
        let spread = metric.map(|m| format::metric_spread(d.comparison.metric(), m.mean, m.sd));
        format!("{}{mark}", spread.unwrap_or_default())
    })
}

fn points(difference: f64) -> String {
    format!("{:.2}", 100.0 * difference)
}

fn pair_table(pairs: &[Pair<'_>]) -> Table {
    let headings = [
        "higher mean",
        "lower mean",
        "the first is",
        "difference (points)",
        "95 % interval",
        "p after Holm",
        "probability of improvement",
        "sd between data sets (points)",
    ];
    let headings = headings.map(str::to_owned);
    let rows = pairs.iter().map(|pair| {
        let [low, high] = pair.combined.interval;
        vec![
            pair.first.to_owned(),
            pair.second.to_owned(),
            words::verdict(pair.verdict).to_owned(),
            points(pair.combined.difference),
            format!("{} to {}", points(low), points(high)),
            format::p_value(pair.p),
            pair.improvement
                .map_or_else(String::new, |x| format!("{:.0} %", 100.0 * x)),
            points(pair.combined.between),
        ]
    });
    let caption = "Every two methods over all data sets (Hartung and Knapp, Holm, 5 %)";
    Table::of_texts(caption, 3, &headings, rows.collect())
}

fn sentences(
    datasets: &[Judged<'_>],
    methods: &[&str],
    pairs: &[Pair<'_>],
    ranks: Option<&Ranks>,
    margin: Margin,
) -> Vec<String> {
    let mut said = Vec::new();
    let of = |wanted: Verdict, between: &str| -> Vec<String> {
        let pairs = pairs.iter().filter(|pair| pair.verdict == wanted);
        pairs
            .map(|pair| format!("{} {between} {}", pair.first, pair.second))
            .collect()
    };
    let (better, equal) = (of(Verdict::Better, "than"), of(Verdict::Equivalent, "and"));
    if pairs.is_empty() {
        let none = "No two methods were run with two seeds or more on two data sets or more, so nothing is said over all of them.";
        said.push(none.to_owned());
    } else if better.is_empty() {
        said.push(format!(
            "Over {} data sets no method is shown to be better than another. {}",
            datasets.len(),
            words::UNDECIDED
        ));
    } else {
        said.push(format!(
            "Over {} data sets these are shown to be better: {}.",
            datasets.len(),
            format::list(&better)
        ));
        if !of(Verdict::Undecided, "and").is_empty() {
            said.push(words::UNDECIDED.to_owned());
        }
    }
    if !equal.is_empty() {
        said.push(format!(
            "Equivalent within {} points on the mean: {}.",
            points(margin.get()),
            format::list(&equal)
        ));
    }
    // A decision of an early look stands, whatever came later.
    let turned = of(Verdict::Worse, "than");
    if !turned.is_empty() {
        said.push(format!(
            "Shown to be worse at an early look, though the mean of all seeds is higher: {}.",
            format::list(&turned)
        ));
    }
    said.extend(of_weights(datasets));
    said.extend(ranks.map(|ranks| of_ranks(methods, ranks)));
    said.extend(pairs.iter().filter_map(|pair| change(datasets, pair)));
    said
}

/// How much the data sets count in the average, where they do not count alike.
fn of_weights(datasets: &[Judged<'_>]) -> Option<String> {
    if datasets
        .windows(2)
        .all(|two| two[0].weight == two[1].weight)
    {
        return None;
    }
    let weights = datasets.iter().map(|d| format!("{} {}", d.name, d.weight));
    Some(format!(
        "In the average the data sets have these weights: {}; nothing else is weighted.",
        format::list(&weights.collect::<Vec<_>>())
    ))
}

/// Which methods differ by their average ranks.
fn of_ranks(methods: &[&str], ranks: &Ranks) -> String {
    let mut apart = Vec::new();
    for (a, first) in methods.iter().enumerate() {
        for (b, second) in methods.iter().enumerate() {
            if ranks.average[b] - ranks.average[a] > ranks.critical_difference {
                apart.push(format!("{first} before {second}"));
            }
        }
    }
    format!(
        "Average ranks of {} methods over {} data sets differ at 5 % if they lie more than {:.2} apart (Nemenyi): {}.",
        methods.len(),
        ranks.datasets,
        ranks.critical_difference,
        match apart.as_slice() {
            [] => "no two do".to_owned(),
            apart => format::list(apart),
        }
    )
}
