//! What the user asked for: from arguments to the list of runs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail, ensure};
use methods::Resolved;
use record::{Tuned, store};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    backbone_settings::BackboneSettings,
    folders, hub_id, nearest, precision, tensorboard,
    train::recipe::{RecipeChoice, budgets},
};

/// What is set on the command line, by owner (a method's name, `recipe` or `backbone`), then by key; values as written.
pub type Overrides = BTreeMap<String, BTreeMap<String, String>>;

/// Seeds of a comparison at most.
pub const MOST_SEEDS: usize = 10_000;

/// Which data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataChoice {
    /// A data set's name, or the path of a file or YAML.
    pub name: String,
    /// How a file named by its path is read.
    #[serde(default)]
    pub options: datasets::FileOptions,
    /// Whether a stand-in may be used when the data set is not found.
    pub stand_in: bool,
    /// Set when `name` is already the stand-in for this data set.
    pub stand_in_for: Option<String>,
}

impl DataChoice {
    /// A data set that nothing stands in for.
    pub fn of(name: impl Into<String>, options: datasets::FileOptions) -> Self {
        Self {
            name: name.into(),
            options,
            stand_in: false,
            stand_in_for: None,
        }
    }
}

/// One method of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The method with its configuration.
    #[serde(flatten)]
    pub method: Resolved,
    /// How its configuration was found, where a search found them.
    #[serde(default)]
    pub tuned: Option<Tuned>,
    /// Whether it is left out (and said so) where the backbone has nothing that it could train: the user named no methods,
    /// or all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl Trial {
    /// A method with its defaults.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn of(method: &str) -> Result<Self> {
        Ok(Self::new(methods::resolve(method, &BTreeMap::new())?))
    }

    /// A method with a configuration that the user gave.
    pub fn new(method: Resolved) -> Self {
        Self {
            method,
            tuned: None,
            optional: false,
        }
    }

    /// The method's name.
    pub fn name(&self) -> &'static str {
        self.method.entry.name
    }
}

/// What determines a run, as the user asked for it. All of it is checked, as far as that can be done without data and backbone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// Which data.
    pub data: DataChoice,
    /// A backbone's name or folder.
    pub backbone: String,
    /// How it is read, over what its YAML says.
    pub backbone_settings: BackboneSettings,
    /// The method.
    pub trial: Trial,
    /// The recipe.
    pub recipe: RecipeChoice,
    /// Seed of every stream.
    pub seed: u64,
    /// Whether the network is off.
    pub offline: bool,
    /// Folder of records and weights.
    pub out: PathBuf,
    /// Whether the trained weights stay there.
    pub keep_weights: bool,
}

/// What every run of a comparison shares, as the user wrote it.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Which data.
    pub data: DataChoice,
    /// Whether the network is off.
    pub offline: bool,
    /// The budget's name.
    pub budget: String,
    /// A backbone's name or folder.
    pub backbone: String,
    /// Overrides, `owner.key=value`.
    pub settings: Vec<String>,
    /// Folder of records, weights and report; one named after the data set where absent.
    pub out: Option<PathBuf>,
    /// Folder for event files of TensorBoard.
    pub tensorboard: Option<PathBuf>,
}

impl Shared {
    /// Writes event files of these runs of a folder where they were asked for.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write_events<'a>(
        &self,
        out: &Path,
        ids: impl IntoIterator<Item = &'a String>,
    ) -> Result<()> {
        let Some(folder) = &self.tensorboard else {
            return Ok(());
        };
        for id in ids {
            let record = store::find(&folders::records_folder(out), id)?;
            tensorboard::write_all(folder, record.as_ref())?;
        }
        Ok(())
    }

    /// The plan that all runs share, whose method each of them names, and all that is set.
    ///
    /// # Errors
    /// If a setting is not valid.
    pub fn plan(&self) -> Result<(RunPlan, Overrides)> {
        let mut overrides = parse_settings(&self.settings)?;
        if let Some(backbone) = overrides.get_mut("backbone") {
            precision::settle(backbone);
        }
        let of = |owner: &str| overrides.get(owner).cloned().unwrap_or_default();
        let recipe = RecipeChoice::new(&self.budget, &of("recipe"))?;
        let backbone_settings = BackboneSettings::parse(&of("backbone"))?;
        let (name, backbone) = hub_id::pinned(&self.data.name, &self.backbone, self.offline)?;
        let plan = RunPlan {
            data: DataChoice {
                name,
                ..self.data.clone()
            },
            backbone,
            backbone_settings,
            trial: Trial::of("head_only")?,
            recipe,
            seed: 0,
            offline: self.offline,
            out: self
                .out
                .clone()
                .unwrap_or_else(|| default_out(&self.data.name)),
            keep_weights: true,
        };
        Ok((plan, overrides))
    }
}

/// The default folder of a data set's comparison: its name; for a file, the file's name and a few digits of its whole
/// path, so that two files of the same name get two folders.
pub fn default_out(dataset: &str) -> PathBuf {
    let path = Path::new(dataset);
    let name = if datasets::names().any(|known| known == dataset) {
        dataset.to_owned()
    } else {
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let digest = Sha256::digest(whole.to_string_lossy().as_bytes());
        let digits = &format!("{digest:x}")[..6];
        let stem = path
            .file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        // File systems allow 255 bytes.
        let stem: String = stem.chars().take(50).collect();
        format!("{stem}-{digits}")
    };
    Path::new("reports").join("out").join(name)
}

/// The seeds 0 … n-1: as many as asked for, or as the budget has.
///
/// # Errors
/// If the budgets cannot be read.
pub fn seeds(asked: Option<usize>, budget: &str) -> Result<Vec<u64>> {
    let budgets = budgets()?;
    let n = asked.or_else(|| budgets.get(budget).copied()).unwrap_or(1);
    Ok((0..n as u64).collect())
}

/// Names of all methods.
fn method_names() -> impl Iterator<Item = &'static str> {
    methods::registry::ALL.iter().map(|entry| entry.name)
}

/// Parses `owner.key=value` settings. The owner is one of `methods`, `recipe` or `backbone`.
///
/// # Errors
/// If a setting has another form or an unknown owner.
pub fn parse_settings(settings: &[String]) -> Result<Overrides> {
    let mut overrides = Overrides::new();
    for setting in settings {
        let parts = setting
            .split_once('=')
            .and_then(|(name, value)| Some((name.split_once('.')?, value)));
        let Some(((owner, key), value)) = parts else {
            bail!("--set {setting}: expected method.key=value, e.g. lora.rank=4");
        };
        if owner != "recipe" && owner != "backbone" {
            let known: Vec<&str> = method_names().chain(["recipe", "backbone"]).collect();
            ensure!(
                known.contains(&owner),
                "--set {setting}: there is no '{owner}'; {}",
                nearest::known(owner, &known)
            );
            // The value is judged later, with everything else that is set.
            let defaults = methods::resolve(owner, &BTreeMap::new())?.config;
            let keys: Vec<&str> = defaults.keys().map(String::as_str).collect();
            ensure!(
                keys.contains(&key),
                "--set {setting}: {owner} has no key '{key}'; {}",
                nearest::known(key, &keys)
            );
        }
        overrides
            .entry(owner.to_owned())
            .or_default()
            .insert(key.to_owned(), value.to_owned());
    }
    Ok(overrides)
}

/// The methods to compare: those named, `all`, or the standard ones.
///
/// # Errors
/// If a name is unknown.
pub fn trials(names: &[String], overrides: &Overrides) -> Result<Vec<Trial>> {
    let all = names == ["all"];
    let unnamed = all || names.is_empty();
    let names: Vec<&str> = if all || names.is_empty() {
        methods::registry::ALL
            .iter()
            .filter(|e| all || e.standard)
            .map(|e| e.name)
            .collect()
    } else {
        names.iter().map(String::as_str).collect()
    };
    for (i, name) in names.iter().enumerate() {
        ensure!(
            !names[..i].contains(name),
            "--methods: '{name}' is named twice"
        );
    }
    let trials = names
        .into_iter()
        .map(|name| {
            let known: Vec<&str> = method_names().collect();
            ensure!(
                known.contains(&name),
                "--methods: there is no method '{name}'; {}",
                nearest::known(name, &known)
            );
            let own = overrides.get(name).cloned().unwrap_or_default();
            Ok(Trial {
                method: methods::resolve(name, &own)?,
                optional: unnamed && own.is_empty(),
                tuned: None,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    for owner in overrides.keys() {
        let used =
            owner == "recipe" || owner == "backbone" || trials.iter().any(|t| t.name() == owner);
        ensure!(
            used,
            "--set {owner}.…: '{owner}' is not among the methods of this comparison"
        );
    }
    Ok(trials)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(all: &[&str]) -> Result<Overrides> {
        parse_settings(&all.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn a_setting_belongs_to_a_method_the_recipe_or_the_backbone() {
        let overrides =
            settings(&["lora.rank=4", "recipe.batch=16", "backbone.pooling=cls"]).unwrap();
        assert_eq!(overrides["lora"]["rank"], "4");
        assert_eq!(overrides["recipe"]["batch"], "16");
        assert!(
            settings(&["loar.rank=4"])
                .unwrap_err()
                .to_string()
                .contains("lora")
        );
        assert!(
            settings(&["rank=4"])
                .unwrap_err()
                .to_string()
                .contains("method.key=value")
        );
    }

    #[test]
    fn two_files_of_the_same_name_get_two_folders_and_long_names_are_cut() {
        assert_eq!(default_out("sst2"), Path::new("reports/out/sst2"));
        assert_ne!(default_out("a/train.csv"), default_out("b/train.csv"));
        assert_ne!(default_out("a/train.csv"), default_out("a/train.tsv"));
        let long = default_out(&format!("{}.csv", "ö".repeat(200)));
        assert!(long.file_name().unwrap().len() < 255);
    }

    #[test]
    fn a_method_that_is_named_twice_or_unknown_is_refused() {
        let names = |n: &[&str]| n.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        assert!(trials(&names(&["lora", "lora"]), &Overrides::new()).is_err());
        let message = trials(&names(&["lorra"]), &Overrides::new())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("lorra") && message.contains("prompt_tuning"),
            "{message}"
        );
    }

    #[test]
    fn a_setting_of_a_method_that_is_not_compared_is_refused() {
        let overrides = settings(&["adapter.reduction_factor=8"]).unwrap();
        assert!(trials(&["lora".to_owned()], &overrides).is_err());
    }
}
