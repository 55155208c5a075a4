//! Latency that can be believed: every variant in turn, over the same batches, in one process.
//!
//! A **cell** is a batch size and a length in tokens, or real sentences. In each cell the contenders take turns,
//! a different one first each time, so that a change of the machine's speed hits all alike; the bare backbone takes part
//! twice, and what it differs from itself by is the noise floor (see [`reports::latency`]). A pass is the one that
//! prediction makes ([`mixed_logits`]): packed batch, backbone with hooks, head. The first eighth of the passes (at least
//! one) is warm-up.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use backbone::{Backbone, Batch, Cache};
use datasets::Encoded;
use methods::{HeadOnly, PeftMethod};
use rand::Rng;
use record::Latency;
use reports::latency::{BACKBONE, BACKBONE_AGAIN};

use crate::{
    prepare::LoadedBackbone,
    task_library::{Part, mixed_logits},
    train::{
        head::Head,
        model::{batch_of, shared_tokens},
    },
    weights::{self, Task},
};

/// Numbers of tasks that share a mixed batch.
const TASKS: [usize; 2] = [4, 16];
/// Timed passes that each contender makes at least.
const LEAST: usize = 5;

/// How long a cell is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Time for all contenders together, warm-up included.
    pub budget: Duration,
    /// Timed passes that each contender makes at most.
    pub most: usize,
}

/// Batch sizes of what a run records, over real sentences, each with its effort: a few seconds in all. The full grid of
/// lengths belongs to the `latency` command.
const RECORDED: [(usize, Effort); 3] = [
    (1, effort(2000, 128)),
    (8, effort(600, 32)),
    (32, effort(900, 16)),
];

/// The same for the runs of a method that follow.
const AGAIN: [(usize, Effort); 1] = [(1, effort(400, 24))];

/// What a run records. Larger batches and the tail of one sentence are timed once per method, by the run of the first seed whose
/// weights are kept: no seed changes them. The median of one sentence is timed by all, for an interval over processes.
pub fn recorded(first: bool) -> &'static [(usize, Effort)] {
    match first {
        true => &RECORDED,
        false => &AGAIN,
    }
}

const fn effort(milliseconds: u64, most: usize) -> Effort {
    Effort {
        budget: Duration::from_millis(milliseconds),
        most,
    }
}

/// One variant of one method: how it runs.
pub struct Contender<'a> {
    /// As in [`Latency::variant`].
    pub variant: String,
    /// The backbone it runs over.
    pub backbone: Backbone,
    /// The tasks that a batch is divided among.
    pub tasks: Vec<(&'a dyn PeftMethod, &'a Head)>,
    /// What all texts begin with, read beforehand, and how many tokens it is; only of one task.
    pub prefix: Option<(Cache, usize)>,
}

impl<'a> Contender<'a> {
    /// Tasks over a backbone, with nothing read beforehand.
    pub fn new(
        variant: impl Into<String>,
        backbone: &Backbone,
        tasks: Vec<(&'a dyn PeftMethod, &'a Head)>,
    ) -> Self {
        Self {
            variant: variant.into(),
            backbone: backbone.clone(),
            tasks,
            prefix: None,
        }
    }

    fn run(&self, batch: &Batch) -> backbone::Result<()> {
        if let (Some((prefix, n)), [(method, head)]) = (&self.prefix, &self.tasks[..]) {
            let pooled = self
                .backbone
                .pooled_behind(prefix, &batch.behind(*n)?, *method)?;
            kernels::without_gradients(|| head.forward(&pooled)?.to_vec2::<f32>())?;
            return Ok(());
        }
        let (examples, n) = (batch.spans().count(), self.tasks.len());
        let parts: Vec<Part<'_>> = self
            .tasks
            .iter()
            .enumerate()
            .map(|(i, (method, head))| Part {
                method: *method,
                head,
                examples: (i + 1) * examples / n - i * examples / n,
            })
            .collect();
        mixed_logits(&self.backbone, batch, &parts).map(drop)
    }

    /// Whether every task gets an example and every example fits the position table; and begins as the sentences do, where that was
    /// read beforehand.
    fn fits(&self, cell: &Cell) -> bool {
        let virtual_tokens = self.tasks.iter().map(|(m, _)| m.virtual_tokens()).max();
        let room = self.backbone.config().max_tokens();
        self.tasks.len() <= cell.batch
            && cell.longest + virtual_tokens.unwrap_or(0) <= room
            && (self.prefix.is_none() || cell.length.is_none())
    }
}

/// A batch size and a length with batches to run.
pub struct Cell {
    /// Examples in a batch.
    pub batch: usize,
    /// Tokens of an example; absent for real sentences.
    pub length: Option<usize>,
    longest: usize,
    batches: Vec<Batch>,
    effort: Effort,
}

/// Cells over real sentences; a batch size that there are too few sentences for is left out.
///
/// # Errors
/// If a batch cannot be made.
pub fn sentence_cells(
    examples: &Encoded,
    sizes: &[(usize, Effort)],
) -> backbone::Result<Vec<Cell>> {
    sizes
        .iter()
        .filter(|(batch, _)| *batch <= examples.len())
        .map(|(batch, effort)| {
            let indices: Vec<u32> = (0..examples.len() as u32).collect();
            let groups = indices.chunks_exact(*batch).take(effort.most);
            Ok(Cell {
                batch: *batch,
                length: None,
                longest: examples.lengths().into_iter().max().unwrap_or(0),
                batches: groups
                    .map(|group| batch_of(examples, group))
                    .collect::<backbone::Result<_>>()?,
                effort: *effort,
            })
        })
        .collect()
}

/// Cells of fixed length, over random tokens of the vocabulary: what the tokens are changes no time.
///
/// # Errors
/// If a batch cannot be made.
pub fn length_cells(
    vocabulary: usize,
    lengths: &[usize],
    sizes: &[(usize, Effort)],
) -> backbone::Result<Vec<Cell>> {
    let mut rng = datasets::stream(0, "latency");
    let mut cells = Vec::new();
    for (batch, effort) in sizes {
        for length in lengths {
            let ids = (0..batch * length)
                .map(|_| rng.random_range(0..vocabulary as u32))
                .collect();
            let offsets = (0..=*batch).map(|i| i * length).collect();
            cells.push(Cell {
                batch: *batch,
                length: Some(*length),
                longest: *length,
                batches: vec![Batch::new(ids, vec![0; batch * length], offsets)?],
                effort: *effort,
            });
        }
    }
    Ok(cells)
}

/// Times every contender in every cell. A contender that does not fit a cell (more tasks than rows, or too long
/// with its virtual tokens) is left out there.
///
/// # Errors
/// If a forward pass fails.
pub fn measure(contenders: &[Contender<'_>], cells: &[Cell]) -> backbone::Result<Vec<Latency>> {
    let measured = cells.iter().map(|s| measure_cell(contenders, s));
    let measured: Vec<_> = measured.collect::<backbone::Result<_>>()?;
    Ok(measured.into_iter().flatten().map(|(_, l)| l).collect())
}

/// Latencies with the index of their contender.
pub fn measure_cell(
    contenders: &[Contender<'_>],
    cell: &Cell,
) -> backbone::Result<Vec<(usize, Latency)>> {
    let fitting: Vec<usize> = (0..contenders.len())
        .filter(|i| contenders[*i].fits(cell))
        .collect();
    let mut times = vec![Vec::new(); contenders.len()];
    let begun = Instant::now();
    let warm_up = |round: usize| (round / 8).max(1);
    for (round, batch) in cell.batches.iter().cycle().enumerate() {
        let timed = round.saturating_sub(warm_up(round));
        if timed >= cell.effort.most || timed >= LEAST && begun.elapsed() >= cell.effort.budget {
            break;
        }
        for turn in 0..fitting.len() {
            let i = fitting[(round + turn) % fitting.len()];
            let clock = Instant::now();
            contenders[i].run(batch)?;
            times[i].push(clock.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(fitting
        .into_iter()
        .map(|i| {
            let first = warm_up(times[i].len());
            let mut timed = times[i].split_off(first);
            timed.sort_by(f64::total_cmp);
            let at = |share: f64| percentile(&timed, share);
            let latency = Latency {
                variant: contenders[i].variant.clone(),
                batch: cell.batch,
                length: cell.length,
                samples: timed.len(),
                p50_ms: at(0.5),
                p90_ms: at(0.9),
                p99_ms: at(0.99),
            };
            (i, latency)
        })
        .collect())
}

/// The value below which this share of sorted values lies, of at least one.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)]
}

/// Loads saved weights so many more times that the largest mixed batch of these sizes has a task each; none for a method
/// that owns its backbone, which shares no pass.
///
/// # Errors
/// As [`weights::load`].
pub fn copies(
    folder: &Path,
    loaded: &LoadedBackbone,
    method: &dyn PeftMethod,
    largest: usize,
) -> Result<Vec<Task>> {
    let fitting = TASKS.into_iter().filter(|tasks| *tasks <= largest);
    let n = match method.backbone() {
        Some(_) => 0,
        None => fitting.max().unwrap_or(1) - 1,
    };
    (0..n).map(|_| weights::load(folder, loaded)).collect()
}

/// A task as a contender runs it.
pub fn own(task: &Task) -> (&dyn PeftMethod, &Head) {
    (&*task.method, &task.head)
}

fn bare(head: &Head) -> (&dyn PeftMethod, &Head) {
    (&HeadOnly, head)
}

/// The bare backbone twice.
pub fn bare_contenders<'a>(backbone: &Backbone, head: &'a Head) -> Vec<Contender<'a>> {
    [BACKBONE, BACKBONE_AGAIN]
        .map(|variant| Contender::new(variant, backbone, vec![bare(head)]))
        .into()
}

/// The variants of one task: unmerged, merged if it can be, and mixed with copies of itself.
pub fn task_contenders<'a>(
    backbone: &Backbone,
    task: &'a Task,
    copies: &'a [Task],
    merged: Option<&Backbone>,
) -> Vec<Contender<'a>> {
    let unmerged = task.method.backbone().unwrap_or(backbone);
    let mut contenders = vec![Contender::new("unmerged", unmerged, vec![own(task)])];
    contenders
        .extend(merged.map(|merged| Contender::new("merged", merged, vec![bare(&task.head)])));
    let all: Vec<_> = std::iter::once(task).chain(copies).map(own).collect();
    for n in TASKS.into_iter().filter(|n| *n <= all.len()) {
        let mixed = Contender::new(format!("mixed_{n}"), backbone, all[..n].to_vec());
        contenders.push(mixed);
    }
    contenders
}

/// A task over texts that all begin alike, which a decoder has read beforehand: a template's beginning, and the virtual tokens
/// before it. `None` where there is nothing to share.
///
/// # Errors
/// If the beginning cannot be read.
pub fn prefix_cached<'a>(
    backbone: &Backbone,
    task: &'a Task,
    examples: &Encoded,
) -> backbone::Result<Option<Contender<'a>>> {
    let backbone = task.method.backbone().unwrap_or(backbone);
    let n = shared_tokens(backbone, examples);
    if n == 0 {
        return Ok(None);
    }
    let prefix = backbone.prefix(&examples.example(0).0[..n], &*task.method)?;
    Ok(Some(Contender {
        prefix: Some((prefix, n)),
        ..Contender::new("prefix_cached", backbone, vec![own(task)])
    }))
}

/// The bare backbone twice, and the variants of one task.
pub fn contenders<'a>(
    backbone: &Backbone,
    task: &'a Task,
    copies: &'a [Task],
    merged: Option<&Backbone>,
) -> Vec<Contender<'a>> {
    let mut all = bare_contenders(backbone, &task.head);
    all.extend(task_contenders(backbone, task, copies, merged));
    all
}
