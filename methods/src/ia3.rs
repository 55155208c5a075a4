//! IA3: infused adapter by inhibiting and amplifying inner activations (Liu et al. 2022, arXiv:2205.05638).
//!
//! `y = l ∘ (x Wᵀ + b)` at keys and values, l `[out, 1]`; `y = (l ∘ x) Wᵀ + b` at a feed-forward layer, l `[1, in]`,
//! which scales the activation's output. Everything starts at 1, so the start equals the backbone. Merging
//! multiplies rows (and the bias) or columns of W.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, Linear, Pass, Site};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
    parameters::Training,
    targets::{self, Layers},
};

/// Numerics 2: weight decay, which pulls towards zero, spares the vectors, whose neutral value is 1.
pub(crate) const ENTRY: Entry = Entry::of::<Config>("ia3", include_str!("../configs/ia3.yaml"))
    .numerics(2)
    .parameters("L · (3 · H + I)");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    target_modules: Option<Vec<String>>,
    feedforward_modules: Option<Vec<String>>,
    layers: Layers,
}

impl Config {
    /// All modules, and those whose input is scaled.
    fn modules(&self, backbone: &backbone::Config) -> [Vec<String>; 2] {
        let [all, of_input] = backbone.ia3_targets();
        let all = targets::modules(&self.target_modules, all, backbone);
        let of_input = match (&self.target_modules, &self.feedforward_modules) {
            // Of modules that are named, those of the family's choice.
            (Some(_), None) => {
                let scaled = |name: &&String| {
                    let projection = targets::projection(name, backbone);
                    projection.is_ok_and(|p| of_input.contains(&p))
                };
                all.iter().filter(scaled).cloned().collect()
            }
            (_, written) => targets::modules(written, of_input, backbone),
        };
        [all, of_input]
    }

    fn sites(&self, backbone: &backbone::Config) -> std::result::Result<Vec<Site>, String> {
        targets::sites(&self.modules(backbone)[0], &self.layers, backbone)
    }

    /// The sites, and whether a site's input is scaled and not its output.
    fn scaled(
        &self,
        backbone: &backbone::Config,
    ) -> std::result::Result<Vec<(Site, bool)>, String> {
        let [_, of_input] = self.modules(backbone);
        let of_input = of_input
            .iter()
            .map(|name| targets::projection(name, backbone))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let sites = self.sites(backbone)?.into_iter();
        Ok(sites
            .map(|site| (site, of_input.contains(&site.projection)))
            .collect())
    }
}

impl MethodConfig for Config {
    fn of_family(&self, backbone: &backbone::Config) -> Map<String, Value> {
        let [all, of_input] = self.modules(backbone);
        Map::from_iter([
            ("target_modules".to_owned(), all.into()),
            ("feedforward_modules".to_owned(), of_input.into()),
        ])
    }

    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        let [all, of_input] = self.modules(backbone);
        if let Some(other) = of_input.iter().find(|m| !all.contains(m)) {
            return Err(format!(
                "feedforward_modules: '{other}' is not among target_modules ({})",
                all.join(", ")
            ));
        }
        self.scaled(backbone).map(drop)
    }

    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        let of_site = |(site, of_input): (Site, bool)| {
            let (o, i) = backbone.shape(site);
            if of_input { i } else { o }
        };
        let sites = self.scaled(backbone.config())?.into_iter();
        Ok(sites.map(of_site).sum::<usize>() as f64)
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = at.backbone;
        let training = Training {
            learning_rate_factor: 1.0,
            decays: false,
        };
        let mut scales = BTreeMap::new();
        for (site, of_input) in at.valid(self.scaled(backbone.config()))? {
            let (o, i) = backbone.shape(site);
            let shape = if of_input { [1, i] } else { [o, 1] };
            let ones = |_: &mut _| Tensor::ones(&shape, backbone.dtype(), &Device::Cpu);
            let name = format!("{site}.ia3");
            let values = at.tensors.trained(name, &shape, training, ones)?;
            scales.insert(site, Scale { of_input, values });
        }
        Ok(Box::new(Ia3 {
            parameters: at.take(),
            scales,
        }))
    }
}

struct Scale {
    /// Whether it scales the layer's input and not its output.
    of_input: bool,
    values: Tensor,
}

struct Ia3 {
    parameters: Parameters,
    scales: BTreeMap<Site, Scale>,
}

impl Ia3 {
    fn scaled(&self, site: Site, rows: &Tensor, of_input: bool) -> backbone::Result<Tensor> {
        Ok(match self.scales.get(&site) {
            Some(scale) if scale.of_input == of_input => {
                kernels::scale_shift(rows, Some(&scale.values), None)?
            }
            _ => rows.clone(),
        })
    }
}

impl Hooks for Ia3 {
    fn acts_on(&self, site: Site) -> bool {
        self.scales.contains_key(&site)
    }

    fn linear_input(&self, site: Site, x: &Tensor, _: Pass<'_>) -> backbone::Result<Tensor> {
        self.scaled(site, x, true)
    }

    fn linear(&self, site: Site, _: &Tensor, y: Tensor, _: Pass<'_>) -> backbone::Result<Tensor> {
        self.scaled(site, &y, false)
    }
}

impl PeftMethod for Ia3 {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        let mut merged = backbone.clone();
        for (site, Scale { of_input, values }) in &self.scales {
            let (linear, values) = (merged.linear(*site).clone(), values.detach());
            let weight = linear.weight().broadcast_mul(&values)?;
            let bias = match linear.bias() {
                Some(bias) if !of_input => Some((bias * values.flatten_all()?)?),
                bias => bias.cloned(),
            };
            merged = merged.with_linear(*site, Linear::new(weight, bias)?)?;
        }
        Ok(merged)
    }
}
