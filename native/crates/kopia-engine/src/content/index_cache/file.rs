//! One file of the index cache: a merged table, sealed, and of which index blobs it is.
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 8 | `KDMIDX01` |
//! | 8 | 32 | random salt, from which and the repository's secret the key of this file comes |
//! | 40 | | rows: blocks of 32 (the last may be shorter), each followed by its tag of 16 bytes |
//! | | t | the description, sealed as block 2⁶⁴−1 |
//! | end−8 | 8 | t, little-endian |
//!
//! The description, numbers little-endian: key length (1), row count (8); then lists, each with its length (4):
//! names of index blobs, names of packs (each 2 bytes of length and the name), formats (compressor 4, version 1,
//! key ID 1), fences (8 each). Rows name packs and formats by their places in these lists. Nothing of a repository
//! stands in the open; that a file belongs to this repository, is whole and unchanged, its tags say.

use crate::content::catalog::PackCatalog;
use crate::content::entry_table::{Cursor, EntryTable, FENCE_ROWS, Rows};
use crate::content::location::{KEY_LENGTH_MAX, LOCATION_LENGTH, Location};
use crate::content::sealed_rows::{Renumbering, SealedRows};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::BlobId;
use kopia_format::compression::CompressorId;
use kopia_format::encryption::{BLOCK_OVERHEAD, BlockCipher, ContentSealer};
use kopia_format::index::ContentFormat;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const MAGIC: &[u8; 8] = b"KDMIDX01";
const SALT_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + SALT_BYTES;
const PURPOSE: &str = "kopia-data-mover: merged index in the local cache";
/// The block number of the description.
const DESCRIPTION: u64 = u64::MAX;
/// Bytes gathered before they go to the file.
const WRITE_BYTES: usize = 256 << 10;

/// What a file says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Description {
    key_length: usize,
    row_count: usize,
    blobs: Vec<BlobId>,
    packs: Vec<BlobId>,
    formats: Vec<ContentFormat>,
    fences: Vec<u64>,
}

/// A file whose description was read and authenticated.
pub(super) struct SealedFile {
    description: Description,
    rows: SealedRows,
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupted, format!("file of the index cache: {what}"))
}

fn file_error(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Filesystem, "file of the index cache").caused_by(error)
}

/// Bytes that a file of `table` takes, at most.
pub(super) fn bytes_max(table: &EntryTable, catalog: &PackCatalog, blobs: &[BlobId]) -> u64 {
    let rows = table.len() * (table.key_length() + LOCATION_LENGTH);
    let fences = table.fences().len() * (size_of::<u64>() + BLOCK_OVERHEAD);
    let names: usize = blobs.iter().map(|blob| blob.as_str().len() + 2).sum();
    (rows + fences + names + HEADER_BYTES + (4 << 10)) as u64 + catalog.name_bytes()
}

/// Writes `table`, whose entries are those of `blobs`.
pub(super) fn write(
    file: &mut File,
    sealer: &ContentSealer,
    salt: &[u8; SALT_BYTES],
    (table, blobs): (&EntryTable, &[BlobId]),
    catalog: &PackCatalog,
) -> Result<()> {
    let cipher = sealer.block_cipher(PURPOSE, salt);
    let mut out = [MAGIC.as_slice(), salt].concat();
    let mut names = Names::new(catalog);
    write_rows(file, &cipher, table, &mut names, &mut out)?;
    let description = Description {
        key_length: table.key_length(),
        row_count: table.len(),
        blobs: blobs.to_vec(),
        packs: names.packs,
        formats: names.formats,
        fences: table.fences().to_vec(),
    };
    let start = out.len();
    description.encode(&mut out)?;
    cipher.seal(DESCRIPTION, start, &mut out)?;
    let length = (out.len() - start) as u64;
    out.extend_from_slice(&length.to_le_bytes());
    file.write_all(&out).map_err(file_error)
}

fn write_rows(
    file: &mut File,
    cipher: &BlockCipher,
    table: &EntryTable,
    names: &mut Names<'_>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut rows = Cursor::from_key(table, &[]);
    let (mut row, mut start) = (0, out.len());
    while let Some((key, location)) = rows.next()? {
        out.extend_from_slice(key);
        out.extend_from_slice(&names.in_file(location)?.encode());
        row += 1;
        if row % FENCE_ROWS == 0 || row == table.len() {
            cipher.seal(((row - 1) / FENCE_ROWS) as u64, start, out)?;
            if out.len() >= WRITE_BYTES {
                file.write_all(out).map_err(file_error)?;
                out.clear();
            }
            start = out.len();
        }
    }
    Ok(())
}

/// Gives packs and formats their places in the lists of the file.
struct Names<'a> {
    catalog: &'a PackCatalog,
    places: Vec<u32>,
    packs: Vec<BlobId>,
    formats: Vec<ContentFormat>,
}

impl<'a> Names<'a> {
    fn new(catalog: &'a PackCatalog) -> Self {
        let places = vec![u32::MAX; catalog.pack_count()];
        Self { catalog, places, packs: Vec::new(), formats: Vec::new() }
    }

    fn in_file(&mut self, location: Location) -> Result<Location> {
        let unknown = || damaged("a row names no pack of the catalog");
        let place = self.places.get_mut(location.pack as usize).ok_or_else(unknown)?;
        if *place == u32::MAX {
            *place = self.packs.len() as u32;
            self.packs.push(self.catalog.name(location.pack)?);
        }
        let format = self.catalog.format(location.format)?;
        let known = self.formats.iter().position(|known| *known == format);
        let number = known.unwrap_or_else(|| {
            self.formats.push(format);
            self.formats.len() - 1
        });
        Ok(Location { pack: *place, format: number as u8, ..location })
    }
}

impl SealedFile {
    /// Reads and authenticates the description.
    ///
    /// # Errors
    /// `Corrupted` if the file is another repository's or damaged; `Filesystem`.
    pub(super) fn open(file: File, path: PathBuf, sealer: &ContentSealer) -> Result<Self> {
        let length = file.metadata().map_err(file_error)?.len();
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).map_err(file_error)?;
        let (magic, salt) = header.split_at(MAGIC.len());
        let salt = <&[u8; SALT_BYTES]>::try_from(salt).map_err(|_| damaged("the salt is short"))?;
        if magic != MAGIC {
            return Err(damaged("it does not begin like one"));
        }
        let end = length.checked_sub(8).ok_or_else(|| damaged("too short"))?;
        let mut size = [0; 8];
        file.read_exact_at(&mut size, end).map_err(file_error)?;
        let size = u64::from_le_bytes(size);
        let start = end.checked_sub(size).ok_or_else(|| damaged("too short"))?;
        let mut sealed = vec![0; usize::try_from(size).map_err(|_| damaged("too long"))?];
        file.read_exact_at(&mut sealed, start).map_err(file_error)?;
        let cipher = sealer.block_cipher(PURPOSE, salt);
        let description = Description::decode(cipher.open(DESCRIPTION, &mut sealed)?)?;
        let row_length = description.key_length + LOCATION_LENGTH;
        let rows = SealedRows { file, path, cipher, row_length, offset: HEADER_BYTES as u64 };
        let expected = description.row_count * row_length + description.fences.len() * BLOCK_OVERHEAD;
        if start != (HEADER_BYTES + expected) as u64 {
            return Err(damaged("its rows are not all there"));
        }
        Ok(Self { description, rows })
    }

    /// The table; its rows are in memory if they take no more than `memory_bytes_max`.
    ///
    /// # Errors
    /// `UnsupportedFormat` beyond the catalog's bounds; `Filesystem` if rows are damaged.
    pub(super) fn table(
        self,
        catalog: &PackCatalog,
        memory_bytes_max: usize,
    ) -> Result<(EntryTable, Vec<BlobId>)> {
        let Description { key_length, row_count, blobs, packs, formats, fences } = self.description;
        let packs = packs.iter().map(|pack| catalog.number_of(pack)).collect::<Result<Vec<_>>>()?;
        let formats =
            formats.into_iter().map(|format| catalog.format_number(format)).collect::<Result<Vec<_>>>()?;
        let bytes = row_count * (key_length + LOCATION_LENGTH);
        let rows = if bytes > memory_bytes_max {
            Rows::Sealed(Box::new(self.rows))
        } else {
            let mut plain = vec![0; bytes + fences.len() * BLOCK_OVERHEAD];
            self.rows.read(0, row_count, &mut plain)?;
            plain.truncate(bytes);
            Rows::Memory(plain)
        };
        let table = EntryTable::cached(rows, key_length, row_count, fences);
        let same = packs.iter().enumerate().all(|(at, number)| at as u32 == *number)
            && formats.iter().enumerate().all(|(at, number)| at == usize::from(*number));
        Ok((if same { table } else { table.renumbered(Renumbering { packs, formats }) }, blobs))
    }

    /// The index blobs whose entries it holds.
    pub(super) fn blobs(&self) -> &[BlobId] {
        &self.description.blobs
    }

    /// Bytes of a key.
    pub(super) fn key_length(&self) -> usize {
        self.description.key_length
    }

    /// Rows of the table.
    pub(super) fn row_count(&self) -> usize {
        self.description.row_count
    }
}

impl Description {
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        out.push(self.key_length as u8);
        out.extend_from_slice(&(self.row_count as u64).to_le_bytes());
        for names in [&self.blobs, &self.packs] {
            encode_count(names.len(), out);
            for name in names {
                let length = u16::try_from(name.as_str().len()).map_err(|_| damaged("a name is too long"))?;
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(name.as_str().as_bytes());
            }
        }
        encode_count(self.formats.len(), out);
        for format in &self.formats {
            out.extend_from_slice(&format.compressor.0.to_le_bytes());
            out.extend_from_slice(&[format.format_version, format.encryption_key_id]);
        }
        encode_count(self.fences.len(), out);
        self.fences.iter().for_each(|fence| out.extend_from_slice(&fence.to_le_bytes()));
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut rest = Reader(bytes);
        let key_length = usize::from(rest.number::<1>()? as u8);
        let row_count = usize::try_from(rest.number::<8>()?).map_err(|_| damaged("too many rows"))?;
        let blobs = rest.list(Reader::name)?;
        let packs = rest.list(Reader::name)?;
        let formats = rest.list(|rest| {
            let compressor = CompressorId(rest.number::<4>()? as u32);
            let (format_version, encryption_key_id) = (rest.number::<1>()? as u8, rest.number::<1>()? as u8);
            Ok(ContentFormat { compressor, format_version, encryption_key_id })
        })?;
        let fences = rest.list(Reader::number::<8>)?;
        if fences.len() != row_count.div_ceil(FENCE_ROWS) || key_length > KEY_LENGTH_MAX {
            return Err(damaged("its description contradicts itself"));
        }
        Ok(Self { key_length, row_count, blobs, packs, formats, fences })
    }
}

fn encode_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| damaged("its description is short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const LENGTH: usize>(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        bytes[..LENGTH].copy_from_slice(self.take(LENGTH)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn name(&mut self) -> Result<BlobId> {
        let length = self.number::<2>()? as usize;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| damaged("a name is no text"))?;
        Ok(BlobId::new(text))
    }

    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.number::<4>()?;
        (0..count).map(|_| each(self)).collect()
    }
}
