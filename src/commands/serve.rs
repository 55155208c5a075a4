//! `serve`: one backbone and many tasks behind HTTP, JSON in and out.
//!
//! A request is read by one of many threads and put into a queue. One thread predicts: it takes everything that has come since its
//! last pass, up to a batch, so that rows of all callers and tasks share a pass; the busier the service, the larger the batches,
//! and nobody waits for a batch to fill. A full queue refuses at once (503). The addresses and what they give: `docs/SERVING.md`.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io::Read,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use reports::format;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tiny_http::{Header, Method, Request, Response, Server};

use crate::{
    columns::Columns,
    measure,
    signals::Signals,
    task_library::{self, Row, TaskLibrary},
    texts::Texts,
};

/// How often a waiting thread looks whether it shall end.
const POLL: Duration = Duration::from_millis(100);
/// After so long without anything else to do, a stopping service leaves callers who are still sending.
const PATIENCE: Duration = Duration::from_secs(2);
/// Upper ends of the histogram of times, in seconds.
const BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// What is asked for.
pub struct Asked {
    /// Folder of folders of saved weights.
    pub tasks: PathBuf,
    /// The backbone; by default the one that the first task names.
    pub backbone: Option<String>,
    /// Whether the network is off.
    pub offline: bool,
    /// Where to listen.
    pub host: IpAddr,
    /// The port; 0 for any that is free.
    pub port: u16,
    /// Limits.
    pub limits: Limits,
}

/// What a caller may ask for.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Rows that share a pass at most.
    pub batch: usize,
    /// Requests that wait at most; more are refused.
    pub queue: usize,
    /// Bytes of a request at most.
    pub body: usize,
    /// Requests that are read and answered at the same time.
    pub callers: usize,
}

/// Rows of a request on their way to the backbone and back.
struct Job {
    rows: Vec<Row>,
    reply: SyncSender<Vec<Value>>,
}

/// What `/metrics` tells.
#[derive(Default)]
struct Counters {
    /// By status: 200, 4xx, 5xx.
    answered: [AtomicU64; 3],
    rows: AtomicU64,
    cut: AtomicU64,
    passes: AtomicU64,
    waiting: AtomicU64,
    /// Requests to predict by [`BUCKETS`], the last one of all.
    times: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
}

/// `serve`.
///
/// # Errors
/// If no task can be loaded, or the address cannot be used.
pub fn serve(asked: &Asked) -> Result<ExitCode> {
    let started = Instant::now();
    let signals = Signals::handle()?;
    let (library, unusable) =
        task_library::open_all(&asked.tasks, asked.backbone.as_deref(), asked.offline)?;
    for (name, error) in &unusable {
        eprintln!("note: task '{name}' cannot be used: {error}");
    }
    ensure!(
        !library.names().is_empty(),
        "{}: no task in it can be used",
        asked.tasks.display()
    );
    let address = SocketAddr::new(asked.host, asked.port);
    let server = Server::http(address).map_err(|e| {
        anyhow!("{address}: cannot be listened on: {e}; choose another --host or --port")
    })?;
    let place = server.server_addr();
    let tasks = format::plural(library.names().len(), "task");
    eprintln!(
        "{tasks} over {}, loaded in {}; stop with ctrl-C",
        library.loaded().name,
        format::seconds(started.elapsed().as_secs_f64())
    );
    // What a script waits for.
    say!("http://{place}")?;
    signals.flagged();
    let counters = Arc::new(Counters::default());
    let (sender, jobs) = sync_channel::<Job>(asked.limits.queue);
    let service = Service {
        library: &library,
        unusable: &unusable,
        columns: Columns::of(&[], None, true)?,
        counters: &counters,
        limits: asked.limits,
    };
    leave_slow_callers(signals.flag(), Arc::clone(&counters));
    thread::scope(|scope| {
        let callers: Vec<_> = (0..asked.limits.callers)
            .map(|_| {
                let (sender, service, server, signals) =
                    (sender.clone(), &service, &server, &signals);
                scope.spawn(move || {
                    while !signals.load(Ordering::Relaxed) {
                        if let Ok(Some(request)) = server.recv_timeout(POLL) {
                            service.answer(request, &sender);
                        }
                    }
                })
            })
            .collect();
        drop(sender);
        // Ends when the last caller has its answer.
        let worker = &service;
        scope.spawn(move || worker.work(&jobs));
        for caller in callers {
            caller.join().ok();
        }
    });
    counters.say_end();
    Ok(ExitCode::SUCCESS)
}

/// Ends a service that was stopped when all that is left are callers who are not done sending: they could hold it for ever.
fn leave_slow_callers(stop: Arc<AtomicBool>, counters: Arc<Counters>) {
    thread::spawn(move || {
        let mut idle = Duration::ZERO;
        while idle < PATIENCE {
            thread::sleep(POLL);
            let busy = counters.waiting.load(Ordering::Relaxed) > 0;
            idle = match stop.load(Ordering::Relaxed) && !busy {
                true => idle + POLL,
                false => Duration::ZERO,
            };
        }
        eprintln!("note: a caller who was still sending is left without an answer");
        counters.say_end();
        std::process::exit(0);
    });
}

struct Service<'a> {
    library: &'a TaskLibrary,
    /// Tasks that could not be loaded, and why.
    unusable: &'a BTreeMap<String, String>,
    columns: Columns,
    counters: &'a Counters,
    limits: Limits,
}

/// A request to predict.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Predict {
    /// The task of rows that name none.
    #[serde(default)]
    task: Option<String>,
    rows: Vec<Value>,
}

/// What a row of a request may be.
const ACCEPTED: &str =
    "TEXT or {\"text\": …, \"pair\": …, \"task\": …} or {\"tokens\": [WORD, …], \"task\": …}";

/// An answer: status, kind of content, content.
type Answer = (u16, &'static str, String);

fn refusal(status: u16, message: impl std::fmt::Display) -> Answer {
    let text = json!({ "error": message.to_string() }).to_string();
    (status, "application/json", text)
}

impl Service<'_> {
    fn answer(&self, mut request: Request, jobs: &SyncSender<Job>) {
        let url = request
            .url()
            .split('?')
            .next()
            .unwrap_or_default()
            .to_owned();
        let (status, kind, text) = match (request.method(), url.as_str()) {
            (Method::Post, "/v1/predict") => {
                let began = Instant::now();
                let answer = self.predict(&mut request, jobs);
                self.counters.time(began.elapsed());
                answer
            }
            (Method::Get, "/v1/tasks") => (200, "application/json", self.tasks().to_string()),
            (Method::Get, "/health") => {
                let told = json!({ "status": "ok", "tasks": self.library.names().len() });
                (200, "application/json", told.to_string())
            }
            (Method::Get, "/metrics") => (
                200,
                "text/plain; version=0.0.4",
                self.counters.text(self.library),
            ),
            (_, "/v1/predict" | "/v1/tasks" | "/health" | "/metrics") => {
                refusal(405, "POST /v1/predict; GET /v1/tasks, /health, /metrics")
            }
            _ => refusal(
                404,
                "there are POST /v1/predict; GET /v1/tasks, /health, /metrics",
            ),
        };
        let class = match status {
            200..300 => 0,
            400..500 => 1,
            _ => 2,
        };
        self.counters.answered[class].fetch_add(1, Ordering::Relaxed);
        let mut response = Response::from_string(text).with_status_code(status);
        let headers = [
            Some(("Content-Type", kind)),
            (status == 503).then_some(("Retry-After", "1")),
        ];
        for (name, value) in headers.into_iter().flatten() {
            if let Ok(header) = Header::from_bytes(name, value) {
                response.add_header(header);
            }
        }
        // A caller who left wants no answer.
        request.respond(response).ok();
    }

    fn predict(&self, request: &mut Request, jobs: &SyncSender<Job>) -> Answer {
        let most = self.limits.body;
        let too_large = || refusal(413, format!("a request may have {most} bytes at most"));
        if request.body_length().is_some_and(|n| n > most) {
            return too_large();
        }
        let mut body = Vec::new();
        let read = request
            .as_reader()
            .take(most as u64 + 1)
            .read_to_end(&mut body);
        if read.is_err() {
            return refusal(400, "the request ended early");
        }
        if body.len() > most {
            return too_large();
        }
        let asked: Predict = match serde_json::from_slice(&body) {
            Ok(asked) => asked,
            Err(e) => {
                return refusal(
                    400,
                    format!(
                        "{e}; expected {{\"task\": NAME, \"rows\": [ROW, …]}}, each row {ACCEPTED}"
                    ),
                );
            }
        };
        // Of a single task nobody has to say the name.
        let names = self.library.names();
        let only = match names.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        };
        let default = asked.task.or(only);
        let rows = asked.rows.into_iter().enumerate().map(|(i, row)| {
            let mut fields = match row {
                Value::String(text) => Map::from_iter([("text".to_owned(), text.into())]),
                Value::Object(fields) => fields,
                other => return Err(format!("row {i} is {other}; accepted: {ACCEPTED}")),
            };
            if fields.get("task").is_none_or(Value::is_null) {
                let task = default.clone().ok_or_else(|| {
                    format!("row {i} names no task; there are: {}", names.join(", "))
                })?;
                fields.insert("task".to_owned(), task.into());
            }
            let (further, row) = self.columns.take(fields, Some(self.unusable));
            match further.keys().next() {
                Some(name) => Err(format!(
                    "row {i} has '{name}', which is not read; accepted: {ACCEPTED}"
                )),
                None => Ok(row),
            }
        });
        let rows: Vec<Result<Row>> = match rows.collect::<Result<_, String>>() {
            Ok(rows) => rows,
            Err(message) => return refusal(400, message),
        };
        // A row that is at fault is answered with its fault, the others by the backbone.
        let (mut faults, mut sound) = (Vec::new(), Vec::new());
        let mut texts = Texts::default();
        for row in rows {
            if let Ok(row) = &row {
                let pairs = self
                    .library
                    .get(&row.task)
                    .and_then(|task| task.config().pairs);
                texts.row(row.pair.is_some(), pairs);
            }
            faults.push(row.map(|row| sound.push(row)).err());
        }
        let (reply, answers) = sync_channel(1);
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = jobs.try_send(Job { rows: sound, reply });
        let answer = match sent {
            Ok(()) => match answers.recv() {
                Ok(found) => {
                    texts.cut = found.iter().filter(|answer| answer["cut"] == true).count();
                    let mut found = found.into_iter();
                    let answers = faults.into_iter().map(|fault| match fault {
                        Some(fault) => json!({ "error": format!("{fault:#}") }),
                        None => {
                            let lost = || json!({ "error": "the row was not answered" });
                            found.next().unwrap_or_else(lost)
                        }
                    });
                    let mut told = json!({ "predictions": answers.collect::<Vec<_>>() });
                    let notes = texts.notes(None);
                    if !notes.is_empty() {
                        told["notes"] = notes.into();
                    }
                    (200, "application/json", told.to_string())
                }
                Err(_) => refusal(500, "the rows were not answered"),
            },
            Err(TrySendError::Full(_)) => refusal(503, "too many requests wait; ask again later"),
            Err(TrySendError::Disconnected(_)) => refusal(503, "the service is stopping"),
        };
        self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// Predicts what comes until nobody can ask any more.
    fn work(&self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut taken = vec![first];
            let count = |jobs: &[Job]| jobs.iter().map(|job| job.rows.len()).sum::<usize>();
            while count(&taken) < self.limits.batch
                && let Ok(job) = jobs.try_recv()
            {
                taken.push(job);
            }
            let rows: Vec<Row> = taken.iter().flat_map(|job| job.rows.clone()).collect();
            // Whoever asks next wants an answer, whatever these rows have done.
            let found = catch_unwind(AssertUnwindSafe(|| self.library.predict(&rows)));
            let found = found.unwrap_or_else(|_| {
                let lost = || Err(anyhow!("the pass that this row was in failed"));
                rows.iter().map(|_| lost()).collect()
            });
            let cut = found.iter().flatten().filter(|answer| answer.cut).count();
            let mut answers = found.into_iter().map(|answer| {
                answer
                    .and_then(|found| Ok(serde_json::to_value(found)?))
                    .unwrap_or_else(|e| json!({ "error": format!("{e:#}") }))
            });
            self.counters
                .rows
                .fetch_add(rows.len() as u64, Ordering::Relaxed);
            self.counters.cut.fetch_add(cut as u64, Ordering::Relaxed);
            self.counters.passes.fetch_add(1, Ordering::Relaxed);
            for job in taken {
                let own = answers.by_ref().take(job.rows.len()).collect();
                // A caller who left wants no answer.
                job.reply.send(own).ok();
            }
        }
    }

    fn tasks(&self) -> Value {
        let one = |name: String| {
            let task = self.library.get(&name)?;
            let config = task.config();
            Some(json!({
                "task": name, "method": config.method, "objective": config.objective.name(),
                "labels": config.labels, "pairs": config.pairs, "max_tokens": config.max_tokens,
                "resident_bytes": task.resident_bytes(),
            }))
        };
        self.library.names().into_iter().filter_map(one).collect()
    }
}

impl Counters {
    fn say_end(&self) {
        let of = |value: &AtomicU64| value.load(Ordering::Relaxed) as usize;
        eprintln!(
            "stopped: {}, {} answered",
            format::plural(of(&self.answered[0]), "request"),
            format::plural(of(&self.rows), "row")
        );
    }

    fn time(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (bucket, end) in self.times.iter().zip(BUCKETS) {
            if seconds <= end {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.times[BUCKETS.len()].fetch_add(1, Ordering::Relaxed);
        let microseconds = took.as_micros().try_into().unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// In Prometheus' text format.
    fn text(&self, library: &TaskLibrary) -> String {
        let mut text = String::new();
        let mut add = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
            write!(
                text,
                "# HELP peftbench_{name} {help}\n# TYPE peftbench_{name} {kind}\n"
            )
            .ok();
            for (labels, value) in samples {
                writeln!(text, "peftbench_{name}{labels} {value}").ok();
            }
        };
        let of = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
        let plain = |value: f64| [(String::new(), value)];
        let classes = ["2xx", "4xx", "5xx"].iter().zip(&self.answered);
        let classes: Vec<_> = classes
            .map(|(class, n)| (format!("{{code=\"{class}\"}}"), of(n)))
            .collect();
        add("requests_total", "counter", "Requests answered.", &classes);
        add(
            "rows_total",
            "counter",
            "Rows predicted.",
            &plain(of(&self.rows)),
        );
        add(
            "texts_cut_total",
            "counter",
            "Rows whose text was longer than its task reads.",
            &plain(of(&self.cut)),
        );
        add(
            "passes_total",
            "counter",
            "Passes through the backbone.",
            &plain(of(&self.passes)),
        );
        add(
            "waiting",
            "gauge",
            "Requests to predict that are under way.",
            &plain(of(&self.waiting)),
        );
        add(
            "tasks",
            "gauge",
            "Tasks loaded.",
            &plain(library.names().len() as f64),
        );
        let memory = measure::peak_memory().map(|bytes| (String::new(), bytes as f64));
        add(
            "peak_memory_bytes",
            "gauge",
            "Peak resident memory.",
            memory.as_slice(),
        );
        let name = "request_seconds";
        write!(text, "# HELP peftbench_{name} Time of a request to predict.\n# TYPE peftbench_{name} histogram\n").ok();
        for (bucket, end) in self.times.iter().zip(BUCKETS) {
            writeln!(
                text,
                "peftbench_{name}_bucket{{le=\"{end}\"}} {}",
                of(bucket)
            )
            .ok();
        }
        let all = of(&self.times[BUCKETS.len()]);
        writeln!(text, "peftbench_{name}_bucket{{le=\"+Inf\"}} {all}").ok();
        writeln!(
            text,
            "peftbench_{name}_sum {}",
            of(&self.microseconds) / 1e6
        )
        .ok();
        writeln!(text, "peftbench_{name}_count {all}").ok();
        text
    }
}
