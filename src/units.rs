//! Numbers with units, as they are written on the command line.

use anyhow::{Result, bail, ensure};
use statistics::Margin;

/// The largest size, count or number of seconds; larger ones are mistakes, and no clock reaches them.
const MOST: f64 = 1e15;

/// A number from 0 on with one of these units behind it.
fn with_unit(text: &str, units: &[(&str, f64)], example: &str) -> Result<f64> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim();
    let factor = units.iter().find(|(u, _)| u.eq_ignore_ascii_case(unit));
    let (Ok(number), Some((_, factor))) = (number.parse::<f64>(), factor) else {
        let known: Vec<&str> = units
            .iter()
            .map(|(u, _)| *u)
            .filter(|u| !u.is_empty())
            .collect();
        bail!(
            "expected a number and a unit ({}), e.g. {example}",
            known.join(", ")
        );
    };
    let value = number * factor;
    ensure!(
        (0.0..=MOST).contains(&value),
        "{text} is beyond what is measured here; expected something like {example}"
    );
    Ok(value)
}

/// A size in bytes: `100KB`, `1.5 MB`, `64KiB`.
///
/// # Errors
/// If the text has another form; the message shows one that is accepted.
pub fn size(text: &str) -> Result<f64> {
    let units = [
        ("B", 1.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("KiB", 1024.0),
        ("MiB", 1024.0 * 1024.0),
        ("GiB", 1024.0 * 1024.0 * 1024.0),
    ];
    with_unit(text, &units, "100KB")
}

/// A share: `5%`, or `0.05`.
///
/// # Errors
/// If the text has another form; the message shows one that is accepted.
pub fn share(text: &str) -> Result<f64> {
    with_unit(text, &[("%", 0.01), ("", 1.0)], "5%")
}

/// A margin of the metric: `0.5%`, or `0.005`.
///
/// # Errors
/// If it is no share above 0 and below 1.
pub fn margin(text: &str) -> Result<Margin> {
    Ok(Margin::new(share(text)?)?)
}

/// A count: `100k`, `1.5M`, `7680`.
///
/// # Errors
/// If the text has another form; the message shows one that is accepted.
pub fn count(text: &str) -> Result<f64> {
    with_unit(text, &[("", 1.0), ("k", 1e3), ("M", 1e6)], "100k")
}

/// A time in seconds: `90s`, `5min` or `5m`, `1h`.
///
/// # Errors
/// If the text has another form; the message shows one that is accepted.
pub fn time(text: &str) -> Result<f64> {
    with_unit(
        text,
        &[("s", 1.0), ("min", 60.0), ("m", 60.0), ("h", 3600.0)],
        "5min",
    )
}

/// A pair of methods: `lora:full`.
///
/// # Errors
/// If the text has another form.
pub fn pair(text: &str) -> Result<(String, String)> {
    match text.split_once(':') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() && a != b => {
            Ok((a.to_owned(), b.to_owned()))
        }
        _ => bail!("expected two methods with a colon between, e.g. lora:full"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn limits_are_read_with_their_units() {
        assert_eq!(size("100KB").unwrap(), 100_000.0);
        assert_eq!(size("1.5 MB").unwrap(), 1_500_000.0);
        assert_eq!(size("64KiB").unwrap(), 65_536.0);
        assert_eq!(share("5%").unwrap(), 0.05);
        assert_eq!(share("0.05").unwrap(), 0.05);
        assert_eq!(margin("0.5%").unwrap().get(), 0.005);
        assert!(margin("0").is_err() && margin("100%").is_err());
        assert_eq!(count("100k").unwrap(), 100_000.0);
        assert_eq!(time("2min").unwrap(), 120.0);
        assert_eq!(time("38m").unwrap(), 2280.0);
    }

    #[test]
    fn a_limit_without_a_unit_or_number_is_refused_with_an_example() {
        for (result, says) in [
            (size("100"), "100KB"),
            (size("many"), "100KB"),
            (size("-3MB"), "100KB"),
            (share("5 apples"), "5%"),
            (time("5"), "5min"),
            (time(&format!("{}s", "9".repeat(400))), "5min"),
            (time("99999999999999999999999h"), "5min"),
            (size(&format!("{}GB", "9".repeat(20))), "100KB"),
            (pair("lora").map(|_| 0.0), "lora:full"),
        ] {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }
}
