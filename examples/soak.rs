//! Runs for a long time: many rows through the task library and through `predict --tasks` while tasks are added, replaced
//! and removed, and a long training; answers and memory are checked.
//!
//! ```text
//! soak PEFTBENCH [ROWS [STEPS]]       the program, rows (1,000,000), steps of training (10,000)
//! ```
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use peftbench::{
    objective::Prediction,
    task_library::{self, Row, TaskLibrary},
    weights,
};

/// Texts that rows repeat, so that every answer is known.
const TEXTS: usize = 64;
/// Rows of a call.
const CALL: usize = 512;
/// What memory may grow by between the first tenth and the end.
const GROWTH: f64 = 1.15;

/// Resident kilobytes of a process.
fn resident(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Memory at the first tenth and the largest after it, in kilobytes.
#[derive(Default)]
struct Memory {
    early: Option<f64>,
    largest: f64,
}

impl Memory {
    fn look(&mut self, pid: u32, done: f64) {
        let Some(now) = resident(pid) else { return };
        if done >= 0.1 {
            self.early.get_or_insert(now);
            self.largest = self.largest.max(now);
        }
    }

    fn check(&self, what: &str) {
        let early = self.early.unwrap_or(self.largest);
        println!(
            "{what}: {:.0} MB after a tenth, at most {:.0} MB after that",
            early / 1e3,
            self.largest / 1e3
        );
        assert!(self.largest <= GROWTH * early, "{what}: memory grows");
    }
}

/// The program in a folder of its own, offline.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env("PEFTBENCH_CACHE", folder.join("cache"))
        .env("HF_HOME", folder.join("hf"))
        .env("HF_HUB_OFFLINE", "1");
    command
}

/// Trains a method for so many steps; the folder of its weights and its record.
fn train(
    program: &Path,
    folder: &Path,
    method: &str,
    seed: u64,
    steps: usize,
) -> (PathBuf, serde_json::Value) {
    let backbone = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert");
    let output = command(program, folder)
        .args([
            "train",
            "reviews.csv",
            "--budget",
            "quick",
            "--json",
            "--out",
            "out",
            "--backbone",
        ])
        .arg(backbone)
        .args(["--method", method, "--seed", &seed.to_string()])
        .args([
            "--set",
            "recipe.batch=8",
            "--set",
            &format!("recipe.steps={steps}"),
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = record["id"].as_str().unwrap().to_owned();
    (folder.join("out/weights").join(id), record)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn text(i: usize) -> String {
    let words = ["good fine great", "bad poor awful", "the film was long"][i % 3];
    format!("{words} number {}", i % TEXTS)
}

fn row(task: &str, i: usize) -> Row {
    Row {
        task: task.to_owned(),
        text: text(i),
        pair: None,
        tokens: None,
    }
}

/// The logits of a class.
fn logits(answer: Prediction) -> Vec<f32> {
    match answer {
        Prediction::Class { logits, .. } => logits,
        other => panic!("{other:?}"),
    }
}

/// The logits of a task for every text, by itself.
fn known(library: &TaskLibrary, task: &str) -> Vec<Vec<f32>> {
    let rows: Vec<Row> = (0..3 * TEXTS).map(|i| row(task, i)).collect();
    library
        .predict(&rows)
        .into_iter()
        .map(|answer| logits(answer.unwrap().prediction))
        .collect()
}

/// Rows through the library while another thread adds, replaces and removes tasks.
fn library_soak(tasks: &BTreeMap<&str, PathBuf>, rows: usize) {
    let config = weights::read_config(&tasks["lora"]).unwrap();
    let library = task_library::open(&config, None, true).unwrap();
    for (name, folder) in tasks {
        library.add(name, folder).unwrap();
    }
    let mut expected: BTreeMap<&str, Vec<Vec<Vec<f32>>>> = tasks
        .keys()
        .map(|name| (*name, vec![known(&library, name)]))
        .collect();
    // What the changing task answers after it was replaced.
    library.add("adapter", &tasks["adapter again"]).unwrap();
    let second = known(&library, "adapter");
    expected.get_mut("adapter").unwrap().push(second);
    let (stop, changes, missing) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let names = ["lora", "adapter", "head_only", "prompt_tuning"];
    let mut memory = Memory::default();
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                library.add("adapter", &tasks["adapter"]).unwrap();
                library.add("another", &tasks["lora"]).unwrap();
                library.add("adapter", &tasks["adapter again"]).unwrap();
                library.remove("another");
                library.remove("prompt_tuning");
                thread::sleep(Duration::from_millis(5));
                library
                    .add("prompt_tuning", &tasks["prompt_tuning"])
                    .unwrap();
                changes.fetch_add(6, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        for from in (0..rows).step_by(CALL) {
            let call: Vec<Row> = (from..rows.min(from + CALL))
                .map(|i| row(names[i % names.len()], i))
                .collect();
            for (i, (row, answer)) in (from..).zip(call.iter().zip(library.predict(&call))) {
                match answer {
                    Ok(answer) => {
                        let (place, logits) = (i % (3 * TEXTS), logits(answer.prediction));
                        let right = expected[row.task.as_str()]
                            .iter()
                            .any(|e| e[place] == logits);
                        assert!(right, "row {i} of {}: {:?}", row.task, logits);
                    }
                    Err(error) => {
                        assert_eq!(row.task, "prompt_tuning", "row {i}: {error:#}");
                        missing.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            memory.look(std::process::id(), from as f64 / rows as f64);
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!(
        "library: {rows} rows in {:.0} s, every answer bit for bit as alone; {} changes of tasks, {} rows of a task that was \
         away",
        started.elapsed().as_secs_f64(),
        changes.into_inner(),
        missing.into_inner()
    );
    memory.check("library");
}

/// Rows through `predict --tasks` while the folders of tasks are replaced, added and removed on the disk.
fn command_soak(program: &Path, folder: &Path, tasks: &BTreeMap<&str, PathBuf>, rows: usize) {
    let all = folder.join("tasks");
    for name in ["lora", "adapter", "head_only"] {
        copy(&tasks[name], &all.join(name));
    }
    let mut child = command(program, folder)
        .args(["predict", "--tasks", "tasks"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    let mut input = BufWriter::new(child.stdin.take().unwrap());
    let output = BufReader::new(child.stdout.take().unwrap());
    let names = ["lora", "adapter", "head_only"];
    let started = Instant::now();
    let mut memory = Memory::default();
    let mut first: BTreeMap<(usize, usize), String> = BTreeMap::new();
    thread::scope(|scope| {
        scope.spawn(move || {
            for i in 0..rows {
                let (task, text) = (names[i % names.len()], text(i));
                writeln!(
                    input,
                    "{{\"id\":{i},\"task\":\"{task}\",\"text\":\"{text}\"}}"
                )
                .unwrap();
            }
        });
        let mut count = 0;
        for line in output.lines() {
            let line = line.unwrap();
            let i = count;
            count += 1;
            let answer = line
                .strip_prefix(&format!("{{\"id\":{i},"))
                .expect("answers are in the order of the rows");
            let same = first
                .entry((i % names.len(), i % (3 * TEXTS)))
                .or_insert_with(|| answer.to_owned());
            assert_eq!(same, answer, "row {i} has another answer than before");
            if i % 5_000 == 0 {
                memory.look(pid, i as f64 / rows as f64);
                // What lies in the folder now is not what was loaded.
                fs::remove_dir_all(all.join("adapter")).ok();
                copy(&tasks["adapter again"], &all.join("adapter"));
                fs::remove_dir_all(all.join("head_only")).ok();
                copy(&tasks["lora"], &all.join(format!("new-{}", i / 5_000 % 7)));
            }
        }
        assert_eq!(count, rows);
    });
    assert!(child.wait().unwrap().success());
    println!(
        "predict --tasks: {rows} rows in {:.0} s, the same text has the same answer throughout",
        started.elapsed().as_secs_f64()
    );
    memory.check("predict --tasks");
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().expect("soak PEFTBENCH [ROWS [STEPS]]");
    let program = fs::canonicalize(program).unwrap();
    let mut number = |default: usize| arguments.next().map_or(default, |n| n.parse().unwrap());
    let (rows, steps) = (number(1_000_000), number(10_000));
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let mut reviews = String::from("text,label\n");
    for i in 0..240 {
        reviews += &format!("{},{}\n", text(i), ["up", "down"][i % 2]);
    }
    fs::write(folder.join("reviews.csv"), reviews).unwrap();
    let mut tasks = BTreeMap::new();
    for (name, method, seed) in [
        ("lora", "lora", 0),
        ("adapter", "adapter", 0),
        ("adapter again", "adapter", 1),
        ("head_only", "head_only", 0),
        ("prompt_tuning", "prompt_tuning", 0),
    ] {
        tasks.insert(name, train(&program, folder, method, seed, 40).0);
    }
    library_soak(&tasks, rows);
    command_soak(&program, folder, &tasks, rows);

    let peak = |steps| {
        let started = Instant::now();
        let record = train(&program, folder, "lora", 7, steps).1;
        assert_eq!(record["status"]["is"], "ok");
        assert_eq!(record["outcome"]["loss"].as_array().unwrap().len(), steps);
        let peak = record["cost"]["peak_memory_bytes"].as_f64().unwrap();
        println!(
            "training: {steps} steps in {:.0} s, at most {:.0} MB",
            started.elapsed().as_secs_f64(),
            peak / 1e6
        );
        peak
    };
    let (short, long) = (peak(steps / 10), peak(steps));
    assert!(
        long <= GROWTH * short,
        "training: memory grows with the steps"
    );
}
