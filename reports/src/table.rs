//! A table: one set of cells for the terminal, Markdown, LaTeX, CSV and JSON.
//!
//! A cell has a text for people and a value for programs. A column has a heading for people, a name for programs, and a rank:
//! where the width does not suffice, columns of a high rank are left out first, and named. Columns without a rank are in
//! files for programs only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, format};

/// What stands where there is no value.
pub const ABSENT: &str = "–";

/// Characters in a line of LaTeX's article class, the space between columns as two: 345 pt, of which a character of `\small` takes
/// about 4.7 and that space 8.
const LATEX_LINE: usize = 75;
/// Characters of a text that stands on one line in LaTeX, about 13 em.
const LATEX_TEXT: usize = 26;
/// Characters that a line of a heading in LaTeX may have, even where the cells are shorter.
const LATEX_HEADING: usize = 10;
/// The first of the letters that are drawn two columns wide, which pdflatex has no font for.
const FIRST_WIDE: char = '\u{2e80}';

/// How a column stands in LaTeX.
struct LatexColumn {
    align: &'static str,
    heading: String,
    /// In characters.
    width: usize,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Name in CSV and JSON.
    pub name: String,
    /// Heading in a terminal.
    pub title: String,
    /// Heading where there is room.
    pub long: String,
    /// Columns of a larger number are left out first; absent for a column that only programs read.
    pub rank: Option<u8>,
    /// Whether it holds numbers, which stand on the right.
    pub number: bool,
}

impl Column {
    /// A column of numbers.
    pub fn number(name: &str, title: &str, long: &str, rank: u8) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            long: long.to_owned(),
            rank: Some(rank),
            number: true,
        }
    }

    /// A column of texts.
    pub fn text(name: &str, title: &str, long: &str, rank: u8) -> Self {
        Self {
            number: false,
            ..Self::number(name, title, long, rank)
        }
    }

    /// A column that only programs read.
    pub fn hidden(name: &str) -> Self {
        Self {
            rank: None,
            ..Self::number(name, name, name, 0)
        }
    }
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// For people.
    pub text: String,
    /// For programs, in basic units (fractions, seconds, bytes, milliseconds); null if there is none.
    pub value: Value,
}

impl Cell {
    /// A text that is its own value.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            value: Value::String(text.clone()),
            text,
        }
    }

    /// A value with its text; absent values have no text.
    pub fn of<T: Into<Value>>(value: Option<T>, text: impl FnOnce() -> String) -> Self {
        Self {
            text: value.as_ref().map_or_else(|| ABSENT.to_owned(), |_| text()),
            value: value.map_or(Value::Null, Into::into),
        }
    }

    /// A value that only programs read.
    pub fn hidden<T: Into<Value>>(value: Option<T>) -> Self {
        Self::of(value, String::new)
    }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// What all rows have in common; may be empty.
    pub caption: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, a cell per column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Of these columns and rows, without a caption.
    pub fn new(columns: Vec<Column>, rows: impl IntoIterator<Item = Vec<Cell>>) -> Self {
        Self {
            caption: String::new(),
            columns,
            rows: rows.into_iter().collect(),
        }
    }

    /// Of texts: the headings, then the rows; the first so many columns hold names, the others numbers.
    pub fn of_texts(
        caption: &str,
        names: usize,
        headings: &[String],
        rows: Vec<Vec<String>>,
    ) -> Self {
        let column = |(i, title): (usize, &String)| Column {
            number: i >= names,
            ..Column::number(title, title, title, 0)
        };
        let columns = headings.iter().enumerate().map(column);
        let cells = |row: Vec<String>| row.into_iter().map(Cell::text).collect();
        Self {
            caption: caption.to_owned(),
            ..Self::new(columns.collect(), rows.into_iter().map(cells))
        }
    }

    /// The places of the columns that people see.
    pub(crate) fn shown(&self) -> Vec<usize> {
        let all = 0..self.columns.len();
        all.filter(|&i| self.columns[i].rank.is_some()).collect()
    }

    /// The lines of a terminal of this width, the headings first, and the headings of the columns that did not fit.
    pub fn lines(&self, width: usize) -> (Vec<String>, Vec<&str>) {
        let visible = |row: &Vec<Cell>| row.iter().map(|c| format::visible(&c.text)).collect();
        let texts: Vec<Vec<String>> = self.rows.iter().map(visible).collect();
        let titles = self.columns.iter().map(|c| format::visible(&c.title));
        let titles: Vec<String> = titles.collect();
        let rank = |i: usize| self.columns[i].rank.unwrap_or(0);
        let widest = |i: usize| {
            let cells = texts.iter().map(|row| format::width(&row[i]));
            cells.chain([format::width(&titles[i])]).max().unwrap_or(0)
        };
        let mut shown = self.shown();
        // A column without any value says nothing.
        shown.retain(|&i| rank(i) == 0 || texts.iter().any(|row| row[i] != ABSENT));
        let mut left_out = Vec::new();
        let needed = |shown: &[usize]| shown.iter().map(|&i| widest(i) + 2).sum::<usize>();
        while needed(&shown) > width.saturating_add(2)
            && let Some(place) = (0..shown.len()).max_by_key(|&k| rank(shown[k]))
            && rank(shown[place]) > 0
        {
            left_out.push(self.columns[shown.remove(place)].long.as_str());
        }
        left_out.reverse();
        let line = |texts: &Vec<String>| {
            let padded = shown.iter().map(|&i| {
                let (text, pad) = (&texts[i], widest(i) - format::width(&texts[i]));
                match self.columns[i].number {
                    true => " ".repeat(pad) + text,
                    false => text.clone() + &" ".repeat(pad),
                }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let lines = std::iter::once(&titles).chain(&texts).map(line);
        (lines.collect(), left_out)
    }

    /// For a terminal, with what did not fit named below.
    pub fn terminal(&self, width: usize) -> String {
        let (lines, left_out) = self.lines(width);
        let mut text = lines.join("\n") + "\n";
        if !left_out.is_empty() {
            let said = format!("Left out, as there is no room: {}.", left_out.join(", "));
            text += &(wrap(&said, width) + "\n");
        }
        text
    }

    /// As Markdown. What names from files hold is text there: neither HTML nor a new column.
    pub fn markdown(&self) -> String {
        let shown = self.shown();
        let line = |cell: &dyn Fn(usize) -> String| {
            let cells: Vec<String> = shown.iter().map(|&i| cell(i)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = |number: bool| if number { "--:" } else { ":--" };
        let heading = line(&|i| markdown_text(&self.columns[i].long));
        let rule = line(&|i| rule(self.columns[i].number).to_owned());
        let rows = self
            .rows
            .iter()
            .map(|row| line(&|i| markdown_text(&row[i].text)));
        heading + &rule + &rows.collect::<String>()
    }

    /// As LaTeX with booktabs: the columns up to this rank, the largest of the column `best` in bold, all that are as large too. What is wider than a line
    /// goes on in a table of the same number, in which the names stand again.
    pub fn latex(&self, most: u8, best: Option<&str>, caption: &str) -> String {
        let rank = |i: usize| self.columns[i].rank.unwrap_or(0);
        let mut shown = self.shown();
        // A column without any value says nothing.
        shown.retain(|&i| {
            rank(i) == 0 || rank(i) <= most && self.rows.iter().any(|row| row[i].text != ABSENT)
        });
        let is_name = |&&i: &&usize| rank(i) == 0 && !self.columns[i].number;
        let (names, others) = shown.split_at(shown.iter().take_while(is_name).count());
        let width = |&i: &usize| self.latex_column(i).width + 2;
        let needed = |columns: &[usize]| columns.iter().map(width).sum::<usize>();
        let mut parts = vec![names.to_vec()];
        for &i in others {
            let Some(last) = parts.last_mut() else { break };
            last.push(i);
            if needed(last) > LATEX_LINE && last.len() > names.len() + 1 {
                last.pop();
                parts.push([names, &[i][..]].concat());
            }
        }
        let bold = best.and_then(|name| {
            let column = self.columns.iter().position(|c| c.name == name)?;
            let values = self.rows.iter().map(|row| &row[column].value);
            Some((column, values.filter_map(Value::as_f64).reduce(f64::max)?))
        });
        let mut text = "% \\usepackage{booktabs}\n".to_owned();
        let mut caption = format!("\\caption{{{}}}", latex_text(caption));
        for part in &parts {
            text += &self.latex_part(part, bold, &caption);
            caption = "\\addtocounter{table}{-1}\n\\caption{Continued.}".to_owned();
        }
        match text.chars().any(|c| c >= FIRST_WIDE) {
            true => format!(
                "% Has letters that pdflatex lacks: use xelatex or lualatex, and a font that has them.\n{text}"
            ),
            false => text,
        }
    }

    /// Some of the columns as a LaTeX table; cells of the column `bold` that have its value are in bold.
    fn latex_part(&self, part: &[usize], bold: Option<(usize, f64)>, caption: &str) -> String {
        let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
        let columns: Vec<LatexColumn> = part.iter().map(|&i| self.latex_column(i)).collect();
        let align: String = columns.iter().map(|column| column.align).collect();
        let headings = line(columns.into_iter().map(|column| column.heading).collect());
        let rows = self.rows.iter().map(|row| {
            let cell = |&i: &usize| match bold {
                Some((column, best)) if column == i && row[i].value.as_f64() == Some(best) => {
                    format!("\\textbf{{{}}}", latex_text(&row[i].text))
                }
                _ => latex_text(&row[i].text),
            };
            line(part.iter().map(cell).collect())
        });
        format!(
            "\\begin{{table}}\n\\centering\n{caption}\n\\smallskip\n\\small\n\\setlength{{\\tabcolsep}}{{4pt}}\n\\begin{{tabular}}{{@{{}}{align}@{{}}}}\n\
             \\toprule\n{headings}\\midrule\n{}\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n",
            rows.collect::<String>()
        )
    }

    /// How a column stands in LaTeX: its heading on lines no wider than its cells where words allow, long texts in a paragraph.
    fn latex_column(&self, i: usize) -> LatexColumn {
        let column = &self.columns[i];
        let chars = |s: &str| s.chars().count();
        let cells = self.rows.iter().map(|row| chars(&row[i].text)).max();
        let cells = cells.unwrap_or(0);
        let is_long = !column.number && cells > LATEX_TEXT;
        let cells = if is_long { LATEX_TEXT } else { cells };
        let lines = wrap(&column.long, cells.max(LATEX_HEADING));
        let side = if column.number { "r" } else { "l" };
        let heading: Vec<String> = lines.lines().map(latex_text).collect();
        LatexColumn {
            align: if is_long { "p{13em}" } else { side },
            width: lines.lines().map(chars).max().unwrap_or(0).max(cells),
            heading: match heading.as_slice() {
                [one] => one.clone(),
                _ => format!("\\shortstack[{side}]{{{}}}", heading.join(" \\\\ ")),
            },
        }
    }

    /// As CSV: the values, absent ones empty. Texts that a spreadsheet would take for a formula get an apostrophe in
    /// front where `safe` is set; numbers never do.
    ///
    /// # Errors
    /// If it cannot be written; not expected.
    pub fn csv(&self, safe: bool) -> Result<String> {
        let text = |text: &str| match safe && is_formula(text) {
            true => format!("'{text}"),
            false => text.to_owned(),
        };
        let cell = |cell: &Cell| match &cell.value {
            Value::Null => String::new(),
            Value::String(s) => text(s),
            other => other.to_string(),
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(self.columns.iter().map(|c| text(&c.name)))?;
        for row in &self.rows {
            writer.write_record(row.iter().map(cell))?;
        }
        let bytes = writer.into_inner();
        let bytes = bytes.map_err(|e| Error::Csv(e.into_error().into()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// One object per row.
    pub fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let pairs = self.columns.iter().zip(row);
            let pairs = pairs.map(|(c, cell)| (c.name.clone(), cell.value.clone()));
            Value::Object(pairs.collect())
        };
        self.rows.iter().map(object).collect()
    }
}

/// Whether a spreadsheet would take a text for a formula, and it is no number.
pub fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err()
}

/// A text in Markdown: what would be markup is escaped, line breaks are spaces.
pub fn markdown_text(text: &str) -> String {
    let mut escaped = String::new();
    for c in format::visible(&text.replace('\n', " ")).chars() {
        match c {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '\\' | '|' | '`' | '*' | '[' | ']' | '~' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// A text in LaTeX.
fn latex_text(text: &str) -> String {
    let mut escaped = String::new();
    for c in format::visible(text).chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
            '\\' => escaped += "\\textbackslash{}",
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '±' => escaped += "$\\pm$",
            '≈' => escaped += "$\\approx$",
            '–' => escaped += "--",
            '−' => escaped += "$-$",
            '→' => escaped += "$\\rightarrow$",
            '·' => escaped += "$\\cdot$",
            '×' => escaped += "$\\times$",
            '≤' => escaped += "$\\leq$",
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Breaks lines at spaces; control characters are written out.
pub fn wrap(text: &str, width: usize) -> String {
    let words = text.split_whitespace().map(format::visible);
    format::lines(words, |line| format::width(line) <= width).join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn example() -> Table {
        let row = |name: &str, value: f64| {
            vec![
                Cell::text(name),
                Cell::of(Some(value), || format!("{:.1} ± 0.5", 100.0 * value)),
                Cell::of(None::<f64>, String::new),
                Cell::hidden(Some(7)),
            ]
        };
        let columns = vec![
            Column::text("method", "method", "method", 0),
            Column::number("accuracy", "acc.", "accuracy (%)", 1),
            Column::number("time", "time", "training time", 2),
            Column::hidden("seeds"),
        ];
        let rows = [("lo|ra <b>", 0.85), ("-full", 0.9), ("=1+\"2\",3", -0.1)];
        Table::new(columns, rows.map(|(name, value)| row(name, value)))
    }

    #[test]
    fn a_terminal_leaves_out_what_does_not_fit_and_says_so() {
        let text = example().terminal(80);
        assert_eq!(text.lines().next().unwrap(), "method            acc.");
        assert!(!text.contains("Left out"), "an empty column is not missed");
        let narrow = example().terminal(12);
        assert!(narrow.starts_with("method\nlo|ra <b>\n"), "{narrow}");
        assert!(
            narrow.replace('\n', " ").contains("room: accuracy (%)."),
            "{narrow}"
        );
    }

    #[test]
    fn names_from_files_are_no_markup_in_markdown_and_latex() {
        let text = example().markdown();
        assert!(
            text.contains("| lo\\|ra &lt;b&gt; | 85.0 ± 0.5 | – |"),
            "{text}"
        );
        assert_eq!(markdown_text("a\nb\x1b[0m"), "a b\\\\u{1b}\\[0m");
        let text = example().latex(1, Some("accuracy"), "50 % of all_things");
        assert!(
            text.contains("-full & \\textbf{90.0 $\\pm$ 0.5} \\\\"),
            "{text}"
        );
        assert!(text.contains("\\caption{50 \\% of all\\_things}"), "{text}");
        assert!(!text.contains("training time"));
    }

    #[test]
    fn a_spreadsheet_takes_no_name_for_a_formula_and_every_number_as_one() {
        let text = example().csv(true).unwrap();
        assert_eq!(
            text,
            "method,accuracy,time,seeds\nlo|ra <b>,0.85,,7\n'-full,0.9,,7\n\"'=1+\"\"2\"\",3\",-0.1,,7\n"
        );
        assert!(example().csv(false).unwrap().contains("\n-full,"));
    }

    #[test]
    fn json_has_values_under_the_names_of_columns() {
        let json = example().json();
        assert_eq!(json[1]["accuracy"], 0.9);
        assert_eq!(json[1]["time"], Value::Null);
    }

    #[test]
    fn columns_stand_under_each_other_whatever_letters_their_cells_have() {
        let headings = ["class", "train"].map(str::to_owned);
        let row = |name: &str, n: &str| vec![name.to_owned(), n.to_owned()];
        let table = Table::of_texts("", 1, &headings, vec![row("好评", "12"), row("bad", "7")]);
        assert_eq!(
            table.lines(80).0,
            ["class  train", "好评      12", "bad        7"]
        );
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three", 7), "one two\nthree");
    }
}
