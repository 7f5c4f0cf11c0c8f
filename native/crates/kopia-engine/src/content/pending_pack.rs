//! One pack blob while it is being written (format document §4.3).
//!
//! Small contents are gathered in a buffer; large ones go to the storage's writer as they are, so
//! that no pack is ever whole in memory (object storages collect on their own side).

use super::catalog::PackCatalog;
use super::context::{ContentContext, fill_random};
use super::index_writer::encode_index;
use super::location::{Key, LOCATION_LENGTH, Location};
use super::session::Session;
use crate::blob::BlobWriter;
use crate::error::{Error, Result};
use kopia_format::BlobId;
use kopia_format::ids::encode_hex;
use kopia_format::pack::{PREAMBLE_LENGTH, Postamble, padding_length};
use std::sync::Arc;

/// Pieces from this length on are written without being copied into the buffer.
const DIRECT_BYTES: usize = 128 << 10;
/// The buffer is written once it holds this much.
const BUFFER_BYTES: usize = 512 << 10;

/// Contents of files go to `p` packs, everything with a prefix to `q` packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackKind {
    Data,
    Metadata,
}

impl PackKind {
    fn letter(self) -> char {
        match self {
            Self::Data => 'p',
            Self::Metadata => 'q',
        }
    }
}

/// A pack being written.
pub(crate) struct PendingPack {
    pub(crate) number: u32,
    pub(crate) kind: PackKind,
    session: Arc<Session>,
    id: BlobId,
    writer: Box<dyn BlobWriter>,
    buffer: Vec<u8>,
    written: u64,
    rows: Vec<u8>,
}

impl PendingPack {
    /// Starts a pack: prefix (if the repository has one) and random preamble.
    pub(crate) fn create(
        context: &ContentContext,
        catalog: &PackCatalog,
        kind: PackKind,
        session: &Arc<Session>,
    ) -> Result<Self> {
        let mut random = [0; 16];
        fill_random(&mut random)?;
        let id = BlobId::new(format!("{}{}-{}", kind.letter(), encode_hex(&random), session.id));
        let writer = context.storage.create(&id, &context.retention.put_options(&id))?;
        let number = catalog.add_open(&id)?;
        let mut buffer = context.pack_prefix.clone();
        append_random(&mut buffer, PREAMBLE_LENGTH)?;
        let session = Arc::clone(session);
        Ok(Self { number, kind, session, id, writer, buffer, written: 0, rows: Vec::new() })
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends a content; where it starts.
    pub(crate) fn append(&mut self, pieces: &[&[u8]]) -> Result<u32> {
        let offset = self.length();
        for piece in pieces {
            if piece.len() >= DIRECT_BYTES {
                self.write_buffer()?;
                self.write(piece)?;
            } else {
                self.buffer.extend_from_slice(piece);
            }
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_buffer()?;
        }
        // A pack is closed at maxPackSize (≤ 120 MiB) and a content has less than 256 MiB.
        Ok(offset as u32)
    }

    /// Notes an entry for the local index.
    pub(crate) fn record(&mut self, key: &Key, location: &Location) {
        self.rows.extend_from_slice(key.as_bytes());
        self.rows.extend_from_slice(&location.encode());
    }

    /// Appends padding, local index and postamble and makes the blob visible.
    pub(crate) fn finish(mut self, context: &ContentContext, catalog: &PackCatalog) -> Result<()> {
        let padding = padding_length(self.length());
        append_random(&mut self.buffer, padding)?;
        let offset = self.length();
        let postamble = self.append_local_index(context, catalog, offset)?;
        self.buffer.extend_from_slice(&postamble.encode());
        self.write_buffer()?;
        let Self { number, id, writer, session, .. } = self;
        writer.finish().map_err(|error| storing(error, &id))?;
        session.announce(context)?;
        catalog.mark_stored(number);
        Ok(())
    }

    fn append_local_index(
        &mut self,
        context: &ContentContext,
        catalog: &PackCatalog,
        offset: u64,
    ) -> Result<Postamble> {
        let mut suffix = [0; 32];
        fill_random(&mut suffix)?;
        let mut nonce = [0; 12];
        fill_random(&mut nonce)?;
        let rows = sorted_rows(&self.rows, context.key_length());
        let index = encode_index(context.index_version, catalog, &rows, context.key_length(), Some(suffix))?;
        // Unlike everywhere else the whole hash is the initialization vector.
        let iv = context.hasher.hash(&index);
        let before = self.buffer.len();
        context.sealer.seal_append(iv.as_bytes(), nonce, &index, &mut self.buffer)?;
        Ok(Postamble {
            local_index_iv: iv.as_bytes().to_vec(),
            local_index_offset: offset as u32,
            local_index_length: (self.buffer.len() - before) as u32,
        })
    }

    fn write_buffer(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.write(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.writer.write(piece).map_err(|error| storing(error, &self.id))?;
        self.written += piece.len() as u64;
        Ok(())
    }
}

fn storing(error: Error, pack: &BlobId) -> Error {
    error.while_doing(format!("storing pack {pack}")).with("pack", pack)
}

fn append_random(out: &mut Vec<u8>, length: usize) -> Result<()> {
    let from = out.len();
    out.resize(from + length, 0);
    fill_random(&mut out[from..])
}

/// `rows` in key order; of several rows for one key the last one written.
pub(crate) fn sorted_rows(rows: &[u8], key_length: usize) -> Vec<&[u8]> {
    let mut sorted: Vec<_> = rows.chunks_exact(key_length + LOCATION_LENGTH).collect();
    sorted.sort_by(|a, b| a[..key_length].cmp(&b[..key_length]));
    sorted.dedup_by(|later, kept| {
        let same = later[..key_length] == kept[..key_length];
        if same {
            *kept = *later;
        }
        same
    });
    sorted
}
