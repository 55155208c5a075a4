//! Rows of numbers in one piece of memory. The predictions of ten thousand runs are millions of short rows; a list of its own
//! for each would take five times the memory of the numbers in it.

use serde::{Deserialize, Serialize, Serializer};

/// Rows of numbers, of equal length or not; in JSON a list of lists.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Vec<Vec<T>>")]
pub struct Rows<T> {
    values: Vec<T>,
    rows: usize,
    /// Where each row ends among the values; empty where all are equally long, as logits are.
    ends: Vec<usize>,
}

impl<T> Rows<T> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[T]> + Clone {
        (0..self.len()).map(|row| &self[row])
    }

    /// All numbers, row by row.
    pub fn values(&self) -> &[T] {
        &self.values
    }
}

impl<T> std::ops::Index<usize> for Rows<T> {
    type Output = [T];

    fn index(&self, row: usize) -> &[T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        if self.ends.is_empty() {
            let width = self.values.len() / self.rows;
            return &self.values[row * width..(row + 1) * width];
        }
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.values[begin..self.ends[row]]
    }
}

impl<T> FromIterator<Vec<T>> for Rows<T> {
    fn from_iter<I: IntoIterator<Item = Vec<T>>>(rows: I) -> Self {
        let (mut values, mut ends) = (Vec::new(), Vec::new());
        for row in rows {
            values.extend(row);
            ends.push(values.len());
        }
        let rows = ends.len();
        let width = ends.first().copied().unwrap_or(0);
        if ends.iter().zip(1..).all(|(end, row)| *end == row * width) {
            ends = Vec::new();
        }
        values.shrink_to_fit();
        ends.shrink_to_fit();
        Self { values, rows, ends }
    }
}

impl<T> From<Vec<Vec<T>>> for Rows<T> {
    fn from(rows: Vec<Vec<T>>) -> Self {
        rows.into_iter().collect()
    }
}

impl<T: Serialize> Serialize for Rows<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_come_back_from_json_as_lists_of_lists() {
        let lists = vec![vec![1.5, 2.0], vec![], vec![-0.1]];
        let rows = Rows::from(lists.clone());
        assert_eq!(rows.iter().collect::<Vec<_>>(), lists);
        assert_eq!((rows.len(), &rows[2]), (3, &[-0.1][..]));
        let json = serde_json::to_string(&rows).unwrap();
        assert_eq!(json, "[[1.5,2.0],[],[-0.1]]");
        assert_eq!(serde_json::from_str::<Rows<f64>>(&json).unwrap(), rows);
        assert!(Rows::<f64>::default().is_empty());
    }

    #[test]
    fn rows_of_equal_length_need_no_ends_and_are_the_same_rows() {
        let lists = vec![vec![1, 2], vec![3, 4], vec![5, 6]];
        let rows = Rows::from(lists.clone());
        assert!(rows.ends.is_empty());
        assert_eq!(rows.iter().collect::<Vec<_>>(), lists);
        assert_eq!((rows.len(), &rows[1]), (3, &[3, 4][..]));
        // The lengths agree on average only.
        let rows = Rows::from(vec![vec![1], vec![2, 3, 4], vec![5, 6]]);
        assert_eq!(rows.iter().map(<[i32]>::len).collect::<Vec<_>>(), [1, 3, 2]);
        let nothing = Rows::from(vec![Vec::<f64>::new(); 2]);
        assert_eq!((nothing.len(), nothing[1].len()), (2, 0));
    }
}
