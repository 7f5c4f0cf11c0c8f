//! The directory object of one directory as it grows.
//!
//! Entries arrive in segments, in any order, and leave in Kopia's order into the JSON of the
//! object, which is cut and stored as it grows: a directory of a million entries is never held
//! whole. A segment waits for its gaps: large files and child directories that are still uploaded.

use super::entry::{FAILED_ENTRIES_MAX, Outcome, Totals};
use super::previous::WholeDirectory;
use crate::content::{ContentManager, WriteScratch};
use crate::error::Result;
use crate::object::{ObjectWriterOptions, finish_entries};
use kopia_format::ObjectId;
use kopia_format::compression::CompressorId;
use kopia_format::indirect::IndirectEntry;
use kopia_format::snapshot::{Directory, DirectorySummary};
use kopia_format::splitter::SplitterAlgorithm;
use std::collections::VecDeque;

/// Prefix of directory contents.
const DIRECTORY_PREFIX: u8 = b'k';
const OPENING: &[u8] = b"{\"stream\":\"kopia:directory\",\"entries\":";

/// A run of entries.
#[derive(Default)]
pub(super) struct Segment {
    /// Whether its entries (but for gaps) are there.
    filled: bool,
    /// Entries, each followed by a comma.
    json: Vec<u8>,
    totals: Totals,
    /// Gaps in order: where in `json` each stands.
    gaps: Vec<Gap>,
    gaps_open: usize,
}

/// A place of a segment whose entry is not there yet.
struct Gap {
    position: usize,
    json: Vec<u8>,
    settled: bool,
}

impl Segment {
    /// An empty segment that will be filled.
    pub(super) fn new() -> Self {
        Self::default()
    }
    /// A segment that is one gap: a child directory.
    pub(super) fn one_gap() -> Self {
        let mut segment = Self { filled: true, ..Self::default() };
        segment.add_gap();
        segment
    }
    /// Appends an encoded entry that `totals` counts already.
    pub(super) fn add_json(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.json.extend_from_slice(part);
        }
        self.json.push(b',');
    }
    /// Totals to add entries and failures to.
    pub(super) fn totals(&mut self) -> &mut Totals {
        &mut self.totals
    }
    /// JSON to append an entry to, which must end with a comma.
    pub(super) fn json(&mut self) -> &mut Vec<u8> {
        &mut self.json
    }
    /// Leaves a gap here; gives its number.
    pub(super) fn add_gap(&mut self) -> usize {
        self.gaps.push(Gap { position: self.json.len(), json: Vec::new(), settled: false });
        self.gaps_open += 1;
        self.gaps.len() - 1
    }
    fn settle(&mut self, gap: usize, outcome: Outcome) {
        let gap = &mut self.gaps[gap];
        if std::mem::replace(&mut gap.settled, true) {
            return;
        }
        self.gaps_open -= 1;
        match outcome {
            Outcome::Entry { json, totals } => {
                gap.json = json;
                self.totals.add(&totals);
            }
            Outcome::Failed(totals) => self.totals.add(&totals),
            Outcome::Skipped => {}
        }
    }
    fn is_complete(&self) -> bool {
        self.filled && self.gaps_open == 0
    }
    /// Calls `each` for the encoded entries (with commas) in order, gaps filled as far as known.
    fn for_each_stretch(&self, mut each: impl FnMut(&[u8])) {
        let mut done = 0;
        for gap in &self.gaps {
            each(&self.json[done..gap.position]);
            done = gap.position;
            if !gap.json.is_empty() {
                each(&gap.json);
                each(b",");
            }
        }
        each(&self.json[done..]);
    }
}

/// The growing JSON, cut and stored as it grows.
#[derive(Clone, Default)]
struct Sink {
    /// Bytes that are not stored.
    tail: Vec<u8>,
    scanned_bytes: usize,
    /// Chunks that are stored.
    chunks: Vec<IndirectEntry>,
    stored_bytes: u64,
}

/// How directory objects are stored.
#[derive(Clone, Copy)]
pub(super) struct DirectoryStoring<'a> {
    /// Where.
    pub(super) contents: &'a ContentManager,
    /// The repository's splitter.
    pub(super) splitter: SplitterAlgorithm,
    /// Compressor of directory contents.
    pub(super) compressor: CompressorId,
    /// Compressor of their index objects.
    pub(super) metadata_compressor: CompressorId,
}

impl Sink {
    fn append(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }
    /// Stores the chunks that have ended.
    fn cut(&mut self, storing: &DirectoryStoring<'_>, scratch: &mut WriteScratch) -> Result<()> {
        let splitter = storing.splitter.start();
        while self.tail.len() >= storing.splitter.chunk_bytes_min() && self.tail.len() > self.scanned_bytes {
            let Some(end) = splitter.find_end(&self.tail, self.scanned_bytes) else {
                self.scanned_bytes = self.tail.len();
                break;
            };
            self.scanned_bytes = 0;
            let rest = self.tail.split_off(end);
            let chunk = std::mem::replace(&mut self.tail, rest);
            self.store(chunk, storing, scratch)?;
        }
        Ok(())
    }
    fn store(
        &mut self,
        chunk: Vec<u8>,
        storing: &DirectoryStoring<'_>,
        scratch: &mut WriteScratch,
    ) -> Result<()> {
        let length = chunk.len() as u64;
        let content = storing.contents.write(Some(DIRECTORY_PREFIX), chunk, storing.compressor, scratch)?;
        self.chunks.push(IndirectEntry {
            start: self.stored_bytes,
            length,
            object: ObjectId::direct(content),
        });
        self.stored_bytes += length;
        Ok(())
    }
    /// Stores the rest. Bytes that are those of one of `known` directories are that object: they need not be hashed.
    fn finish(
        mut self,
        known: &[WholeDirectory],
        storing: &DirectoryStoring<'_>,
        scratch: &mut WriteScratch,
    ) -> Result<ObjectId> {
        let same = known.iter().find(|known| self.chunks.is_empty() && known.json == self.tail);
        if let Some(same) = same
            && storing.contents.contains_live(&same.object.content)?
        {
            return Ok(same.object);
        }
        self.cut(storing, scratch)?;
        if !self.tail.is_empty() {
            let chunk = std::mem::take(&mut self.tail);
            self.store(chunk, storing, scratch)?;
        }
        let options = ObjectWriterOptions {
            prefix: Some(DIRECTORY_PREFIX),
            splitter: None,
            compressor: storing.compressor,
            metadata_compressor: storing.metadata_compressor,
        };
        finish_entries(storing.contents, self.chunks, &options)
    }
}

/// The directory object being written.
#[derive(Default)]
pub(super) struct Output {
    segments: VecDeque<Segment>,
    /// Number of the first segment in `segments`.
    first: u64,
    /// Whether all segments were opened.
    all_opened: bool,
    finished: bool,
    sink: Sink,
    totals: Totals,
    /// Why the directory as a whole cannot be recorded.
    pub(super) failure: Option<String>,
}

impl Output {
    /// Opens the next segment; gives its number.
    pub(super) fn open(&mut self, segment: Segment) -> u64 {
        self.segments.push_back(segment);
        self.first + self.segments.len() as u64 - 1
    }
    /// Segments that are not written out.
    pub(super) fn outstanding(&self) -> usize {
        self.segments.len()
    }
    /// Notes that no further segment follows.
    pub(super) fn close(&mut self) {
        self.all_opened = true;
    }
    /// Fills a segment with its entries; its number stays valid for its gaps.
    pub(super) fn fill(&mut self, number: u64, mut segment: Segment) {
        segment.filled = true;
        let early = std::mem::replace(self.segment(number), segment);
        debug_assert!(early.gaps.is_empty(), "gaps belong to the filling");
    }
    /// Settles a gap.
    pub(super) fn settle(&mut self, number: u64, gap: usize, outcome: Outcome) {
        self.segment(number).settle(gap, outcome);
    }
    fn segment(&mut self, number: u64) -> &mut Segment {
        &mut self.segments[(number - self.first) as usize]
    }
    /// Adds what concerns the directory as a whole.
    pub(super) fn add(&mut self, totals: &Totals) {
        self.totals.add(totals);
    }
    /// Writes out what is complete, in order. Whether the directory is ready to be finished: true once.
    pub(super) fn drain(
        &mut self,
        storing: &DirectoryStoring<'_>,
        scratch: &mut WriteScratch,
    ) -> Result<bool> {
        while self.segments.front().is_some_and(Segment::is_complete) {
            if let Some(segment) = self.segments.pop_front() {
                self.first += 1;
                write_segment(&segment, &mut self.sink, &mut self.totals);
            }
        }
        self.sink.cut(storing, scratch)?;
        let ready = self.all_opened && self.segments.is_empty();
        Ok(ready && !std::mem::replace(&mut self.finished, ready))
    }
    /// Stores the directory object, unless it is one of `known`.
    pub(super) fn finish(
        &mut self,
        empty_time: kopia_format::Timestamp,
        incomplete_reason: &str,
        known: &[WholeDirectory],
        storing: &DirectoryStoring<'_>,
        scratch: &mut WriteScratch,
    ) -> Result<(ObjectId, DirectorySummary)> {
        let sink = std::mem::take(&mut self.sink);
        let totals = std::mem::take(&mut self.totals);
        finish_sink(sink, totals, empty_time, (incomplete_reason, known), storing, scratch)
    }
    /// Stores the directory as far as it is known, without ending it: what is written out, what
    /// waits in segments, and `more` (child directories in progress, by segment, and files in progress).
    pub(super) fn checkpoint(
        &self,
        empty_time: kopia_format::Timestamp,
        mut more: impl FnMut(u64) -> Option<Outcome>,
        storing: &DirectoryStoring<'_>,
        scratch: &mut WriteScratch,
    ) -> Result<(ObjectId, DirectorySummary)> {
        let (mut sink, mut totals) = (self.sink.clone(), self.totals.clone());
        for (offset, segment) in self.segments.iter().enumerate() {
            write_segment(segment, &mut sink, &mut totals);
            while let Some(outcome) = more(self.first + offset as u64) {
                if let Outcome::Entry { json, totals: added } = outcome {
                    write_comma(&mut sink, &totals);
                    sink.append(&json);
                    totals.add(&added);
                }
            }
        }
        finish_sink(sink, totals, empty_time, ("checkpoint", &[]), storing, scratch)
    }
}

fn write_comma(sink: &mut Sink, before: &Totals) {
    if before.entries == 0 {
        sink.append(OPENING);
        sink.append(b"[");
    } else {
        sink.append(b",");
    }
}

fn write_segment(segment: &Segment, sink: &mut Sink, totals: &mut Totals) {
    if segment.totals.entries > 0 {
        write_comma(sink, totals);
        segment.for_each_stretch(|stretch| sink.append(stretch));
        // The comma behind the last entry: the next one brings its own.
        sink.tail.pop();
    }
    totals.add(&segment.totals);
}

fn finish_sink(
    mut sink: Sink,
    totals: Totals,
    empty_time: kopia_format::Timestamp,
    (incomplete_reason, known): (&str, &[WholeDirectory]),
    storing: &DirectoryStoring<'_>,
    scratch: &mut WriteScratch,
) -> Result<(ObjectId, DirectorySummary)> {
    let mut summary = totals.summary;
    summary.total_directory_count += 1;
    summary.incomplete_reason = incomplete_reason.to_owned();
    summary.failed_entries.sort_by(|a, b| a.path.cmp(&b.path));
    summary.failed_entries.truncate(FAILED_ENTRIES_MAX);
    if totals.entries == 0 {
        summary.max_mod_time = empty_time;
        sink.append(OPENING);
        sink.append(b"null");
    } else {
        sink.append(b"]");
    }
    let mut end = Vec::new();
    Directory::encode(&[], &summary, &mut end);
    sink.append(&end[OPENING.len() + b"null".len()..]);
    Ok((sink.finish(known, storing, scratch)?, summary))
}
