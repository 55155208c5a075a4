//! How often the statistics are wrong, in worlds whose truth is known: the whole study, as tables between two markers of a Markdown file.
//!
//! `just error-rates`, or `cargo run --release -p peftbench-statistics --example error_rates -- docs/METHODOLOGY.md [drawings]`.
//! A rate outside its bar is printed in bold, listed on stderr, and makes the program fail.
//!
//! With `fresh` behind it, the same study on streams on which nothing was chosen (`just error-rates-fresh`); of it a summary is written,
//! between markers of its own. A rate outside its bar by more than three standard errors of the simulation makes it fail.
//!
//! Parts named behind that ([`PARTS`], e.g. `- 4000 fresh pairs families`) are made alone and printed; `-` is no file.

use std::{env, fmt::Write, fs, process::ExitCode, time::Instant};

use statistics::Metric;
use study::{Bar, Drawings, Likeness, SequentialRates};

#[path = "../tests/support/study.rs"]
mod study;

const BEGIN: &str = "<!-- error rates: written by `just error-rates` -->";
const END: &str = "<!-- end of error rates -->";
const BEGIN_FRESH: &str =
    "<!-- error rates on fresh streams: written by `just error-rates-fresh` -->";
const END_FRESH: &str = "<!-- end of error rates on fresh streams -->";
/// Standard deviations over seeds of each method's accuracy.
const SEED_SDS: [f64; 5] = [0.0, 0.003, 0.007, 0.02, 0.04];
/// Examples of SST-2's validation split.
const EXAMPLES: usize = 872;

/// A rate with the bar that it must keep.
struct Kept {
    part: &'static str,
    of: String,
    rate: f64,
    bar: Bar,
}

/// The text so far, and the rates that have bars.
struct Report {
    text: String,
    part: &'static str,
    kept: Vec<Kept>,
    drawings: Drawings,
}

impl Report {
    fn table(&mut self, caption: &str, columns: &[&str]) {
        let dashes = vec!["--:"; columns.len()].join("|");
        let _ = write!(
            self.text,
            "\n{caption}\n\n| {} |\n|{dashes}|\n",
            columns.join(" | ")
        );
    }

    /// A row: what it is of, and its rates with the bars that they must keep.
    fn row(&mut self, of: &str, rates: &[(f64, Option<Bar>)]) {
        let mut cells = vec![of.to_owned()];
        for (rate, bar) in rates {
            let cell = format!("{:.1}", 100.0 * rate);
            cells.push(match bar.is_none_or(|bar| bar.holds(*rate)) {
                true => cell,
                false => format!("**{cell}**"),
            });
            self.kept.extend(bar.map(|bar| Kept {
                part: self.part,
                of: of.to_owned(),
                rate: *rate,
                bar,
            }));
        }
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }

    fn pairs(&mut self) {
        self.table(
            "False differences (%) between two equal methods on 872 examples, at 1, 2, 3, 5 and 10 seeds by the bootstrap that was used before, and at 2, \
             3, 5 and 10 now. With one seed there is no test now, and with two no verdict.",
            &["seed sd, methods", "before: 1", "2", "3", "5", "10", "now: 2", "3", "5", "10"],
        );
        let mut further = Vec::new();
        for sd in SEED_SDS {
            for (likeness, name) in [(Likeness::Close, "close"), (Likeness::Distant, "distant")] {
                let before =
                    study::bootstrap([1, 2, 3, 5, 10], sd, likeness, EXAMPLES, self.drawings);
                let now = study::pairs([2, 3, 5, 10], sd, likeness, EXAMPLES, self.drawings);
                let mut rates: Vec<_> = before.map(|rate| (rate, None)).into();
                for (rates_at, bar) in now.iter().zip([
                    None,
                    Some(Bar::FALSE_AT_3),
                    Some(Bar::FALSE),
                    Some(Bar::FALSE),
                ]) {
                    rates.push((rates_at.false_difference, bar));
                }
                let of = format!("{}, {name}", points(sd));
                self.row(&of, &rates);
                further.push((of, now));
            }
        }
        self.table(
            "Coverage (%) of the 95 % interval of a true difference of 1.5 points, and false equivalence (%) of methods that differ by \
             exactly the margin of one point.",
            &["seed sd, methods", "coverage: 3", "5", "10", "false equivalence: 3", "5", "10"],
        );
        for (of, now) in &further {
            let coverage = now[1..].iter().map(|r| (r.coverage, Some(Bar::COVERAGE)));
            let equivalence = now[1..]
                .iter()
                .map(|r| (r.false_equivalence, Some(Bar::EQUIVALENCE)));
            self.row(of, &coverage.chain(equivalence).collect::<Vec<_>>());
        }
        self.table(
            "How often (%) a true difference of 1.5 points is found, and how many of those (%) that a test finds which knows how much differences vary. At three \
             seeds most of what is missed is the price of not knowing it.",
            &["seed sd, methods", "found: 3", "5", "10", "of what knowing finds: 3", "5", "10"],
        );
        for (of, now) in &further {
            let found = now[1..].iter().map(|r| (r.found, None));
            let share = now[1..]
                .iter()
                .zip([None, Some(Bar::FOUND), Some(Bar::FOUND)])
                .map(|(r, bar)| (r.found / r.found_by_knowing, bar));
            self.row(of, &found.chain(share).collect::<Vec<_>>());
        }
    }

    fn metrics(&mut self) {
        self.table(
            "False differences (%) of F1 and Matthews' correlation, by pseudo-values: two equal, distant methods, a quarter of 872 examples with label 1.",
            &["seed sd", "F1: 3", "5", "10", "Matthews: 3", "5", "10"],
        );
        for sd in SEED_SDS {
            let bars = [Bar::FALSE_AT_3, Bar::FALSE, Bar::FALSE].map(Some);
            let rates: Vec<_> = [Metric::F1, Metric::Matthews]
                .into_iter()
                .flat_map(|m| {
                    study::metric_pairs(m, [3, 5, 10], sd, EXAMPLES, self.drawings)
                        .into_iter()
                        .zip(bars)
                })
                .collect();
            self.row(&points(sd), &rates);
        }
    }

    fn rows(&mut self) {
        self.table(
            "Coverage (%) of one method's 95 % interval: accuracy 85 % on 872 examples, then 95 % on 200.",
            &["seed sd", "872 examples: 2", "3", "5", "10", "200 examples: 2", "3", "5", "10"],
        );
        for sd in SEED_SDS {
            let many = study::rows([2, 3, 5, 10], 0.85, sd, EXAMPLES, self.drawings);
            let few = study::rows([2, 3, 5, 10], 0.95, sd.min(0.02), 200, self.drawings);
            let with_bar = |(i, rate): (usize, f64)| (rate, (i > 0).then_some(Bar::COVERAGE));
            let rates: Vec<_> = many
                .into_iter()
                .enumerate()
                .map(with_bar)
                .chain(few.into_iter().enumerate().map(with_bar))
                .collect();
            self.row(&points(sd), &rates);
        }
    }

    fn families(&mut self) {
        self.table(
            "Any false difference (%) among five and among three equal methods after Holm, at 3 and 4 seeds (moderated), 5 and 10 (each pair's own variance).",
            &["seed sd, methods", "five: 3", "4", "5", "10", "three: 3", "4", "5", "10"],
        );
        for sd in SEED_SDS {
            for (likeness, name) in [(Likeness::Close, "close"), (Likeness::Distant, "distant")] {
                let bars = [
                    Bar::FAMILY_MODERATED,
                    Bar::FAMILY_MODERATED,
                    Bar::FAMILY,
                    Bar::FAMILY,
                ];
                let of = |methods: usize| {
                    let sds = vec![sd; methods];
                    let seeds = [3, 4, 5, 10];
                    let rates = study::families(seeds, sds, likeness, EXAMPLES, self.drawings);
                    rates.into_iter().zip(bars.map(Some))
                };
                let rates: Vec<_> = of(5).chain(of(3)).collect();
                self.row(&format!("{}, {name}", points(sd)), &rates);
            }
        }
        let uneven = vec![0.03, 0.03, 0.003, 0.003, 0.003];
        let one = [3, 4, 5].map(|s| {
            study::pair_in_family(
                s,
                uneven.clone(),
                Likeness::Distant,
                EXAMPLES,
                self.drawings,
            )
        });
        let _ = write!(
            self.text,
            "\nModeration assumes that methods vary alike over seeds. Where two of five methods vary ten times as much as the others (3 and 0.3 \
             points), their pair alone, uncorrected, is falsely told apart in {:.1} % at 3 seeds and {:.1} % at 4; from 5 seeds, where it is judged by its own \
             variance, in {:.1} %.\n",
            100.0 * one[0],
            100.0 * one[1],
            100.0 * one[2],
        );
    }

    fn sequential(&mut self) {
        self.table(
            "Going on until it is decided, looks at 3, 5, 10 and 20 seeds: any false difference (%) among equal methods; of a method that is ahead of all \
             others by the margin any false equivalence (%), and how often (%) one of the others is recommended at the end. Half as many drawings as above.",
            &["seed sd", "difference: 2 methods", "5 methods", "equivalence: 2", "5", "worse recommended: 2", "5"],
        );
        for sd in SEED_SDS {
            let [two, five] = [2, 5].map(|m| {
                study::sequential(m, sd, Likeness::Distant, EXAMPLES, self.drawings.half())
            });
            self.row(&points(sd), &with_bars(two, five));
        }
        // Where equivalence can be shown at all.
        let [two, five] = [2, 5]
            .map(|m| study::sequential(m, 0.003, Likeness::Close, 2693, self.drawings.half()));
        self.row("0.3, close, 2693 examples", &with_bars(two, five));
    }

    fn by_hand(&mut self) {
        const SEEDS: [usize; 4] = [3, 5, 10, 20];
        let of = |sd| 100.0 * study::by_hand(&SEEDS, sd, EXAMPLES, self.drawings);
        let _ = write!(
            self.text,
            "\nWhoever adds seeds by hand instead, at 3, 5, 10 and 20 seeds, and stops at the first difference that is shown between two equal methods, is shown one in {:.1} % \
             where the seed sd is 0.3 points and in {:.1} % where it is 2: each time the newest look is judged as if it were the last that was planned.\n",
            of(0.003),
            of(0.02),
        );
    }

    fn choices(&mut self) {
        self.table(
            "Recommending one of five methods that are 0, 0, 3, 6 and 8 points behind the best (the cheapest last), at 5 seeds: how often (%) the rule that \
             was used before (the cheapest that was not told apart from the highest mean) names a method that is truly worse by the margin or more, how often \
             the rule of now does, and how often it names any. The last two columns are its hardest case: four methods behind by exactly the margin.",
            &["seed sd, examples", "before: worse", "now: worse", "now: any", "hardest: worse", "hardest: any"],
        );
        for sd in [0.003, 0.02] {
            for examples in [100, 277, 872, 2693] {
                let clear = study::choices(
                    &[0.0, 0.0, 0.03, 0.06, 0.08],
                    5,
                    sd,
                    examples,
                    self.drawings,
                );
                let hard = study::choices(
                    &[0.0, 0.01, 0.01, 0.01, 0.01],
                    5,
                    sd,
                    examples,
                    self.drawings,
                );
                self.row(
                    &format!("{}, {examples}", points(sd)),
                    &[
                        (clear.worse_untold, None),
                        (clear.worse, Some(Bar::CHOICE)),
                        (clear.any, None),
                        (hard.worse, Some(Bar::CHOICE)),
                        (hard.any, None),
                    ],
                );
            }
        }
    }

    fn many(&mut self) {
        self.table(
            "False differences (%) over 3, 5 and 10 data sets whose true differences vary by τ around zero; over 4 on which each goes on until its two methods are \
             decided there (an eighth as many drawings); and false \"slower\" (%) of equally fast methods over 3, 5 and 10 sittings on a machine that drifts by 3 % from hour to hour.",
            &["τ in points", "3 data sets", "5", "10", "4, going on", "3 sittings", "5", "10"],
        );
        for between in [0.0, 0.005, 0.02] {
            let rates = [3, 5, 10].map(|k| study::datasets(k, between, self.drawings));
            let going_on = study::datasets_going_on(4, between, self.drawings.half().half().half());
            let times = [3, 5, 10].map(|k| study::sittings(k, self.drawings));
            let combined = |rate: f64| (rate, Some(Bar::COMBINED));
            let going_on = (going_on, Some(Bar::SEQUENTIAL));
            let all: Vec<_> = rates
                .map(combined)
                .into_iter()
                .chain([going_on])
                .chain(times.map(combined))
                .collect();
            self.row(&format!("{:.1}", 100.0 * between), &all);
        }
    }
}

fn with_bars(two: SequentialRates, five: SequentialRates) -> [(f64, Option<Bar>); 6] {
    [
        two.false_difference,
        five.false_difference,
        two.false_equivalence,
        five.false_equivalence,
        two.worse_choice,
        five.worse_choice,
    ]
    .map(|rate| (rate, Some(Bar::SEQUENTIAL)))
}

/// A part of the study.
type Part = fn(&mut Report);

/// The parts by name.
const PARTS: [(&str, Part); 8] = [
    ("pairs", Report::pairs),
    ("metrics", Report::metrics),
    ("rows", Report::rows),
    ("families", Report::families),
    ("going-on", Report::sequential),
    ("by-hand", Report::by_hand),
    ("recommending", Report::choices),
    ("data-sets", Report::many),
];

fn points(sd: f64) -> String {
    format!("{:.1}", 100.0 * sd)
}

/// What kept its bar, by part, and what did not.
fn summary(kept: &[Kept], count: usize) -> String {
    let mut text = format!(
        "\n{count} drawings of each world. A rate of 5 % has a standard error of {:.1} points in so many.\n\n\
         | part | bar (%) | rates | lowest | highest | outside |\n|--|--:|--:|--:|--:|--:|\n",
        100.0 * (0.05 * 0.95 / count as f64).sqrt()
    );
    let mut groups: Vec<(&str, Bar)> = Vec::new();
    for k in kept {
        if !groups.contains(&(k.part, k.bar)) {
            groups.push((k.part, k.bar));
        }
    }
    for (part, bar) in groups {
        let own = kept.iter().filter(|k| (k.part, k.bar) == (part, bar));
        let (low, high) = own.clone().fold((1.0_f64, 0.0_f64), |(low, high), k| {
            (low.min(k.rate), high.max(k.rate))
        });
        let _ = writeln!(
            text,
            "| {part} | {bar} | {} | {:.1} | {:.1} | {} |",
            own.clone().count(),
            100.0 * low,
            100.0 * high,
            own.filter(|k| !k.bar.holds(k.rate)).count()
        );
    }
    let outside: Vec<String> = kept
        .iter()
        .filter(|k| !k.bar.holds(k.rate))
        .map(|k| {
            format!(
                "{} ({}): {:.1}, bar {}",
                k.part,
                k.of,
                100.0 * k.rate,
                k.bar
            )
        })
        .collect();
    if !outside.is_empty() {
        let _ = write!(text, "\nOutside: {}.\n", outside.join("; "));
    }
    text
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().filter(|path| path != "-");
    let count = arguments
        .next()
        .and_then(|a| a.parse().ok())
        .unwrap_or(4_000);
    let (fresh, named): (Vec<String>, Vec<String>) = arguments.partition(|a| a == "fresh");
    let fresh = !fresh.is_empty();
    let known = |name: &String| PARTS.iter().any(|(known, _)| known == name);
    if let Some(unknown) = named.iter().find(|name| !known(name)) {
        let names = PARTS.map(|(name, _)| name).join(", ");
        eprintln!("unknown part '{unknown}'; accepted: {names}");
        return ExitCode::FAILURE;
    }
    if path.is_some() && !named.is_empty() {
        eprintln!("a file takes the whole study; for some parts give - in its place");
        return ExitCode::FAILURE;
    }
    let start = Instant::now();
    let mut report = Report {
        text: format!("\n{count} drawings of each world, from fixed streams.\n"),
        part: "",
        kept: Vec::new(),
        drawings: match fresh {
            true => Drawings::fresh(count),
            false => Drawings::of(count),
        },
    };
    let asked = |(name, _): &(&str, Part)| named.is_empty() || named.iter().any(|n| n == name);
    for (name, part) in PARTS.into_iter().filter(asked) {
        report.part = name;
        part(&mut report);
        eprintln!("{name}: done after {:.0} s", start.elapsed().as_secs_f64());
    }
    let outside: Vec<&Kept> = report
        .kept
        .iter()
        .filter(|k| !k.bar.holds(k.rate))
        .collect();
    for k in &outside {
        let (part, of, rate) = (k.part, &k.of, 100.0 * k.rate);
        eprintln!("outside its bar: {part}, {of}: {rate:.1} %");
    }
    // Fewer drawings from other streams: chance alone puts some rates that are near their bars outside.
    let far = |k: &&&Kept| !fresh || k.bar.is_far(k.rate, count);
    let failed = outside.iter().any(|k| far(&k));
    let summed = summary(&report.kept, count);
    let (text, markers) = match fresh {
        true => (&summed, (BEGIN_FRESH, END_FRESH)),
        false => (&report.text, (BEGIN, END)),
    };
    match path {
        None => println!("{}{summed}", report.text),
        Some(path) => {
            if let Err(problem) = write_between(&path, markers, text) {
                eprintln!("{path}: {problem}");
                return ExitCode::FAILURE;
            }
        }
    }
    match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Puts the text between the two markers of a file.
fn write_between(path: &str, (begin, end): (&str, &str), text: &str) -> Result<(), String> {
    let whole = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let missing = || format!("the markers {begin} and {end} are not in this file, in this order");
    let (before, rest) = whole.split_once(begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(end).ok_or_else(missing)?;
    fs::write(path, format!("{before}{begin}\n{text}\n{end}{after}")).map_err(|e| e.to_string())
}
