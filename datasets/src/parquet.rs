//! Rows of a parquet file, read by polars in parts.
//!
//! polars is asked for the stored values only, not for what a column means: decimals, dates and dictionaries (a pandas
//! category) would need more of polars than this program is built with, and polars panics where a part is missing. What a
//! column means is put on top here.

mod lengths;

use std::{
    collections::HashSet,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use polars::prelude::{AnyValue, ParquetReader, SerReader, Series};
use polars_parquet::parquet::{
    metadata::{FileMetadata, SchemaDescriptor},
    schema::types::{
        GroupConvertedType, GroupLogicalType, IntegerType, ParquetType, PhysicalType,
        PrimitiveConvertedType, PrimitiveLogicalType, TimeUnit,
    },
};
use serde_json::{Map, Value};

use crate::{Error, Result, caught, text::open_regular};

/// Rows read at a time.
const PART: usize = 8192;

/// What the stored values of a column mean.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meaning {
    /// Themselves.
    Plain,
    /// A whole number of 10^-scale.
    Decimal(usize),
    /// Days since 1970.
    Date,
    /// Fractions of a second since 1970.
    Time { per_second: i64, zone: &'static str },
}

/// A parquet file, row by row.
pub(crate) struct Parquet {
    path: PathBuf,
    metadata: Arc<FileMetadata>,
    /// Names of the columns that can be read.
    pub names: Vec<String>,
    /// Those that are read.
    columns: Vec<(String, Meaning)>,
    /// Columns of kinds that are not read, such as structures.
    pub unread: Vec<(String, &'static str)>,
    /// Rows of the parts that were read.
    next: usize,
    part: Part,
}

/// Rows that were read and not yet handed out. A text that many rows share stands there once, so that a part takes no more
/// than the file has.
#[derive(Default)]
struct Part {
    columns: Vec<Series>,
    at: usize,
    height: usize,
}

impl Parquet {
    /// `wanted` limits the columns that are read.
    pub fn open(path: &Path, wanted: Option<&[&str]>) -> Result<Self> {
        let mut metadata = metadata(path)?;
        let (mut fields, mut columns, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        let mut names = Vec::new();
        let mut seen = HashSet::new();
        for field in metadata.schema_descr.fields() {
            if !seen.insert(field.name()) {
                return Err(Error::Format {
                    path: path.to_owned(),
                    message: format!(
                        "there are several columns '{}'; give each column a name of its own",
                        field.name()
                    ),
                });
            }
            match plain(field) {
                Ok((field, meaning)) => {
                    let name = field.name().to_owned();
                    names.push(name.clone());
                    if wanted.is_none_or(|wanted| wanted.contains(&name.as_str())) {
                        columns.push((name, meaning));
                    }
                    fields.push(field);
                }
                Err(kind) => unread.push((field.name().to_owned(), kind)),
            }
        }
        let name = metadata.schema_descr.name().into();
        metadata.schema_descr = SchemaDescriptor::new(name, fields);
        // Among them is Arrow's own schema, which would be followed instead.
        metadata.key_value_metadata = None;
        Ok(Self {
            path: path.to_owned(),
            metadata: Arc::new(metadata),
            names,
            columns,
            unread,
            next: 0,
            part: Part::default(),
        })
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<Map<String, Value>>> {
        if self.part.at == self.part.height {
            if self.next >= self.metadata.num_rows {
                return Ok(None);
            }
            let part = caught(|| self.read_part());
            self.part = part.map_err(|message| damaged(&self.path, &message))?;
            self.next += self.part.height;
        }
        let row = caught(|| self.row());
        self.part.at += 1;
        row.map_err(|message| damaged(&self.path, &message))
            .map(Some)
    }

    /// The row of the part that is handed out next.
    fn row(&self) -> std::result::Result<Map<String, Value>, String> {
        let at = self.part.at;
        let cells = self.columns.iter().zip(&self.part.columns);
        let cells = cells.map(|((name, meaning), column)| {
            let value = column.get(at).map_err(|error| error.to_string())?;
            let row = self.next - self.part.height + at + 1;
            let value = cell(&value, *meaning)
                .ok_or_else(|| format!("column '{name}', row {row}: no text in UTF-8"))?;
            Ok((name.clone(), value))
        });
        cells.collect()
    }

    fn read_part(&self) -> std::result::Result<Part, String> {
        let height = PART.min(self.metadata.num_rows - self.next);
        let mut columns = Vec::new();
        if !self.columns.is_empty() {
            let mut file = File::open(&self.path).map_err(|error| error.to_string())?;
            if self.next == 0 {
                let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
                lengths::check(&mut file, &self.metadata, &names)?;
            }
            let mut reader = ParquetReader::new(file);
            reader.set_metadata(Arc::clone(&self.metadata));
            let frame = reader
                .with_columns(Some(
                    self.columns.iter().map(|(name, _)| name.clone()).collect(),
                ))
                .with_slice(Some((self.next, height)))
                .finish()
                .map_err(|error| error.to_string())?;
            if frame.height() != height {
                return Err(format!(
                    "{} rows where {height} are said to be",
                    frame.height()
                ));
            }
            for (name, _) in &self.columns {
                let column = frame.column(name).map_err(|error| error.to_string())?;
                columns.push(column.as_materialized_series().rechunk());
            }
        }
        Ok(Part {
            columns,
            at: 0,
            height,
        })
    }
}

fn metadata(path: &Path) -> Result<FileMetadata> {
    let mut file = open_regular(path)?;
    let metadata = caught(|| {
        lengths::check_footer(&mut file)?;
        let mut reader = ParquetReader::new(file);
        let metadata = reader.get_metadata().map_err(|error| error.to_string())?;
        Ok(FileMetadata::clone(metadata))
    });
    metadata.map_err(|message: String| damaged(path, &message))
}

/// The names of the classes whose numbers a column holds, where `datasets` of Hugging Face wrote the file and keeps them
/// beside the rows (`ClassLabel`).
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn class_names(path: &Path, column: &str) -> Result<Option<Vec<String>>> {
    let metadata = metadata(path)?;
    let mut said = metadata.key_value_metadata.iter().flatten();
    let said = said.find(|said| said.key == "huggingface");
    let said = said.and_then(|said| serde_json::from_str(said.value.as_deref()?).ok());
    let said: Value = said.unwrap_or_default();
    let mut feature = said
        .get("info")
        .and_then(|v| v.get("features")?.get(column));
    // Of lists, what is in them.
    while let Some(inner) = feature.and_then(|v| v.get("feature").or_else(|| v.get(0))) {
        feature = Some(inner);
    }
    let Some(feature) = feature.filter(|v| v["_type"] == "ClassLabel") else {
        return Ok(None);
    };
    let names = feature["names"].as_array().into_iter().flatten();
    let names: Option<Vec<String>> = names.map(|n| n.as_str().map(str::to_owned)).collect();
    Ok(names.filter(|names| names.len() > 1))
}

fn damaged(path: &Path, message: &str) -> Error {
    Error::Format {
        path: path.to_owned(),
        message: format!("not a readable parquet file: {message}"),
    }
}

/// A cell's value; nothing if its bytes are no UTF-8.
fn cell(value: &AnyValue, meaning: Meaning) -> Option<Value> {
    let bytes = |bytes: &[u8]| match meaning {
        Meaning::Decimal(scale) => Some(Value::String(decimal(big_endian(bytes)?, scale))),
        _ => Some(Value::String(String::from_utf8(bytes.to_vec()).ok()?)),
    };
    let whole = match value {
        AnyValue::Null => return Some(Value::Null),
        AnyValue::Boolean(value) => return Some(Value::Bool(*value)),
        AnyValue::List(items) => {
            let items = items.iter().map(|item| cell(&item, meaning));
            return items.collect::<Option<_>>().map(Value::Array);
        }
        AnyValue::String(text) => return Some(Value::String((*text).to_owned())),
        AnyValue::StringOwned(text) => return Some(Value::String(text.to_string())),
        AnyValue::Binary(value) => return bytes(value),
        AnyValue::BinaryOwned(value) => return bytes(value),
        // NaN and infinities are no JSON; they become null. A float keeps the digits that it is written with.
        AnyValue::Float32(value) => {
            return Some(
                value
                    .to_string()
                    .parse()
                    .map_or(Value::Null, |v: f64| v.into()),
            );
        }
        AnyValue::Float64(value) => return Some((*value).into()),
        AnyValue::UInt64(value) => return Some((*value).into()),
        AnyValue::UInt32(value) => i64::from(*value),
        AnyValue::UInt16(value) => i64::from(*value),
        AnyValue::UInt8(value) => i64::from(*value),
        AnyValue::Int8(value) => i64::from(*value),
        AnyValue::Int16(value) => i64::from(*value),
        AnyValue::Int32(value) => i64::from(*value),
        AnyValue::Int64(value) => *value,
        other => return Some(Value::String(other.to_string())),
    };
    Some(match meaning {
        Meaning::Plain => whole.into(),
        Meaning::Decimal(scale) => Value::String(decimal(i128::from(whole), scale)),
        Meaning::Date => Value::String(date(whole)),
        Meaning::Time { per_second, zone } => {
            let (seconds, rest) = (whole.div_euclid(per_second), whole.rem_euclid(per_second));
            let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
            let clock = format!(
                "{:02}:{:02}:{:02}",
                second / 3600,
                second / 60 % 60,
                second % 60
            );
            let digits = per_second.ilog10() as usize;
            let fraction = match rest {
                0 => String::new(),
                _ => format!(".{rest:0digits$}"),
            };
            Value::String(format!("{}T{clock}{fraction}{zone}", date(day)))
        }
    })
}

fn big_endian(bytes: &[u8]) -> Option<i128> {
    let sign = if *bytes.first()? & 0x80 == 0 { 0 } else { -1 };
    (bytes.len() <= 16).then(|| {
        bytes
            .iter()
            .fold(sign, |value, byte| value << 8 | i128::from(*byte))
    })
}

fn decimal(value: i128, scale: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    match scale {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    }
}

/// The date of a day since 1970, in the Gregorian calendar (Hinnant's `civil_from_days`).
fn date(day: i64) -> String {
    let day = day.saturating_add(719_468);
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The column as polars is to read it, and what its values mean; or the kind of a column that is not read.
fn plain(field: &ParquetType) -> std::result::Result<(ParquetType, Meaning), &'static str> {
    use PrimitiveConvertedType as Converted;
    use PrimitiveLogicalType as Logical;
    let column = match field {
        ParquetType::PrimitiveType(column) => column,
        ParquetType::GroupType {
            field_info,
            logical_type,
            converted_type,
            fields,
        } => {
            // list → list → element, as the format wants it.
            let [
                ParquetType::GroupType {
                    field_info: inner_info,
                    logical_type: None,
                    converted_type: None,
                    fields: inner,
                },
            ] = fields.as_slice()
            else {
                return Err("a structure, or a list in an old form");
            };
            let is_list = *logical_type == Some(GroupLogicalType::List)
                || *converted_type == Some(GroupConvertedType::List);
            let [element @ ParquetType::PrimitiveType(_)] = inner.as_slice() else {
                return Err("a list of lists or structures");
            };
            if !is_list {
                return Err("a structure");
            }
            let (element, meaning) = plain(element)?;
            let list = ParquetType::GroupType {
                field_info: field_info.clone(),
                logical_type: *logical_type,
                converted_type: *converted_type,
                fields: vec![ParquetType::GroupType {
                    field_info: inner_info.clone(),
                    logical_type: None,
                    converted_type: None,
                    fields: vec![element],
                }],
            };
            return Ok((list, meaning));
        }
    };
    let mut column = column.clone();
    if column.field_info.repetition == polars_parquet::parquet::schema::Repetition::Repeated {
        return Err("a list");
    }
    let zone = |utc: bool| if utc { "Z" } else { "" };
    let second = |unit| match unit {
        TimeUnit::Milliseconds => 1_000,
        TimeUnit::Microseconds => 1_000_000,
        TimeUnit::Nanoseconds => 1_000_000_000,
    };
    let meaning = match (column.logical_type, column.converted_type) {
        (Some(Logical::Decimal(_, scale)), _) | (None, Some(Converted::Decimal(_, scale))) => {
            Meaning::Decimal(scale)
        }
        (Some(Logical::Date), _) | (None, Some(Converted::Date)) => Meaning::Date,
        (
            Some(Logical::Timestamp {
                is_adjusted_to_utc,
                unit,
            }),
            _,
        ) => Meaning::Time {
            per_second: second(unit),
            zone: zone(is_adjusted_to_utc),
        },
        (None, Some(Converted::TimestampMillis)) => Meaning::Time {
            per_second: 1_000,
            zone: zone(true),
        },
        (None, Some(Converted::TimestampMicros)) => Meaning::Time {
            per_second: 1_000_000,
            zone: zone(true),
        },
        (Some(Logical::Time { .. }), _)
        | (None, Some(Converted::TimeMillis | Converted::TimeMicros)) => {
            return Err("a time of day");
        }
        _ => Meaning::Plain,
    };
    match column.physical_type {
        PhysicalType::Int96 => return Err("an old timestamp (INT96)"),
        PhysicalType::FixedLenByteArray(_) if !matches!(meaning, Meaning::Decimal(_)) => {
            return Err("bytes of fixed length");
        }
        PhysicalType::ByteArray if !matches!(meaning, Meaning::Decimal(_)) => {}
        _ => {
            // Numbers without a sign keep their kind; the others are what they are stored as.
            let unsigned = matches!(
                column.logical_type,
                Some(Logical::Integer(IntegerType::UInt32 | IntegerType::UInt64))
            ) || matches!(
                column.converted_type,
                Some(Converted::Uint32 | Converted::Uint64)
            );
            if !unsigned {
                (column.logical_type, column.converted_type) = (None, None);
            }
        }
    }
    Ok((ParquetType::PrimitiveType(column), meaning))
}
