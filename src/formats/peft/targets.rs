//! Sites as target modules, in our words and in PEFT's.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use backbone::Site;
use datasets::Objective;
use serde_json::{Value, json};

use super::{
    super::layout,
    folder::Writing,
    rules::{Modules, Rules, regex},
};
use crate::prepare::LoadedBackbone;

/// Sites in the words of our configurations: modules and layers where they are every module in every layer, and one by
/// one where not.
pub(super) fn our_targets(sites: &[Site], loaded: Option<&LoadedBackbone>) -> (Value, Value) {
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
pub(super) fn every_module_in_every_layer(
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

impl Writing<'_> {
    /// `target_modules` and `layers_to_transform` for these sites and no other module: short names where they say it, and
    /// whole paths where not.
    pub(super) fn their_targets(&self, sites: &BTreeSet<Site>) -> Result<(Value, Value)> {
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
        let tags = self.export.task.config.objective == Objective::Tokens;
        for (path, site) in layout::linear_modules(self.architecture, all_layers, tags) {
            let wanted = site.is_some_and(|site| sites.contains(&site));
            if rules.matches(&path)? != wanted {
                return Ok((json!(paths), Value::Null));
            }
        }
        Ok((json!(short), json!(some)))
    }
}
