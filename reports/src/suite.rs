//! The verdict over many data sets: comparisons under one recipe, taken together.
//!
//! The data sets are a sample of those that could be asked about, so a mean difference has an interval over data sets
//! ([`Combined`]: Hartung and Knapp), beside which stand the probability of improvement and the average rank with its critical
//! difference. Metrics of different kinds are averaged as boards do it: points of a fraction and of a correlation count alike.

use statistics::{
    ALPHA, Combined, Correlation, Estimate, Evidence, Margin, Ranks, Verdict, holm,
    probability_of_improvement,
};

use crate::{
    comparison::Comparison,
    format,
    measurement::Measurement,
    row::Row,
    table::{Cell, Column, Table},
    words,
};

/// Data sets that a correlation with a property needs at least.
const FEWEST_FOR_PROPERTY: usize = 5;

/// A data set of a suite.
pub struct Judged<'a> {
    /// Its name.
    pub name: &'a str,
    /// The metrics whose mean is its part of the average; the main metric where there is none.
    pub average: &'a [String],
    /// What was compared on it.
    pub comparison: &'a Comparison,
}

impl Judged<'_> {
    fn row(&self, label: &str) -> Option<&Row> {
        self.comparison
            .ranked()
            .iter()
            .find(|row| row.label == label)
    }

    /// A row's part of the average.
    fn part(&self, row: &Row) -> Option<f64> {
        let main = [self.comparison.metric().to_owned()];
        let names: &[String] = match self.average {
            [] => &main,
            named => named,
        };
        let values: Option<Vec<f64>> = names
            .iter()
            .map(|name| Some(row.metrics.get(name)?.mean))
            .collect();
        statistics::mean(&values?)
    }
}

/// Two methods over all data sets.
struct Pair<'a> {
    first: &'a str,
    second: &'a str,
    combined: Combined,
    improvement: Option<f64>,
    /// Differences by data set.
    differences: Vec<Evidence>,
}

impl Pair<'_> {
    /// What is shown of the first, with a p-value that is corrected for all pairs.
    fn verdict(&self, p: f64, margin: Margin) -> Verdict {
        let [low, high] = self.combined.interval;
        match p < ALPHA {
            true if self.combined.difference > 0.0 => Verdict::Better,
            true => Verdict::Worse,
            false if low > -margin.get() && high < margin.get() => Verdict::Equivalent,
            false => Verdict::Undecided,
        }
    }
}

/// The verdict over these data sets, in the order given: its tables and what they say.
pub fn judge(title: &str, about: &str, datasets: &[Judged<'_>], margin: Margin) -> Measurement {
    let methods = methods(datasets);
    let (pairs, ranks) = (pairs(datasets, &methods), ranks(datasets, &methods));
    let p = holm(&pairs.iter().map(|pair| pair.combined.p).collect::<Vec<_>>());
    let verdicts: Vec<(&Pair<'_>, f64, Verdict)> = pairs
        .iter()
        .zip(p)
        .map(|(pair, p)| (pair, p, pair.verdict(p, margin)))
        .collect();
    let mut tables = vec![matrix(datasets, ranks.as_ref().map(|r| (&methods[..], r)))];
    if !verdicts.is_empty() {
        tables.push(pair_table(&verdicts));
    }
    Measurement {
        title: title.to_owned(),
        description: about.to_owned(),
        tables,
        sentences: sentences(datasets, &methods, &verdicts, ranks.as_ref(), margin),
    }
}

/// The methods that are ranked on every data set and learn something from the texts, in the order of the first.
fn methods<'a>(datasets: &'a [Judged<'a>]) -> Vec<&'a str> {
    let Some(first) = datasets.first() else {
        return Vec::new();
    };
    let everywhere = |row: &&Row| {
        let known = |d: &Judged<'_>| d.row(&row.label).is_some_and(|row| d.part(row).is_some());
        let learns = row.kind.as_ref().is_none_or(|kind| kind.family != "floor");
        learns && datasets.iter().all(known)
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

/// Every two methods that can be compared on all data sets.
fn pairs<'a>(datasets: &[Judged<'_>], methods: &[&'a str]) -> Vec<Pair<'a>> {
    let mut pairs = Vec::new();
    for (i, &first) in methods.iter().enumerate() {
        for &second in &methods[i + 1..] {
            let evidence = |d: &Judged<'_>| {
                let (a, b) = (d.row(first)?, d.row(second)?);
                Evidence::of(&a.scores.as_ref()?.minus(b.scores.as_ref()?)?)
            };
            let Some(differences) = datasets.iter().map(evidence).collect::<Option<Vec<_>>>()
            else {
                continue;
            };
            let estimates: Vec<Estimate> = differences
                .iter()
                .map(|e| Estimate {
                    difference: e.difference,
                    variance: e.components.variance(),
                })
                .collect();
            let values = |label: &str, d: &Judged<'_>| {
                let metric = d.row(label).and_then(|row| row.metric.as_ref());
                metric.map_or_else(Vec::new, |m| m.values.clone())
            };
            let runs = datasets
                .iter()
                .map(|d| (values(first, d), values(second, d)));
            let Some(combined) = Combined::of(&estimates) else {
                continue;
            };
            pairs.push(Pair {
                first,
                second,
                combined,
                improvement: probability_of_improvement(&runs.collect::<Vec<_>>()),
                differences,
            });
        }
    }
    // The first is the one that is ahead.
    for pair in &mut pairs {
        if pair.combined.difference < 0.0 {
            std::mem::swap(&mut pair.first, &mut pair.second);
            let [low, high] = pair.combined.interval;
            pair.combined.interval = [-high, -low];
            pair.combined.difference *= -1.0;
            pair.improvement = pair.improvement.map(|p| 1.0 - p);
            for evidence in &mut pair.differences {
                let [low, high] = evidence.interval;
                evidence.interval = [-high, -low];
                evidence.difference *= -1.0;
            }
        }
    }
    pairs.sort_by(|a, b| b.combined.difference.total_cmp(&a.combined.difference));
    pairs
}

/// Methods by data sets: the main metric and what is shown against the data set's best.
fn matrix(datasets: &[Judged<'_>], ranks: Option<(&[&str], &Ranks)>) -> Table {
    let mut columns = vec![Column::text("method", "method", "method", 0)];
    columns.push(Column::number("average", "average", "average (points)", 0));
    columns.push(Column::number("rank", "rank", "average rank", 1));
    for d in datasets {
        let title = format!(
            "{}, {}",
            d.name,
            format::metric_title(d.comparison.metric())
        );
        columns.push(Column::number(d.name, d.name, &title, 2));
    }
    let mut labels: Vec<&str> = Vec::new();
    for row in datasets.iter().flat_map(|d| d.comparison.ranked()) {
        if !labels.contains(&row.label.as_str()) {
            labels.push(&row.label);
        }
    }
    let average = |label: &str| -> Option<f64> {
        let parts: Option<Vec<f64>> = datasets.iter().map(|d| d.part(d.row(label)?)).collect();
        statistics::mean(&parts?)
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
        let mut cells = vec![Cell::text(*label)];
        let mean = average(label);
        cells.push(Cell::of(mean, || {
            format!("{:.1}", 100.0 * mean.unwrap_or(f64::NAN))
        }));
        let place = rank(label);
        cells.push(Cell::of(place, || {
            format!("{:.2}", place.unwrap_or(f64::NAN))
        }));
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
    let mark = match d.comparison.pair(0, place) {
        _ if place == 0 => " ★",
        Some(pair) if !pair.is_tested() => "",
        Some(pair) => match pair.verdict {
            Verdict::Better => " ▽",
            Verdict::Equivalent => " ≈",
            Verdict::Undecided => " ?",
            Verdict::Worse => "",
        },
        None => "",
    };
    let metric = ranked[place].metric.as_ref();
    Cell::of(metric.map(|m| m.mean), || {
        let spread =
            |m: &statistics::Summary| format::metric_spread(d.comparison.metric(), m.mean, m.sd);
        format!("{}{mark}", metric.map_or_else(String::new, spread))
    })
}

fn points(difference: f64) -> String {
    format!("{:.2}", 100.0 * difference)
}

fn pair_table(verdicts: &[(&Pair<'_>, f64, Verdict)]) -> Table {
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
    let rows = verdicts.iter().map(|(pair, p, verdict)| {
        let [low, high] = pair.combined.interval;
        vec![
            pair.first.to_owned(),
            pair.second.to_owned(),
            words::verdict(*verdict).to_owned(),
            points(pair.combined.difference),
            format!("{} to {}", points(low), points(high)),
            format::p_value(*p),
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
    verdicts: &[(&Pair<'_>, f64, Verdict)],
    ranks: Option<&Ranks>,
    margin: Margin,
) -> Vec<String> {
    let mut said = Vec::new();
    let of = |wanted: Verdict| {
        let pairs = verdicts.iter().filter(|(_, _, v)| *v == wanted);
        pairs.map(|(pair, ..)| *pair).collect::<Vec<_>>()
    };
    let better: Vec<String> = of(Verdict::Better)
        .iter()
        .map(|pair| format!("{} than {}", pair.first, pair.second))
        .collect();
    if verdicts.is_empty() {
        said.push(
            "No two methods were run with two seeds or more on two data sets or more, so nothing is said over all of them."
                .to_owned(),
        );
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
    }
    let equal: Vec<String> = of(Verdict::Equivalent)
        .iter()
        .map(|pair| format!("{} and {}", pair.first, pair.second))
        .collect();
    if !equal.is_empty() {
        said.push(format!(
            "Equivalent within {} points on the mean: {}.",
            points(margin.get()),
            format::list(&equal)
        ));
    }
    if let Some(ranks) = ranks {
        said.push(format!(
            "Average ranks of {} methods over {} data sets that differ by more than {:.2} differ at 5 % (Nemenyi).",
            methods.len(),
            ranks.datasets,
            ranks.critical_difference
        ));
    }
    said.extend(
        verdicts
            .iter()
            .filter_map(|(pair, ..)| change(datasets, pair)),
    );
    said
}

/// That two methods change places from one data set to another, and which property of the data goes with it.
fn change(datasets: &[Judged<'_>], pair: &Pair<'_>) -> Option<String> {
    let shown = |ahead: bool| -> Vec<&str> {
        let of = datasets.iter().zip(&pair.differences);
        let sure = of.filter(|(_, e)| match ahead {
            true => e.interval[0] > 0.0,
            false => e.interval[1] < 0.0,
        });
        sure.map(|(d, _)| d.name).collect()
    };
    let (ahead, behind) = (shown(true), shown(false));
    if ahead.is_empty() || behind.is_empty() {
        return None;
    }
    let mut said = format!(
        "{} and {} change places: the first is ahead on {}, the second on {} (95 % intervals of each, not corrected).",
        pair.first,
        pair.second,
        format::list(&ahead),
        format::list(&behind)
    );
    if datasets.len() >= FEWEST_FOR_PROPERTY {
        let differences: Vec<f64> = pair.differences.iter().map(|e| e.difference).collect();
        let length = |d: &Judged<'_>| {
            let cost = d
                .comparison
                .records
                .iter()
                .find_map(|r| r.cost.as_ref().filter(|c| c.examples > 0));
            cost.map_or(0.0, |cost| cost.tokens as f64 / cost.examples as f64)
        };
        let properties: [(&str, Vec<f64>); 3] = [
            (
                "the training examples",
                datasets
                    .iter()
                    .map(|d| d.comparison.dataset.train_examples as f64)
                    .collect(),
            ),
            (
                "the tokens of a text",
                datasets.iter().map(length).collect(),
            ),
            (
                "the number of classes",
                datasets
                    .iter()
                    .map(|d| d.comparison.dataset.labels.len() as f64)
                    .collect(),
            ),
        ];
        let strongest = properties
            .iter()
            .map(|(name, values)| (name, Correlation::Spearman.value(values, &differences)))
            .max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()));
        if let Some((name, correlation)) = strongest {
            said += &format!(
                " What goes with it most is {name} (rank correlation {correlation:.2} over {} data sets: a description, no test).",
                datasets.len()
            );
        }
    }
    Some(said)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::{self, Sample};

    /// Comparisons over so many data sets, in which `lora` is right more often than `bitfit` by the shares given.
    fn comparisons(ahead: &[usize]) -> Vec<(String, Comparison)> {
        let labels: Vec<u32> = (0..400).map(|i| i % 2).collect();
        let of = |(i, ahead): (usize, &usize)| {
            let mut records = Vec::new();
            for seed in 0..5 {
                for (method, wrong) in [("lora", 60 - ahead), ("bitfit", 60)] {
                    let from = seed as usize * 3 + i;
                    let right = move |j: usize| !(from..from + wrong).contains(&j);
                    records.push(
                        Sample::new(method)
                            .seed(seed)
                            .predictions(&labels, right)
                            .record(),
                    );
                }
            }
            let name = format!("data{i}");
            let records = sample::on_data(records, &name, None);
            (name, Comparison::from_records(&records).remove(0))
        };
        ahead.iter().enumerate().map(of).collect()
    }

    /// The mean difference over the data sets of [`comparisons`], in closed form.
    ///
    /// Of n = 400 examples `a` differ, the same for each of s = 5 seeds but moved by three from one to the next. So the seeds'
    /// means are all a/n; within a seed the sum of squares is a − a²/n; and two seeds share a − 3 |i − k| of the examples,
    /// a − 6 on average. The variance of the difference is C + W/s with C = (a − 6 − a²/n) / (n (n − 1)) and
    /// C + W = (a − a²/n) / (n (n − 1)). The data sets differ by less than that, so τ² = 0 and each counts by 1 over its
    /// variance.
    fn weighted_mean(ahead: &[f64]) -> f64 {
        let (n, s) = (400.0, 5.0);
        let precision = |a: f64| {
            let shared = a - 6.0 - a * a / n;
            n * (n - 1.0) / (shared + 6.0 / s)
        };
        let all: f64 = ahead.iter().map(|a| precision(*a)).sum();
        let mean = ahead.iter().map(|a| precision(*a) * a / n).sum::<f64>() / all;
        let spread: f64 = ahead
            .iter()
            .map(|a| precision(*a) * (a / n - mean).powi(2))
            .sum();
        assert!(spread < ahead.len() as f64 - 1.0, "τ² is not 0: {spread}");
        mean
    }

    fn verdict(ahead: &[usize]) -> Measurement {
        let comparisons = comparisons(ahead);
        let judged: Vec<Judged<'_>> = comparisons
            .iter()
            .map(|(name, comparison)| Judged {
                name,
                average: &[],
                comparison,
            })
            .collect();
        judge("Four", "", &judged, Margin::POINT)
    }

    #[test]
    fn a_method_that_is_ahead_on_every_data_set_is_better_over_all_of_them() {
        let found = verdict(&[40, 36, 44, 40]);
        assert!(
            found.sentences[0]
                .contains("Over 4 data sets these are shown to be better: lora than bitfit"),
            "{:?}",
            found.sentences
        );
        let cells: Vec<&str> = found.tables[1].rows[0]
            .iter()
            .map(|c| c.text.as_str())
            .collect();
        // The first wins every run.
        assert_eq!(cells[..3], ["lora", "bitfit", "better"]);
        assert_eq!(cells[6], "100 %");
        let mean = weighted_mean(&[40.0, 36.0, 44.0, 40.0]);
        assert_eq!(cells[3], format!("{:.2}", 100.0 * mean));
        // Which is another number than the plain mean.
        assert_eq!(format!("{:.2}", 100.0 * mean), "9.95");
        let matrix = &found.tables[0];
        assert!(matrix.rows[0][0].text == "lora" && matrix.rows[0][3].text.ends_with('★'));
        assert!(matrix.rows[1][3].text.ends_with('▽'));
    }

    #[test]
    fn methods_that_do_not_differ_are_not_called_better() {
        let found = verdict(&[0, 0, 0, 0]);
        assert!(
            !found.sentences[0].contains("shown to be better:"),
            "{:?}",
            found.sentences
        );
    }
}
