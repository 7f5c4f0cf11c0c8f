//! Verifying a repository pack by pack: what is read first, what is remembered, what is damaged.

mod support;

use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::blob::{PutOptions, Storage};
use kopia_engine::cancel::CancelToken;
use kopia_engine::content::WriteScratch;
use kopia_engine::progress::Progress;
use kopia_engine::repository::{OpenOptions, Repository};
use kopia_engine::verify::{
    RepositoryVerifyOptions, RepositoryVerifyResult, VerifyOptions, verify_repository,
};
use kopia_format::BlobId;
use kopia_format::compression::CompressorId;
use kopia_testing::clock::ManualClock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{PASSWORD, blobs, create_in, create_options};

const DAY: u64 = 86_400;
const START: i64 = 2_000_000_000;
const CONTENT_BYTES: usize = 50_000;

struct Place {
    storage: Arc<dyn Storage>,
    repository: Arc<Repository>,
    clock: ManualClock,
    folder: tempfile::TempDir,
}

impl Place {
    /// A repository with `packs` packs of one content each, beside those of its manifests.
    fn new(packs: u8) -> Self {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        create_in(&storage, &create_options());
        let clock = ManualClock::at(START);
        // Opened once: deriving the key is what takes long here.
        let open = OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() };
        let repository = Repository::open(Arc::clone(&storage), PASSWORD, open).expect("opened");
        let folder = tempfile::tempdir().expect("folder");
        for number in 0..packs {
            let scratch = &mut WriteScratch::default();
            let data = vec![number; CONTENT_BYTES];
            repository.contents().write(None, data, CompressorId::NONE, scratch).expect("written");
            repository.flush().expect("flushed");
        }
        Self { storage, repository, clock, folder }
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    fn options(&self) -> RepositoryVerifyOptions {
        RepositoryVerifyOptions {
            read: VerifyOptions { percent: 100.0, ..VerifyOptions::default() },
            windows_seconds: vec![DAY, 30 * DAY],
            ledger: Some(self.ledger()),
            ..RepositoryVerifyOptions::default()
        }
    }

    fn verify(&self, options: &RepositoryVerifyOptions) -> RepositoryVerifyResult {
        let (progress, cancel) = (Progress::default(), CancelToken::new());
        verify_repository(&self.repository, options, &progress, &cancel).expect("verified")
    }

    fn change(&self, pack: &BlobId, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        self.storage.get(pack, &mut bytes).expect("pack");
        change(&mut bytes);
        self.storage.put(pack, &[&bytes], &PutOptions::default()).expect("put");
    }

    fn data_packs(&self) -> Vec<BlobId> {
        blobs(&self.storage, "p")
    }
}

fn shares(result: &RepositoryVerifyResult) -> Vec<f64> {
    result.coverage.within.iter().map(|one| one.percent).collect()
}

#[test]
fn everything_is_read_once_and_remembered_for_its_time() {
    let place = Place::new(5);
    let result = place.verify(&place.options());
    assert_eq!((result.damage_count, result.left_bytes, result.canceled), (0, 0, false));
    assert_eq!(result.read_count, result.content_count);
    assert_eq!((result.read_packs, result.read_bytes), (result.pack_count, result.coverage.bytes));
    assert_eq!(shares(&result), [100.0, 100.0]);
    place.clock.advance(2 * DAY as i64);
    let nothing = RepositoryVerifyOptions {
        read: VerifyOptions { percent: 0.0, ..VerifyOptions::default() },
        ..place.options()
    };
    let later = place.verify(&nothing);
    assert_eq!((later.read_count, later.content_count), (0, result.content_count));
    assert_eq!(shares(&later), [0.0, 100.0]);
    assert_eq!(later.coverage.oldest_seconds, Some(START as u32));
}

#[test]
fn a_budget_goes_round_the_repository_and_since_reads_only_the_rest() {
    let place = Place::new(6);
    let budget = RepositoryVerifyOptions { budget_bytes: Some(2 * CONTENT_BYTES as u64), ..place.options() };
    let first = place.verify(&budget);
    assert!(first.read_bytes > 0 && first.read_bytes <= 2 * CONTENT_BYTES as u64);
    assert!(first.coverage.never_bytes > 0);
    let mut rounds = 1;
    while place.verify(&budget).coverage.never_bytes > 0 {
        place.clock.advance(60);
        rounds += 1;
        assert!(rounds < 20, "no progress");
    }
    let since = |seconds: i64| RepositoryVerifyOptions {
        unread_since_seconds: Some(seconds as u32),
        ..place.options()
    };
    assert_eq!(place.verify(&since(START)).read_count, 0, "all of it was read since");
    let late = place.verify(&since(START + 1));
    assert!(late.read_bytes > 0 && late.read_bytes < late.coverage.bytes, "what the first rounds read");
}

#[test]
fn a_damaged_pack_is_named_forgotten_and_read_first_the_next_time() {
    let place = Place::new(4);
    place.verify(&place.options());
    let pack = place.data_packs()[2].clone();
    place.change(&pack, |bytes| bytes[1000] ^= 1);
    place.clock.advance(10);
    let result = place.verify(&place.options());
    assert_eq!(result.damage_count, 1);
    let told = result.damages[0].error.to_string();
    assert!(told.contains(pack.as_str()), "{told}");
    assert!(result.coverage.never_bytes > 0 && result.left_bytes > 0);
    place.change(&pack, |bytes| bytes[1000] ^= 1);
    let first = RepositoryVerifyOptions { budget_bytes: Some(1), ..place.options() };
    assert_eq!(place.verify(&first).coverage.never_bytes, 0, "the damaged one was not read first");
}

#[test]
fn structure_is_checked_of_every_pack_though_none_is_read() {
    let place = Place::new(4);
    let packs = place.data_packs();
    place.change(&packs[0], |bytes| bytes.truncate(1000));
    place.storage.delete(&packs[1]).expect("deleted");
    let nothing = RepositoryVerifyOptions { budget_bytes: Some(0), ..place.options() };
    let result = place.verify(&RepositoryVerifyOptions {
        read: VerifyOptions { percent: 0.0, ..VerifyOptions::default() },
        ..nothing
    });
    assert_eq!(result.read_count, 0);
    let told: Vec<String> = result.damages.iter().map(|damage| damage.error.to_string()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().any(|one| one.contains(packs[0].as_str()) && one.contains("has only 1000 bytes")));
    assert!(told.iter().any(|one| one.contains(packs[1].as_str()) && one.contains("not in the storage")));
}

#[test]
fn a_damaged_ledger_is_begun_anew() {
    let place = Place::new(2);
    place.verify(&place.options());
    damage(&place.ledger());
    let nothing = RepositoryVerifyOptions {
        read: VerifyOptions { percent: 0.0, ..VerifyOptions::default() },
        ..place.options()
    };
    let result = place.verify(&nothing);
    assert_eq!(result.coverage.never_bytes, result.coverage.bytes);
    assert_eq!(place.verify(&place.options()).coverage.never_bytes, 0);
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).expect("ledger");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("written");
}
