//! Where transformers' models keep the layers that we know by other names.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail, ensure};
use backbone::{Architecture, Config, HeadKind, Pooling, Site, TensorFile};
use candle_core::Tensor;
use serde_json::{Map, Value};
use sources::Place;

use crate::{backbones, prepare::LoadedBackbone, saved::Tensors};

/// The families of backbones.
pub(super) const ARCHITECTURES: [Architecture; 7] = Architecture::ALL;

/// A layer of a head, ours and theirs, with its tensors, in a transformers class for sequence classification.
pub(super) type HeadLayer = (&'static str, &'static str, &'static [&'static str]);

/// The layers of a head.
pub(super) type HeadLayers = &'static [HeadLayer];

const BOTH: &[&str] = &["weight", "bias"];
const WEIGHT: &[&str] = &["weight"];

/// ModernBERT's, whatever it reads.
const MODERN_BERT: HeadLayers = &[
    ("head.dense", "head.dense", WEIGHT),
    ("head.norm", "head.norm", WEIGHT),
    ("head.output", "classifier", BOTH),
];

/// The layers of a head in `AutoModelForSequenceClassification`; nothing where that class cannot hold such a head.
///
/// | | reads | computes |
/// |---|---|---|
/// | BERT | row 0 | frozen or trained `bert.pooler` (dense, tanh), `classifier` |
/// | RoBERTa | row 0 | `classifier.dense`, tanh, `classifier.out_proj` |
/// | DistilBERT | row 0 | `pre_classifier`, ReLU, `classifier` |
/// | ModernBERT | row 0 or the mean, as `classifier_pooling` says | `head.dense`, GELU, `head.norm`, `classifier` |
/// | Llama, Qwen | the last row | `score` |
pub(super) fn head_layers(
    architecture: Architecture,
    pooling: Pooling,
    head: HeadKind,
) -> Option<HeadLayers> {
    match (architecture, pooling, head) {
        (Architecture::Bert, Pooling::Pooler, HeadKind::Linear) => {
            Some(&[("head.output", "classifier", BOTH)])
        }
        (Architecture::Bert, Pooling::Cls, HeadKind::DenseTanh) => Some(&[
            ("head.dense", "bert.pooler.dense", BOTH),
            ("head.output", "classifier", BOTH),
        ]),
        (Architecture::Roberta, Pooling::Cls, HeadKind::DenseTanh) => Some(&[
            ("head.dense", "classifier.dense", BOTH),
            ("head.output", "classifier.out_proj", BOTH),
        ]),
        (Architecture::DistilBert, Pooling::Cls, HeadKind::DenseRelu) => Some(&[
            ("head.dense", "pre_classifier", BOTH),
            ("head.output", "classifier", BOTH),
        ]),
        (Architecture::ModernBert, Pooling::Cls | Pooling::Mean, HeadKind::DenseNorm) => {
            Some(MODERN_BERT)
        }
        (
            Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3,
            Pooling::Last,
            HeadKind::Score,
        ) => Some(&[("head.output", "score", WEIGHT)]),
        _ => None,
    }
}

/// The head of `AutoModelForTokenClassification`, which reads every row, and its layers.
pub(super) fn tag_layers(architecture: Architecture) -> (HeadKind, HeadLayers) {
    match architecture {
        Architecture::Bert | Architecture::Roberta | Architecture::DistilBert => {
            (HeadKind::Linear, &[("head.output", "classifier", BOTH)])
        }
        Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 => {
            (HeadKind::Linear, &[("head.output", "score", BOTH)])
        }
        Architecture::ModernBert => (HeadKind::DenseNorm, MODERN_BERT),
    }
}

/// The layers of a head that gives a tag to each word, where transformers' class has such a head.
pub(super) fn layers_of_tags(architecture: Architecture, head: HeadKind) -> Result<HeadLayers> {
    let (theirs, layers) = tag_layers(architecture);
    ensure!(
        theirs == head,
        "transformers' class for tags of words over a {} has the head '{}', and this one is '{}', so it is not written",
        architecture.name(),
        theirs.name(),
        head.name()
    );
    Ok(layers)
}

/// How `AutoModelForSequenceClassification` reads a backbone. BERT's pooler belongs to the head where it was trained.
pub(super) fn reading(
    architecture: Architecture,
    loaded: Option<&LoadedBackbone>,
    trained_pooler: bool,
) -> (Pooling, HeadKind) {
    match architecture {
        Architecture::Bert if trained_pooler => (Pooling::Cls, HeadKind::DenseTanh),
        Architecture::Bert => (Pooling::Pooler, HeadKind::Linear),
        Architecture::Roberta => (Pooling::Cls, HeadKind::DenseTanh),
        // Over a backbone of another kind it is refused, by the kinds.
        other => match loaded.map(|loaded| loaded.backbone.config()) {
            Some(config) if config.architecture == other => backbone::conventions(config),
            _ => backbone::conventions(&Config::of(other)),
        },
    }
}

/// What to do about a head that `AutoModelForSequenceClassification` cannot hold.
pub(super) fn cannot_hold(
    architecture: Architecture,
    pooling: Pooling,
    head: HeadKind,
) -> anyhow::Error {
    let fits: Vec<_> = [false, true]
        .map(|trained| reading(architecture, None, trained))
        .into_iter()
        .map(|(p, h)| {
            format!(
                "backbone.pooling={} with backbone.head={}",
                p.name(),
                name_of(h)
            )
        })
        .collect();
    let fits = if fits[0] == fits[1] {
        fits[0].clone()
    } else {
        fits.join(", or ")
    };
    anyhow::anyhow!(
        "transformers' class for sequence classification over a {} cannot read by '{}' with the head '{}'; train with \
         --set {fits}, or write the head into a file of its own, with the few lines of Python that read it: \
         --separate-head",
        architecture.name(),
        pooling.name(),
        name_of(head)
    )
}

/// The name of a head in configurations.
pub(super) fn name_of(head: HeadKind) -> String {
    head.name().to_owned()
}

/// The architecture that a path inside a transformers model begins with, and the rest of the path. Which of the families
/// with one prefix it is, the backbone says where there is one, and else the names of the modules.
pub(super) fn split_prefix<'a>(
    path: &'a str,
    loaded: Option<&LoadedBackbone>,
) -> Option<(Architecture, &'a str)> {
    let own = loaded.map(|loaded| loaded.backbone.config().architecture);
    let all = own.into_iter().chain(ARCHITECTURES);
    let mut found = all.filter_map(|a| Some((a, path.strip_prefix(&a.prefix())?)));
    let (first, rest) = found.next()?;
    if own == Some(first) || first != Architecture::ModernBert {
        return Some((first, rest));
    }
    let is_decoder = [
        "self_attn.",
        "_layernorm",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ]
    .iter()
    .any(|module| rest.contains(module));
    Some(match is_decoder {
        true => (Architecture::Llama, rest),
        false => (first, rest),
    })
}

/// The site of a path inside a transformers model, without the architecture's prefix.
pub(super) fn site(architecture: Architecture, path: &str) -> Option<Site> {
    let layer = path.split('.').find_map(|segment| segment.parse().ok())?;
    architecture
        .projections()
        .into_iter()
        .map(|projection| Site { layer, projection })
        .find(|site| architecture.module(*site) == path)
}

/// All linear layers of a transformers model for sequence classification, or for token classification (`tags`), by their
/// paths, with the site of those that have one.
pub(super) fn linear_modules(
    architecture: Architecture,
    layers: usize,
    tags: bool,
) -> BTreeMap<String, Option<Site>> {
    let sites = (0..layers)
        .flat_map(|layer| {
            let projections = architecture.projections().into_iter();
            projections.map(move |projection| Site { layer, projection })
        })
        .map(|site| {
            let path = format!("{}{}", architecture.prefix(), architecture.module(site));
            (path, Some(site))
        });
    let (pooling, head) = reading(architecture, None, true);
    let of_head = match tags {
        true => tag_layers(architecture).1,
        false => head_layers(architecture, pooling, head).unwrap_or_default(),
    };
    let linear = of_head.iter().filter(|(ours, ..)| *ours != "head.norm");
    sites
        .chain(linear.map(|(_, path, _)| (path.to_string(), None)))
        .collect()
}

/// Names that a user of the Python libraries writes for a backbone of ours: `owner/name` of the hub, or `name` alone as
/// the hub's oldest models are known.
pub(super) fn known_backbone(name: &str) -> Option<String> {
    backbones::names()
        .find(|ours| {
            let hub = hub_repository(ours).map(|(repo, _)| repo);
            *ours == name || hub.is_some_and(|repo| repo == name)
        })
        .map(str::to_owned)
}

/// The hub's repository and revision of a backbone of ours.
pub(super) fn hub_repository(name: &str) -> Option<(String, String)> {
    if let Some(named) = crate::hub_id::repository(name) {
        return Some(named);
    }
    let spec = backbones::spec(name).ok()?;
    spec.source.places.iter().find_map(|place| match place {
        Place::Hub(hub) => Some((hub.repo.clone(), hub.revision.clone())),
        _ => None,
    })
}

/// How a user of the Python libraries names a backbone.
pub(super) struct Base {
    /// The hub's repository, or the whole path of a folder.
    pub name: String,
    /// The repository's revision.
    pub revision: Option<String>,
}

pub(super) fn base(loaded: &LoadedBackbone) -> Base {
    let repository = match &loaded.folder {
        None => hub_repository(&loaded.name),
        Some(_) => None,
    };
    match (repository, &loaded.folder) {
        (Some((name, revision)), _) => Base {
            name,
            revision: Some(revision),
        },
        (None, folder) => {
            let folder = folder.clone().unwrap_or_else(|| loaded.name.clone().into());
            // The cache of the hub keeps a revision in a folder of its name.
            let last = folder.file_name().and_then(|name| name.to_str());
            let is_commit =
                |name: &&str| name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit());
            let revision = last.filter(is_commit).map(str::to_owned);
            let whole = folder.canonicalize().unwrap_or(folder);
            Base {
                name: whole.display().to_string(),
                revision,
            }
        }
    }
}

/// Names of classes in the order of their numbers, from the `id2label` of a transformers configuration.
pub(super) fn id2label(path: &Path) -> Result<Option<Vec<String>>> {
    if backbone::is_gguf(path) {
        return Ok(None);
    }
    let at = || path.display().to_string();
    let text = crate::folders::read_small(path)?;
    let config: Map<String, Value> = serde_json::from_slice(&text).with_context(at)?;
    let Some(Value::Object(names)) = config.get("id2label") else {
        return Ok(None);
    };
    let names = names.iter().map(|(id, name)| {
        let id: usize = id.trim().parse().ok()?;
        let name = match name {
            Value::String(name) => name.clone(),
            Value::Number(_) | Value::Bool(_) => name.to_string(),
            _ => return None,
        };
        Some((id, name))
    });
    let names: Option<BTreeMap<usize, String>> = names.collect();
    let names = names.filter(|names| names.keys().copied().eq(0..names.len()));
    let names = names.with_context(|| {
        format!("{}: id2label: its keys must be the numbers of the classes from 0 on, its values their names", path.display())
    })?;
    Ok(Some(names.into_values().collect()))
}

/// A tensor of the checkpoint that a backbone was loaded from, which need not be one of the backbone's own.
pub(super) fn checkpoint_tensor(loaded: &LoadedBackbone, name: &str) -> Result<Option<Tensor>> {
    let [.., weights] = &loaded.files;
    if backbone::is_gguf(weights) {
        return Ok(None);
    }
    let file = TensorFile::open(weights)?;
    let short = split_prefix(name, Some(loaded)).map(|(_, rest)| rest);
    match [Some(name), short]
        .into_iter()
        .flatten()
        .find(|n| file.contains(n))
    {
        Some(found) => Ok(Some(file.read(found, None)?)),
        None => Ok(None),
    }
}

/// Takes a head's tensors, under transformers' names, out of `tensors`; `deltas` are changes of a layer's weight.
/// What is not there comes from the backbone's checkpoint, as in the Python libraries.
pub(super) fn take_head(
    tensors: &mut Tensors,
    layers: HeadLayers,
    deltas: &Tensors,
    loaded: Option<&LoadedBackbone>,
) -> Result<Tensors> {
    let mut head = Tensors::new();
    for (ours, theirs, parts) in layers {
        // A part that such a layer has elsewhere, but not here.
        let more = BOTH.iter().map(|part| format!("{theirs}.{part}"));
        for name in more.filter(|name| !parts.iter().any(|part| name.ends_with(part))) {
            let of_backbone = match loaded {
                Some(loaded) => checkpoint_tensor(loaded, &name)?,
                None => None,
            };
            let Some(tensor) = tensors.remove(&name).or(of_backbone) else {
                continue;
            };
            if tensor.abs()?.max_all()?.to_scalar::<f32>()? > 0.0 {
                bail!(
                    "tensor '{name}' is not supported: this layer of the classifier has no {} here",
                    &name[theirs.len() + 1..]
                );
            }
        }
        for part in *parts {
            let name = format!("{theirs}.{part}");
            let tensor = match (tensors.remove(&name), loaded) {
                (Some(tensor), _) => Some(tensor),
                (None, Some(loaded)) => checkpoint_tensor(loaded, &name)?,
                // It can wait for the backbone.
                (None, None) => continue,
            };
            let Some(tensor) = tensor else {
                bail!(
                    "tensor '{name}' is missing: the folder was saved without this layer of the classifier, and the \
                     backbone's checkpoint has none; save it with task_type SEQ_CLS or modules_to_save"
                );
            };
            let tensor = match deltas.get(*theirs).filter(|_| *part == "weight") {
                Some(delta) => (&tensor + delta)
                    .with_context(|| format!("tensor '{name}' and its low-rank change"))?,
                None => tensor,
            };
            head.insert(format!("{ours}.{part}"), tensor);
        }
    }
    Ok(head)
}
