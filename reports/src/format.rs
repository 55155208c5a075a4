//! Numbers as people read them.

/// A metric value (a fraction) with its unit: accuracy and F1 in percent, Matthews' correlation as it is.
pub fn metric(name: &str, value: f64) -> String {
    match in_percent(name) {
        true => format!("{:.1} %", 100.0 * value),
        false => format!("{value:.3}"),
    }
}

/// Mean and standard deviation of a metric, without the unit.
pub fn metric_spread(name: &str, mean: f64, sd: Option<f64>) -> String {
    let (scale, digits) = if in_percent(name) {
        (100.0, 1)
    } else {
        (1.0, 3)
    };
    match sd {
        Some(sd) => format!("{:.digits$} ± {:.digits$}", scale * mean, scale * sd),
        None => format!("{:.digits$}", scale * mean),
    }
}

/// A difference of two metric values, e.g. `1.3 points`.
pub fn metric_difference(name: &str, difference: f64) -> String {
    match in_percent(name) {
        true => format!("{:.1} points", 100.0 * difference),
        false => format!("{difference:.3}"),
    }
}

/// Name of a metric with its unit, e.g. `accuracy (%)`.
pub fn metric_title(name: &str) -> String {
    match name {
        "f1" => "F1 (%)".to_owned(),
        "matthews" => "Matthews correlation".to_owned(),
        _ => format!("{name} (%)"),
    }
}

/// Whether a metric is shown in percent.
pub fn in_percent(name: &str) -> bool {
    name != "matthews"
}

/// A count in full, e.g. `73,728`.
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
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
    let mut n = n;
    let mut prefix = "";
    for next in ["k", "M", "G", "T"] {
        // 999.5 would be printed as 1000.
        if n < 999.5 {
            break;
        }
        n /= 1000.0;
        prefix = next;
    }
    let digits = if prefix.is_empty() || n >= 99.95 {
        0
    } else if n >= 9.995 {
        1
    } else {
        2
    };
    format!("{n:.digits$} {prefix}{unit}")
}

/// A duration, e.g. `850 ms`, `12.3 s`, `4 min 05 s`, `2 h 03 min`.
pub fn seconds(s: f64) -> String {
    if s < 0.9995 {
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
        x => format!("{x:.0}"),
    }
}

/// A share as percent with two or three digits, e.g. `0.32 %`.
pub fn share(fraction: f64) -> String {
    match 100.0 * fraction {
        0.0 => "0 %".to_owned(),
        x if x < 0.0995 => format!("{x:.3} %"),
        x if x < 9.995 => format!("{x:.2} %"),
        x => format!("{x:.0} %"),
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

/// `1 seed`, `3 seeds`.
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
}
