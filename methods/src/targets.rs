//! Which layers, and which linear maps in them, a method acts on.

use backbone::{Projection, Site};
use serde::Deserialize;

/// Which encoder layers a method acts on.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected all, or a list of layers counted from 0"
)]
pub(crate) enum Layers {
    /// The word `all`.
    All(All),
    /// Layers counted from 0.
    These(Vec<usize>),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum All {
    All,
}

impl Layers {
    pub(crate) fn resolve(&self, layers: usize) -> Result<Vec<usize>, String> {
        match self {
            Self::All(_) => Ok((0..layers).collect()),
            Self::These(these) if these.is_empty() => {
                Err("layers: name at least one, or all".into())
            }
            Self::These(these) => match these.iter().find(|l| **l >= layers) {
                Some(layer) => Err(format!(
                    "layers: {layer} does not exist; the backbone has 0 … {}",
                    layers - 1
                )),
                None => {
                    let mut these = these.clone();
                    these.sort_unstable();
                    these.dedup();
                    Ok(these)
                }
            },
        }
    }
}

/// Names of linear layers: those that are written, or the family's own choice.
pub(crate) fn modules(
    written: &Option<Vec<String>>,
    of_family: &[Projection],
    backbone: &backbone::Config,
) -> Vec<String> {
    match written {
        Some(names) => names
            .iter()
            .flat_map(|name| named(name, backbone))
            .collect(),
        None => of_family.iter().map(|p| p.name().to_owned()).collect(),
    }
}

/// What a name stands for: one of our names for itself; any other, as in PEFT, for all linear layers whose path in the library's
/// model ends in it (`Wo` of a ModernBERT for two), or for itself where there are none.
fn named(name: &str, backbone: &backbone::Config) -> Vec<String> {
    // (PEFT's `dense` is a BERT's pooler as well.)
    let own = name.starts_with("encoder.") || name.parse::<Projection>().is_ok();
    let mut found = Vec::new();
    if !own && name != "dense" {
        let (layer, end) = (0, format!(".{name}"));
        let all = backbone.description.projections();
        let ends = |p: &Projection| {
            let projection = *p;
            let path = backbone.tensor_name(Site { layer, projection });
            path.ends_with(&end)
        };
        found.extend(all.filter(ends).map(|p| p.name().to_owned()));
    }
    if found.is_empty() {
        found.push(name.to_owned());
    }
    found
}

/// The linear layer of this name, if the family has it.
pub(crate) fn projection(name: &str, backbone: &backbone::Config) -> Result<Projection, String> {
    let named: Projection = name.parse()?;
    let known: Vec<Projection> = backbone.description.projections().collect();
    if known.contains(&named) {
        return Ok(named);
    }
    let names: Vec<_> = known.iter().map(|p| p.name()).collect();
    Err(format!(
        "target_modules: '{name}' is not a linear layer of a {}; it has {}",
        backbone.architecture.name(),
        names.join(", ")
    ))
}

/// The sites of `target_modules` (names of linear layers) in `layers`, from the input upwards.
pub(crate) fn sites(
    target_modules: &[String],
    layers: &Layers,
    backbone: &backbone::Config,
) -> Result<Vec<Site>, String> {
    if target_modules.is_empty() {
        return Err("target_modules: name at least one".into());
    }
    let projections = target_modules
        .iter()
        .map(|name| projection(name, backbone))
        .collect::<Result<Vec<Projection>, _>>()?;
    let mut sites: Vec<Site> = layers
        .resolve(backbone.layers)?
        .into_iter()
        .flat_map(|layer| {
            projections
                .iter()
                .map(move |&projection| Site { layer, projection })
        })
        .collect();
    sites.sort();
    sites.dedup();
    Ok(sites)
}
