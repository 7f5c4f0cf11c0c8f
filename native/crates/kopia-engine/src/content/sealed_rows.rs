//! Rows of a table that stand sealed in a file of the index cache, and are opened block by block as they are asked for.
//!
//! Opening a repository thus reads none of them. The file may be removed by others at any time: it is held open. A
//! block that does not open is the fault of the local disk, not of the repository: the file is removed then, so that
//! the next opening reads the index blobs.

use super::entry_table::FENCE_ROWS;
use super::location::Location;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::encryption::{BLOCK_OVERHEAD, BlockCipher};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The rows of one file: blocks of [`FENCE_ROWS`] rows, the last one shorter, each sealed under its number.
pub(crate) struct SealedRows {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) cipher: BlockCipher,
    pub(super) row_length: usize,
    /// Where the first block begins.
    pub(super) offset: u64,
}

impl SealedRows {
    /// Reads `rows` rows from the start of a block on to the front of `out`, which must have [`BLOCK_OVERHEAD`]
    /// bytes more for each block.
    ///
    /// # Errors
    /// `Filesystem` if the file cannot be read or is damaged.
    pub(super) fn read(&self, first: usize, rows: usize, out: &mut [u8]) -> Result<()> {
        self.open(first, rows, out).inspect_err(|_| {
            let _ = std::fs::remove_file(&self.path);
        })
    }

    fn open(&self, first: usize, rows: usize, out: &mut [u8]) -> Result<()> {
        let block_bytes = FENCE_ROWS * self.row_length;
        let (number, blocks) = (first / FENCE_ROWS, rows.div_ceil(FENCE_ROWS));
        let out = &mut out[..rows * self.row_length + blocks * BLOCK_OVERHEAD];
        let offset = self.offset + (number * (block_bytes + BLOCK_OVERHEAD)) as u64;
        self.file.read_exact_at(out, offset).map_err(|error| self.failed().caused_by(error))?;
        for block in 0..blocks {
            let from = block * (block_bytes + BLOCK_OVERHEAD);
            let to = out.len().min(from + block_bytes + BLOCK_OVERHEAD);
            let opened = self.cipher.open((number + block) as u64, &mut out[from..to]);
            opened.map_err(|error| self.failed().caused_by(error))?;
            out.copy_within(from..to - BLOCK_OVERHEAD, block * block_bytes);
        }
        Ok(())
    }

    fn failed(&self) -> Error {
        let message =
            format!("{}: this file of the cache is damaged; it was removed, try again", self.path.display());
        Error::new(ErrorKind::Filesystem, message)
    }
}

/// The catalog's numbers of the packs and formats that rows name by numbers of their own.
pub(crate) struct Renumbering {
    pub(super) packs: Vec<u32>,
    pub(super) formats: Vec<u8>,
}

impl Renumbering {
    /// The location in numbers of the catalog.
    ///
    /// # Errors
    /// `Internal` for a number that the file does not explain.
    pub(super) fn in_catalog(&self, location: Location) -> Result<Location> {
        let pack = self.packs.get(location.pack as usize);
        let format = self.formats.get(usize::from(location.format));
        let (Some(&pack), Some(&format)) = (pack, format) else {
            let message = "an index table of the cache names a pack or format that it does not list";
            return Err(Error::new(ErrorKind::Internal, message));
        };
        Ok(Location { pack, format, ..location })
    }
}
