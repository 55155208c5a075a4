//! `status`: how far the runs of a plan file, or of the folder of a comparison or a suite, are.
//!
//! It reads the plan file, the heads of records and the claims, writes nothing of its own but what the scheduler said last,
//! and asks the scheduler at most every 40 s. Whether a claim of another machine still grows is seen by the times
//! that the folder's file system gave its files, never by the clocks of two machines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use record::{Head, Status, store, write_whole};
use reports::{format, row::method_label};
use serde::Serialize;

use crate::{
    execute::{
        claim::{self, Beat, Owner, PATIENCE, Watched},
        plan_file,
    },
    exit, folders,
};

/// In the folder of a plan file: the numbers of the jobs that were submitted for it.
pub const JOBS: &str = "jobs.txt";
/// In the same place: what the scheduler said last.
const SAID: &str = "scheduler.txt";
/// How often the scheduler is asked at most.
const SCHEDULER: Duration = Duration::from_secs(40);
/// How often the folder is looked at with `--watch`.
const LOOK: Duration = Duration::from_secs(5);
/// Running, failed and lost runs that are listed for people at most.
const LISTED: usize = 40;

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum State {
    Done,
    Diverged,
    Running {
        by: Owner,
        #[serde(flatten)]
        beat: Beat,
        /// Seconds without a sign while others gave some, where that is long.
        silent_seconds: Option<f64>,
    },
    /// Its process is gone without a record; whoever comes next makes it again.
    Lost {
        by: Owner,
    },
    Failed {
        error: String,
    },
    Interrupted,
    Waiting,
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Diverged => "diverged",
            Self::Running { .. } => "running",
            Self::Lost { .. } => "lost",
            Self::Failed { .. } => "failed",
            Self::Interrupted => "interrupted",
            Self::Waiting => "waiting",
        }
    }
}

#[derive(Serialize)]
struct Run {
    id: String,
    /// The data set; empty where only a claim tells of the run.
    dataset: String,
    label: String,
    seed: u64,
    #[serde(flatten)]
    state: State,
    /// Seconds from its start to its last evaluation, of a run that is done.
    seconds: Option<f64>,
    /// Where the task that made it, or makes it, wrote what it said.
    log: Option<PathBuf>,
    /// The end of that.
    last_line: Option<String>,
}

/// A run of the plan file, or one that a record or a claim tells of.
struct Known {
    id: String,
    dataset: String,
    label: String,
    seed: u64,
    records: PathBuf,
}

/// What was seen so far: whole records do not change.
struct Watcher {
    folder: PathBuf,
    /// Runs of the plan file; `None` without one.
    planned: Option<Vec<Known>>,
    whole: BTreeMap<String, Head>,
    scheduler: Scheduler,
}

/// How far everything is.
#[derive(Serialize)]
struct Snapshot {
    runs: Vec<Run>,
    counts: BTreeMap<&'static str, usize>,
    /// Seconds of the runs that are done, together.
    run_seconds: f64,
    remaining_seconds: Option<f64>,
    /// Tasks by their state, by what the scheduler said last; absent without one.
    scheduler: Option<BTreeMap<String, usize>>,
}

/// `status`.
///
/// # Errors
/// If the folder is not there, or holds neither a plan file nor records.
pub fn status(folder: &Path, json: bool, watch: bool) -> Result<ExitCode> {
    let mut watcher = Watcher::new(folder)?;
    let terminal = console::Term::stdout();
    let live = watch && !json && std::io::stdout().is_terminal();
    let mut said = String::new();
    loop {
        let snapshot = watcher.look()?;
        let text = match json {
            true => serde_json::to_string(&snapshot)?,
            false if watch && !live => snapshot.summary(),
            false => snapshot.text(),
        };
        if live {
            terminal.clear_screen()?;
        }
        // Where nobody sees it change, only what has changed is said.
        if live || text != said {
            say!("{}", text.trim_end())?;
        }
        said = text;
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        if snapshot.ended() {
            return Ok(exit::after(snapshot.count("failed") > 0));
        }
        thread::sleep(LOOK);
    }
}

impl Watcher {
    fn new(folder: &Path) -> Result<Self> {
        ensure!(
            folder.is_dir(),
            "{}: no such folder; name the folder of --plan-only, or that of a comparison",
            folder.display()
        );
        // A submitted comparison has its plan below its own folder.
        let below = folder.join("plan");
        let folder = match [folder, &below]
            .into_iter()
            .find(|f| f.join(plan_file::NAME).is_file())
        {
            Some(folder) => folder.to_owned(),
            None => folder.to_owned(),
        };
        let plan = folder.join(plan_file::NAME);
        let planned = match plan.is_file() {
            false => None,
            true => Some(
                plan_file::read(&plan)?
                    .into_iter()
                    .map(|line| Known {
                        records: folders::records_folder(&line.plan.out),
                        dataset: line.plan.data.name,
                        seed: line.plan.seed,
                        label: line.label,
                        id: line.id,
                    })
                    .collect(),
            ),
        };
        Ok(Self {
            scheduler: Scheduler::new(&folder),
            folder,
            planned,
            whole: BTreeMap::new(),
        })
    }

    fn look(&mut self) -> Result<Snapshot> {
        let folders: BTreeSet<PathBuf> = match &self.planned {
            Some(planned) => planned.iter().map(|run| run.records.clone()).collect(),
            None => records_below(&self.folder)?,
        };
        let (mut unfinished, mut claims) = (BTreeMap::new(), BTreeMap::new());
        let mut newest = None;
        for folder in &folders {
            for head in store::heads_but(folder, |id| self.whole.contains_key(id))? {
                match head.status.is_whole() {
                    true => self.whole.insert(head.id.clone(), head),
                    false => unfinished.insert(head.id.clone(), head),
                };
            }
            claims.extend(claims_in(folder));
            newest = newest.max(fs::metadata(folder).and_then(|m| m.modified()).ok());
        }
        newest = newest.max(claims.values().filter_map(|c| c.written).max());
        let own;
        let known = match &self.planned {
            Some(planned) => planned,
            None => {
                own = self.told_of(&unfinished, &claims, folders.len() > 1);
                &own
            }
        };
        let runs: Vec<Run> = known
            .iter()
            .map(|run| {
                let record = self.whole.get(&run.id).or_else(|| unfinished.get(&run.id));
                self.run(run, record, claims.get(&run.id), newest)
            })
            .collect();
        let mut snapshot = Snapshot {
            counts: BTreeMap::new(),
            // The sum of nothing is −0.0.
            run_seconds: 0.0 + runs.iter().filter_map(|r| r.seconds).sum::<f64>(),
            remaining_seconds: remaining(&runs),
            scheduler: self.scheduler.ask(),
            runs,
        };
        for run in &snapshot.runs {
            *snapshot.counts.entry(run.state.word()).or_default() += 1;
        }
        Ok(snapshot)
    }

    /// Without a plan file: the runs that have a record or a claim; of many data sets each run is called by its own.
    fn told_of(
        &self,
        unfinished: &BTreeMap<String, Head>,
        claims: &BTreeMap<String, Watched>,
        many: bool,
    ) -> Vec<Known> {
        let records = self.whole.values().chain(unfinished.values());
        let mut all: Vec<Known> = records
            .map(|head| {
                let (method, dataset) = (&head.asked.method, &head.asked.dataset.name);
                let label = method_label(&method.name, &method.variant);
                Known {
                    id: head.id.clone(),
                    label: match many {
                        true => format!("{dataset} {label}"),
                        false => label,
                    },
                    dataset: dataset.clone(),
                    seed: head.asked.seed,
                    records: PathBuf::new(),
                }
            })
            .collect();
        let without = claims
            .keys()
            .filter(|id| !self.whole.contains_key(*id) && !unfinished.contains_key(*id));
        all.extend(without.map(|id| Known {
            id: id.clone(),
            dataset: String::new(),
            label: "a run".to_owned(),
            seed: 0,
            records: PathBuf::new(),
        }));
        all
    }

    fn run(
        &self,
        known: &Known,
        record: Option<&Head>,
        claim: Option<&Watched>,
        newest: Option<SystemTime>,
    ) -> Run {
        let state = state(record, claim, newest);
        let task = match &state {
            State::Running { by, .. } | State::Lost { by } => by.task.as_deref(),
            State::Failed { .. } => record.and_then(|r| r.circumstances.task.as_deref()),
            _ => None,
        };
        let log = task.and_then(|task| {
            let name = task.split_once(' ')?.1;
            let log = self.folder.join("logs").join(format!("{name}.log"));
            log.is_file().then_some(log)
        });
        let tells = matches!(state, State::Failed { .. } | State::Lost { .. });
        Run {
            id: known.id.clone(),
            dataset: known.dataset.clone(),
            label: known.label.clone(),
            seed: known.seed,
            seconds: record.and_then(|r| Some(r.cost?.seconds())),
            last_line: log.as_deref().filter(|_| tells).and_then(last_line),
            log,
            state,
        }
    }
}

/// The folder of a comparison's records, or those of all comparisons below a folder: a suite has one for each data set.
fn records_below(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let own = folders::records_folder(folder);
    if own.is_dir() {
        return Ok([own].into());
    }
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let below = entries
        .flatten()
        .map(|entry| folders::records_folder(&entry.path()));
    let below: BTreeSet<PathBuf> = below.filter(|records| records.is_dir()).collect();
    ensure!(
        !below.is_empty(),
        "{}: neither a plan nor records are there; name the folder of --plan-only, or that of a comparison or a suite",
        folder.display()
    );
    Ok(below)
}

/// The claims of a folder, by run.
fn claims_in(folder: &Path) -> BTreeMap<String, Watched> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let id = name.strip_suffix(".claim")?;
            Some((id.to_owned(), claim::watch(folder, id)?))
        })
        .collect()
}

fn state(record: Option<&Head>, claim: Option<&Watched>, newest: Option<SystemTime>) -> State {
    match (record.map(|r| &r.status), claim) {
        (Some(Status::Ok), _) => State::Done,
        (Some(Status::Diverged { .. }), _) => State::Diverged,
        (_, Some(claim)) if claim.gone => State::Lost {
            by: claim.owner.clone(),
        },
        (_, Some(claim)) => {
            let silent = newest
                .zip(claim.written)
                .and_then(|(n, w)| n.duration_since(w).ok());
            State::Running {
                by: claim.owner.clone(),
                beat: claim.beat,
                silent_seconds: silent.filter(|s| *s >= PATIENCE).map(|s| s.as_secs_f64()),
            }
        }
        (Some(Status::Failed { error }), _) => State::Failed {
            error: error.clone(),
        },
        (Some(Status::Interrupted), _) => State::Interrupted,
        (None, None) => State::Waiting,
    }
}

/// What a small file of a plan says, if it can be read.
pub fn text_of(path: &Path) -> Option<String> {
    String::from_utf8(record::files::read(path).ok()?).ok()
}

/// The last line of a file that says something; little of the file is read.
fn last_line(path: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    const END: u64 = 4096;
    let mut file = datasets::open_regular(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))
        .ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let last = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(format::visible(last.trim()))
}

/// Expected seconds until all runs have ended, if as many go on at the same time as do now; `None` while none goes on or
/// none has ended. A run is expected to take what those of its name took on its data; before there is one, what others took on
/// its data; before there is one of these, what all took.
fn remaining(runs: &[Run]) -> Option<f64> {
    fn like(run: &Run) -> [(&str, &str); 3] {
        let (data, label) = (run.dataset.as_str(), run.label.as_str());
        [(data, label), (data, ""), ("", "")]
    }
    let mut took: BTreeMap<(&str, &str), (f64, f64)> = BTreeMap::new();
    for run in runs {
        if let Some(seconds) = run.seconds {
            for key in like(run) {
                let (sum, count) = took.entry(key).or_default();
                (*sum, *count) = (*sum + seconds, *count + 1.0);
            }
        }
    }
    if took.is_empty() {
        return None;
    }
    let expected = |run: &Run| {
        let known = like(run).into_iter().find_map(|key| took.get(&key));
        known.map_or(0.0, |(sum, count)| sum / count)
    };
    let (mut left, mut running, mut longest) = (0.0, 0.0, 0f64);
    for run in runs {
        match &run.state {
            State::Done | State::Diverged => {}
            State::Running { beat, .. } => {
                let own = match beat.step {
                    0 => expected(run) - beat.seconds,
                    step => beat.seconds / step as f64 * beat.steps.saturating_sub(step) as f64,
                };
                running += 1.0;
                left += own.max(0.0);
                longest = longest.max(own);
            }
            _ => left += expected(run),
        }
    }
    (running > 0.0).then(|| longest.max(left / running))
}

impl Snapshot {
    fn count(&self, word: &str) -> usize {
        self.counts.get(word).copied().unwrap_or(0)
    }

    /// Whether nobody makes a run and none waits for somebody who would.
    fn ended(&self) -> bool {
        ["running", "waiting", "interrupted", "lost"]
            .iter()
            .all(|word| self.count(word) == 0)
    }

    fn summary(&self) -> String {
        let parts: Vec<String> = self
            .counts
            .iter()
            .map(|(word, n)| format!("{n} {word}"))
            .collect();
        format!(
            "{}: {}",
            format::plural(self.runs.len(), "run"),
            parts.join(", ")
        )
    }

    fn text(&self) -> String {
        let mut text = self.summary() + "\n";
        let listed = self.runs.iter().filter_map(|run| Some((run, run.tells()?)));
        let listed: Vec<_> = listed.collect();
        for (run, what) in listed.iter().take(LISTED) {
            let _ = writeln!(
                text,
                "  {} seed {} ({}) {what}",
                run.label, run.seed, run.id
            );
        }
        if listed.len() > LISTED {
            let _ = writeln!(
                text,
                "  and {} more; --json lists all",
                listed.len() - LISTED
            );
        }
        if let Some(tasks) = &self.scheduler {
            let tasks: Vec<String> = tasks
                .iter()
                .map(|(state, n)| format!("{n} {state}"))
                .collect();
            let tasks = match tasks.is_empty() {
                true => "no task is queued or running".to_owned(),
                false => tasks.join(", "),
            };
            let _ = writeln!(text, "Slurm, asked up to 40 s ago: {tasks}");
        }
        let seconds = format::seconds(self.run_seconds);
        let left = self.remaining_seconds.map_or_else(String::new, |s| {
            format!(", about {} left", format::seconds(s.ceil()))
        });
        text + &format!("{seconds} of runs so far{left}\n")
    }
}

impl Run {
    /// What people have to know of it; `None` where its number says all.
    fn tells(&self) -> Option<String> {
        let mut text = match &self.state {
            State::Running {
                by,
                beat,
                silent_seconds,
            } => {
                let mut text = match beat.seconds > 0.0 {
                    true => format!("running for {}", format::seconds(beat.seconds.floor())),
                    false => "just begun".to_owned(),
                };
                if beat.step > 0 {
                    let speed = beat.examples_per_second;
                    let _ = write!(
                        text,
                        ", step {}/{}, {speed:.0} examples/s",
                        beat.step, beat.steps
                    );
                }
                let _ = write!(text, ", {by}");
                if let Some(silent) = silent_seconds {
                    let silent = format::seconds(silent.floor());
                    let _ = write!(text, "; no sign of it for {silent}, so it may be gone");
                }
                text
            }
            State::Lost { by } => format!("lost: {by} is gone; whoever comes next makes it again"),
            State::Failed { error } => {
                format!(
                    "failed: {}",
                    format::visible(error.lines().last().unwrap_or(""))
                )
            }
            State::Interrupted => "interrupted; whoever comes next makes it again".to_owned(),
            _ => return None,
        };
        if let (Some(log), Some(line)) = (&self.log, &self.last_line) {
            let _ = write!(text, "\n    {}: {line}", log.display());
        }
        Some(text)
    }
}

/// Slurm, where it is there and knows jobs of the folder.
struct Scheduler {
    folder: PathBuf,
    asked: Option<Instant>,
    said: Option<BTreeMap<String, usize>>,
}

impl Scheduler {
    fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            asked: None,
            said: None,
        }
    }

    /// Tasks by their state, as told less than [`SCHEDULER`] ago, by whatever process asked.
    fn ask(&mut self) -> Option<BTreeMap<String, usize>> {
        if self.asked.is_none_or(|asked| asked.elapsed() >= SCHEDULER) {
            self.asked = Some(Instant::now());
            let said = self.said_lately().or_else(|| self.squeue());
            self.said = said.map(|text| count_states(&text));
        }
        self.said.clone()
    }

    /// What another process was told. A file from the future, by a clock that is wrong, is not believed.
    fn said_lately(&self) -> Option<String> {
        let path = self.folder.join(SAID);
        let age = fs::metadata(&path)
            .and_then(|m| m.modified())
            .ok()?
            .elapsed()
            .ok()?;
        (age < SCHEDULER).then(|| text_of(&path))?
    }

    fn squeue(&self) -> Option<String> {
        let jobs = self.jobs();
        if jobs.is_empty() {
            return None;
        }
        let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
        let output = Command::new("squeue")
            .args(["--noheader", "--array", "--format=%T", "--jobs"])
            .arg(jobs.join(","))
            .stdin(Stdio::null())
            .output()
            .ok()?;
        // Of jobs that ended long ago Slurm knows nothing, and says so with an error.
        let said = match output.status.success() {
            true => String::from_utf8_lossy(&output.stdout).into_owned(),
            false => String::new(),
        };
        write_whole(&self.folder.join(SAID), said.as_bytes()).ok();
        Some(said)
    }

    /// Numbers of the jobs: those that were submitted here, and those that have written a log.
    fn jobs(&self) -> BTreeSet<String> {
        let submitted = text_of(&self.folder.join(JOBS)).unwrap_or_default();
        let mut jobs: BTreeSet<String> = submitted.lines().map(str::to_owned).collect();
        for entry in fs::read_dir(self.folder.join("logs"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            jobs.extend(name.split(['_', '.']).next().map(str::to_owned));
        }
        jobs.retain(|job| !job.is_empty() && job.bytes().all(|b| b.is_ascii_digit()));
        jobs
    }
}

fn count_states(said: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for state in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        *counts.entry(state.to_lowercase()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;

    fn run(label: &str, state: State, seconds: Option<f64>) -> Run {
        Run {
            id: String::new(),
            dataset: "sst2".into(),
            label: label.into(),
            seed: 0,
            state,
            seconds,
            log: None,
            last_line: None,
        }
    }

    fn owner() -> Owner {
        Owner {
            host: "node7 boot".into(),
            pid: 4711,
            begun: None,
            nonce: "0".into(),
            task: Some("slurm 12_3".into()),
        }
    }

    fn running(seconds: f64, step: usize, silent_seconds: Option<f64>) -> State {
        State::Running {
            by: owner(),
            beat: Beat {
                seconds,
                step,
                steps: 500,
                examples_per_second: 400.0,
            },
            silent_seconds,
        }
    }

    #[test]
    fn what_is_left_is_shared_by_as_many_as_run_now() {
        let mut runs = vec![
            run("lora", State::Done, Some(100.0)),
            run("full", State::Done, Some(300.0)),
            // 60 s for 100 of 500 steps: 240 s more.
            run("lora", running(60.0, 100, None), None),
            // 100 s are expected, 90 have passed.
            run("lora", running(90.0, 0, None), None),
        ];
        assert_eq!(remaining(&runs), Some(240.0), "the longest that runs now");
        // 200 s, the mean of all, for a label that has not ended yet: 240 + 10 + 200 + 300 on two.
        runs.push(run("ia3", State::Waiting, None));
        runs.push(run("full", State::Interrupted, None));
        assert_eq!(remaining(&runs), Some(375.0));
        assert_eq!(remaining(&runs[..2]), None, "nobody works");
        assert_eq!(remaining(&runs[2..]), None, "nothing is known");
        // Of other data the same methods take what they take there: of lora 10 s, so of ia3 too; 240 + 10 + 200 + 300 + 10 on two.
        let of_rte = |label: &str, state: State, seconds| Run {
            dataset: "rte".into(),
            ..run(label, state, seconds)
        };
        runs.push(of_rte("lora", State::Done, Some(10.0)));
        runs.push(of_rte("ia3", State::Waiting, None));
        assert_eq!(remaining(&runs), Some(380.0));
    }

    #[test]
    fn of_a_suite_without_a_plan_file_the_runs_of_every_data_set_are_told() {
        let place = tempfile::tempdir().unwrap();
        for dataset in ["rte", "sst2"] {
            let record = Sample::new("lora").with(|r| r.asked.dataset.name = dataset.into());
            let records = folders::records_folder(&place.path().join(dataset));
            store::write(&records, &record.record()).unwrap();
        }
        let snapshot = Watcher::new(place.path()).unwrap().look().unwrap();
        let labels: BTreeSet<&str> = snapshot.runs.iter().map(|run| run.label.as_str()).collect();
        assert_eq!(labels, BTreeSet::from(["rte lora", "sst2 lora"]));
        assert!(snapshot.text().starts_with("2 runs: 2 done\n"));
        let empty = tempfile::tempdir().unwrap();
        let refused = Watcher::new(empty.path()).unwrap().look().err().unwrap();
        assert!(refused.to_string().contains("--plan-only"), "{refused}");
    }

    #[test]
    fn a_claim_that_stands_still_while_the_folder_changes_is_told_by_the_folders_own_clock() {
        let written = SystemTime::UNIX_EPOCH;
        let watched = Watched {
            owner: owner(),
            beat: Beat::default(),
            gone: false,
            bytes: 1,
            written: Some(written),
        };
        let silent = |later: u64| match state(
            None,
            Some(&watched),
            Some(written + Duration::from_secs(later)),
        ) {
            State::Running { silent_seconds, .. } => silent_seconds,
            other => panic!("{other:?}"),
        };
        assert_eq!(silent(60), None);
        assert_eq!(silent(200), Some(200.0));
        let text = run("lora", running(61.0, 20, Some(200.0)), None)
            .tells()
            .unwrap();
        assert!(
            text.contains("step 20/500, 400 examples/s, process 4711 on node7"),
            "{text}"
        );
        assert!(text.contains("no sign of it for 3 min 20 s"), "{text}");
    }

    #[test]
    fn a_failed_run_is_listed_with_the_last_line_of_its_tasks_log() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let failed = Sample::new("lora")
            .ended(Status::Failed {
                error: "no room".into(),
            })
            .with(|r| r.circumstances.task = Some("slurm 12_3".into()))
            .record();
        store::write(&folders::records_folder(&out), &failed).unwrap();
        fs::create_dir_all(out.join("logs")).unwrap();
        fs::write(
            out.join("logs/12_3.log"),
            "first\nslurmstepd: error: oom\n\n",
        )
        .unwrap();
        let snapshot = Watcher::new(&out).unwrap().look().unwrap();
        let text = snapshot.text();
        assert!(text.starts_with("1 run: 1 failed\n"), "{text}");
        assert!(text.contains("failed: no room"), "{text}");
        assert!(
            text.contains("12_3.log: slurmstepd: error: oom\n"),
            "{text}"
        );
    }

    #[test]
    fn tasks_are_counted_by_their_state() {
        let counts = count_states("PENDING\nRUNNING\nPENDING\n\n");
        assert_eq!(
            counts,
            BTreeMap::from([("pending".to_owned(), 2), ("running".to_owned(), 1)])
        );
    }
}
