//! From values to positions: linear, or logarithmic with a place of its own for zero.

use super::scene::text_width;

/// The lowest and the highest value.
pub(super) fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| {
        [low.min(v), high.max(v)]
    })
}

/// Share of a decade between the break of a logarithmic axis and its lowest value.
const ZERO_ROOM: f64 = 0.9;

/// One axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Positions of the ends, in pixels.
    ends: [f64; 2],
    /// Values at the ends; exponents where the axis is logarithmic.
    low: f64,
    high: f64,
    log: bool,
    /// Where zero stands on a logarithmic axis, as an exponent.
    zero: Option<f64>,
    pub ticks: Vec<(f64, String)>,
    /// Ticks without text.
    pub minor: Vec<f64>,
}

impl Axis {
    /// From `low` to `high` with about as many ticks as asked; `room` is left free at both ends, as
    /// a share. An end that is given as exactly 0 stays there.
    pub fn linear(ends: [f64; 2], [low, high]: [f64; 2], room: f64, ticks: usize) -> Self {
        let span = if high > low {
            high - low
        } else {
            // One value only: show it in the middle of something.
            low.abs().max(1.0) * 0.02
        };
        let (middle, half) = ((high + low) / 2.0, span * (0.5 + room));
        let low_end = if low == 0.0 { 0.0 } else { middle - half };
        let high_end = middle + half;
        let step = nice_step((high_end - low_end) / ticks.max(1) as f64);
        let digits = (-step.log10().floor()).max(0.0) as usize;
        // 2.5 needs a digit more than 2 or 5.
        let odd = (step * 10f64.powi(digits as i32)).fract().abs() > 1e-6;
        let digits = digits + usize::from(odd);
        let first = (low_end / step - 1e-9).ceil() as i64;
        let last = (high_end / step + 1e-9).floor() as i64;
        let ticks = (first..=last).map(|i| {
            let value = i as f64 * step;
            (value, grouped(&format!("{value:.digits$}")))
        });
        Self {
            ends,
            low: low_end,
            high: high_end,
            log: false,
            zero: None,
            ticks: ticks.collect(),
            minor: Vec::new(),
        }
    }

    /// Over whole decades of these values. Zeros get a place of their own, left of a break.
    pub fn logarithmic(ends: [f64; 2], values: &[f64], unit: fn(f64) -> String) -> Self {
        let [least, most] = range(values.iter().copied().filter(|v| *v > 0.0));
        let (mut first, mut last) = match most > 0.0 {
            true => (least.log10(), most.log10()),
            false => (0.0, 0.0),
        };
        let lowest = first.floor() as i32;
        let highest = (last.ceil() as i32).max(lowest + 1);
        // Not necessarily to the decade: half of one is enough room.
        first = (first - 0.3).max(f64::from(lowest));
        last = (last + 0.3).min(f64::from(highest));
        if last - first < 1.0 {
            (first, last) = (f64::from(lowest), f64::from(highest));
        }
        let mut ticks: Vec<(f64, String)> = Vec::new();
        let mut minor = Vec::new();
        let inside = |v: f64| v.log10() >= first - 1e-9 && v.log10() <= last + 1e-9;
        if most > 0.0 {
            for exponent in lowest..=highest {
                let decade = 10f64.powi(exponent);
                if inside(decade) {
                    ticks.push((decade, unit(decade)));
                }
                let between = (2..10).map(|i| f64::from(i) * decade);
                minor.extend(between.filter(|v| inside(*v)));
            }
        }
        let has_zero = values.iter().any(|v| *v <= 0.0);
        let zero = has_zero.then_some(first - ZERO_ROOM);
        if has_zero {
            ticks.insert(0, (0.0, "0".to_owned()));
        }
        Self {
            ends,
            low: zero.map_or(first, |zero| zero - 0.35),
            high: last,
            log: true,
            zero,
            ticks,
            minor,
        }
    }

    /// Position of a value.
    pub fn at(&self, value: f64) -> f64 {
        let v = match (self.log, self.zero) {
            (true, Some(zero)) if value <= 0.0 => zero,
            (true, _) => value.log10(),
            (false, _) => value,
        };
        self.place(v)
    }

    /// Position of a value, of an exponent where the axis is logarithmic.
    fn place(&self, value: f64) -> f64 {
        let [from, to] = self.ends;
        from + (value - self.low) / (self.high - self.low) * (to - from)
    }

    /// Where the axis is broken between zero and the rest.
    pub fn break_at(&self) -> Option<f64> {
        Some(self.place(self.zero? + ZERO_ROOM / 2.0))
    }

    /// Drops texts that would touch the one before.
    pub fn thin_out(&mut self, em: f64) {
        let mut free = f64::NEG_INFINITY;
        let mut kept = Vec::new();
        for (value, text) in std::mem::take(&mut self.ticks) {
            let half = text_width(&text, em, false) / 2.0;
            let at = self.at(value);
            if at - half >= free {
                free = at + half + 0.6 * em;
                kept.push((value, text));
            } else {
                self.minor.push(value);
            }
        }
        self.ticks = kept;
    }
}

/// 1, 2, 2.5 or 5 times a power of ten, not below this.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let mut steps = [1.0, 2.0, 2.5, 5.0].map(|m| m * power).into_iter();
    let enough = steps.find(|s| *s >= step * (1.0 - 1e-9));
    enough.unwrap_or(10.0 * power)
}

/// Thousands in groups, e.g. `12,500`.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let digits = whole.trim_start_matches('-');
    let sign = &whole[..whole.len() - digits.len()];
    let text = match digits.parse() {
        Ok(n) if digits.len() > 4 => crate::format::count(n),
        _ => digits.to_owned(),
    };
    format!("{sign}{text}{rest}")
}

/// A power of ten in short, e.g. `10 k`.
pub(super) fn decade(value: f64) -> String {
    for (size, prefix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= 0.999 * size {
            return format!("{:.0} {prefix}", value / size);
        }
    }
    match value {
        v if v >= 0.999 => format!("{v:.0}"),
        v => format!("{v}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, t)| t.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round_numbers() {
        let axis = Axis::linear([0.0, 100.0], [80.0, 85.0], 0.0, 5);
        assert_eq!(texts(&axis), ["80", "81", "82", "83", "84", "85"]);
        assert_eq!((axis.at(80.0), axis.at(85.0)), (0.0, 100.0));
        let axis = Axis::linear([0.0, 100.0], [0.0, 12_000.0], 0.0, 3);
        assert_eq!(texts(&axis), ["0", "5000", "10,000"]);
        let axis = Axis::linear([0.0, 100.0], [0.0, 1.0], 0.0, 4);
        assert_eq!(texts(&axis), ["0.00", "0.25", "0.50", "0.75", "1.00"]);
    }

    #[test]
    fn a_single_value_stands_inside() {
        let axis = Axis::linear([0.0, 100.0], [83.0, 83.0], 0.1, 5);
        assert!((axis.at(83.0) - 50.0).abs() < 1e-9 && axis.ticks.len() > 1);
    }

    #[test]
    fn zero_has_a_place_of_its_own_on_a_logarithmic_axis() {
        let axis = Axis::logarithmic([0.0, 100.0], &[0.0, 7_680.0, 22_713_216.0], decade);
        assert_eq!(texts(&axis), ["0", "10 k", "100 k", "1 M", "10 M"]);
        let zero = axis.at(0.0);
        let gap = axis.break_at().unwrap_or(f64::NAN);
        assert!(
            zero > 0.0 && zero < gap && gap < axis.at(7_680.0),
            "{zero} {gap}"
        );
        // Decades are equally long.
        let decade = axis.at(1e5) - axis.at(1e4);
        assert!((axis.at(1e7) - axis.at(1e6) - decade).abs() < 1e-9);
    }

    #[test]
    fn a_logarithmic_axis_of_nothing_but_zeros_has_that_tick_only() {
        let axis = Axis::logarithmic([0.0, 100.0], &[0.0], decade);
        assert_eq!(texts(&axis), ["0"]);
        assert!(axis.at(0.0).is_finite());
    }
}
