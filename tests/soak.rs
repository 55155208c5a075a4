//! Long use: many rows through the task library, `predict --tasks` and `serve` while tasks come and go, and a long training; answers
//! and memory are checked. `PEFTBENCH_SOAK="ROWS STEPS"` says how long (`just soak`); without it a few rows show that answers hold.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, BufWriter, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use peftbench::{
    objective::Prediction,
    task_library::{self, Row, TaskLibrary},
    weights,
};
use serde_json::{Value, json};

use crate::support::{Place, near, rounding};

/// Texts that rows repeat, so that every answer is known.
const TEXTS: usize = 192;
/// Rows of a call of the library, and of a request.
const CALL: usize = 128;
const REQUEST: usize = 8;
/// Requests after which answers repeat: so many rows hold every text for each of three tasks.
const REQUESTS: usize = TEXTS / REQUEST;
/// Callers of the service at the same time.
const CALLERS: usize = 4;
/// What memory may grow by between the first tenth and the end.
const GROWTH: f64 = 1.15;
/// The tasks that stay.
const STAYING: [&str; 3] = ["lora", "adapter", "head_only"];

/// Rows and steps; where nobody asks for many, too few to tell anything of memory.
fn length() -> (usize, usize) {
    let asked = std::env::var("PEFTBENCH_SOAK").unwrap_or_else(|_| "1536 60".to_owned());
    let mut numbers = asked.split_whitespace().map(|n| n.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Resident memory of a process at the first tenth and the largest after it, in kilobytes.
#[derive(Default)]
struct Memory {
    early: Option<f64>,
    largest: f64,
}

impl Memory {
    fn look(&mut self, pid: u32, done: f64) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let Some(now) = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse().ok()) else {
            return;
        };
        if done >= 0.1 {
            self.early.get_or_insert(now);
            self.largest = self.largest.max(now);
        }
    }

    fn check(&self, what: &str, rows: usize, begun: Instant) {
        let early = self.early.unwrap_or(self.largest);
        println!(
            "{what}: {rows} rows in {:.0} s, {:.0} MB after a tenth, at most {:.0} MB after that",
            begun.elapsed().as_secs_f64(),
            early / 1e3,
            self.largest / 1e3
        );
        assert!(
            rows < 10_000 || self.largest <= GROWTH * early,
            "{what}: memory grows"
        );
    }
}

/// A trained folder of each name.
fn tasks(place: &Place) -> BTreeMap<&'static str, PathBuf> {
    let of = |(name, method, seed): (&'static str, &str, &str)| {
        let folder = place.trained(method, &["--seed", seed]);
        (name, place.path().join(folder))
    };
    let all = [
        ("lora", "lora", "0"),
        ("adapter", "adapter", "0"),
        ("adapter again", "adapter", "1"),
        ("head_only", "head_only", "0"),
        ("prompt_tuning", "prompt_tuning", "0"),
    ];
    all.into_iter().map(of).collect()
}

/// Copies a folder's files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A folder of the tasks that stay.
fn served(place: &Place, tasks: &BTreeMap<&str, PathBuf>) -> PathBuf {
    let all = place.path().join("tasks");
    for name in STAYING {
        copy(&tasks[name], &all.join(name));
    }
    all
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
    let rows: Vec<Row> = (0..TEXTS).map(|i| row(task, i)).collect();
    let answers = library.predict(&rows).into_iter();
    answers
        .map(|answer| logits(answer.unwrap().prediction))
        .collect()
}

#[test]
fn rows_have_the_answers_of_their_task_alone_while_tasks_are_added_replaced_and_removed() {
    let (place, rows) = (Place::new(), length().0);
    let tasks = tasks(&place);
    let config = weights::read_config(&tasks["lora"]).unwrap();
    let library = task_library::open(&config, None, true).unwrap();
    for (name, folder) in &tasks {
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
    let names = ["lora", "adapter", "head_only", "prompt_tuning"];
    let (mut memory, begun, mut missing) = (Memory::default(), Instant::now(), 0);
    let mut changes = 0;
    thread::scope(|scope| {
        let answering = scope.spawn(|| {
            for from in (0..rows).step_by(CALL) {
                let call: Vec<Row> = (from..rows.min(from + CALL))
                    .map(|i| row(names[i % names.len()], i))
                    .collect();
                for (i, (row, answer)) in (from..).zip(call.iter().zip(library.predict(&call))) {
                    match answer {
                        Ok(answer) => {
                            let logits = logits(answer.prediction);
                            let mut known = expected[row.task.as_str()].iter();
                            let right = known.any(|e| e[i % TEXTS] == logits);
                            assert!(right, "row {i} of {}: {logits:?}", row.task);
                        }
                        Err(error) => {
                            assert_eq!(row.task, "prompt_tuning", "row {i}: {error:#}");
                            missing += 1;
                        }
                    }
                }
                memory.look(std::process::id(), from as f64 / rows as f64);
            }
        });
        while !answering.is_finished() {
            library.add("adapter", &tasks["adapter"]).unwrap();
            library.add("another", &tasks["lora"]).unwrap();
            library.add("adapter", &tasks["adapter again"]).unwrap();
            library.remove("another");
            library.remove("prompt_tuning");
            thread::sleep(Duration::from_millis(5));
            library
                .add("prompt_tuning", &tasks["prompt_tuning"])
                .unwrap();
            changes += 6;
            thread::sleep(Duration::from_millis(20));
        }
    });
    println!("library: {changes} changes of tasks, {missing} rows of a task that was away");
    memory.check("library", rows, begun);
}

#[test]
fn a_stream_of_rows_keeps_its_answers_while_the_folders_of_its_tasks_change() {
    let (place, rows) = (Place::new(), length().0);
    let tasks = tasks(&place);
    let all = served(&place, &tasks);
    let mut child = place
        .command(&["predict", "--tasks", "tasks"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = BufWriter::new(child.stdin.take().unwrap());
    let output = BufReader::new(child.stdout.take().unwrap());
    let (mut memory, begun) = (Memory::default(), Instant::now());
    let mut first: BTreeMap<usize, Value> = BTreeMap::new();
    let mut count = 0;
    thread::scope(|scope| {
        scope.spawn(move || {
            for i in 0..rows {
                let row = json!({ "id": i, "task": STAYING[i % 3], "text": text(i) });
                writeln!(input, "{row}").unwrap();
            }
        });
        for (i, line) in output.lines().enumerate() {
            let mut answer: Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert_eq!(answer["id"], i, "answers are in the order of the rows");
            answer["id"] = Value::Null;
            let before = first.entry(i % TEXTS).or_insert_with(|| answer.clone());
            let same = near(before, &answer, rounding());
            assert!(
                same,
                "row {i} has another answer than before: {answer}, {before}"
            );
            count += 1;
            if i % (rows / 40).max(1) == 0 {
                memory.look(child.id(), i as f64 / rows as f64);
                // What lies in the folder now is not what was loaded.
                fs::remove_dir_all(all.join("adapter")).ok();
                copy(&tasks["adapter again"], &all.join("adapter"));
                fs::remove_dir_all(all.join("head_only")).ok();
                copy(&tasks["lora"], &all.join(format!("new-{}", i % 7)));
            }
        }
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(count, rows);
    memory.check("predict --tasks", rows, begun);
}

/// A caller that keeps its connection.
struct Caller(BufReader<TcpStream>);

impl Caller {
    fn new(address: &str) -> Self {
        Self(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    /// The answer to a request of the rows from this one on.
    fn ask(&mut self, from: usize) -> Value {
        let rows: Vec<Value> = (from..from + REQUEST)
            .map(|i| json!({ "task": STAYING[i % 3], "text": text(i) }))
            .collect();
        let body = json!({ "rows": rows }).to_string();
        // In one piece: small ones would wait for each other's receipt.
        let length = body.len();
        let request = format!(
            "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut line, mut length) = (String::new(), 0);
        self.0.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            if let Some(found) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = found.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer).unwrap();
        serde_json::from_slice(&answer).unwrap()
    }
}

#[cfg(unix)]
#[test]
fn a_service_under_load_gives_every_caller_the_same_answers_whoever_leaves() {
    let (place, rows) = (Place::new(), length().0);
    served(&place, &tasks(&place));
    let mut child = place
        .command(&["serve", "--tasks", "tasks", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut address).unwrap();
    let address = address.trim().strip_prefix("http://").unwrap();
    let mut alone = Caller::new(address);
    let expected: Vec<Value> = (0..REQUESTS).map(|r| alone.ask(REQUEST * r)).collect();
    assert!(
        !expected
            .iter()
            .any(|answer| answer.to_string().contains("error"))
    );
    let each = rows / REQUEST / CALLERS;
    let (mut memory, begun, done) = (Memory::default(), Instant::now(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|c| {
                let (expected, done) = (&expected, &done);
                scope.spawn(move || {
                    let mut caller = Caller::new(address);
                    for r in 0..each {
                        let which = (r + c * REQUESTS / CALLERS) % REQUESTS;
                        let answer = caller.ask(REQUEST * which);
                        let same = near(&answer, &expected[which], rounding());
                        assert!(same, "request {r} of caller {c}: {answer}");
                        done.fetch_add(1, Ordering::Relaxed);
                        if r % 50 == 0 {
                            // Another one leaves in the middle of its request.
                            let mut other = TcpStream::connect(address).unwrap();
                            other
                                .write_all(
                                    b"POST /v1/predict HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{",
                                )
                                .unwrap();
                        }
                    }
                })
            })
            .collect();
        while !callers.iter().all(|caller| caller.is_finished()) {
            let part = done.load(Ordering::Relaxed) as f64 / (CALLERS * each) as f64;
            memory.look(child.id(), part);
            thread::sleep(Duration::from_millis(20));
        }
    });
    drop(alone);
    let mut kill = std::process::Command::new("kill");
    let killed = kill.args(["-TERM", &child.id().to_string()]).status();
    assert!(killed.unwrap().success() && child.wait().unwrap().success());
    memory.check("serve", CALLERS * each * REQUEST, begun);
}

#[test]
fn a_long_training_takes_no_more_memory_than_a_short_one() {
    let (place, steps) = (Place::new(), length().1);
    let peak = |steps: usize| {
        let (begun, setting) = (Instant::now(), format!("--set=recipe.steps={steps}"));
        let more = ["--method=lora", "--json", &setting];
        let record: Value = serde_json::from_str(&place.few_steps("train", &more)).unwrap();
        assert_eq!(record["status"]["is"], "ok");
        assert_eq!(record["outcome"]["loss"].as_array().unwrap().len(), steps);
        let peak = record["cost"]["peak_memory_bytes"].as_f64().unwrap();
        println!(
            "training: {steps} steps in {:.0} s, at most {:.0} MB",
            begun.elapsed().as_secs_f64(),
            peak / 1e6
        );
        peak
    };
    let (short, long) = (peak(steps / 10), peak(steps));
    assert!(long <= GROWTH * short, "memory grows with the steps");
}
