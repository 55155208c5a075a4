//! Lengths that a parquet file states, compared with what it holds before polars takes memory for them: polars believes
//! them, and an allocation that fails ends the process, which nothing can catch.
//!
//! A file is row groups of column chunks of pages, and a footer of lists that says where they are. A chunk states how many
//! values it has, a page how many of them, a dictionary its entries, and a page in a delta encoding its count and lengths once
//! more (<https://github.com/apache/parquet-format/blob/master/Encodings.md>).

use std::io::{Cursor, Read, Seek, SeekFrom};

use polars_parquet::parquet::{
    compression::DecompressionContext,
    encoding::{Encoding, uleb128, zigzag_leb128},
    metadata::{ColumnChunkMetadata, FileMetadata},
    page::{
        CompressedPage, DataPage, FormatEncoding, Page, ParquetPageHeader as PageHeader,
        split_buffer,
    },
    read::{PageReader, decompress},
    schema::types::PhysicalType,
};
use polars_parquet_format::{FileMetaData, thrift::protocol::TCompactInputProtocol};

/// Most items that the lists of one chunk may have: their places, 16 bytes each, are taken before the first is read.
const MOST_ITEMS: usize = 1 << 27;
/// Most bytes that a page may have when it is unpacked; writers begin another one after a few MiB.
const MOST_PAGE: usize = 1 << 29;
/// Most values of a page in a delta encoding: differences of no bits take no bytes, and eight bytes are taken for each.
const MOST_PACKED: usize = 1 << 24;
/// Most bytes that texts of one page may become which are stored as the difference from the text before.
const MOST_BYTES: usize = 1 << 30;

/// Checks the lists of the footer, which says where everything is.
///
/// # Errors
/// What cannot be read, or a list of more items than the footer has room for.
pub(super) fn check_footer(file: &mut (impl Read + Seek)) -> Result<(), String> {
    let mut read = |from: SeekFrom, size: usize| -> std::io::Result<Vec<u8>> {
        file.seek(from)?;
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    // What is no parquet file, or too short for its footer, is polars' to refuse.
    let end = read(SeekFrom::End(-8), 8).unwrap_or_default();
    let [a, b, c, d, b'P', b'A', b'R', b'1'] = end[..] else {
        return Ok(());
    };
    let size = u32::from_le_bytes([a, b, c, d]);
    let Ok(footer) = read(SeekFrom::End(-8 - i64::from(size)), size as usize) else {
        return Ok(());
    };
    // It counts eight bytes for an item, which may be stored in one.
    let most = footer.len() * 8 + 1024;
    let mut protocol = TCompactInputProtocol::new(footer.as_slice(), most);
    let footer = FileMetaData::read_from_in_protocol(&mut protocol);
    let footer = footer.map_err(|error| format!("its footer cannot be read: {error}"));
    footer.map(drop)
}

/// Checks the columns' pages.
///
/// # Errors
/// The column and the length that is not true; what cannot be read.
pub(super) fn check(
    file: &mut (impl Read + Seek),
    metadata: &FileMetadata,
    columns: &[&str],
) -> Result<(), String> {
    let length = file.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
    for group in &metadata.row_groups {
        for chunk in group.parquet_columns() {
            let name = chunk.descriptor().path_in_schema[0].as_str();
            if columns.contains(&name) {
                check_chunk(file, length, chunk, group.num_rows())
                    .map_err(|message| format!("column '{name}': {message}"))?;
            }
        }
    }
    Ok(())
}

fn check_chunk(
    file: &mut (impl Read + Seek),
    length: u64,
    chunk: &ColumnChunkMetadata,
    rows: usize,
) -> Result<(), String> {
    let is_list = chunk.descriptor().descriptor.max_rep_level > 0;
    let most = if is_list { MOST_ITEMS } else { rows };
    at_most(chunk.num_values(), most, "values in a part")?;
    let range = chunk.byte_range();
    if range.end > length {
        return Err(format!(
            "its bytes would end at {}, the file ends at {length}",
            range.end
        ));
    }
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.seek(SeekFrom::Start(range.start))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|error| error.to_string())?;
    if !check_headers(&bytes, chunk, most)? {
        return Ok(());
    }
    let size = bytes.len();
    for page in PageReader::new(Cursor::new(bytes.into()), chunk, Vec::new(), size) {
        let page = page.map_err(|error| error.to_string())?;
        if matches!(&page, CompressedPage::Data(page) if is_delta(page.header().encoding())) {
            let mut context = DecompressionContext::Unset;
            let page = decompress(page, &mut Vec::new(), &mut context);
            if let Page::Data(page) = page.map_err(|error| error.to_string())? {
                check_delta(&page)?;
            }
        }
    }
    Ok(())
}

/// Checks the heads of a chunk's pages, and says whether one of them is in a delta encoding.
fn check_headers(bytes: &[u8], chunk: &ColumnChunkMetadata, most: usize) -> Result<bool, String> {
    // An entry of a dictionary takes as many bytes at least.
    let least = match chunk.physical_type() {
        PhysicalType::FixedLenByteArray(_) => 1,
        _ => 4,
    };
    let (mut seen, mut has_delta) = (0, false);
    let mut at = Cursor::new(bytes);
    while seen < chunk.num_values() {
        let mut protocol = TCompactInputProtocol::new(&mut at, bytes.len());
        let header = PageHeader::read_from_in_protocol(&mut protocol);
        let header = header.map_err(|error| error.to_string())?;
        let size = i64::from(header.uncompressed_page_size);
        at_most(size, MOST_PAGE, "bytes in a page")?;
        let start = at.position() as usize;
        let stored = i64::from(header.compressed_page_size);
        at_most(stored, bytes.len() - start, "stored bytes of a page")?;
        at.set_position((start as i64 + stored) as u64);
        if let Some(dictionary) = header.dictionary_page_header {
            let entries = i64::from(dictionary.num_values);
            at_most(entries, size as usize / least, "entries in a dictionary")?;
        }
        let of_first = header.data_page_header.map(|h| (h.num_values, h.encoding));
        let of_second = header
            .data_page_header_v2
            .map(|h| (h.num_values, h.encoding));
        for (values, encoding) in of_first.into_iter().chain(of_second) {
            at_most(i64::from(values), most, "values in a page")?;
            seen += i64::from(values);
            has_delta |= is_delta(encoding);
        }
    }
    Ok(has_delta)
}

fn is_delta(encoding: FormatEncoding) -> bool {
    matches!(
        Encoding::try_from(encoding),
        Ok(Encoding::DeltaBinaryPacked | Encoding::DeltaLengthByteArray | Encoding::DeltaByteArray)
    )
}

fn check_delta(page: &DataPage) -> Result<(), String> {
    let values = split_buffer(page)
        .map_err(|error| error.to_string())?
        .values;
    if page.encoding() != Encoding::DeltaByteArray {
        return Delta::open(values, page.num_values()).map(|_| ());
    }
    let (prefixes, rest) = Delta::open(values, page.num_values())?.read()?;
    let (suffixes, rest) = Delta::open(rest, page.num_values())?.read()?;
    let (mut before, mut total, mut stored) = (0, 0_usize, rest.len());
    if prefixes.len() != suffixes.len() {
        return Err("its texts have not as many ends as beginnings".into());
    }
    for (prefix, suffix) in prefixes.into_iter().zip(suffixes) {
        at_most(prefix, before, "bytes of the text before")?;
        at_most(suffix, stored, "bytes of a text")?;
        before = (prefix + suffix) as usize;
        stored -= suffix as usize;
        total += before;
        at_most(total as i64, MOST_BYTES, "bytes of texts in a page")?;
    }
    Ok(())
}

/// Whole numbers as differences, packed in as few bits as they need (`DELTA_BINARY_PACKED`).
struct Delta<'a> {
    /// Numbers in one of the small blocks that share a width.
    per_width: usize,
    widths: usize,
    count: usize,
    first: i64,
    rest: &'a [u8],
}

impl<'a> Delta<'a> {
    /// The head; `most` is how many numbers there may be.
    fn open(mut rest: &'a [u8], most: usize) -> Result<Self, String> {
        let mut whole = || -> Result<usize, String> {
            let (value, taken) = uleb128::decode(rest);
            rest = rest.get(taken..).ok_or("a page ends too early")?;
            usize::try_from(value).map_err(|error| error.to_string())
        };
        let (block, widths, count) = (whole()?, whole()?, whole()?);
        let (first, taken) = zigzag_leb128::decode(rest);
        at_most(
            count as i64,
            most.min(MOST_PACKED),
            "packed values in a page",
        )?;
        if widths == 0 || block == 0 || block % widths != 0 {
            return Err(format!("blocks of {block} values in {widths} parts"));
        }
        Ok(Self {
            per_width: block / widths,
            widths,
            count,
            first,
            rest: rest.get(taken..).ok_or("a page ends too early")?,
        })
    }

    /// The numbers, and the bytes behind them.
    fn read(mut self) -> Result<(Vec<i64>, &'a [u8]), String> {
        let short = || "a page ends too early".to_owned();
        let mut values = Vec::from_iter((self.count > 0).then_some(self.first));
        let mut last = self.first;
        while values.len() < self.count {
            let (least, taken) = zigzag_leb128::decode(self.rest);
            let rest = self.rest.get(taken..).ok_or_else(short)?;
            let (widths, rest) = rest.split_at_checked(self.widths).ok_or_else(short)?;
            self.rest = rest;
            for width in widths.iter().map(|width| usize::from(*width)) {
                let left = self.count - values.len();
                // Widths behind the last number have no bytes.
                if left == 0 {
                    break;
                }
                let size = width.checked_mul(self.per_width).ok_or_else(short)?;
                let (packed, rest) = self
                    .rest
                    .split_at_checked(size.div_ceil(8))
                    .ok_or_else(short)?;
                self.rest = rest;
                for i in 0..left.min(self.per_width) {
                    last = last
                        .wrapping_add(least)
                        .wrapping_add(bits(packed, i * width, width)?);
                    values.push(last);
                }
            }
        }
        Ok((values, self.rest))
    }
}

/// The number of `width` bits from bit `at` on, the lowest first.
fn bits(bytes: &[u8], at: usize, width: usize) -> Result<i64, String> {
    if width > 64 {
        return Err(format!("numbers of {width} bits"));
    }
    let bytes = bytes.iter().skip(at / 8).take(9).enumerate();
    let word = bytes.fold(0_u128, |word, (i, byte)| {
        word | u128::from(*byte) << (8 * i)
    });
    Ok((word >> (at % 8) & ((1 << width) - 1)) as i64)
}

fn at_most(stated: i64, most: usize, what: &str) -> Result<(), String> {
    match usize::try_from(stated) {
        Ok(stated) if stated <= most => Ok(()),
        _ => Err(format!(
            "it states {stated} {what}, there can be {most} at most"
        )),
    }
}
