//! What the runs of a comparison share: data and backbone in memory, and what names a run.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use anyhow::Result;
use methods::Resolved;
use record::{Asked, MethodFacts};
use sha2::{Digest, Sha256};

use super::{
    encoded::{EncodedData, data_facts},
    recipe::Recipe,
};
use crate::{
    plan::RunPlan,
    prepare::{Files, LoadedBackbone, LoadedData},
};

/// Everything in memory that the runs of a comparison share.
pub struct Prepared {
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

impl Prepared {
    /// Loads what a plan names.
    ///
    /// # Errors
    /// If data or backbone are not found, or are damaged.
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
            numerics: numerics(),
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

/// Versions of the code that decides a run's numbers: kernels, backbone, the method. One of them is raised when a change
/// gives other numbers for the same question.
fn numerics() -> BTreeMap<String, u32> {
    [
        ("kernels", kernels::NUMERICS),
        ("backbone", backbone::NUMERICS),
    ]
    .map(|(part, version)| (part.to_owned(), version))
    .into()
}

/// The name of a run: the first 16 hexadecimal digits of the SHA-256 of what determines it.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn id_of(asked: &Asked) -> Result<String> {
    let digest = Sha256::digest(serde_json::to_vec(asked)?);
    Ok(digest.iter().take(8).map(|b| format!("{b:02x}")).collect())
}
