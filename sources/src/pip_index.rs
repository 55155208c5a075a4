//! Which package indexes the user has: what pip's configuration says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::address::Address;
use crate::{Error, Result};

/// Package indexes, as pip's configuration names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Addresses of the simple API, in order; credentials in them go to their own origin only.
    pub urls: Vec<String>,
    /// Folders, or pages with links, that are looked at first.
    pub find_links: Vec<String>,
    /// A file of certificates for the indexes.
    pub certificates: Option<PathBuf>,
    /// A proxy for the indexes.
    pub proxy: Option<String>,
    /// Hosts whose certificates are not looked at.
    pub trusted_hosts: Vec<String>,
}

const PIPS: [&[&str]; 4] = [
    // Isolated: neither the current folder nor a variable of Python's decides which code runs as pip.
    &["python3", "-I", "-m", "pip"],
    &["python", "-I", "-m", "pip"],
    &["pip3"],
    &["pip"],
];

impl Index {
    /// What pip would use for `pip download`, from its files and its variables.
    pub(crate) fn of_pip(variables: &BTreeMap<String, String>) -> Result<Self> {
        let say = |pip: &[&str], arguments: &[&str]| {
            let mut command = Command::new(pip[0]);
            command.args(&pip[1..]).args(arguments).envs(variables);
            // One line for each option of a help text.
            command.env("COLUMNS", "2000").stdin(Stdio::null());
            let output = command.output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success().then_some(text)
        };
        let list = |pip| Some((pip, say(pip, &["config", "list"])?));
        let found = PIPS.into_iter().find_map(list);
        let mut index = Self::from_list(found.as_ref().map_or("", |(_, list)| list.as_str()));
        if found.is_none() {
            // Without pip its variables still say what is meant.
            let said = variables.get("PIP_INDEX_URL").cloned();
            let said = said.or_else(|| std::env::var("PIP_INDEX_URL").ok());
            index.urls.extend(said.filter(|url| !url.trim().is_empty()));
        }
        if index.urls.is_empty()
            && let Some((pip, list)) = &found
            && !setting(list, "no-index").is_some_and(|value| is_yes(&value))
        {
            // The default is in no configuration, only in pip itself.
            let help = say(pip, &["download", "--help"]).unwrap_or_default();
            let usual = help
                .split_once("--index-url <url>")
                .and_then(|(_, rest)| rest.split_once("(default "))
                .and_then(|(_, rest)| rest.split(')').next());
            index.urls.insert(0, usual.unwrap_or_default().to_string());
            index.urls.retain(|url| !url.is_empty());
            index.urls.extend(words(list, "extra-index-url"));
        }
        if index.urls.is_empty() && index.find_links.is_empty() {
            return Err(Error::NoIndex {
                tried: PIPS.map(|pip| format!("`{}`", pip.join(" "))).join(", "),
            });
        }
        Ok(index)
    }

    /// Reads what `pip config list` prints: `global.index-url='https://…'`.
    fn from_list(list: &str) -> Self {
        let no_index = setting(list, "no-index").is_some_and(|value| is_yes(&value));
        let own: Vec<String> = setting(list, "index-url").into_iter().collect();
        let urls = match own.is_empty() || no_index {
            true => Vec::new(),
            false => [own, words(list, "extra-index-url")].concat(),
        };
        Self {
            urls,
            find_links: words(list, "find-links"),
            certificates: setting(list, "cert").map(PathBuf::from),
            proxy: setting(list, "proxy"),
            trusted_hosts: words(list, "trusted-host"),
        }
    }

    /// Whether the user has said that the certificate of this host does not matter.
    pub(crate) fn trusts(&self, address: &Address) -> bool {
        let host = address.host();
        self.trusted_hosts
            .iter()
            .any(|trusted| trusted == host || trusted.starts_with(&format!("{host}:")))
    }
}

/// The value of a key: the environment's before the command's before everyone's, as pip has it.
fn setting(list: &str, key: &str) -> Option<String> {
    [":env:", "download", "global"]
        .into_iter()
        .find_map(|section| {
            let start = format!("{section}.{key}=");
            let value = list.lines().find_map(|line| line.strip_prefix(&start))?;
            Some(unquoted(value.trim())).filter(|value| !value.trim().is_empty())
        })
}

fn words(list: &str, key: &str) -> Vec<String> {
    let value = setting(list, key).unwrap_or_default();
    value.split_whitespace().map(str::to_string).collect()
}

fn is_yes(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "1" | "true" | "yes" | "on" | "t" | "y"
    )
}

/// A string as Python's `repr` writes it.
fn unquoted(text: &str) -> String {
    let inner = ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    let Some(inner) = inner else {
        return text.to_string();
    };
    let mut value = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(other) => value.push(other),
                None => {}
            },
            letter => value.push(letter),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pips_configuration_is_read_with_its_precedence() {
        let list = "download.index-url='https://d/simple'\nglobal.index-url='https://g/simple'\n\
                    global.extra-index-url='https://e/simple\\nhttps://f/simple'\nglobal.cert=\"/c'a.pem\"\n\
                    global.trusted-host='g f'\n:env:.find-links='/wheels'\n";
        let index = Index::from_list(list);
        assert_eq!(
            index.urls,
            ["https://d/simple", "https://e/simple", "https://f/simple"]
        );
        assert_eq!(index.find_links, ["/wheels"]);
        assert_eq!(index.certificates, Some("/c'a.pem".into()));
        assert_eq!(index.trusted_hosts, ["g", "f"]);
        let env = format!("{list}:env:.index-url='https://v/simple'\n");
        assert_eq!(Index::from_list(&env).urls[0], "https://v/simple");
        let none = format!("{list}:env:.no-index='1'\n");
        assert_eq!(Index::from_list(&none).urls, Vec::<String>::new());
    }
}
