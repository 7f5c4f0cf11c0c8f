//! What every storage promises, as one suite.
//!
//! Runs against every provider and every stack of layers. It needs a storage without blobs whose
//! names begin with `t` or are one of the three mutable ones, and leaves it empty of them.

use crate::data::splitmix;
use kopia_engine::ErrorKind;
use kopia_engine::blob::{BlobMetadata, PutOptions, Storage};
use kopia_format::BlobId;
use std::collections::BTreeSet;

/// Number of blobs in the listing test.
pub const LISTED_BLOB_COUNT: usize = 10_000;
const THREAD_COUNT: usize = 8;
const MUTABLE_BLOBS: [&str; 3] = ["kopia.repository", "kopia.blobcfg", "kopia.maintenance"];

/// Checks every promise of [`Storage`].
///
/// # Panics
/// With what was promised and what was found.
pub fn verify_storage(storage: &dyn Storage) {
    verify_storage_with(storage, LISTED_BLOB_COUNT);
}

/// As [`verify_storage`], with another number of blobs in the listing: stand-ins can be slow.
///
/// # Panics
/// With what was promised and what was found.
pub fn verify_storage_with(storage: &dyn Storage, listed_blob_count: usize) {
    verify_put_and_get(storage);
    verify_ranges(storage);
    verify_missing_blob(storage);
    verify_mutable_blobs(storage);
    verify_writer(storage);
    verify_do_not_replace(storage);
    verify_prefixes(storage);
    verify_timestamps(storage);
    verify_concurrent_puts(storage);
    verify_large_listing(storage, listed_blob_count);
    storage.sync().expect("sync");
}

/// The names that begin with `prefix`, sorted; fails if one comes twice.
///
/// # Panics
/// If the listing fails.
pub fn names(storage: &dyn Storage, prefix: &str) -> BTreeSet<String> {
    listed(storage, prefix).into_iter().map(|blob| blob.id.to_string()).collect()
}

fn listed(storage: &dyn Storage, prefix: &str) -> Vec<BlobMetadata> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    storage
        .list(prefix, &mut |blob| {
            assert!(seen.insert(blob.id.clone()), "{} listed twice", blob.id);
            found.push(blob);
            Ok(())
        })
        .expect("list");
    found
}

fn put(storage: &dyn Storage, id: &BlobId, bytes: &[u8]) {
    storage.put(id, &[bytes], &PutOptions::default()).expect("put");
}

fn get(storage: &dyn Storage, id: &BlobId) -> Vec<u8> {
    let mut out = b"left over".to_vec();
    storage.get(id, &mut out).expect("get");
    out
}

fn delete(storage: &dyn Storage, id: &BlobId) {
    storage.delete(id).expect("delete");
}

fn long_name(number: usize) -> BlobId {
    // Like a pack's: long enough to be sharded, and spread over the first characters.
    let spread = (number * 2_654_435_761) % (1 << 32);
    BlobId::new(format!("t{spread:08x}{number:024x}-s0123456789abcdef147"))
}

fn verify_put_and_get(storage: &dyn Storage) {
    for (number, length) in [0, 1, 65_537, 3 << 20].into_iter().enumerate() {
        let (id, bytes) = (long_name(number), splitmix(number as u64, length));
        let (head, tail) = bytes.split_at(length / 3);
        storage.put(&id, &[head, b"", tail], &PutOptions::default()).expect("put");
        assert_eq!(get(storage, &id), bytes, "get gives what was put, {length} bytes");
        assert_eq!(storage.metadata(&id).expect("metadata").length, length as u64);
        assert!(names(storage, "t").contains(id.as_str()), "a put blob is listed");
        put(storage, &id, b"other");
        assert_eq!(get(storage, &id), b"other", "put replaces");
        delete(storage, &id);
        assert!(!names(storage, "t").contains(id.as_str()), "a deleted blob is not listed");
    }
}

fn verify_ranges(storage: &dyn Storage) {
    let (id, bytes) = (long_name(10), splitmix(10, 100_000));
    put(storage, &id, &bytes);
    let mut out = vec![7; 200_000];
    for (offset, length) in [(0, 100_000), (0, 1), (99_999, 1), (1234, 50_000), (5, 0), (100_000, 0)] {
        storage.get_range(&id, offset as u64, length as u64, &mut out).expect("get_range");
        assert_eq!(out, bytes[offset..offset + length], "exactly {length} bytes from {offset}");
    }
    for (offset, length) in [(0, 100_001), (99_999, 2), (100_001, 1), (u64::MAX, 2), (1, u64::MAX)] {
        let error = storage.get_range(&id, offset, length, &mut out).expect_err("outside");
        assert_eq!(error.kind, ErrorKind::InvalidRange, "{length} from {offset}: {error}");
    }
    delete(storage, &id);
}

fn verify_missing_blob(storage: &dyn Storage) {
    for id in [BlobId::new("tmissing"), long_name(20)] {
        let mut out = Vec::new();
        for result in [
            storage.get(&id, &mut out),
            storage.get_range(&id, 0, 1, &mut out),
            storage.metadata(&id).map(drop),
        ] {
            let error = result.expect_err("missing");
            assert_eq!(error.kind, ErrorKind::BlobNotFound, "{error}");
            assert!(!error.temporary && error.to_string().contains(id.as_str()), "{error}");
        }
        storage.delete(&id).expect("deleting a missing blob succeeds");
    }
}

fn verify_mutable_blobs(storage: &dyn Storage) {
    for name in MUTABLE_BLOBS {
        let id = BlobId::new(name);
        for round in 0..3 {
            let bytes = splitmix(round, 3000 - 1000 * round as usize);
            put(storage, &id, &bytes);
            assert_eq!(get(storage, &id), bytes, "{name} is replaced whole, also by a shorter one");
        }
        assert!(names(storage, "kopia.").contains(name));
        delete(storage, &id);
    }
}

fn verify_writer(storage: &dyn Storage) {
    let (id, bytes) = (long_name(30), splitmix(30, 9_700_000));
    let visible = || names(storage, "t").contains(id.as_str()) || storage.metadata(&id).is_ok();
    let mut writer = storage.create(&id, &PutOptions::default()).expect("create");
    for piece in [&bytes[..10], &bytes[10..5_000_000], &bytes[5_000_000..5_000_100]] {
        writer.write(piece).expect("write");
        assert!(!visible(), "a blob is invisible before finish");
    }
    bytes[5_000_100..].chunks(70_001).for_each(|piece| writer.write(piece).expect("write"));
    assert!(!visible(), "a blob is invisible before finish");
    writer.finish().expect("finish");
    assert_eq!(get(storage, &id), bytes, "finish shows the whole blob");

    let mut writer = storage.create(&id, &PutOptions::default()).expect("create over an existing blob");
    writer.write(b"given up").expect("write");
    drop(writer);
    assert_eq!(get(storage, &id), bytes, "a dropped writer changes nothing");
    delete(storage, &id);

    let mut writer = storage.create(&id, &PutOptions::default()).expect("create");
    writer.write(&bytes).expect("write");
    drop(writer);
    assert!(!visible(), "a dropped writer leaves nothing visible");
    storage.create(&id, &PutOptions::default()).expect("create").finish().expect("finish");
    assert_eq!(get(storage, &id), b"", "a writer without pieces makes an empty blob");
    delete(storage, &id);
}

fn verify_do_not_replace(storage: &dyn Storage) {
    let id = BlobId::new("tonce");
    let options = PutOptions { do_not_replace: true, ..PutOptions::default() };
    storage.put(&id, &[b"first"], &options).expect("the first put");
    let error = storage.put(&id, &[b"second"], &options).expect_err("the second put");
    assert_eq!(error.kind, ErrorKind::AlreadyExists, "{error}");
    assert_eq!(get(storage, &id), b"first");
    delete(storage, &id);
}

fn verify_prefixes(storage: &dyn Storage) {
    let all = ["txn0_aa", "txn0_aabbccddeeff00112233-s1-c1", "txn1_aabbccddeeff00112233-s1-c1", "txs0", "ty"];
    for name in all {
        put(storage, &BlobId::new(name), name.as_bytes());
    }
    for prefix in
        ["t", "tx", "txn", "txn0", "txn0_", "txn0_aab", "txn1_aabbccddeeff0011223", "txs0", "txs01", "tz"]
    {
        let expected: BTreeSet<_> =
            all.iter().filter(|name| name.starts_with(prefix)).map(ToString::to_string).collect();
        assert_eq!(names(storage, prefix), expected, "list({prefix:?})");
    }
    for blob in listed(storage, "t") {
        assert_eq!(blob.length, blob.id.as_str().len() as u64, "a listing knows lengths");
    }
    let mut calls = 0;
    let stop = || Err(kopia_engine::Error::new(ErrorKind::Canceled, "enough"));
    let result = storage.list("t", &mut |_| {
        calls += 1;
        stop()
    });
    assert_eq!(result.expect_err("the callback's error comes back").kind, ErrorKind::Canceled);
    assert_eq!(calls, 1, "the listing ends at the callback's error");
    // A caller may delete what it is shown.
    storage.list("t", &mut |blob| storage.delete(&blob.id)).expect("list and delete");
    assert_eq!(names(storage, "t"), BTreeSet::new());
}

fn verify_timestamps(storage: &dyn Storage) {
    let (first, second) = (BlobId::new("tfirst"), long_name(40));
    put(storage, &first, b"1");
    put(storage, &second, b"2");
    let (one, two) = (storage.metadata(&first).expect("first"), storage.metadata(&second).expect("second"));
    // Servers may step back by minutes, never more.
    assert!(two.timestamp.seconds >= one.timestamp.seconds - 300, "{one:?} {two:?}");
    assert!(one.timestamp.nanoseconds < 1_000_000_000);
    assert!(listed(storage, "tfirst").contains(&one), "a listing says the same as metadata");
    assert_eq!(one, storage.metadata(&first).expect("again"), "a time does not change by itself");
    delete(storage, &first);
    delete(storage, &second);
}

fn verify_concurrent_puts(storage: &dyn Storage) {
    let id = long_name(50);
    put(storage, &id, &splitmix(0, 100_000));
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let id = &id;
            scope.spawn(move || (0..10).for_each(|_| put(storage, id, &splitmix(seed, 100_000))));
        }
        for _ in 0..40 {
            let seen = get(storage, &id);
            assert!((0..4).any(|seed| seen == splitmix(seed, 100_000)), "a partial blob was visible");
        }
    });
    delete(storage, &id);
}

fn verify_large_listing(storage: &dyn Storage, count: usize) {
    let ids: BTreeSet<_> = (0..count).map(|number| long_name(1000 + number)).collect();
    on_many_threads(&ids, |id| put(storage, id, b"x"));
    let found: BTreeSet<_> = listed(storage, "t").into_iter().map(|blob| blob.id).collect();
    assert!(found == ids, "{} of {count} blobs were listed", found.len());
    on_many_threads(&ids, |id| delete(storage, id));
    assert_eq!(names(storage, "t"), BTreeSet::new());
}

/// A server answers many requests at once sooner than one after another.
fn on_many_threads(ids: &BTreeSet<BlobId>, work: impl Fn(&BlobId) + Sync) {
    let ids: Vec<_> = ids.iter().collect();
    std::thread::scope(|scope| {
        for part in ids.chunks(ids.len().div_ceil(THREAD_COUNT).max(1)) {
            let work = &work;
            scope.spawn(move || part.iter().for_each(|id| work(id)));
        }
    });
}
