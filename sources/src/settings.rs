//! What the environment says about caches, the hub and the network.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hf_hub::Cache;

use crate::address::{Address, without_secrets};
use crate::patience::Patience;
use crate::pip_index::Index;
use crate::{Error, Result};

/// Where a [`crate::Fetcher`] keeps files and whom it may ask.
#[derive(Clone)]
pub struct Settings {
    /// Our cache.
    pub cache: PathBuf,
    /// The `hub` folder of the Hugging Face cache; only read.
    pub hub_cache: PathBuf,
    /// The hub, without a slash at the end. Credentials in it are sent to it and shown to nobody.
    pub endpoint: String,
    /// Sent to the scheme, host and port of the hub, and to no other.
    pub token: Option<String>,
    /// A file or folder of certificates in place of the built-in ones, and the variable that names it.
    pub certificates: Option<(String, PathBuf)>,
    /// Where packages are; without it pip is asked for its configuration.
    pub index: Option<Index>,
    /// How long the network is waited for.
    pub patience: Patience,
    /// Never touch the network.
    pub offline: bool,
    /// Environment variables for pip, which is asked for its configuration only, on top of the inherited ones.
    pub pip_environment: BTreeMap<String, String>,
}

impl Settings {
    /// Reads the environment; `offline` is the command line's wish.
    ///
    /// `PEFTBENCH_CACHE`, `XDG_CACHE_HOME`, `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_HUB_OFFLINE`, `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE` and `SSL_CERT_FILE` mean what they mean to Python's
    /// huggingface_hub; an empty variable counts as unset. Without `HOME` the home folder is the one that the system's
    /// list of users names, as for Python.
    ///
    /// # Errors
    /// [`Error::Environment`] for an `HF_ENDPOINT` that is no address, or when there is no home folder to put a cache in.
    pub fn from_env(offline: bool) -> Result<Self> {
        Self::from_lookup(offline, |name| {
            let listed = || std::env::home_dir()?.into_os_string().into_string().ok();
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            value.or_else(|| if name == "HOME" { listed() } else { None })
        })
    }

    /// [`Settings::from_env`] over any environment.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn from_lookup(offline: bool, lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| get(name).map(PathBuf::from);

        let home = || path("HOME").or_else(|| path("USERPROFILE"));
        let caches = || {
            path("XDG_CACHE_HOME")
                .or_else(|| Some(home()?.join(".cache")))
                .ok_or(Error::Environment {
                    name: "HOME",
                    value: String::new(),
                    problem: "there is no home folder to keep a cache in; set PEFTBENCH_CACHE and HF_HOME".into(),
                })
        };
        let cache = match path("PEFTBENCH_CACHE") {
            Some(path) => path,
            None => caches()?.join("peftbench"),
        };
        let hub_home = || match path("HF_HOME") {
            Some(path) => Ok(path),
            None => Ok::<_, Error>(caches()?.join("huggingface")),
        };
        let hub_cache = match path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")) {
            Some(path) => path,
            None => hub_home()?.join("hub"),
        };

        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        address_of(&endpoint)?;

        let token = get("HF_TOKEN")
            .or_else(|| {
                let file = path("HF_TOKEN_PATH")?;
                std::fs::read_to_string(file).ok()
            })
            .or_else(|| Cache::new(hub_home().ok()?.join("hub")).token())
            .map(|token| token.trim().to_string())
            .filter(|token| !token.is_empty());

        let certificates = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]
            .into_iter()
            .find_map(|name| Some((name.to_string(), path(name)?)));

        let hub_offline = get("HF_HUB_OFFLINE").is_some_and(|value| {
            matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
        });
        Ok(Self {
            cache,
            hub_cache,
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token,
            certificates,
            index: None,
            patience: Patience::default(),
            offline: offline || hub_offline,
            pip_environment: BTreeMap::new(),
        })
    }
}

/// The address of a hub.
pub(crate) fn address_of(endpoint: &str) -> Result<Address> {
    Address::parse(endpoint).ok_or_else(|| Error::Environment {
        name: "HF_ENDPOINT",
        value: without_secrets(endpoint),
        problem: "is not an address; write https://host or http://host:port".into(),
    })
}
