//! A file as text: opened only if it is a regular file, unpacked if it is gzip, decoded to UTF-8 while it is read.
//!
//! What is in memory at a time is one chunk and the line that it belongs to, so a stream may be of any length. `\n`, `\r\n`
//! and `\r` end a line. A byte-order mark says which of UTF-8 and UTF-16 a file is; everything else has to be named.

use std::{
    fs::{self, File},
    io::{Cursor, Read},
    path::{Path, PathBuf},
};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};
use flate2::read::MultiGzDecoder;

use crate::{Error, Result};

/// Bytes read at a time.
const CHUNK: usize = 1 << 16;
/// The longest row that is read, in bytes of UTF-8: what is longer is no text for a classifier, and may never end.
pub(crate) const LONGEST_ROW: usize = 64 << 20;

/// Opens a file for reading if it is a regular file (or a link to one).
///
/// # Errors
/// If it is not there, may not be read, or is a folder, a pipe, a socket or a device, which the message says.
pub fn open_regular(path: &Path) -> Result<File> {
    check_regular(path)?;
    File::open(path).map_err(|error| io(path, error))
}

/// Refuses what is no regular file, with what it is. A pipe that nobody writes to would be waited for without end.
///
/// # Errors
/// As [`open_regular`].
pub fn check_regular(path: &Path) -> Result<()> {
    let kind = fs::metadata(path)
        .map_err(|error| io(path, error))?
        .file_type();
    if kind.is_file() {
        return Ok(());
    }
    let mut what = "no regular file";
    if kind.is_dir() {
        what = "a folder; name a file in it";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let stream = "write its contents to a file, or send them to predict with --input -";
        let named = [
            (kind.is_fifo(), "a named pipe"),
            (kind.is_socket(), "a socket"),
            (kind.is_char_device(), "a device"),
            (kind.is_block_device(), "a device"),
        ];
        if let Some((_, name)) = named.into_iter().find(|(is, _)| *is) {
            return Err(format(
                path,
                format!("is {name}, not a regular file; {stream}"),
            ));
        }
    }
    Err(format(path, format!("is {what}")))
}

fn io(path: &Path, error: std::io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        error,
    }
}

fn format(path: &Path, message: String) -> Error {
    Error::Format {
        path: path.to_owned(),
        message,
    }
}

/// The encoding of a name: those of the WHATWG standard, and the names that Python has for the same.
///
/// # Errors
/// What is accepted, if there is none of this name.
pub(crate) fn encoding(name: &str) -> std::result::Result<&'static Encoding, String> {
    let plain = name.trim().to_lowercase().replace('_', "-");
    let standard = match plain.as_str() {
        "utf-8-sig" | "utf8" => "utf-8",
        "latin-1" => "latin1",
        "cp936" => "gbk",
        "cp932" => "shift_jis",
        "cp949" => "euc-kr",
        "cp950" => "big5",
        "utf-16-le" => "utf-16le",
        "utf-16-be" => "utf-16be",
        other => other,
    };
    Encoding::for_label(standard.as_bytes()).ok_or_else(|| {
        format!(
            "'{name}' is no known encoding; accepted: utf-8, utf-16le, utf-16be, windows-1250 … windows-1258 (cp1252), \
             iso-8859-2 …, gb18030, gbk, big5, shift_jis, euc-jp, euc-kr, koi8-r, macintosh"
        )
    })
}

/// Text that comes piece by piece.
pub(crate) struct Text {
    path: PathBuf,
    input: Box<dyn Read + Send>,
    decoder: Decoder,
    encoding: &'static Encoding,
    /// Set when the file is of another encoding than UTF-8.
    pub note: Option<String>,
    raw: Vec<u8>,
    text: Vec<u8>,
    at: usize,
    ended: bool,
    /// For the place of a byte that cannot be decoded.
    lines: Lines,
    /// A `\r` ended the last line; a `\n` right behind it belongs to it.
    after_return: bool,
}

impl Text {
    /// The text of a regular file.
    pub fn open(path: &Path, named: Option<&str>) -> Result<Self> {
        Self::new(Box::new(open_regular(path)?), path, named, 512)
    }

    /// The text of a stream, `path` in messages; its first `head` bytes are waited for.
    pub fn new(
        mut input: Box<dyn Read + Send>,
        path: &Path,
        named: Option<&str>,
        head: usize,
    ) -> Result<Self> {
        let mut first = start(&mut input, head).map_err(|error| io(path, error))?;
        if first.starts_with(&[0x1f, 0x8b]) {
            let packed = Cursor::new(first).chain(input);
            input = Box::new(MultiGzDecoder::new(packed));
            first = start(&mut input, head).map_err(|error| unreadable(path, error))?;
        }
        let named = named
            .map(encoding)
            .transpose()
            .map_err(|message| format(path, format!("--encoding: {message}")))?;
        let (encoding, mark) = Encoding::for_bom(&first)
            .map_or((named.unwrap_or(UTF_8), 0), |(encoding, mark)| {
                (encoding, mark)
            });
        if let Some(what) = foreign(&first, named.is_some()) {
            return Err(format(path, what));
        }
        let note = match named.filter(|named| mark > 0 && *named != encoding) {
            Some(named) => Some(format!(
                "{}: read as {}, as its byte-order mark says, and not as {}",
                path.display(),
                encoding.name(),
                named.name()
            )),
            None => (encoding != UTF_8)
                .then(|| format!("{}: read as {}", path.display(), encoding.name())),
        };
        first.drain(..mark);
        Ok(Self {
            path: path.to_owned(),
            input: Box::new(Cursor::new(first).chain(input)),
            decoder: encoding.new_decoder_without_bom_handling(),
            encoding,
            note,
            raw: vec![0; CHUNK],
            text: Vec::new(),
            at: 0,
            ended: false,
            lines: Lines::default(),
            after_return: false,
        })
    }

    /// What has been read and not been consumed.
    pub fn rest(&self) -> &[u8] {
        &self.text[self.at..]
    }

    /// Passes over `n` bytes of the rest.
    pub fn consume(&mut self, n: usize) {
        self.at += n;
    }

    /// Reads on; whether there is more in the rest than before.
    pub fn more(&mut self) -> Result<bool> {
        if self.at > 0 {
            self.text.drain(..self.at);
            self.at = 0;
        }
        if self.text.len() > LONGEST_ROW {
            return Err(self.too_long(self.lines.line));
        }
        let before = self.text.len();
        while !self.ended && self.text.len() == before {
            let n = self
                .input
                .read(&mut self.raw)
                .map_err(|error| unreadable(&self.path, error))?;
            self.ended = n == 0;
            self.decode(n)?;
        }
        Ok(self.text.len() > before)
    }

    fn decode(&mut self, n: usize) -> Result<()> {
        let mut raw = &self.raw[..n];
        loop {
            let most = self
                .decoder
                .max_utf8_buffer_length_without_replacement(raw.len());
            let begin = self.text.len();
            self.text
                .resize(begin + most.unwrap_or(raw.len() * 4 + 16), 0);
            let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(
                raw,
                &mut self.text[begin..],
                self.ended,
            );
            self.text.truncate(begin + written);
            self.lines.pass(&self.text[begin..]);
            match result {
                DecoderResult::InputEmpty => return Ok(()),
                DecoderResult::OutputFull => raw = &raw[read..],
                DecoderResult::Malformed(length, after) => {
                    let bad = read.checked_sub(usize::from(length) + usize::from(after));
                    return Err(self.malformed(bad.and_then(|i| raw.get(i)).copied(), n));
                }
            }
        }
    }

    fn malformed(&self, byte: Option<u8>, n: usize) -> Error {
        let Lines { line, column, .. } = self.lines;
        let byte = byte.map_or_else(|| "a byte".to_owned(), |byte| format!("0x{byte:02x}"));
        let name = self.encoding.name();
        let hint = if self.encoding == UTF_8 {
            let mut detector =
                chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
            detector.feed(&self.raw[..n], true);
            let looks = detector.guess(None, chardetng::Utf8Detection::Deny).name();
            format!(
                "the file looks like {looks}: name its encoding, --encoding {} (or `encoding:` in a YAML), or save it as \
                 UTF-8",
                looks.to_lowercase()
            )
        } else {
            "name another --encoding, or save the file as UTF-8".to_owned()
        };
        format(
            &self.path,
            format!(
                "line {line}, byte {}: {byte} is not {name} here; {hint}",
                column + 1
            ),
        )
    }

    /// The error of a row that does not end.
    pub fn too_long(&self, line: usize) -> Error {
        let most = LONGEST_ROW >> 20;
        format(
            &self.path,
            format!(
                "line {line}: a row of more than {most} MiB; is this a file of rows, and is each quote closed?"
            ),
        )
    }

    /// The next line without its end; nothing after the last.
    pub fn line(&mut self) -> Result<Option<String>> {
        let mut searched = 0;
        loop {
            if self.after_return && !self.rest().is_empty() {
                self.after_return = false;
                if self.rest()[0] == b'\n' {
                    self.consume(1);
                }
            }
            let found = self.rest()[searched..]
                .iter()
                .position(|byte| matches!(byte, b'\n' | b'\r'));
            if let Some(end) = found.map(|end| searched + end) {
                let line = String::from_utf8_lossy(&self.rest()[..end]).into_owned();
                self.after_return = self.rest()[end] == b'\r';
                self.consume(end + 1);
                return Ok(Some(line));
            }
            searched = self.rest().len();
            if !self.more()? {
                let last = String::from_utf8_lossy(self.rest()).into_owned();
                self.consume(last.len());
                return Ok((!last.is_empty()).then_some(last));
            }
        }
    }

    /// The beginning, up to the end of line number `lines` or `most` bytes, without consuming it.
    pub fn peek(&mut self, lines: usize, most: usize) -> Result<String> {
        loop {
            let mut ends = self
                .rest()
                .iter()
                .enumerate()
                .filter(|(_, byte)| matches!(byte, b'\n' | b'\r'));
            let end = ends.nth(lines - 1).map(|(i, _)| i);
            if end.is_some() || self.rest().len() >= most || !self.more()? {
                let rest = &self.rest()[..end.unwrap_or(self.rest().len())];
                return Ok(String::from_utf8_lossy(rest).into_owned());
            }
        }
    }

    /// The file's name in messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// An error of reading; what the system does not say comes from unpacking.
fn unreadable(path: &Path, error: std::io::Error) -> Error {
    match error.raw_os_error() {
        None => format(
            path,
            format!("a damaged gzip file, or one that is cut short: {error}"),
        ),
        Some(_) => io(path, error),
    }
}

/// The first bytes of a stream: `n` of them, fewer where it ends.
fn start(input: &mut dyn Read, n: usize) -> std::io::Result<Vec<u8>> {
    let mut first = Vec::new();
    input.take(n as u64).read_to_end(&mut first)?;
    Ok(first)
}

/// What a file is that is no text, from its first bytes.
fn foreign(first: &[u8], named: bool) -> Option<String> {
    let known: [(&[u8], &str); 10] = [
        (
            b"PK\x03\x04",
            "is a zip archive or an Excel workbook; unpack it, or save the sheet as CSV",
        ),
        (
            b"\xd0\xcf\x11\xe0",
            "is an old Excel or Word file; save the sheet as CSV",
        ),
        (b"PAR1", "is a parquet file; give it the extension .parquet"),
        (b"%PDF", "is a PDF; save its rows as CSV"),
        (b"BZh", "is packed with bzip2; unpack it (bunzip2)"),
        (b"\xfd7zXZ", "is packed with xz; unpack it (unxz)"),
        (
            b"\x28\xb5\x2f\xfd",
            "is packed with zstd; unpack it (unzstd)",
        ),
        (
            b"SQLite format 3",
            "is an SQLite database; export the table as CSV",
        ),
        (
            b"version https://git-lfs",
            "is a Git LFS pointer, not the data; git lfs pull brings the file",
        ),
        (b"\xff\xfe\0\0", "is UTF-32; save it as UTF-8"),
    ];
    let by_magic = known
        .iter()
        .find(|(magic, _)| first.starts_with(magic))
        .map(|(_, what)| (*what).to_owned());
    let utf16 = match first {
        _ if named => None,
        [a, 0, b, 0, ..] if *a != 0 && *b != 0 => Some(UTF_16LE),
        [0, a, 0, b, ..] if *a != 0 && *b != 0 => Some(UTF_16BE),
        _ => None,
    };
    let html = ["<!doctype html", "<html"].iter().any(|tag| {
        first.len() >= tag.len() && first[..tag.len()].eq_ignore_ascii_case(tag.as_bytes())
    });
    by_magic
        .or_else(|| {
            utf16.map(|e| {
                let name = e.name();
                format!(
                    "looks like {name} without a byte-order mark: --encoding {}",
                    name.to_lowercase()
                )
            })
        })
        .or_else(|| html.then(|| "is a web page, not data; download the file itself".to_owned()))
}

/// Counts lines of text that comes in pieces.
#[derive(Clone, Debug)]
struct Lines {
    line: usize,
    /// Bytes of the line so far.
    column: usize,
    after_return: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            line: 1,
            column: 0,
            after_return: false,
        }
    }
}

impl Lines {
    fn pass(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                b'\n' if self.after_return => {}
                b'\n' | b'\r' => {
                    self.line += 1;
                    self.column = 0;
                }
                _ => self.column += 1,
            }
            self.after_return = *byte == b'\r';
        }
    }
}
