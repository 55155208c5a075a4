//! One run: from a plan to a record.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
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
    augmenter::Augmenter,
    head::Head,
    latency, measure,
    plan::RunPlan,
    prepare::{EncodedData, Files, LoadedBackbone, LoadedData, Vocabulary, data_facts},
    recipe::Recipe,
    task_library::resident_bytes,
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
    /// Token ids of the examples that each choice of the recipe and seed takes, made when first asked for.
    encoded: RefCell<BTreeMap<Chosen, Rc<EncodedData>>>,
    files: Files,
}

/// What decides which examples are taken, and how long they may be: training examples, share held out (as
/// bits), seed where it matters, tokens.
type Chosen = (Option<usize>, u64, u64, usize);

impl Setting {
    /// Loads what a plan names.
    ///
    /// # Errors
    /// If data or backbone cannot be had or are not valid.
    pub fn load(plan: &RunPlan) -> Result<Self> {
        let files = Files::new(plan.offline)?;
        // Reading the texts and reading the weights take about as long, and neither needs the other.
        let (data, backbone) = std::thread::scope(|scope| {
            let backbone = scope.spawn(|| {
                files
                    .backbone(&plan.backbone, &plan.backbone_overrides)?
                    .load()
            });
            let data = files.data(&plan.data);
            let backbone = match backbone.join() {
                Ok(backbone) => backbone,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            (data, backbone)
        });
        let (data, backbone) = (data?, backbone?);
        Ok(Self {
            data,
            backbone,
            encoded: RefCell::default(),
            files,
        })
    }

    /// Token ids of the examples that the recipe and the seed choose, cut where `virtual_tokens` leave no room.
    ///
    /// # Errors
    /// As [`EncodedData::new`].
    pub fn encoded(
        &self,
        recipe: &Recipe,
        seed: u64,
        virtual_tokens: usize,
    ) -> Result<Rc<EncodedData>> {
        let max = self.backbone.max_tokens(recipe.max_tokens, virtual_tokens);
        let drawn = recipe.train_examples.map_or(0, |_| seed);
        let chosen = (recipe.train_examples, recipe.held_out.to_bits(), drawn, max);
        if let Some(encoded) = self.encoded.borrow().get(&chosen) {
            return Ok(Rc::clone(encoded));
        }
        let encoded = Rc::new(EncodedData::new(
            &self.data.dataset,
            recipe,
            seed,
            &self.backbone.tokenizer,
            max,
            self.files.cache(),
        )?);
        self.encoded
            .borrow_mut()
            .insert(chosen, Rc::clone(&encoded));
        Ok(encoded)
    }

    /// What determines a planned run.
    ///
    /// # Errors
    /// If the method's configuration or the recipe is not valid.
    pub fn asked(&self, plan: &RunPlan) -> Result<(Asked, Resolved, Recipe)> {
        let resolved = methods::resolve(&plan.trial.method, &plan.trial.overrides)?;
        resolved.check(self.backbone.backbone.config())?;
        // The steps of a budget in epochs depend on the examples, which depend on the recipe's other keys.
        let recipe = Recipe::resolve(&plan.budget, &plan.recipe, 1)?;
        let encoded = self.encoded(&recipe, plan.seed, 0)?;
        let recipe = Recipe::resolve(&plan.budget, &plan.recipe, encoded.train.len())?;
        let asked = Asked {
            dataset: data_facts(&self.data, &encoded),
            backbone: self.backbone.facts(),
            method: MethodFacts {
                name: resolved.entry.name.to_owned(),
                variant: resolved.variant.clone(),
                config: resolved.config.clone(),
                tuned: plan.trial.tuned.clone(),
            },
            recipe: serde_json::to_value(&recipe)?,
            seed: plan.seed,
            op_path: if kernels::reference_path() {
                "reference"
            } else {
                "fast"
            }
            .to_owned(),
            numerics: Default::default(),
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
    if !plan.keep_weights {
        // They were saved and read again for the run's own check.
        std::fs::remove_dir_all(weights_folder(&plan.out, &record.id)).ok();
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
    let fresh_method = || {
        resolved
            .build(&mut Context {
                backbone,
                rng: &mut datasets::stream(seed, "method"),
                words: &Vocabulary(&loaded.tokenizer),
            })
            .map_err(anyhow)
    };
    let fresh_head = || {
        Head::new(
            loaded.head,
            backbone.config().hidden,
            classes,
            &mut datasets::stream(seed, "head"),
            backbone.dtype(),
        )
    };
    let (method, head) = (fresh_method()?, fresh_head()?);
    let head_digest = backbone::digest_of(head.vars().iter().map(|(_, v)| v.as_tensor()))?;

    // Virtual tokens can leave less room for the text than the recipe allows.
    let max = loaded.max_tokens(recipe.max_tokens, method.virtual_tokens());
    let whole = setting.encoded(recipe, seed, 0)?;
    let encoded = setting.encoded(recipe, seed, method.virtual_tokens())?;
    let cut = encoded.train.truncated + encoded.validation.truncated;
    if max < loaded.max_tokens(recipe.max_tokens, 0) && cut > 0 {
        eprintln!(
            "note: {cut} texts are cut to {max} tokens: {} virtual tokens take the rest of the position table",
            method.virtual_tokens()
        );
    }

    // The order depends on the recipe's lengths, not on the method.
    let all = &whole.train;
    let lengths: Vec<usize> = (0..all.len()).map(|i| all.length(i)).collect();
    let order = datasets::batch_order(&lengths, recipe.batch, recipe.steps, seed);

    let model = Model {
        backbone,
        method: &*method,
        head: &head,
    };
    let training = Training {
        train: &encoded.train,
        validation: &encoded.validation,
        metrics: &dataset.metrics,
        classes,
        order: &order,
        recipe,
        optimiser: resolved.optimiser(),
        dropout: datasets::stream(seed, "dropout"),
        augmenter: Augmenter::new(recipe, &loaded.tokenizer, seed),
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

    let sample: Vec<u32> = (0..encoded.validation.len().min(CHECKED) as u32).collect();
    let sample = batch_of(&encoded.validation, &sample)?;
    let trained_logits = model.logits(&sample)?;
    // The start is made again from its seed: checking it before training would keep the first step waiting.
    let start = {
        let (method, head) = (fresh_method()?, fresh_head()?);
        let at_start = |method| Model {
            backbone,
            method,
            head: &head,
        };
        difference(
            &at_start(&*method).logits(&sample)?,
            &at_start(&HeadOnly).logits(&sample)?,
        )
    };
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

    let merged = method.merge(backbone).ok();
    if let Some(merged) = &merged {
        let merged = Model {
            backbone: merged,
            method: &HeadOnly,
            head: &head,
        };
        let d = difference(&merged.logits(&sample)?, &trained_logits);
        checks.push(check(
            "merged_equals_unmerged",
            d <= 10.0 * FORWARD_TOLERANCE,
            &format!("largest relative difference of logits {d:.1e}"),
        ));
    }
    // What is shipped is what will run, so what was read back is timed: without a reparametrisation that only
    // training needs.
    let latency = if method.reads_text() {
        let copies = latency::copies(&folder, loaded, &*method)?;
        let contenders = latency::contenders(backbone, &reloaded, &copies, merged.as_ref());
        let cells = latency::sentence_cells(&encoded.validation, &latency::RECORDED)?;
        latency::measure(&contenders, &cells)?
    } else {
        Vec::new()
    };

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
        // The sum of nothing is −0.0.
        training_seconds: 0.0
            + trained
                .step_seconds
                .iter()
                .map(|s| f64::from(*s))
                .sum::<f64>(),
        step_seconds: trained.step_seconds,
        examples: trained.examples,
        tokens: trained.tokens,
        evaluation_seconds: trained.evaluation_seconds,
        seconds_to_first_step: trained
            .first_step
            .map_or(0.0, |ended| ended.duration_since(started).as_secs_f64()),
        peak_memory_bytes,
        file_bytes,
        resident_bytes: Some(resident_bytes(&*method, &head)),
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
) -> Result<(BTreeMap<String, f64>, usize)> {
    let task = weights::load(folder, loaded)?;
    let dataset = &data.dataset;
    // Foreign folders often have numbers only: then the data set's order is the meaning.
    let numbered = crate::formats::are_anonymous(&task.config.labels)
        && task.config.labels.len() == dataset.labels.len();
    if numbered && dataset.labels != task.config.labels {
        eprintln!(
            "note: {} has no names for its {} classes; taken in the order of '{}': {}",
            folder.display(),
            dataset.labels.len(),
            dataset.name,
            dataset.labels.join(", ")
        );
    }
    anyhow::ensure!(
        numbered || dataset.labels == task.config.labels,
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
