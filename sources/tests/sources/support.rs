//! A hub on loopback, a machine of one's own, and a progress bar that remembers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use peftbench_sources::{Fetcher, Index, Patience, Progress, Settings, Source};
use sha2::{Digest, Sha256};

pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

pub fn source(yaml: &str) -> Source {
    serde_yaml::from_str(yaml).unwrap()
}

/// What was asked, header names in lower case.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn range_start(&self) -> Option<usize> {
        let range = self.header("range")?;
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    }
}

/// What is answered.
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is closed.
    sent: usize,
    /// How the body is sent.
    manner: Manner,
}

#[derive(Clone, Copy)]
enum Manner {
    Declared,
    /// No length, and again and again until nobody listens.
    Endless,
    /// No length, then the end of the connection.
    Undeclared,
    /// Another length than there is.
    Declares(u64),
    /// One byte each so many milliseconds.
    Trickle(u64),
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            sent: 0,
            manner: Manner::Declared,
        }
    }

    fn copy(&self) -> Self {
        Self {
            headers: self.headers.clone(),
            body: self.body.clone(),
            ..*self
        }
    }

    /// All of `body`, whatever range was asked for.
    pub fn whole(body: &[u8]) -> Self {
        Self {
            sent: body.len(),
            body: body.to_vec(),
            ..Self::status(200)
        }
    }

    /// `body` from where the request wants it.
    pub fn file(request: &Request, body: &[u8]) -> Self {
        match request.range_start() {
            None => Self::whole(body),
            Some(start) if start >= body.len() => Self::status(416),
            Some(start) => Self {
                status: 206,
                ..Self::whole(&body[start..])
            }
            .with(
                "Content-Range",
                &format!("bytes {start}-{}/{}", body.len() - 1, body.len()),
            ),
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The whole length is announced, and the connection closed after so many bytes.
    pub fn broken_after(mut self, bytes: usize) -> Self {
        self.sent = bytes.min(self.body.len());
        self
    }

    /// The body again and again, without a declared length.
    pub fn endless(mut self) -> Self {
        self.manner = Manner::Endless;
        self
    }

    /// Without a declared length.
    pub fn undeclared(mut self) -> Self {
        self.manner = Manner::Undeclared;
        self
    }

    /// With this length in place of the real one, sent again and again until it is reached or nobody listens.
    pub fn declares(mut self, bytes: u64) -> Self {
        self.manner = Manner::Declares(bytes);
        self
    }

    /// One byte each so many milliseconds.
    pub fn trickle(mut self, milliseconds: u64) -> Self {
        self.manner = Manner::Trickle(milliseconds);
        self
    }

    fn write(&self, to: &mut TcpStream) -> std::io::Result<()> {
        write!(to, "HTTP/1.1 {} X\r\nConnection: close\r\n", self.status)?;
        match self.manner {
            Manner::Endless | Manner::Undeclared => {}
            Manner::Declares(bytes) => write!(to, "Content-Length: {bytes}\r\n")?,
            _ => write!(to, "Content-Length: {}\r\n", self.body.len())?,
        }
        for (name, value) in &self.headers {
            write!(to, "{name}: {value}\r\n")?;
        }
        write!(to, "\r\n")?;
        match self.manner {
            Manner::Endless | Manner::Declares(_) => loop {
                to.write_all(&self.body)?;
            },
            Manner::Trickle(pause) => {
                for byte in &self.body {
                    to.write_all(std::slice::from_ref(byte))?;
                    std::thread::sleep(Duration::from_millis(pause));
                }
            }
            _ => to.write_all(&self.body[..self.sent])?,
        }
        to.flush()
    }
}

/// Answers every request by one function, and remembers them.
pub struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` gets the number of the request, from 0, and the request.
    pub fn start(answer: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped) = (requests.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let Some(request) = read_request(&stream) else {
                    continue;
                };
                let number = log.lock().unwrap().len();
                let reply = answer(number, &request);
                log.lock().unwrap().push(request);
                // An answer without an end must not keep the others from theirs.
                std::thread::spawn(move || drop(reply.write(&mut stream)));
            }
        });
        Self {
            port,
            requests,
            stop,
            thread: Some(thread),
        }
    }

    /// Answers every request by a shared reply.
    pub fn shared(answer: impl Fn(&Request) -> Arc<Reply> + Send + 'static) -> Self {
        Self::start(move |_, request| answer(request).copy())
    }

    /// A hub with these files, by address.
    pub fn with_files(files: &[(&str, &[u8])]) -> Self {
        let files: BTreeMap<String, Vec<u8>> = files
            .iter()
            .map(|(path, body)| (path.to_string(), body.to_vec()))
            .collect();
        Self::start(move |_, request| match files.get(&request.path) {
            Some(body) => Reply::file(request, body),
            None => Reply::status(404),
        })
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_string());
    }
    Some(Request {
        path: first.split(' ').nth(1)?.to_string(),
        headers,
    })
}

/// An address where nobody listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A fetcher that loses its patience within a test.
pub fn quick() -> Patience {
    Patience {
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_secs(2),
        ..Patience::default()
    }
}

/// Empty caches in a temporary folder.
pub struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file with all its folders.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn settings(&self, endpoint: &str) -> Settings {
        Settings {
            cache: self.path("cache"),
            hub_cache: self.path("hf/hub"),
            endpoint: endpoint.into(),
            token: None,
            certificates: None,
            index: Some(Index::default()),
            patience: quick(),
            offline: false,
            pip_environment: BTreeMap::new(),
        }
    }

    pub fn online(&self, endpoint: &str) -> Fetcher {
        Fetcher::new(self.settings(endpoint))
    }

    pub fn offline(&self) -> Fetcher {
        Fetcher::new(Settings {
            offline: true,
            ..self.settings(&nobody())
        })
    }

    /// All files under a folder, relative to it, sorted.
    pub fn files(&self, name: &str) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    walk(&entry.path(), root, found);
                } else {
                    let path = entry.path();
                    found.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let root = self.path(name);
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.sort();
        found
    }
}

/// A progress bar that remembers.
#[derive(Default)]
pub struct Bars(Mutex<Vec<Bar>>);

/// What was shown of one download.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bar {
    pub what: String,
    pub announced: Option<u64>,
    pub counted: u64,
    pub finished: bool,
}

impl Bars {
    pub fn seen(&self) -> Vec<Bar> {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Bars {
    fn start(&self, what: &str, bytes: Option<u64>) {
        self.0.lock().unwrap().push(Bar {
            what: what.into(),
            announced: bytes,
            ..Bar::default()
        });
    }
    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().last_mut().unwrap().counted += bytes;
    }
    fn finish(&self) {
        self.0.lock().unwrap().last_mut().unwrap().finished = true;
    }
}
