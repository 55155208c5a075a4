//! Training and evaluating one method: batches in, losses and logits out.
//!
//! The trainer knows no method by name: a method without variables has constant features, so they are
//! computed once per example; every other one runs through the backbone at every step.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use backbone::Phase;
use candle_core::{Device, Tensor};
use datasets::{Encoded, Metric, Target};
use methods::HeadOnly;
use rand_chacha::ChaCha8Rng;
use record::{Evaluation, answers};
use statistics::argmax;

use super::{
    augmenter::Augmenter,
    encoded::Sample,
    features::{FeatureFile, Features},
    head::Head,
    logistic::Problem,
    model::{EVALUATION_BATCH, Model, batch_of, by_example, by_length},
    neighbours::Neighbours,
    optimiser::{Optimiser, StepError},
    recipe::Recipe,
};
use crate::objective::Objective;

/// Why training ended before its last step.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The loss or a gradient stopped being finite.
    #[error("diverged at step {step}: {reason}")]
    Diverged {
        /// Step, counted from 1.
        step: usize,
        /// What was not finite.
        reason: String,
    },
    /// The user asked for it.
    #[error("interrupted")]
    Interrupted,
    /// Something failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl From<candle_core::Error> for Stop {
    fn from(e: candle_core::Error) -> Self {
        Self::Failed(e.into())
    }
}

impl From<backbone::Error> for Stop {
    fn from(e: backbone::Error) -> Self {
        Self::Failed(e.into())
    }
}

/// What the trainer tells while it works.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A piece of work has begun.
    Stage {
        /// Its name.
        name: String,
    },
    /// A training step has ended.
    Step {
        /// Steps done.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// The step's training loss.
        loss: f32,
        /// Examples per second of training so far.
        examples_per_second: f64,
    },
    /// The validation split has been evaluated.
    Evaluated {
        /// Steps done.
        step: usize,
        /// The data set's main metric.
        metric: f64,
    },
}

/// What training needs besides the model.
pub struct Training<'a> {
    /// Training examples.
    pub train: &'a Encoded,
    /// Validation examples.
    pub validation: &'a Encoded,
    /// Those of them that are judged before the last step; all where absent.
    pub sample: Option<&'a Sample>,
    /// Metrics of the data set, the main one first.
    pub metrics: &'a [Metric],
    /// What is predicted.
    pub objective: &'a dyn Objective,
    /// Batches in order.
    pub order: &'a [Vec<u32>],
    /// The shared recipe.
    pub recipe: &'a Recipe,
    /// The method's own optimiser keys.
    pub optimiser: methods::Optimiser,
    /// The stream that dropout draws from.
    pub dropout: ChaCha8Rng,
    /// What changes training examples each time they are seen, if anything does.
    pub augmenter: Option<Augmenter>,
    /// Where the vectors of the validation split are kept for other runs, if they are those of the bare backbone.
    pub kept: Option<FeatureFile>,
    /// Set when the user wants to stop.
    pub stop: &'a AtomicBool,
}

/// What training gives.
#[derive(Default)]
pub struct Trained {
    /// Loss of every step.
    pub loss: Vec<f32>,
    /// Seconds of every step.
    pub step_seconds: Vec<f32>,
    /// When the first step ended; absent where nothing is trained.
    pub first_step: Option<Instant>,
    /// Examples trained on.
    pub examples: usize,
    /// Tokens trained on, as augmentation left them.
    pub tokens: usize,
    /// Evaluations on the way.
    pub evaluations: Vec<Evaluation>,
    /// Seconds of evaluations.
    pub evaluation_seconds: f64,
    /// Outputs of the validation split after the last step.
    pub logits: Vec<Vec<f32>>,
    /// Variables that never got a gradient other than zero.
    pub never_moved: Vec<String>,
}

impl Training<'_> {
    /// Trains the model's variables in place.
    ///
    /// # Errors
    /// [`Stop`] when training ended early.
    pub fn run(mut self, model: Model<'_>, tell: &mut dyn FnMut(Event)) -> Result<Trained, Stop> {
        let vars = model.method.vars();
        let mut augmenter = self.augmenter.clone();
        let mut features = (vars.is_empty() && augmenter.is_none()).then(Features::default);
        let mut validation_features = vars.is_empty().then(|| Features::kept_in(self.kept.take()));
        let mut optimiser = Optimiser::new(self.recipe);
        let own = self.optimiser;
        optimiser.add(
            model.method.parameters(),
            own.learning_rate,
            own.weight_decay,
        );
        let head_rate = self.recipe.head_learning_rate.unwrap_or(own.learning_rate);
        optimiser.add(model.head.parameters(), head_rate, own.weight_decay);
        let dropout = RefCell::new(self.dropout.clone());
        let evaluate_after: BTreeSet<usize> = self.recipe.evaluation_steps().into_iter().collect();

        let mut first_step = None;
        let (mut loss, mut step_seconds, mut evaluations) = (Vec::new(), Vec::new(), Vec::new());
        let (mut examples, mut tokens, mut seconds, mut evaluation_seconds) = (0, 0, 0.0, 0.0);
        let mut logits = Vec::new();
        for (i, indices) in self.order.iter().enumerate() {
            let step = i + 1;
            if self.stop.load(Ordering::Relaxed) {
                return Err(Stop::Interrupted);
            }
            let clock = Instant::now();
            let pooled = match &mut features {
                Some(features) => {
                    let lengths = indices.iter().map(|i| self.train.length(*i as usize));
                    tokens += lengths.sum::<usize>();
                    features.pooled(model, self.train, indices)?
                }
                None => {
                    let batch = match &mut augmenter {
                        Some(augmenter) => augmenter.batch(self.train, indices)?,
                        None => batch_of(self.train, indices)?,
                    };
                    tokens += batch.ids().len();
                    model.pooled(&batch, Phase::Train(&dropout))?
                }
            };
            let step_loss = self
                .objective
                .loss(model.head, &pooled, self.train, indices)?;
            let value = step_loss
                .to_dtype(candle_core::DType::F32)?
                .to_scalar::<f32>()?;
            if !value.is_finite() {
                self.check_backbone(model, indices)?;
                return Err(Stop::Diverged {
                    step,
                    reason: format!("the loss is {value}"),
                });
            }
            let grads = kernels::backward(&step_loss)?;
            drop((step_loss, pooled));
            optimiser.step(&grads).map_err(|e| match e {
                StepError::NotFinite(_) => Stop::Diverged {
                    step,
                    reason: e.to_string(),
                },
                other => Stop::Failed(other.into()),
            })?;
            drop(grads);
            let elapsed = clock.elapsed().as_secs_f64();
            first_step.get_or_insert_with(Instant::now);
            seconds += elapsed;
            step_seconds.push(elapsed as f32);
            loss.push(value);
            examples += indices.len();
            tell(Event::Step {
                step,
                steps: self.order.len(),
                loss: value,
                examples_per_second: examples as f64 / seconds,
            });

            if evaluate_after.contains(&step) {
                let clock = Instant::now();
                let sample = self.sample.filter(|_| step < self.order.len());
                logits = match (&mut validation_features, sample) {
                    (Some(features), sample) => {
                        let all = self.constant(model, features)?;
                        match sample {
                            None => all,
                            Some(sample) => {
                                let of = |i: &u32| all[*i as usize].clone();
                                sample.indices.iter().map(of).collect()
                            }
                        }
                    }
                    (None, None) => model.all_logits(self.validation)?,
                    (None, Some(sample)) => model.all_logits(&sample.examples)?,
                };
                // The last update has no loss of its own.
                if let Some(value) = logits.iter().flatten().find(|v| !v.is_finite()) {
                    return Err(Stop::Diverged {
                        step,
                        reason: format!("an output for the validation split is {value}"),
                    });
                }
                let evaluation = self.evaluation(step, &logits, sample);
                tell(Event::Evaluated {
                    step,
                    metric: evaluation.metrics[self.metrics[0].name()],
                });
                evaluations.push(evaluation);
                evaluation_seconds += clock.elapsed().as_secs_f64();
            }
        }
        let never_moved = optimiser
            .never_moved()
            .into_iter()
            .map(str::to_owned)
            .collect();
        Ok(Trained {
            loss,
            step_seconds,
            first_step,
            examples,
            tokens,
            evaluations,
            evaluation_seconds,
            logits,
            never_moved,
        })
    }

    /// Tells a backbone that gives numbers that are not finite by itself from training that diverged.
    fn check_backbone(&self, model: Model<'_>, indices: &[u32]) -> Result<(), Stop> {
        let batch = batch_of(self.train, indices)?;
        let bare = Model {
            method: &HeadOnly,
            ..model
        };
        let pooled = kernels::without_gradients(|| bare.pooled(&batch, Phase::Eval))?;
        let pooled = pooled.to_dtype(candle_core::DType::F32)?.flatten_all()?;
        if pooled.to_vec1::<f32>()?.iter().all(|v| v.is_finite()) {
            return Ok(());
        }
        Err(Stop::Failed(anyhow::anyhow!(
            "the backbone itself, without any method, gives numbers that are not finite: its weights are damaged, or \
             its configuration does not belong to them"
        )))
    }

    /// What a method that reads no text does instead of training: the head gets the best outputs that do not depend on the
    /// text, such as the frequencies of the training labels. No step is made, and nothing is timed.
    ///
    /// # Errors
    /// [`Stop`] if the head cannot be set or applied.
    pub fn without_text(self, model: Model<'_>) -> Result<Trained, Stop> {
        model
            .head
            .say_always(&self.objective.constant(self.train))?;
        let any = Tensor::zeros(
            (1, model.backbone.config().hidden),
            model.backbone.dtype(),
            &Device::Cpu,
        )?;
        let row = model.head.forward(&any)?;
        let row = row.to_dtype(candle_core::DType::F32)?.squeeze(0)?;
        let row: Vec<f32> = row.to_vec1()?;
        let logits: Vec<Vec<f32>> = vectors(self.validation).map(|n| row.repeat(n)).collect();
        Ok(Trained {
            evaluations: vec![self.evaluation(0, &logits, None)],
            logits,
            ..Trained::default()
        })
    }

    /// What a method does whose head is solved for as a logistic regression on vectors that nothing changes: each example goes through the
    /// backbone once. No step is made.
    ///
    /// # Errors
    /// [`Stop`] if it ended early, or the head is not linear.
    pub fn solved(
        mut self,
        model: Model<'_>,
        c: f64,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Trained, Stop> {
        if !self.objective.kind().is_classification() {
            return Err(Stop::Failed(anyhow::anyhow!(
                "a logistic regression gives one class of several, but the objective of this data set is {}; leave the method out",
                self.objective.kind().name()
            )));
        }
        if !model.head.is_linear() {
            return Err(Stop::Failed(anyhow::anyhow!(
                "a logistic regression needs a linear head: --set backbone.head=linear"
            )));
        }
        let clock = Instant::now();
        let (features, tokens) =
            self.frozen_vectors(model, "reading the vectors and solving", tell)?;
        let labels = self.train.labels.iter().filter_map(Target::class);
        let labels: Vec<u32> = labels.collect();
        let problem = Problem {
            features: &features,
            hidden: model.backbone.config().hidden,
            labels: &labels,
            classes: self.objective.outputs(),
            c,
        };
        let found = problem.solve(self.stop).ok_or(Stop::Interrupted)?;
        model.head.set(&found.weight, &found.bias)?;
        let mut trained = self.evaluated(model, clock, tell)?;
        trained.tokens = tokens;
        if !found.converged {
            let missed = "head.output (the solver did not converge)";
            trained.never_moved.push(missed.to_owned());
        }
        Ok(trained)
    }

    /// What is known of a model whose head is there at once, since `clock` was started, and not after steps: it is evaluated.
    fn evaluated(
        &mut self,
        model: Model<'_>,
        clock: Instant,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Trained, Stop> {
        let seconds = clock.elapsed().as_secs_f64();
        let first_step = Some(Instant::now());
        let clock = Instant::now();
        let mut features = Features::kept_in(self.kept.take());
        let logits = self.constant(model, &mut features)?;
        let evaluation = self.evaluation(0, &logits, None);
        tell(Event::Evaluated {
            step: 0,
            metric: evaluation.metrics[self.metrics[0].name()],
        });
        Ok(Trained {
            step_seconds: vec![seconds as f32],
            first_step,
            examples: self.train.len(),
            evaluations: vec![evaluation],
            evaluation_seconds: clock.elapsed().as_secs_f64(),
            logits,
            ..Trained::default()
        })
    }

    /// The vectors that nothing changes, of all training examples one after the other, and how many tokens were read for them.
    fn frozen_vectors(
        &self,
        model: Model<'_>,
        stage: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(Vec<f32>, usize), Stop> {
        tell(Event::Stage {
            name: stage.to_owned(),
        });
        let hidden = model.backbone.config().hidden;
        let mut features = vec![0f32; self.train.len() * hidden];
        let mut tokens = 0;
        for indices in by_length(self.train) {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Stop::Interrupted);
            }
            let batch = batch_of(self.train, &indices)?;
            tokens += batch.ids().len();
            let pooled = kernels::without_gradients(|| model.pooled(&batch, Phase::Eval))?;
            let rows = pooled.to_dtype(candle_core::DType::F32)?.to_vec2::<f32>()?;
            for (i, row) in indices.iter().zip(rows) {
                let at = *i as usize * hidden;
                features[at..at + hidden].copy_from_slice(&row);
            }
        }
        if features.iter().any(|x| !x.is_finite()) {
            let first: Vec<u32> = (0..self.train.len().min(EVALUATION_BATCH) as u32).collect();
            self.check_backbone(model, &first)?;
            return Err(Stop::Failed(anyhow::anyhow!(
                "a vector of the backbone is not finite"
            )));
        }
        Ok((features, tokens))
    }

    /// What a method does whose head is the nearest training examples: each goes through the backbone once, and the head that remembers
    /// them is given back. No step is made.
    ///
    /// # Errors
    /// [`Stop`] if it ended early, or the data set has no classes.
    pub fn remembered(
        mut self,
        model: Model<'_>,
        votes: usize,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(Trained, Head), Stop> {
        if !self.objective.kind().is_classification() {
            return Err(Stop::Failed(anyhow::anyhow!(
                "the nearest examples vote for one class of several, but the objective of this data set is {}; leave the method out",
                self.objective.kind().name()
            )));
        }
        let clock = Instant::now();
        let (features, tokens) = self.frozen_vectors(model, "reading the vectors", tell)?;
        let labels = self.train.labels.iter().filter_map(Target::class);
        let labels: Vec<u32> = labels.collect();
        let hidden = model.backbone.config().hidden;
        let found = Neighbours::new(features, hidden, &labels, self.objective.outputs(), votes);
        let head = Head::of_neighbours(found.map_err(|e| Stop::Failed(e.into()))?);
        let model = Model {
            head: &head,
            ..model
        };
        let mut trained = self.evaluated(model, clock, tell)?;
        trained.tokens = tokens;
        Ok((trained, head))
    }

    /// What a model without anything to train does: it is evaluated.
    ///
    /// # Errors
    /// [`Stop`] if the model cannot be applied, or gives numbers that are not finite.
    pub fn as_it_is(mut self, model: Model<'_>) -> Result<Trained, Stop> {
        let clock = Instant::now();
        let mut features = Features::kept_in(self.kept.take());
        let logits = self.constant(model, &mut features)?;
        if logits.iter().flatten().any(|v| !v.is_finite()) {
            return Err(Stop::Failed(anyhow::anyhow!(
                "the backbone gives numbers that are not finite: its weights are damaged, or its configuration does not \
                 belong to them"
            )));
        }
        Ok(Trained {
            evaluations: vec![self.evaluation(0, &logits, None)],
            evaluation_seconds: clock.elapsed().as_secs_f64(),
            logits,
            ..Trained::default()
        })
    }

    /// Outputs of the validation split of a model whose vectors nothing changes.
    fn constant(
        &self,
        model: Model<'_>,
        features: &mut Features,
    ) -> backbone::Result<Vec<Vec<f32>>> {
        // What is written is no function of the vectors of the true completion.
        if model.head.vocabulary().is_some() {
            return model.all_logits(self.validation);
        }
        let pooled = features.of_all(model, self.validation)?;
        let outputs = kernels::without_gradients(|| model.head.forward(&pooled))?;
        Ok(by_example(outputs.to_vec2()?, vectors(self.validation)))
    }

    /// What the outputs of all validation examples are worth, or those of a sample.
    fn evaluation(&self, step: usize, outputs: &[Vec<f32>], sample: Option<&Sample>) -> Evaluation {
        let examples = sample.map_or(self.validation, |sample| &sample.examples);
        // What is kept of every evaluation is the class of each example, where it has one.
        let predicted = match self.objective.kind().is_classification() {
            true => {
                let classes: Vec<u32> = outputs.iter().map(|row| argmax(row)).collect();
                let (all, labels) = (self.validation.len(), self.objective.outputs());
                match sample {
                    None => answers::write(&classes, labels),
                    Some(sample) => answers::write_some(&classes, &sample.indices, all, labels),
                }
            }
            false => String::new(),
        };
        Evaluation {
            step,
            loss: self.objective.mean_loss(examples, outputs),
            metrics: self.objective.metrics(self.metrics, examples, outputs),
            predicted,
            examples: sample.map(|sample| sample.indices.len()),
        }
    }
}

/// How many vectors are read of each example.
fn vectors(examples: &Encoded) -> impl Iterator<Item = usize> {
    (0..examples.len()).map(|i| examples.words.get(i).map_or(1, Vec::len))
}
