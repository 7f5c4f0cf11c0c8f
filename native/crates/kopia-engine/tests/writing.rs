//! What is written is there, once, in the right order, for every format.

mod support;

use kopia_engine::blob::Storage;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::content::{WriteScratch, Written};
use kopia_engine::object::{self, ObjectReader, ObjectWriter, ObjectWriterOptions};
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_engine::{Error, ErrorKind, Result};
use kopia_format::compression::CompressorId;
use kopia_format::format_blob::KeyDerivation;
use kopia_format::splitter::SplitterAlgorithm;
use kopia_format::{ContentId, ObjectId};
use kopia_testing::clock::ManualClock;
use kopia_testing::data::splitmix;
use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::recording::RecordingStorage;
use support::{PASSWORD, blobs, create_in, create_options, memory_repository, open, samples};

fn put(repository: &Repository, prefix: Option<u8>, data: &[u8]) -> ContentId {
    let scratch = &mut WriteScratch::default();
    repository.contents().write(prefix, data.to_vec(), CompressorId::NONE, scratch).expect("written")
}

fn read(repository: &Repository, id: &ContentId) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    repository.contents().read(id, &mut bytes).map(|()| bytes)
}

fn combinations() -> Vec<CreateOptions> {
    let (gcm, chacha) = ("AES256-GCM-HMAC-SHA256", "CHACHA20-POLY1305-HMAC-SHA256");
    let rows = [
        (1, "BLAKE2B-256-128", gcm, 0, KeyDerivation::Scrypt65536_8_1),
        (1, "HMAC-SHA3-224", chacha, 0, KeyDerivation::Pbkdf2Sha256_600000),
        (2, "BLAKE2S-128", gcm, 5, KeyDerivation::Pbkdf2Sha256_600000),
        (2, "HMAC-SHA256", chacha, 0, KeyDerivation::Scrypt65536_8_1),
        (3, "BLAKE3-256", chacha, 10, KeyDerivation::Scrypt65536_8_1),
        (3, "BLAKE2B-256", gcm, 1, KeyDerivation::Pbkdf2Sha256_600000),
        (3, "BLAKE2B-256-128", gcm, 0, KeyDerivation::Scrypt65536_8_1),
    ];
    rows.map(|(format_version, hash, encryption, ecc_overhead_percent, key_derivation)| CreateOptions {
        format_version,
        hash: hash.into(),
        encryption: encryption.into(),
        ecc_overhead_percent,
        key_derivation,
        max_pack_size_bytes: 10 << 20,
        ..create_options()
    })
    .into()
}

#[test]
fn every_format_reads_back_what_was_written() {
    for options in combinations() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        create_in(&storage, &options);
        let writer = open(&storage);
        let scratch = &mut WriteScratch::default();
        let mut ids = Vec::new();
        for (number, (prefix, data, compressor)) in samples().into_iter().enumerate() {
            ids.push(writer.contents().write(prefix, data, compressor, scratch).expect("written"));
            if number % 17 == 16 {
                writer.flush().expect("flushed");
            }
        }
        writer.flush().expect("flushed");
        let reader = open(&storage);
        for (id, (_, data, _)) in ids.iter().zip(samples()) {
            assert!(read(&reader, id).expect("read") == data, "{options:?}: {id}");
            assert_eq!(read(&writer, id).expect("read").len(), data.len());
            let length = reader.contents().info(id).expect("info").expect("known").original_length;
            assert!(length as usize == data.len(), "{options:?}: {id} is said to have {length} bytes");
        }
        assert_eq!(blobs(&storage, "s"), [], "no session marker stays");
    }
}

#[test]
fn a_content_is_readable_before_it_is_flushed() {
    let (storage, repository) = memory_repository();
    let id = put(&repository, None, b"not flushed yet");
    assert_eq!(read(&repository, &id).expect("read"), b"not flushed yet");
    assert_eq!(read(&open(&storage), &id).expect_err("no index").kind, ErrorKind::ContentNotFound);
    let other = put(&repository, None, b"after the pack was closed for reading");
    repository.flush().expect("flushed");
    let reader = open(&storage);
    assert_eq!(read(&reader, &id).expect("read"), b"not flushed yet");
    assert!(read(&reader, &other).is_ok());
}

#[test]
fn threads_that_write_the_same_contents_store_them_once() {
    let (storage, repository) = memory_repository();
    let stored = AtomicUsize::new(0);
    let before = open(&storage);
    let mut known = 0;
    before
        .contents()
        .for_each(true, &mut |_| {
            known += 1;
            Ok(())
        })
        .expect("listed");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let scratch = &mut WriteScratch::default();
                for number in 0..1500u64 {
                    let mut data = splitmix(number, 100 + (number as usize % 7) * 50_000);
                    let id = ContentId::new(None, repository.contents().hasher().hash(&data)).expect("id");
                    let written =
                        repository.contents().put_hashed(id, &mut data, CompressorId::NONE, scratch);
                    if matches!(written.expect("written"), Written::New { .. }) {
                        stored.fetch_add(1, Ordering::Relaxed);
                    }
                    if number % 500 == 499 {
                        repository.flush().expect("flushed");
                    }
                }
            });
        }
    });
    repository.flush().expect("flushed");
    assert_eq!(stored.into_inner(), 1500);
    let mut seen = 0;
    let reader = open(&storage);
    reader
        .contents()
        .for_each(true, &mut |info| {
            seen += 1;
            read(&reader, &info.id).map(drop)
        })
        .expect("read");
    assert_eq!(seen, 1500 + known);
}

fn recorded() -> (Arc<RecordingStorage>, Arc<Repository>) {
    let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create_in(&memory, &create_options());
    let recording = Arc::new(RecordingStorage::new(memory));
    let storage: Arc<dyn Storage> = Arc::clone(&recording) as Arc<dyn Storage>;
    let repository = open(&storage);
    (recording, repository)
}

#[test]
fn flush_stores_packs_before_their_index() {
    let (recording, repository) = recorded();
    put(&repository, None, b"data");
    put(&repository, Some(b'k'), b"metadata");
    repository.flush().expect("flushed");
    let log = recording.log.lock().clone();
    let position = |start: &str| {
        let found: Vec<_> = log.iter().enumerate().filter(|(_, what)| what.starts_with(start)).collect();
        assert_eq!(found.len(), 1, "{start} in {log:?}");
        found[0].0
    };
    let syncs: Vec<_> = (0..log.len()).filter(|&at| log[at] == "sync").collect();
    let packs = position("finish p").max(position("finish q"));
    assert!(position("put s") < position("create p").min(position("create q")), "{log:?}");
    assert!(packs < syncs[0] && syncs[0] < position("put xn0_"), "{log:?}");
    assert!(position("put xn0_") < syncs[1] && syncs[1] < position("delete s"), "{log:?}");
}

#[test]
fn no_index_is_stored_after_a_pack_was_lost() {
    for failing in ["finish p", "create p", "sync", "put s"] {
        let (recording, repository) = recorded();
        *recording.failing.lock() = Some(failing.into());
        let scratch = &mut WriteScratch::default();
        let written = repository.contents().write(None, vec![1; 100], CompressorId::NONE, scratch);
        let result = written.and_then(|_| repository.flush());
        assert_eq!(result.expect_err(failing).kind, ErrorKind::Storage);
        assert!(!recording.log.lock().iter().any(|what| what.starts_with("put x")), "{failing}");
    }
}

#[test]
fn a_lost_pack_is_never_named_even_if_the_storage_recovers() {
    let (recording, repository) = recorded();
    let id = put(&repository, None, b"lost");
    *recording.failing.lock() = Some("finish p".into());
    repository.flush().expect_err("the pack cannot be stored");
    *recording.failing.lock() = None;
    repository.flush().expect_err("its contents are gone");
    assert_eq!(
        read(&open(&(recording as Arc<dyn Storage>)), &id).expect_err("gone").kind,
        ErrorKind::ContentNotFound
    );
}

#[test]
fn an_index_that_could_not_be_stored_is_stored_by_the_next_flush() {
    let (recording, repository) = recorded();
    let id = put(&repository, None, b"kept");
    *recording.failing.lock() = Some("put x".into());
    repository.flush().expect_err("the index cannot be stored");
    *recording.failing.lock() = None;
    repository.flush().expect("stored now");
    let storage: Arc<dyn Storage> = recording;
    assert_eq!(read(&open(&storage), &id).expect("read"), b"kept");
    assert_eq!(blobs(&storage, "s"), []);
}

#[test]
fn full_packs_are_stored_while_writing_goes_on() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create_in(&storage, &CreateOptions { max_pack_size_bytes: 10 << 20, ..create_options() });
    let repository = open(&storage);
    for number in 0..25 {
        put(&repository, None, &splitmix(number, 1 << 20));
    }
    assert_eq!(blobs(&storage, "p").len(), 2);
    repository.flush().expect("flushed");
    assert_eq!(blobs(&storage, "p").len(), 3);
}

#[test]
fn a_deleted_content_is_readable_hidden_and_stored_again_when_put() {
    let (storage, repository) = memory_repository();
    let id = put(&repository, None, b"here and gone");
    repository.flush().expect("flushed");
    repository.contents().delete(&id).expect("deleted");
    assert!(!repository.contents().contains_live(&id).expect("looked up"));
    repository.flush().expect("flushed");
    let other = open(&storage);
    assert!(other.contents().info(&id).expect("info").expect("known").deleted);
    assert_eq!(read(&other, &id).expect("read"), b"here and gone");
    let first = other.contents().info(&id).expect("info").expect("known");
    put(&other, None, b"here and gone");
    other.flush().expect("flushed");
    let again = open(&storage).contents().info(&id).expect("info").expect("known");
    assert!(!again.deleted && again.pack != first.pack && again.timestamp_seconds > first.timestamp_seconds);
}

#[test]
fn undelete_and_rewrite_move_a_content_to_a_new_pack() {
    let (storage, repository) = memory_repository();
    let scratch = &mut WriteScratch::default();
    let data = vec![7; 10_000];
    let id = repository
        .contents()
        .write(None, data.clone(), CompressorId::ZSTD_FASTEST, scratch)
        .expect("written");
    repository.flush().expect("flushed");
    let first = repository.contents().info(&id).expect("info").expect("known");
    assert_eq!(first.compressor, CompressorId::ZSTD_FASTEST);
    repository.contents().rewrite(&id, scratch).expect("rewritten");
    repository.contents().delete(&id).expect("deleted");
    repository.contents().rewrite(&id, scratch).expect("rewritten");
    assert!(repository.contents().info(&id).expect("info").expect("known").deleted, "the mark stays");
    repository.contents().undelete(&id, scratch).expect("undeleted");
    repository.flush().expect("flushed");
    let reader = open(&storage);
    let last = reader.contents().info(&id).expect("info").expect("known");
    assert!(!last.deleted && last.pack != first.pack && last.compressor == first.compressor);
    assert_eq!(read(&reader, &id).expect("read"), data);
}

#[test]
fn deleting_what_does_not_exist_is_an_error() {
    let (_, repository) = memory_repository();
    let id = ContentId::parse("00112233445566778899aabbccddeeff").expect("id");
    assert_eq!(repository.contents().delete(&id).expect_err("unknown").kind, ErrorKind::ContentNotFound);
    assert_eq!(repository.contents().info(&id).expect("looked up"), None);
}

fn open_at(storage: &Arc<dyn Storage>, clock: &ManualClock) -> Arc<Repository> {
    let options = OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() };
    Repository::open(Arc::clone(storage), PASSWORD, options).expect("opened")
}

#[test]
fn contents_reach_an_index_within_ten_minutes_of_writing() {
    let (storage, _) = memory_repository();
    let clock = ManualClock::at(1_800_000_000);
    let repository = open_at(&storage, &clock);
    let id = put(&repository, None, b"first");
    clock.advance(599);
    put(&repository, None, b"second");
    assert!(open(&storage).contents().info(&id).expect("info").is_none());
    clock.advance(1);
    put(&repository, None, b"third");
    assert!(open(&storage).contents().info(&id).expect("info").is_some());
}

#[test]
fn writers_see_what_others_wrote_after_fifteen_minutes_at_the_latest() {
    let (storage, other) = memory_repository();
    let clock = ManualClock::at(1_800_000_000);
    let repository = open_at(&storage, &clock);
    let id = put(&other, None, b"from another client");
    other.flush().expect("flushed");
    assert!(!repository.contents().contains_live(&id).expect("looked up"));
    clock.advance(900);
    put(&repository, None, b"whatever");
    assert!(repository.contents().contains_live(&id).expect("looked up"));
}

#[test]
fn nothing_is_written_to_a_repository_opened_for_reading() {
    let (storage, _) = memory_repository();
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let repository = Repository::open(storage, PASSWORD, options).expect("opened");
    let scratch = &mut WriteScratch::default();
    let refused = |result: Result<()>| assert_eq!(result.expect_err("refused").kind, ErrorKind::AccessDenied);
    refused(repository.contents().write(None, vec![1], CompressorId::NONE, scratch).map(drop));
    refused(repository.manifests().put([("type".into(), "t".into())].into(), b"{}").map(drop));
    refused(repository.flush());
}

fn object_options(prefix: Option<u8>, splitter: &str) -> ObjectWriterOptions {
    ObjectWriterOptions {
        prefix,
        splitter: Some(SplitterAlgorithm::parse(splitter).expect("splitter")),
        compressor: CompressorId::ZSTD_FASTEST,
        metadata_compressor: CompressorId::ZSTD_FASTEST,
    }
}

fn write_object(repository: &Repository, options: ObjectWriterOptions, data: &[u8], step: usize) -> ObjectId {
    let mut writer = ObjectWriter::new(repository.contents(), options);
    data.chunks(step.max(1)).try_for_each(|piece| writer.write(piece)).expect("written");
    writer.finish().expect("finished")
}

fn read_object(repository: &Repository, object: ObjectId) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reader = ObjectReader::open(repository.contents(), object).expect("opened");
    reader.read_to_end(&mut bytes).expect("read");
    assert_eq!(reader.length(), bytes.len() as u64);
    bytes
}

#[test]
fn objects_of_any_length_read_back_whatever_the_size_of_writes() {
    for version in [1, 3] {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        create_in(&storage, &CreateOptions { format_version: version, ..create_options() });
        let repository = open(&storage);
        for (length, text) in [(0, "0"), (1, "1"), (60_000, "one chunk"), (3_000_000, "many chunks")] {
            for prefix in [None, Some(b'k')] {
                let mut data = splitmix(length as u64, length / 2);
                data.resize(length, 7);
                let options = object_options(prefix, "DYNAMIC-128K-BUZHASH");
                let object = write_object(&repository, options, &data, 1000);
                assert_eq!(object, write_object(&repository, options, &data, 700_001), "{text}");
                assert_eq!(object.indirection > 0, length > 60_000, "{text}: {object}");
                assert!(read_object(&repository, object) == data, "{text}: {object}");
                let mut whole = Vec::new();
                object::read_whole(repository.contents(), object, &mut whole).expect("read");
                assert!(whole == data);
            }
        }
    }
}

#[test]
fn old_repositories_compress_objects_and_say_so_in_their_ids() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create_in(&storage, &CreateOptions { format_version: 1, ..create_options() });
    let repository = open(&storage);
    let file = write_object(&repository, object_options(None, "FIXED-1M"), &[5; 10_000], 999);
    let directory = write_object(&repository, object_options(Some(b'k'), "FIXED-1M"), &[5; 10_000], 999);
    assert!(file.compressed && !directory.compressed);
    repository.flush().expect("flushed");
    let reader = open(&storage);
    assert_eq!(read_object(&reader, file), [5; 10_000]);
    assert_eq!(read_object(&reader, directory), [5; 10_000]);
}

#[test]
fn long_index_objects_are_cut_and_joined_in_turn() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create_in(&storage, &CreateOptions { splitter: "FIXED-128K".into(), ..create_options() });
    let repository = open(&storage);
    let chunk = write_object(&repository, object_options(None, "FIXED-128K"), &[1, 2, 3, 4], 4);
    let entries: Vec<_> = (0..6000)
        .map(|n| kopia_format::indirect::IndirectEntry { start: n * 4, length: 4, object: chunk })
        .collect();
    let object = object::finish_entries(repository.contents(), entries, &object_options(None, "FIXED-128K"));
    let object = object.expect("finished");
    assert_eq!(object.indirection, 2, "{object}");
    assert_eq!(read_object(&repository, object), [1, 2, 3, 4].repeat(6000));
    let mut contents = BTreeSet::new();
    object::for_each_content(repository.contents(), object, &mut |id| {
        contents.insert(id);
        Ok(())
    })
    .expect("walked");
    // The data, two pieces or more of the index, and the index of those.
    assert!(contents.len() >= 4 && contents.contains(&chunk.content), "{contents:?}");
}

#[test]
fn readers_seek_anywhere() {
    let (_, repository) = memory_repository();
    let data = splitmix(1, 1_000_000);
    let object = write_object(&repository, object_options(None, "DYNAMIC-128K-RABINKARP"), &data, 100_000);
    let mut reader = ObjectReader::open(repository.contents(), object).expect("opened");
    for position in [999_999, 0, 500_000, 131_071, 262_144] {
        reader.seek(SeekFrom::Start(position)).expect("sought");
        let mut piece = vec![0; 5000.min(1_000_000 - position as usize)];
        reader.read_exact(&mut piece).expect("read");
        assert!(piece == data[position as usize..][..piece.len()]);
    }
    assert_eq!(reader.seek(SeekFrom::End(10)).expect("sought"), 1_000_010);
    assert_eq!(reader.read(&mut [0; 4]).expect("at the end"), 0);
    assert!(reader.seek(SeekFrom::Current(-2_000_000)).is_err());
}

#[test]
fn parts_are_joined_without_reading_their_data() {
    let (_, repository) = memory_repository();
    let parts = [splitmix(1, 900_000), splitmix(2, 10), splitmix(3, 500_000)];
    let options = object_options(None, "DYNAMIC-128K-BUZHASH");
    let objects: Vec<_> = parts.iter().map(|part| write_object(&repository, options, part, 50_000)).collect();
    let joined =
        object::concatenate(repository.contents(), &objects, CompressorId::ZSTD_FASTEST).expect("joined");
    assert!(read_object(&repository, joined) == parts.concat());
    let alone =
        object::concatenate(repository.contents(), &objects[1..2], CompressorId::NONE).expect("joined");
    assert_eq!(alone, objects[1]);
    let none = object::concatenate(repository.contents(), &[], CompressorId::NONE);
    assert_eq!(none.map_err(|error: Error| error.kind), Err(ErrorKind::InvalidArgument));
}

#[test]
fn a_checkpoint_is_the_chunks_so_far() {
    let (_, repository) = memory_repository();
    let mut writer = ObjectWriter::new(repository.contents(), object_options(None, "FIXED-128K"));
    assert_eq!(writer.checkpoint().expect("nothing yet"), None);
    let data = splitmix(9, 400_000);
    writer.write(&data).expect("written");
    let checkpoint = writer.checkpoint().expect("stored").expect("three chunks");
    assert!(read_object(&repository, checkpoint) == data[..3 * 131_072]);
    assert!(read_object(&repository, writer.finish().expect("finished")) == data);
}
