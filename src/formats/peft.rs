//! Hugging Face PEFT: `adapter_config.json` with a `peft_type`, and `adapter_model.safetensors`.
//!
//! Each PEFT type is one [`Mapping`]: what its keys and tensors mean in our words, and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use backbone::{Architecture, Site};
use candle_core::Tensor;
use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Export, Foreign, Method, keys::Keys, layout, merged, read_tensors, separate_head, write_json,
};
use crate::{
    prepare::LoadedBackbone,
    saved::{ADAPTER_CONFIG, Saved, Tensors, write_tensors},
};

const WEIGHTS: &str = "adapter_model.safetensors";
/// Before the tensors that the encoder's own modules hold.
const TUNER: &str = "base_model.model.";
/// Before the head's tensors where the method only gives virtual tokens.
const PROMPT: &str = "base_model.";
const EMBEDDINGS: &str = "prompt_embeddings";

/// One PEFT type and one of our methods.
struct Mapping {
    peft_type: &'static str,
    method: &'static str,
    read: fn(&mut Reading<'_>) -> Result<Method>,
}

const READ: &[Mapping] = &[
    Mapping {
        peft_type: "LORA",
        method: "lora",
        read: read_lora,
    },
    Mapping {
        peft_type: "PROMPT_TUNING",
        method: "prompt_tuning",
        read: read_prompt,
    },
    // What its encoder computed is saved, not the encoder: virtual tokens as those of prompt tuning.
    Mapping {
        peft_type: "P_TUNING",
        method: "prompt_tuning",
        read: read_prompt,
    },
    Mapping {
        peft_type: "PREFIX_TUNING",
        method: "prefix_tuning",
        read: read_prefix,
    },
    Mapping {
        peft_type: "IA3",
        method: "ia3",
        read: read_ia3,
    },
    Mapping {
        peft_type: "LN_TUNING",
        method: "layer_norm",
        read: read_layer_norm,
    },
];

/// Whether a method is in the registry.
fn exists(method: &str) -> bool {
    methods::registry::entry(method).is_ok()
}

/// Makes the keys and tensors of one method.
type Writer = fn(&Writing<'_>) -> Result<Written>;

/// Our methods that can be written.
const WRITE: &[(&str, Writer)] = &[
    ("lora", write_lora),
    ("dora", write_lora),
    ("prompt_tuning", write_prompt),
    // What is shipped are the virtual tokens: a prompt as any other.
    ("p_tuning", write_prompt),
    ("prefix_tuning", write_prefix),
    ("ia3", write_ia3),
    ("layer_norm", write_layer_norm),
];

/// Whether a method can be written.
pub(super) fn writes(method: &str) -> bool {
    WRITE.iter().any(|(name, _)| *name == method)
}

/// Keys that change nothing when weights are read, whatever the type.
const WITHOUT_EFFECT: &[&str] = &[
    "auto_mapping",
    "ensure_weight_tying",
    "inference_mode",
    "peft_version",
];

/// A folder on its way in.
struct Reading<'a> {
    keys: Keys,
    /// Tensors that nobody has taken yet, without PEFT's own prefix.
    tensors: Tensors,
    architecture: Architecture,
    /// What paths of modules begin with: `bert.` in a class for sequence classification, nothing in a bare encoder.
    prefix: String,
    modules_to_save: Vec<String>,
    loaded: Option<&'a LoadedBackbone>,
    /// Changes of the weights of the head's layers, by their paths.
    head_deltas: Tensors,
    /// What prompt tuning reads first.
    first_row: &'static str,
    virtual_tokens: usize,
}

pub(super) fn read(
    folder: &Path,
    mut keys: Keys,
    loaded: Option<&LoadedBackbone>,
) -> Result<Saved> {
    let peft_type: String = keys.take("peft_type")?.context("peft_type is null")?;
    let supported = || READ.iter().filter(|m| exists(m.method));
    let Some(mapping) = supported().find(|m| m.peft_type == peft_type) else {
        let known: Vec<_> = supported().map(|m| m.peft_type).collect();
        bail!(
            "peft_type '{peft_type}' is not supported; supported: {}",
            known.join(", ")
        );
    };
    let backbone = keys.take("base_model_name_or_path")?;
    let revision = keys.take("revision")?;
    let task_type: Option<String> = keys.take("task_type")?;
    keys.without_effect(WITHOUT_EFFECT);
    let modules_to_save = keys.take("modules_to_save")?.unwrap_or_default();
    let mut file = read_tensors(folder, WEIGHTS, "adapter_model.bin")?;
    let mut labels = file.said("labels")?;
    let mut max_tokens = file.said("max_tokens")?;
    let tensors: Tensors = std::mem::take(&mut file.tensors)
        .into_iter()
        .map(|(name, tensor)| {
            let short = name
                .strip_prefix(TUNER)
                .or_else(|| name.strip_prefix(PROMPT));
            (short.unwrap_or(&name).to_owned(), tensor)
        })
        .collect();

    let separate = separate_head::read(folder)?;
    let bare = match task_type.as_deref() {
        Some("SEQ_CLS") => false,
        None if separate.is_none() => false,
        None | Some("FEATURE_EXTRACTION") => true,
        Some(other) => bail!("task_type '{other}' is not supported; supported: SEQ_CLS"),
    };
    let architecture = match &separate {
        Some(head) => head.architecture,
        None => architecture_of(&tensors, loaded),
    };
    let mut reading = Reading {
        keys,
        tensors,
        architecture,
        prefix: if bare {
            String::new()
        } else {
            format!("{}.", architecture.name())
        },
        modules_to_save,
        loaded,
        head_deltas: Tensors::new(),
        first_row: match &separate {
            Some(head) if !head.first => "cls",
            _ => "first",
        },
        virtual_tokens: 0,
    };
    let method = (mapping.read)(&mut reading)?;
    reading.keys.finish()?;

    let mut left = reading.tensors;
    let (pooling, head, head_tensors) = match separate {
        Some(separate) if bare => {
            labels = Some(separate.labels);
            max_tokens = separate.max_tokens.or(max_tokens);
            (separate.pooling, separate.head, separate.tensors)
        }
        _ => {
            ensure!(
                !bare,
                "it holds an encoder without a classifier (task_type FEATURE_EXTRACTION), so there is nothing to \
                 predict with"
            );
            let deltas = &reading.head_deltas;
            let pooler = "bert.pooler.dense";
            let trained = deltas.contains_key(pooler) || left.keys().any(|n| n.starts_with(pooler));
            let (pooling, head) = layout::reading(architecture, trained);
            let layers =
                layout::head_layers(architecture, pooling, head).context("no such head")?;
            if let Some(path) = deltas.keys().find(|p| !layers.iter().any(|(_, l)| l == p)) {
                bail!(
                    "module '{path}' has low-rank weights, but it belongs to nothing that is computed here"
                );
            }
            let tensors = layout::take_head(&mut left, layers, deltas, loaded)?;
            (pooling, head, tensors)
        }
    };
    if let Some(name) = left.keys().next() {
        bail!(
            "{WEIGHTS}: tensor '{name}' belongs to nothing that is computed here; it is not ignored"
        );
    }
    Foreign {
        folder,
        architecture,
        revision,
        backbone,
        method,
        pooling,
        head,
        head_tensors,
        labels,
        max_tokens,
        virtual_tokens: reading.virtual_tokens,
        loaded,
    }
    .finish()
}

/// The kind of model that tensors were saved from: by the paths of its modules, or by its head.
fn architecture_of(tensors: &Tensors, loaded: Option<&LoadedBackbone>) -> Architecture {
    let by_path = tensors.keys().find_map(|n| layout::split_prefix(n));
    let has = |prefix: &str| tensors.keys().any(|n| n.starts_with(prefix));
    match (by_path, loaded) {
        (Some((architecture, _)), _) => architecture,
        _ if has("classifier.out_proj.") => Architecture::Roberta,
        _ if has("pre_classifier.") => Architecture::DistilBert,
        (None, Some(loaded)) => loaded.backbone.config().architecture,
        _ => Architecture::Bert,
    }
}

/// A list of names, one name, or a pattern.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn list(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// Modules by PEFT's rules.
enum Modules {
    AllLinear,
    /// A regular expression for the whole path.
    Pattern(Regex),
    /// The path is an entry, or ends with a dot and an entry.
    Names(Vec<String>),
}

impl Modules {
    fn new(value: OneOrMany<String>) -> Result<Self> {
        Ok(match value {
            OneOrMany::One(word) if word.eq_ignore_ascii_case("all-linear") => Self::AllLinear,
            OneOrMany::One(pattern) => Self::Pattern(regex(&format!(r"\A(?:{pattern})\z"))?),
            OneOrMany::Many(names) => Self::Names(names),
        })
    }

    fn matches(&self, path: &str) -> Result<bool> {
        match self {
            // transformers' name for a head is not a target; parts of RoBERTa's are kept out by modules_to_save.
            Self::AllLinear => Ok(path != "classifier"),
            Self::Pattern(pattern) => is_match(pattern, path),
            Self::Names(names) => Ok(names.iter().any(|name| {
                path == name
                    || path
                        .strip_suffix(name.as_str())
                        .is_some_and(|rest| rest.ends_with('.'))
            })),
        }
    }
}

fn regex(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).with_context(|| format!("the regular expression '{pattern}'"))
}

fn is_match(pattern: &Regex, text: &str) -> Result<bool> {
    pattern
        .is_match(text)
        .with_context(|| format!("the regular expression '{pattern}' on '{text}'"))
}

/// Which modules PEFT changes.
struct Rules {
    target: Modules,
    exclude: Option<Modules>,
    /// Modules that are saved whole are never changed.
    saved: Vec<Regex>,
    /// Only layers of these numbers, found by these patterns.
    layers: Option<(Vec<usize>, Vec<Regex>)>,
}

impl Rules {
    fn read(keys: &mut Keys, modules_to_save: &[String]) -> Result<Self> {
        let target = keys.take("target_modules")?.context(
            "target_modules is missing: the library writes the names it found for its defaults",
        )?;
        let exclude: Option<OneOrMany<String>> = keys.take("exclude_modules")?;
        let numbers: Option<OneOrMany<usize>> = keys.take("layers_to_transform")?;
        let patterns: Option<OneOrMany<String>> = keys.take("layers_pattern")?;
        let target = Modules::new(target)?;
        let numbers = numbers.map(OneOrMany::list).filter(|n| !n.is_empty());
        if numbers.is_some() && !matches!(target, Modules::Names(_)) {
            bail!("layers_to_transform goes with a list of target_modules only");
        }
        let patterns: Vec<String> = patterns.map(OneOrMany::list).unwrap_or_default();
        let layers = match (numbers, patterns.is_empty()) {
            (None, _) => None,
            (Some(numbers), true) => Some((numbers, vec![regex(r"\A.*?\.[^.]*\.(?P<idx>\d+)\.")?])),
            (Some(numbers), false) => {
                let patterns = patterns
                    .iter()
                    .map(|p| regex(&format!(r"\A(?:^|.*?\.){p}\.(?P<idx>\d+)\.")));
                Some((numbers, patterns.collect::<Result<_>>()?))
            }
        };
        Ok(Self {
            target,
            exclude: exclude.map(Modules::new).transpose()?,
            saved: modules_to_save
                .iter()
                .map(|m| regex(&format!(r"\A(?:^|.*\.){m}(?:$|\..*)")))
                .collect::<Result<_>>()?,
            layers,
        })
    }

    fn matches(&self, path: &str) -> Result<bool> {
        if let Some(exclude) = &self.exclude
            && exclude.matches(path)?
        {
            return Ok(false);
        }
        for saved in &self.saved {
            if is_match(saved, path)? {
                return Ok(false);
            }
        }
        if !self.target.matches(path)? {
            return Ok(false);
        }
        // A module that is named by its whole path needs no layer number.
        if let Modules::Names(names) = &self.target
            && names.iter().any(|name| name == path)
        {
            return Ok(true);
        }
        let Some((numbers, patterns)) = &self.layers else {
            return Ok(true);
        };
        for pattern in patterns {
            let found = pattern
                .captures(path)
                .with_context(|| format!("layers_pattern '{pattern}'"))?;
            if let Some(index) = found.and_then(|c| c.name("idx")?.as_str().parse().ok()) {
                return Ok(numbers.contains(&index));
            }
        }
        Ok(false)
    }
}

/// Values by pattern: the first key that matches a path's end, whole segments of it, wins.
struct Patterns<T>(Vec<(Regex, T)>);

impl<T: Copy> Patterns<T> {
    fn read(keys: &mut Keys, key: &str) -> Result<Self>
    where
        T: serde::de::DeserializeOwned,
    {
        // Order counts, so the map must keep it.
        let map: Map<String, Value> = keys.take(key)?.unwrap_or_default();
        let values = map.into_iter().map(|(pattern, value)| {
            let number = serde_json::from_value(value.clone())
                .with_context(|| format!("{key}: {pattern}: {value}"))?;
            Ok((regex(&format!(r"\A(?:.*\.)?(?:{pattern})\z"))?, number))
        });
        Ok(Self(values.collect::<Result<_>>()?))
    }

    fn get(&self, path: &str) -> Result<Option<T>> {
        for (pattern, value) in &self.0 {
            if is_match(pattern, path)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

impl Reading<'_> {
    /// Takes the tensors whose names end with `.suffix`, by the path before it.
    fn take_by_path(&mut self, suffix: &str) -> Tensors {
        let names: Vec<String> = self
            .tensors
            .keys()
            .filter(|n| n.ends_with(suffix))
            .cloned()
            .collect();
        names
            .into_iter()
            .filter_map(|name| {
                let tensor = self.tensors.remove(&name)?;
                let path = name.strip_suffix(suffix)?.strip_suffix('.')?;
                Some((path.to_owned(), tensor))
            })
            .collect()
    }

    /// The site of a module's path.
    fn site(&self, path: &str) -> Option<Site> {
        layout::site(self.architecture, path.strip_prefix(&self.prefix)?)
    }

    /// Refuses a folder whose tensors are not those of the modules that its rules name.
    fn check_targets<'p>(
        &self,
        rules: &Rules,
        paths: impl Iterator<Item = &'p String>,
    ) -> Result<()> {
        let found: BTreeSet<&String> = paths.collect();
        for path in &found {
            ensure!(
                rules.matches(path)?,
                "{WEIGHTS} has weights for the module '{path}', which target_modules does not name"
            );
        }
        // How many layers there are, only the backbone knows.
        let Some(loaded) = self.loaded else {
            return Ok(());
        };
        let layers = loaded.backbone.config().layers;
        let own = format!("{}.", self.architecture.name());
        for (path, site) in layout::linear_modules(self.architecture, layers) {
            let path = match site {
                Some(_) if self.prefix.is_empty() => path.trim_start_matches(&own).to_owned(),
                None if self.prefix.is_empty() => continue,
                _ => path,
            };
            ensure!(
                found.contains(&path) || !rules.matches(&path)?,
                "target_modules names the module '{path}', but {WEIGHTS} has no weights for it"
            );
        }
        Ok(())
    }
}

/// Where training began, which changes nothing, unless the start was taken out of the backbone's weights.
fn read_start(keys: &mut Keys) -> Result<()> {
    // (What a start read beside the weights.)
    keys.without_effect(&["eva_config", "corda_config", "loftq_config", "lora_ga_config"]);
    let start: Option<Value> = keys.take("init_lora_weights")?;
    let Some(Value::String(start)) = start else {
        return Ok(());
    };
    let plain = ["gaussian", "orthogonal", "eva", "mica", "lora_ga"];
    ensure!(
        plain.contains(&start.to_lowercase().as_str()),
        "init_lora_weights '{start}' takes its start out of the backbone's weights, and the folder does not hold what was \
         taken: save it once more from Python with save_pretrained(FOLDER, path_initial_model_for_weight_conversion=…), \
         which makes it a plain LoRA; supported: true, false, {}",
        plain.join(", ")
    );
    Ok(())
}

fn read_lora(reading: &mut Reading<'_>) -> Result<Method> {
    let keys = &mut reading.keys;
    keys.only("bias", &["none".into()])?;
    read_start(keys)?;
    keys.only("fan_in_fan_out", &[false.into()])?;
    keys.without_effect(&["megatron_core", "qalora_group_size"]);
    let rank: usize = keys.take("r")?.unwrap_or(8);
    let alpha: f64 = keys.take("lora_alpha")?.unwrap_or(8.0);
    let dropout: f64 = keys.take("lora_dropout")?.unwrap_or(0.0);
    let rslora: bool = keys.take("use_rslora")?.unwrap_or(false);
    if !exists("dora") {
        keys.only("use_dora", &[false.into()])?;
    }
    let dora: bool = keys.take("use_dora")?.unwrap_or(false);
    let ranks: Patterns<usize> = Patterns::read(keys, "rank_pattern")?;
    let alphas: Patterns<f64> = Patterns::read(keys, "alpha_pattern")?;
    let rules = Rules::read(keys, &reading.modules_to_save)?;

    let a = reading.take_by_path("lora_A.weight");
    let mut b = reading.take_by_path("lora_B.weight");
    reading.check_targets(&rules, a.keys())?;
    let (mut tensors, mut sites) = (Tensors::new(), Vec::new());
    let magnitudes = match dora {
        true => reading.take_by_path("lora_magnitude_vector"),
        false => Tensors::new(),
    };
    for (path, magnitude) in magnitudes {
        let site = reading.site(&path);
        let site = site.with_context(|| format!("module '{path}' is no site of the backbone"))?;
        tensors.insert(format!("{site}.magnitude"), magnitude);
    }
    let (mut rank_pattern, mut alpha_pattern) = (Map::new(), Map::new());
    for (path, a) in a {
        let b = b
            .remove(&path)
            .with_context(|| format!("tensor '{path}.lora_B.weight' is missing"))?;
        let r = ranks.get(&path)?.unwrap_or(rank);
        let s = alphas.get(&path)?.unwrap_or(alpha);
        ensure!(
            a.rank() == 2 && b.rank() == 2 && a.dims()[0] == r && b.dims()[1] == r,
            "module '{path}': lora_A has shape {:?} and lora_B {:?}, but its rank is {r}",
            a.dims(),
            b.dims()
        );
        let Some(site) = reading.site(&path) else {
            ensure!(!dora, "module '{path}' is no site of the backbone");
            // A layer of the head: it is trained as a whole here, so its change becomes part of it.
            let scaling = s / if rslora { (r as f64).sqrt() } else { r as f64 };
            let delta = (b.matmul(&a)? * scaling)?;
            reading.head_deltas.insert(path, delta);
            continue;
        };
        if r != rank {
            rank_pattern.insert(site.to_string(), r.into());
        }
        if s != alpha {
            alpha_pattern.insert(site.to_string(), s.into());
        }
        tensors.insert(format!("{site}.lora_a"), a);
        tensors.insert(format!("{site}.lora_b"), b);
        sites.push(site);
    }
    if let Some(path) = b.keys().next() {
        bail!("tensor '{path}.lora_A.weight' is missing");
    }
    ensure!(!sites.is_empty(), "{WEIGHTS} has no LoRA weights");
    if dora {
        ensure!(
            rank_pattern.is_empty() && alpha_pattern.is_empty(),
            "ranks or alphas by pattern are not supported with use_dora"
        );
        let (target_modules, layers) = every_module_in_every_layer(&sites, reading.loaded)?;
        let alpha = if rslora {
            alpha * (rank as f64).sqrt()
        } else {
            alpha
        };
        let config = json!({
            "rank": rank, "alpha": alpha, "target_modules": target_modules, "layers": layers,
        });
        return Ok(Method {
            name: "dora",
            config: object(config),
            tensors,
        });
    }
    let (target_modules, layers) = our_targets(&sites, reading.loaded);
    let config = json!({
        "rank": rank, "alpha": alpha, "target_modules": target_modules, "layers": layers,
        "rank_pattern": rank_pattern, "alpha_pattern": alpha_pattern, "dropout": dropout, "rslora": rslora,
    });
    Ok(Method {
        name: "lora",
        config: object(config),
        tensors,
    })
}

/// Sites in the words of our configurations: modules and layers where they are every module in every layer, and one by
/// one where not.
fn our_targets(sites: &[Site], loaded: Option<&LoadedBackbone>) -> (Value, Value) {
    let projections: BTreeSet<_> = sites.iter().map(|s| s.projection).collect();
    let layers: BTreeSet<_> = sites.iter().map(|s| s.layer).collect();
    if projections.len() * layers.len() != sites.len() {
        let names: Vec<_> = sites.iter().map(Site::to_string).collect();
        return (json!(names), json!("all"));
    }
    let names: Vec<_> = projections.iter().map(|p| p.name()).collect();
    let all = loaded.is_some_and(|l| l.backbone.config().layers == layers.len());
    let layers = if all { json!("all") } else { json!(layers) };
    (json!(names), layers)
}

/// As [`our_targets`], for methods that do not name single sites.
fn every_module_in_every_layer(
    sites: &[Site],
    loaded: Option<&LoadedBackbone>,
) -> Result<(Value, Value)> {
    let (modules, layers) = our_targets(sites, loaded);
    let single = modules.as_array().into_iter().flatten();
    ensure!(
        !single.filter_map(Value::as_str).any(|m| m.contains('.')),
        "target modules that differ between layers are not supported for this method"
    );
    Ok((modules, layers))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn read_prompt(reading: &mut Reading<'_>) -> Result<Method> {
    let keys = &mut reading.keys;
    keys.only("num_transformer_submodules", &[1.into()])?;
    keys.without_effect(&[
        "num_attention_heads",
        "num_layers",
        "prompt_tuning_init",
        "prompt_tuning_init_text",
        "prompt_tuning_init_state_dict_path",
        "prompt_tuning_init_state_dict_key",
        "tokenizer_name_or_path",
        "tokenizer_kwargs",
        "token_dim",
        "encoder_reparameterization_type",
        "encoder_hidden_size",
        "encoder_num_layers",
        "encoder_dropout",
    ]);
    let tokens: usize = keys
        .take("num_virtual_tokens")?
        .context("num_virtual_tokens is missing")?;
    let prompt = reading
        .tensors
        .remove(EMBEDDINGS)
        .with_context(|| format!("tensor '{EMBEDDINGS}' is missing"))?;
    ensure!(
        prompt.rank() == 2 && prompt.dims()[0] == tokens,
        "tensor '{EMBEDDINGS}' has shape {:?}, but num_virtual_tokens is {tokens}",
        prompt.dims()
    );
    reading.virtual_tokens = tokens;
    Ok(Method {
        name: "prompt_tuning",
        config: object(json!({
            "virtual_tokens": tokens, "init": "random", "pooling": reading.first_row,
        })),
        tensors: [("prompt".to_owned(), prompt)].into(),
    })
}

fn read_prefix(reading: &mut Reading<'_>) -> Result<Method> {
    // What made the rows in training is not saved.
    let what_made_them = ["prefix_projection", "encoder_hidden_size", "init_weights"];
    reading.keys.without_effect(&what_made_them);
    let prompt = read_prompt(reading)?;
    Ok(Method {
        name: "prefix_tuning",
        config: object(json!({
            "virtual_tokens": reading.virtual_tokens, "reparametrisation": "none", "positions": "shifted",
        })),
        tensors: prompt
            .tensors
            .into_values()
            .map(|rows| ("prefix".to_owned(), rows))
            .collect(),
    })
}

fn read_ia3(reading: &mut Reading<'_>) -> Result<Method> {
    let keys = &mut reading.keys;
    keys.only("fan_in_fan_out", &[false.into()])?;
    keys.without_effect(&["init_ia3_weights"]);
    let feedforward: Option<OneOrMany<String>> = keys.take("feedforward_modules")?;
    let feedforward = feedforward.map(Modules::new).transpose()?;
    let rules = Rules::read(keys, &reading.modules_to_save)?;
    let scales = reading.take_by_path("ia3_l");
    reading.check_targets(&rules, scales.keys())?;
    let (mut tensors, mut sites) = (Tensors::new(), Vec::new());
    let (mut of_input, mut of_output) = (BTreeSet::new(), BTreeSet::new());
    for (path, scale) in scales {
        let site = reading.site(&path);
        let site = site.with_context(|| format!("module '{path}' is no site of the backbone"))?;
        let scales_input = match &feedforward {
            Some(modules) => modules.matches(&path)?,
            None => false,
        };
        let part = if scales_input {
            &mut of_input
        } else {
            &mut of_output
        };
        part.insert(site.projection.name());
        tensors.insert(format!("{site}.ia3"), scale);
        sites.push(site);
    }
    ensure!(!sites.is_empty(), "{WEIGHTS} has no IA3 weights");
    if let Some(module) = of_input.intersection(&of_output).next() {
        bail!("feedforward_modules names '{module}' in some layers only, which is not supported");
    }
    let (target_modules, layers) = every_module_in_every_layer(&sites, reading.loaded)?;
    Ok(Method {
        name: "ia3",
        config: object(json!({
            "target_modules": target_modules, "feedforward_modules": of_input, "layers": layers,
        })),
        tensors,
    })
}

const NORM: &str = "ln_tuning_layers";

fn read_layer_norm(reading: &mut Reading<'_>) -> Result<Method> {
    let rules = Rules::read(&mut reading.keys, &reading.modules_to_save)?;
    let parts =
        ["weight", "bias"].map(|part| (part, reading.take_by_path(&format!("{NORM}.{part}"))));
    let mut tensors = Tensors::new();
    for (part, norms) in parts {
        for (path, tensor) in norms {
            ensure!(
                rules.matches(&path)?,
                "{WEIGHTS} has weights for the module '{path}', which target_modules does not name"
            );
            let name = path.strip_prefix(&reading.prefix).unwrap_or(&path);
            tensors.insert(format!("{name}.{part}"), tensor);
        }
    }
    ensure!(!tensors.is_empty(), "{WEIGHTS} has no layer norms");
    // Norms that the folder leaves as they are stay the backbone's.
    if let Some(loaded) = reading.loaded {
        let backbone = &loaded.backbone;
        for at in backbone.norms() {
            let (name, frozen) = (backbone.config().norm_name(at), backbone.norm(at));
            let named = rules.matches(&format!("{}{name}", reading.prefix))?;
            for (part, frozen) in [("weight", frozen.gamma()), ("bias", frozen.beta())] {
                let name = format!("{name}.{part}");
                ensure!(
                    tensors.contains_key(&name) || !named,
                    "target_modules names a layer norm, but {WEIGHTS} has no '{name}' of it"
                );
                tensors.entry(name).or_insert_with(|| frozen.clone());
            }
        }
    }
    Ok(Method {
        name: "layer_norm",
        config: Map::new(),
        tensors,
    })
}

/// A task on its way out.
struct Writing<'a> {
    export: &'a Export<'a>,
    /// The method's tensors by our names.
    tensors: Tensors,
    architecture: Architecture,
    prefix: String,
}

/// What a method becomes.
struct Written {
    peft_type: &'static str,
    config: Map<String, Value>,
    /// By names behind [`TUNER`], or [`EMBEDDINGS`].
    tensors: Tensors,
}

pub(super) fn write(export: &Export<'_>, out: &Path) -> Result<Option<String>> {
    let task = export.task;
    let loaded = export.loaded;
    let name = task.config.method.as_str();
    let Some((_, write)) = WRITE.iter().find(|(method, _)| *method == name) else {
        let known = WRITE.iter().map(|(method, _)| *method);
        let known: Vec<_> = known.filter(|method| exists(method)).collect();
        bail!(
            "method '{name}' cannot be written in the format of Hugging Face PEFT; methods that can: {}",
            known.join(", ")
        );
    };
    let architecture = loaded.backbone.config().architecture;
    let (pooling, head) = (loaded.backbone.pooling(), task.config.head);
    let tokens = task.method.virtual_tokens();
    // The library's class reads row 0, which is a virtual token where there are any.
    let row_0 = tokens == 0 || name == "prefix_tuning" || export.key("pooling") == "first";
    let layers = layout::head_layers(architecture, pooling, head).filter(|_| row_0);
    let layers = match layers {
        Some(layers) if !export.separate_head => Some(layers),
        _ if export.separate_head => None,
        _ if !row_0 && layout::head_layers(architecture, pooling, head).is_some() => bail!(
            "prompt tuning with 'pooling: cls' reads the text's own first row, but PEFT's class for sequence \
             classification reads row 0, a virtual token; train with --set prompt_tuning.pooling=first, or write the \
             head into a file of its own, with the few lines of Python that read it: --separate-head"
        ),
        _ => return Err(layout::cannot_hold(architecture, pooling, head)),
    };
    let (tensors, head_tensors) = export.tensors()?;
    let written = write(&Writing {
        export,
        tensors,
        architecture,
        prefix: match layers {
            Some(_) => format!("{}.", architecture.name()),
            None => String::new(),
        },
    })?;
    let is_prompt = written.tensors.contains_key(EMBEDDINGS);
    let mut tensors: Tensors = written
        .tensors
        .into_iter()
        .map(|(name, t)| match name.as_str() {
            EMBEDDINGS => (name, t),
            _ => (format!("{TUNER}{name}"), t),
        })
        .collect();
    let base = layout::base(loaded);
    let mut config = json!({
        "peft_type": written.peft_type,
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": base.name,
        "revision": base.revision,
        "inference_mode": true,
    });
    let mut said = None;
    if let Some(layers) = layers {
        let prefix = if is_prompt { PROMPT } else { TUNER };
        let mut saved = BTreeSet::from(["classifier", "score"]);
        for (ours, theirs) in layers {
            for part in ["weight", "bias"] {
                let tensor = head_tensors
                    .get(&format!("{ours}.{part}"))
                    .with_context(|| format!("{ours}.{part} is missing"))?;
                tensors.insert(format!("{prefix}{theirs}.{part}"), tensor.clone());
            }
            match *theirs {
                "bert.pooler.dense" => saved.insert("pooler"),
                "pre_classifier" => saved.insert("pre_classifier"),
                _ => false,
            };
        }
        config["task_type"] = "SEQ_CLS".into();
        config["modules_to_save"] = json!(saved);
    } else {
        said = Some(separate_head::write(export, out)?);
    }
    for (key, value) in written.config {
        config[key] = value;
    }
    write_tensors(&out.join(WEIGHTS), tensors, &export.metadata()?)?;
    write_json(&out.join(ADAPTER_CONFIG), &config)?;
    // For AutoConfig: which classes there are.
    write_json(&out.join("config.json"), &merged::config(export, layers.is_some())?)?;
    Ok(said)
}

fn write_lora(writing: &Writing<'_>) -> Result<Written> {
    let export = writing.export;
    let init = export.key("init").as_str().unwrap_or_default();
    let started = ["pissa", "olora"].contains(&init);
    let trained = match started {
        true => without_start(&writing.tensors)?,
        false => writing.tensors.clone(),
    };
    let mut tensors = Tensors::new();
    let mut sites = BTreeMap::new();
    for (name, tensor) in &trained {
        let (site, part) = name.rsplit_once('.').context("a site before the name")?;
        let path = writing.path(site)?;
        let part = match part {
            "lora_a" => {
                sites.insert(site.to_owned(), (path.clone(), tensor.dims()[0]));
                "lora_A.weight"
            }
            "lora_b" => "lora_B.weight",
            "magnitude" => "lora_magnitude_vector",
            other => bail!("variable '{site}.{other}' has no place in PEFT's LoRA"),
        };
        tensors.insert(format!("{path}.{part}"), tensor.clone());
    }
    // What is doubled, so that the scaling stays: alpha / rank, or alpha / √rank.
    let rslora = export.key("rslora") == true;
    let factor = match (started, rslora) {
        (false, _) => 1.0,
        (true, false) => 2.0,
        (true, true) => 2f64.sqrt(),
    };
    let rank = export.key("rank").as_u64().context("rank")? * if started { 2 } else { 1 };
    let alpha = |alpha: &Value| alpha.as_f64().map(|alpha| alpha * factor);
    let (mut rank_pattern, mut alpha_pattern) = (Map::new(), Map::new());
    for (site, (path, r)) in &sites {
        if rank != *r as u64 {
            rank_pattern.insert(path.clone(), (*r).into());
        }
        if let Some(own) = export.key("alpha_pattern").get(site) {
            alpha_pattern.insert(path.clone(), json!(alpha(own)));
        }
    }
    let sites: BTreeSet<Site> = sites
        .keys()
        .map(|s| s.parse().map_err(anyhow::Error::msg))
        .collect::<Result<_>>()?;
    let (targets, layers) = writing.their_targets(&sites)?;
    let config = json!({
        "r": rank, "lora_alpha": alpha(export.key("alpha")), "lora_dropout": export.key("dropout").as_f64().unwrap_or(0.0),
        "use_rslora": rslora, "rank_pattern": rank_pattern, "alpha_pattern": alpha_pattern,
        "target_modules": targets, "layers_to_transform": layers, "bias": "none", "fan_in_fan_out": false,
        "init_lora_weights": true, "use_dora": export.task.config.method == "dora",
    });
    Ok(Written {
        peft_type: "LORA",
        config: object(config),
        tensors,
    })
}

/// A start that was taken out of the backbone's weights as a part of the update: `B A − B₀ A₀` is a product of twice the
/// rank, `[B, −B₀] [A; A₀]`. It is what PEFT makes of such a file for use without the start
/// (`path_initial_model_for_weight_conversion`).
fn without_start(tensors: &Tensors) -> Result<Tensors> {
    let starts = tensors.iter().filter(|(name, _)| name.contains(".start_"));
    let mut whole = Tensors::new();
    for (name, start) in starts {
        let name = name.replace(".start_", ".lora_");
        let trained = tensors.get(&name);
        let trained = trained.with_context(|| format!("{name} is missing"))?;
        let joined = match name.ends_with("_a") {
            true => Tensor::cat(&[trained, start], 0)?,
            false => Tensor::cat(&[trained, &start.neg()?], 1)?,
        };
        whole.insert(name, joined);
    }
    Ok(whole)
}

impl Writing<'_> {
    /// The module's path of a site.
    fn path(&self, site: &str) -> Result<String> {
        let site: Site = site.parse().map_err(anyhow::Error::msg)?;
        Ok(format!("{}{}", self.prefix, self.architecture.module(site)))
    }

    /// `target_modules` and `layers_to_transform` for these sites and no other module: short names where they say it, and
    /// whole paths where not.
    fn their_targets(&self, sites: &BTreeSet<Site>) -> Result<(Value, Value)> {
        let all_layers = self.export.loaded.backbone.config().layers;
        let layers: BTreeSet<_> = sites.iter().map(|s| s.layer).collect();
        let paths: Vec<_> = sites
            .iter()
            .map(|site| self.path(&site.to_string()))
            .collect::<Result<_>>()?;
        let some = (layers.len() < all_layers).then_some(&layers);
        let mut short = BTreeSet::new();
        for site in sites {
            let module = self.architecture.module(*site);
            let place = format!(".{}.", site.layer);
            let end = module.split_once(&place).map_or("", |(_, end)| end);
            // `query`, but `attention.output.dense`: three modules end with `dense`.
            let last = end.rsplit('.').next().unwrap_or_default();
            short.insert(if last == "dense" { end } else { last }.to_owned());
        }
        let rules = Rules {
            target: Modules::Names(short.iter().cloned().collect()),
            exclude: None,
            saved: Vec::new(),
            layers: match some {
                None => None,
                Some(layers) => Some((
                    layers.iter().copied().collect(),
                    vec![regex(r"\A.*?\.[^.]*\.(?P<idx>\d+)\.")?],
                )),
            },
        };
        for (path, site) in layout::linear_modules(self.architecture, all_layers) {
            let wanted = site.is_some_and(|site| sites.contains(&site));
            if rules.matches(&path)? != wanted {
                return Ok((json!(paths), Value::Null));
            }
        }
        Ok((json!(short), json!(some)))
    }
}

fn write_ia3(writing: &Writing<'_>) -> Result<Written> {
    let mut tensors = Tensors::new();
    let (mut sites, mut of_input) = (BTreeSet::new(), BTreeSet::new());
    for (name, tensor) in &writing.tensors {
        let site = name.strip_suffix(".ia3");
        let site = site.with_context(|| format!("variable '{name}' has no place in IA3"))?;
        let path = writing.path(site)?;
        let site: Site = site.parse().map_err(anyhow::Error::msg)?;
        sites.insert(site);
        let scaled = writing.export.key("feedforward_modules").as_array();
        if scaled.is_some_and(|m| m.iter().any(|m| m == site.projection.name())) {
            of_input.insert(path.clone());
        }
        tensors.insert(format!("{path}.ia3_l"), tensor.clone());
    }
    // (IA3 knows no layers_to_transform.)
    let paths: Vec<_> = sites
        .iter()
        .map(|site| writing.path(&site.to_string()))
        .collect::<Result<_>>()?;
    Ok(Written {
        peft_type: "IA3",
        config: object(json!({
            "target_modules": paths, "feedforward_modules": of_input, "fan_in_fan_out": false,
            "init_ia3_weights": true,
        })),
        tensors,
    })
}

fn write_layer_norm(writing: &Writing<'_>) -> Result<Written> {
    let (mut tensors, mut targets) = (Tensors::new(), BTreeSet::new());
    for (name, tensor) in &writing.tensors {
        let (norm, part) = name.rsplit_once('.').context("a norm before the name")?;
        targets.insert(norm.rsplit('.').next().unwrap_or(norm));
        tensors.insert(
            format!("{}{norm}.{NORM}.{part}", writing.prefix),
            tensor.clone(),
        );
    }
    Ok(Written {
        peft_type: "LN_TUNING",
        config: object(json!({ "target_modules": targets })),
        tensors,
    })
}

/// The keys of all methods of virtual tokens.
fn prompt_config(writing: &Writing<'_>, tokens: usize) -> Map<String, Value> {
    let backbone = writing.export.loaded.backbone.config();
    object(json!({
        "num_virtual_tokens": tokens, "token_dim": backbone.hidden, "num_transformer_submodules": 1,
        "num_attention_heads": backbone.heads, "num_layers": backbone.layers,
    }))
}

fn write_prefix(writing: &Writing<'_>) -> Result<Written> {
    ensure!(
        writing.export.key("positions") == "shifted",
        "PEFT's positions begin behind the prefix; a prefix trained with 'positions: kept' cannot be written"
    );
    let rows = writing.tensors.get("prefix");
    let rows = rows.context("the prefix is missing")?;
    let mut config = prompt_config(writing, rows.dims()[0]);
    config.insert("prefix_projection".into(), false.into());
    Ok(Written {
        peft_type: "PREFIX_TUNING",
        config,
        tensors: [(EMBEDDINGS.to_owned(), rows.clone())].into(),
    })
}

fn write_prompt(writing: &Writing<'_>) -> Result<Written> {
    let prompt = writing.tensors.get("prompt");
    let prompt: &Tensor = prompt.context("the prompt is missing")?;
    let mut config = prompt_config(writing, prompt.dims()[0]);
    config.insert("prompt_tuning_init".into(), "RANDOM".into());
    Ok(Written {
        peft_type: "PROMPT_TUNING",
        config,
        tensors: [(EMBEDDINGS.to_owned(), prompt.clone())].into(),
    })
}
