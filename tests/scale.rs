//! Many runs over many nodes with failures, in virtual time: real plan file, claims, records, `status` and `report`; what
//! trains is played. `just scale-plan` makes the large one and prints its table.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use peftbench::{
    execute::{
        claim::{self, Beat, Claim, Claimed, Claims, PATIENCE},
        plan_file::{self, Line},
        planned::Planned,
        submit,
    },
    folders,
    plan::{DataChoice, RunPlan, Trial},
    train::recipe::RecipeChoice,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use record::{RunRecord, Status, answers, store};
use serde_json::Value;

use crate::{
    sample::{realistic, twenty},
    support::Place,
};

/// How large, and what goes wrong.
struct World {
    datasets: usize,
    methods: usize,
    seeds: u64,
    nodes: usize,
    /// Of these the last ones are workers that take whatever nobody makes; the others are a scheduler's.
    workers: usize,
    /// Share of tasks that are killed in the midst of a run, once each.
    killed: f64,
    /// Share of nodes that are lost for good.
    lost: f64,
    /// Virtual seconds in which no record can be written.
    full_disk: std::ops::Range<u64>,
    /// Longest virtual seconds that an operation on the folder takes.
    slow: f64,
}

/// Virtual seconds before a scheduler starts a task again.
const REQUEUE: u64 = 120;
/// Virtual seconds between two looks at a run that somebody else makes.
const LOOK: u64 = 20;
/// Virtual seconds between two heartbeats: rarer than real ones, and late, as on a slow file system.
const BEAT: u64 = 60;

/// What happened.
#[derive(Debug, Default)]
struct Told {
    runs: usize,
    tasks: usize,
    killed: usize,
    nodes_lost: usize,
    /// Tasks that were queued again because their node was lost.
    requeued_after_loss: usize,
    /// Runs in whose midst a node was lost, and that another node made.
    taken_over_after_loss: usize,
    disk_full: usize,
    begun: usize,
    ended: usize,
    twice: usize,
    waited: usize,
    virtual_hours: f64,
    seconds: f64,
}

struct Simulation {
    world: World,
    folder: PathBuf,
    records: PathBuf,
    lines: Vec<Line>,
    runs: BTreeMap<String, RunRecord>,
    now: Arc<AtomicU64>,
    rng: ChaCha8Rng,
    events: BinaryHeap<Reverse<(u64, usize, Event)>>,
    queue: VecDeque<usize>,
    nodes: Vec<Node>,
    per_task: usize,
    /// Tasks that are still to be killed, by how many steps from now on.
    doomed: BTreeSet<usize>,
    told: Told,
    /// Runs in whose midst a node was lost, with the claim it held.
    orphans: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A node does its next step, unless it has begun another task since.
    Step { node: usize, turn: u64 },
    /// A task is queued again.
    Queue { task: usize },
    /// A node is lost.
    Lose { node: usize },
}

struct Node {
    claims: Claims,
    task: Option<usize>,
    left: VecDeque<usize>,
    run: Option<Running>,
    turn: u64,
    lost: bool,
    worker: bool,
}

struct Running {
    line: usize,
    claim: Claim,
    begun: u64,
    until: u64,
}

impl Simulation {
    /// Writes the plan file of a world.
    fn new(world: World, folder: &Path) -> Self {
        let out = folder.join("out");
        let mut runs = BTreeMap::new();
        let mut planned = Vec::new();
        for seed in 0..world.seeds {
            for dataset in 0..world.datasets {
                for method in &twenty()[..world.methods] {
                    let record = run(method, seed, dataset);
                    planned.push(plan(&record, &out));
                    runs.insert(record.id.clone(), record);
                }
            }
        }
        let file = plan_file::write(&folder.join("plan"), &planned).unwrap();
        let lines = plan_file::read(&file).map_err(anyhow::Error::from).unwrap();
        let seconds: Vec<f64> = planned
            .iter()
            .map(|p| runs[&p.id].cost.as_ref().unwrap().training_seconds)
            .collect();
        let per_task = submit::packed(&seconds, 900.0);
        let now = Arc::new(AtomicU64::new(0));
        let mut rng = datasets::stream(7, "failures");
        let nodes = (0..world.nodes).map(|n| {
            // No two clocks agree, by up to ten minutes.
            let (clock, skew) = (Arc::clone(&now), rng.random_range(0..600));
            Node {
                claims: Claims::simulated(format!("node{n}"), move || {
                    Duration::from_secs(clock.load(Ordering::Relaxed) + skew)
                }),
                task: None,
                left: VecDeque::new(),
                run: None,
                turn: 0,
                lost: false,
                worker: n >= world.nodes - world.workers,
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        let tasks = lines.len().div_ceil(per_task);
        let mut simulation = Self {
            records: folders::records_folder(&out),
            folder: folder.to_owned(),
            told: Told {
                runs: lines.len(),
                tasks,
                ..Told::default()
            },
            doomed: (0..tasks)
                .filter(|_| rng.random::<f64>() < world.killed)
                .collect(),
            queue: (0..tasks).collect(),
            events: BinaryHeap::new(),
            lines,
            runs,
            now,
            nodes,
            per_task,
            rng,
            world,
            orphans: Vec::new(),
        };
        // Five minutes into the work, one after the other.
        let lost = (simulation.world.lost * simulation.world.nodes as f64).round() as usize;
        for k in 0..lost {
            let node = k * simulation.world.nodes / lost.max(1);
            simulation.at(300 + 60 * k as u64, Event::Lose { node });
        }
        simulation
    }

    fn at(&mut self, time: u64, event: Event) {
        let order = self.events.len();
        self.events.push(Reverse((time, order, event)));
    }

    fn time(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn delay(&mut self) -> u64 {
        (self.rng.random::<f64>() * self.world.slow) as u64
    }

    /// Until every run has a whole record; `half` is called once half of them have one.
    fn make_all(&mut self, half: &mut dyn FnMut(&Self)) {
        let begun = Instant::now();
        for node in 0..self.nodes.len() {
            self.next_task(node);
        }
        let mut looked = false;
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            self.now.store(time, Ordering::Relaxed);
            match event {
                Event::Queue { task } => {
                    self.queue.push_back(task);
                    self.wake();
                }
                Event::Lose { node } => {
                    self.told.nodes_lost += 1;
                    let n = &mut self.nodes[node];
                    n.lost = true;
                    self.told.requeued_after_loss += usize::from(n.task.is_some());
                    if let Some(run) = &n.run {
                        let id = self.lines[run.line].id.clone();
                        self.orphans.push((id, run.claim.nonce().to_owned()));
                    }
                    self.die(node);
                }
                Event::Step { node, turn } if self.nodes[node].turn == turn => self.step(node),
                Event::Step { .. } => {}
            }
            if !looked && self.told.ended >= self.told.runs / 2 {
                looked = true;
                half(self);
            }
        }
        for (id, nonce) in &self.orphans {
            let record = store::find(&self.records, id).unwrap().unwrap();
            let other = record.circumstances.claim.as_ref() != Some(nonce);
            self.told.taken_over_after_loss += usize::from(record.status == Status::Ok && other);
        }
        self.told.virtual_hours = self.time() as f64 / 3600.0;
        self.told.seconds = begun.elapsed().as_secs_f64();
    }

    /// Idle nodes of the scheduler take what is queued.
    fn wake(&mut self) {
        let idle = |n: &Node| !n.lost && !n.worker && n.task.is_none();
        if let Some(node) = self.nodes.iter().position(idle) {
            self.next_task(node);
        }
    }

    fn next_task(&mut self, node: usize) {
        let all = self.lines.len();
        let n = &mut self.nodes[node];
        if n.lost {
            return;
        }
        if n.worker {
            // As `work` does: all runs, beginning anywhere.
            let first = self.rng.random_range(0..all);
            n.left = (first..all).chain(0..first).collect();
        } else {
            let Some(task) = self.queue.pop_front() else {
                n.task = None;
                return;
            };
            n.task = Some(task);
            let first = task * self.per_task;
            n.left = (first..(first + self.per_task).min(all)).collect();
        }
        n.turn += 1;
        let (turn, time) = (n.turn, self.time() + self.delay());
        self.at(time, Event::Step { node, turn });
    }

    /// The node's process ends without a word: its claim stays, and nobody beats for it.
    fn die(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        n.turn += 1;
        if let Some(run) = n.run.take() {
            std::mem::forget(run.claim);
        }
        if let Some(task) = n.task.take() {
            let time = self.time() + REQUEUE;
            self.at(time, Event::Queue { task });
        }
    }

    fn step(&mut self, node: usize) {
        let time = self.time();
        let turn = self.nodes[node].turn;
        let next = match self.nodes[node].run.take() {
            Some(run) if time < run.until => {
                self.beat(node, run);
                return;
            }
            Some(run) => match self.end(run) {
                Some(delay) => time + delay,
                None => {
                    // Its exit code asks for another try.
                    let n = &mut self.nodes[node];
                    n.turn += 1;
                    match n.task.take() {
                        Some(task) => self.at(time + REQUEUE, Event::Queue { task }),
                        None => {
                            let turn = n.turn;
                            self.at(time + REQUEUE, Event::Step { node, turn });
                            return;
                        }
                    }
                    self.next_task(node);
                    return;
                }
            },
            None => time,
        };
        let Some(line) = self.nodes[node].left.pop_front() else {
            if !self.nodes[node].worker {
                self.nodes[node].task = None;
                self.next_task(node);
            }
            return;
        };
        let id = self.lines[line].id.clone();
        match self.nodes[node].claims.take(&self.records, &id).unwrap() {
            None => self.at(next, Event::Step { node, turn }),
            Some(Claimed::Other(_)) => {
                self.told.waited += 1;
                // Others first, as long as there are any.
                self.nodes[node].left.push_back(line);
                let alone = self.nodes[node].left.len() < 10;
                self.at(
                    next + if alone { LOOK } else { 1 },
                    Event::Step { node, turn },
                );
            }
            Some(Claimed::Own(claim)) => {
                self.told.begun += 1;
                let seconds = self.runs[&id].cost.as_ref().unwrap().training_seconds as u64;
                let begun = next + self.delay();
                self.nodes[node].run = Some(Running {
                    line,
                    claim,
                    begun,
                    until: begun + seconds + 10,
                });
                self.at(begun + 1, Event::Step { node, turn });
            }
        }
    }

    /// A run goes on, if its task is not killed now.
    fn beat(&mut self, node: usize, run: Running) {
        let time = self.time();
        let n = &mut self.nodes[node];
        let turn = n.turn;
        if n.task.is_some_and(|task| self.doomed.remove(&task)) {
            self.told.killed += 1;
            n.run = Some(run);
            self.die(node);
            self.next_task(node);
            return;
        }
        let seconds = (time - run.begun) as f64;
        let share = seconds / (run.until - run.begun) as f64;
        let beat = Beat {
            seconds,
            step: (500.0 * share) as usize,
            steps: 500,
            examples_per_second: 400.0,
        };
        claim::beat(&run.claim, beat).unwrap();
        let late = self.delay();
        assert!(BEAT + late < PATIENCE.as_secs());
        self.at(
            (time + BEAT + late).min(run.until),
            Event::Step { node, turn },
        );
        self.nodes[node].run = Some(run);
    }

    /// A run's record is written and its claim given back; `None` if that failed.
    fn end(&mut self, run: Running) -> Option<u64> {
        let record = &self.runs[&self.lines[run.line].id];
        if self.world.full_disk.contains(&self.time()) {
            // A file stands where the folder should be made: the write fails as on a full disk.
            let no_folder = self.folder.join("plan").join(plan_file::NAME);
            store::write(&no_folder, record).unwrap_err();
            self.told.disk_full += 1;
            return None;
        }
        let mut record = record.clone();
        record.circumstances.claim = Some(run.claim.nonce().to_owned());
        self.told.ended += 1;
        self.told.twice += usize::from(!store::write(&self.records, &record).unwrap());
        drop(run.claim);
        Some(self.delay())
    }
}

/// A run with numbers as real ones have them.
fn run(method: &str, seed: u64, dataset: usize) -> RunRecord {
    let mut rng = datasets::stream(seed, &format!("logits {dataset}"));
    realistic(method, seed)
        .with(|r| {
            r.asked.dataset.name = format!("data{dataset}");
            r.asked.dataset.digest = format!("{dataset:064}");
            let outcome = r.outcome.as_mut().unwrap();
            let predictions = &mut outcome.predictions;
            let mut scaled = |x: &f32| x * (0.5 + 2.0 * rng.random::<f32>());
            let rows = predictions.logits.iter();
            predictions.logits = rows
                .map(|row| row.iter().map(&mut scaled).collect())
                .collect();
            // As every evaluation of a real run keeps them.
            for evaluation in &mut outcome.evaluations {
                evaluation.predicted = answers::write(&outcome.predictions.labels, 2);
            }
        })
        .record()
}

fn plan(record: &RunRecord, out: &Path) -> Planned {
    Planned {
        operations: 0.0,
        plan: RunPlan {
            data: DataChoice {
                name: record.asked.dataset.name.clone(),
                options: Default::default(),
                stand_in: false,
                stand_in_for: None,
            },
            backbone: "minilm".into(),
            backbone_settings: Default::default(),
            trial: Trial::of(&record.asked.method.name).unwrap(),
            recipe: RecipeChoice::new("standard", &BTreeMap::new()).unwrap(),
            seed: record.asked.seed,
            offline: true,
            out: out.to_owned(),
            keep_weights: false,
        },
        asked: record.asked.clone(),
        id: record.id.clone(),
        label: record.asked.method.name.clone(),
    }
}

/// Runs the command; what it printed, its seconds, and its largest memory in bytes where the system tells.
fn measured(place: &Place, arguments: &[&str]) -> (String, f64, Option<u64>) {
    let begun = Instant::now();
    let mut command: Command = place.command(arguments);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let watch = std::thread::spawn(move || {
        let mut most = None;
        while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
            let line = status
                .lines()
                .find_map(|l| l.strip_prefix("VmHWM:"))
                .map(str::trim);
            let Some(kib) = line.and_then(|l| l.strip_suffix(" kB")?.parse::<u64>().ok()) else {
                break;
            };
            most = most.max(Some(1024 * kib));
            std::thread::sleep(Duration::from_millis(10));
        }
        most
    });
    let printed = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    assert!(child.wait().unwrap().success());
    (printed, seconds, watch.join().unwrap())
}

/// Makes a world and checks that nothing was lost and nothing made twice.
fn simulate(world: World) -> (Told, String) {
    let place = Place::new();
    let mut simulation = Simulation::new(world, place.path());
    let mut told_at_half = String::new();
    simulation.make_all(&mut |simulation| {
        let (status, seconds, _) = measured(&place, &["status", "plan", "--json"]);
        let status: Value = serde_json::from_str(&status).unwrap();
        let done = status["counts"]["done"].as_u64().unwrap() as usize;
        assert_eq!(done, simulation.told.ended - simulation.told.twice);
        assert!(status["remaining_seconds"].as_f64().unwrap() > 0.0);
        told_at_half = format!("{seconds:.2} s");
    });
    let told = simulation.told;
    assert_eq!(
        told.taken_over_after_loss,
        simulation.orphans.len(),
        "every run of a lost node is made by another one: {told:?}"
    );

    let heads = store::heads(&simulation.records).unwrap();
    assert_eq!(heads.len(), told.runs, "nothing is lost");
    assert!(
        told.tasks > 0 && told.virtual_hours > 0.0 && told.seconds > 0.0,
        "{told:?}"
    );
    assert!(heads.iter().all(|head| head.status == Status::Ok));
    assert_eq!(
        (told.ended, told.twice),
        (told.runs, 0),
        "nothing is run twice to its end: {told:?}"
    );
    let files = fs::read_dir(&simulation.records).unwrap();
    assert_eq!(
        files.count(),
        told.runs + 1,
        "records and the folder's mark: no claim and nothing temporary is left"
    );

    let (printed, status_seconds, _) = measured(&place, &["status", "plan"]);
    assert!(
        printed.contains(&format!("{} done", told.runs)),
        "{printed}"
    );
    let (_, report_seconds, memory) = measured(&place, &["report", "--records", "out", "--json"]);
    let bytes: u64 = fs::read_dir(&simulation.records)
        .unwrap()
        .map(|f| f.unwrap().metadata().unwrap().len())
        .sum();
    let table = format!(
        "{told:#?}\nrecords: {:.0} MB\nstatus, half of the runs done: {told_at_half}\nstatus, all done: {status_seconds:.2} s\n\
         report: {report_seconds:.1} s, {} MB\n",
        bytes as f64 / 1e6,
        memory.map_or_else(|| "?".to_owned(), |bytes| (bytes / 1_000_000).to_string()),
    );
    (told, table)
}

/// Sixty-four runs over eight nodes; with PEFTBENCH_SCALE ten thousand over two hundred, which takes minutes.
fn world() -> World {
    match std::env::var_os("PEFTBENCH_SCALE") {
        None => World {
            datasets: 2,
            methods: 4,
            seeds: 8,
            nodes: 8,
            workers: 2,
            killed: 0.3,
            lost: 0.25,
            full_disk: 600..900,
            slow: 60.0,
        },
        Some(_) => World {
            datasets: 20,
            methods: 10,
            seeds: 50,
            nodes: 200,
            workers: 20,
            killed: 0.02,
            lost: 0.01,
            full_disk: 1200..1800,
            slow: 60.0,
        },
    }
}

#[test]
fn of_runs_over_failing_nodes_none_is_lost_and_none_made_twice() {
    let (told, table) = simulate(world());
    println!("{table}");
    // The failures took place.
    assert!(
        told.killed > 0 && told.disk_full > 0 && told.waited > 0,
        "{table}"
    );
    assert_eq!(told.nodes_lost, 2);
    assert!(
        told.requeued_after_loss > 0 && told.taken_over_after_loss > 0,
        "{table}"
    );
    let died = told.begun - told.runs - told.disk_full;
    assert!(
        (told.killed..=told.killed + told.nodes_lost).contains(&died),
        "{table}"
    );
}
