//! Predicted labels in a short text, for the evaluations on the way: of a learning curve only right and wrong count.
//!
//! A label is written with digits to base 36, as many as the last label needs: one character per example up to 36 labels.

const BASE: u32 = 36;

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

/// The labels in a text; `None` if it holds anything but labels below this number.
pub fn read(text: &str, labels: usize) -> Option<Vec<u32>> {
    let width = width(labels) as usize;
    if !text.bytes().all(|b| b.is_ascii_alphanumeric()) || !text.len().is_multiple_of(width) {
        return None;
    }
    (0..text.len() / width)
        .map(|i| {
            let label = u32::from_str_radix(&text[i * width..(i + 1) * width], BASE).ok()?;
            ((label as usize) < labels).then_some(label)
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
            assert_eq!(read(&write(&all, labels), labels).unwrap(), all, "{labels}");
        }
        assert_eq!(write(&[36], 37), "10");
        for damaged in ["012", "0a", "0é", "+1"] {
            assert_eq!(read(damaged, 2), None, "{damaged}");
        }
        assert_eq!(read("101", 37), None);
    }
}
