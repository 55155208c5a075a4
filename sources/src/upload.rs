//! Files into a repository of the Hugging Face hub, as Python's huggingface_hub does it.
//!
//! The repository is made unless it is there; the hub is asked which files it keeps as they are and which by their sha256 (LFS);
//! the latter go where its answer says, without our token; one commit names all of them. hf-hub 0.5 cannot upload.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::address::{Address, percent_encoded};
use crate::fetch::Fetcher;
use crate::http::Sent;
use crate::hub::Hubs;
use crate::verify::{check_folder, regular};
use crate::{Error, Result};

/// Bytes of a file that the hub looks at to choose how it is kept.
const SAMPLE: usize = 512;
/// A file that is kept as it is may not be larger.
const LARGEST_TEXT: u64 = 10_000_000;

/// A file to upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its name in the repository.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// The files of a folder as a repository will hold them, by name. Folders in it, and names with a dot in front, are left out.
///
/// # Errors
/// If the folder cannot be read, or holds something that is no regular file or a link out of it: what it leads to was never
/// meant for others.
pub fn folder(folder: &Path) -> Result<Vec<Upload>> {
    check_folder(folder)?;
    let unreadable = |reason| Error::Unreadable {
        file: folder.to_owned(),
        reason,
    };
    let mut found = Vec::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || entry.path().is_dir() {
            continue;
        }
        found.push(Upload {
            name,
            bytes: regular(&entry.path())?.len(),
            path: entry.path(),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl Fetcher {
    /// Whether the hub answers at all.
    ///
    /// # Errors
    /// If it does not, within the time for a connection.
    pub fn ask_hub(&self) -> Result<()> {
        let hub = Hubs::new(self)?;
        hub.client
            .get(&hub.endpoint.below("api/models?limit=1"), &[], |_| true)
            .map(drop)
    }

    /// Puts files into a model repository (`OWNER/NAME`) in one commit; returns its address.
    ///
    /// # Errors
    /// Without a token, if the hub does not answer, or refuses; the message has its words.
    pub fn push(&self, repo: &str, private: bool, files: &[Upload]) -> Result<String> {
        if self.settings.offline {
            return Err(Error::Offline);
        }
        if self.settings.token.is_none() {
            return Err(Error::NoToken);
        }
        let hub = Hubs::new(self)?;
        let (owner, name) = repo.split_once('/').unwrap_or(("", repo));
        let mut wanted = json!({ "name": name, "type": "model", "private": private });
        if !owner.is_empty() {
            wanted["organization"] = owner.into();
        }
        // 409: it is there already.
        hub.post("api/repos/create", &wanted, &[409])?;
        let repo = percent_encoded(repo);

        let samples = files
            .iter()
            .map(|f| Ok(json!({ "path": f.name, "size": f.bytes, "sample": sample(f)? })))
            .collect::<Result<Vec<_>>>()?;
        let asked = json!({ "files": samples });
        let answer = hub.post(&format!("api/models/{repo}/preupload/main"), &asked, &[])?;
        let by_hash = |file: &Upload| {
            let told = answer["files"].as_array().into_iter().flatten();
            told.clone()
                .find(|t| t["path"] == *file.name)
                .map_or(file.bytes > LARGEST_TEXT, |t| t["uploadMode"] == "lfs")
        };
        let mut lines = vec![json!({
            "key": "header",
            "value": { "summary": "Upload weights with peftbench", "description": "" },
        })];
        for file in files {
            let value = if by_hash(file) {
                let oid = hub.put_by_hash(&repo, file)?;
                json!({ "key": "lfsFile", "value": {
                    "path": file.name, "algo": "sha256", "oid": oid, "size": file.bytes } })
            } else {
                let content = STANDARD.encode(read(file)?);
                json!({ "key": "file", "value": {
                    "path": file.name, "encoding": "base64", "content": content } })
            };
            lines.push(value);
        }
        let lines: String = lines.iter().map(|l| format!("{l}\n")).collect();
        let url = hub
            .endpoint
            .below(&format!("api/models/{repo}/commit/main"));
        let headers = [("Content-Type", "application/x-ndjson".to_owned())];
        let answer = hub.send("POST", &url, &headers, Sent::Text(&lines), &[])?;
        let shown = hub.endpoint.below(&repo).to_string();
        Ok(answer["commitUrl"].as_str().map_or(shown, str::to_owned))
    }
}

impl Hubs {
    fn post(&self, path: &str, body: &Value, fine: &[u16]) -> Result<Value> {
        let headers = [("Content-Type", "application/json".to_owned())];
        let (url, body) = (self.endpoint.below(path), body.to_string());
        self.send("POST", &url, &headers, Sent::Text(&body), fine)
    }

    /// Sends something; an answer that is no JSON is null.
    fn send(
        &self,
        method: &str,
        url: &Address,
        headers: &[(&str, String)],
        body: Sent<'_>,
        fine: &[u16],
    ) -> Result<Value> {
        let (status, text) = self.client.send(method, url, headers, body)?;
        if (200..300).contains(&status) || fine.contains(&status) {
            return Ok(serde_json::from_slice(&text).unwrap_or_default());
        }
        let said: Value = serde_json::from_slice(&text).unwrap_or_default();
        let said = said["error"].as_str().unwrap_or_default();
        Err(Error::Refused {
            url: url.to_string(),
            status,
            said: said.chars().take(300).collect(),
            advice: match status {
                401 | 403 => {
                    "; the token must be allowed to write there (HF_TOKEN, or `hf auth login`)"
                }
                _ => "",
            },
        })
    }

    /// Uploads a file that is kept by its sha256, unless the hub has it; returns the sha256.
    fn put_by_hash(&self, repo: &str, file: &Upload) -> Result<String> {
        let mut hash = Sha256::new();
        std::io::copy(&mut open(file)?, &mut hash).map_err(|e| unreadable(file, e))?;
        let oid = format!("{:x}", hash.finalize());
        let url = self
            .endpoint
            .below(&format!("{repo}.git/info/lfs/objects/batch"));
        let lfs = "application/vnd.git-lfs+json".to_owned();
        let headers = [("Content-Type", lfs.clone()), ("Accept", lfs)];
        let asked = json!({
            "operation": "upload", "transfers": ["basic"], "hash_algo": "sha256",
            "objects": [{ "oid": oid, "size": file.bytes }],
        });
        let body = asked.to_string();
        let answer = self.send("POST", &url, &headers, Sent::Text(&body), &[])?;
        let object = &answer["objects"][0];
        if let Some(said) = object["error"]["message"].as_str() {
            return Err(Error::Refused {
                url: url.to_string(),
                status: object["error"]["code"].as_u64().unwrap_or(0) as u16,
                said: format!("{}: {said}", file.name),
                advice: "",
            });
        }
        for (action, method) in [("upload", "PUT"), ("verify", "POST")] {
            let action = &object["actions"][action];
            let Some(href) = action["href"].as_str() else {
                continue;
            };
            let to = Address::parse(href)
                .filter(|to| to.is_secure() || !self.endpoint.is_secure())
                .ok_or_else(|| Error::Refused {
                    url: url.to_string(),
                    status: 0,
                    said: format!("it named a place to upload to that is not safe: {href}"),
                    advice: "",
                })?;
            let given = action["header"].as_object().into_iter().flatten();
            let given = given.filter_map(|(k, v)| Some((k.as_str(), v.as_str()?.to_owned())));
            let mut headers: Vec<_> = given.collect();
            let verified = json!({ "oid": oid, "size": file.bytes }).to_string();
            let opened;
            let body = if method == "PUT" {
                opened = open(file)?;
                Sent::File(&opened)
            } else {
                headers.push(("Content-Type", "application/vnd.git-lfs+json".to_owned()));
                Sent::Text(&verified)
            };
            self.send(method, &to, &headers, body, &[])?;
        }
        Ok(oid)
    }
}

fn unreadable(file: &Upload, reason: std::io::Error) -> Error {
    Error::Unreadable {
        file: file.path.clone(),
        reason,
    }
}

fn open(file: &Upload) -> Result<File> {
    File::open(&file.path).map_err(|e| unreadable(file, e))
}

fn read(file: &Upload) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(file)?
        .take(LARGEST_TEXT)
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(file, e))?;
    Ok(bytes)
}

fn sample(file: &Upload) -> Result<String> {
    let mut bytes = Vec::new();
    let mut opened = open(file)?.take(SAMPLE as u64);
    opened
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(file, e))?;
    Ok(STANDARD.encode(bytes))
}
