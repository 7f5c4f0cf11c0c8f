//! Chunks of stretches against those of one scan over all bytes.

use super::*;
use crate::source::metadata::Metadata;
use crate::upload::entry::Destination;
use crate::upload::input::Holes;
use crate::upload::large_file::{LargeFile, Storing};
use kopia_format::ObjectId;
use kopia_format::compression::CompressorId;
use kopia_format::hashing::{ContentHasher, HashAlgorithm};
use parking_lot::Mutex;
use proptest::prelude::*;
use rustix::fs::FileType;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize};

struct Plain {
    lent: AtomicUsize,
}

impl Surroundings for Plain {
    fn lend_buffer(&self) -> Option<Vec<u8>> {
        self.lent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(Vec::new())
    }
    fn return_buffer(&self, _: Vec<u8>) {
        self.lent.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
    fn count_read(&self, _: u64) {}
    fn is_canceled(&self) -> bool {
        false
    }
}

fn object_of(bytes: &[u8]) -> ObjectId {
    let hasher = ContentHasher::new(HashAlgorithm::Blake2b256_128, b"key").expect("valid");
    ObjectId::direct(kopia_format::ContentId::new(None, hasher.hash(bytes)).expect("no prefix"))
}

fn part(splitter: SplitterAlgorithm) -> Arc<Part<'static>> {
    let storing =
        Storing { compressor: CompressorId::NONE, metadata_compressor: CompressorId::NONE, splitter };
    let metadata = Metadata {
        file_type: FileType::RegularFile,
        mode: 0,
        size: 0,
        modified: kopia_format::Timestamp::default(),
        changed: kopia_format::Timestamp::default(),
        uid: 0,
        gid: 0,
        device: 0,
        inode: 0,
        links: 1,
    };
    let file = LargeFile {
        destination: Destination::Root { directory_name: None },
        name: Vec::new(),
        metadata,
        storing,
        parts: Mutex::new(vec![None]),
        parts_left: AtomicUsize::new(1),
        settled: AtomicBool::new(false),
    };
    Part::new(Arc::new(file), 0)
}

/// Length and name of each chunk, and how many were read and hashed.
fn chunks_of(input: Input, splitter: SplitterAlgorithm) -> (Vec<(u64, ObjectId)>, usize) {
    let part = part(splitter);
    let around = Plain { lent: AtomicUsize::new(0) };
    let mut stretch = Stretch::new(Arc::clone(&part), input, splitter);
    let (mut buffer, mut hashed) = (Vec::new(), 0);
    loop {
        match stretch.advance(std::mem::take(&mut buffer), &around) {
            Ok(Advance::Chunk { data, piece }) => {
                part.resolve(piece, object_of(&data));
                hashed += 1;
                buffer = data;
            }
            Ok(Advance::Paused(again)) => buffer = again,
            Ok(Advance::End(_)) => break,
            Err(failure) => panic!("{}", failure.error),
        }
    }
    assert_eq!(around.lent.into_inner(), 0, "kept chunks are given back");
    let zeros = |length: u64| Ok::<_, ()>(object_of(&vec![0; length as usize]));
    let (entries, _) = part.stored_prefix(zeros).expect("infallible");
    (entries.iter().map(|entry| (entry.length, entry.object)).collect(), hashed)
}

/// The same, by one scan over everything.
fn expected(mut bytes: &[u8], splitter: SplitterAlgorithm) -> Vec<(u64, ObjectId)> {
    let mut chunks = Vec::new();
    while !bytes.is_empty() {
        let end = splitter.start().find_end(bytes, 0).unwrap_or(bytes.len());
        chunks.push((end as u64, object_of(&bytes[..end])));
        bytes = &bytes[end..];
    }
    chunks
}

fn file_input(file: &Arc<File>, offset: u64, end: Option<u64>) -> Input {
    Input::File { file: Arc::clone(file), offset, end, holes: Holes::unknown() }
}

/// A section of a source.
#[derive(Debug, Clone)]
enum Section {
    Random(usize, u64),
    Zeros(usize),
    Hole(usize),
    Repeated { period: usize, seed: u64, times: usize },
}

fn section() -> impl Strategy<Value = Section> {
    prop_oneof![
        (1usize..600_000, any::<u64>()).prop_map(|(length, seed)| Section::Random(length, seed)),
        (1usize..400_000).prop_map(Section::Zeros),
        (1usize..1_500_000).prop_map(Section::Hole),
        (1usize..70_000, any::<u64>(), 2usize..30).prop_map(|(period, seed, times)| Section::Repeated {
            period,
            seed,
            times
        }),
    ]
}

fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn build(sections: &[Section]) -> (Arc<File>, Vec<u8>) {
    let file = tempfile::tempfile().expect("temporary file");
    let mut bytes = Vec::new();
    for section in sections {
        let data = match section {
            Section::Random(length, seed) => random(*length, *seed),
            Section::Zeros(length) => vec![0; *length],
            Section::Repeated { period, seed, times } => random(*period, *seed).repeat(*times),
            Section::Hole(length) => {
                bytes.resize(bytes.len() + length, 0);
                continue;
            }
        };
        file.write_all_at(&data, bytes.len() as u64).expect("write");
        bytes.extend(data);
    }
    file.set_len(bytes.len() as u64).expect("length");
    (Arc::new(file), bytes)
}

struct Dribble(std::io::Cursor<Vec<u8>>, usize);

impl std::io::Read for Dribble {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1 % 70_001 + 997;
        let limit = self.1.min(out.len());
        self.0.read(&mut out[..limit])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn boundaries_and_names_do_not_depend_on_holes_repetition_or_read_sizes(
        sections in proptest::collection::vec(section(), 1..6),
        name in prop_oneof![Just("DYNAMIC-128K-BUZHASH"), Just("FIXED-128K"), Just("DYNAMIC-128K-RABINKARP")],
        cut in any::<u64>(),
    ) {
        let splitter = SplitterAlgorithm::parse(name).expect("known");
        let (file, bytes) = build(&sections);
        let whole = expected(&bytes, splitter);
        prop_assert_eq!(&chunks_of(file_input(&file, 0, None), splitter).0, &whole);
        let stream = Input::Stream { reader: Box::new(Dribble(std::io::Cursor::new(bytes.clone()), 1)), tail: Vec::new() };
        prop_assert_eq!(&chunks_of(stream, splitter).0, &whole);
        let cut = cut % bytes.len() as u64;
        prop_assert_eq!(chunks_of(file_input(&file, 0, Some(cut)), splitter).0, expected(&bytes[..cut as usize], splitter));
        prop_assert_eq!(chunks_of(file_input(&file, cut, None), splitter).0, expected(&bytes[cut as usize..], splitter));
    }
}

#[test]
fn holes_are_not_read_and_repetition_is_not_hashed() {
    let splitter = SplitterAlgorithm::parse("DYNAMIC-128K-BUZHASH").expect("known");
    let (file, _) = build(&[Section::Random(10, 1), Section::Hole(50 << 20), Section::Random(10, 2)]);
    let (chunks, hashed) = chunks_of(file_input(&file, 0, None), splitter);
    assert!(chunks.len() > 100 && hashed <= 4, "{hashed} of {} chunks were hashed", chunks.len());
    let (file, _) = build(&[Section::Repeated { period: 1 << 16, seed: 3, times: 1000 }]);
    let (chunks, hashed) = chunks_of(file_input(&file, 0, None), splitter);
    assert!(chunks.len() > 200 && hashed <= 5, "{hashed} of {} chunks were hashed", chunks.len());
}
