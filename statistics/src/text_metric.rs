//! Metrics of texts that are written, each judged by one or more texts that it may be.
//!
//! BLEU and chrF are sacrebleu's with its defaults (13a tokenisation, exponential smoothing; n-grams of up to 6 characters, β = 2), as
//! fractions. They are no means over texts: counts are summed over all texts first, so a text's score is its pseudo-value
//! ([`jackknife`](crate::jackknife)). ROUGE-L is F of the longest common subsequence of words (Lin 2004), the best of the
//! references; words are runs of letters and digits in small letters, as in Google's `rouge_score`, but of any script.

use std::collections::HashMap;
use std::hash::Hash;

use serde::Deserialize;

use crate::{jackknife::pseudo_values, metric::named, sample::ratio};

/// A text that was written, and those that it may be.
pub type TextCase<'a> = (&'a str, &'a [String]);

/// The longest n-grams of words that BLEU counts.
const WORDS: usize = 4;
/// The longest n-grams of characters that chrF counts.
const CHARACTERS: usize = 6;
/// How many times more recall counts than precision in chrF, squared.
const BETA_SQUARED: f64 = 4.0;
/// Signs of currencies, those of full width too.
const CURRENCIES: &str = "$¢£¤¥€₩₹₽₺₫₱₦₪₿＄￠￡￥￦";

/// A metric of texts. More is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextMetric {
    /// Share of texts that are one of theirs, white space around them apart.
    ExactMatch,
    /// F of the longest common subsequence of words, the mean over texts.
    RougeL,
    /// Papineni et al. 2002.
    Bleu,
    /// Popović 2015.
    Chrf,
    /// Share of texts whose number is that of one of theirs: the first behind `####`, or else the last one.
    NumericMatch,
}

impl TextMetric {
    /// The metric with this name in the records.
    pub fn named(name: &str) -> Option<Self> {
        named(name)
    }

    /// Its value on these texts; 0 of none.
    pub fn value(self, cases: &[TextCase<'_>]) -> f64 {
        let counts: Vec<Vec<f64>> = cases.iter().map(|case| self.counts(*case)).collect();
        self.of_sums(&sums(&counts))
    }

    /// Scores of one run: one per text, with the metric as their mean.
    pub fn scores(self, cases: &[TextCase<'_>]) -> Vec<f64> {
        let counts: Vec<Vec<f64>> = cases.iter().map(|case| self.counts(*case)).collect();
        if !matches!(self, Self::Bleu | Self::Chrf) {
            return counts.iter().map(|of| of[0]).collect();
        }
        let all = sums(&counts);
        let without = counts.iter().map(|of| {
            let fewer = all.iter().zip(of).map(|(all, own)| all - own);
            self.of_sums(&fewer.collect::<Vec<_>>())
        });
        pseudo_values(self.of_sums(&all), &without.collect::<Vec<_>>())
    }

    /// What is summed over texts: of a mean the score and 1.
    fn counts(self, (text, references): TextCase<'_>) -> Vec<f64> {
        let right = |is: bool| vec![f64::from(u8::from(is)), 1.0];
        match self {
            Self::ExactMatch => right(references.iter().any(|r| r.trim() == text.trim())),
            Self::NumericMatch => {
                let own = number(text);
                right(own.is_some() && references.iter().any(|r| number(r) == own))
            }
            Self::RougeL => {
                let own = words(text);
                let of = references.iter().map(|r| rouge_l(&own, &words(r)));
                vec![of.fold(0.0, f64::max), 1.0]
            }
            Self::Bleu => bleu_counts(text, references),
            Self::Chrf => chrf_counts(text, references),
        }
    }

    fn of_sums(self, sums: &[f64]) -> f64 {
        match self {
            Self::Bleu => bleu(sums),
            Self::Chrf => chrf(sums),
            _ => sums.first_chunk::<2>().map_or(0.0, |[a, b]| ratio(*a, *b)),
        }
    }
}

/// The sums over texts.
fn sums(counts: &[Vec<f64>]) -> Vec<f64> {
    let mut sums = vec![0.0; counts.first().map_or(0, Vec::len)];
    for of in counts {
        for (sum, own) in sums.iter_mut().zip(of) {
            *sum += own;
        }
    }
    sums
}

/// How often each n-gram comes.
fn n_grams<T: Eq + Hash>(items: &[T], n: usize) -> HashMap<&[T], f64> {
    let mut counts = HashMap::new();
    for gram in items.windows(n) {
        *counts.entry(gram).or_insert(0.0) += 1.0;
    }
    counts
}

/// How many n-grams of the first the second has too, each as often as in both.
fn shared<T: Eq + Hash>(own: &HashMap<&[T], f64>, other: &HashMap<&[T], f64>) -> f64 {
    let there = |gram| other.get(gram).copied().unwrap_or(0.0);
    own.iter().map(|(gram, n)| n.min(there(gram))).sum()
}

/// White space as Python's `str.split` takes it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The words of mteval-v13a, as sacrebleu's `Tokenizer13a` makes them.
fn words_13a(text: &str) -> Vec<String> {
    let mut line = text.trim_end_matches(is_space).replace("<skipped>", "");
    line = line.replace("-\n", "").replace('\n', " ");
    for (entity, stands_for) in [
        ("&quot;", "\""),
        ("&amp;", "&"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ] {
        line = line.replace(entity, stands_for);
    }
    // All ASCII punctuation but ' , - and . stands by itself.
    let mut spaced = vec![' '];
    for c in line.chars() {
        match c.is_ascii_punctuation() && !matches!(c, '\'' | ',' | '-' | '.') {
            true => spaced.extend([' ', c, ' ']),
            false => spaced.push(c),
        }
    }
    spaced.push(' ');
    let point = |c: char| matches!(c, '.' | ',');
    let digit = |c: char| c.is_ascii_digit();
    // Points and commas but between digits, and dashes behind digits.
    let spaced = parted(&spaced, |a, b| !digit(a) && point(b), false);
    let spaced = parted(&spaced, |a, b| point(a) && !digit(b), true);
    let spaced = parted(&spaced, |a, b| digit(a) && b == '-', false);
    let line: String = spaced.into_iter().collect();
    let words = line.split(is_space).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// A space between two neighbours that `are` such, and one before the first or behind the second of them. A pair begins behind
/// the end of the last one, as in a regular expression.
fn parted(line: &[char], are: impl Fn(char, char) -> bool, before: bool) -> Vec<char> {
    let mut out = Vec::with_capacity(line.len() + line.len() / 4);
    let mut i = 0;
    while i < line.len() {
        match line.get(i + 1) {
            Some(next) if are(line[i], *next) => {
                match before {
                    true => out.extend([' ', line[i], ' ', *next]),
                    false => out.extend([line[i], ' ', *next, ' ']),
                }
                i += 2;
            }
            _ => {
                out.push(line[i]);
                i += 1;
            }
        }
    }
    out
}

/// Words of the text and of the reference that is nearest in length; then for each n the n-grams that a reference has too, and
/// all of them.
fn bleu_counts(text: &str, references: &[String]) -> Vec<f64> {
    let own = words_13a(text);
    let references: Vec<Vec<String>> = references.iter().map(|r| words_13a(r)).collect();
    let length = references.iter().map(Vec::len);
    let nearest = length.min_by_key(|n| (n.abs_diff(own.len()), *n));
    let mut counts = vec![own.len() as f64, nearest.unwrap_or(0) as f64];
    let mut all: Vec<f64> = Vec::with_capacity(WORDS);
    for n in 1..=WORDS {
        let mut most: HashMap<&[String], f64> = HashMap::new();
        for reference in &references {
            for (gram, count) in n_grams(reference, n) {
                let most = most.entry(gram).or_insert(0.0);
                *most = most.max(count);
            }
        }
        let grams = n_grams(&own, n);
        counts.push(shared(&grams, &most));
        all.push(grams.values().sum());
    }
    counts.extend(all);
    counts
}

/// BLEU of summed counts: a precision of 0 is taken for 1 / 2ᵏ of one n-gram, the k-th time.
fn bleu(sums: &[f64]) -> f64 {
    let Some(([own, reference], precisions)) = sums.split_first_chunk::<2>() else {
        return 0.0;
    };
    let (right, all) = precisions.split_at(WORDS);
    if right.iter().all(|n| *n == 0.0) {
        return 0.0;
    }
    let mut smoothed = 1.0;
    let mut logs = 0.0;
    for (right, all) in right.iter().zip(all) {
        if *all == 0.0 {
            // sacrebleu's logarithm of 0.
            return 0.0;
        }
        let precision = match *right {
            0.0 => {
                smoothed *= 2.0;
                1.0 / (smoothed * all)
            }
            right => right / all,
        };
        logs += precision.ln();
    }
    let brevity = match own < reference {
        true => (1.0 - reference / own).exp(),
        false => 1.0,
    };
    brevity * (logs / WORDS as f64).exp()
}

/// For each n: n-grams of the text, of its best reference, and of both.
fn chrf_counts(text: &str, references: &[String]) -> Vec<f64> {
    let characters = |text: &str| -> Vec<char> { text.chars().filter(|c| !is_space(*c)).collect() };
    let own = characters(text);
    let mut best: (f64, Vec<f64>) = (-1.0, vec![0.0; 3 * CHARACTERS]);
    for reference in references {
        let reference = characters(reference);
        let counts = (1..=CHARACTERS).flat_map(|n| {
            let (own, reference) = (n_grams(&own, n), n_grams(&reference, n));
            let of = |grams: &HashMap<&[char], f64>| grams.values().sum::<f64>();
            let all = match reference.is_empty() {
                // No hits where there is nothing to hit.
                true => 0.0,
                false => of(&own),
            };
            [all, of(&reference), shared(&own, &reference)]
        });
        let counts: Vec<f64> = counts.collect();
        let value = chrf(&counts);
        if value > best.0 {
            best = (value, counts);
        }
    }
    best.1
}

/// chrF of summed counts: the mean precision and recall over those n for which there are n-grams on both sides.
fn chrf(sums: &[f64]) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for counts in sums.chunks_exact(3) {
        let [own, reference, right] = [counts[0], counts[1], counts[2]];
        if own > 0.0 && reference > 0.0 {
            precision += right / own;
            recall += right / reference;
            orders += 1.0;
        }
    }
    if orders == 0.0 || precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
}

/// Runs of letters and digits in small letters; a Chinese, Japanese or Korean character is a word.
fn words(text: &str) -> Vec<String> {
    let alone = |c: char| matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}');
    let mut words = vec![String::new()];
    for c in text.to_lowercase().chars() {
        if !c.is_alphanumeric() {
            words.push(String::new());
        } else if alone(c) {
            words.extend([c.to_string(), String::new()]);
        } else if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// F of the longest common subsequence.
fn rouge_l(text: &[String], reference: &[String]) -> f64 {
    let mut row = vec![0usize; reference.len() + 1];
    for word in text {
        let mut diagonal = 0;
        for (j, other) in reference.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = match word == other {
                true => diagonal + 1,
                false => above.max(row[j]),
            };
            diagonal = above;
        }
    }
    let common = row[reference.len()] as f64;
    match common {
        0.0 => 0.0,
        _ => 2.0 * common / (text.len() + reference.len()) as f64,
    }
}

/// Digits, point and minus of full width (as in Chinese) and the minus of mathematics as those of ASCII. The comma of full width parts
/// sentences.
fn of_ascii(c: char) -> char {
    match c {
        '\u{2212}' => '-',
        '\u{ff0d}'..='\u{ff19}' => char::from((u32::from(c) - 0xfee0) as u8),
        other => other,
    }
}

/// The place behind the whole part of the number whose first digit is at `first`. Commas belong to it where they part all of its
/// digits into thousands, as in 1,234,567; 3,4 and 12,34,567 are numbers beside each other.
fn whole_part(chars: &[char], first: usize) -> usize {
    let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let digits_from = |mut i: usize| {
        while digit(i) {
            i += 1;
        }
        i
    };
    let alone = digits_from(first);
    // What stands behind a comma that parts numbers is no thousands either.
    let behind = first > 1 && chars[first - 1] == ',' && digit(first - 2);
    if behind || chars[first] == '0' || alone - first > 3 {
        return alone;
    }
    let mut end = alone;
    while chars.get(end) == Some(&',') && digit(end + 1) {
        let group = digits_from(end + 1);
        if group - end != 4 {
            return alone;
        }
        end = group;
    }
    end
}

/// The number of a text: the first behind the last `####`, as in GSM8K, or else the last one. Commas count where they part
/// thousands only; `.5` is a half, `-$5` is less than nothing.
fn number(text: &str) -> Option<f64> {
    let (behind, text) = match text.rsplit_once("####") {
        Some((_, behind)) => (true, behind),
        None => (false, text),
    };
    let chars: Vec<char> = text.chars().map(of_ascii).collect();
    let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let joined = |i: usize| chars[i].is_alphanumeric() || chars[i] == '.';
    let mut found = None;
    let mut i = 0;
    while i < chars.len() {
        if !digit(i) {
            i += 1;
            continue;
        }
        // A point begins a number unless a letter, a digit or another point stands before it: v.5 has none.
        let point = i > 0 && chars[i - 1] == '.' && (i == 1 || !joined(i - 2));
        let start = if point { i - 1 } else { i };
        // A minus belongs to the number, or to the currency before it, unless a letter or digit stands right before it: 5-3 has
        // none. (Chinese has no spaces.)
        let sign = start - usize::from(start > 0 && CURRENCIES.contains(chars[start - 1]));
        let minus = sign > 0
            && chars[sign - 1] == '-'
            && (sign == 1 || !chars[sign - 2].is_ascii_alphanumeric());
        let mut end = if point { i } else { whole_part(&chars, i) };
        if point || chars.get(end) == Some(&'.') && digit(end + 1) {
            end += usize::from(!point);
            while digit(end) {
                end += 1;
            }
        }
        let digits = chars[start..end].iter().filter(|c| **c != ',');
        let digits: String = minus.then_some(&'-').into_iter().chain(digits).collect();
        found = digits.parse().ok();
        i = end;
        if behind {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_number_of_a_text_is_the_one_behind_the_marks_or_the_last() {
        for (text, expected) in [
            ("She has 5-3 = 2 apples", Some(2.0)),
            ("It is 1,234.50 dollars.", Some(1234.5)),
            ("so 7 * 6 = 42\n#### 42 of 50", Some(42.0)),
            ("from 3 to -4", Some(-4.0)),
            ("version 1.2.3", Some(3.0)),
            ("$18.", Some(18.0)),
            ("it is .5, or -.25", Some(-0.25)),
            ("see v.5 and 1..7", Some(7.0)),
            ("that is \u{2212}4", Some(-4.0)),
            ("有３，所以是－４．５元", Some(-4.5)),
            // Commas part thousands or numbers.
            ("1,234,567 or 12,345.5", Some(12345.5)),
            ("x is 3,4", Some(4.0)),
            ("#### 3,4", Some(3.0)),
            ("in May 3,2020", Some(2020.0)),
            ("12,34,567", Some(567.0)),
            ("#### 1234,567", Some(1234.0)),
            ("#### 0,500", Some(0.0)),
            ("#### 1,2345", Some(1.0)),
            ("1.5,200", Some(200.0)),
            ("2,-300", Some(-300.0)),
            // A minus counts on both sides of a currency.
            ("lost -$5", Some(-5.0)),
            ("#### $-1,200", Some(-1200.0)),
            ("\u{2212}\u{ffe5}5", Some(-5.0)),
            ("-€.5", Some(-0.5)),
            ("9-$5", Some(5.0)),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn a_text_without_a_number_matches_none_not_even_another_without() {
        let references = ["none".to_owned()];
        let cases = [("also none", references.as_slice())];
        assert_eq!(TextMetric::NumericMatch.value(&cases), 0.0);
    }

    #[test]
    fn words_of_bleu_are_those_of_sacrebleus_13a() {
        let fixture = include_str!("../tests/fixtures/texts.json");
        let fixture: serde_json::Value = serde_json::from_str(fixture).unwrap();
        let lines = fixture["words"].as_array().unwrap();
        assert!(lines.len() > 70);
        for line in lines {
            let ours = words_13a(line[0].as_str().unwrap());
            assert_eq!(serde_json::json!(ours), line[1], "{line}");
        }
    }

    #[test]
    fn words_are_of_any_script() {
        assert_eq!(
            words("Ça va, «bien»? 你好 GPT-2"),
            ["ça", "va", "bien", "你", "好", "gpt", "2"]
        );
    }

    #[test]
    fn no_texts_and_empty_texts_give_zero_and_not_nan() {
        let references = ["a b c d e".to_owned()];
        for metric in ["exact_match", "rouge_l", "bleu", "chrf", "numeric_match"] {
            let metric = TextMetric::named(metric).unwrap();
            assert_eq!(metric.value(&[]), 0.0, "{metric:?}");
            let empty = [("", references.as_slice()); 2];
            assert_eq!(metric.value(&empty), 0.0, "{metric:?}");
            assert_eq!(metric.scores(&empty), [0.0; 2], "{metric:?}");
        }
    }
}
