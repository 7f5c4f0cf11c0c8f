//! Reading several contents at once: neighbours in one ranged read, opened where they stand,
//! hashed side by side (a lone BLAKE2b runs at half speed).
//!
//! Who reads a lot (restore, verify) sorts by pack and offset and comes here; single contents go
//! through `reading`. Each content succeeds or fails alone: a damaged one does not hide its neighbours.

use super::info::ContentInfo;
use super::manager::{ContentManager, not_found};
use super::parallel::FAR_REQUESTS_MAX;
use super::sealing;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::BlobId;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes between two contents that are read in vain rather than asked for anew: at most this share
/// of what is read, so that a whole restore fetches at most about 1.06 times what it needs.
const GAP_SHARE: u64 = 16;
/// Buffers kept for the next group: at most so many bytes. Giving memory back and faulting it in anew costs
/// more than the copy into it.
const KEPT_BYTES_MAX: usize = 18 << 20;
/// The same of each of the many readers of a storage that is far, where the network takes longer than page faults.
const FAR_KEPT_BYTES_MAX: usize = 8 << 20;
/// Plain bytes of contents that could not be opened in place, kept likewise.
const APART_KEPT_BYTES_MAX: usize = 4 << 20;
/// Large buffers have multiples of this, so that growing contents do not mean ever new ones; what is not
/// written to takes no memory.
const BUFFER_STEP_BYTES: usize = 4 << 20;

/// What reading has cost so far, over all readers that share it.
#[derive(Debug, Default)]
pub struct ReadTraffic {
    /// Ranged reads.
    pub requests: AtomicU64,
    /// Bytes that they asked for.
    pub bytes: AtomicU64,
    /// Of these, bytes of the contents that were wanted.
    pub needed: AtomicU64,
    /// Packs that are not there although indexes were read again.
    missing: Mutex<HashSet<BlobId>>,
}

impl ReadTraffic {
    fn count(&self, bytes: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Reads groups of contents; one per thread, for its buffers.
pub struct GroupReader<'a> {
    contents: &'a ContentManager,
    traffic: &'a ReadTraffic,
    /// Hash again what was opened, and compare with the IDs.
    pub(crate) hashing: bool,
    /// One buffer per segment.
    stored: Vec<Vec<u8>>,
    /// Buffers of earlier groups.
    idle: Vec<Vec<u8>>,
    /// Plain bytes of contents that could not be opened in place.
    apart: Vec<Vec<u8>>,
}

/// Neighbouring contents of one pack.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    members: Range<usize>,
    offset: u64,
    length: u64,
}

/// Where the plain bytes of a content are.
enum Place {
    Stored { segment: usize, range: Range<usize> },
    Apart(usize),
}

impl<'a> GroupReader<'a> {
    /// A reader that counts into `traffic`.
    pub fn new(contents: &'a ContentManager, traffic: &'a ReadTraffic) -> Self {
        let (stored, idle, apart) = (Vec::new(), Vec::new(), Vec::new());
        Self { contents, traffic, hashing: contents.context.check_hashes, stored, idle, apart }
    }

    /// Reads all of `infos` and calls `each` with every index and its plain bytes, or why there are
    /// none. `infos` should be sorted by pack and offset: only neighbours are read together.
    ///
    /// Errors given to `each`: `Corrupted`, `BlobNotFound`, `InvalidRange`, naming content and pack; the storage's.
    pub fn read(&mut self, infos: &[ContentInfo], each: &mut dyn FnMut(usize, Result<&[u8]>)) {
        let mut places: Vec<Result<Place>> = Vec::with_capacity(infos.len());
        let needed = infos.iter().map(|info| u64::from(info.packed_length)).sum();
        self.traffic.needed.fetch_add(needed, Ordering::Relaxed);
        let mut apart_used = 0;
        let segments = segments(infos);
        for segment in &segments {
            let fitting = self.take_idle(segment.length as usize);
            self.stored.push(fitting);
        }
        let mut early = self.fetch_all_far(infos, &segments);
        for (number, segment) in segments.iter().enumerate() {
            let members = &infos[segment.members.clone()];
            let fetched = match early.get_mut(number) {
                Some(fetched) => std::mem::replace(fetched, Ok(())),
                None => self.fetch(members, segment, number),
            };
            match fetched {
                Ok(()) => self.open(members, segment, number, &mut apart_used, &mut places),
                Err(error) => self.read_alone(members, &error, &mut apart_used, &mut places),
            }
        }
        self.check_hashes(infos, &mut places);
        for (index, place) in places.into_iter().enumerate() {
            each(index, place.map(|place| self.bytes(&place)));
        }
        self.recycle();
    }

    /// All segments at once, where each is a wait for the network; nothing where there is none to be won.
    fn fetch_all_far(&mut self, infos: &[ContentInfo], segments: &[Segment]) -> Vec<Result<()>> {
        if self.contents.is_local() || segments.len() < 2 {
            return Vec::new();
        }
        let (contents, traffic) = (self.contents, self.traffic);
        let mut parts: Vec<_> =
            segments.iter().zip(&mut self.stored).map(|(segment, out)| (segment, out, Ok(()))).collect();
        let each = parts.len().div_ceil(FAR_REQUESTS_MAX);
        std::thread::scope(|scope| {
            for parts in parts.chunks_mut(each) {
                scope.spawn(move || {
                    for (segment, out, fetched) in parts {
                        *fetched = fetch(contents, traffic, &infos[segment.members.clone()], segment, out);
                    }
                });
            }
        });
        parts.into_iter().map(|(.., fetched)| fetched).collect()
    }

    fn fetch(&mut self, members: &[ContentInfo], segment: &Segment, number: usize) -> Result<()> {
        fetch(self.contents, self.traffic, members, segment, &mut self.stored[number])
    }

    fn open(
        &mut self,
        members: &[ContentInfo],
        segment: &Segment,
        number: usize,
        apart_used: &mut usize,
        places: &mut Vec<Result<Place>>,
    ) {
        for info in members {
            let start = (u64::from(info.offset) - segment.offset) as usize;
            let out = buffer(&mut self.apart, *apart_used);
            let sealed = &mut self.stored[number][start..start + info.packed_length as usize];
            let opened = sealing::open_slice(&self.contents.context, info, sealed, out);
            places.push(opened.map(|plain| match plain {
                Some(range) => {
                    Place::Stored { segment: number, range: start + range.start..start + range.end }
                }
                None => {
                    *apart_used += 1;
                    Place::Apart(*apart_used - 1)
                }
            }));
        }
    }

    /// After a failed ranged read: each content by itself tells which of them are lost.
    fn read_alone(
        &mut self,
        members: &[ContentInfo],
        error: &Error,
        apart_used: &mut usize,
        places: &mut Vec<Result<Place>>,
    ) {
        for info in members {
            let out = buffer(&mut self.apart, *apart_used);
            let read = match error.kind {
                ErrorKind::InvalidRange => {
                    self.traffic.count(u64::from(info.packed_length));
                    self.contents.read_located(info, out)
                }
                ErrorKind::BlobNotFound => read_elsewhere(self.contents, self.traffic, info, out),
                _ => Err(sealing::named(copy_of(error), info)),
            };
            places.push(read.map(|()| {
                *apart_used += 1;
                Place::Apart(*apart_used - 1)
            }));
        }
    }

    fn check_hashes(&self, infos: &[ContentInfo], places: &mut [Result<Place>]) {
        if !self.hashing {
            return;
        }
        let readable: Vec<(usize, &[u8])> = places
            .iter()
            .enumerate()
            .filter_map(|(index, place)| Some((index, self.bytes(place.as_ref().ok()?))))
            .collect();
        let inputs: Vec<&[u8]> = readable.iter().map(|(_, bytes)| *bytes).collect();
        let hashes = self.contents.hasher().hash_many(&inputs);
        let wrong: Vec<usize> = readable
            .iter()
            .zip(hashes)
            .filter(|((index, _), hash)| hash != infos[*index].id.hash())
            .map(|((index, _), _)| *index)
            .collect();
        for index in wrong {
            places[index] = Err(sealing::wrong_hash(&infos[index]));
        }
    }

    fn bytes(&self, place: &Place) -> &[u8] {
        match place {
            Place::Stored { segment, range } => &self.stored[*segment][range.clone()],
            Place::Apart(number) => &self.apart[*number],
        }
    }

    /// The smallest idle buffer that is large enough; else a new one, and one that is too small goes first, so
    /// that buffers do not add up.
    fn take_idle(&mut self, length: usize) -> Vec<u8> {
        let fitting = (0..self.idle.len()).filter(|&index| self.idle[index].capacity() >= length);
        if let Some(best) = fitting.min_by_key(|&index| self.idle[index].capacity()) {
            return self.idle.swap_remove(best);
        }
        let largest = (0..self.idle.len()).max_by_key(|&index| self.idle[index].capacity());
        if let Some(largest) = largest {
            self.idle.swap_remove(largest);
        }
        let large = length >= BUFFER_STEP_BYTES / 4;
        Vec::with_capacity(if large { length.next_multiple_of(BUFFER_STEP_BYTES) } else { length })
    }

    /// Keeps the largest buffers for the next group.
    fn recycle(&mut self) {
        let mut room = if self.contents.is_local() { KEPT_BYTES_MAX } else { FAR_KEPT_BYTES_MAX };
        self.stored.append(&mut self.idle);
        self.stored.sort_unstable_by_key(|buffer| std::cmp::Reverse(buffer.capacity()));
        for buffer in self.stored.drain(..) {
            if buffer.capacity() <= room {
                room -= buffer.capacity();
                self.idle.push(buffer);
            }
        }
        let mut room = APART_KEPT_BYTES_MAX;
        self.apart.retain(|buffer| {
            let fits = buffer.capacity() <= room;
            room -= if fits { buffer.capacity() } else { 0 };
            fits
        });
    }
}

/// Reads a segment; `members` are its contents.
fn fetch(
    contents: &ContentManager,
    traffic: &ReadTraffic,
    members: &[ContentInfo],
    segment: &Segment,
    out: &mut Vec<u8>,
) -> Result<()> {
    let [first, ..] = members else { return Ok(()) };
    contents.ensure_stored(first)?;
    if traffic.missing.lock().contains(&first.pack) {
        return Err(missing(&first.pack));
    }
    traffic.count(segment.length);
    contents.context.storage.get_range(&first.pack, segment.offset, segment.length, out)
}

fn buffer(buffers: &mut Vec<Vec<u8>>, number: usize) -> &mut Vec<u8> {
    if buffers.len() <= number {
        buffers.resize_with(number + 1, Vec::new);
    }
    &mut buffers[number]
}

/// A pack that vanished was rewritten by maintenance, or is lost: the newest indexes say which.
fn read_elsewhere(
    contents: &ContentManager,
    traffic: &ReadTraffic,
    info: &ContentInfo,
    out: &mut Vec<u8>,
) -> Result<()> {
    if !traffic.missing.lock().contains(&info.pack) {
        let found = contents.info(&info.id)?.ok_or_else(|| not_found(&info.id))?;
        if found.pack == info.pack {
            contents.refresh()?;
        }
    }
    let found = contents.info(&info.id)?.ok_or_else(|| not_found(&info.id))?;
    if found.pack == info.pack {
        traffic.missing.lock().insert(info.pack.clone());
        return Err(sealing::named(missing(&info.pack), info));
    }
    traffic.count(u64::from(found.packed_length));
    contents.read_located(&found, out)
}

fn missing(pack: &BlobId) -> Error {
    Error::new(ErrorKind::BlobNotFound, format!("pack {pack} is not in the storage")).with("blob", pack)
}

/// One failed read fails many contents.
pub(crate) fn copy_of(error: &Error) -> Error {
    let copy = Error::new(error.kind, error.to_string());
    let context = error.context.iter();
    let copy = context.fold(copy, |copy, (key, value)| copy.with(key, value));
    if error.temporary { copy.temporary() } else { copy }
}

/// Cuts `infos` into stretches that are worth one read each.
fn segments(infos: &[ContentInfo]) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for (index, info) in infos.iter().enumerate() {
        let (offset, length) = (u64::from(info.offset), u64::from(info.packed_length));
        let last = segments.last_mut().filter(|last| infos[last.members.start].pack == info.pack);
        if let Some(last) = last
            && let Some(gap) = offset.checked_sub(last.offset + last.length)
            && gap <= (last.length + length) / GAP_SHARE
        {
            last.members.end = index + 1;
            last.length = offset + length - last.offset;
            continue;
        }
        segments.push(Segment { members: index..index + 1, offset, length });
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use kopia_format::ContentId;
    use kopia_format::compression::CompressorId;

    fn info(pack: &str, offset: u32, packed_length: u32) -> ContentInfo {
        ContentInfo {
            id: ContentId::parse("00ff").expect("valid"),
            pack: BlobId::new(pack),
            offset,
            packed_length,
            original_length: 0,
            timestamp_seconds: 0,
            compressor: CompressorId::NONE,
            deleted: false,
            format_version: 3,
        }
    }

    fn cut(infos: &[ContentInfo]) -> Vec<(Range<usize>, u64, u64)> {
        segments(infos).into_iter().map(|s| (s.members, s.offset, s.length)).collect()
    }

    #[test]
    fn neighbours_are_one_read_and_wide_gaps_are_not_read() {
        let infos = [info("p1", 32, 1000), info("p1", 1032, 600), info("p1", 1700, 100), info("p1", 9000, 5)];
        assert_eq!(cut(&infos), [(0..3, 32, 1768), (3..4, 9000, 5)]);
    }

    #[test]
    fn other_packs_and_overlapping_entries_are_reads_of_their_own() {
        let infos = [info("p1", 0, 100), info("p1", 50, 100), info("p2", 150, 10)];
        assert_eq!(cut(&infos), [(0..1, 0, 100), (1..2, 50, 100), (2..3, 150, 10)]);
    }
}
