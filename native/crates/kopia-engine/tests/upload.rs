//! Uploads into a repository in memory: what is unchanged, canceled, checkpointed, huge or odd.

mod support;

use kopia_engine::blob::Storage;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::cancel::CancelToken;
use kopia_engine::manifest::Labels;
use kopia_engine::object::ObjectReader;
use kopia_engine::progress::Progress;
use kopia_engine::repository::{CreateOptions, Repository};
use kopia_engine::snapshots;
use kopia_engine::source::Source;
use kopia_engine::upload::{Parents, UploadOptions, UploadResult, upload};
use kopia_format::ObjectId;
use kopia_format::snapshot::{Directory, DirectoryEntry, EntryType};
use kopia_testing::data::splitmix;
use kopia_testing::tree::{TreeSpec, generate_tree};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::{create_in, create_options, memory_repository, open};
use tempfile::TempDir;

fn run(repository: &Repository, source: &Path, options: &UploadOptions) -> UploadResult {
    let source = Source::Path(source.to_owned());
    upload(repository, source, options, &Progress::default(), &CancelToken::new()).expect("uploaded")
}

fn root_of(result: &UploadResult) -> ObjectId {
    result.manifest.root_entry.as_ref().and_then(|entry| entry.object).expect("object")
}

fn read(repository: &Repository, object: ObjectId) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reader = ObjectReader::open(repository.contents(), object).expect("opened");
    reader.read_to_end(&mut bytes).expect("read");
    bytes
}

/// All entries below a directory by path.
fn tree(repository: &Repository, root: ObjectId) -> BTreeMap<Vec<u8>, DirectoryEntry> {
    let mut all = BTreeMap::new();
    let mut left = vec![(Vec::new(), root)];
    while let Some((path, object)) = left.pop() {
        for entry in Directory::decode(&read(repository, object)).expect("directory").entries {
            let path = [path.as_slice(), b"/", &entry.name].concat();
            if entry.entry_type == EntryType::Directory {
                left.push((path.clone(), entry.object.expect("object")));
            }
            all.insert(path, entry);
        }
    }
    all
}

fn sample_tree() -> TempDir {
    let directory = TempDir::new().expect("temporary directory");
    generate_tree(directory.path(), &TreeSpec { entry_count: 400, ..TreeSpec::default() });
    directory
}

#[test]
fn every_file_is_recorded_with_its_bytes_by_any_number_of_workers() {
    let source = sample_tree();
    let mut roots = Vec::new();
    let (_, repository) = memory_repository();
    for parallelism in [1, 2, 7] {
        let options = UploadOptions {
            parallelism: Some(parallelism),
            parents: Parents::None,
            ..UploadOptions::default()
        };
        roots.push(root_of(&run(&repository, source.path(), &options)));
    }
    roots.dedup();
    assert_eq!(roots.len(), 1, "{roots:?}");
    for (path, entry) in tree(&repository, roots[0]) {
        let path = source.path().join(std::str::from_utf8(&path[1..]).expect("UTF-8"));
        let object = entry.object.expect("object");
        match entry.entry_type {
            EntryType::File => assert_eq!(read(&repository, object), std::fs::read(&path).expect("readable")),
            EntryType::Symlink => {
                let target = std::fs::read_link(&path).expect("link");
                assert_eq!(read(&repository, object), target.as_os_str().as_encoded_bytes());
            }
            _ => assert!(path.is_dir()),
        }
    }
}

#[test]
fn unchanged_files_are_not_read_and_changed_ones_are() {
    let source = sample_tree();
    let (_, repository) = memory_repository();
    let first = run(&repository, source.path(), &UploadOptions::default());
    let second = run(&repository, source.path(), &UploadOptions::default());
    assert_eq!(root_of(&first), root_of(&second));
    assert_eq!((second.incremental.bytes_read, second.incremental.bytes_uploaded), (0, 0));
    assert_eq!(second.parents, [first.manifest.id.clone().expect("saved")]);
    std::fs::write(source.path().join("new file"), b"twelve bytes").expect("written");
    let third = run(&repository, source.path(), &UploadOptions::default());
    assert_eq!(third.incremental.bytes_read, 12);
    assert_eq!(third.incremental.files_cached, second.incremental.files_cached);
    let options = UploadOptions { force_hash_percent: 100.0, ..UploadOptions::default() };
    let forced = run(&repository, source.path(), &options);
    assert_eq!((root_of(&forced), forced.incremental.files_cached), (root_of(&third), 0));
}

#[test]
fn a_directory_larger_than_a_chunk_is_written_and_merged_in_order() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create_in(&storage, &CreateOptions { splitter: "DYNAMIC-128K-BUZHASH".into(), ..create_options() });
    let repository = open(&storage);
    let source = TempDir::new().expect("temporary directory");
    for number in 0..6000 {
        let name = format!("a file with a rather long name, to fill chunks, number {number}");
        std::fs::write(source.path().join(name), number.to_string()).expect("written");
    }
    std::fs::create_dir(source.path().join("z directory")).expect("directory");
    let first =
        run(&repository, source.path(), &UploadOptions { parallelism: Some(3), ..UploadOptions::default() });
    assert!(root_of(&first).indirection > 0);
    let entries = Directory::decode(&read(&repository, root_of(&first))).expect("directory").entries;
    assert_eq!(entries.len(), 6001);
    let mut sorted = entries.clone();
    Directory::sort(&mut sorted);
    assert_eq!(sorted, entries);
    let second = run(&repository, source.path(), &UploadOptions::default());
    assert_eq!((second.incremental.files_cached, root_of(&second)), (6000, root_of(&first)));
}

#[test]
fn a_canceled_upload_is_saved_as_incomplete_and_gone_on_with() {
    let source = TempDir::new().expect("temporary directory");
    for number in 0..3000 {
        std::fs::write(source.path().join(number.to_string()), splitmix(number, 20_000)).expect("written");
    }
    std::fs::write(source.path().join("large"), splitmix(1, 30 << 20)).expect("written");
    let (_, repository) = memory_repository();
    let (progress, cancel) = (Progress::default(), CancelToken::new());
    let options = UploadOptions { parallelism: Some(2), ..UploadOptions::default() };
    let canceled = std::thread::scope(|scope| {
        let upload = scope.spawn(|| {
            upload(&repository, Source::Path(source.path().into()), &options, &progress, &cancel)
                .expect("saved")
        });
        while progress.bytes_read.load(Ordering::Relaxed) < 10_000_000 {
            std::thread::yield_now();
        }
        cancel.cancel();
        upload.join().expect("no panic")
    });
    assert_eq!(canceled.manifest.incomplete_reason, "canceled");
    let kept = tree(&repository, root_of(&canceled)).len() as u64;
    assert!(kept > 100 && kept < 3001, "{kept}");
    let whole = run(&repository, source.path(), &options);
    assert_eq!((whole.manifest.incomplete_reason.as_str(), whole.incremental.files_cached), ("", kept));
    let again = run(
        &repository,
        source.path(),
        &UploadOptions { parents: Parents::None, ..UploadOptions::default() },
    );
    assert_eq!(root_of(&whole), root_of(&again));
}

#[test]
fn a_checkpoint_saves_finished_files_and_files_in_progress() {
    let (storage, repository) = memory_repository();
    let source = TempDir::new().expect("temporary directory");
    for directory in 0..40 {
        let directory = source.path().join(directory.to_string());
        std::fs::create_dir(&directory).expect("directory");
        for number in 0..100u64 {
            std::fs::write(directory.join(number.to_string()), splitmix(number, 9000)).expect("written");
        }
    }
    std::fs::write(source.path().join("large"), splitmix(1, 60 << 20)).expect("written");
    let options = UploadOptions {
        checkpoint_interval: Duration::from_millis(20),
        save_manifest: false,
        ..UploadOptions::default()
    };
    let whole = run(&repository, source.path(), &options);
    repository.flush().expect("flushed");
    let repository = open(&storage);
    let saved = snapshots::list(&repository, None, &Labels::new()).expect("listed");
    assert!(!saved.is_empty(), "no checkpoint was saved");
    let last = saved.last().expect("one");
    assert_eq!(last.incomplete_reason, "checkpoint");
    let root = last.root_entry.as_ref().expect("root");
    assert_eq!(root.summary.as_ref().expect("summary").incomplete_reason, "checkpoint");
    let entries = tree(&repository, root.object.expect("object"));
    for (path, entry) in &entries {
        if entry.entry_type == EntryType::File {
            let data = read(&repository, entry.object.expect("object"));
            let original =
                path[1..].strip_prefix(b".checkpointed.large.".as_slice()).map_or(&path[1..], |_| b"large");
            let original = std::fs::read(source.path().join(std::str::from_utf8(original).expect("UTF-8")))
                .expect("read");
            assert!(original.starts_with(&data) && entry.size as usize == original.len());
        }
    }
    let second = run(&repository, source.path(), &UploadOptions::default());
    assert_eq!(root_of(&second), root_of(&whole));
    assert!(second.incremental.files_cached > 0);
}

#[test]
fn failing_roots_fail_and_odd_entries_are_left_out() {
    let (_, repository) = memory_repository();
    let source = sample_tree();
    let missing = Source::Path(source.path().join("missing"));
    let options = UploadOptions::default();
    let error = upload(&repository, missing, &options, &Progress::default(), &CancelToken::new())
        .expect_err("missing");
    assert!(error.to_string().contains("no such file"), "{error}");
    let fifo = source.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .expect("FIFO");
    let result = run(&repository, source.path(), &options);
    assert!(
        result.errors.is_empty() && !tree(&repository, root_of(&result)).contains_key(b"/fifo".as_slice())
    );
    let cache = source.path().join("cache");
    std::fs::create_dir(&cache).expect("directory");
    std::fs::write(cache.join("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n")
        .expect("written");
    let tree = tree(&repository, root_of(&run(&repository, source.path(), &options)));
    assert!(tree.contains_key(b"/cache".as_slice()) && !tree.contains_key(b"/cache/CACHEDIR.TAG".as_slice()));
}

#[test]
fn summaries_name_ten_failed_entries_and_count_all() {
    let (_, repository) = memory_repository();
    let source = TempDir::new().expect("temporary directory");
    for directory in ["a", "b"] {
        let directory = source.path().join(directory);
        std::fs::create_dir(&directory).expect("directory");
        for number in 0..25 {
            // No document of an entry: each is one that cannot be read.
            std::fs::write(directory.join(format!("{number:02}.kopia-entry")), "{").expect("written");
        }
    }
    let result = run(&repository, source.path(), &UploadOptions::default());
    let summary = result.manifest.root_entry.as_ref().and_then(|root| root.summary.clone()).expect("summary");
    assert_eq!((summary.fatal_error_count, result.errors.len()), (50, 50));
    let named: Vec<_> = summary.failed_entries.iter().map(|one| one.path.clone()).collect();
    let first: Vec<_> = (0..10).map(|number| format!("a/{number:02}").into_bytes()).collect();
    assert_eq!(named, first);
    for entry in tree(&repository, root_of(&result)).values() {
        let summary = entry.summary.as_ref().expect("summary");
        assert_eq!((summary.fatal_error_count, summary.failed_entries.len()), (25, 10));
    }
}

#[test]
fn a_compressor_that_cannot_be_written_with_is_none() {
    let (_, repository) = memory_repository();
    let labels = [("type", "policy"), ("policyType", "global")];
    let labels: Labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let policy =
        br#"{"compression":{"compressorName":"lz4"},"metadataCompression":{"compressorName":"lz4"}}"#;
    repository.manifests().replace(labels, policy).expect("set");
    let source = TempDir::new().expect("temporary directory");
    std::fs::write(source.path().join("file"), vec![b'a'; 100_000]).expect("written");
    let result = run(&repository, source.path(), &UploadOptions::default());
    assert!(result.errors.is_empty());
    let entries = tree(&repository, root_of(&result));
    let object = entries[b"/file".as_slice()].object.expect("object");
    assert_eq!(read(&repository, object), vec![b'a'; 100_000]);
    let info = repository.contents().info(&object.content).expect("read").expect("there");
    assert_eq!(info.compressor, kopia_format::compression::CompressorId::NONE);
}

#[test]
fn after_packs_were_lost_a_backup_that_reads_everything_stores_it_again() {
    let source = sample_tree();
    for force_hash_percent in [0.0, 100.0] {
        let (storage, repository) = memory_repository();
        run(&repository, source.path(), &UploadOptions::default());
        let lost = support::blobs(&storage, "p");
        assert!(!lost.is_empty());
        lost.iter().for_each(|pack| storage.delete(pack).expect("deleted"));
        let parents = if force_hash_percent > 0.0 { Parents::Automatic } else { Parents::None };
        let options = UploadOptions { parents, force_hash_percent, ..UploadOptions::default() };
        let repository = open(&storage);
        let result = run(&repository, source.path(), &options);
        assert_eq!(result.lost_pack_count, lost.len() as u64);
        let repository = open(&storage);
        for (path, entry) in tree(&repository, root_of(&result)) {
            if entry.entry_type == EntryType::File {
                let path = source.path().join(std::str::from_utf8(&path[1..]).expect("UTF-8"));
                let stored = read(&repository, entry.object.expect("object"));
                assert_eq!(stored, std::fs::read(&path).expect("readable"));
            }
        }
        let health = kopia_engine::maintenance::health(&repository).expect("looked at");
        assert!(
            health.complaints.iter().any(|one| one.contains("packs are gone")) == (health.lost_packs > 0)
        );
    }
}

#[test]
fn an_ignore_file_is_read_in_the_volume_only_and_its_text_is_not_told() {
    let (_, repository) = memory_repository();
    let outside = tempfile::tempdir().expect("directory");
    std::fs::write(outside.path().join("secret"), "hunter2-[\n*.log\n").expect("written");
    let source = tempfile::tempdir().expect("directory");
    let path = |name: &str| source.path().join(name);
    for name in ["within/below", "out", "up", "bad", "long"] {
        std::fs::create_dir_all(path(name)).expect("directory");
        std::fs::write(path(name).join("a.log"), "log").expect("written");
        std::fs::write(path(name).join("a.txt"), "text").expect("written");
    }
    std::fs::write(path("rules"), "*.log\n").expect("written");
    let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, path(name)).expect("link");
    link(Path::new("../../rules"), "within/below/.kopiaignore");
    link(&outside.path().join("secret"), "out/.kopiaignore");
    let name = outside.path().file_name().expect("name").to_owned();
    link(&Path::new("../..").join(name).join("secret"), "up/.kopiaignore");
    std::fs::write(path("bad/.kopiaignore"), "*.log\nhunter2-[\n").expect("written");
    std::fs::write(path("long/.kopiaignore"), "*.log\n".repeat(1 << 18)).expect("written");

    let result = run(&repository, source.path(), &UploadOptions::default());

    let failed: BTreeMap<_, _> =
        result.errors.iter().map(|error| (error.path.clone(), error.error.clone())).collect();
    assert_eq!(failed.len(), 4, "{failed:?}");
    assert!(failed.values().all(|error| !error.contains("hunter2")), "{failed:?}");
    let stored = tree(&repository, root_of(&result));
    assert!(
        stored.contains_key(&b"/within/below/a.txt"[..]) && !stored.contains_key(&b"/within/below/a.log"[..])
    );
}
