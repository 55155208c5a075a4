//! Predicted labels in a short text, for the evaluations on the way: of a learning curve only right and wrong count.
//!
//! A label is written with digits to base 36, as many as the last label needs: one character per example up to 36 labels.
//! Dots stand for an example that was not judged.

const BASE: u32 = 36;
const NOT_JUDGED: char = '.';

/// Digits that a label takes among so many.
fn width(labels: usize) -> u32 {
    let last = u32::try_from(labels.saturating_sub(1)).unwrap_or(u32::MAX);
    last.checked_ilog(BASE).map_or(1, |digits| digits + 1)
}

/// The text of predicted labels.
pub fn write(predicted: &[u32], labels: usize) -> String {
    let width = width(labels);
    let digit = |label: u32, place: u32| {
        let value = label / BASE.pow(place) % BASE;
        char::from_digit(value, BASE).unwrap_or('0')
    };
    predicted
        .iter()
        .flat_map(|&label| (0..width).rev().map(move |place| digit(label, place)))
        .collect()
}

/// The text of labels that are predicted for some of `all` examples, those with these indices, ascending.
pub fn write_some(predicted: &[u32], indices: &[u32], all: usize, labels: usize) -> String {
    let mut judged = indices.iter().zip(predicted).peekable();
    (0..all as u32)
        .map(|i| match judged.next_if(|(index, _)| **index == i) {
            Some((_, label)) => write(&[*label], labels),
            None => NOT_JUDGED.to_string().repeat(width(labels) as usize),
        })
        .collect()
}

/// The labels in a text, none for an example that was not judged; `None` if it is no text of so many labels.
pub fn read(text: &str, labels: usize) -> Option<Vec<Option<u32>>> {
    let width = width(labels) as usize;
    if !text.is_ascii() || !text.len().is_multiple_of(width) {
        return None;
    }
    (0..text.len() / width)
        .map(|i| {
            let digits = &text[i * width..(i + 1) * width];
            if digits.chars().all(|c| c == NOT_JUDGED) {
                return Some(None);
            }
            let known = digits.bytes().all(|b| b.is_ascii_alphanumeric());
            let label = u32::from_str_radix(digits, BASE).ok().filter(|_| known)?;
            ((label as usize) < labels).then_some(Some(label))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn predicted_labels_come_back_from_their_text() {
        assert_eq!(write(&[0, 1, 1, 0], 2), "0110");
        for labels in [1, 2, 36, 37, 1296, 1297] {
            let all: Vec<u32> = (0..labels as u32).rev().collect();
            let known: Vec<Option<u32>> = all.iter().copied().map(Some).collect();
            assert_eq!(
                read(&write(&all, labels), labels).unwrap(),
                known,
                "{labels}"
            );
        }
        assert_eq!(write(&[36], 37), "10");
        for damaged in ["012", "0a", "0é", "+1"] {
            assert_eq!(read(damaged, 2), None, "{damaged}");
        }
        assert_eq!(read("101", 37), None);
    }

    #[test]
    fn examples_that_were_not_judged_are_told_from_those_that_were() {
        assert_eq!(write_some(&[1, 0], &[1, 3], 5, 2), ".1.0.");
        assert_eq!(write_some(&[36], &[0], 2, 37), "10..");
        for labels in [2, 37] {
            let text = write_some(&[1, 0], &[1, 3], 5, labels);
            let read = read(&text, labels).unwrap();
            assert_eq!(read, [None, Some(1), None, Some(0), None]);
        }
        assert_eq!(read("1.", 37), None);
        assert_eq!(read(".1", 37), None);
    }
}
