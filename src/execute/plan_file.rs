//! The plan file: the runs that are missing, one per line. Whatever scheduler there is makes them; everything else reads
//! records.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io::Read,
    path::{Path, PathBuf, absolute},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use record::write_whole;
use serde::{Deserialize, Serialize};

use super::{
    planned::{Planned, plan_all},
    progress::Verbosity,
};
use crate::{backbones, folders, plan::RunPlan};

/// Version of the file; another one is refused.
const FORMAT: u32 = 3;
/// The largest file that is read, in bytes: some hundred thousand runs.
const LARGEST: u64 = 256 << 20;
/// What helps against every damage.
const ANEW: &str = "write the file anew with --plan-only";
/// The file's name in its folder.
pub const NAME: &str = "plans.jsonl";

/// A run that is missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Always 3.
    pub format: u32,
    /// Its place in the file, counted from 1, and how many there are: a task takes its runs by their places, so that none may be
    /// missing or moved.
    pub line: [usize; 2],
    /// The run's name: what the plan must come to wherever it is made.
    pub id: String,
    /// What people call it.
    pub label: String,
    /// The mark of the folder of its record: another folder that stands under the same path on some machine has another one.
    pub folder: String,
    /// The plan.
    pub plan: RunPlan,
}

/// Writes the plan file of these runs into a folder, and marks the folders of their records. Paths become absolute, as the runs start
/// elsewhere; and what they need was fetched when they were planned, so they use no network.
///
/// # Errors
/// If the file or a mark cannot be written.
pub fn write<'a>(
    folder: &Path,
    runs: impl IntoIterator<Item = &'a Planned, IntoIter: ExactSizeIterator>,
) -> Result<PathBuf> {
    let mut text = String::new();
    let runs = runs.into_iter();
    let all = runs.len();
    let mut marks = BTreeMap::new();
    for (i, run) in runs.enumerate() {
        let mut plan = run.plan.clone();
        plan.out = absolute(&plan.out)?;
        let mark: &String = match marks.entry(plan.out.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(folders::mark(&folders::records_folder(&plan.out))?),
        };
        plan.offline = true;
        plan.data.name = absolute_name(&plan.data.name, |path| path.is_file())?;
        for file in plan.data.options.split_files.values_mut() {
            *file = absolute(&*file)?;
        }
        // A folder, or a GGUF.
        plan.backbone = absolute_name(&plan.backbone, Path::exists)?;
        let line = Line {
            format: FORMAT,
            line: [i + 1, all],
            id: run.id.clone(),
            label: run.label.clone(),
            folder: mark.clone(),
            plan,
        };
        text += &serde_json::to_string(&line)?;
        text.push('\n');
    }
    let path = folder.join(NAME);
    write_whole(&path, text.as_bytes())?;
    Ok(path)
}

/// A name as it is; a path that is there, absolute. Known names win over files, as everywhere.
fn absolute_name(name: &str, is_there: fn(&Path) -> bool) -> Result<String> {
    let known = datasets::names()
        .chain(backbones::names())
        .any(|n| n == name);
    if known || !is_there(Path::new(name)) {
        return Ok(name.to_owned());
    }
    Ok(absolute(name)?.to_string_lossy().into_owned())
}

/// Why the runs of a plan file cannot be made.
#[derive(Debug)]
pub enum Refused {
    /// The plan is wrong wherever it is read.
    Never(anyhow::Error),
    /// This machine, at this time, cannot make them: it does not see the folder, or lacks data or backbone.
    NotHere(anyhow::Error),
}

impl From<Refused> for anyhow::Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Never(error) | Refused::NotHere(error) => error,
        }
    }
}

/// Reads a plan file.
///
/// # Errors
/// If it is damaged or of another version, naming the line.
pub fn read(path: &Path) -> Result<Vec<Line>, Refused> {
    parse(path, &text(path).map_err(Refused::NotHere)?).map_err(Refused::Never)
}

fn text(path: &Path) -> Result<String> {
    let unread = || {
        format!(
            "{}: cannot be read; --plan-only writes it, and every machine that makes runs must see the folder",
            path.display()
        )
    };
    let mut text = String::new();
    datasets::open_regular(path)
        .with_context(unread)?
        .take(LARGEST + 1)
        .read_to_string(&mut text)
        .with_context(unread)?;
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Line>> {
    ensure!(
        text.len() as u64 <= LARGEST,
        "{}: larger than {} MiB, so it is not a plan file",
        path.display(),
        LARGEST >> 20
    );
    let lines = text.lines().enumerate().map(|(i, text)| {
        let at = || format!("{}: line {}", path.display(), i + 1);
        // Another version may have other keys, and that is what is to be said of it.
        if let Some(format) = serde_json::from_str::<Version>(text)
            .ok()
            .and_then(|v| v.format)
        {
            ensure!(
                format == FORMAT,
                "{}: format {format} is not {FORMAT}, which this version makes; {ANEW}",
                at()
            );
        }
        let line: Line = serde_json::from_str(text)
            .with_context(|| format!("{}: this is not a plan; {ANEW}", at()))?;
        Ok(line)
    });
    let lines = lines.collect::<Result<Vec<_>>>()?;
    ensure!(
        !lines.is_empty(),
        "{}: no run is planned in it",
        path.display()
    );
    let mut places = lines.iter().map(|line| line.line[0]).zip(1..);
    let odd = places.position(|(written, place)| written != place);
    let odd = odd.or_else(|| lines.iter().position(|line| line.line[1] != lines.len()));
    if let Some(i) = odd {
        let [place, all] = lines[i].line;
        bail!(
            "{}: line {} of {} was written as line {place} of {all}, so lines are missing or moved; {ANEW}",
            path.display(),
            i + 1,
            lines.len()
        );
    }
    Ok(lines)
}

#[derive(Deserialize)]
struct Version {
    format: Option<u32>,
}

/// Checks plans before the first of them starts, and that each still comes to its name.
///
/// # Errors
/// If this machine does not see the folder of the records, data or backbone are not found, or a plan asks for another run than its
/// name says.
pub fn check(lines: &[Line]) -> Result<Vec<Planned>, Refused> {
    let mut marks = BTreeMap::new();
    for line in lines {
        let mark = marks
            .entry(&line.plan.out)
            .or_insert_with(|| folders::mark_of(&folders::records_folder(&line.plan.out)));
        // Written here, or into another folder of this name, records would be seen by nobody else.
        if mark.as_ref() != Some(&line.folder) {
            let records = folders::records_folder(&line.plan.out);
            let why = match records.is_dir() {
                true => {
                    "the folder under this path is not the one that the plan was made for, or was made anew since then"
                }
                false => "there is no such folder on this machine",
            };
            return Err(Refused::NotHere(anyhow!(
                "{}: {why}; every machine that makes runs must see the folder of the records under this path",
                records.display()
            )));
        }
    }
    let planned = plan_all(lines.iter().map(|line| line.plan.clone()), Verbosity::Quiet);
    let checked = planned.into_iter().zip(lines).map(|(planned, line)| {
        let planned = planned.map_err(Refused::NotHere)?;
        if planned.id != line.id {
            return Err(Refused::Never(anyhow!(
                "run {}: its plan asks for run {} here: the plan was edited, or data, backbone or version of peftbench are \
                 not those it was written for; {ANEW}",
                line.id,
                planned.id
            )));
        }
        Ok(Planned {
            label: line.label.clone(),
            ..planned
        })
    });
    checked.collect()
}
