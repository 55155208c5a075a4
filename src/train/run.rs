//! One run: from a plan to a record. A run is built, trained, saved, checked, measured, recorded.

use std::{
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use backbone::{Backbone, Batch, HeadKind, Precision};
use methods::{Context, HeadOnly, PeftMethod, Resolved};
use record::{Check, Cost, FORMAT, Kind, Latency, Outcome, Parameters, RunRecord, Status, store};

use super::{
    augmenter::Augmenter,
    encoded::EncodedData,
    head::Head,
    model::{Model, batch_of},
    prepared::{Prepared, id_of},
    recipe::Recipe,
    trainer::{Event, Stop, Trained, Training},
};
use crate::{
    card::Card,
    folders, latency, measure, objective,
    objective::Objective,
    plan::RunPlan,
    prepare::Vocabulary,
    signals::Signals,
    texts,
    weights::{self, SavedConfig, Task},
};

/// Largest difference of logits that rounding explains, relative to the largest logit.
fn forward_tolerance(precision: Precision) -> f32 {
    match precision {
        // (In few bits the weights are other numbers, but the same for all, and products are those of f32.)
        Precision::F32 | Precision::Int8 | Precision::Q4 => 1e-5,
        // The distance of neighbouring numbers of bf16 at 1, twice what rounding one changes.
        Precision::Bf16 => 1.0 / 128.0,
    }
}

/// The same where the method is in the weights, which are rounded again then: ten times the distance of neighbouring numbers.
fn merged_tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 1e-4,
        // Merged weights of a backbone in blocks are in bf16.
        Precision::Bf16 | Precision::Q4 => 10.0 / 128.0,
        Precision::Int8 => 10.0 / 127.0,
    }
}

/// Validation examples on which a run checks itself.
const CHECKED: usize = 64;

/// What a run has to stop in when it is asked to, before it is recorded as interrupted and the process ends.
pub const GRACE: Duration = Duration::from_millis(1000);

/// Makes a planned run, saves its weights and writes its record. `started` is when the process began, `claim` names the
/// claim under which the run is made.
///
/// # Errors
/// If the record cannot be written. What goes wrong in the run itself is in the record.
pub fn run(
    plan: &RunPlan,
    prepared: &Prepared,
    claim: &str,
    started: Instant,
    signals: &Signals,
    tell: &mut dyn FnMut(Event),
) -> Result<RunRecord> {
    let (asked, resolved, recipe) = prepared.asked(plan)?;
    let id = id_of(&asked)?;
    let records = folders::records_folder(&plan.out);
    let mut record = RunRecord {
        format: FORMAT,
        id: id.clone(),
        asked,
        status: Status::Interrupted,
        outcome: None,
        cost: None,
        circumstances: measure::circumstances(Some(claim)),
        kind: Some(Kind {
            family: resolved.entry.family.to_owned(),
            member: resolved.entry.member,
        }),
    };
    let ended = Arc::new(Mutex::new(false));
    end_in_time(record.clone(), records.clone(), signals, Arc::clone(&ended));
    let objective = prepared.objective(&recipe, plan.seed)?;
    let run = Run {
        plan,
        prepared,
        resolved: &resolved,
        recipe: &recipe,
        objective: &*objective,
        folder: folders::weights_folder(&plan.out, &id),
        started,
    };
    signals.flagged();
    let load = measure::Load::watch();
    let made = run.make(signals, tell);
    record.circumstances.load = load.of_others();
    *ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    match made {
        Ok((outcome, cost)) => {
            record.status = Status::Ok;
            record.outcome = Some(outcome);
            record.cost = Some(cost);
        }
        Err(Stop::Diverged { step, reason }) => record.status = Status::Diverged { step, reason },
        Err(Stop::Interrupted) => {}
        Err(Stop::Failed(error)) => {
            record.status = Status::Failed {
                error: format!("{error:#}"),
            }
        }
    }
    if !plan.keep_weights && record.status != Status::Interrupted {
        // They were saved and read again for the run's own check.
        std::fs::remove_dir_all(&run.folder).ok();
    }
    if !store::write(&records, &record)? && record.status.is_whole() {
        eprintln!(
            "note: the run had a record already, which stays; delete {} first to measure its costs anew",
            store::path_of(&records, &id).display()
        );
    }
    if plan.keep_weights && record.status == Status::Ok {
        let config = weights::read_config(&run.folder)?;
        let card = Card {
            config: &config,
            record: Some(&record),
            comparison: None,
            format: None,
            separate_head: false,
        };
        card.write(&run.folder)?;
    }
    Ok(record)
}

/// Ends the process with an interrupted record if the run does not stop in time by itself.
fn end_in_time(record: RunRecord, records: PathBuf, signals: &Signals, ended: Arc<Mutex<bool>>) {
    let (stop, code) = (signals.flag(), signals.code_later());
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(GRACE);
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ended {
            // The process ends either way.
            store::write(&records, &record).ok();
            std::process::exit(code().into());
        }
    });
}

/// What a run is made of.
struct Run<'a> {
    plan: &'a RunPlan,
    prepared: &'a Prepared,
    resolved: &'a Resolved,
    recipe: &'a Recipe,
    objective: &'a dyn Objective,
    /// Where its weights go.
    folder: PathBuf,
    /// When the process began.
    started: Instant,
}

/// A method and its head, as they start or as they were trained.
struct Learner {
    method: Box<dyn PeftMethod>,
    head: Head,
}

impl Learner {
    fn over<'a>(&'a self, backbone: &'a Backbone) -> Model<'a> {
        Model::new(backbone, &*self.method, &self.head)
    }
}

/// The examples of a run and the order in which they are trained on.
struct Examples {
    /// Cut where virtual tokens leave no room.
    encoded: Rc<EncodedData>,
    /// Longest text in tokens.
    max_tokens: usize,
    /// Batches in order.
    order: Vec<Vec<u32>>,
}

impl Run<'_> {
    fn make(
        &self,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(Outcome, Cost), Stop> {
        let mut learner = self.build()?;
        // What all methods start with: one that reads no text has a classifier of its own.
        let shared = self.head(self.prepared.backbone.head, &*learner.method)?;
        let head_digest = backbone::digest_of(shared.vars().iter().map(|(_, v)| v.as_tensor()))?;
        drop(shared);
        let examples = self.examples(&*learner.method)?;
        let trained = self.train(&mut learner, &examples, stop, tell)?;
        let peak_memory_bytes = measure::peak_memory().filter(|_| learner.method.reads_text());

        tell(Event::Stage {
            name: "checking and measuring".into(),
        });
        let file_bytes = self.save(&learner, &examples, &trained)?;
        let loaded = weights::load(&self.folder, &self.prepared.backbone)?;
        let merged = learner.method.merge(self.backbone()).ok();
        let checks = self.check(&learner, &examples, &trained, &loaded, merged.as_ref())?;
        let latency = self.latency(&examples, &loaded, merged.as_ref())?;

        let cost = Cost {
            // The sum of nothing is −0.0.
            training_seconds: 0.0
                + trained
                    .step_seconds
                    .iter()
                    .map(|s| f64::from(*s))
                    .sum::<f64>(),
            step_seconds: trained.step_seconds.clone(),
            examples: trained.examples,
            tokens: trained.tokens,
            evaluation_seconds: trained.evaluation_seconds,
            seconds_to_first_step: trained.first_step.map_or(0.0, |ended| {
                ended.duration_since(self.started).as_secs_f64()
            }),
            peak_memory_bytes,
            file_bytes,
            // What is shipped is what will run.
            resident_bytes: Some(loaded.resident_bytes(self.backbone())),
            latency,
        };
        let outcome = self.outcome(&learner, &examples, trained, head_digest, checks)?;
        Ok((outcome, cost))
    }

    fn backbone(&self) -> &Backbone {
        &self.prepared.backbone.backbone
    }

    /// Method and head as they start, from the seed.
    fn build(&self) -> Result<Learner, Stop> {
        let (seed, loaded) = (self.plan.seed, &self.prepared.backbone);
        let method = self.resolved.build(&mut Context {
            backbone: &loaded.backbone,
            rng: &mut datasets::stream(seed, "method"),
            words: &Vocabulary(&loaded.tokenizer),
        });
        let method = method.map_err(|e| Stop::Failed(e.into()))?;
        let head = self.head(self.head_kind(&*method), &*method)?;
        Ok(Learner { method, head })
    }

    /// A classifier at its start.
    fn head(&self, kind: HeadKind, method: &dyn PeftMethod) -> Result<Head, Stop> {
        if matches!(kind, HeadKind::Words | HeadKind::Vocabulary) {
            return Ok(self.prepared.output_head(method.backbone())?);
        }
        let loaded = &self.prepared.backbone;
        let head = Head::new(
            kind,
            loaded.backbone.config().hidden,
            self.objective.outputs(),
            &mut datasets::stream(self.plan.seed, "head"),
            loaded.backbone.dtype(),
        );
        head.map_err(|e| Stop::Failed(e.into()))
    }

    /// The classifier's kind. What reads no text says how frequent each class is, which takes a bias.
    fn head_kind(&self, method: &dyn PeftMethod) -> HeadKind {
        let head = objective::head(self.objective.kind(), self.prepared.backbone.head);
        match method.reads_text() {
            true => head,
            false if head == HeadKind::Score => HeadKind::Linear,
            false if head == HeadKind::Words => HeadKind::Linear,
            false => head,
        }
    }

    /// The examples as this method can read them. Their order depends on the recipe's lengths, not on the method.
    fn examples(&self, method: &dyn PeftMethod) -> Result<Examples, Stop> {
        let (loaded, recipe, seed) = (&self.prepared.backbone, self.recipe, self.plan.seed);
        // Virtual tokens can leave less room for the text than the recipe allows.
        let virtual_tokens = method.virtual_tokens();
        let max_tokens = loaded.max_tokens(recipe.max_tokens, virtual_tokens);
        let whole = self.prepared.encoded(recipe, seed, 0)?;
        let encoded = self.prepared.encoded(recipe, seed, virtual_tokens)?;
        let cut = encoded.train.truncated + encoded.validation.truncated;
        if max_tokens < loaded.max_tokens(recipe.max_tokens, 0) && cut > 0 {
            eprintln!(
                "note: {cut} texts are cut to {max_tokens} tokens: {virtual_tokens} virtual tokens take the rest of the position table"
            );
        }
        if encoded.same_prompts > whole.same_prompts
            && let Some(note) = texts::same_prompts(encoded.same_prompts)
        {
            eprintln!("note: {note}");
        }
        let all = &whole.train;
        let lengths: Vec<usize> = (0..all.len()).map(|i| all.length(i)).collect();
        Ok(Examples {
            encoded,
            max_tokens,
            order: datasets::batch_order(&lengths, recipe.batch, recipe.steps, seed),
        })
    }

    /// Trains the learner in place.
    fn train(
        &self,
        learner: &mut Learner,
        examples: &Examples,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Trained, Stop> {
        let (recipe, seed) = (self.recipe, self.plan.seed);
        let dataset = &self.prepared.data.dataset;
        let training = Training {
            train: &examples.encoded.train,
            validation: &examples.encoded.validation,
            sample: examples.encoded.sample.as_ref(),
            metrics: &dataset.metrics,
            objective: self.objective,
            order: &examples.order,
            recipe,
            optimiser: self.resolved.optimiser(),
            dropout: datasets::stream(seed, "dropout"),
            augmenter: Augmenter::new(recipe, self.prepared.tokenizer(), seed),
            kept: bare(&*learner.method)
                .then(|| self.prepared.features(&examples.encoded.validation)),
            stop,
        };
        let model = learner.over(self.backbone());
        if let Some(c) = learner.method.solves() {
            training.solved(model, c, tell)
        } else if let Some(votes) = learner.method.neighbours() {
            let (trained, head) = training.remembered(model, votes, tell)?;
            learner.head = head;
            Ok(trained)
        } else if !learner.method.reads_text() {
            training.without_text(model)
        } else if learner.method.vars().is_empty() && learner.head.vars().is_empty() {
            training.as_it_is(model)
        } else {
            training.run(model, tell)
        }
    }

    /// Saves what was trained; returns the file's size.
    fn save(&self, learner: &Learner, examples: &Examples, trained: &Trained) -> Result<u64, Stop> {
        let dataset = &self.prepared.data.dataset;
        let config = SavedConfig {
            format: weights::FORMAT,
            method: self.resolved.entry.name.to_owned(),
            config: self.resolved.config.clone(),
            backbone: self.plan.backbone.clone(),
            backbone_digest: self.prepared.backbone.digest.clone(),
            pooling: self.backbone().pooling(),
            precision: self.backbone().precision(),
            head: self.head_kind(&*learner.method),
            objective: dataset.objective,
            scale: self.prepared.scale(self.recipe, self.plan.seed)?,
            labels: dataset.labels.clone(),
            dataset: dataset.name.clone(),
            // (Known when they are written.)
            weights_sha256: None,
            config_sha256: None,
            data_digest: Some(dataset.digest()),
            pairs: Some(dataset.has_pairs()),
            max_tokens: examples.max_tokens,
            strip: dataset.strip,
            words: self.prepared.words.clone(),
            completion: dataset.completion.clone(),
            metrics: trained
                .evaluations
                .last()
                .map(|e| e.metrics.clone())
                .unwrap_or_default(),
        };
        Ok(weights::save(
            &self.folder,
            &config,
            &*learner.method,
            &learner.head,
        )?)
    }

    /// What a run proves of itself: gradients, start, frozen backbone, saved weights, merged weights.
    fn check(
        &self,
        learner: &Learner,
        examples: &Examples,
        trained: &Trained,
        loaded: &Task,
        merged: Option<&Backbone>,
    ) -> Result<Vec<Check>, Stop> {
        let validation = &examples.encoded.validation;
        let sample: Vec<u32> = (0..validation.len().min(CHECKED) as u32).collect();
        let sample = batch_of(validation, &sample)?;
        let logits = learner.over(self.backbone()).logits(&sample)?;
        let mut checks = vec![gradients_check(trained), self.start_check(&sample)?];

        let unchanged = self.backbone().checksum()? == self.prepared.checksum;
        checks.push(check(
            "backbone_unchanged",
            unchanged,
            "a checksum of the frozen weights before and after training",
        ));

        let again = Model::new(self.backbone(), &*loaded.method, &loaded.head);
        let detail = format!(
            "predictions of the saved weights on {} validation examples, bit for bit",
            logits.len()
        );
        checks.push(check(
            "saved_weights_predict_the_same",
            again.logits(&sample)? == logits,
            &detail,
        ));

        if let Some(merged) = merged {
            let merged = Model::new(merged, &HeadOnly, &learner.head);
            let d = difference(&merged.logits(&sample)?, &logits);
            checks.push(check(
                "merged_equals_unmerged",
                d <= merged_tolerance(self.backbone().precision()),
                &format!("largest relative difference of logits {d:.1e}"),
            ));
        }
        Ok(checks)
    }

    /// Whether the method starts as the bare backbone. The start is made again from its seed: checking it before
    /// training would keep the first step waiting.
    fn start_check(&self, sample: &Batch) -> Result<Check, Stop> {
        let Learner { method, head } = self.build()?;
        let over = |method| Model::new(self.backbone(), method, &head);
        let d = difference(
            &over(&*method).logits(sample)?,
            &over(&HeadOnly).logits(sample)?,
        );
        Ok(match method.starts_as_backbone() {
            Ok(()) => check(
                "starts_as_backbone",
                d <= forward_tolerance(self.backbone().precision()),
                &format!("largest relative difference of logits before training {d:.1e}"),
            ),
            Err(reason) => check(
                "starts_as_backbone",
                true,
                &format!("does not apply: {reason} (largest relative difference {d:.1e})"),
            ),
        })
    }

    /// Times what will run, so what was read back: without a reparametrisation that only training needs.
    fn latency(
        &self,
        examples: &Examples,
        loaded: &Task,
        merged: Option<&Backbone>,
    ) -> Result<Vec<Latency>, Stop> {
        if !loaded.method.reads_text() {
            return Ok(Vec::new());
        }
        let sizes = latency::recorded(self.plan.seed == 0 && self.plan.keep_weights);
        let largest = sizes.iter().map(|(batch, _)| *batch).max().unwrap_or(1);
        let backbone = &self.prepared.backbone;
        let copies = latency::copies(&self.folder, backbone, &*loaded.method, largest)?;
        let mut contenders = latency::contenders(self.backbone(), loaded, &copies, merged);
        let validation = &examples.encoded.validation;
        contenders.extend(latency::prefix_cached(self.backbone(), loaded, validation)?);
        let cells = latency::sentence_cells(validation, sizes)?;
        Ok(latency::measure(&contenders, &cells)?)
    }

    fn outcome(
        &self,
        learner: &Learner,
        examples: &Examples,
        trained: Trained,
        head_digest: String,
        checks: Vec<Check>,
    ) -> Result<Outcome, Stop> {
        let count = |vars: &[(String, candle_core::Var)]| {
            vars.iter().map(|(_, v)| v.elem_count()).sum::<usize>()
        };
        let Learner { method, head } = learner;
        let shipped = method.shipped().map_err(|e| Stop::Failed(e.into()))?;
        let validation = &examples.encoded.validation;
        Ok(Outcome {
            parameters: Parameters {
                method: count(&method.vars()),
                head: if method.reads_text() {
                    count(&head.vars())
                } else {
                    0
                },
                backbone: self.backbone().parameters(),
                shipped: shipped.iter().map(|(_, t)| t.elem_count()).sum(),
            },
            order_digest: datasets::order_digest(&examples.order),
            head_digest,
            loss: trained.loss,
            evaluations: trained.evaluations,
            predictions: self.objective.predictions(validation, trained.logits),
            checks,
        })
    }
}

/// Whether a method leaves the backbone's vectors as they are.
fn bare(method: &dyn PeftMethod) -> bool {
    method.vars().is_empty() && method.backbone().is_none() && method.starts_as_backbone().is_ok()
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
