//! Which linear layers a method acts on.

use backbone::{Projection, Site};

use crate::lora::Layers;

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
        .map(|m| m.parse())
        .collect::<Result<Vec<Projection>, _>>()?;
    let known: Vec<Projection> = backbone.description.projections().collect();
    if let Some(missing) = projections.iter().find(|p| !known.contains(p)) {
        let names: Vec<_> = known.iter().map(|p| p.name()).collect();
        return Err(format!(
            "target_modules: '{missing}' is no linear layer of a {}; it has {}",
            backbone.architecture.name(),
            names.join(", ")
        ));
    }
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
