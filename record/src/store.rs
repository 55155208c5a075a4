//! Records on disk: one JSON file per run, `<folder>/<id>.json`; kept ones may be compressed, `<folder>/<id>.json.gz`; of a
//! run that did not come to its end (failed, interrupted) `<id>.unfinished.json`.
//!
//! So whether a run has to be made is whether a file is there, and no lock is needed, which network file systems often
//! lack: a whole record is created where there is none and never replaced (two of one run differ in their costs only, and
//! the first stays); an unfinished one is replaced by any later one and no longer read once the whole one is there.
//! What lists and states of runs need stands before the long parts of a record ([`crate::head`]), so that ten thousand runs
//! are told from a few kilobytes of each. A record is written whole or not at all ([`crate::files`]). Floats are written
//! with the fewest digits that give the same bits back.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::files::{write_new, write_whole};
use crate::head::Head;
use crate::record_file::{ENDINGS, UNFINISHED, bytes_of, check_format, id_in};
use crate::sound::problem_of;
use crate::{FORMAT, RunRecord};

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

/// Where the whole record with this id stands in `dir`.
pub fn path_of(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}.json"))
}

fn unfinished(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}{UNFINISHED}"))
}

/// Writes a record into `dir` (made if absent) and says whether it did: `false` means that a whole record of the same id
/// stands there, which stays.
///
/// # Errors
/// When the folder or file cannot be written; and when the record contradicts itself or holds a
/// number that is not finite: JSON has none, and a run that meets one has [`crate::Status::Diverged`],
/// whose record holds the step and the reason instead of an outcome.
pub fn write(dir: &Path, record: &RunRecord) -> Result<bool> {
    if let Some(problem) = problem_of(record) {
        return Err(Error::Inconsistent {
            id: record.id.clone(),
            problem,
        });
    }
    let mut json = serde_json::to_vec(record)?;
    json.push(b'\n');
    let path = path_of(dir, &record.id);
    if is_whole(dir, &record.id)? {
        return Ok(false);
    }
    if !record.status.is_whole() {
        write_whole(&unfinished(dir, &record.id), &json)?;
        return Ok(true);
    }
    let mut written = write_new(&path, &json)?;
    // Older versions gave this name to unfinished records too; and what is damaged is made anew.
    if !written && !is_whole(dir, &record.id)? {
        write_whole(&path, &json)?;
        written = true;
    }
    fs::remove_file(unfinished(dir, &record.id)).ok();
    Ok(written)
}

/// Whether a whole record with this id is there.
///
/// # Errors
/// When it has another [`FORMAT`].
pub fn is_whole(dir: &Path, id: &str) -> Result<bool> {
    for ending in ENDINGS {
        let path = dir.join(format!("{id}{ending}"));
        if path.exists() && Head::read(&path)?.is_ok_and(|head| head.status.is_whole()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Files of the records in a folder, by name: for each run the whole record, or else the unfinished one.
fn paths(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let record = |name: &String| id_in(Path::new(name)).is_some();
        names.extend(name.into_string().ok().filter(record));
    }
    let whole = |name: &String| match name.strip_suffix(UNFINISHED) {
        Some(id) => !ENDINGS.iter().any(|e| names.contains(&format!("{id}{e}"))),
        None => true,
    };
    let kept = names.iter().filter(|n| whole(n)).map(|n| dir.join(n));
    Ok(kept.filter(|path| !path.is_dir()).collect())
}

/// Reads all records (`*.json` and `*.json.gz`) of a folder, on all threads. A folder that does not exist holds none.
///
/// A file that is cut short, is not a record or contradicts itself is skipped and listed in
/// [`Records::damaged`].
///
/// # Errors
/// When the folder cannot be read, and when a record has another [`FORMAT`]: leaving out what a
/// newer version wrote would change a comparison silently.
pub fn read_dir(dir: &Path) -> Result<Records> {
    let mut found = Records::default();
    for (path, read) in each(&paths(dir)?, read) {
        match read? {
            Ok(record) => found.records.push(record),
            Err(reason) => found.damaged.push(Damaged { path, reason }),
        }
    }
    Ok(found)
}

/// What lists need of the records of a folder; what is damaged is left out.
///
/// # Errors
/// As [`read_dir`].
pub fn heads(dir: &Path) -> Result<Vec<Head>> {
    heads_but(dir, |_| false)
}

/// The same without those whose id is known.
///
/// # Errors
/// As [`read_dir`].
pub fn heads_but(dir: &Path, known: impl Fn(&str) -> bool) -> Result<Vec<Head>> {
    let mut paths = paths(dir)?;
    paths.retain(|path| !id_in(path).is_some_and(&known));
    let read = each(&paths, Head::read).into_iter();
    read.filter_map(|(_, head)| head.map(std::result::Result::ok).transpose())
        .collect()
}

/// What was read of each file, on all threads.
fn each<T: Send>(paths: &[PathBuf], read: impl Fn(&Path) -> T + Sync) -> Vec<(PathBuf, T)> {
    let paths = paths.par_iter().with_min_len(64);
    paths.map(|p| (p.clone(), read(p))).collect()
}

/// The sound record with this id in a folder, if there is one: the whole one, or else the unfinished one.
///
/// # Errors
/// When it has another [`FORMAT`].
pub fn find(dir: &Path, id: &str) -> Result<Option<RunRecord>> {
    let whole = ENDINGS.map(|ending| dir.join(format!("{id}{ending}")));
    for path in whole.into_iter().chain([unfinished(dir, id)]) {
        if let Ok(record) = read(&path)? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The record in a file, or the reason why there is none.
fn read(path: &Path) -> Result<std::result::Result<RunRecord, String>> {
    let json = match bytes_of(path) {
        Ok(json) => json,
        Err(e) => return Ok(Err(format!("cannot be read ({e})"))),
    };
    let record: RunRecord = match serde_json::from_slice(&json) {
        Ok(record) => record,
        Err(e) => return Ok(check_format(path, &json)?.and(Err(format!("not a record ({e})")))),
    };
    if record.format != FORMAT {
        check_format(path, &json)?.ok();
    }
    if id_in(path) != Some(record.id.as_str()) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    use crate::{Status, sample::Sample};

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
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
    fn a_negative_time_or_a_share_beyond_one_is_damage() {
        type Change = fn(&mut RunRecord);
        let changes: [(Change, &str); 4] = [
            (
                |r| r.cost.as_mut().unwrap().training_seconds = -5.0,
                "`cost.training_seconds` is -5",
            ),
            (
                |r| r.cost.as_mut().unwrap().step_seconds[1] = -0.25,
                "`cost.step_seconds[1]` is -0.25",
            ),
            (
                |r| {
                    r.cost.as_mut().unwrap().latency.push(crate::Latency {
                        variant: "unmerged".into(),
                        batch: 1,
                        length: None,
                        samples: 9,
                        p50_ms: -1.0,
                        p90_ms: 2.0,
                        p99_ms: 3.0,
                    });
                },
                "p50_ms` is -1",
            ),
            (
                |r| {
                    let last = r.outcome.as_mut().unwrap().evaluations.last_mut().unwrap();
                    last.metrics.insert("accuracy".into(), 57.0);
                },
                "metrics.accuracy` is 57",
            ),
        ];
        for (change, says) in changes {
            let mut record = Sample::new("lora").record();
            assert_eq!(problem_of(&record), None);
            change(&mut record);
            let problem = problem_of(&record).unwrap_or_default();
            assert!(problem.contains(says), "{says}: {problem}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_in_place_of_a_record_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let record = Sample::new("lora").record();
        let made = std::process::Command::new("mkfifo")
            .arg(path_of(dir.path(), &record.id))
            .status();
        assert!(made.unwrap().success());
        assert!(!is_whole(dir.path(), &record.id).unwrap());
        assert_eq!(find(dir.path(), &record.id).unwrap(), None);
        let found = read_dir(dir.path()).unwrap();
        assert!(found.records.is_empty());
        let reason = &found.damaged[0].reason;
        assert!(reason.contains("not a regular file"), "{reason}");
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
    fn a_whole_record_takes_the_place_of_unfinished_ones_and_then_stays() {
        let dir = tempfile::tempdir().unwrap();
        let ended = |status| Sample::new("lora").ended(status).record();
        let failed = ended(Status::Failed {
            error: "no room".into(),
        });
        let interrupted = ended(Status::Interrupted);
        let ok = Sample::new("lora").record();
        let mut again = ok.clone();
        again.cost.as_mut().unwrap().training_seconds += 1.0;
        let kept = || find(dir.path(), &ok.id).unwrap().unwrap();
        for (record, written) in [
            (&failed, true),
            (&interrupted, true),
            (&failed, true),
            (&ok, true),
            (&failed, false),
            (&interrupted, false),
            (&again, false),
        ] {
            let before = if written { record.clone() } else { kept() };
            assert_eq!(write(dir.path(), record).unwrap(), written);
            assert_eq!(kept(), before);
            assert_eq!(read_dir(dir.path()).unwrap().records, [before]);
        }
        assert_eq!(names(dir.path()), [format!("{}.json", ok.id)]);
    }

    #[test]
    fn an_unfinished_record_of_an_older_version_is_replaced_by_the_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let ok = Sample::new("lora").record();
        let failed = Sample::new("lora").ended(Status::Interrupted).record();
        fs::write(
            path_of(dir.path(), &ok.id),
            serde_json::to_vec(&failed).unwrap(),
        )
        .unwrap();
        assert!(!is_whole(dir.path(), &ok.id).unwrap());
        assert!(write(dir.path(), &ok).unwrap());
        assert_eq!(read_dir(dir.path()).unwrap().records, [ok]);
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
        // One that did not end may be written in the same moment; it is not read.
        assert_eq!(find(dir.path(), &ok.id).unwrap(), Some(ok.clone()));
        assert_eq!(read_dir(dir.path()).unwrap().records, [ok]);
    }
}
