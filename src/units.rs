//! Numbers as they are written on the command line, bare or with a unit. Each has a range: what is outside is a mistake, and is
//! refused with the range before anything starts.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use anyhow::{Result, bail};
use statistics::Margin;

/// A bare number of a range; neither `nan` nor an infinity lies in one.
pub fn number<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text: &str| match text.parse::<T>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => bail!("accepted: {} to {}", range.start(), range.end()),
    }
}

/// What is written with a unit.
struct Quantity {
    /// Each unit and how many of the smallest it is.
    units: &'static [(&'static str, f64)],
    /// The least and the most that is accepted.
    range: [&'static str; 2],
    /// What a message shows.
    example: &'static str,
}

const SIZE: Quantity = Quantity {
    units: &[
        ("B", 1.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("KiB", 1024.0),
        ("MiB", 1024.0 * 1024.0),
        ("GiB", 1024.0 * 1024.0 * 1024.0),
    ],
    range: ["0B", "1000TB"],
    example: "100KB",
};
const BODY: Quantity = Quantity {
    range: ["100B", "1GB"],
    example: "1MB",
    ..SIZE
};
const SHARE: Quantity = Quantity {
    units: &[("%", 0.01), ("", 1.0)],
    range: ["0%", "10000%"],
    example: "5%",
};
const METRIC: Quantity = Quantity {
    range: ["0%", "100%"],
    example: "80%",
    ..SHARE
};
const MARGIN: Quantity = Quantity {
    example: "0.5%",
    ..METRIC
};
const COUNT: Quantity = Quantity {
    units: &[("", 1.0), ("k", 1e3), ("M", 1e6)],
    range: ["0", "1000000M"],
    example: "100k",
};
const TIME: Quantity = Quantity {
    units: &[("s", 1.0), ("min", 60.0), ("m", 60.0), ("h", 3600.0)],
    range: ["0.001s", "8760h"],
    example: "5min",
};

impl Quantity {
    /// The value of a number with one of the units behind it.
    fn value(&self, text: &str) -> Option<f64> {
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim();
        let mut units = self.units.iter();
        let (_, factor) = units.find(|(u, _)| u.eq_ignore_ascii_case(unit))?;
        Some(number.parse::<f64>().ok()? * factor)
    }

    fn read(&self, text: &str) -> Result<f64> {
        let [least, most] = self.range;
        match self.value(text) {
            value @ Some(number) if self.value(least) <= value && value <= self.value(most) => {
                Ok(number)
            }
            _ => {
                let units = self.units.iter().map(|(unit, _)| *unit);
                let units: Vec<&str> = units.filter(|unit| !unit.is_empty()).collect();
                bail!(
                    "accepted: {least} to {most}, as a number and a unit ({}), e.g. {}",
                    units.join(", "),
                    self.example
                )
            }
        }
    }
}

/// A size in bytes: `100KB`, `1.5 MB`, `64KiB`.
///
/// # Errors
/// If the text has another form or is out of range; the message shows what is accepted.
pub fn size(text: &str) -> Result<f64> {
    SIZE.read(text)
}

/// The size of a request, in bytes: `1MB`.
///
/// # Errors
/// As [`size`].
pub fn body(text: &str) -> Result<f64> {
    BODY.read(text)
}

/// A share, which may be above one: `5%`, or `0.05`.
///
/// # Errors
/// As [`size`].
pub fn share(text: &str) -> Result<f64> {
    SHARE.read(text)
}

/// A value of a metric that is one at best: `80%`, or `0.8`.
///
/// # Errors
/// As [`size`].
pub fn metric(text: &str) -> Result<f64> {
    METRIC.read(text)
}

/// A margin of the metric: `0.5%`, or `0.005`.
///
/// # Errors
/// If it is no share above 0 and below 1.
pub fn margin(text: &str) -> Result<Margin> {
    Ok(Margin::new(MARGIN.read(text)?)?)
}

/// A count: `100k`, `1.5M`, `7680`.
///
/// # Errors
/// As [`size`].
pub fn count(text: &str) -> Result<f64> {
    COUNT.read(text)
}

/// A time in seconds: `90s`, `5min` or `5m`, `1h`.
///
/// # Errors
/// As [`size`].
pub fn time(text: &str) -> Result<f64> {
    TIME.read(text)
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
        assert_eq!(number(0.5..=2.0)("1e0").unwrap(), 1.0);
        assert_eq!(number(1..=3usize)("3").unwrap(), 3);
    }

    #[test]
    fn the_ends_of_every_range_are_accepted() {
        for quantity in [SIZE, BODY, SHARE, METRIC, MARGIN, COUNT, TIME] {
            for end in quantity.range.iter().chain([&quantity.example]) {
                assert_eq!(quantity.read(end).ok(), quantity.value(end), "{end}");
                assert!(quantity.value(end).is_some(), "{end}");
            }
        }
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
            (size(&format!("{}GB", "9".repeat(20))), "0B to 1000TB"),
            (size("100"), "kB, MB"),
            (body("0MB"), "100B to 1GB"),
            (share("1e9%"), "0% to 10000%"),
            (metric("80"), "0% to 100%"),
            (margin("2").map(|_| 0.0), "0% to 100%"),
            (margin("100%").map(|_| 0.0), "above 0 and below 1"),
            (count("1e300"), "0 to 1000000M"),
            (time("0s"), "0.001s to 8760h"),
            (number(0.1..=600.0)("nan"), "accepted: 0.1 to 600"),
            (number(0.1..=600.0)("inf"), "accepted: 0.1 to 600"),
            (number(1..=9usize)("1.5").map(|_| 0.0), "accepted: 1 to 9"),
            (pair("lora").map(|_| 0.0), "lora:full"),
        ] {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }
}
