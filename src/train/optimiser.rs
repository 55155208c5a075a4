//! AdamW with clipping over the method's and the head's variables (Loshchilov and Hutter 2019, arXiv:1711.05101).

use candle_core::{Var, backprop::GradStore};
use kernels::{AdamWStep, Moments};

use super::recipe::Recipe;

/// Why a step could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A trainable variable got no gradient: something cut the graph.
    #[error("'{0}' got no gradient: an operation between it and the loss cut the graph")]
    Missing(String),
    /// A gradient is infinite or not a number.
    #[error("the gradient of '{0}' is not finite")]
    NotFinite(String),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// A variable with its share of the optimiser.
struct Parameter {
    name: String,
    var: Var,
    learning_rate: f64,
    weight_decay: f64,
    moments: Moments,
    moved: bool,
}

/// The optimiser of a run.
pub struct Optimiser {
    parameters: Vec<Parameter>,
    recipe: Recipe,
    step: usize,
}

impl Optimiser {
    /// An optimiser without variables.
    pub fn new(recipe: &Recipe) -> Self {
        Self {
            parameters: Vec::new(),
            recipe: recipe.clone(),
            step: 0,
        }
    }

    /// Adds the variables of a method or a head with a peak learning rate and a weight decay; each says what share of the
    /// rate it takes, and whether decay is for it.
    pub fn add(&mut self, parameters: &methods::Parameters, learning_rate: f64, weight_decay: f64) {
        for (name, var) in parameters.vars() {
            let Some(training) = parameters.training(&name) else {
                continue;
            };
            let decay = if training.decays { weight_decay } else { 0.0 };
            let rate = learning_rate * training.learning_rate_factor;
            self.add_one(&name, &var, rate, decay);
        }
    }

    /// Adds a variable with a peak learning rate and a weight decay of its own.
    pub fn add_one(&mut self, name: &str, var: &Var, learning_rate: f64, weight_decay: f64) {
        self.parameters.push(Parameter {
            name: name.to_owned(),
            var: var.clone(),
            learning_rate,
            weight_decay,
            moments: Moments::zeros(var.elem_count()),
            moved: false,
        });
    }

    /// One step: audits the gradients, clips their global norm, updates every variable. Returns the norm before clipping.
    ///
    /// # Errors
    /// If a variable has no gradient or a non-finite one; nothing has been updated then.
    pub fn step(&mut self, grads: &GradStore) -> Result<f64, StepError> {
        let mut squares = 0.0;
        for p in &mut self.parameters {
            let grad = grads
                .get(&p.var)
                .ok_or_else(|| StepError::Missing(p.name.clone()))?;
            let square = kernels::sum_of_squares(grad)?;
            if !square.is_finite() {
                return Err(StepError::NotFinite(p.name.clone()));
            }
            p.moved |= square > 0.0;
            squares += square;
        }
        let norm = squares.sqrt();
        // The small constant is torch.nn.utils.clip_grad_norm_'s.
        let grad_scale = (self.recipe.clip / (norm + 1e-6)).min(1.0);
        let share = self.recipe.schedule(self.step);
        self.step += 1;
        for p in &mut self.parameters {
            let Some(grad) = grads.get(&p.var) else {
                continue;
            };
            let step = AdamWStep {
                lr: p.learning_rate * share,
                beta1: self.recipe.beta1,
                beta2: self.recipe.beta2,
                eps: self.recipe.epsilon,
                weight_decay: p.weight_decay,
                step: self.step,
                grad_scale,
            };
            kernels::adamw_step(&p.var, grad, &mut p.moments, &step)?;
        }
        Ok(norm)
    }

    /// Names of the variables that never got a gradient other than zero.
    pub fn never_moved(&self) -> Vec<&str> {
        self.parameters
            .iter()
            .filter(|p| !p.moved)
            .map(|p| p.name.as_str())
            .collect()
    }
}
