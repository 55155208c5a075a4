//! What a comparison answers in words: what is shown of the highest mean, and which method to choose.
//!
//! Chosen is the method with the fewest trained parameters that is shown to be near the best. A floor is never chosen, nor what is not
//! above one.

use std::collections::BTreeMap;

use statistics::{Recommendation, Verdict};

use crate::{Comparison, format, pair::Pair, row::Row, words};

impl Comparison {
    /// The floor with the highest mean.
    fn floor(&self) -> Option<usize> {
        self.ranked().iter().position(Row::is_floor)
    }

    /// Ranked rows that may be recommended: no floors, and only what is above the floors that were run.
    pub fn eligible(&self) -> Vec<usize> {
        let floor = self.floor().and_then(|i| self.rows[i].mean());
        let above = |row: &Row| floor.is_none_or(|floor| row.mean().is_some_and(|m| m > floor));
        let ranked = self.ranked().iter().enumerate();
        let eligible = ranked.filter(|(_, row)| !row.is_floor() && above(row));
        eligible.map(|(i, _)| i).collect()
    }

    /// Which of these ranked rows may not be recommended, and why, a sentence for each reason.
    fn left_out(&self, among: &[usize]) -> Vec<String> {
        let eligible = self.eligible();
        let (floors, below): (Vec<usize>, Vec<usize>) = among
            .iter()
            .filter(|i| !eligible.contains(i))
            .partition(|&&i| self.rows[i].is_floor());
        let named = |rows: &[usize]| {
            let labels: Vec<&str> = rows.iter().map(|&i| self.rows[i].label.as_str()).collect();
            format::list(&labels)
        };
        let (floors, one_class): (Vec<usize>, Vec<usize>) = floors
            .into_iter()
            .partition(|&i| self.rows[i].is_floor_by_name());
        // Below is nothing where there is no floor.
        let floor = self.floor().map(|floor| self.described(floor));
        let as_floors = " as floors, which are there to compare with and not to be chosen";
        let for_mean = ", for a mean that is not above that of ";
        let reasons = [
            (as_floors.to_owned(), floors),
            (", for giving every text the same answer".into(), one_class),
            (for_mean.to_owned() + &floor.unwrap_or_default(), below),
        ];
        let some = reasons.iter().filter(|(_, rows)| !rows.is_empty());
        some.map(|(why, rows)| format!("Left out{why}: {}.", named(rows)))
            .collect()
    }

    /// A floor by its label and what makes it one.
    fn described(&self, floor: usize) -> String {
        let row = &self.rows[floor];
        match row.is_floor_by_name() {
            true => format!("the floor {}", row.label),
            false => format!("{}, which gives every text the same answer", row.label),
        }
    }

    /// The cheapest (by trained parameters) of these ranked rows that is shown to be near the best of them, in words: a
    /// sentence for the answer and one for each thing that is missing. With its row. What is not better than a floor is
    /// left out, which is said.
    pub fn recommended(&self, fitting: &[usize]) -> (Option<usize>, Vec<String>) {
        let eligible = self.eligible();
        let among = fitting.iter().copied().filter(|i| eligible.contains(i));
        let among: Vec<usize> = among.collect();
        let left_out = self.left_out(fitting);
        let (chosen, mut said) = match among.is_empty() && !left_out.is_empty() {
            true => (
                None,
                vec!["No method that fits is above the floors.".into()],
            ),
            false => self.near_best(&among, left_out.is_empty()),
        };
        if let Some((chosen, floor)) = chosen.zip(self.floor())
            && !self.pair(chosen, floor).is_some_and(Pair::told_apart)
        {
            said.push(format!(
                "Its mean is above that of {}, but it is not shown to be better: run more seeds.",
                self.described(floor)
            ));
        }
        said.extend(left_out);
        (chosen, said)
    }

    /// The same among rows that all may be recommended, `alone` if no other row fits.
    fn near_best(&self, among: &[usize], alone: bool) -> (Option<usize>, Vec<String>) {
        let metric = self.metric();
        let cost = |r: &Row| r.parameters.map_or(f64::INFINITY, |p| p.method as f64);
        let costs: Vec<f64> = self.ranked().iter().map(cost).collect();
        let label = |i: usize| self.rows[i].label.as_str();
        match statistics::recommend(&self.family, &costs, among) {
            None => (None, vec!["No method fits all of these limits.".to_owned()]),
            Some(Recommendation::Shown { method, .. }) if among.len() == 1 => {
                let more = if alone {
                    ""
                } else {
                    " and is above the floors"
                };
                let said = format!("{} is the only one that fits{more}.", label(method));
                (Some(method), vec![said])
            }
            Some(Recommendation::Shown { method, others, .. }) => {
                let parameters = self.rows[method].parameters.map(|p| p.method);
                let best = words::shown_near_best(label(method), parameters, metric, self.margin);
                let mut said = vec![best];
                if !others.is_empty() {
                    let others: Vec<&str> = others.iter().map(|&i| label(i)).collect();
                    said.push(format!(
                        "So are, with as many parameters or more: {}.",
                        format::list(&others)
                    ));
                }
                (Some(method), said)
            }
            Some(Recommendation::NotShown {
                nearest,
                missing,
                untested,
            }) => {
                let mut said = vec![words::none_near_best(metric, self.margin)];
                if let Some(method) = nearest {
                    let needs = missing.iter().filter_map(|(other, remedy)| {
                        let evidence = self.family.pair(method, *other)?.evidence;
                        let needs = self.needs(&evidence, remedy, &[method, *other]);
                        let needs = words::needs(&needs);
                        Some(format!("against {} it {needs}", label(*other)))
                    });
                    let needs = needs.collect::<Vec<_>>().join("; ");
                    said.push(format!("Nearest to it is {}: {needs}.", label(method)));
                } else if !untested.is_empty() {
                    said.push(format!(
                        "{} compared on fewer than {} seeds: run more seeds.",
                        match untested.len() {
                            1 => "One pair is".to_owned(),
                            n => format!("{n} pairs are"),
                        },
                        statistics::FEWEST_SEEDS
                    ));
                } else {
                    let none = "No number of seeds is expected to show it: judge on more examples.";
                    said.push(none.to_owned());
                }
                (None, said)
            }
        }
    }

    /// The answer in words, a sentence per entry: what is shown of the highest mean, and what to choose.
    pub fn answer(&self) -> Vec<String> {
        let metric = self.metric();
        let ranked = self.ranked();
        let Some(best) = ranked.first() else {
            return vec!["No method has a valid result.".to_owned()];
        };
        let value = best.mean().map(|mean| format::metric(metric, mean));
        let value = value.unwrap_or_default();
        let name = format::metric_name(metric);
        if ranked.len() == 1 {
            return vec![format!(
                "{} reached {value} {name}; there is no other valid result to compare it with.",
                best.label
            )];
        }
        let highest = ranked.iter().filter(|row| row.mean() == best.mean());
        let highest: Vec<&str> = highest.map(|row| row.label.as_str()).collect();
        let mut text = vec![match highest.len() {
            1 => format!(
                "The highest mean is that of {}: {value} {name}.",
                best.label
            ),
            _ => format!(
                "{} share the highest mean: {value} {name}.",
                format::list_of_at_most(&highest, 8)
            ),
        }];
        if !self.is_tested() {
            text.push(words::too_few_seeds(self.seeds.len()));
            return text;
        }
        let mut by_verdict: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (i, row) in ranked.iter().enumerate().skip(1) {
            let detail = match self.pair(0, i).and_then(|p| Some((p, p.evidence?))) {
                Some((pair, evidence)) if pair.told_apart() => format!(
                    "{} (by {}, 95 % interval {})",
                    row.label,
                    format::metric_difference(metric, pair.difference),
                    format::metric_interval(metric, evidence.interval)
                ),
                _ => row.label.clone(),
            };
            let same = by_verdict.entry(self.verdict_on(i)).or_default();
            same.push(detail);
        }
        let named = |verdict| Some(format::list_of_at_most(by_verdict.get(verdict)?, 4));
        if by_verdict.len() == 1 && by_verdict.contains_key("worse") {
            text.push("Every other method is shown to be worse.".to_owned());
        } else if let Some(worse) = named("worse") {
            text.push(format!("Shown to be worse: {worse}."));
        }
        if let Some(equal) = named("equivalent") {
            let within = words::verdict_in_full(Verdict::Equivalent, metric, self.margin);
            text.push(format!("Shown to be {within}: {equal}."));
        }
        if let Some(open) = named("undecided") {
            text.push(format!("Undecided: {open}. {}", words::UNDECIDED));
        }
        if let Some(untested) = named(words::NOT_TESTED) {
            text.push(format!("Not tested, for too few common seeds: {untested}."));
        }
        let all: Vec<usize> = (0..ranked.len()).collect();
        text.extend(self.recommended(&all).1);
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;

    /// Five seeds of each method: `wrong` of 1,000 examples are wrong from this place on, moved by the seed.
    fn five_seeds(methods: &[(&str, usize, usize, usize)]) -> Comparison {
        let runs = (0..5).flat_map(|seed| {
            methods
                .iter()
                .map(move |&(method, parameters, from, wrong)| {
                    let from = from + seed as usize;
                    Sample::new(method)
                        .seed(seed)
                        .parameters(parameters)
                        .right(1000, move |i| !(from..from + wrong).contains(&i))
                        .record()
                })
        });
        Comparison::from_records(&runs.collect::<Vec<_>>()).remove(0)
    }

    #[test]
    fn every_pair_has_one_of_four_verdicts() {
        let found = five_seeds(&[
            ("full", 22_713_216, 0, 100),
            ("lora", 73_728, 0, 101),
            ("adapter", 226_080, 300, 110),
            ("head_only", 0, 500, 300),
        ]);
        let verdicts: Vec<&str> = (1..4)
            .map(|i| found.pair(0, i).unwrap().verdict_text(true))
            .collect();
        assert_eq!(verdicts, ["equivalent", "undecided", "worse"]);
        let letters: Vec<&str> = found.rows.iter().map(|r| r.letters.as_str()).collect();
        assert_eq!(letters, ["a", "a", "a", "b"]);
        // Set off in tables: the highest mean and what is shown to be like it, not what only shares a letter.
        let leads: Vec<bool> = (0..4).map(|i| found.leads(i)).collect();
        assert_eq!(leads, [true, true, false, false]);
        let open = found.pair(0, 2).unwrap();
        let needs = open.needs.unwrap();
        assert!(needs.more_examples.is_some_and(|n| n > 0), "{needs:?}");
        assert!(open.evidence.unwrap().standard_error > 0.0 && open.sigma.unwrap().example > 0.0);
        let answer = found.answer().join(" ");
        assert!(
            answer.contains("Shown to be worse: head_only (by 20.0 points, 95 % interval "),
            "{answer}"
        );
        assert!(
            answer.contains("Shown to be equivalent within 1.0 points: lora."),
            "{answer}"
        );
        assert!(
            answer.contains("Undecided: adapter. Undecided is not equal"),
            "{answer}"
        );
    }

    #[test]
    fn a_highest_mean_that_several_reach_is_not_said_to_be_that_of_one() {
        let found = five_seeds(&[
            ("lora", 73_728, 0, 100),
            ("prompt_tuning", 7_680, 300, 100),
            ("full", 22_713_216, 0, 120),
        ]);
        assert_eq!(
            found.answer()[0],
            "prompt_tuning and lora share the highest mean: 90.0 % accuracy."
        );
    }

    #[test]
    fn the_cheapest_shown_to_be_near_the_best_is_recommended_and_a_floor_never() {
        let methods = [
            ("full", 22_713_216, 0, 100),
            ("lora", 73_728, 0, 101),
            ("majority", 0, 0, 500),
        ];
        let found = five_seeds(&methods);
        // It is no floor by its answers here, but by the registry.
        assert!(
            found
                .rows
                .iter()
                .any(|r| r.label == "majority" && r.is_floor())
        );
        let (chosen, said) = found.recommended(&[0, 1, 2]);
        assert_eq!(found.rows[chosen.unwrap()].label, "lora");
        assert!(
            said.iter()
                .any(|s| s
                    == "Left out as floors, which are there to compare with and not to be chosen: majority."),
            "{said:?}"
        );
        assert!(
            said[0].contains("less than 1.0 points behind the best is lora, with 73,728"),
            "{said:?}"
        );
        // Far from shown: none, with what would show it.
        let found = five_seeds(&[("full", 9, 0, 100), ("lora", 5, 300, 104)]);
        let (chosen, said) = found.recommended(&found.eligible());
        assert_eq!(chosen, None);
        assert!(
            said[0].contains("none is recommended") && said[1].contains("more"),
            "{said:?}"
        );
    }

    #[test]
    fn no_floor_and_nothing_that_is_not_above_one_is_recommended_whatever_it_reaches_or_costs() {
        let wrongs = [0, 100, 101, 600];
        let mut chosen_at_all = 0;
        for lora in wrongs {
            for prompt in wrongs {
                for floor in wrongs {
                    // The floor costs nothing, so a rule of the fewest parameters alone would take it.
                    let found = five_seeds(&[
                        ("lora", 73_728, 0, lora),
                        ("prompt_tuning", 7_680, 200, prompt),
                        ("majority", 0, 300, floor),
                    ]);
                    let right = |wrong: usize| 1000 - wrong;
                    let reached = |label: &str| match label {
                        "lora" => right(lora),
                        _ => right(prompt),
                    };
                    for fitting in 1..8usize {
                        let fitting: Vec<usize> =
                            (0..3).filter(|i| fitting >> i & 1 == 1).collect();
                        let (chosen, said) = found.recommended(&fitting);
                        let Some(chosen) = chosen else { continue };
                        let label = found.rows[chosen].label.as_str();
                        assert!(fitting.contains(&chosen));
                        assert_ne!(label, "majority", "{said:?}");
                        assert!(reached(label) > right(floor), "{label}: {said:?}");
                        assert!(!said[0].contains("majority"), "{said:?}");
                        // It is not compared with itself.
                        let mut others = said.iter().filter(|s| s.starts_with("So are"));
                        assert!(others.all(|s| !s.contains(label)), "{said:?}");
                        chosen_at_all += 1;
                    }
                    let all = found.answer().join(" ");
                    for sentence in ["best is majority", "majority is the only one that fits"] {
                        assert!(!all.contains(sentence), "{all}");
                    }
                }
            }
        }
        assert!(chosen_at_all > 50, "{chosen_at_all}");
    }

    #[test]
    fn what_is_not_above_a_floor_is_never_recommended() {
        let methods = [
            ("lora", 73_728, 0, 100),
            ("prefix", 9, 0, 600),
            ("majority", 0, 0, 500),
        ];
        let found = five_seeds(&methods);
        let (chosen, said) = found.recommended(&[0, 1, 2]);
        assert_eq!(found.rows[chosen.unwrap()].label, "lora");
        assert_eq!(
            said,
            [
                "lora is the only one that fits and is above the floors.",
                "Left out as floors, which are there to compare with and not to be chosen: majority.",
                "Left out, for a mean that is not above that of the floor majority: prefix.",
            ]
        );
        // Nothing but the floor and what is below it.
        let (chosen, said) = found.recommended(&[1, 2]);
        assert_eq!(chosen, None);
        assert!(
            said[0].starts_with("No method that fits is above the floors"),
            "{said:?}"
        );
    }

    #[test]
    fn the_nearest_examples_are_no_method_to_choose_and_a_probe_of_the_same_cost_is() {
        let found = five_seeds(&[
            ("knn", 0, 0, 101),
            ("linear_probe", 0, 0, 100),
            ("lora", 73_728, 0, 100),
        ]);
        let (chosen, said) = found.recommended(&[0, 1, 2]);
        assert_eq!(found.rows[chosen.unwrap()].label, "linear_probe");
        let left_out =
            "Left out as floors, which are there to compare with and not to be chosen: knn.";
        assert!(said.iter().any(|s| s == left_out), "{said:?}");
    }

    #[test]
    fn what_always_answers_one_class_is_said_and_is_a_floor() {
        let record = Sample::new("new_method")
            .right(100, |i| i % 2 == 0)
            .record();
        let found = &Comparison::from_records(&[record])[0];
        assert!(found.rows[0].is_floor() && found.eligible().is_empty());
        assert_eq!(
            found.left_out(&[0]),
            ["Left out, for giving every text the same answer: new_method."]
        );
        assert_eq!(
            found.rows[0].troubles(),
            ["answers one class whatever the text is"]
        );
    }
}
