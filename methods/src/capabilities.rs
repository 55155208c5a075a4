//! What each method can do, found out by trying it on a small random backbone.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use backbone::{
    Activation, Architecture, Backbone, Batch, Config, Hooks, Input, KeyValues, LayerNorm, Norm,
    Pass, Phase, Pooling, Site, Sublayer,
};
use candle_core::Tensor;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::Serialize;

use crate::{Context, Entry, PeftMethod, Result, Vocabulary, registry::resolve};

/// What a method can do with its default configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Its name.
    pub method: &'static str,
    /// Whether a comparison trains it unless others are named.
    pub standard: bool,
    /// Where it changes what the backbone computes: `input`, `positions`, `keys and values`, `norms`, names of linear
    /// layers, `after attention`, `after feed_forward`; or `own backbone`. Empty for a method that changes nothing.
    pub acts_on: Vec<String>,
    /// Whether it can become part of the backbone's weights.
    pub mergeable: bool,
    /// Whether its examples can share a batch with those of other tasks over one backbone.
    pub mixed_batches: bool,
    /// Number of trained parameters, as a formula in the sizes of the backbone and the keys of the configuration.
    pub parameters: &'static str,
    /// Whether what it ships has another number of parameters than what it trains.
    pub ships_less: bool,
}

/// Tries a method.
///
/// # Errors
/// If it cannot be built or run with its default configuration.
pub fn capabilities(entry: &'static Entry) -> Result<Capabilities> {
    let backbone = small_backbone()?;
    let resolved = resolve(entry.name, &BTreeMap::new())?;
    let method = resolved.build(&mut Context {
        backbone: &backbone,
        rng: &mut ChaCha8Rng::seed_from_u64(0),
        words: &SmallVocabulary,
    })?;
    // Away from the start, where many methods are the identity.
    for (i, (_, var)) in method.vars().iter().enumerate() {
        let noise: Vec<f32> = (0..var.elem_count())
            .map(|j| 0.1 * ((31 * i + 7 * j) as f32).sin())
            .collect();
        let noise = Tensor::from_vec(noise, var.shape(), var.device())?;
        var.set(&(var.as_detached_tensor() + noise)?)?;
    }
    let probe = Probe {
        method: &*method,
        seen: RefCell::default(),
    };
    let batch = Batch::new((2..9).collect(), vec![0; 7], vec![0, 3, 7])?;
    if method.backbone().is_some() {
        probe.saw(Place::Backbone);
    } else {
        backbone.pooled(&batch, &probe, Phase::Eval)?;
    }
    let count = |sizes: Vec<usize>| sizes.iter().sum::<usize>();
    let trained = count(method.vars().iter().map(|(_, v)| v.elem_count()).collect());
    let shipped = count(
        method
            .shipped()?
            .iter()
            .map(|(_, t)| t.elem_count())
            .collect(),
    );
    let seen = probe.seen.into_inner();
    Ok(Capabilities {
        method: entry.name,
        standard: entry.standard,
        acts_on: seen.into_iter().map(Place::name).collect(),
        mergeable: method.merge(&backbone).is_ok(),
        mixed_batches: method.backbone().is_none() && method.reads_text(),
        parameters: entry.parameters,
        ships_less: shipped < trained,
    })
}

fn small_backbone() -> Result<Backbone> {
    let config = Config {
        architecture: Architecture::Bert,
        layers: 2,
        hidden: 128,
        heads: 2,
        intermediate: 64,
        vocabulary: 64,
        positions: 64,
        position_offset: 0,
        position_padding: None,
        position_table: true,
        token_types: 2,
        activation: Activation::Gelu,
        epsilon: 1e-12,
        description: backbone::Description::post_norm(2, 128),
    };
    let random = Backbone::random(config, &mut ChaCha8Rng::seed_from_u64(0))?;
    Ok(random.with_pooling(Pooling::Mean)?)
}

struct SmallVocabulary;

impl Vocabulary for SmallVocabulary {
    fn encode(&self, text: &str) -> std::result::Result<Vec<u32>, String> {
        Ok(text.bytes().map(|b| u32::from(b) % 64).collect())
    }

    fn ordinary(&self) -> Vec<u32> {
        (5..64).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Input,
    Positions,
    Linear(backbone::Projection),
    KeysValues,
    After(Sublayer),
    Norms,
    Backbone,
}

impl Place {
    fn name(self) -> String {
        match self {
            Self::Input => "input".into(),
            Self::Positions => "positions".into(),
            Self::Linear(projection) => projection.name().into(),
            Self::KeysValues => "keys and values".into(),
            Self::After(which) => format!("after {}", which.name()),
            Self::Norms => "norms".into(),
            Self::Backbone => "own backbone".into(),
        }
    }
}

/// Hooks that note where the method's own change something.
struct Probe<'a> {
    method: &'a dyn PeftMethod,
    seen: RefCell<BTreeSet<Place>>,
}

impl Probe<'_> {
    fn saw(&self, place: Place) {
        self.seen.borrow_mut().insert(place);
    }

    fn compare(&self, place: Place, before: &Tensor, after: &Tensor) -> backbone::Result<()> {
        let same =
            before.dims() == after.dims() && before.to_vec2::<f32>()? == after.to_vec2::<f32>()?;
        if !same {
            self.saw(place);
        }
        Ok(())
    }
}

impl Hooks for Probe<'_> {
    fn input(&self, input: Input, phase: Phase<'_>) -> backbone::Result<Input> {
        let before = input.clone();
        let after = self.method.input(input, phase)?;
        if before.first_position != after.first_position {
            self.saw(Place::Positions);
        }
        self.compare(Place::Input, &before.embeddings, &after.embeddings)?;
        Ok(after)
    }

    fn acts_on(&self, site: Site) -> bool {
        self.method.acts_on(site)
    }

    fn linear_input(&self, site: Site, x: &Tensor, pass: Pass<'_>) -> backbone::Result<Tensor> {
        let after = self.method.linear_input(site, x, pass)?;
        self.compare(Place::Linear(site.projection), x, &after)?;
        Ok(after)
    }

    fn linear(
        &self,
        site: Site,
        x: &Tensor,
        y: Tensor,
        pass: Pass<'_>,
    ) -> backbone::Result<Tensor> {
        let after = self.method.linear(site, x, y.clone(), pass)?;
        self.compare(Place::Linear(site.projection), &y, &after)?;
        Ok(after)
    }

    fn keys_values(
        &self,
        layer: usize,
        own: KeyValues,
        phase: Phase<'_>,
    ) -> backbone::Result<KeyValues> {
        let before = own.clone();
        let after = self.method.keys_values(layer, own, phase)?;
        self.compare(Place::KeysValues, &before.keys, &after.keys)?;
        self.compare(Place::KeysValues, &before.values, &after.values)?;
        Ok(after)
    }

    fn sublayer(
        &self,
        layer: usize,
        which: Sublayer,
        h: Tensor,
        residual: &Tensor,
        norm: &LayerNorm,
        pass: Pass<'_>,
    ) -> backbone::Result<Tensor> {
        let after = self
            .method
            .sublayer(layer, which, h.clone(), residual, norm, pass)?;
        self.compare(Place::After(which), &h, &after)?;
        Ok(after)
    }

    fn apply_norm(
        &self,
        at: Norm,
        h: &Tensor,
        residual: Option<&Tensor>,
        frozen: &LayerNorm,
        pass: Pass<'_>,
    ) -> backbone::Result<Tensor> {
        let before = backbone::NoHooks.apply_norm(at, h, residual, frozen, pass)?;
        let after = self.method.apply_norm(at, h, residual, frozen, pass)?;
        self.compare(Place::Norms, &before, &after)?;
        Ok(after)
    }
}
