//! Numbers and names as people read them.

use unicode_width::UnicodeWidthStr;

/// Numbers from this size on are written with an exponent.
const LARGE: f64 = 1e12;

/// A number with so many decimals; with an exponent where it would be very long.
fn fixed(value: f64, digits: usize) -> String {
    match value.abs() < LARGE {
        true => format!("{value:.digits$}"),
        false => format!("{value:.2e}"),
    }
}

/// What a metric (a fraction) is shown times, and its decimals.
fn scale(name: &str) -> (f64, usize) {
    match in_percent(name) {
        true => (100.0, 1),
        false => (1.0, 3),
    }
}

/// A metric value (a fraction) with its unit: accuracy and F1 in percent, Matthews' correlation as it is.
pub fn metric(name: &str, value: f64) -> String {
    let unit = if in_percent(name) { " %" } else { "" };
    metric_spread(name, value, None) + unit
}

/// Mean and standard deviation of a metric, without the unit.
pub fn metric_spread(name: &str, mean: f64, sd: Option<f64>) -> String {
    let (scale, digits) = scale(name);
    let values = std::iter::once(mean).chain(sd);
    let texts: Vec<String> = values.map(|v| fixed(scale * v, digits)).collect();
    texts.join(" ± ")
}

/// A difference of two metric values, e.g. `1.3 points`. One that is not 0 is never written as 0: it takes as many decimals as
/// its first digit needs.
pub fn metric_difference(name: &str, difference: f64) -> String {
    let (scale, digits) = scale(name);
    let unit = if in_percent(name) { " points" } else { "" };
    let mut texts = (digits..8).map(|digits| fixed(scale * difference, digits));
    let text = texts.find(|text| !text.chars().all(|c| matches!(c, '0' | '.' | '-')));
    // What is left is less than sums of floating point are exact to.
    format!("{}{unit}", text.unwrap_or_else(|| fixed(0.0, digits)))
}

/// Ends of an interval of a metric or of a difference, without the unit, e.g. `0.5 to 3.0`.
pub fn metric_interval(name: &str, ends: [f64; 2]) -> String {
    ends.map(|end| metric_spread(name, end, None)).join(" to ")
}

/// Name of a metric with its unit, e.g. `accuracy (%)`.
pub fn metric_title(name: &str) -> String {
    let unit = if in_percent(name) { " (%)" } else { "" };
    metric_name(name) + unit
}

/// Name of a metric without its unit, e.g. `accuracy`.
pub fn metric_name(name: &str) -> String {
    match name {
        "rmse" => "RMSE".to_owned(),
        "rouge_l" => "ROUGE-L".to_owned(),
        "bleu" => "BLEU".to_owned(),
        "chrf" => "chrF".to_owned(),
        "f1" | "macro_f1" | "weighted_f1" | "micro_f1" | "entity_f1" | "entity_precision"
        | "entity_recall" | "exact_match" | "numeric_match" => {
            name.replace('_', " ").replace("f1", "F1")
        }
        "matthews" | "pearson" | "spearman" => {
            format!("{}{} correlation", name[..1].to_uppercase(), &name[1..])
        }
        _ => name.to_owned(),
    }
}

/// Whether a metric is shown in percent.
pub fn in_percent(name: &str) -> bool {
    !matches!(
        name,
        "matthews" | "pearson" | "spearman" | "rmse" | "perplexity"
    )
}

/// A count in full, e.g. `73,728`.
pub fn count(n: usize) -> String {
    match n / 1000 {
        0 => n.to_string(),
        thousands => format!("{},{:03}", count(thousands), n % 1000),
    }
}

/// A count in short, e.g. `73.7 k`.
pub fn count_short(n: f64) -> String {
    si(n, "").trim_end().to_owned()
}

/// A size in bytes, e.g. `300 kB` (powers of 1000).
pub fn bytes(n: f64) -> String {
    si(n, "B")
}

/// Three digits and a power of 1000.
fn si(n: f64, unit: &str) -> String {
    let (mut n, mut prefix) = (n, "");
    for next in ["k", "M", "G", "T"] {
        // 999.5 would be printed as 1000.
        if n < 999.5 {
            break;
        }
        (n, prefix) = (n / 1000.0, next);
    }
    let digits = match n {
        n if prefix.is_empty() || n >= 99.95 => 0,
        n if n >= 9.995 => 1,
        _ => 2,
    };
    format!("{} {prefix}{unit}", fixed(n, digits))
}

/// A duration, e.g. `850 ms`, `12.3 s`, `4 min 05 s`, `2 h 03 min`.
pub fn seconds(s: f64) -> String {
    if s >= LARGE {
        format!("{s:.2e} s")
    } else if s < 0.9995 {
        format!("{:.0} ms", 1000.0 * s)
    } else if s < 99.95 {
        format!("{s:.1} s")
    } else if s < 3599.5 {
        let s = s.round() as u64;
        format!("{} min {:02} s", s / 60, s % 60)
    } else {
        let minutes = (s / 60.0).round() as u64;
        format!("{} h {:02} min", minutes / 60, minutes % 60)
    }
}

/// Milliseconds without the unit, e.g. `4.13`.
pub fn ms(ms: f64) -> String {
    match ms {
        x if x < 9.995 => format!("{x:.2}"),
        x if x < 99.95 => format!("{x:.1}"),
        x => fixed(x, 0),
    }
}

/// A share as percent with two or three digits, e.g. `0.32 %`.
pub fn share(fraction: f64) -> String {
    match 100.0 * fraction {
        0.0 => "0 %".to_owned(),
        x if x < 0.0995 => format!("{x:.3} %"),
        x if x < 9.995 => format!("{x:.2} %"),
        x => format!("{} %", fixed(x, 0)),
    }
}

/// A p-value, e.g. `p = 0.03`, `p < 0.001`.
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".to_owned(),
        p if p < 0.0995 => format!("p = {p:.3}"),
        p => format!("p = {p:.2}"),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn list<S: AsRef<str>>(items: &[S]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// The same, but of a long list the first ones and how many more there are.
pub fn list_of_at_most<S: AsRef<str>>(items: &[S], most: usize) -> String {
    let more = items.len().saturating_sub(most);
    let shown = items.iter().take(most).map(|s| s.as_ref().to_owned());
    let rest = (more > 0).then(|| format!("{more} more"));
    list(&shown.chain(rest).collect::<Vec<_>>())
}

/// A text of at most `width` characters; of a longer one the middle is left out (`…`), because names that begin alike differ at
/// their end.
pub fn cut(text: &str, width: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept / 2, kept - kept / 2);
    let head = chars[..head].iter().collect::<String>();
    let tail = chars[chars.len() - tail..].iter().collect::<String>();
    format!("{}…{}", head.trim_end(), tail.trim_start())
}

/// A text from a file or a user: characters that would steer a terminal, and marks that turn the direction of writing, are
/// written out (`\u{1b}`).
pub fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match hidden(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// Words in lines, as many on each as fit; a word that does not fit has a line of its own.
pub(crate) fn lines(
    words: impl Iterator<Item = String>,
    fits: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match (lines.last_mut(), longer.filter(|longer| fits(longer))) {
            (Some(line), Some(longer)) => *line = longer,
            _ => lines.push(word),
        }
    }
    lines
}

/// Columns of a terminal that a text takes: a letter of Chinese, Japanese or Korean takes two.
pub fn width(text: &str) -> usize {
    text.width()
}

/// A name for files: letters and digits of any script, `-`, `_` and `.`, of at most so many bytes. One that had to be cut ends
/// with digits that follow from the whole, so that two long names stay apart.
pub fn file_name(text: &str, most: usize) -> String {
    let keep = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let name = text.replace(|c| !keep(c), "-");
    let name = name.trim_matches(['-', '.']);
    if name.len() <= most {
        return name.to_owned();
    }
    let mut end = most.saturating_sub(9);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{:08x}", &name[..end], hash(text) as u32)
}

/// FNV-1a: the same on every machine and in every version.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    })
}

/// A JSON value; a text without its quotes.
pub fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `1 seed`, `3 seeds`; of several words the last one is that of the thing.
pub fn plural(n: usize, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(metric("accuracy", 0.8412), "84.1 %");
        assert_eq!(metric("matthews", 0.4), "0.400");
        assert_eq!(
            metric_spread("accuracy", 0.8412, Some(0.0049)),
            "84.1 ± 0.5"
        );
        assert_eq!(metric_spread("f1", 0.8, None), "80.0");
        assert_eq!(metric_difference("accuracy", 0.013), "1.3 points");
        assert_eq!(metric_difference("accuracy", 0.0003), "0.03 points");
        assert_eq!(metric_difference("accuracy", -1e-16), "0.0 points");
        assert_eq!(metric_difference("matthews", -0.0002), "-0.0002");
        assert_eq!(count(0), "0");
        assert_eq!(count(73_728), "73,728");
        assert_eq!(count(22_713_216), "22,713,216");
        assert_eq!(count_short(770.0), "770");
        assert_eq!(count_short(7_680.0), "7.68 k");
        assert_eq!(count_short(22_713_216.0), "22.7 M");
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(999_900.0), "1.00 MB");
        assert_eq!(bytes(300_000.0), "300 kB");
        assert_eq!(seconds(0.25), "250 ms");
        assert_eq!(seconds(12.34), "12.3 s");
        assert_eq!(seconds(245.0), "4 min 05 s");
        assert_eq!(seconds(7_380.0), "2 h 03 min");
        assert_eq!(ms(4.126), "4.13");
        assert_eq!(ms(41.26), "41.3");
        assert_eq!(share(0.003246), "0.32 %");
        assert_eq!(share(0.000_338), "0.034 %");
        assert_eq!(share(1.0), "100 %");
        assert_eq!(p_value(0.000_04), "p < 0.001");
        assert_eq!(p_value(0.031), "p = 0.031");
        assert_eq!(p_value(0.5), "p = 0.50");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(list::<&str>(&[]), "");
        assert_eq!(plural(1, "seed"), "1 seed");
    }

    #[test]
    fn no_number_is_longer_than_a_line() {
        for text in [
            metric("accuracy", 1e300),
            metric_spread("matthews", 1e300, Some(-1e300)),
            metric_difference("f1", -1e300),
            count_short(1e300),
            bytes(1e300),
            seconds(1e300),
            ms(1e300),
            share(1e300),
        ] {
            assert!(text.len() < 24 && text.contains('e'), "{text}");
        }
    }

    #[test]
    fn what_steers_a_terminal_or_turns_the_text_is_written_out() {
        assert_eq!(
            visible("a\x1b[31mb\u{202e}\n好"),
            "a\\u{1b}[31mb\\u{202e}\\n好"
        );
    }

    #[test]
    fn names_that_differ_at_their_end_still_differ_when_they_are_cut() {
        let name = |n: usize| format!("prompt_tuning virtual_tokens={n} init=text");
        assert_eq!(cut(&name(20), 24), "prompt_tuni…20 init=text");
        assert_ne!(cut(&name(20), 24), cut(&name(50), 24));
        assert_eq!(cut("lora", 4), "lora");
        assert_eq!(cut("lora", 1), "…");
    }

    #[test]
    fn a_long_name_is_cut_and_stays_apart_from_another() {
        assert_eq!(file_name("sst2 · mini/lm", 99), "sst2---mini-lm");
        assert_eq!(file_name("../评论", 99), "评论");
        let (a, b) = ("评".repeat(99) + "a", "评".repeat(99) + "b");
        assert!(file_name(&a, 80).len() <= 80);
        assert_ne!(file_name(&a, 80), file_name(&b, 80));
    }
}
