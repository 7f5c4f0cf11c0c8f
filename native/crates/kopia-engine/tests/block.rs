//! Devices: what is backed up in Velero's block layout comes back byte for byte, whatever was read of it.

#![allow(clippy::unwrap_used)] // all of it is test code

mod support;

use kopia_engine::ErrorKind;
use kopia_engine::block::{
    BlockBackupOptions, BlockBackupResult, BlockRestoreOptions, ChangedBlocks, PIECE_BYTES, backup, restore,
};
use kopia_engine::cancel::CancelToken;
use kopia_engine::content::WriteScratch;
use kopia_engine::progress::Progress;
use kopia_engine::repository::Repository;
use kopia_engine::{snapshots, tree};
use kopia_format::ManifestId;
use kopia_format::snapshot::SourceInfo;
use kopia_testing::data::splitmix;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::memory_repository;

const MIB: usize = PIECE_BYTES as usize;

struct Scene {
    repository: Arc<Repository>,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { repository: memory_repository().1, directory: tempfile::tempdir().unwrap() }
    }
    fn device(&self) -> PathBuf {
        self.directory.path().join("device")
    }
    /// Makes the device hold these bytes.
    fn hold(&self, bytes: &[u8]) {
        std::fs::write(self.device(), bytes).unwrap();
    }
    fn options(&self, parent: Option<&BlockBackupResult>) -> BlockBackupOptions {
        BlockBackupOptions {
            source: SourceInfo {
                host: "default".into(),
                user_name: "default".into(),
                path: "snapshot-data-upload-download/velero-block/app/data".into(),
            },
            description: "Block Uploader".into(),
            tags: BTreeMap::from([("snapshot-uploader".into(), "velero-block".into())]),
            pins: vec!["velero-pin".into()],
            parent: parent.map(|parent| parent.manifest.id.clone().unwrap()),
            reads_under_way: 3,
            memory_budget_bytes: 4 << 20,
            ..BlockBackupOptions::default()
        }
    }
    fn back_up(&self, options: &BlockBackupOptions) -> BlockBackupResult {
        backup(&self.repository, &self.device(), options, &Progress::default(), &CancelToken::new()).unwrap()
    }
    fn restored(&self, result: &BlockBackupResult) -> Vec<u8> {
        let path = self.directory.path().join("restored");
        let id = result.manifest.id.clone().unwrap();
        self.restore_to(&id, &path).unwrap();
        std::fs::read(path).unwrap()
    }
    fn restore_to(
        &self,
        id: &ManifestId,
        path: &Path,
    ) -> kopia_engine::Result<kopia_engine::block::BlockRestoreResult> {
        let options = BlockRestoreOptions { memory_budget_bytes: 3 << 20, ..BlockRestoreOptions::default() };
        restore(&self.repository, id, path, &options, &Progress::default(), &CancelToken::new())
    }
}

fn marked(device: &[u8], ranges: &[(i64, i64)]) -> Option<ChangedBlocks> {
    let mut blocks = ChangedBlocks::new(device.len() as u64).unwrap();
    ranges.iter().for_each(|(offset, length)| blocks.mark(*offset, *length).unwrap());
    Some(blocks)
}

fn device_object(result: &BlockBackupResult, repository: &Repository) -> String {
    let id = result.manifest.id.clone().unwrap();
    let name = "snapshot-data-upload-download-velero-block-app-data";
    let entry = tree::resolve(repository, &format!("{id}/{name}")).unwrap();
    entry.object.unwrap().to_string()
}

/// Pieces of noise, of zeroes, repeated ones, and a short one at the end.
fn sample() -> Vec<u8> {
    let mut device = splitmix(1, 3 * MIB);
    device.extend(vec![0; 2 * MIB]);
    device.extend(splitmix(2, MIB));
    device.extend(splitmix(2, MIB));
    device.extend(splitmix(3, 12_288));
    device
}

#[test]
fn a_device_comes_back_and_is_recorded_as_upstream_records_it() {
    let scene = Scene::new();
    let device = sample();
    scene.hold(&device);
    let result = scene.back_up(&scene.options(None));
    assert_eq!(scene.restored(&result), device);
    assert_eq!(result.device_bytes, device.len() as u64);
    assert_eq!(result.bytes_zero, 2 * PIECE_BYTES);
    assert_eq!(result.incremental_bytes, 5 * PIECE_BYTES + 12_288);
    assert_eq!(result.bytes_deduplicated, PIECE_BYTES, "the repeated piece is stored once");
    let saved = snapshots::load(&scene.repository, result.manifest.id.as_ref().unwrap()).unwrap();
    assert_eq!(saved.tags["bdev-source-size"], device.len().to_string());
    assert_eq!(saved.stats.total_file_size, 8 * PIECE_BYTES as i64);
    let root = saved.root_entry.unwrap();
    assert_eq!(root.summary.unwrap().total_file_size, 8 * PIECE_BYTES as i64);
    assert_eq!(root.modified.to_rfc3339(), "1754-08-30T22:43:41.128654848Z");
    assert!(device_object(&result, &scene.repository).starts_with("Ix"));
    // Once more, with other threads at other times: the same objects.
    let again =
        scene.back_up(&BlockBackupOptions { reads_under_way: 16, direct: false, ..scene.options(None) });
    assert_eq!(device_object(&again, &scene.repository), device_object(&result, &scene.repository));
    assert_eq!(again.bytes_uploaded, 0);
}

#[test]
fn without_tracking_only_what_differs_from_the_parent_is_incremental() {
    let scene = Scene::new();
    let mut device = sample();
    scene.hold(&device);
    let first = scene.back_up(&scene.options(None));
    device[MIB + 5] ^= 1;
    device[2 * MIB..3 * MIB].fill(0);
    scene.hold(&device);
    let second = scene.back_up(&scene.options(Some(&first)));
    assert_eq!(second.parent, first.manifest.id);
    assert_eq!(second.incremental_bytes, 2 * PIECE_BYTES);
    assert!((PIECE_BYTES..2 * PIECE_BYTES).contains(&second.bytes_uploaded), "{second:?}");
    assert_eq!(scene.restored(&second), device);
    let full = scene.back_up(&scene.options(None));
    assert_eq!(device_object(&full, &scene.repository), device_object(&second, &scene.repository));
}

#[test]
fn with_tracking_only_marked_pieces_and_the_short_one_are_read() {
    let scene = Scene::new();
    let mut device = sample();
    scene.hold(&device);
    let first = scene.back_up(&scene.options(None));
    device[MIB + 5] ^= 1;
    let expected = device.clone();
    device[5 * MIB] ^= 1; // not told: a driver's promise is relied on
    scene.hold(&device);
    let changed = marked(&device, &[(MIB as i64 + 5, 1)]);
    let second = scene.back_up(&BlockBackupOptions { changed, ..scene.options(Some(&first)) });
    assert_eq!(second.bytes_read, PIECE_BYTES + 12_288);
    assert_eq!(second.bytes_unread, 6 * PIECE_BYTES);
    assert_eq!(second.incremental_bytes, PIECE_BYTES);
    assert_eq!(scene.restored(&second), expected);
    // Nothing changed: the same object, and nothing stored.
    let changed = marked(&device, &[]);
    let third = scene.back_up(&BlockBackupOptions { changed, ..scene.options(Some(&second)) });
    assert_eq!(device_object(&third, &scene.repository), device_object(&second, &scene.repository));
    assert_eq!((third.bytes_uploaded, third.incremental_bytes), (0, 0));
}

#[test]
fn what_is_not_allocated_is_zero_without_a_parent() {
    let scene = Scene::new();
    let device = sample();
    scene.hold(&device);
    let changed = marked(&device, &[(0, 1), (7 * MIB as i64, 1)]);
    let result = scene.back_up(&BlockBackupOptions { changed, ..scene.options(None) });
    let mut expected = vec![0; device.len()];
    expected[..MIB].copy_from_slice(&device[..MIB]);
    expected[7 * MIB..].copy_from_slice(&device[7 * MIB..]);
    assert_eq!(scene.restored(&result), expected);
    assert_eq!(result.bytes_read, PIECE_BYTES + 12_288);
}

#[test]
fn a_device_that_grew_is_read_from_where_the_parent_was_not_whole() {
    let scene = Scene::new();
    let mut device = sample();
    scene.hold(&device);
    let first = scene.back_up(&scene.options(None));
    device.extend(splitmix(9, 2 * MIB + 4096));
    scene.hold(&device);
    let grown =
        scene.back_up(&BlockBackupOptions { changed: marked(&device, &[]), ..scene.options(Some(&first)) });
    assert_eq!(scene.restored(&grown), device);
    device.truncate(4 * MIB + 512);
    scene.hold(&device);
    let shrunk =
        scene.back_up(&BlockBackupOptions { changed: marked(&device, &[]), ..scene.options(Some(&grown)) });
    assert_eq!(scene.restored(&shrunk), device);
    assert_eq!(shrunk.bytes_read, 512);
}

#[test]
fn a_lost_piece_of_the_parent_is_read_again_and_an_unusable_parent_is_told() {
    let scene = Scene::new();
    let device = sample();
    scene.hold(&device);
    let first = scene.back_up(&scene.options(None));
    let lost = kopia_format::ContentId::new(None, scene.repository.contents().hasher().hash(&device[..MIB]))
        .unwrap();
    scene.repository.contents().delete(&lost).unwrap();
    scene.repository.flush().unwrap();
    let options = BlockBackupOptions { changed: marked(&device, &[]), ..scene.options(Some(&first)) };
    let second = scene.back_up(&options);
    assert_eq!((second.lost_pieces, second.bytes_read), (1, PIECE_BYTES + 12_288));
    assert!(scene.repository.contents().contains_live(&lost).unwrap());
    assert_eq!(scene.restored(&second), device);
    // A parent of another kind, or gone: everything is read, and the result says why.
    let parent = Some(ManifestId::new("00112233445566778899aabbccddeeff"));
    let full = scene.back_up(&BlockBackupOptions { parent, ..options });
    assert!(full.parent_refused.contains("00112233445566778899aabbccddeeff"), "{full:?}");
    assert_eq!((&full.parent, full.bytes_read), (&None, device.len() as u64));
    assert_eq!(scene.restored(&full), device);
}

#[test]
fn a_canceled_backup_saves_nothing_and_spares_the_next_its_work() {
    let scene = Scene::new();
    scene.hold(&splitmix(4, 40 * MIB));
    let (progress, cancel) = (Progress::default(), CancelToken::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while progress.read().bytes_hashed < 4 * PIECE_BYTES {
                std::thread::yield_now();
            }
            cancel.cancel();
        });
        let ended = backup(&scene.repository, &scene.device(), &scene.options(None), &progress, &cancel);
        match ended {
            Err(error) => assert_eq!(error.kind, ErrorKind::Canceled),
            Ok(_) => panic!("40 MiB were through before the cancel was seen"),
        }
    });
    assert!(snapshots::list(&scene.repository, None, &BTreeMap::new()).unwrap().is_empty());
    let result = scene.back_up(&scene.options(None));
    assert!(result.bytes_deduplicated >= 4 * PIECE_BYTES, "{result:?}");
}

#[test]
fn a_list_of_two_levels_comes_back_sparse() {
    let scene = Scene::new();
    let image = std::fs::File::create(scene.device()).unwrap();
    image.set_len(2200 << 20).unwrap();
    image.write_all_at(&splitmix(5, MIB), 1500 << 20).unwrap();
    let result = scene.back_up(&scene.options(None));
    assert!(device_object(&result, &scene.repository).starts_with("IIx"));
    assert_eq!(result.bytes_read, PIECE_BYTES, "holes are not read");
    let path = scene.directory.path().join("restored");
    let id = result.manifest.id.clone().unwrap();
    let restored = scene.restore_to(&id, &path).unwrap();
    assert_eq!(restored.bytes_written, PIECE_BYTES);
    assert_eq!(restored.bytes_written + restored.bytes_deallocated, 2200 << 20);
    let found = std::fs::File::open(&path).unwrap();
    assert_eq!(found.metadata().unwrap().len(), 2200 << 20);
    assert!(found.metadata().unwrap().blocks() * 512 < 4 << 20, "sparse");
    let mut piece = vec![0; MIB];
    found.read_exact_at(&mut piece, 1500 << 20).unwrap();
    assert_eq!(piece, splitmix(5, MIB));
}

#[test]
fn a_restore_that_cannot_be_right_touches_nothing() {
    let scene = Scene::new();
    let device = sample();
    scene.hold(&device);
    let result = scene.back_up(&scene.options(None));
    let target = scene.directory.path().join("target");
    let refused = |tag: &str| {
        let mut manifest = result.manifest.clone();
        manifest.tags.insert("bdev-source-size".into(), tag.into());
        let id = snapshots::save(&scene.repository, &manifest).unwrap();
        std::fs::write(&target, b"precious").unwrap();
        let error = scene.restore_to(&id, &target).expect_err(tag);
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        error.kind
    };
    for wrong in ["99999999999", "-1", "ten"] {
        assert_eq!(refused(wrong), ErrorKind::Corrupted);
    }
    // A directory with more than one entry is of no device.
    let mut manifest = result.manifest.clone();
    let json = br#"{"stream":"kopia:directory","entries":[],"summary":null}"#.to_vec();
    let scratch = &mut WriteScratch::default();
    let none = kopia_format::compression::CompressorId::NONE;
    let empty = scene.repository.contents().write(Some(b'k'), json, none, scratch).unwrap();
    manifest.root_entry.as_mut().unwrap().object = Some(kopia_format::ObjectId::direct(empty));
    let id = snapshots::save(&scene.repository, &manifest).unwrap();
    assert_eq!(scene.restore_to(&id, &target).unwrap_err().kind, ErrorKind::InvalidArgument);
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
}
