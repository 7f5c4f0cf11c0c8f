use super::*;
use crate::content::location::{Key, Location};
use kopia_format::compression::CompressorId;
use kopia_format::encryption::CipherAlgorithm;
use kopia_format::index::ContentFormat;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

const KEY_LENGTH: usize = 17;
/// Smaller than tables of these tests become, so that some are in memory and some stay sealed on the disk.
const MEMORY_BYTES_MAX: usize = 2000;

type Entry = (u16, u32, bool, u8);

fn sealer(secret: u8) -> ContentSealer {
    ContentSealer::new(CipherAlgorithm::Aes256GcmHmacSha256, &[secret; 32], None).expect("valid")
}

struct Client {
    cache: Option<IndexCache>,
    catalog: Arc<PackCatalog>,
    committed: CommittedIndex,
    read_count: Cell<usize>,
}

impl Client {
    /// A process that has just started, and has a pack of its own so that numbers differ from one to the other.
    fn new(cache: Option<IndexCache>, own: &str) -> Self {
        let catalog = Arc::new(PackCatalog::default());
        catalog.number_of(&BlobId::new(own)).expect("room");
        let committed = CommittedIndex::new(Arc::clone(&catalog), KEY_LENGTH, MEMORY_BYTES_MAX);
        Self { cache, catalog, committed, read_count: Cell::new(0) }
    }

    /// What it sees of `active`, by way of the cache if it has one.
    fn see(&self, repository: &Repository, active: &[BlobId]) -> Vec<(u16, u32, bool, BlobId, u32, u8)> {
        let read = |blobs: &[BlobId]| {
            self.read_count.set(self.read_count.get() + blobs.len());
            Ok(blobs.iter().map(|blob| self.table(&repository.0[blob])).collect())
        };
        let listed = active.iter().map(|blob| (blob.clone(), 1)).collect();
        let tables = match &self.cache {
            Some(cache) => cache.assemble(&self.committed, &self.catalog, listed, &read),
            None => read(active).map(|small| Assembled { small, apart: Vec::new() }),
        };
        let Assembled { small, apart } = tables.expect("assembled");
        self.committed.replace(small, apart, active.iter().cloned().collect(), 0).expect("replaced");
        let mut seen = Vec::new();
        let each = &mut |key: &[u8], location: Location| {
            let found = self.committed.find(&Key::from_bytes(key))?.expect("what is walked is found");
            assert_eq!(found, location);
            let pack = self.catalog.name(location.pack)?;
            let format = self.catalog.format(location.format)?.format_version;
            let number = u16::from_be_bytes([key[1], key[2]]);
            seen.push((number, location.timestamp_seconds, location.deleted, pack, location.offset, format));
            Ok(())
        };
        self.committed.walk(None, &[], None, each).expect("walked");
        seen
    }

    fn table(&self, entries: &[Entry]) -> Arc<EntryTable> {
        let mut builder = self.committed.table_builder(entries.len());
        for &(number, timestamp_seconds, deleted, pack) in entries {
            let mut key = [0; KEY_LENGTH];
            key[1..3].copy_from_slice(&number.to_be_bytes());
            let format = ContentFormat {
                compressor: CompressorId::NONE,
                format_version: pack % 3,
                encryption_key_id: 0,
            };
            let location = Location {
                timestamp_seconds,
                offset: u32::from(number),
                deleted,
                packed_length: 1,
                original_length: 1,
                pack: self.catalog.number_of(&BlobId::new(format!("p{pack}"))).expect("room"),
                format: self.catalog.format_number(format).expect("room"),
            };
            builder.push(&key, &location).expect("in order");
        }
        Arc::new(builder.finish().expect("built"))
    }
}

/// Entries by index blob.
struct Repository(HashMap<BlobId, Vec<Entry>>);

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (0u32..9, any::<bool>(), 0u8..9);
    let rows = prop::collection::btree_map(0u16..300, entry, 1..40);
    rows.prop_map(|rows| {
        rows.into_iter().map(|(number, (time, deleted, pack))| (number, time, deleted, pack)).collect()
    })
}

fn blob_name(number: usize) -> BlobId {
    let kind = ["xn1_", "xs0_", "xr0_3_", "n"][number % 4];
    BlobId::new(format!("{kind}{number:032x}-s0"))
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("made"))
    }

    fn cache(&self, secret: u8, bytes_max: u64) -> IndexCache {
        let options = CacheOptions { directory: self.0.path().to_owned(), bytes_max };
        let cache = IndexCache::new(&options, "file:///repository", sealer(secret), KEY_LENGTH);
        IndexCache { worth_blobs: 3, ..cache }
    }

    fn client(&self, own: &str) -> Client {
        Client::new(Some(self.cache(1, 1 << 20)), own)
    }

    fn files(&self) -> Vec<PathBuf> {
        let directories = fs::read_dir(self.0.path()).expect("there").flatten().map(|entry| entry.path());
        let files =
            directories.filter(|path| path.is_dir()).flat_map(|path| fs::read_dir(path).expect("there"));
        files.flatten().map(|entry| entry.path()).collect()
    }
}

/// `count` blobs of one kind.
fn repository(count: usize) -> (Repository, Vec<BlobId>) {
    let blob =
        |n: usize| (blob_name(4 * n), (0..50).map(|i| (i * 7 + n as u16, 1, false, n as u8)).collect());
    let blobs: HashMap<BlobId, Vec<Entry>> = (0..count).map(blob).collect();
    let names = blobs.keys().cloned().collect();
    (Repository(blobs), names)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two clients in turn, blobs that come and go: what is seen by way of the cache is what is in the blobs.
    #[test]
    fn opening_by_way_of_the_cache_sees_what_opening_from_scratch_sees(
        blobs in prop::collection::vec(entries(), 1..40),
        steps in prop::collection::vec((prop::collection::vec(any::<bool>(), 40), 0usize..40), 1..8),
    ) {
        let named = blobs.into_iter().enumerate().map(|(number, rows)| (blob_name(number), rows));
        let repository = Repository(named.collect());
        let place = Place::new();
        let mut active: Vec<BlobId> = Vec::new();
        for (turn, (gone, come)) in steps.into_iter().enumerate() {
            // Mostly blobs are added; now and then some are superseded.
            if turn % 3 == 2 {
                let mut gone = gone.into_iter();
                active.retain(|_| !gone.next().unwrap_or(false));
            }
            let count = repository.0.len();
            active.extend((0..come).map(|n| blob_name((n * 7 + turn) % count)));
            active.sort_unstable();
            active.dedup();
            let by_cache = place.client(["pa", "p3"][turn % 2]).see(&repository, &active);
            let from_scratch = Client::new(None, "pb").see(&repository, &active);
            prop_assert_eq!(by_cache, from_scratch);
        }
    }
}

#[test]
fn an_opening_reads_only_blobs_that_are_in_no_set() {
    let ((repository, mut active), place) = (repository(40), Place::new());
    let last = active.split_off(38);
    for expected in [38, 0] {
        let client = place.client("p0");
        client.see(&repository, &active);
        assert_eq!(client.read_count.get(), expected);
    }
    active.extend(last);
    let client = place.client("p7");
    let seen = client.see(&repository, &active);
    assert_eq!(client.read_count.get(), 2);
    assert_eq!(seen, Client::new(None, "p0").see(&repository, &active));
}

#[test]
fn new_blobs_join_sets_of_their_size_and_replace_them() {
    let ((repository, active), place) = (repository(40), Place::new());
    for count in [3, 6, 9, 40] {
        place.client("p0").see(&repository, &active[..count]);
    }
    assert_eq!(place.files().len(), 1);
}

#[test]
fn a_set_of_which_a_blob_was_superseded_is_removed() {
    let ((repository, active), place) = (repository(5), Place::new());
    place.client("p0").see(&repository, &active);
    assert_eq!(place.files().len(), 1);
    place.client("p0").see(&repository, &active[..2]);
    assert!(place.files().is_empty());
}

#[test]
fn a_file_that_is_damaged_cut_short_or_of_another_repository_is_not_used() {
    let ((repository, active), place) = (repository(20), Place::new());
    let expected = Client::new(None, "p0").see(&repository, &active);
    let ways: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.clear(),
        |bytes| bytes[20] ^= 1,
        |bytes| *bytes.last_mut().expect("not empty") = 0xff,
        |bytes| {
            let at = bytes.len() - 100;
            bytes[at] ^= 1;
        },
    ];
    for spoil in ways {
        place.client("p0").see(&repository, &active);
        let [file] = place.files().try_into().expect("one file");
        let mut bytes = fs::read(&file).expect("readable");
        spoil(&mut bytes);
        fs::write(&file, &bytes).expect("written");
        let client = place.client("p1");
        assert_eq!(client.see(&repository, &active), expected);
        assert_eq!(client.read_count.get(), active.len());
    }
    let other = Client::new(Some(place.cache(2, 1 << 20)), "p0");
    assert_eq!(other.see(&repository, &active), expected);
    assert_eq!(other.read_count.get(), active.len());
}

#[test]
fn a_damaged_row_is_an_error_once_and_never_a_wrong_entry() {
    let ((repository, active), place) = (repository(20), Place::new());
    let expected = Client::new(None, "p0").see(&repository, &active);
    assert!(expected.len() * 37 > MEMORY_BYTES_MAX, "rows must stay on the disk");
    place.client("p0").see(&repository, &active);
    let [file] = place.files().try_into().expect("one file");
    let client = place.client("p0");
    client.see(&repository, &active);
    let mut bytes = fs::read(&file).expect("readable");
    bytes[100] ^= 1;
    fs::write(&file, &bytes).expect("written");
    let error = client.committed.walk(None, &[], None, &mut |_, _| Ok(())).expect_err("damaged");
    assert!(error.to_string().contains("try again"), "{error}");
    assert_eq!(place.client("p0").see(&repository, &active), expected);
}

#[test]
fn without_room_or_with_a_broken_directory_everything_works_without_the_cache() {
    let (repository, active) = repository(20);
    let expected = Client::new(None, "p0").see(&repository, &active);
    let place = Place::new();
    for _ in 0..2 {
        let client = Client::new(Some(place.cache(1, 5000)), "p0");
        assert_eq!(client.see(&repository, &active), expected);
        assert_eq!(client.read_count.get(), active.len());
        assert!(place.files().is_empty());
    }
    // The lock cannot be taken, as nothing can be written on a full disk.
    fs::create_dir(place.0.path().join("lock")).expect("made");
    let client = place.client("p0");
    assert_eq!(client.see(&repository, &active), expected);
    assert!(place.files().is_empty());
}

#[test]
fn what_a_killed_process_left_is_neither_used_nor_kept() {
    let ((repository, active), place) = (repository(20), Place::new());
    place.client("p0").see(&repository, &active);
    let [file] = place.files().try_into().expect("one file");
    let half = fs::read(&file).expect("readable")[..500].to_vec();
    let left = file.with_file_name(format!("{NAME_PREFIX}0.tmp"));
    fs::rename(&file, &left).expect("renamed");
    fs::write(&left, half).expect("written");
    let client = place.client("p0");
    client.see(&repository, &active);
    assert_eq!(client.read_count.get(), active.len());
    assert_eq!(place.files(), [file]);
}

#[test]
fn nothing_of_the_repository_stands_in_the_file_in_the_open() {
    let ((repository, active), place) = (repository(20), Place::new());
    place.client("p0").see(&repository, &active);
    let [file] = place.files().try_into().expect("one file");
    let bytes = fs::read(file).expect("readable");
    let stands = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(!stands(&active[0].as_str().as_bytes()[..20]));
    assert!(!stands(&[0, 0, 7, 0, 0, 0, 0, 0, 0, 0]), "a key");
}

#[test]
fn a_repository_that_is_opened_again_reads_none_of_its_many_index_blobs() {
    use crate::blob::Storage;
    use crate::blob::layers::metrics::{RequestResult, StorageMetrics};
    use crate::blob::layers::observing::{ObservedStorage, Observer, Operation};
    use crate::blob::memory::MemoryStorage;
    use crate::clock::SystemClock;
    use crate::content::WriteScratch;
    use crate::repository::{CreateOptions, OpenOptions, Repository};
    use kopia_format::format_blob::KeyDerivation;

    let place = Place::new();
    let index_cache = Some(CacheOptions { directory: place.0.path().to_owned(), bytes_max: 1 << 20 });
    let options = OpenOptions { index_cache, ..OpenOptions::default() };
    let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let key_derivation = KeyDerivation::Pbkdf2Sha256_600000;
    let create = CreateOptions { key_derivation, ..CreateOptions::default() };
    Repository::create(Arc::clone(&memory), "p", &create, Arc::new(SystemClock)).expect("created");
    let writer = Repository::open(Arc::clone(&memory), "p", options.clone()).expect("opened");
    for number in 0..WORTH_BLOBS as u64 {
        let mut scratch = WriteScratch::default();
        let data = number.to_le_bytes().to_vec();
        writer.contents().write(None, data, CompressorId::NONE, &mut scratch).expect("written");
        writer.flush().expect("flushed");
    }
    let gets = || {
        let metrics = Arc::new(StorageMetrics::new());
        let storage =
            Arc::new(ObservedStorage::new(Arc::clone(&memory), Arc::clone(&metrics) as Arc<dyn Observer>));
        let reader = Repository::open(storage, "p", options.clone()).expect("opened");
        let mut count = 0;
        let each = &mut |_| {
            count += 1;
            Ok(())
        };
        reader.contents().for_each(false, each).expect("walked");
        assert!(count >= WORTH_BLOBS);
        metrics.read_one(Operation::Get, RequestResult::Ok).request_count
    };
    let (first, again) = (gets(), gets());
    assert!(first >= again + WORTH_BLOBS as u64, "{first} and {again} blobs were got");
}
