//! One number of threads for everything that computes, and the pool that the ops share.
//!
//! A pass is cut into tasks. The calling thread takes one task after the other, and every worker that is awake does
//! the same; a task's numbers do not depend on who computes it. Nobody waits for a worker that has taken nothing: on a
//! busy machine the caller does all of a short pass itself, as if it had one thread. An idle thread looks for work for a
//! fraction of a millisecond, offering its core to others in between, and then sleeps.
//!
//! A worker that loses its core in the middle of a task keeps the caller waiting for a whole slice of the scheduler's time.
//! Where that has happened, which is to say where the caller has waited clearly longer than the others' tasks take, it
//! begins the passes of the next fraction of a second alone, and shares only what would take it longer than such a slice.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use candle_core::{Result, bail};

/// How long a worker looks for the next pass before it sleeps: longer than the gaps between the ops of a step.
const WORKER_LOOKS: Duration = Duration::from_micros(200);
/// How much longer than two tasks take a caller looks for the end of the others' before it sleeps. If one of them has lost its
/// core, this gives it the caller's.
const CALLER_LOOKS: Duration = Duration::from_micros(50);

/// A caller that has slept so long until the others' tasks ended takes the machine for a crowded one.
const LATE: Duration = Duration::from_micros(500);
/// For how long it does.
const CROWDED: Duration = Duration::from_millis(100);
/// On a crowded machine, what is left of a pass is shared if it would take the caller longer than this.
const WORTH_SHARING: Duration = Duration::from_millis(2);

static THREADS: OnceLock<usize> = OnceLock::new();
static POOL: Pool = Pool::new();

thread_local! {
    static OVERRIDE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The number of cores that this process may use: those of its affinity mask, or fewer if a cgroup's quota says so.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Makes `n` threads compute: ours, candle's, and those of the `gemm` crate under it.
///
/// Call it first thing in `main`, before another thread exists. candle's pools know no other way than the environment
/// variables `CANDLE_NUM_THREADS` and `RAYON_NUM_THREADS`, which are set where that is safe: on Linux while the process
/// has a single thread, on Windows always. Elsewhere candle's own ops keep their default.
///
/// An error if `n` is 0 or more than [`available_threads`], if another number is in use already, or if another thread
/// might be reading the environment.
pub fn set_threads(n: usize) -> Result<()> {
    let most = available_threads();
    if n == 0 || n > most {
        bail!("threads: got {n}, but this machine gives the process 1 to {most}")
    }
    if alone() == Some(false) {
        bail!("threads: {n} cannot be set any more, other threads are running already")
    }
    let set = *THREADS.get_or_init(|| n);
    if set != n {
        bail!("threads: {n} cannot be set any more, {set} are in use already")
    }
    if alone() == Some(true) || cfg!(windows) {
        for name in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
            // SAFETY: nobody else reads the environment meanwhile: this process has a single thread, or it runs on
            // Windows, where the function is safe.
            unsafe { std::env::set_var(name, n.to_string()) }
        }
    }
    Ok(())
}

/// Whether this process has a single thread; `None` where the system does not tell.
pub(crate) fn alone() -> Option<bool> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    Some(threads.count() == 1)
}

/// The number of threads that the ops use: what [`set_threads`] said, else [`available_threads`].
pub fn threads() -> usize {
    OVERRIDE
        .get()
        .unwrap_or_else(|| *THREADS.get_or_init(available_threads))
}

/// Runs `f` with the ops of this thread on `n` threads, which may be more than there are cores. No result depends on it.
pub fn with_threads<R>(n: usize, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<usize>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let _restore = Restore(OVERRIDE.replace(Some(n.max(1))));
    f()
}

/// Runs `task(0..tasks)`, each once, on the threads of the pool.
///
/// Every number is computed inside one task, so who takes it changes no bit. If the pool is busy with the work of
/// another thread, or if the caller is itself a task, the caller runs them all, one after the other.
pub(crate) fn parallel(tasks: usize, task: impl Fn(usize) + Sync) {
    let threads = threads().min(tasks);
    if threads > 1
        && let Some(workers) = POOL.try_own()
    {
        let left = match POOL.is_crowded() {
            true => alone_first(tasks, &task),
            false => tasks,
        };
        if left > 0 {
            POOL.run(workers, threads - 1, left, &task);
        }
    } else {
        (0..tasks).for_each(task);
    }
}

/// Runs the last tasks in this thread until what is left, at their speed, is worth sharing; how many are left.
fn alone_first(tasks: usize, task: &Task) -> usize {
    let start = Instant::now();
    for done in 1..=tasks {
        task(tasks - done);
        let left = tasks - done;
        if start.elapsed() * left as u32 > WORTH_SHARING * done as u32 {
            return left;
        }
    }
    0
}

/// Splits `items` into nearly equal ranges and runs them in parallel: about four per thread, each of at least
/// `least` items. An op whose sums go over items adds them up in groups that do not depend on this split.
pub(crate) fn parallel_ranges(
    items: usize,
    least: usize,
    task: impl Fn(std::ops::Range<usize>) + Sync,
) {
    let parts = (items / least.max(1)).clamp(1, 4 * threads());
    parallel(parts, |i| task(i * items / parts..(i + 1) * items / parts));
}

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// The threads that help, and the pass that they help with.
struct Pool {
    /// Whoever holds this may start a pass.
    workers: Mutex<Vec<Worker>>,
    /// The pass's task. Written by the owner of `workers` while `unfinished` is 0, read by those who have taken a part.
    task: UnsafeCell<Option<*const Task<'static>>>,
    /// Parts that nobody has taken yet: to lower it from `i + 1` to `i` is to take part `i`.
    untaken: AtomicUsize,
    /// Parts that are not done yet.
    unfinished: AtomicUsize,
    /// Workers that this pass wants.
    helpers: AtomicUsize,
    /// Whether the caller sleeps until `unfinished` is 0.
    caller_sleeps: AtomicBool,
    sleep: Mutex<()>,
    done: Condvar,
    /// Until when the machine counts as crowded, in microseconds of [`clock`].
    crowded_until: AtomicU64,
    /// What the first part that failed said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

struct Worker {
    thread: Thread,
    sleeps: Arc<AtomicBool>,
}

// SAFETY: `task` is the only field that is not `Sync`. Its writer has seen `unfinished` at 0, so nobody holds a part;
// its readers hold a part, which they took after the write (`untaken` is raised after it), and give it back after their
// last use. The task itself is `Sync`.
unsafe impl Sync for Pool {}

impl Pool {
    const fn new() -> Self {
        Self {
            workers: Mutex::new(Vec::new()),
            task: UnsafeCell::new(None),
            untaken: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(0),
            helpers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            sleep: Mutex::new(()),
            done: Condvar::new(),
            crowded_until: AtomicU64::new(0),
            panic: Mutex::new(None),
        }
    }

    fn is_crowded(&self) -> bool {
        // (The clock is not read where nobody was ever late.)
        match self.crowded_until.load(SeqCst) {
            0 => false,
            until => clock() < until,
        }
    }

    /// The right to start a pass, unless one is under way.
    fn try_own(&self) -> Option<MutexGuard<'_, Vec<Worker>>> {
        match self.workers.try_lock() {
            Ok(workers) => Some(workers),
            // A task has failed under it; the list of workers is whole.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Runs `task(0..tasks)` with at most `helpers` workers beside the caller.
    fn run(
        &'static self,
        mut workers: MutexGuard<Vec<Worker>>,
        helpers: usize,
        tasks: usize,
        task: &Task,
    ) {
        while workers.len() < helpers {
            match self.spawn(workers.len()) {
                Some(worker) => workers.push(worker),
                // The system gives no more threads: those that there are do the work.
                None => break,
            }
        }
        // SAFETY: this thread owns the pool and no part is held. The task outlives its use: `run` does not return, nor
        // unwind, before every part is finished, and later nobody can take one.
        unsafe {
            let task = std::mem::transmute::<*const Task, *const Task<'static>>(task);
            *self.task.get() = Some(task);
        }
        self.helpers.store(helpers, SeqCst);
        self.unfinished.store(tasks, SeqCst);
        self.untaken.store(tasks, SeqCst);
        for worker in workers.iter().take(helpers) {
            if worker.sleeps.load(SeqCst) {
                worker.thread.unpark();
            }
        }
        let began = Instant::now();
        let own = self.work();
        let patience = patience(began.elapsed(), own);
        if !look(patience, || self.unfinished.load(SeqCst) == 0) {
            let waiting = Instant::now();
            let mut sleep = ignore_poison(self.sleep.lock());
            self.caller_sleeps.store(true, SeqCst);
            while self.unfinished.load(SeqCst) != 0 {
                sleep = ignore_poison(self.done.wait(sleep));
            }
            self.caller_sleeps.store(false, SeqCst);
            if own > 0 && waiting.elapsed() > LATE {
                let until = clock() + CROWDED.as_micros() as u64;
                self.crowded_until.store(until, SeqCst);
            }
        }
        let panic = ignore_poison(self.panic.lock()).take();
        drop(workers);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Takes parts and computes them until none is left; how many they were.
    fn work(&self) -> u32 {
        let mut done = 0;
        loop {
            let taken = self
                .untaken
                .fetch_update(SeqCst, SeqCst, |untaken| untaken.checked_sub(1));
            let Ok(untaken) = taken else { return done };
            // SAFETY: this thread holds a part, so the task is there and stays.
            let task = unsafe { (*self.task.get()).map(|task| &*task) };
            if let Some(task) = task
                && let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(untaken - 1)))
            {
                ignore_poison(self.panic.lock()).get_or_insert(panic);
            }
            if self.unfinished.fetch_sub(1, SeqCst) == 1 && self.caller_sleeps.load(SeqCst) {
                // The caller holds the lock from before its last look at `unfinished` until it sleeps.
                drop(ignore_poison(self.sleep.lock()));
                self.done.notify_one();
            }
            done += 1;
        }
    }

    fn spawn(&'static self, number: usize) -> Option<Worker> {
        let sleeps = Arc::new(AtomicBool::new(false));
        let own = sleeps.clone();
        let wanted = move || self.untaken.load(SeqCst) > 0 && number < self.helpers.load(SeqCst);
        let life = move || {
            loop {
                if look(WORKER_LOOKS, wanted) {
                    self.work();
                    continue;
                }
                own.store(true, SeqCst);
                // A pass that starts from here on sees that this worker sleeps.
                while !wanted() {
                    std::thread::park();
                }
                own.store(false, SeqCst);
            }
        };
        let name = format!("kernels-{}", number + 1);
        let handle = std::thread::Builder::new().name(name).spawn(life).ok()?;
        let thread = handle.thread().clone();
        Some(Worker { thread, sleeps })
    }
}

/// How long a caller looks for the end of the others' tasks before it sleeps, if its `own` ones took it the time `worked`:
/// a task that another thread has just begun may take as long as one of its own.
fn patience(worked: Duration, own: u32) -> Duration {
    CALLER_LOOKS + 2 * worked / own.max(1)
}

/// Microseconds since the first call.
fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

fn ignore_poison<T>(result: std::result::Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

/// Looks for `found` until it holds or the time is over; whether it holds.
fn look(time: Duration, found: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if found() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > time {
            return false;
        }
        // Whoever else wants this core has it now; with nobody waiting this returns at once.
        std::thread::yield_now();
    }
}

/// A pointer that tasks may share. Whoever makes one promises that tasks write to disjoint places.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub(crate) *mut T);

// SAFETY: the promise above; the pointers lead to plain numbers.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer `offset` elements on.
    /// # Safety
    /// As for [`pointer::add`].
    pub(crate) unsafe fn add(&self, offset: usize) -> *mut T {
        // SAFETY: passed on.
        unsafe { self.0.add(offset) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// How often each task ran.
    fn counts(tasks: usize, run: impl FnOnce(&Task)) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        run(&|i| {
            counts[i].fetch_add(1, SeqCst);
        });
        counts.iter().map(|count| count.load(SeqCst)).collect()
    }

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 3, 9] {
            for tasks in [0, 1, 2, 7, 1000] {
                let counts = counts(tasks, |count| {
                    with_threads(threads, || parallel(tasks, count));
                });
                assert_eq!(counts, vec![1; tasks], "{tasks} tasks, {threads} threads");
            }
        }
    }

    #[test]
    fn a_pass_begun_alone_is_ended_alone_or_shared_and_runs_every_task_once() {
        let quick = counts(9, |count| assert_eq!(alone_first(9, count), 0));
        assert_eq!(quick, [1; 9]);
        // Each task takes longer than what makes the others worth sharing.
        let slow = counts(9, |count| {
            let slowly: &Task = &|i| {
                std::thread::sleep(WORTH_SHARING);
                count(i);
            };
            assert_eq!(alone_first(9, slowly), 8);
        });
        assert_eq!(slow, [0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_caller_waits_awake_for_as_long_as_others_tasks_may_take() {
        let ms = Duration::from_millis;
        assert_eq!(patience(ms(30), 10), ms(6) + CALLER_LOOKS);
        // Who had no task to judge by.
        assert_eq!(patience(ms(0), 0), CALLER_LOOKS);
    }

    #[test]
    fn passes_one_after_the_other_find_workers_awake_and_asleep() {
        for pass in 0..2000 {
            let counts = counts(3, |count| with_threads(3, || parallel(3, count)));
            assert_eq!(counts, [1; 3], "pass {pass}");
            if pass % 400 == 0 {
                std::thread::sleep(2 * WORKER_LOOKS);
            }
        }
    }

    #[test]
    fn a_task_may_itself_run_tasks() {
        let counts = counts(12, |count| {
            with_threads(3, || {
                parallel(3, |i| with_threads(3, || parallel(4, |j| count(4 * i + j))));
            });
        });
        assert_eq!(counts, [1; 12]);
    }

    #[test]
    fn several_callers_at_once_all_get_their_results() {
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let counts = counts(20, |count| with_threads(3, || parallel(20, count)));
                        assert_eq!(counts, [1; 20]);
                    }
                });
            }
        });
    }

    #[test]
    fn a_task_that_panics_says_so_to_the_caller_and_harms_no_later_pass() {
        for _ in 0..3 {
            let counts = counts(8, |count| {
                let failed = catch_unwind(AssertUnwindSafe(|| {
                    with_threads(3, || {
                        parallel(8, |i| {
                            count(i);
                            assert!(i != 5, "task five");
                        });
                    });
                }));
                let message = failed.unwrap_err();
                assert!(
                    message
                        .downcast_ref::<&str>()
                        .unwrap()
                        .contains("task five")
                );
            });
            // A pass that runs in the caller alone (another test owns the pool) ends with the task that failed.
            assert!(counts.iter().all(|&count| count <= 1) && counts[5] == 1);
        }
    }
}
