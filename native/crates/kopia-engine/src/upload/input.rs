//! Bytes of one stretch of a source: a file between two offsets, or a stream.
//!
//! Holes of a file are known from `SEEK_DATA`/`SEEK_HOLE` and never read. The surprise: bytes
//! behind a chunk's end are given back (`unread`): a file is simply read again from there, out of
//! the page cache, which is cheaper than keeping a copy.

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// Where bytes come from.
pub(super) enum Input {
    /// `file` from `offset`, to `end` or to its end.
    File {
        /// Shared by the parts of one file.
        file: Arc<File>,
        /// Next byte.
        offset: u64,
        /// First byte that belongs to the next part.
        end: Option<u64>,
        /// What is known of holes.
        holes: Holes,
    },
    /// A stream; `tail` was read already and comes first.
    Stream {
        /// The rest.
        reader: Box<dyn Read + Send>,
        /// Given back.
        tail: Vec<u8>,
    },
}

/// Known layout behind the offset of the last question: a hole up to `hole_end`, then data up to `data_end`.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Holes {
    hole_end: u64,
    data_end: u64,
}

impl Holes {
    /// Nothing known: asks at the first byte.
    pub(super) fn unknown() -> Self {
        Self::default()
    }
    /// Never asks (block devices).
    pub(super) fn none() -> Self {
        Self { hole_end: 0, data_end: u64::MAX }
    }
    /// Zero bytes that certainly follow `offset`, and data bytes that follow those.
    fn at(&mut self, file: &File, offset: u64) -> (u64, u64) {
        if offset >= self.hole_end && offset >= self.data_end {
            self.ask(file, offset);
        }
        let hole = self.hole_end.saturating_sub(offset);
        (hole, self.data_end.saturating_sub(offset + hole))
    }
    fn ask(&mut self, file: &File, offset: u64) {
        *self = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => {
                let hole = rustix::fs::seek(file, SeekFrom::Hole(data)).unwrap_or(u64::MAX);
                Self { hole_end: data, data_end: if hole > data { hole } else { u64::MAX } }
            }
            // A hole to the end; behind the end reading decides (the file may grow).
            Err(Errno::NXIO) => match file.metadata() {
                Ok(metadata) if metadata.len() > offset => Self { hole_end: metadata.len(), data_end: 0 },
                _ => Self::none(),
            },
            Err(_) => Self::none(),
        };
    }
}

impl Input {
    /// Zero bytes that certainly follow and need not be read; 0 where data follows.
    pub(super) fn zeros_ahead(&mut self) -> u64 {
        match self {
            Self::File { file, offset, end, holes } => {
                let left = end.map_or(u64::MAX, |end| end - *offset);
                if left == 0 { 0 } else { holes.at(file, *offset).0.min(left) }
            }
            Self::Stream { .. } => 0,
        }
    }
    /// Passes over zeros that `zeros_ahead` told of.
    pub(super) fn skip(&mut self, bytes: u64) {
        if let Self::File { offset, .. } = self {
            *offset += bytes;
        }
    }
    /// Appends up to `want` bytes; 0 is the end.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>, want: usize) -> io::Result<usize> {
        match self {
            Self::File { file, offset, end, holes } => {
                let want = end.map_or(want, |end| want.min(usize::try_from(end - *offset).unwrap_or(want)));
                if want == 0 {
                    return Ok(0);
                }
                let (zeros, data) = holes.at(file, *offset);
                let filled = if zeros > 0 {
                    let filled = want.min(usize::try_from(zeros).unwrap_or(want));
                    buffer.resize(buffer.len() + filled, 0);
                    filled
                } else {
                    let want = want.min(usize::try_from(data).unwrap_or(want)).max(1);
                    append_at(file, *offset, want, buffer)?
                };
                *offset += filled as u64;
                Ok(filled)
            }
            Self::Stream { reader, tail } if tail.is_empty() => append(buffer, want, reader.as_mut()),
            Self::Stream { tail, .. } => {
                let filled = want.min(tail.len());
                buffer.extend(tail.drain(..filled));
                Ok(filled)
            }
        }
    }
    /// Gives back the last bytes that `fill` appended.
    pub(super) fn unread(&mut self, excess: &[u8]) {
        match self {
            Self::File { offset, .. } => *offset -= excess.len() as u64,
            Self::Stream { tail, .. } => {
                tail.splice(..0, excess.iter().copied());
            }
        }
    }
}

/// Reads again what a signal interrupted.
fn append_at(file: &File, offset: u64, want: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        match kopia_kernels::append_at(file, offset, want, buffer) {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Appends what one read gives, up to `want` bytes; interrupted reads are tried again.
fn append(buffer: &mut Vec<u8>, want: usize, reader: &mut dyn Read) -> io::Result<usize> {
    let before = buffer.len();
    buffer.resize(before + want, 0);
    let done = loop {
        match reader.read(&mut buffer[before..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => break done,
        }
    };
    buffer.truncate(before + done.as_ref().map_or(0, |filled| *filled));
    done
}
