//! Object stores against a real server. `tests/objectstore` starts one and runs these; they need
//! `KOPIA_TEST_STORAGE`, the URL of an empty place in a bucket, and what it names. Tests that begin
//! with `s3_` are for S3 alone.
#![allow(clippy::unwrap_used)]

use kopia_engine::blob::connection::{Connection, ConnectionOptions};
use kopia_engine::blob::layers::retrying::RetryPolicy;
use kopia_engine::blob::layers::throttling::ThrottleLimits;
use kopia_engine::blob::url::ProviderConfig;
use kopia_engine::blob::{PutOptions, Storage};
use kopia_engine::cancel::CancelToken;
use kopia_engine::{ErrorKind, Result};
use kopia_format::BlobId;
use kopia_testing::conformance::{LISTED_BLOB_COUNT, verify_storage_with};
use std::num::NonZeroU64;
use std::sync::Arc;

fn url() -> String {
    std::env::var("KOPIA_TEST_STORAGE").unwrap()
}

fn open(url: &str) -> Result<Arc<dyn Storage>> {
    let retry = RetryPolicy { attempt_count_max: 1, ..RetryPolicy::default() };
    let options = ConnectionOptions { retry, ..ConnectionOptions::default() };
    Ok(Connection::open(&ProviderConfig::parse(url)?, &options, &CancelToken::new())?.storage)
}

fn put(storage: &dyn Storage, id: &str, bytes: &[u8]) -> Result<()> {
    storage.put(&BlobId::new(id), &[bytes], &PutOptions::default())
}

#[test]
#[ignore = "needs a server: tests/objectstore"]
fn a_served_storage_keeps_every_promise() {
    let storage = open(&url()).unwrap();
    let count =
        std::env::var("KOPIA_TEST_LISTED_COUNT").map_or(LISTED_BLOB_COUNT, |text| text.parse().unwrap());
    verify_storage_with(storage.as_ref(), count);
}

#[test]
#[ignore = "needs a server: tests/objectstore"]
fn under_a_limit_the_same_is_read_in_pieces() {
    let limits =
        ThrottleLimits { download_bytes_per_second: NonZeroU64::new(4_000_000), ..Default::default() };
    let options = ConnectionOptions { limits, ..ConnectionOptions::default() };
    let config = ProviderConfig::parse(&url()).unwrap();
    let connection = Connection::open(&config, &options, &CancelToken::new()).unwrap();
    let storage = connection.storage.as_ref();
    let data: Vec<u8> = (0..1_000_003_u32).map(|number| (number / 7) as u8).collect();
    put(storage, "plarge", &data).unwrap();
    put(storage, "pempty", b"").unwrap();
    let mut out = Vec::new();
    storage.get(&BlobId::new("plarge"), &mut out).unwrap();
    assert!(out == data);
    storage.get(&BlobId::new("pempty"), &mut out).unwrap();
    assert!(out.is_empty());
    storage.get_range(&BlobId::new("plarge"), 5, 999_998, &mut out).unwrap();
    assert!(out == data[5..]);
    for (offset, length) in [(0, 1_000_004), (999_999, 5), (2_000_000, 1), (1, u64::MAX)] {
        let error = storage.get_range(&BlobId::new("plarge"), offset, length, &mut out).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidRange, "{offset} {length}: {error}");
    }
    for limit in [None, NonZeroU64::new(2_000_000)] {
        connection.throttle.set_limits(ThrottleLimits { download_bytes_per_second: limit, ..limits });
        storage.get_range(&BlobId::new("plarge"), 500_000, 400_000, &mut out).unwrap();
        assert!(out == data[500_000..900_000]);
    }
}

#[test]
#[ignore = "needs a server: tests/objectstore"]
fn what_a_prefix_holds_besides_blobs_is_not_listed() {
    let url = url();
    let (location, query) = url.split_once('?').unwrap();
    let storage = open(&format!("{location}/mixed?{query}")).unwrap();
    put(storage.as_ref(), ".storageconfig", b"{}").unwrap();
    put(storage.as_ref(), "n1", b"1").unwrap();
    put(open(&format!("{location}/mixed/n2?{query}")).unwrap().as_ref(), "n3", b"below").unwrap();
    put(open(&format!("{location}/mixed-too?{query}")).unwrap().as_ref(), "n4", b"beside").unwrap();
    let mut found = Vec::new();
    storage
        .list("", &mut |blob| {
            found.push(blob.id.to_string());
            Ok(())
        })
        .unwrap();
    assert_eq!(found, ["n1"]);
}

#[test]
#[ignore = "needs a server: tests/objectstore"]
fn a_missing_bucket_is_permanent_and_says_so() {
    let url = url();
    let (location, query) = url.split_once('?').unwrap();
    let (scheme, _) = location.split_once("://").unwrap();
    let place = format!("{scheme}://no-such-bucket/p");
    let storage = open(&format!("{place}?{query}")).unwrap();
    let listed = storage.list("n", &mut |_| Ok(()));
    for error in [put(storage.as_ref(), "n1", b"1").unwrap_err(), listed.unwrap_err()] {
        assert!(error.kind == ErrorKind::Storage && !error.temporary, "{error}");
        assert!(
            error.to_string().contains("create the bucket") && error.to_string().contains(&place),
            "{error}"
        );
    }
}

#[test]
#[ignore = "needs a server: tests/objectstore"]
fn s3_wrong_keys_are_permanent_and_not_shown() {
    let url = url();
    let (_, query) = url.split_once('?').unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[default]\naws_access_key_id=NOBODY\naws_secret_access_key=sEcReT\n")
        .unwrap();
    let keys: Vec<_> = query.split('&').filter(|pair| !pair.starts_with("credentials-file=")).collect();
    let path = file.path().display();
    let storage = open(&format!("s3://test/p?{}&credentials-file={path}", keys.join("&"))).unwrap();
    let error = put(storage.as_ref(), "n1", b"1").unwrap_err();
    assert!(error.kind == ErrorKind::AccessDenied && !error.temporary, "{error}");
    assert!(!format!("{error:?}").contains("sEcReT"));
}

#[test]
#[ignore = "needs a server: tests/objectstore"]
fn s3_rewritten_credentials_are_used_by_the_next_request() {
    let url = url();
    let (location, query) = url.split_once('?').unwrap();
    let pairs = || form_urlencoded_pairs(query);
    let real = pairs().find(|(key, _)| key == "credentials-file").unwrap().1;
    let rest: Vec<_> = pairs().filter(|(key, _)| key != "credentials-file").collect();
    let rest: Vec<_> = rest.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(&real, file.path()).unwrap();
    let storage =
        open(&format!("{location}?{}&credentials-file={}", rest.join("&"), file.path().display())).unwrap();
    put(storage.as_ref(), "tfresh", b"1").unwrap();
    std::fs::write(file.path(), "[default]\naws_access_key_id=NOBODY\naws_secret_access_key=x\n").unwrap();
    assert_eq!(put(storage.as_ref(), "tfresh", b"2").unwrap_err().kind, ErrorKind::AccessDenied);
    std::fs::copy(&real, file.path()).unwrap();
    put(storage.as_ref(), "tfresh", b"3").unwrap();
    storage.delete(&BlobId::new("tfresh")).unwrap();
}

fn form_urlencoded_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into()))
}
