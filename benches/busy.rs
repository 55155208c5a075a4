//! Speed beside other programs: a training step and one sentence's latency on one thread and on all, in turn, with 0, 1,
//! … busy processes beside it.
//!
//! With c cores and k busy processes a fair scheduler leaves c threads the share c / (c + k) of the machine: the table
//! sets each time on an idle machine over that share against the time measured. `busy peer` has PyTorch's beside it.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::Result;
use peftbench::train::model::Model;

use crate::{
    common::{self, Steps},
    peer,
};

/// Passes per figure.
const PASSES: usize = 20;

/// Processes that do nothing but keep a core busy, until dropped.
struct Load(Vec<Child>);

impl Load {
    fn new(processes: usize) -> Result<Self> {
        let spin = || {
            Command::new(std::env::current_exe()?)
                .args(["--bench", "busy-load"])
                .stdin(Stdio::piped())
                .spawn()
        };
        Ok(Self(
            (0..processes).map(|_| spin()).collect::<Result<_, _>>()?,
        ))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a busy process does: it ends by itself once nobody holds its standard input.
pub fn load() -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    loop {
        std::hint::spin_loop();
    }
}

/// Medians in milliseconds of `pass` on one thread and on all, in turn.
fn medians(mut pass: impl FnMut() -> Result<()>) -> Result<[f64; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..PASSES {
        for (times, threads) in times.iter_mut().zip([1, kernels::threads()]) {
            let start = Instant::now();
            kernels::with_threads(threads, &mut pass)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(times.map(|times| common::median(&times)))
}

pub fn main(peer: bool) -> Result<()> {
    let backbone = common::random_backbone(common::minilm_config())?;
    let lora = methods::resolve("lora", &Default::default())?;
    let (method, head) = (common::build(&lora, &backbone)?, common::head(&backbone)?);
    let model = |method| Model::new(&backbone, method, &head);
    let mut steps = Steps::new(model(&*method), &lora)?;
    let shipped = common::shipped(&lora, &backbone)?;
    let loaded = model(&*shipped);
    let (batch, sentence) = (common::batch(&common::sentences())?, common::batch(&[28])?);

    let cores = kernels::threads();
    let peer = peer.then(peer::lora_in_f32).transpose()?;
    println!(
        "| busy processes | pass | 1 thread (ms) | {cores} threads (ms) | speed kept of a fair share | PyTorch (ms) | it keeps |"
    );
    println!("|---:|---|---:|---:|---:|---:|---:|");
    let (mut idle, mut peer_idle) = ([f64::NAN; 2], [f64::NAN; 2]);
    for busy in 0..=2 * cores {
        let _load = Load::new(busy)?;
        let training = medians(|| steps.step(&batch).map(drop))?;
        let latency = medians(|| {
            let pass = || loaded.pooled(&sentence, backbone::Phase::Eval);
            kernels::without_gradients(pass)?;
            Ok(())
        })?;
        let theirs = peer.as_ref().map(|peer| peer()).transpose()?;
        if busy == 0 {
            idle = [training[1], latency[1]];
            peer_idle = theirs.unwrap_or(peer_idle);
        }
        let share = cores as f64 / (cores + busy) as f64;
        let kept = |idle: f64, now: f64| format!("{:.0} %", 100.0 * idle / share / now);
        for (i, (what, [one, all])) in [("LoRA step", training), ("one sentence", latency)]
            .into_iter()
            .enumerate()
        {
            let own = kept(idle[i], all);
            let beside = theirs.map_or_else(
                || "– | –".to_owned(),
                |theirs| format!("{:.2} | {}", theirs[i], kept(peer_idle[i], theirs[i])),
            );
            println!("| {busy} | {what} | {one:.2} | {all:.2} | {own} | {beside} |");
        }
    }
    Ok(())
}
