//! Records on disk: one JSON file per run, `<folder>/<id>.json`; kept ones may be compressed, `<folder>/<id>.json.gz`.
//!
//! A record is written whole or not at all ([`crate::files`]), and one that ended (well, or diverged) is never replaced by
//! one that did not. Floats are written with the fewest digits that give the same bits back.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::{CLASSIFICATION, FORMAT, Predictions, RunRecord, Status};

/// Ending of a record's file, and of a compressed one.
const ENDINGS: [&str; 2] = [".json", ".json.gz"];
/// The largest record that is read of a compressed file, in bytes.
const LARGEST: u64 = 256 << 20;

/// Held while a record of the folder is written, so that of two processes the better record stays.
const LOCK: &str = ".lock";

/// What [`read_dir`] found.
#[derive(Debug, Default)]
pub struct Records {
    /// The sound records, by id.
    pub records: Vec<RunRecord>,
    /// The files that were skipped, by path. Tell the user.
    pub damaged: Vec<Damaged>,
}

/// A file that was skipped because no record could be read from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(
            f,
            "skipped {}: {}; delete the file and run again to replace it",
            self.path.display(),
            self.reason
        )
    }
}

/// Where the record with this id stands in `dir`.
pub fn path_of(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}.json"))
}

/// Writes a record into `dir` (made if absent) and says whether it did: `false` means that a whole record of the same id
/// stands there and this one is a lesser one (failed or interrupted), so the older one was kept.
///
/// # Errors
/// When the folder or file cannot be written; and when the record contradicts itself or holds a
/// number that is not finite: JSON has none, and a run that meets one has [`Status::Diverged`],
/// whose record holds the step and the reason instead of an outcome.
pub fn write(dir: &Path, record: &RunRecord) -> Result<bool> {
    if let Some(problem) = problem_of(record) {
        return Err(Error::Inconsistent {
            id: record.id.clone(),
            problem,
        });
    }
    let path = path_of(dir, &record.id);
    let mut json = serde_json::to_vec(record)?;
    json.push(b'\n');
    let failed = |source| Error::Write {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(dir).map_err(failed)?;
    let lock = File::create(dir.join(LOCK)).map_err(failed)?;
    match lock.lock() {
        // A file system without locks: what is left of the protection is the look below.
        Err(e) if e.kind() != ErrorKind::Unsupported => return Err(failed(e)),
        _ => {}
    }
    if !record.status.is_whole() && find(dir, &record.id)?.is_some_and(|r| r.status.is_whole()) {
        return Ok(false);
    }
    write_whole(&path, &json)?;
    Ok(true)
}

/// Reads all records (`*.json` and `*.json.gz`) of a folder. A folder that does not exist holds none.
///
/// A file that is cut short, is not a record or contradicts itself is skipped and listed in
/// [`Records::damaged`].
///
/// # Errors
/// When the folder cannot be read, and when a record has another [`FORMAT`]: leaving out what a
/// newer version wrote would change a comparison silently.
pub fn read_dir(dir: &Path) -> Result<Records> {
    let failed = |source| Error::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Records::default()),
        other => other.map_err(failed)?,
    };
    let mut paths = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed)?;
    paths.retain(|p| id_of(p).is_some() && p.is_file());
    paths.sort();

    let mut found = Records::default();
    for path in paths {
        match read(&path)? {
            Ok(record) => found.records.push(record),
            Err(reason) => found.damaged.push(Damaged { path, reason }),
        }
    }
    Ok(found)
}

/// The sound record with this id in a folder, if there is one.
///
/// # Errors
/// When it has another [`FORMAT`].
pub fn find(dir: &Path, id: &str) -> Result<Option<RunRecord>> {
    for ending in ENDINGS {
        if let Ok(record) = read(&dir.join(format!("{id}{ending}")))? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The id that a record's file is named by; `None` if its name is none of a record.
fn id_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))
}

/// The bytes of a record's file, decompressed where it is compressed.
fn bytes_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    if path.extension().is_none_or(|e| e != "gz") {
        return Ok(bytes);
    }
    let mut whole = Vec::new();
    let limit = LARGEST + 1;
    GzDecoder::new(bytes.as_slice())
        .take(limit)
        .read_to_end(&mut whole)?;
    if whole.len() as u64 == limit {
        return Err(std::io::Error::other(
            "decompressed, it is larger than 256 MiB",
        ));
    }
    Ok(whole)
}

/// The record in a file, or the reason why there is none.
fn read(path: &Path) -> Result<std::result::Result<RunRecord, String>> {
    let json = match bytes_of(path) {
        Ok(json) => json,
        Err(e) => return Ok(Err(format!("cannot be read ({e})"))),
    };
    let value: serde_json::Value = match serde_json::from_slice(&json) {
        Ok(value) => value,
        Err(e) => return Ok(Err(format!("not whole JSON ({e})"))),
    };
    match value.get("format") {
        None => return Ok(Err("not a record (no key `format`)".into())),
        Some(format) if format.as_u64() != Some(u64::from(FORMAT)) => {
            return Err(Error::Format {
                path: path.to_owned(),
                found: format.to_string(),
            });
        }
        Some(_) => {}
    }
    // From the text and not from `value`: an f32 that went through an f64 is rounded twice.
    let record: RunRecord = match serde_json::from_slice(&json) {
        Ok(record) => record,
        Err(e) => return Ok(Err(format!("not a record ({e})"))),
    };
    if id_of(path) != Some(record.id.as_str()) {
        return Ok(Err(format!(
            "its id is {}, so its name should be {0}.json",
            record.id
        )));
    }
    Ok(match problem_of(&record) {
        Some(problem) => Err(problem),
        None => Ok(record),
    })
}

/// The first contradiction in predictions of classes.
fn problem_of_classes(predictions: &Predictions, classes: usize) -> Option<String> {
    let examples = predictions.labels.len();
    if predictions.targets.len() + predictions.outputs.len() > 0 {
        return Some(
            "`outcome.predictions` has `targets` or `outputs`, which classification has not".into(),
        );
    }
    if predictions.logits.len() != examples {
        return Some(format!(
            "`outcome.predictions` has {examples} labels but {} rows of logits",
            predictions.logits.len()
        ));
    }
    if let Some(i) = predictions
        .logits
        .iter()
        .position(|row| row.len() != classes)
    {
        return Some(format!(
            "`outcome.predictions.logits[{i}]` has {} values for {classes} labels",
            predictions.logits[i].len()
        ));
    }
    if let Some(i) = predictions
        .labels
        .iter()
        .position(|&l| l as usize >= classes)
    {
        return Some(format!(
            "`outcome.predictions.labels[{i}]` is {}, but there are {classes} labels",
            predictions.labels[i]
        ));
    }
    None
}

/// The first contradiction in predictions of another objective with so many classes or tags.
fn problem_of_outputs(
    predictions: &Predictions,
    objective: &str,
    classes: usize,
) -> Option<String> {
    let (targets, outputs) = (&predictions.targets, &predictions.outputs);
    if targets.len() != outputs.len() || predictions.labels.len() + predictions.logits.len() > 0 {
        return Some(format!(
            "`outcome.predictions` has {} targets and {} outputs for {objective}, which must be equally many, and neither \
             labels nor logits",
            targets.len(),
            outputs.len()
        ));
    }
    let width = match objective {
        "regression" => Some(1),
        "multi_label" => Some(classes),
        _ => None,
    };
    let tag = |x: &f64| x.fract() == 0.0 && (0.0..classes as f64).contains(x);
    let fits = |(t, o): (&Vec<f64>, &Vec<f64>)| {
        t.len() == o.len()
            && width.is_none_or(|width| width == t.len())
            && (width.is_some() || t.iter().chain(o).all(tag))
    };
    let odd = targets.iter().zip(outputs).position(|pair| !fits(pair));
    odd.map(|i| {
        format!(
            "`outcome.predictions.targets[{i}]` and `outputs[{i}]` are not what {objective} with {classes} labels has"
        )
    })
}

/// The first contradiction in a record, so that everything behind the store can rely on it.
fn problem_of(record: &RunRecord) -> Option<String> {
    if record.id.is_empty()
        || !record
            .id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Some(format!(
            "`id` is {:?}, but it names a file: letters, digits, - and _ only",
            record.id
        ));
    }
    let ended_well = record.status == Status::Ok;
    if ended_well != record.outcome.is_some() || ended_well != record.cost.is_some() {
        return Some("`outcome` and `cost` must be there exactly when `status` is ok".into());
    }
    let (Some(outcome), Some(cost)) = (&record.outcome, &record.cost) else {
        return None;
    };
    let predictions = &outcome.predictions;
    if let Some(problem) = match record.asked.dataset.objective.as_str() {
        CLASSIFICATION => problem_of_classes(predictions, record.asked.dataset.labels.len()),
        other => problem_of_outputs(predictions, other, record.asked.dataset.labels.len()),
    } {
        return Some(problem);
    }
    let Some(last) = outcome.evaluations.last() else {
        return Some("`outcome.evaluations` is empty; the last entry is the final result".into());
    };
    if !last.metrics.contains_key(&record.asked.dataset.main_metric) {
        return Some(format!(
            "the last of `outcome.evaluations` lacks the main metric `{}`",
            record.asked.dataset.main_metric
        ));
    }

    let numbers = (outcome
        .loss
        .iter()
        .enumerate()
        .map(|(i, &x)| (format!("outcome.loss[{i}]"), f64::from(x))))
    .chain(outcome.evaluations.iter().enumerate().flat_map(|(i, e)| {
        std::iter::once((format!("outcome.evaluations[{i}].loss"), e.loss)).chain(
            e.metrics
                .iter()
                .map(move |(name, &x)| (format!("outcome.evaluations[{i}].metrics.{name}"), x)),
        )
    }))
    .chain(predictions.logits.iter().enumerate().flat_map(|(i, row)| {
        row.iter()
            .map(move |&x| (format!("outcome.predictions.logits[{i}]"), f64::from(x)))
    }))
    .chain(
        [
            ("targets", &predictions.targets),
            ("outputs", &predictions.outputs),
        ]
        .into_iter()
        .flat_map(|(name, rows)| rows.iter().enumerate().map(move |row| (name, row)))
        .flat_map(|(name, (i, row))| {
            row.iter()
                .map(move |&x| (format!("outcome.predictions.{name}[{i}]"), x))
        }),
    )
    .chain(
        cost.step_seconds
            .iter()
            .enumerate()
            .map(|(i, &x)| (format!("cost.step_seconds[{i}]"), f64::from(x))),
    )
    .chain([
        ("cost.training_seconds".to_owned(), cost.training_seconds),
        (
            "cost.evaluation_seconds".to_owned(),
            cost.evaluation_seconds,
        ),
        (
            "cost.seconds_to_first_step".to_owned(),
            cost.seconds_to_first_step,
        ),
    ])
    .chain(cost.latency.iter().enumerate().flat_map(|(i, l)| {
        [
            ("p50_ms", l.p50_ms),
            ("p90_ms", l.p90_ms),
            ("p99_ms", l.p99_ms),
        ]
        .map(|(name, x)| (format!("cost.latency[{i}].{name}"), x))
    }));
    let mut bad = numbers.filter(|(_, x)| !x.is_finite());
    bad.next().map(|(field, x)| {
        format!(
            "`{field}` is {x}, and a record holds finite numbers only; end such a run as diverged"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != LOCK)
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_record_comes_back_with_the_same_bits() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Sample::new("lora").seed(7).record();
        let outcome = record.outcome.as_mut().unwrap();
        // Values whose decimal form is hard to read back: halfway cases, smallest, largest, negative zero.
        outcome.loss = vec![
            0.1,
            1.0e-45,
            f32::MAX,
            -0.0,
            16_777_217.0,
            0.333_333_34,
            1.175_494_4e-38,
        ];
        outcome.evaluations.last_mut().unwrap().loss = 0.1 + 0.2;
        record.cost.as_mut().unwrap().training_seconds = 5e-324;
        record.cost.as_mut().unwrap().evaluation_seconds = 9_007_199_254_740_993.0;
        assert!(write(dir.path(), &record).unwrap());

        let found = read_dir(dir.path()).unwrap();
        assert_eq!(found.damaged, []);
        assert_eq!(found.records, std::slice::from_ref(&record));
        let bits = |r: &RunRecord| {
            r.outcome
                .as_ref()
                .unwrap()
                .loss
                .iter()
                .map(|x| x.to_bits())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&found.records[0]), bits(&record));
        assert_eq!(
            names(dir.path()),
            [format!("{}.json", record.id)],
            "nothing temporary is left"
        );
    }

    #[test]
    fn a_compressed_record_is_read_like_any_other_and_a_damaged_one_is_named() {
        use std::io::Write;
        let (dir, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let record = Sample::new("lora").record();
        write(dir.path(), &record).unwrap();
        let json = fs::read(path_of(dir.path(), &record.id)).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gz.write_all(&json).unwrap();
        let gz = gz.finish().unwrap();
        let path = kept.path().join(format!("{}.json.gz", record.id));
        fs::write(&path, &gz).unwrap();
        let found = read_dir(kept.path()).unwrap();
        assert_eq!(found.records, std::slice::from_ref(&record));
        assert_eq!(find(kept.path(), &record.id).unwrap(), Some(record));
        fs::write(&path, &gz[..gz.len() / 2]).unwrap();
        let damaged = read_dir(kept.path()).unwrap().damaged;
        assert!(damaged[0].reason.contains("cannot be read"), "{damaged:?}");
    }

    #[test]
    fn every_way_to_end_can_be_stored() {
        let dir = tempfile::tempdir().unwrap();
        for (seed, status) in [
            Status::Diverged {
                step: 3,
                reason: "loss is NaN".into(),
            },
            Status::Failed {
                error: "no such file".into(),
            },
            Status::Interrupted,
        ]
        .into_iter()
        .enumerate()
        {
            write(
                dir.path(),
                &Sample::new("lora").seed(seed as u64).ended(status).record(),
            )
            .unwrap();
        }
        assert_eq!(read_dir(dir.path()).unwrap().records.len(), 3);
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused_with_its_field() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Sample::new("lora").record();
        record.outcome.as_mut().unwrap().loss[2] = f32::NAN;
        let error = write(dir.path(), &record).unwrap_err().to_string();
        assert!(error.contains("`outcome.loss[2]` is NaN"), "{error}");
        assert!(names(dir.path()).is_empty());

        let mut record = Sample::new("lora").record();
        record.cost.as_mut().unwrap().latency[0].p99_ms = f64::INFINITY;
        let error = write(dir.path(), &record).unwrap_err().to_string();
        assert!(error.contains("`cost.latency[0].p99_ms` is inf"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_named_and_the_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let good = Sample::new("lora").seed(1).record();
        write(dir.path(), &good).unwrap();
        let other = Sample::new("lora").seed(2).record();
        write(dir.path(), &other).unwrap();
        let cut = path_of(dir.path(), &other.id);
        let whole = fs::read(&cut).unwrap();
        fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
        fs::copy(path_of(dir.path(), &good.id), dir.path().join("copy.json")).unwrap();
        fs::write(dir.path().join("other.json"), r#"{"a": 1}"#).unwrap();
        fs::write(dir.path().join("notes.txt"), "ignored").unwrap();

        let found = read_dir(dir.path()).unwrap();
        assert_eq!(found.records, [good]);
        let mut damaged: Vec<String> = found.damaged.iter().map(ToString::to_string).collect();
        damaged.sort();
        assert_eq!(damaged.len(), 3, "{damaged:?}");
        assert!(
            damaged
                .iter()
                .any(|d| d.contains(cut.to_str().unwrap()) && d.contains("not whole JSON")),
            "{damaged:?}"
        );
        assert!(
            damaged.iter().any(|d| d.contains("copy.json: its id is")),
            "{damaged:?}"
        );
        assert!(
            damaged
                .iter()
                .any(|d| d.contains("other.json: not a record")),
            "{damaged:?}"
        );
    }

    #[test]
    fn a_record_that_contradicts_itself_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Sample::new("lora").record();
        record.outcome.as_mut().unwrap().predictions.labels.pop();
        assert!(write(dir.path(), &record).is_err());
        fs::write(
            path_of(dir.path(), &record.id),
            serde_json::to_vec(&record).unwrap(),
        )
        .unwrap();
        let found = read_dir(dir.path()).unwrap();
        assert!(found.records.is_empty());
        assert!(
            found.damaged[0].reason.contains("rows of logits"),
            "{}",
            found.damaged[0]
        );
    }

    #[test]
    fn another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let record = Sample::new("lora").record();
        write(dir.path(), &record).unwrap();
        let path = path_of(dir.path(), &record.id);
        let text = fs::read_to_string(&path)
            .unwrap()
            .replacen("\"format\":1", "\"format\":2", 1);
        fs::write(&path, text).unwrap();
        let error = read_dir(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("record format 2") && error.contains("reads format 1"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_holds_no_records() {
        assert!(
            read_dir(Path::new("/nowhere/at/all"))
                .unwrap()
                .records
                .is_empty()
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = write(&file, &Sample::new("lora").record())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(file.to_str().unwrap()) && error.contains("--out"),
            "{error}"
        );
    }

    #[test]
    fn a_whole_record_is_never_replaced_by_a_lesser_one() {
        let dir = tempfile::tempdir().unwrap();
        let ended = |status| Sample::new("lora").ended(status).record();
        let failed = ended(Status::Failed {
            error: "no room".into(),
        });
        let interrupted = ended(Status::Interrupted);
        let diverged = ended(Status::Diverged {
            step: 3,
            reason: "loss is NaN".into(),
        });
        let ok = Sample::new("lora").record();
        let kept = || find(dir.path(), &ok.id).unwrap().unwrap().status;
        for (record, written) in [
            (&failed, true),
            (&interrupted, true),
            (&failed, true),
            (&diverged, true),
            (&interrupted, false),
            (&ok, true),
            (&failed, false),
            (&interrupted, false),
            (&ok, true),
        ] {
            let before = if written {
                record.status.clone()
            } else {
                kept()
            };
            assert_eq!(write(dir.path(), record).unwrap(), written);
            assert_eq!(kept(), before);
        }
    }

    #[test]
    fn of_many_writers_at_once_the_whole_record_stays() {
        let dir = tempfile::tempdir().unwrap();
        let ok = Sample::new("lora").record();
        let failed = Sample::new("lora").ended(Status::Interrupted).record();
        std::thread::scope(|scope| {
            for k in 0..8 {
                let record = if k == 3 { &ok } else { &failed };
                scope.spawn(|| (0..5).all(|_| write(dir.path(), record).is_ok()));
            }
        });
        assert_eq!(
            find(dir.path(), &ok.id).unwrap().unwrap().status,
            Status::Ok
        );
        assert_eq!(names(dir.path()), [format!("{}.json", ok.id)]);
    }
}
