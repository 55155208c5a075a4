//! What the runs of a comparison share: data and backbone in memory, and what names a run.

use std::{cell::RefCell, collections::BTreeMap, path::Path, rc::Rc};

use anyhow::{Context, Result, bail, ensure};
use backbone::{Backbone, HeadKind};
use datasets::{Augmentation, ClassCount, Encoded, Split, TextTokenizer, Words};
use methods::{Answer, Resolved};
use record::{Asked, MethodFacts};
use reports::{format, table::Table};
use sha2::{Digest, Sha256};

use super::{
    completions,
    encoded::{EncodedData, data_facts},
    features::FeatureFile,
    head::Head,
    recipe::{Recipe, RecipeChoice},
    words,
};
use crate::{
    measure, objective,
    objective::{Objective, Scale},
    plan::{RunPlan, Trial},
    prepare::{Files, LoadedBackbone, LoadedData},
    texts,
};

/// Classes that are shown before training.
const MOST_CLASSES: usize = 20;
/// Characters of a class's name that are shown there.
const LONGEST_CLASS: usize = 40;

/// Everything in memory that the runs of a comparison share.
pub struct Prepared {
    /// The data.
    pub data: LoadedData,
    /// The backbone with its tokenizer.
    pub backbone: LoadedBackbone,
    /// [`backbone::Backbone::checksum`] of it as it was loaded.
    pub checksum: u64,
    /// What stands around a text and for the classes, where classes are words.
    pub words: Option<Words>,
    /// The tokenizer that puts the template around texts, or prompts before completions.
    of_words: Option<TextTokenizer>,
    /// Token ids of the examples that each choice of the recipe and seed takes, made when first asked for.
    encoded: RefCell<BTreeMap<Chosen, Rc<EncodedData>>>,
    files: Files,
}

/// What decides which examples are taken, and how long they may be: training examples, share held out (as
/// bits), seed where it matters, tokens.
type Chosen = (Option<usize>, u64, u64, usize);

impl Prepared {
    /// Loads what a plan names, and says what was done to the data and how many examples each class has.
    ///
    /// # Errors
    /// If data or backbone are not found, or are damaged.
    pub fn load(plan: &RunPlan) -> Result<Self> {
        let load = || Self::load_from(Files::new(plan.offline)?, plan);
        let (prepared, busy) = measure::watching_others(load);
        let prepared = prepared?;
        if let Some(busy) = busy {
            prepared.files.note(&busy);
        }
        if let (Some(why), None) = (prepared.shorter(plan)?, plan.recipe.setting("max_tokens")) {
            prepared
                .files
                .note(&format!("{why}; texts are cut to that"));
        }
        prepared.files.note(&prepared.rows(plan));
        // (What is wrong with a recipe is said of the runs that have it.)
        if let Ok(Some(cut)) = prepared.cut(plan) {
            prepared.files.note(&cut);
        }
        if let Ok(Some(same)) = prepared.same_prompts(plan) {
            prepared.files.note(&same);
        }
        let classes = prepared.data.dataset.classes();
        if !classes.is_empty() {
            eprintln!("{}", class_table(&classes));
        }
        Ok(prepared)
    }

    /// How many rows there are, where they come from, and which splits were drawn from the training rows.
    fn rows(&self, plan: &RunPlan) -> String {
        let (dataset, name) = (&self.data.dataset, &plan.data.name);
        let from = match Path::new(name).is_file() {
            true => name,
            false => &self.data.place,
        };
        let [train, validation, test] = [Split::Train, Split::Validation, Split::Test]
            .map(|split| format::count(dataset.split(split).len()));
        let drawn: Vec<&str> = dataset.made.iter().map(|split| split.name()).collect();
        let divided = match drawn.len() {
            0 => "so its files divide them".to_owned(),
            n => format!(
                "{} {} drawn from the training rows by a hash, the same each time",
                format::list(&drawn),
                if n == 1 { "was" } else { "were" }
            ),
        };
        format!(
            "data set '{}' from {from}: {train} rows to train on, {validation} to judge by (validation), {test} kept for the end \
             (test); {divided}",
            dataset.name
        )
    }

    /// Loads what a plan names, and says nothing: for a run whose comparison has said it.
    ///
    /// # Errors
    /// As [`Prepared::load`].
    pub fn load_silently(plan: &RunPlan) -> Result<Self> {
        Self::load_from(Files::new(plan.offline)?.silent(), plan)
    }

    fn load_from(files: Files, plan: &RunPlan) -> Result<Self> {
        // Reading the texts and reading the weights take about as long, and neither needs the other.
        let (data, backbone) = std::thread::scope(|scope| {
            let backbone = scope.spawn(|| -> Result<_> {
                let found = files.backbone(&plan.backbone, &plan.backbone_settings)?;
                let loaded = found.load()?;
                let checksum = loaded.backbone.checksum()?;
                Ok((loaded, checksum))
            });
            let data = files.data(&plan.data);
            let backbone = match backbone.join() {
                Ok(backbone) => backbone,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            (data, backbone)
        });
        let (mut data, (mut backbone, checksum)) = match (data, backbone) {
            (Ok(data), Ok(backbone)) => (data, backbone),
            (Err(data), Err(backbone)) => bail!("{data:#}\nalso: {backbone:#}"),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        if data.dataset.has_pairs() {
            backbone.check_pairs()?;
        }
        let named = !plan.data.options.words.is_empty();
        let chosen = plan.backbone_settings.head.is_some();
        if named && !chosen {
            backbone.head = HeadKind::Words;
        }
        ensure!(
            !named || backbone.head == HeadKind::Words,
            "--words stand for the classes, but --set backbone.head={} trains a classifier: leave one of the two out",
            backbone.head.name()
        );
        let asked = named || chosen;
        completions::choose(&mut data.dataset, &mut backbone, chosen)?;
        let words = words::choose(&data.dataset, &mut backbone, asked, |note| files.note(note))?;
        let of_words = match (&words, &data.dataset.completion) {
            (Some(words), _) => Some(backbone.tokenizer.with_words(words)),
            (None, Some(completion)) => Some(completions::tokenizer(completion, &backbone)?),
            (None, None) => None,
        };
        Ok(Self {
            data,
            backbone,
            checksum,
            words,
            of_words,
            encoded: RefCell::default(),
            files,
        })
    }

    /// A plan's recipe over these data, which may say how long their texts are.
    fn recipe(&self, plan: &RunPlan) -> Result<RecipeChoice> {
        let own = self.data.dataset.max_tokens;
        match (own, plan.recipe.setting("max_tokens")) {
            (Some(most), None) => plan.recipe.with("max_tokens", most),
            _ => Ok(plan.recipe.clone()),
        }
    }

    /// Why texts are cut to fewer tokens than the recipe says, if they are: the backbone or its tokenizer reads no more.
    fn shorter(&self, plan: &RunPlan) -> Result<Option<String>> {
        let wanted = self.recipe(plan)?.over(1)?.max_tokens;
        let room = self.backbone.max_tokens(wanted, 0);
        if room == wanted {
            return Ok(None);
        }
        let by = match room == self.backbone.backbone.config().max_tokens() {
            true => "its position table has no more",
            false => "model_max_length of its tokenizer_config.json allows no more",
        };
        Ok(Some(format!(
            "backbone '{}' reads texts of up to {room} tokens ({by}), and the recipe's max_tokens is {wanted}",
            self.backbone.name
        )))
    }

    /// How many texts are longer than what is read of them, in words, if any is.
    fn cut(&self, plan: &RunPlan) -> Result<Option<String>> {
        let recipe = self.recipe(plan)?.over(1)?;
        let encoded = self.encoded(&recipe, plan.seed, 0)?;
        let (train, validation) = (&encoded.train, &encoded.validation);
        let (cut, all) = (
            train.truncated + validation.truncated,
            train.len() + validation.len(),
        );
        let said = match &self.data.dataset.completion {
            Some(completion) => format!(
                "{cut} of {all} rows have a completion of more than {} tokens (max_new_tokens, its end among them) or a \
                 prompt of more than what max_tokens leaves; what is longer is cut",
                completion.max_new_tokens
            ),
            None => {
                let read = self.backbone.max_tokens(recipe.max_tokens, 0);
                let most = self.backbone.max_tokens(usize::MAX, 0);
                let advice = match read < most {
                    true => format!("; --set recipe.max_tokens=N reads up to {most}"),
                    false => String::new(),
                };
                format!(
                    "{cut} of the {all} texts for training and validation have more than {read} tokens and are cut to these \
                     (max_tokens){advice}"
                )
            }
        };
        Ok((cut > 0).then_some(said))
    }

    /// How many prompts are judged together with another one, in words, if any is.
    fn same_prompts(&self, plan: &RunPlan) -> Result<Option<String>> {
        let recipe = self.recipe(plan)?.over(1)?;
        let encoded = self.encoded(&recipe, plan.seed, 0)?;
        Ok(texts::same_prompts(encoded.same_prompts))
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
            self.tokenizer(),
            max,
            self.files.cache(),
        )?);
        self.encoded
            .borrow_mut()
            .insert(chosen, Rc::clone(&encoded));
        Ok(encoded)
    }

    /// Where the vectors that the bare backbone gives these examples are kept.
    pub fn features(&self, examples: &Encoded) -> FeatureFile {
        FeatureFile::of(self.files.cache(), &self.backbone, examples)
    }

    /// The scale of a run's numbers, where it predicts numbers.
    ///
    /// # Errors
    /// As [`EncodedData::new`].
    pub fn scale(&self, recipe: &Recipe, seed: u64) -> Result<Option<Scale>> {
        let encoded = self.encoded(recipe, seed, 0)?;
        Ok(objective::scale(&self.data.dataset, &encoded.train))
    }

    /// What a run predicts.
    ///
    /// # Errors
    /// As [`EncodedData::new`].
    pub fn objective(&self, recipe: &Recipe, seed: u64) -> Result<Box<dyn Objective>> {
        let data = &self.data.dataset;
        let scale = self.scale(recipe, seed)?;
        let tokenizer = &self.backbone.tokenizer;
        Ok(objective::of(
            data.objective,
            &data.labels,
            scale,
            tokenizer,
        ))
    }

    /// The tokenizer of the examples.
    pub fn tokenizer(&self) -> &TextTokenizer {
        self.of_words.as_ref().unwrap_or(&self.backbone.tokenizer)
    }

    /// The language model's own output as the head: over the words of the classes, or all words; `own` is the method's own
    /// backbone, if it has one.
    ///
    /// # Errors
    /// If no words are there, or the checkpoint has no output matrix.
    pub fn output_head(&self, own: Option<&Backbone>) -> Result<Head> {
        if let Some(completion) = &self.data.dataset.completion {
            return completions::head(completion, &self.backbone, own);
        }
        let words = self.words.as_ref().context("the data set has no words")?;
        words::head(words, &self.backbone, own)
    }

    /// What answers, on which the methods' defaults depend.
    fn answer(&self) -> Answer {
        match self.backbone.head {
            HeadKind::Words | HeadKind::Vocabulary => Answer::LanguageModel,
            _ => Answer::TrainedHead,
        }
    }

    /// A trial's method with its configuration over this backbone.
    ///
    /// # Errors
    /// If the method cannot be used over it, or its configuration is not valid.
    pub fn method(&self, trial: &Trial) -> Result<Resolved> {
        let config = self.backbone.backbone.config();
        let own = &trial.method;
        let name = words::method(own.entry.name, self.backbone.head, config.description.tied)?;
        let data = &self.data.dataset;
        ensure!(
            name != "linear_probe" || data.objective.is_classification(),
            "linear_probe is a logistic regression, which gives one class of several, but the objective of '{}' is {}: leave the method out",
            data.name,
            data.objective.name()
        );
        ensure!(
            name != "knn" || data.objective.is_classification(),
            "knn takes the class that most of the nearest examples have, but the objective of '{}' is {}: leave the method out",
            data.name,
            data.objective.name()
        );
        // (A method that stands for another one takes its settings.)
        let settings = own.overrides().clone();
        let resolved = methods::resolve_values_for(self.answer(), name, settings)?.over(config);
        resolved.check(config)?;
        Ok(resolved)
    }

    /// What determines a planned run.
    ///
    /// # Errors
    /// If the method's configuration or the recipe is not valid.
    pub fn asked(&self, plan: &RunPlan) -> Result<(Asked, Resolved, Recipe)> {
        let resolved = self.method(&plan.trial)?;
        let memory = measure::memory();
        check_memory(&resolved, &self.backbone.backbone, memory)?;
        // The steps of a budget in epochs depend on the examples, which depend on the recipe's other keys.
        let choice = self.recipe(plan)?;
        let recipe = choice.over(1)?;
        ensure!(
            self.of_words.is_none() || recipe.augmentation() == Augmentation::default(),
            "recipe: where classes are words or texts are written, a template stands around each text, whose tokens can be \
             neither dropped nor swapped; leave the recipe's augmentation out"
        );
        if let (Some(why), Some(asked)) = (self.shorter(plan)?, plan.recipe.setting("max_tokens")) {
            bail!("--set recipe.max_tokens={asked}: {why}");
        }
        let encoded = self.encoded(&recipe, plan.seed, 0)?;
        check_batch(
            &recipe,
            &encoded.train,
            self.backbone.backbone.config(),
            memory,
        )?;
        let recipe = choice.over(encoded.train.len())?;
        let asked = Asked {
            dataset: data_facts(&self.data, &encoded),
            backbone: self
                .backbone
                .facts(self.words.as_ref(), self.data.dataset.completion.as_ref()),
            method: MethodFacts {
                name: resolved.entry.name.to_owned(),
                variant: resolved.variant.clone(),
                config: resolved.config.clone().into(),
                tuned: plan.trial.tuned.clone(),
            },
            recipe: serde_json::to_value(&recipe)?,
            seed: plan.seed,
            numerics: numerics(&resolved),
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

/// Examples of each class in each split, of the first classes where there are many.
fn class_table(classes: &[ClassCount]) -> String {
    let headings = ["class", "train", "validation", "test"].map(str::to_owned);
    let row = |c: &ClassCount| {
        let counts = [c.train, c.validation, c.test].map(|n| n.to_string());
        [format::cut(&c.name, LONGEST_CLASS)]
            .into_iter()
            .chain(counts)
            .collect()
    };
    let rows = classes.iter().take(MOST_CLASSES).map(row).collect();
    let mut lines = Table::of_texts("", 1, &headings, rows).lines(usize::MAX).0;
    if classes.len() > MOST_CLASSES {
        lines.push(format!(
            "… and {} more classes",
            classes.len() - MOST_CLASSES
        ));
    }
    lines.join("\n")
}

/// Refuses a configuration that trains more than a machine of this memory can hold, before anything is allocated for it.
fn check_memory(resolved: &Resolved, backbone: &Backbone, memory: Option<u64>) -> Result<()> {
    // A parameter, its gradient and the two moments of AdamW, in f32.
    const BYTES: f64 = 16.0;
    let count = resolved.parameters(backbone)?;
    let Some(memory) = memory else {
        return Ok(());
    };
    ensure!(
        count * BYTES <= memory as f64,
        "method {}{}: it would train {count:.1e} parameters, which take {:.1e} bytes with their gradients and moments, but \
         this machine has {:.1e}; make it smaller",
        resolved.entry.name,
        match resolved.variant.as_str() {
            "" => String::new(),
            variant => format!(" ({variant})"),
        },
        count * BYTES,
        memory as f64
    );
    Ok(())
}

/// Refuses a batch whose forward pass alone is more than a machine of this memory can hold: one row of H values per token and
/// layer.
fn check_batch(
    recipe: &Recipe,
    train: &Encoded,
    backbone: &backbone::Config,
    memory: Option<u64>,
) -> Result<()> {
    let tokens = train.ids.len() as f64 / train.len().max(1) as f64 * recipe.batch as f64;
    let bytes = 4.0 * tokens * backbone.hidden as f64 * backbone.layers as f64;
    ensure!(
        memory.is_none_or(|memory| bytes <= memory as f64),
        "recipe.batch {}: its texts take more than {bytes:.1e} bytes in the backbone's {} layers, more than this machine \
         has; make it smaller",
        recipe.batch,
        backbone.layers
    );
    Ok(())
}

/// Versions of the code that decides a run's numbers: kernels, backbone, the method. One of them is raised when a change
/// gives other numbers for the same question.
fn numerics(resolved: &Resolved) -> BTreeMap<String, u32> {
    [
        ("kernels", kernels::NUMERICS),
        ("backbone", backbone::NUMERICS),
        (resolved.entry.name, resolved.numerics()),
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
    Ok(format!("{digest:x}")[..16].to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_training_is_refused_where_its_parameters_gradients_and_moments_do_not_fit() {
        let config = backbone::Config {
            layers: 2,
            hidden: 16,
            heads: 2,
            intermediate: 24,
            vocabulary: 40,
            positions: 32,
            description: backbone::Description::post_norm(2, 16),
            ..backbone::Config::of(backbone::Architecture::Bert)
        };
        let frozen = Backbone::random(config, &mut datasets::stream(0, "memory")).unwrap();
        let lora = methods::resolve("lora", &[("rank".to_owned(), "3".to_owned())].into()).unwrap();
        // A and B of rank 3 at query and value of two layers; four numbers of four bytes for each parameter.
        let needed = 4 * 4 * (2 * 2 * 2 * 3 * 16);
        assert!(check_memory(&lora, &frozen, Some(needed)).is_ok());
        assert!(check_memory(&lora, &frozen, None).is_ok());
        let message = check_memory(&lora, &frozen, Some(needed - 1)).unwrap_err();
        let message = message.to_string();
        assert!(
            message.contains("method lora (rank=3)") && message.contains("make it smaller"),
            "{message}"
        );
    }

    #[test]
    fn a_batch_is_refused_where_the_rows_of_its_layers_do_not_fit() {
        let config = backbone::Config {
            layers: 6,
            hidden: 384,
            ..backbone::Config::of(backbone::Architecture::Bert)
        };
        let recipe = Recipe::resolve("quick", &[("batch".to_owned(), "8".to_owned())].into(), 1);
        let recipe = recipe.unwrap();
        // Four texts of ten tokens: 80 in a batch of eight.
        let train = Encoded {
            ids: vec![5; 40],
            types: vec![0; 40],
            offsets: vec![0, 10, 20, 30, 40],
            labels: Vec::new(),
            words: Vec::new(),
            truncated: 0,
        };
        let needed = 4 * 80 * 384 * 6;
        assert!(check_batch(&recipe, &train, &config, Some(needed)).is_ok());
        let message = check_batch(&recipe, &train, &config, Some(needed - 1)).unwrap_err();
        assert!(
            message.to_string().contains("recipe.batch 8"),
            "{message:#}"
        );
    }
}
