//! One run: from a plan to a record.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Instant,
};

use anyhow::{Context as _, Result};
use methods::{Context, HeadOnly, Resolved};
use reports::{
    record::{
        Asked, Check, Cost, FORMAT, MethodFacts, Outcome, Parameters, Predictions, RunRecord,
        Status,
    },
    store,
};
use sha2::{Digest, Sha256};

use crate::{
    head::Head,
    measure,
    plan::RunPlan,
    prepare::{EncodedData, Files, LoadedBackbone, LoadedData, Vocabulary, data_facts},
    recipe::Recipe,
    trainer::{Event, Model, Stop, Trained, Training, batch_of, metrics_of},
    weights::{self, SavedConfig},
};

/// Largest difference of logits that rounding explains, relative to the largest logit, in f32.
const FORWARD_TOLERANCE: f32 = 1e-5;
/// Validation examples on which a run checks itself.
const CHECKED: usize = 64;

/// Everything in memory that the runs of a comparison share.
pub struct Setting {
    /// The data.
    pub data: LoadedData,
    /// The backbone with its tokenizer.
    pub backbone: LoadedBackbone,
    /// Token ids of the splits.
    pub encoded: EncodedData,
    files: Files,
}

impl Setting {
    /// Loads what a plan names.
    ///
    /// # Errors
    /// If data or backbone cannot be had or are not valid.
    pub fn load(plan: &RunPlan) -> Result<Self> {
        let files = Files::new(plan.offline)?;
        let data = files.data(&plan.data)?;
        let backbone = files
            .backbone(&plan.backbone, &plan.backbone_overrides)?
            .load()?;
        let recipe = Recipe::resolve(&plan.budget, &plan.recipe, 1)?;
        let max = backbone.max_tokens(recipe.max_tokens, 0);
        let encoded = EncodedData::new(&data.dataset, &backbone.tokenizer, max, files.cache())?;
        Ok(Self {
            data,
            backbone,
            encoded,
            files,
        })
    }

    /// What determines a planned run.
    ///
    /// # Errors
    /// If the method's configuration or the recipe is not valid.
    pub fn asked(&self, plan: &RunPlan) -> Result<(Asked, Resolved, Recipe)> {
        let resolved = methods::resolve(&plan.trial.method, &plan.trial.overrides)?;
        resolved.check(self.backbone.backbone.config())?;
        let recipe = Recipe::resolve(&plan.budget, &plan.recipe, self.encoded.train.len())?;
        let asked = Asked {
            dataset: data_facts(&self.data, &self.encoded),
            backbone: self.backbone.facts(),
            method: MethodFacts {
                name: resolved.entry.name.to_owned(),
                variant: resolved.variant.clone(),
                config: resolved.config.clone(),
            },
            recipe: serde_json::to_value(&recipe)?,
            seed: plan.seed,
            op_path: if kernels::reference_path() {
                "reference"
            } else {
                "fast"
            }
            .to_owned(),
        };
        Ok((asked, resolved, recipe))
    }
}

/// The name of a run: the first 16 hexadecimal digits of the SHA-256 of what determines it.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn id_of(asked: &Asked) -> Result<String> {
    let digest = Sha256::digest(serde_json::to_vec(asked)?);
    Ok(digest.iter().take(8).map(|b| format!("{b:02x}")).collect())
}

/// Folder of a run's weights.
pub fn weights_folder(out: &Path, id: &str) -> PathBuf {
    out.join("weights").join(id)
}

/// Folder of the records.
pub fn records_folder(out: &Path) -> PathBuf {
    out.join("records")
}

/// Finds out whether a folder can be written, before any work is done for it.
///
/// # Errors
/// If it cannot be made or written.
pub fn check_writable(folder: &Path) -> Result<()> {
    let probe = folder.join(".writable");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, []))
        .and_then(|()| std::fs::remove_file(&probe))
        .with_context(|| {
            format!(
                "{}: cannot be written; choose another folder with --out",
                folder.display()
            )
        })
}

/// Makes a planned run, saves its weights and writes its record. `started` is when the process began.
///
/// # Errors
/// If the plan is not valid or the record cannot be written. What goes wrong in the run itself is in the record.
pub fn run(
    plan: &RunPlan,
    started: Instant,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Event),
) -> Result<RunRecord> {
    let circumstances = measure::circumstances();
    let setting = Setting::load(plan)?;
    let (asked, resolved, recipe) = setting.asked(plan)?;
    let id = id_of(&asked)?;
    let mut record = RunRecord {
        format: FORMAT,
        id,
        asked,
        status: Status::Ok,
        outcome: None,
        cost: None,
        circumstances,
    };
    match execute(
        plan, &setting, &resolved, &recipe, &record, started, stop, tell,
    ) {
        Ok((outcome, cost)) => {
            record.outcome = Some(outcome);
            record.cost = Some(cost);
        }
        Err(Stop::Diverged { step, reason }) => record.status = Status::Diverged { step, reason },
        Err(Stop::Interrupted) => record.status = Status::Interrupted,
        Err(Stop::Failed(error)) => {
            record.status = Status::Failed {
                error: format!("{error:#}"),
            }
        }
    }
    store::write(&records_folder(&plan.out), &record)?;
    Ok(record)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the pieces of one run, used once"
)]
fn execute(
    plan: &RunPlan,
    setting: &Setting,
    resolved: &Resolved,
    recipe: &Recipe,
    record: &RunRecord,
    started: Instant,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Event),
) -> Result<(Outcome, Cost), Stop> {
    let seed = plan.seed;
    let loaded = &setting.backbone;
    let backbone = &loaded.backbone;
    let dataset = &setting.data.dataset;
    let classes = dataset.labels.len();
    let anyhow = |e: methods::Error| Stop::Failed(e.into());
    let method = resolved
        .build(&mut Context {
            backbone,
            rng: &mut datasets::stream(seed, "method"),
            words: &Vocabulary(&loaded.tokenizer),
        })
        .map_err(anyhow)?;
    let hidden = backbone.config().hidden;
    let head = Head::new(
        loaded.head,
        hidden,
        classes,
        &mut datasets::stream(seed, "head"),
        backbone.dtype(),
    )?;
    let head_digest = backbone::digest_of(head.vars().iter().map(|(_, v)| v.as_tensor()))?;

    // Virtual tokens can leave less room for the text than the recipe allows.
    let shorter;
    let max = loaded.max_tokens(recipe.max_tokens, method.virtual_tokens());
    let encoded = if max < loaded.max_tokens(recipe.max_tokens, 0) {
        shorter = EncodedData::new(dataset, &loaded.tokenizer, max, setting.files.cache())?;
        eprintln!(
            "note: {} texts are cut to {max} tokens: {} virtual tokens take the rest of the position table",
            shorter.train.truncated + shorter.validation.truncated,
            method.virtual_tokens()
        );
        &shorter
    } else {
        &setting.encoded
    };

    // The order depends on the recipe's lengths, not on the method.
    let all = &setting.encoded.train;
    let lengths: Vec<usize> = (0..all.len()).map(|i| all.length(i)).collect();
    let order = datasets::batch_order(&lengths, recipe.batch, recipe.steps, seed);

    let model = Model {
        backbone,
        method: &*method,
        head: &head,
    };
    let bare = Model {
        backbone,
        method: &HeadOnly,
        head: &head,
    };
    let sample: Vec<u32> = (0..encoded.validation.len().min(CHECKED) as u32).collect();
    let sample = batch_of(&encoded.validation, &sample)?;
    let start = difference(&model.logits(&sample)?, &bare.logits(&sample)?);

    let training = Training {
        train: &encoded.train,
        validation: &encoded.validation,
        metrics: &dataset.metrics,
        classes,
        order: &order,
        recipe,
        optimiser: resolved.optimiser(),
        dropout: datasets::stream(seed, "dropout"),
        stop,
    };
    let (trained, peak_memory_bytes) = if method.reads_text() {
        (training.run(model, tell)?, measure::peak_memory())
    } else {
        (training.without_text(model)?, None)
    };

    tell(Event::Stage {
        name: "checking and measuring".into(),
    });
    let config = SavedConfig {
        format: weights::format(),
        method: resolved.entry.name.to_owned(),
        config: resolved.config.as_object().cloned().unwrap_or_default(),
        backbone: plan.backbone.clone(),
        backbone_digest: loaded.digest.clone(),
        pooling: backbone.pooling(),
        head: loaded.head,
        labels: dataset.labels.clone(),
        dataset: dataset.name.clone(),
        max_tokens: max,
        metrics: trained
            .evaluations
            .last()
            .map(|e| e.metrics.clone())
            .unwrap_or_default(),
    };
    let folder = weights_folder(&plan.out, &record.id);
    let file_bytes = weights::save(&folder, &config, &*method, &head)?;

    let trained_logits = model.logits(&sample)?;
    let mut checks = vec![gradients_check(&trained), start_check(&*method, start)];
    let unchanged = backbone.digest()? == loaded.digest;
    checks.push(check(
        "backbone_unchanged",
        unchanged,
        "SHA-256 of the frozen weights before and after training",
    ));
    let reloaded = weights::load(&folder, loaded)?;
    let shipped = Model {
        backbone,
        method: &*reloaded.method,
        head: &reloaded.head,
    };
    let again = shipped.logits(&sample)?;
    let detail = format!(
        "predictions of the saved weights on {} validation examples, bit for bit",
        again.len()
    );
    checks.push(check(
        "saved_weights_predict_the_same",
        again == trained_logits,
        &detail,
    ));

    // What is shipped is what will run: without a reparametrisation that only training needs.
    let mut latency = Vec::new();
    if method.reads_text() {
        latency.extend(measure::latency(shipped, &encoded.validation, "unmerged")?);
        latency.extend(measure::latency(bare, &encoded.validation, "backbone")?);
    }
    if let Ok(merged) = method.merge(backbone) {
        let merged = Model {
            backbone: &merged,
            method: &HeadOnly,
            head: &head,
        };
        let d = difference(&merged.logits(&sample)?, &trained_logits);
        checks.push(check(
            "merged_equals_unmerged",
            d <= 10.0 * FORWARD_TOLERANCE,
            &format!("largest relative difference of logits {d:.1e}"),
        ));
        latency.extend(measure::latency(merged, &encoded.validation, "merged")?);
    }

    let count = |vars: &[(String, candle_core::Var)]| {
        vars.iter().map(|(_, v)| v.elem_count()).sum::<usize>()
    };
    let shipped = method.shipped().map_err(anyhow)?;
    let labels: Vec<u32> = (0..encoded.validation.len())
        .map(|i| encoded.validation.label(i))
        .collect();
    let outcome = Outcome {
        parameters: Parameters {
            method: count(&method.vars()),
            head: if method.reads_text() {
                count(head.vars())
            } else {
                0
            },
            backbone: backbone.parameters(),
            shipped: shipped.iter().map(|(_, t)| t.elem_count()).sum(),
        },
        order_digest: datasets::order_digest(&order),
        head_digest,
        loss: trained.loss,
        evaluations: trained.evaluations,
        predictions: Predictions {
            labels,
            logits: trained.logits,
        },
        checks,
    };
    let cost = Cost {
        training_seconds: trained.step_seconds.iter().map(|s| f64::from(*s)).sum(),
        step_seconds: trained.step_seconds,
        examples: trained.examples,
        tokens: trained.tokens,
        evaluation_seconds: trained.evaluation_seconds,
        seconds_to_first_step: trained
            .first_step
            .map_or(0.0, |ended| ended.duration_since(started).as_secs_f64()),
        peak_memory_bytes,
        file_bytes,
        latency,
    };
    Ok((outcome, cost))
}

fn check(name: &str, passed: bool, detail: &str) -> Check {
    Check {
        name: name.to_owned(),
        passed,
        detail: detail.to_owned(),
    }
}

fn gradients_check(trained: &Trained) -> Check {
    let detail = match trained.never_moved.as_slice() {
        [] if trained.loss.is_empty() => "nothing is trained".to_owned(),
        [] => "every trainable variable got a finite gradient other than zero".to_owned(),
        names => format!("no gradient other than zero for {}", names.join(", ")),
    };
    check(
        "gradients_reach_every_trainable",
        trained.never_moved.is_empty(),
        &detail,
    )
}

fn start_check(method: &dyn methods::PeftMethod, difference: f32) -> Check {
    match method.starts_as_backbone() {
        Ok(()) => check(
            "starts_as_backbone",
            difference <= FORWARD_TOLERANCE,
            &format!("largest relative difference of logits before training {difference:.1e}"),
        ),
        Err(reason) => check(
            "starts_as_backbone",
            true,
            &format!("does not apply: {reason} (largest relative difference {difference:.1e})"),
        ),
    }
}

/// Largest difference of two sets of logits, relative to the largest value of the second.
pub fn difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let scale = b
        .iter()
        .flatten()
        .fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let most = a
        .iter()
        .flatten()
        .zip(b.iter().flatten())
        .fold(0f32, |m, (x, y)| m.max((x - y).abs()));
    most / scale
}

/// Metrics of saved weights on a split.
///
/// # Errors
/// If the data does not fit the weights.
pub fn evaluate(
    folder: &Path,
    data: &LoadedData,
    split: datasets::Split,
    loaded: &LoadedBackbone,
    cache: &Path,
) -> Result<(std::collections::BTreeMap<String, f64>, usize)> {
    let task = weights::load(folder, loaded)?;
    let dataset = &data.dataset;
    anyhow::ensure!(
        dataset.labels == task.config.labels,
        "{}: trained for the labels {}, but '{}' has {}",
        folder.display(),
        task.config.labels.join(", "),
        dataset.name,
        dataset.labels.join(", ")
    );
    let examples = dataset.split(split);
    anyhow::ensure!(
        examples.iter().all(|e| e.label.is_some()) && !examples.is_empty(),
        "data set '{}': the labels of its {} split are not public; use another split",
        dataset.name,
        split.name()
    );
    let encoded = loaded
        .tokenizer
        .encode_cached(examples, task.config.max_tokens, cache)?;
    let model = Model {
        backbone: &loaded.backbone,
        method: &*task.method,
        head: &task.head,
    };
    let logits = model.all_logits(&encoded).context("evaluating")?;
    let labels: Vec<u32> = (0..encoded.len()).map(|i| encoded.label(i)).collect();
    Ok((
        metrics_of(&dataset.metrics, &labels, &logits, dataset.labels.len()),
        labels.len(),
    ))
}
