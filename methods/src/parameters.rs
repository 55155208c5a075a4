//! The named tensors of a method or a head: variables while it is trained, frozen tensors once it is loaded to predict.
//!
//! A [`Builder`] hands out each tensor by name and shape. At the start it draws it and makes it a variable; from saved
//! tensors it checks and takes it, and it stays frozen, so that what is computed from it (packed panels, a norm, a
//! Kronecker product) is computed once. Whoever builds from a builder need not know which of the two it is.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Tensor, Var};
use rand_chacha::ChaCha8Rng;

use crate::{Error, Result};

/// Named tensors in a fixed order.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    named: Vec<Parameter>,
    /// What was computed from them once, at loading.
    computed: Vec<Tensor>,
}

#[derive(Clone, Debug)]
struct Parameter {
    name: String,
    tensor: Tensor,
    /// Where it is trained.
    var: Option<Var>,
    training: Training,
}

/// How a tensor is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Its share of the learning rate.
    pub learning_rate_factor: f64,
    /// Whether weight decay pulls it towards zero. A tensor whose neutral value is another than zero is spared.
    pub decays: bool,
}

impl Parameters {
    /// Of a method that has none.
    pub const NONE: &'static Self = &Self {
        named: Vec::new(),
        computed: Vec::new(),
    };

    /// The trainable variables; none if the tensors were loaded to predict.
    pub fn vars(&self) -> Vec<(String, Var)> {
        let named = self.named.iter();
        named
            .filter_map(|p| Some((p.name.clone(), p.var.clone()?)))
            .collect()
    }

    /// All tensors, without a gradient.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let named = self.named.iter();
        named.map(|p| (p.name.clone(), p.tensor.detach())).collect()
    }

    /// Bytes that the tensors take, with what was computed from them at loading.
    pub fn bytes(&self) -> u64 {
        let named = self.named.iter().map(|p| &p.tensor);
        named.chain(&self.computed).map(bytes).sum()
    }

    /// How a variable is trained.
    pub fn training(&self, variable: &str) -> Option<Training> {
        let found = self.named.iter().find(|p| p.name == variable)?;
        Some(found.training)
    }

    /// Those of several parts, in order.
    pub(crate) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.named.extend(part.named.iter().cloned());
            all.computed.extend(part.computed.iter().cloned());
        }
        all
    }
}

/// Bytes that a tensor's elements take.
pub fn bytes(tensor: &Tensor) -> u64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
}

/// Where tensors come from.
enum Origin<'a> {
    /// Each is drawn.
    Start(&'a mut ChaCha8Rng),
    /// They were saved; these nobody has taken yet.
    Saved(BTreeMap<String, Tensor>),
}

/// Makes [`Parameters`].
pub struct Builder<'a> {
    origin: Origin<'a>,
    /// All names so far.
    names: BTreeSet<String>,
    made: Parameters,
}

impl<'a> Builder<'a> {
    /// Tensors at their start, drawn from a random stream: variables.
    pub fn start(rng: &'a mut ChaCha8Rng) -> Self {
        Self::new(Origin::Start(rng))
    }

    /// Tensors as they were saved: frozen.
    pub fn saved(tensors: BTreeMap<String, Tensor>) -> Self {
        Self::new(Origin::Saved(tensors))
    }

    fn new(origin: Origin<'a>) -> Self {
        Self {
            origin,
            names: BTreeSet::new(),
            made: Parameters::default(),
        }
    }

    /// Whether the tensors were saved, so that what is built will only predict.
    pub fn is_saved(&self) -> bool {
        matches!(self.origin, Origin::Saved(_))
    }

    /// A trained tensor. Weight decay spares those of rank 1, which are biases and norms.
    ///
    /// # Errors
    /// If its start cannot be made, or what was saved lacks it or has it in another shape.
    pub fn variable<E>(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        start: impl FnOnce(&mut ChaCha8Rng) -> std::result::Result<Tensor, E>,
    ) -> Result<Tensor>
    where
        Error: From<E>,
    {
        let training = Training {
            learning_rate_factor: 1.0,
            decays: shape.len() > 1,
        };
        self.trained(name, shape, training, start)
    }

    /// As [`Builder::variable`], trained in another way.
    ///
    /// # Errors
    /// As [`Builder::variable`].
    pub fn trained<E>(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        training: Training,
        start: impl FnOnce(&mut ChaCha8Rng) -> std::result::Result<Tensor, E>,
    ) -> Result<Tensor>
    where
        Error: From<E>,
    {
        self.add(name.into(), shape, Some(training), start)
    }

    /// A tensor that is saved with the others and never trained.
    ///
    /// # Errors
    /// As [`Builder::variable`].
    pub fn constant<E>(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        start: impl FnOnce(&mut ChaCha8Rng) -> std::result::Result<Tensor, E>,
    ) -> Result<Tensor>
    where
        Error: From<E>,
    {
        self.add(name.into(), shape, None, start)
    }

    fn add<E>(
        &mut self,
        name: String,
        shape: &[usize],
        training: Option<Training>,
        start: impl FnOnce(&mut ChaCha8Rng) -> std::result::Result<Tensor, E>,
    ) -> Result<Tensor>
    where
        Error: From<E>,
    {
        if !self.names.insert(name.clone()) {
            return Err(Error::Weights(format!(
                "two parts of the combination both have the tensor '{name}'"
            )));
        }
        let (tensor, var) = match &mut self.origin {
            Origin::Start(rng) => {
                let tensor = start(rng)?;
                match training {
                    Some(_) => {
                        let var = Var::from_tensor(&tensor)?;
                        (var.as_tensor().clone(), Some(var))
                    }
                    None => (tensor, None),
                }
            }
            Origin::Saved(tensors) => {
                let tensor = tensors
                    .remove(&name)
                    .ok_or_else(|| Error::Weights(format!("tensor '{name}' is missing")))?;
                check_shape(&name, &tensor, shape)?;
                (tensor.detach(), None)
            }
        };
        let training = training.unwrap_or(Training {
            learning_rate_factor: 0.0,
            decays: false,
        });
        self.made.named.push(Parameter {
            name,
            tensor: tensor.clone(),
            var,
            training,
        });
        Ok(tensor)
    }

    /// What need be computed only once where the tensors are frozen; nothing where they are trained, as it changes then.
    ///
    /// # Errors
    /// If `make` fails.
    pub fn once(&mut self, make: impl FnOnce() -> Result<Vec<Tensor>>) -> Result<Vec<Tensor>> {
        if !self.is_saved() {
            return Ok(Vec::new());
        }
        let tensors = kernels::without_gradients(make)?;
        self.made.computed.extend(tensors.iter().cloned());
        Ok(tensors)
    }

    /// What has been made since the last call.
    pub fn take(&mut self) -> Parameters {
        std::mem::take(&mut self.made)
    }

    /// Refuses saved tensors that nobody took.
    ///
    /// # Errors
    /// Naming the first.
    pub fn finish(self) -> Result<()> {
        match self.origin {
            Origin::Saved(tensors) => match tensors.keys().next() {
                Some(name) => Err(Error::Weights(format!(
                    "tensor '{name}' does not belong to this method"
                ))),
                None => Ok(()),
            },
            Origin::Start(_) => Ok(()),
        }
    }
}

fn check_shape(name: &str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    let got = tensor.dims();
    if got != expected {
        return Err(Error::Weights(format!(
            "tensor '{name}' has shape {got:?}, expected {expected:?}"
        )));
    }
    Ok(())
}

/// Sets variables from saved tensors.
///
/// # Errors
/// If a variable has no tensor, a tensor no variable, or a shape differs; the message names it.
pub fn restore(vars: &[(String, Var)], tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    // All names and shapes are checked before anything is set.
    let found = vars.iter().map(|(name, var)| {
        let tensor = tensors
            .get(name)
            .ok_or_else(|| Error::Weights(format!("tensor '{name}' is missing")))?;
        check_shape(name, tensor, var.dims())?;
        Ok((var, tensor))
    });
    let found = found.collect::<Result<Vec<_>>>()?;
    if let Some(name) = tensors
        .keys()
        .find(|name| !vars.iter().any(|(known, _)| known == *name))
    {
        return Err(Error::Weights(format!(
            "tensor '{name}' does not belong to this method"
        )));
    }
    for (var, tensor) in found {
        var.set(tensor)?;
    }
    Ok(())
}
