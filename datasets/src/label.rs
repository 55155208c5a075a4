//! What the values of a label column mean: which of them are one class, which stand for a missing value, and whether the
//! column holds classes at all.
//!
//! As in pandas, a column of numbers or booleans is read by value, so `1`, `1.0` and `"1"` are one class, and `TRUE` and
//! `true` are. A column that holds anything else is read as text, in Unicode's composed form (NFC), without white space
//! and invisible characters around it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokenizers::{NormalizedString, normalizers::unicode::NFC, tokenizer::Normalizer};

/// Values that pandas reads as missing (`na_values` of `read_csv`, pandas 3.1), besides the empty one.
pub(crate) const MISSING: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
    "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// A label as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    /// Without anything invisible around it, composed.
    pub text: String,
    /// A boolean of JSON or parquet, which is a number among numbers.
    boolean: bool,
    /// Whether the text was changed: something around it was cut off, or it was composed.
    changed: bool,
}

impl Label {
    /// The label of a cell; nothing where there is none.
    ///
    /// # Errors
    /// What the cell is instead.
    pub fn of(cell: &Value) -> Result<Option<Self>, &'static str> {
        let Some(raw) = crate::rows::cell_text(cell)? else {
            return Ok(None);
        };
        // From 2⁵³ on several whole numbers are one floating-point number.
        if cell
            .as_f64()
            .is_some_and(|v| cell.is_f64() && v.abs() >= 9e15)
        {
            return Err(
                "a number of too many digits to tell from its neighbours (write it as text)",
            );
        }
        let text = composed(visible(&raw));
        Ok(Some(Self {
            boolean: cell.is_boolean(),
            changed: text != raw,
            text,
        }))
    }

    /// A label of this name.
    pub fn named(name: &str) -> Self {
        Self {
            text: composed(visible(name)),
            boolean: false,
            changed: false,
        }
    }

    /// A text as it is written.
    pub fn written(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            boolean: false,
            changed: false,
        }
    }

    /// Whether it stands for a missing value.
    pub fn is_missing(&self) -> bool {
        self.text.is_empty() || MISSING.contains(&self.text.as_str())
    }
}

/// A text without white space and invisible characters around it.
fn visible(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || invisible(c))
}

/// Zero-width characters, soft hyphen, marks of direction.
fn invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
    )
}

/// Unicode's composed form.
fn composed(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut form = NormalizedString::from(text);
    match NFC.normalize(&mut form) {
        Ok(()) => form.get().to_owned(),
        Err(_) => text.to_owned(),
    }
}

/// Text that looks the same to a reader in a hurry.
fn loose(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_whitespace() && !invisible(*c))
        .flat_map(char::to_lowercase)
        .collect()
}

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Whole,
    Number,
    Boolean,
    Text,
}

/// What makes two labels one class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Whole(i128),
    /// Bits that are in the order of the numbers.
    Number(u64),
    Text(String),
}

fn whole(text: &str) -> Option<i128> {
    text.parse().ok()
}

fn number(text: &str) -> Option<f64> {
    // Rust also reads words such as `infinity`; a number begins with a digit, a sign or a point.
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    // A whole number of more digits than any type has is a name: as a float it would be that of its neighbours too.
    let sign = ['+', '-'];
    let long = text.len() > 15
        && text
            .trim_start_matches(sign)
            .bytes()
            .all(|b| b.is_ascii_digit());
    if long && whole(text).is_none() {
        return None;
    }
    text.parse().ok().filter(|v: &f64| digits && v.is_finite())
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn ordered(value: f64) -> u64 {
    // +0 and −0 are one number.
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

impl Reading {
    fn of<'a>(labels: impl Iterator<Item = &'a Label> + Clone) -> Self {
        let all = |is: fn(&Label) -> bool| labels.clone().all(is);
        if all(|l| truth(&l.text).is_some()) {
            Reading::Boolean
        } else if all(|l| l.boolean || whole(&l.text).is_some()) {
            Reading::Whole
        } else if all(|l| l.boolean || number(&l.text).is_some()) {
            Reading::Number
        } else {
            Reading::Text
        }
    }

    fn key(self, label: &Label) -> Key {
        let text = || Key::Text(label.text.clone());
        let of_boolean = || {
            label
                .boolean
                .then(|| i128::from(truth(&label.text) == Some(true)))
        };
        match self {
            Reading::Boolean => truth(&label.text).map_or_else(text, |v| Key::Whole(i128::from(v))),
            Reading::Whole => {
                let value = of_boolean().or_else(|| whole(&label.text)).or_else(|| {
                    let value = number(&label.text)?;
                    (value.fract() == 0.0 && value.abs() < 2f64.powi(53)).then_some(value as i128)
                });
                value.map_or_else(text, Key::Whole)
            }
            Reading::Number => {
                let value = of_boolean()
                    .map(|v| v as f64)
                    .or_else(|| number(&label.text));
                value.map_or_else(text, |v| Key::Number(ordered(v)))
            }
            Reading::Text => text(),
        }
    }
}

/// The classes of a data set, and how a label finds its own.
#[derive(Clone, Debug)]
pub(crate) struct Classes {
    /// Their names, in order.
    pub names: Vec<String>,
    reading: Reading,
    of_key: BTreeMap<Key, u32>,
    /// The names come from the specification, so that a file may hold their indices.
    given: bool,
}

impl Classes {
    /// The classes that a specification names.
    pub fn given(names: &[String]) -> Self {
        let labels: Vec<Label> = names.iter().map(|name| Label::named(name)).collect();
        let reading = Reading::of(labels.iter());
        let keys = labels
            .iter()
            .zip(0..)
            .map(|(label, i)| (reading.key(label), i));
        Self {
            names: names.to_vec(),
            reading,
            of_key: keys.collect(),
            given: true,
        }
    }

    /// The classes of a column's values (none of them missing), in the order of their values; what has to be said about
    /// them, or why they are no classes.
    pub fn learnt(labels: &[Label], column: &str) -> Result<(Self, Vec<String>), String> {
        let reading = Reading::of(labels.iter());
        let mut spellings: BTreeMap<Key, BTreeMap<&str, usize>> = BTreeMap::new();
        for label in labels {
            *spellings
                .entry(reading.key(label))
                .or_default()
                .entry(&label.text)
                .or_default() += 1;
        }
        if let Some(why) = no_classes(reading, &spellings, labels.len()) {
            return Err(why);
        }
        let names: Vec<String> = spellings
            .iter()
            .map(|(key, spellings)| name(reading, key, spellings))
            .collect();
        let notes = notes(reading, &spellings, &names, labels, column);
        let of_key = spellings.into_keys().zip(0..).collect();
        Ok((
            Self {
                names,
                reading,
                of_key,
                given: false,
            },
            notes,
        ))
    }

    /// The class of a label.
    pub fn of(&self, label: &Label) -> Option<u32> {
        if let Some(class) = self.of_key.get(&self.reading.key(label)) {
            return Some(*class);
        }
        if !self.given {
            return None;
        }
        let index = if label.boolean {
            u32::from(truth(&label.text) == Some(true))
        } else {
            let value = number(&label.text).filter(|v| v.fract() == 0.0 && *v >= 0.0)?;
            value as u32
        };
        ((index as usize) < self.names.len()).then_some(index)
    }

    /// What is accepted, in words.
    pub fn accepted(&self) -> String {
        let names = crate::rows::shown(&self.names);
        match self.given {
            true => format!("{names}, or their indices 0 to {}", self.names.len() - 1),
            false => names,
        }
    }
}

/// The number of a label, for ratings.
pub(crate) fn rating(label: &Label) -> Option<f64> {
    number(&label.text)
}

/// Whether a label says yes (1, true) or no (0, false); nothing where it says neither.
pub(crate) fn yes(label: &Label) -> Option<bool> {
    truth(&label.text).or_else(|| match number(&label.text) {
        Some(1.0) => Some(true),
        Some(0.0) => Some(false),
        _ => None,
    })
}

/// Whether a label is the value that stands for a hidden one.
pub(crate) fn is(label: &Label, value: &str) -> bool {
    label.text == value
        || matches!((number(&label.text), number(value)), (Some(a), Some(b)) if a == b)
}

fn name(reading: Reading, key: &Key, spellings: &BTreeMap<&str, usize>) -> String {
    match (reading, key) {
        (Reading::Boolean, Key::Whole(value)) => match spellings.keys().next() {
            Some(only) if spellings.len() == 1 => (*only).to_owned(),
            _ => (*value == 1).to_string(),
        },
        (_, Key::Whole(value)) => value.to_string(),
        (_, Key::Number(_)) => {
            let first = spellings.keys().find_map(|text| number(text));
            // A boolean among numbers.
            first.map_or_else(
                || u8::from(spellings.keys().any(|t| truth(t) == Some(true))).to_string(),
                |v| (v + 0.0).to_string(),
            )
        }
        (_, Key::Text(text)) => text.clone(),
    }
}

fn notes(
    reading: Reading,
    spellings: &BTreeMap<Key, BTreeMap<&str, usize>>,
    names: &[String],
    labels: &[Label],
    column: &str,
) -> Vec<String> {
    let mut notes = Vec::new();
    let listed = |texts: Vec<&str>| {
        let quoted: Vec<String> = texts
            .iter()
            .take(5)
            .map(|text| format!("'{text}'"))
            .collect();
        quoted.join(", ")
    };
    if let Some(several) = spellings.values().find(|spellings| spellings.len() > 1) {
        let kind = if reading == Reading::Boolean {
            "booleans"
        } else {
            "numbers"
        };
        notes.push(format!(
            "column '{column}' is read as {kind}, so {} are one class",
            listed(several.keys().copied().collect())
        ));
    }
    let changed = labels.iter().filter(|label| label.changed).count();
    if changed > 0 {
        notes.push(format!(
            "column '{column}': {changed} labels were written with white space or invisible characters around them, or with \
             letters in several characters; they were cut off, and the letters composed (NFC)"
        ));
    }
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names {
        alike.entry(loose(name)).or_default().push(name);
    }
    for names in alike.into_values().filter(|names| names.len() > 1) {
        notes.push(format!(
            "column '{column}': the classes {} differ only in case, spaces or invisible characters; they stay different \
             classes",
            listed(names)
        ));
    }
    if reading == Reading::Text {
        let mut values: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
        for name in names {
            let value = number(name).or_else(|| truth(name).map(f64::from));
            if let Some(value) = value {
                values.entry(ordered(value)).or_default().insert(name);
            }
        }
        for same in values.into_values().filter(|same| same.len() > 1) {
            notes.push(format!(
                "column '{column}' holds text beside numbers, so it is read as text, and {} are different classes",
                listed(same.into_iter().collect())
            ));
        }
    }
    notes
}

/// Why a column holds no classes but numbers to predict or texts to write, if so.
///
/// Classes repeat. A column where more than a tenth as many values as rows are different is none if most values come
/// once, if they are fractions, if they are numbers with gaps, or if they are long.
fn no_classes(
    reading: Reading,
    spellings: &BTreeMap<Key, BTreeMap<&str, usize>>,
    rows: usize,
) -> Option<String> {
    /// Fewer classes are believed, however few the rows.
    const FEW: usize = 5;
    let different = spellings.len();
    if different <= FEW || different * 10 <= rows {
        return None;
    }
    let count = |spellings: &BTreeMap<&str, usize>| spellings.values().sum::<usize>();
    let once = spellings.values().filter(|s| count(s) == 1).count();
    let mostly_once = once * 2 > different;
    let shown = format!("{different} different values in {rows} rows");
    let classes = "if they are classes, name them all as label.names in a YAML";
    let numbers = matches!(reading, Reading::Whole | Reading::Number);
    let wide = match (spellings.first_key_value(), spellings.last_key_value()) {
        (Some((Key::Whole(low), _)), Some((Key::Whole(high), _))) => {
            high.saturating_sub(*low) >= different as i128
        }
        _ => true,
    };
    let fractions = reading == Reading::Number && different > 2 * FEW;
    if numbers && (fractions || mostly_once || (wide && different > 4 * FEW)) {
        return Some(format!(
            "{shown}: these are numbers to predict, not classes: name --objective regression, cut them into two classes \
             with label.threshold in a YAML, or {classes}"
        ));
    }
    let letters = spellings
        .values()
        .flat_map(|s| s.keys())
        .map(|t| t.chars().count());
    let long = letters.sum::<usize>() > 40 * different;
    if reading == Reading::Text && (mostly_once || (long && different > 4 * FEW)) {
        return Some(format!(
            "{shown}: these are texts to write, not classes: name --objective completion, or {classes}"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(cells: &[Value]) -> Vec<Label> {
        cells
            .iter()
            .map(|cell| Label::of(cell).unwrap().unwrap())
            .collect()
    }

    fn learnt(cells: &[Value]) -> (Vec<String>, Vec<String>) {
        let (classes, notes) = Classes::learnt(&labels(cells), "label").unwrap();
        (classes.names, notes)
    }

    #[test]
    fn one_value_in_several_spellings_is_one_class_and_said() {
        for (cells, names) in [
            (vec![json!("1"), json!("1.0"), json!("0")], vec!["0", "1"]),
            (
                vec![json!("01"), json!("1e0"), json!("+1"), json!("2")],
                vec!["1", "2"],
            ),
            (
                vec![json!(1), json!("1"), json!(1.0), json!(0)],
                vec!["0", "1"],
            ),
            (
                vec![json!(true), json!(1), json!(false), json!("0.0")],
                vec!["0", "1"],
            ),
            (
                vec![json!("TRUE"), json!("true"), json!("False"), json!("FALSE")],
                vec!["false", "true"],
            ),
            (
                vec![json!(true), json!("True"), json!(false)],
                vec!["false", "true"],
            ),
            (
                vec![json!("0.0"), json!("-0"), json!("0.5")],
                vec!["0", "0.5"],
            ),
            (
                vec![json!("caf\u{e9}"), json!("cafe\u{301}"), json!("bar")],
                vec!["bar", "caf\u{e9}"],
            ),
            (
                vec![json!("pos\u{200b}"), json!(" pos"), json!("neg\u{a0}")],
                vec!["neg", "pos"],
            ),
        ] {
            let (found, notes) = learnt(&cells);
            assert_eq!(found, names, "{cells:?}");
            assert_eq!(notes.len(), 1, "{cells:?}: {notes:?}");
        }
    }

    #[test]
    fn values_that_only_look_alike_stay_apart_and_are_said() {
        for (cells, names) in [
            (vec![json!("Pos"), json!("pos")], vec!["Pos", "pos"]),
            (
                vec![json!("very good"), json!("very  good")],
                vec!["very  good", "very good"],
            ),
            (
                vec![json!("1"), json!("1.0"), json!("neg")],
                vec!["1", "1.0", "neg"],
            ),
            (
                vec![json!("true"), json!("1"), json!("0")],
                vec!["0", "1", "true"],
            ),
        ] {
            let (found, notes) = learnt(&cells);
            assert_eq!(found, names, "{cells:?}");
            assert_eq!(notes.len(), 1, "{cells:?}: {notes:?}");
        }
    }

    #[test]
    fn numbers_are_in_the_order_of_their_values_and_nothing_is_said_of_plain_ones() {
        let cells = ["10", "9", "-1", "2"].map(|v| json!(v));
        assert_eq!(
            learnt(&cells),
            (["-1", "2", "9", "10"].map(str::to_owned).to_vec(), vec![])
        );
        let cells = ["0.5", "-1.5", "10", "2"].map(|v| json!(v));
        assert_eq!(learnt(&cells).0, ["-1.5", "0.5", "2", "10"]);
        let cells = ["9007199254740993", "9007199254740992"].map(|v| json!(v));
        assert_eq!(learnt(&cells).0, ["9007199254740992", "9007199254740993"]);
        let cells = ["True", "False"].map(|v| json!(v));
        assert_eq!(
            learnt(&cells),
            (["False", "True"].map(str::to_owned).to_vec(), vec![])
        );
    }

    #[test]
    fn another_files_spelling_finds_the_same_class() {
        let (classes, _) = Classes::learnt(&labels(&[json!(0), json!(1)]), "label").unwrap();
        let of = |cell: Value| classes.of(&labels(&[cell])[0]);
        assert_eq!(of(json!("1.0")), Some(1));
        assert_eq!(of(json!(false)), Some(0));
        assert_eq!(of(json!("1.5")), None);
        assert_eq!(of(json!("neg")), None);
        let given = Classes::given(&["no".to_owned(), "yes".to_owned()]);
        let of = |cell: Value| given.of(&labels(&[cell])[0]);
        assert_eq!(of(json!("yes")), Some(1));
        assert_eq!(of(json!(1.0)), Some(1));
        assert_eq!(of(json!(true)), Some(1));
        assert_eq!(of(json!(2)), None);
        assert_eq!(of(json!(-1)), None);
    }

    #[test]
    fn every_missing_marker_of_pandas_is_missing_and_words_that_are_labels_are_not() {
        let missing = |text: &str| labels(&[json!(text)])[0].is_missing();
        assert!(
            MISSING
                .iter()
                .chain(&["", "  ", "\u{200b}"])
                .all(|m| missing(m))
        );
        for text in ["none", "Null", "na", "NAN", "-", "?", "0", "nil", "missing"] {
            assert!(!missing(text), "{text}");
        }
        assert_eq!(Label::of(&json!(null)), Ok(None));
        assert_eq!(Label::of(&json!(["a"])), Err("a list"));
    }

    #[test]
    fn numbers_to_predict_and_texts_to_write_are_no_classes() {
        let refused = |cells: Vec<Value>, word: &str| {
            let why = Classes::learnt(&labels(&cells), "label").unwrap_err();
            assert!(why.contains(word), "{why}");
        };
        refused(
            (0..80).map(|i| json!(f64::from(i) * 0.37)).collect(),
            "regression",
        );
        refused((0..30).map(|i| json!(i * 7)).collect(), "regression");
        refused(
            (0..300).map(|i| json!((i * 37) % 101 * 5)).collect(),
            "regression",
        );
        refused(
            (0..60)
                .map(|i| json!(format!("a title number {i}")))
                .collect(),
            "completion",
        );
        refused(
            (0..8).map(|i| json!(format!("word{i}"))).collect(),
            "completion",
        );
    }

    #[test]
    fn classes_of_few_rows_are_classes() {
        let accepted = |cells: Vec<Value>| {
            Classes::learnt(&labels(&cells), "label").unwrap();
        };
        accepted((0..6).map(|i| json!(i % 3)).collect());
        accepted((0..30).map(|i| json!(format!("class {}", i % 5))).collect());
        // Five rows of each of 77 classes, by name and by index.
        accepted((0..385).map(|i| json!(i % 77)).collect());
        accepted(
            (0..385)
                .map(|i| json!(format!("intent {}", i % 77)))
                .collect(),
        );
        accepted((0..1000).map(|i| json!(f64::from(i % 10) / 2.0)).collect());
        accepted((0..1000).map(|i| json!(i % 100)).collect());
    }
}
