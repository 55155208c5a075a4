//! `predict`: rows in, labels out, with saved weights of one task or of many.
//!
//! Rows are read as for training, from JSONL, CSV, TSV, parquet or lines of text, and their further columns come back with
//! the answer. They are read by a thread of their own, so a pass takes all rows that have come while the last one was
//! computed: a slow writer gets its answers at once, a fast one gets full batches, and only a few hundred rows are in
//! memory, and of long ones fewer.
//!
//! A text that is written appears as it is written: its line of JSON grows token by token and ends with the text. Texts behind it
//! are written meanwhile, and follow in the order of their rows.

use std::{
    collections::VecDeque,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use anyhow::{Result, anyhow, bail};
use datasets::{FileOptions, Objective, RowError, RowOptions, Rows};
use serde_json::{Map, Value, json};

use crate::{
    columns::{Columns, ONLY},
    exit,
    objective::Prediction,
    output::{csv_cell, reader_left},
    task_library::{self, Answer, Row},
    texts::Texts,
    weights,
};

/// Rows that are predicted together at most: rows of a task are gathered from among them.
const CHUNK: usize = 512;
/// The same where texts are written, which takes seconds: as many as are written together.
const WRITTEN: usize = 32;
/// Bytes of rows that are predicted together, and of those that are read ahead, where they are more than one.
const HELD: usize = 1 << 26;
/// Keys of an answer; a column of the same name comes back as `input_NAME`.
const ANSWER: [&str; 14] = [
    "task",
    "label",
    "probability",
    "probabilities",
    "logits",
    "labels",
    "prediction",
    "tokens",
    "tags",
    "entities",
    "completion",
    "cut",
    "line",
    "error",
];

/// Which weights answer.
pub enum Weights {
    /// A folder of saved weights.
    One(PathBuf),
    /// A folder of folders of saved weights; each row names its task by the folder's name.
    Many(PathBuf),
}

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AnswerFormat {
    /// An object per line: further columns, label, probabilities, logits.
    #[default]
    Jsonl,
    /// A table: further columns, label and its probability.
    Csv,
}

/// Where the rows are, and what of them is read.
pub struct Input<'a> {
    /// The file, or `-` for standard input.
    pub path: &'a Path,
    /// Columns, separator, quote and encoding; without columns `text` and, where there is one, `pair`.
    pub options: FileOptions,
    /// The column of the second text.
    pub pair_column: Option<String>,
}

/// How answers are written.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// As lines of JSON or as a table.
    pub format: AnswerFormat,
    /// Whether cells of a table that a spreadsheet would take for formulas are made texts.
    pub csv_safe: bool,
}

/// `predict`.
///
/// # Errors
/// If weights or backbone are not found, or the input cannot be read; with `--weights`, on the first row that cannot be
/// answered, naming its line. With `--tasks` such a row is answered with an error and the exit code is 1.
pub fn predict(
    weights: &Weights,
    input: &Input,
    output: Output,
    backbone: Option<&str>,
    offline: bool,
) -> Result<ExitCode> {
    let columns = Columns::of(
        &input.options.text_columns,
        input.pair_column.as_deref(),
        matches!(weights, Weights::Many(_)),
    )?;
    let name = input.path.display().to_string();
    // Before the weights are loaded: a wrong file is told at once.
    let rows = open(input, &columns)?;
    let (library, many) = match weights {
        Weights::One(folder) => {
            let config = weights::read_config(folder)?;
            let library = task_library::open(&config, backbone, offline)?;
            library.add(ONLY, folder)?;
            (library, None)
        }
        Weights::Many(folder) => {
            let (library, unusable) = task_library::open_all(folder, backbone, offline)?;
            for (name, error) in &unusable {
                eprintln!("note: task '{name}' cannot be used: {error}");
            }
            (library, Some(unusable))
        }
    };
    let unit = rows.unit();
    let mut answers = Answers::new(output, many.is_some(), rows.header(), &columns);
    answers.numbered = rows.are_plain_lines();
    let blank = rows.are_lines().then(Blank::default);
    let incoming = Ahead::of(rows);
    let out = BufWriter::new(io::stdout().lock());
    let mut lines = Lines::new(out, answers, blank);
    let writes = |name: &String| {
        let task = library.get(name);
        task.is_some_and(|task| task.config().objective == Objective::Completion)
    };
    let most = match library.names().iter().any(writes) {
        true => WRITTEN,
        false => CHUNK,
    };
    while let Some(chunk) = incoming.take(most) {
        // Where a row goes: to the library, or straight to its error.
        let mut rows = Vec::new();
        let mut waiting = VecDeque::with_capacity(chunk.len());
        for row in chunk {
            let (place, fields, row) = match row {
                Ok(row) => {
                    let (fields, taken) = columns.take(row.fields, many.as_ref());
                    (row.place, fields, taken)
                }
                Err(RowError::Row(fault)) => (fault.place, Map::new(), Err(anyhow!("{fault}"))),
                Err(RowError::File(error)) => {
                    lines.flush()?;
                    return Err(error.into());
                }
            };
            let row = row.map(|row| {
                let pairs = library.get(&row.task).and_then(|task| task.config().pairs);
                lines.texts.row(row.pair.is_some(), pairs);
                rows.push(row);
                rows.len() - 1
            });
            waiting.push_back(Waiting { place, fields, row });
        }
        let mut known: Vec<Option<(Answer, bool)>> = vec![None; rows.len()];
        let mut written = Ok(());
        let predictions = library.predict_telling(&rows, &mut |i, answer, ended| {
            known[i] = Some((answer.clone(), ended));
            if written.is_ok() {
                written = lines.as_far_as(&mut waiting, &rows, &known);
            }
        });
        written?;
        let mut predictions: Vec<_> = predictions.into_iter().map(Some).collect();
        for Waiting { place, fields, row } in waiting {
            let (task, prediction) = match row {
                Ok(i) => (
                    Some(rows[i].task.as_str()),
                    predictions[i]
                        .take()
                        .unwrap_or_else(|| bail!("a row without an answer")),
                ),
                Err(error) => (None, Err(error)),
            };
            if let (Err(error), None) = (&prediction, &many) {
                lines.end_begun(place, error)?;
                lines.flush()?;
                bail!("{name}: {unit} {place}: {error:#}");
            }
            lines.whole(place, fields, task, prediction.as_ref())?;
        }
        lines.flush()?;
        if lines.left {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let Lines {
        blank,
        texts,
        refused,
        answered,
        ..
    } = lines;
    if let Some((first, count)) = blank.and_then(|blank| Some((blank.first?, blank.count))) {
        eprintln!("note: {name}: blank lines have no answer: {count}, the first is line {first}");
    }
    let longest = library.get(ONLY).map(|task| task.config().max_tokens);
    for note in texts.notes(longest) {
        eprintln!("note: {name}: {note}");
    }
    if answered == 0 {
        eprintln!("note: {name}: there is no row in it, so there is no answer");
    }
    let unusable = many.map_or(0, |unusable| unusable.len());
    if refused > 0 {
        eprintln!("{refused} of {answered} rows could not be answered; the answers say why");
    }
    Ok(if refused > 0 || unusable > 0 {
        ExitCode::from(exit::SOME_FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

/// A row whose answer is not written yet.
struct Waiting {
    place: usize,
    fields: Map<String, Value>,
    /// Its place among the rows that are predicted, or why it is none of them.
    row: Result<usize>,
}

/// Answers on their way to standard output, in the order of the rows.
struct Lines<W> {
    out: W,
    answers: Answers,
    /// What stands already of the line of the first row that waits.
    begun: String,
    /// Whether the reader left early.
    left: bool,
    blank: Option<Blank>,
    texts: Texts,
    refused: usize,
    answered: usize,
}

impl<W: Write> Lines<W> {
    fn new(out: W, answers: Answers, blank: Option<Blank>) -> Self {
        Self {
            out,
            answers,
            begun: String::new(),
            left: false,
            blank,
            texts: Texts::default(),
            refused: 0,
            answered: 0,
        }
    }

    /// Writes what is `known` of the first rows that wait, up to one whose answer is not whole.
    fn as_far_as(
        &mut self,
        waiting: &mut VecDeque<Waiting>,
        rows: &[Row],
        known: &[Option<(Answer, bool)>],
    ) -> Result<()> {
        let first = |waiting: &VecDeque<Waiting>| waiting.front()?.row.as_ref().ok().copied();
        while let Some(i) = first(waiting) {
            let task = Some(rows[i].task.as_str());
            match &known[i] {
                None => break,
                Some((answer, false)) => {
                    self.begin(&waiting[0], task, answer)?;
                    break;
                }
                Some((answer, true)) => {
                    let Some(Waiting { place, fields, .. }) = waiting.pop_front() else {
                        break;
                    };
                    self.whole(place, fields, task, Ok(answer))?;
                    // The next text takes its time; other answers come together.
                    if matches!(answer.prediction, Prediction::Text { .. }) {
                        self.flush()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes of a line what can no longer change: the beginning of a text.
    fn begin(&mut self, waiting: &Waiting, task: Option<&str>, answer: &Answer) -> Result<()> {
        let Prediction::Text { completion } = &answer.prediction else {
            return Ok(());
        };
        if self.answers.format != AnswerFormat::Jsonl {
            return Ok(());
        }
        // A character may be made of several tokens.
        let sure = completion.trim_end_matches('\u{fffd}').to_owned();
        let so_far = Answer {
            prediction: Prediction::Text { completion: sure },
            cut: false,
        };
        let fields = waiting.fields.clone();
        let line = self
            .answers
            .line(waiting.place, fields, task, Ok(&so_far))?;
        let line = line.strip_suffix("\"}\n").unwrap_or_default();
        if let Some(more) = line.strip_prefix(self.begun.as_str()) {
            self.write(more)?;
            self.flush()?;
            self.begun = line.to_owned();
        }
        Ok(())
    }

    /// Writes a line, or the rest of it.
    fn whole(
        &mut self,
        place: usize,
        fields: Map<String, Value>,
        task: Option<&str>,
        answered: Result<&Answer, &anyhow::Error>,
    ) -> Result<()> {
        self.refused += usize::from(answered.is_err());
        self.answered += 1;
        if let Some(blank) = &mut self.blank {
            blank.row(place);
        }
        self.texts.cut += usize::from(answered.is_ok_and(|answer| answer.cut));
        let line = self.answers.line(place, fields, task, answered)?;
        match (line.strip_prefix(self.begun.as_str()), answered) {
            (Some(rest), _) => {
                self.write(rest)?;
                self.begun.clear();
                Ok(())
            }
            (None, Err(error)) => self.end_begun(place, error),
            (None, Ok(answer)) => {
                let (text, _) = answer.prediction.cells();
                let error = anyhow!("the text does not end as it began; it is: {text}");
                self.end_begun(place, &error)
            }
        }
    }

    /// Ends a line in whose text something went wrong.
    fn end_begun(&mut self, place: usize, error: &anyhow::Error) -> Result<()> {
        if !std::mem::take(&mut self.begun).is_empty() {
            let why = json!({ "line": place, "error": format!("{error:#}") }).to_string();
            self.write(&format!("\",{}\n", &why[1..]))?;
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if !self.left {
            self.left = reader_left(self.out.write_all(text.as_bytes()))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.left {
            self.left = reader_left(self.out.flush())?;
        }
        Ok(())
    }
}

/// Blank lines between rows.
#[derive(Default)]
struct Blank {
    last: usize,
    first: Option<usize>,
    count: usize,
}

impl Blank {
    /// A row in this line has come.
    fn row(&mut self, line: usize) {
        let between = line.saturating_sub(self.last + 1);
        if between > 0 {
            self.first.get_or_insert(self.last + 1);
            self.count += between;
        }
        self.last = line;
    }
}

/// The rows of the input, and what has to be said of it.
fn open(input: &Input, columns: &Columns) -> Result<Rows> {
    let options = RowOptions {
        separator: input.options.separator.clone(),
        quote: input.options.quote.clone(),
        encoding: input.options.encoding.clone(),
        columns: columns.needed(),
        ..RowOptions::default()
    };
    let rows = if input.path == Path::new("-") {
        Rows::of_stream(Box::new(io::stdin()), "-", &options)?
    } else {
        Rows::open(input.path, &options)?
    };
    let needed = columns.needed();
    let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
    rows.require(&needed).map_err(|error| match error {
        // The same without options that this command does not have.
        datasets::Error::MissingColumn {
            path,
            missing,
            columns,
            near,
        } => anyhow!(
            "{}: no column {missing}; its columns: {columns}{near} (--text-column and --pair-column name others)",
            path.display()
        ),
        other => other.into(),
    })?;
    for note in rows.notes() {
        eprintln!("note: {note}");
    }
    Ok(rows)
}

/// Writes answers.
struct Answers {
    format: AnswerFormat,
    many: bool,
    /// Further columns of a table, when they are known.
    further: Option<Vec<String>>,
    header_written: bool,
    noted: bool,
    /// Whether an answer has its line's number: plain texts have nothing else to be known by.
    numbered: bool,
    csv_safe: bool,
    made_safe: bool,
}

impl Answers {
    fn new(output: Output, many: bool, header: Option<&[String]>, columns: &Columns) -> Self {
        let own = |name: &String| {
            *name == columns.text || columns.pair.as_ref() == Some(name) || (many && name == "task")
        };
        let further = header.map(|names| names.iter().filter(|n| !own(n)).cloned().collect());
        Self {
            format: output.format,
            many,
            further,
            header_written: false,
            noted: false,
            numbered: false,
            csv_safe: output.csv_safe,
            made_safe: false,
        }
    }

    /// The line of an answer, with the header before the first of a table.
    fn line(
        &mut self,
        place: usize,
        fields: Map<String, Value>,
        task: Option<&str>,
        answered: Result<&Answer, &anyhow::Error>,
    ) -> Result<String> {
        match self.format {
            AnswerFormat::Jsonl => {
                let mut answer: Map<String, Value> = fields
                    .into_iter()
                    .map(|(name, value)| (self.returned(&name), value))
                    .collect();
                if let Some(task) = task.filter(|_| self.many) {
                    answer.insert("task".to_owned(), task.into());
                }
                if self.numbered {
                    answer.insert("line".to_owned(), place.into());
                }
                match answered {
                    Ok(given) => {
                        if let Value::Object(said) = serde_json::to_value(given)? {
                            answer.extend(said);
                        }
                    }
                    Err(error) => {
                        answer.insert("line".to_owned(), place.into());
                        answer.insert("error".to_owned(), format!("{error:#}").into());
                    }
                }
                Ok(serde_json::to_string(&answer)? + "\n")
            }
            AnswerFormat::Csv => {
                let further = match &self.further {
                    Some(further) => further.clone(),
                    None => {
                        let names: Vec<String> = fields.keys().cloned().collect();
                        self.further.insert(names).clone()
                    }
                };
                let known = further.iter().filter(|name| fields.contains_key(*name));
                if !self.noted && known.count() < fields.len() {
                    self.noted = true;
                    eprintln!(
                        "note: the table has the columns of the first row; others are left out (--format jsonl has all)"
                    );
                }
                let mut lines = String::new();
                if !self.header_written {
                    self.header_written = true;
                    let mut header: Vec<String> =
                        further.iter().map(|name| self.returned(name)).collect();
                    header.extend(self.numbered.then(|| "line".to_owned()));
                    header.extend(self.many.then(|| "task".to_owned()));
                    header.extend(["label", "probability"].map(str::to_owned));
                    header.extend(self.many.then(|| "error".to_owned()));
                    lines += &self.csv_row(&header);
                }
                let mut cells: Vec<String> = further
                    .iter()
                    .map(|name| match fields.get(name) {
                        None | Some(Value::Null) => String::new(),
                        Some(Value::String(text)) => text.clone(),
                        Some(other) => other.to_string(),
                    })
                    .collect();
                cells.extend(self.numbered.then(|| place.to_string()));
                cells.extend(self.many.then(|| task.unwrap_or_default().to_owned()));
                match answered {
                    Ok(given) => {
                        let (answer, probability) = given.prediction.cells();
                        let probability = probability.map_or_else(String::new, |p| p.to_string());
                        cells.extend([answer, probability]);
                        cells.extend(self.many.then(String::new));
                    }
                    Err(error) => {
                        cells.extend([String::new(), String::new(), format!("{error:#}")]);
                    }
                }
                Ok(lines + &self.csv_row(&cells))
            }
        }
    }

    /// A row of CSV (RFC 4180).
    fn csv_row(&mut self, cells: &[String]) -> String {
        let mut row = String::new();
        for (i, cell) in cells.iter().enumerate() {
            if i > 0 {
                row.push(',');
            }
            let formula = self.csv_safe && reports::table::is_formula(cell);
            if formula && !self.made_safe {
                self.made_safe = true;
                eprintln!(
                    "note: texts that a spreadsheet would take for formulas ({cell:?}) have an apostrophe in front; \
                     --csv-safe=false leaves them as they are"
                );
            }
            let cell = if formula {
                format!("'{cell}")
            } else {
                cell.clone()
            };
            row += &csv_cell(&cell, ',');
        }
        row + "\n"
    }

    /// The name under which a further column comes back.
    fn returned(&self, name: &str) -> String {
        match ANSWER.contains(&name) {
            true => format!("input_{name}"),
            false => name.to_owned(),
        }
    }
}

/// Rows, read ahead by a thread.
struct Ahead {
    rows: Receiver<Incoming>,
    held: Arc<Held>,
}

type Incoming = Result<datasets::Row, RowError>;

/// Bytes of the rows that were read and not yet taken.
#[derive(Default)]
struct Held {
    bytes: Mutex<usize>,
    fewer: Condvar,
}

impl Ahead {
    fn of(rows: impl Iterator<Item = Incoming> + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(CHUNK);
        let held = Arc::new(Held::default());
        let reader = Arc::clone(&held);
        thread::spawn(move || {
            for row in rows {
                let size = size(&row);
                let bytes = reader.bytes.lock().unwrap_or_else(PoisonError::into_inner);
                let full = |bytes: &mut usize| *bytes > 0 && *bytes + size > HELD;
                let bytes = reader.fewer.wait_while(bytes, full);
                *bytes.unwrap_or_else(PoisonError::into_inner) += size;
                // Without a receiver there is nobody to read for.
                if sender.send(row).is_err() {
                    break;
                }
            }
        });
        Self {
            rows: receiver,
            held,
        }
    }

    /// What has come, at least one row and at most `most`; nothing at the end.
    fn take(&self, most: usize) -> Option<Vec<Incoming>> {
        let mut taken = vec![self.rows.recv().ok()?];
        let mut bytes = size(&taken[0]);
        while taken.len() < most && bytes < HELD {
            let Ok(row) = self.rows.try_recv() else {
                break;
            };
            bytes += size(&row);
            taken.push(row);
        }
        let held = self.held.bytes.lock();
        *held.unwrap_or_else(PoisonError::into_inner) -= bytes;
        self.held.fewer.notify_one();
        Some(taken)
    }
}

/// About how many bytes a row takes.
fn size(row: &Incoming) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(of).sum(),
            Value::Object(fields) => fields.iter().map(|(name, v)| name.len() + of(v)).sum(),
            _ => 8,
        }
    }
    let row = row.as_ref().ok();
    row.map_or(0, |row| row.fields.values().map(of).sum())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    fn lines(format: AnswerFormat) -> Lines<Vec<u8>> {
        let output = Output {
            format,
            csv_safe: true,
        };
        let columns = Columns::of(&[], None, false).unwrap();
        let answers = Answers::new(output, false, None, &columns);
        Lines::new(Vec::new(), answers, None)
    }

    /// Two rows with an id, the second before the third, which is none.
    fn rows() -> (Vec<Row>, VecDeque<Waiting>) {
        let row = |text: &str| Row {
            task: String::new(),
            text: text.to_owned(),
            pair: None,
            tokens: None,
        };
        let waiting = |place: usize| Waiting {
            place,
            fields: Map::from_iter([("id".to_owned(), json!(place))]),
            row: Ok(place - 1),
        };
        (
            vec![row("a"), row("b")],
            [waiting(1), waiting(2)].into_iter().collect(),
        )
    }

    fn text(completion: &str, ended: bool) -> Option<(Answer, bool)> {
        let answer = Answer {
            prediction: Prediction::Text {
                completion: completion.to_owned(),
            },
            cut: ended,
        };
        Some((answer, ended))
    }

    fn printed(lines: &Lines<Vec<u8>>) -> String {
        String::from_utf8(lines.out.clone()).unwrap()
    }

    #[test]
    fn a_text_appears_as_it_is_written_and_those_behind_it_in_the_order_of_their_rows() {
        let (rows, mut waiting) = rows();
        let mut lines = lines(AnswerFormat::Jsonl);
        let mut told = |known: [Option<(Answer, bool)>; 2]| {
            lines.as_far_as(&mut waiting, &rows, &known).unwrap();
            printed(&lines)
        };
        assert_eq!(told([None, text("second", true)]), "");
        // Half of a character is not shown.
        assert_eq!(
            told([text("Ca \"\u{fffd}", false), text("second", true)]),
            r#"{"id":1,"completion":"Ca \""#
        );
        assert_eq!(
            told([text("Ca \"é", false), text("second", true)]),
            r#"{"id":1,"completion":"Ca \"é"#
        );
        // Told again from the beginning it is not written again.
        assert_eq!(
            told([text("Ca", false), text("second", true)]),
            r#"{"id":1,"completion":"Ca \"é"#
        );
        let whole = "{\"id\":1,\"completion\":\"Ca \\\"é!\",\"cut\":true}\n\
                     {\"id\":2,\"completion\":\"second\",\"cut\":true}\n";
        assert_eq!(told([text("Ca \"é!", true), text("second", true)]), whole);
        assert!(waiting.is_empty());
        assert_eq!((lines.answered, lines.texts.cut), (2, 2));
    }

    #[test]
    fn a_text_that_goes_wrong_is_ended_with_the_reason_and_tables_have_whole_rows_only() {
        let (rows, mut waiting) = rows();
        let mut of_json = lines(AnswerFormat::Jsonl);
        let known = [text("half", false), None];
        of_json.as_far_as(&mut waiting, &rows, &known).unwrap();
        let Waiting { place, fields, .. } = waiting.pop_front().unwrap();
        let error = anyhow!("not finite");
        of_json.whole(place, fields, None, Err(&error)).unwrap();
        let line: Value = serde_json::from_str(&printed(&of_json)).unwrap();
        assert_eq!(
            line,
            json!({ "id": 1, "completion": "half", "line": 1, "error": "not finite" })
        );
        assert_eq!((of_json.refused, of_json.begun.as_str()), (1, ""));
        let mut of_csv = lines(AnswerFormat::Csv);
        let (rows, mut waiting) = self::rows();
        of_csv.as_far_as(&mut waiting, &rows, &known).unwrap();
        assert_eq!(printed(&of_csv), "");
        let known = [text("half, then whole", true), None];
        of_csv.as_far_as(&mut waiting, &rows, &known).unwrap();
        assert_eq!(
            printed(&of_csv),
            "id,label,probability\n1,\"half, then whole\",\n"
        );
    }

    /// (Columns that are looked for one by one would take minutes here.)
    #[test]
    fn a_table_of_two_hundred_thousand_columns_has_each_value_under_its_name() {
        let mut answers = lines(AnswerFormat::Csv).answers;
        let field = |i: usize| (format!("k{i}"), json!(format!("k{i}")));
        let (answer, _) = text("done", true).unwrap();
        let first = Map::from_iter((0..200_000).map(field));
        let both = answers.line(1, first, None, Ok(&answer)).unwrap();
        let (header, row) = both.trim_end().split_once('\n').unwrap();
        let (header, row) = (header.split(','), row.split(','));
        let (header, row): (Vec<&str>, Vec<&str>) = (header.collect(), row.collect());
        assert_eq!(header.len(), 200_002);
        assert_eq!(header[..200_000], row[..200_000]);
        assert_eq!(row[200_000..], ["done", ""]);
        // What the first row had decides the columns.
        let second = Map::from_iter((100_000..300_000).map(field));
        let line = answers.line(2, second, None, Ok(&answer)).unwrap();
        let of_second = line.trim_end().split(',').zip(&header);
        for (cell, &name) in of_second.take(200_000) {
            let known = name[1..].parse::<usize>().unwrap() >= 100_000;
            assert_eq!(cell, if known { name } else { "" });
        }
    }

    #[test]
    fn of_long_rows_no_more_are_held_than_memory_has_room_for() {
        let text = "a".repeat(HELD / 4);
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let rows = (0..64).map(move |place| {
            count.fetch_add(1, SeqCst);
            let fields = Map::from_iter([("text".to_owned(), text.clone().into())]);
            Ok(datasets::Row { place, fields })
        });
        let ahead = Ahead::of(rows);
        let mut places = Vec::new();
        while let Some(chunk) = ahead.take(CHUNK) {
            // Four are taken, four wait, and one is in the reader's hand.
            assert!(chunk.len() <= 4, "{}", chunk.len());
            assert!(made.load(SeqCst) <= places.len() + 9);
            places.extend(chunk.into_iter().map(|row| row.unwrap().place));
        }
        assert_eq!(places, (0..64).collect::<Vec<_>>());
    }
}
