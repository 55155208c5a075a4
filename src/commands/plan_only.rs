//! `--plan-only` and `--submit`: checks everything and has the runs that are missing made elsewhere.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf, absolute},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use record::{store, write_whole};
use reports::format;

use super::status;
use crate::{
    execute::{
        claim,
        measured::Measured,
        plan_file,
        planned::{self, Planned},
        submit::{self, MAX_ARRAY, Tasks},
    },
    folders,
};

/// Seconds that a run may take of which no record tells.
const UNKNOWN_SECONDS: f64 = 3600.0;
/// How many times its measured seconds a task may take.
const MARGIN: f64 = 3.0;
/// Seconds that a task may take at least.
const SHORTEST: f64 = 600.0;
/// Seconds that a task should last: below it a scheduler has more work than its nodes.
const LEAST: f64 = 900.0;
/// Submissions that follow one another at most: a search has fewer stages, and a comparison fewer looks.
const MOST_AGAIN: u8 = 20;
/// Seconds that the last job may take.
const REPORT_SECONDS: u64 = 3600;

/// What is written, how its tasks are cut, and whether they are submitted.
pub struct Elsewhere {
    /// The folder of the plan file; one in the comparison's folder where absent.
    pub folder: Option<PathBuf>,
    /// Whether sbatch is called.
    pub submit: bool,
    /// Runs that one task makes, one after the other; as the records tell where absent.
    pub per_task: Option<usize>,
    /// Tasks at the same time at most.
    pub parallel: Option<usize>,
    /// Goes to sbatch as it is.
    pub more: Vec<String>,
    /// Which last job of an earlier submission this is ([`Then::Again`]); 0 where a person gave the command.
    pub again: u8,
}

/// What comes when the runs have been made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The report.
    Report,
    /// The same command again: what it needs next depends on what these runs give, or it says more than the report.
    Again,
}

impl Elsewhere {
    /// Has those of the planned runs made elsewhere that have no record, neither in their own folder nor in that of the
    /// comparison in `out`. `None` where none is missing.
    ///
    /// # Errors
    /// If a folder cannot be written, or sbatch refuses.
    pub fn make(&self, planned: &[Planned], out: &Path, then: Then) -> Result<Option<ExitCode>> {
        let records = folders::records_folder(out);
        let missing = planned::missing(planned, std::slice::from_ref(&records))?;
        if missing.is_empty() {
            return Ok(None);
        }
        // A last job makes what an earlier submission has left, and submits only what comes next: of whatever comparison has no
        // record yet of what it planned.
        if self.again > 0 {
            let mut all_begun = true;
            for of_one in planned.chunk_by(|a, b| a.plan.out == b.plan.out) {
                let records = folders::records_folder(&of_one[0].plan.out);
                let mut begun = false;
                for run in of_one {
                    begun |= store::find(&records, &run.id)?.is_some();
                }
                all_begun &= begun;
            }
            if all_begun {
                return Ok(None);
            }
            ensure!(
                self.again < MOST_AGAIN,
                "these runs were submitted {MOST_AGAIN} times, and none has a record; see {}",
                out.join("plan").join("logs").display()
            );
        }
        let folder = self.folder.clone().unwrap_or_else(|| out.join("plan"));
        let folder = absolute(&folder)?;
        folders::check_writable(&folder, "--plan-only")?;
        // Whoever makes a run finds the folder of its record there.
        let outs: BTreeSet<&Path> = missing.iter().map(|run| run.plan.out.as_path()).collect();
        for out in outs {
            folders::check_writable(&folders::records_folder(out), "--out")?;
        }
        let path = plan_file::write(&folder, missing.iter().copied())?;
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let measured = Measured::of(planned, Some(&records))?;
        let (per_task, seconds) = self.cut(&measured, &missing);
        let tasks = Tasks {
            folder: &folder,
            program: &program,
            runs: missing.len(),
            per_task,
            parallel: self.parallel,
            seconds,
            max_array: max_array(),
        };
        let logs = folder.join("logs");
        fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
        let last = last(&program, out, then, self.again + 1)?;
        let report = submit::sbatch_once(&folder, "report", REPORT_SECONDS, false, &last);
        for (name, text) in [
            ("submit.sbatch", tasks.sbatch()),
            ("report.sbatch", report),
            ("job.yaml", tasks.kubernetes()),
            ("hq.sh", format!("#!/bin/sh\n{}\n", tasks.hyperqueue())),
        ] {
            write_whole(&folder.join(name), text.as_bytes())?;
        }
        eprintln!(
            "{}: {} of {} are to be made, {per_task} per task",
            path.display(),
            format::plural(missing.len(), "run"),
            planned.len()
        );
        say_who_works(&missing);
        match self.submit {
            true => self.submit(&tasks)?,
            false => self.say(&tasks, &last, then)?,
        }
        Ok(Some(ExitCode::SUCCESS))
    }

    /// Runs per task, and seconds that a task may take.
    fn cut(&self, measured: &Measured, missing: &[&Planned]) -> (usize, u64) {
        let cores = submit::cores(&self.more);
        let known: Vec<Option<f64>> = missing
            .iter()
            .map(|run| measured.seconds(&run.asked, cores))
            .collect();
        let unknown = known.iter().filter(|seconds| seconds.is_none()).count();
        let seconds: Vec<f64> = known
            .into_iter()
            .map(|seconds| seconds.unwrap_or(UNKNOWN_SECONDS / MARGIN))
            .collect();
        let per_task = self
            .per_task
            .unwrap_or_else(|| submit::packed(&seconds, LEAST));
        let longest = seconds
            .chunks(per_task)
            .map(|task| task.iter().sum::<f64>())
            .fold(0.0, f64::max);
        if unknown > 0 {
            let of = match unknown == missing.len() {
                true => "such runs take".to_owned(),
                false => format!("{unknown} of them take"),
            };
            eprintln!(
                "note: no record of the same data, backbone, precision and recipe tells how long {of}; an hour is allowed for each \
                 (#SBATCH --time in submit.sbatch)"
            );
        }
        if unknown < missing.len() {
            eprintln!(
                "note: by the records of like runs a task with {} lasts up to {}; three times that is allowed",
                format::plural(cores, "core"),
                format::seconds(longest)
            );
        }
        (per_task, (MARGIN * longest).max(SHORTEST) as u64)
    }

    /// Prints the lines that submit the runs.
    fn say(&self, tasks: &Tasks<'_>, last: &[String], then: Then) -> Result<()> {
        for words in tasks.arrays(&self.more) {
            say!("sbatch {}", submit::line(&words))?;
        }
        let folder = tasks.folder.display();
        say!(
            "# or with HyperQueue: sh {folder}/hq.sh; with Kubernetes: kubectl apply -f {folder}/job.yaml"
        )?;
        say!("# or on machines that share the folder: peftbench work {folder}")?;
        say!("# how far they are: peftbench status {folder}")?;
        match then {
            Then::Report => say!("# then: {}", submit::line(last))?,
            Then::Again => say!(
                "# then the same command again: it plans what these runs make necessary, or reports"
            )?,
        }
        Ok(())
    }

    /// Submits the runs, and the last job behind them.
    fn submit(&self, tasks: &Tasks<'_>) -> Result<()> {
        let mut jobs = Vec::new();
        for words in tasks.arrays(&self.more) {
            jobs.push(sbatch(&words).with_context(|| match jobs.as_slice() {
                [] => "nothing was submitted".to_owned(),
                jobs => format!("the jobs {} were submitted before", jobs.join(", ")),
            })?);
        }
        let mut words = self.more.clone();
        words.push(format!("--dependency=afterany:{}", jobs.join(":")));
        words.push(
            tasks
                .folder
                .join("report.sbatch")
                .to_string_lossy()
                .into_owned(),
        );
        let report = sbatch(&words)
            .with_context(|| format!("the jobs {} were submitted before", jobs.join(", ")))?;
        let all = jobs.iter().chain([&report]).map(|job| format!("{job}\n"));
        let known = status::text_of(&tasks.folder.join(status::JOBS)).unwrap_or_default();
        let all: String = std::iter::once(known).chain(all).collect();
        write_whole(&tasks.folder.join(status::JOBS), all.as_bytes())?;
        say!(
            "submitted: {} for the runs, {report} for what comes then",
            jobs.join(", ")
        )?;
        say!(
            "how far they are: peftbench status {}",
            tasks.folder.display()
        )?;
        Ok(())
    }
}

/// The command of the last job.
fn last(program: &Path, out: &Path, then: Then, again: u8) -> Result<Vec<String>> {
    let program = program.to_string_lossy().into_owned();
    Ok(match then {
        Then::Report => {
            let out = absolute(out)?.to_string_lossy().into_owned();
            vec![program, "report".to_owned(), "--records".to_owned(), out]
        }
        // As it was typed; Slurm starts it in the same folder.
        Then::Again => [
            "env".to_owned(),
            format!("PEFTBENCH_AGAIN={again}"),
            program,
        ]
        .into_iter()
        .chain(std::env::args().skip(1))
        .collect(),
    })
}

/// Says which of the runs are being made now: whoever comes second skips them.
fn say_who_works(missing: &[&Planned]) {
    let working = missing.iter().filter_map(|run| {
        let watched = claim::watch(&folders::records_folder(&run.plan.out), &run.id)?;
        (!watched.gone).then_some(watched.owner)
    });
    let working: Vec<_> = working.collect();
    if let Some(first) = working.first() {
        eprintln!(
            "note: {} of them are being made already ({first}{}); who comes second waits for the record and uses it",
            working.len(),
            if working.len() > 1 { " and others" } else { "" }
        );
    }
}

/// Calls sbatch; the job's number.
fn sbatch(words: &[String]) -> Result<String> {
    let output = Command::new("sbatch")
        .arg("--parsable")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .context("sbatch cannot be started; --submit needs Slurm, --plan-only does not")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "sbatch {} ended with {}: {}",
        submit::line(words),
        output.status,
        said.trim()
    );
    // A job's number, and on some clusters the cluster's name behind it.
    let printed = String::from_utf8_lossy(&output.stdout);
    match printed.trim().split(';').next() {
        Some(job) if !job.is_empty() => Ok(job.to_owned()),
        _ => bail!("sbatch printed no number of a job: {printed}"),
    }
}

/// Tasks of one array at most, as the cluster says.
fn max_array() -> usize {
    let asked = Command::new("scontrol")
        .args(["show", "config"])
        .stdin(Stdio::null())
        .output();
    let config = asked.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    submit::max_array(&config.unwrap_or_default()).unwrap_or(MAX_ARRAY)
}
