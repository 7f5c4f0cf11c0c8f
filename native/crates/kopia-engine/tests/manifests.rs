//! Manifests are put, found, replaced, deleted and compacted as Kopia does it.

mod support;

use kopia_engine::ErrorKind;
use kopia_engine::blob::Storage;
use kopia_engine::manifest::Labels;
use kopia_engine::repository::{OpenOptions, Repository};
use kopia_format::ManifestId;
use std::sync::Arc;
use support::{PASSWORD, create_in, create_options, memory_repository, open};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn found(repository: &Repository, wanted: &[(&str, &str)]) -> Vec<ManifestId> {
    let found = repository.manifests().find(&labels(wanted)).expect("found");
    found.into_iter().map(|metadata| metadata.id).collect()
}

fn manifest_contents(storage: &Arc<dyn Storage>) -> usize {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let repository = Repository::open(Arc::clone(storage), PASSWORD, options).expect("opened");
    let mut count = 0;
    repository
        .contents()
        .for_each_prefixed(b'm', false, &mut |_| {
            count += 1;
            Ok(())
        })
        .expect("listed");
    count
}

#[test]
fn manifests_are_pending_until_the_repository_is_flushed() {
    let (storage, repository) = memory_repository();
    let id = repository.manifests().put(labels(&[("type", "t"), ("a", "1")]), br#"{"x": 1}"#).expect("put");
    assert_eq!(found(&repository, &[("a", "1")]), std::slice::from_ref(&id));
    assert_eq!(found(&open(&storage), &[("a", "1")]), []);
    repository.flush().expect("flushed");
    let (metadata, data) = open(&storage).manifests().get(&id).expect("manifest");
    assert_eq!(metadata.labels, labels(&[("type", "t"), ("a", "1")]));
    let data: serde_json::Value = serde_json::from_str(data.get()).expect("JSON");
    assert_eq!(data, serde_json::json!({"x": 1}));
}

#[test]
fn all_labels_must_match_and_the_oldest_comes_first() {
    let (_, repository) = memory_repository();
    let put = |pairs: &[(&str, &str)]| repository.manifests().put(labels(pairs), b"{}").expect("put");
    let first = put(&[("type", "t"), ("a", "1")]);
    let second = put(&[("type", "t"), ("a", "1"), ("b", "2")]);
    put(&[("type", "t"), ("a", "2")]);
    assert_eq!(found(&repository, &[("type", "t"), ("a", "1")]), [first, second.clone()]);
    assert_eq!(found(&repository, &[("type", "t"), ("b", "2"), ("a", "1")]), [second]);
    assert_eq!(found(&repository, &[("type", "none")]), []);
}

#[test]
fn a_deleted_manifest_stays_deleted_for_everybody() {
    let (storage, repository) = memory_repository();
    let id = repository.manifests().put(labels(&[("type", "t")]), b"[1]").expect("put");
    repository.flush().expect("flushed");
    let other = open(&storage);
    other.manifests().delete(&id).expect("deleted");
    assert_eq!(other.manifests().delete(&id).expect_err("gone").kind, ErrorKind::ManifestNotFound);
    other.flush().expect("flushed");
    assert!(repository.manifests().get(&id).is_ok(), "not read again yet");
    repository.refresh().expect("refreshed");
    assert_eq!(repository.manifests().get(&id).expect_err("gone").kind, ErrorKind::ManifestNotFound);
    assert_eq!(found(&open(&storage), &[("type", "t")]), []);
}

#[test]
fn replace_leaves_exactly_one() {
    let (storage, repository) = memory_repository();
    let wanted = [("type", "policy"), ("policyType", "host")];
    for number in 0..5 {
        repository.manifests().replace(labels(&wanted), format!("[{number}]").as_bytes()).expect("replaced");
    }
    repository.flush().expect("flushed");
    let reader = open(&storage);
    let [id] = found(&reader, &wanted).try_into().expect("one");
    assert_eq!(reader.manifests().get(&id).expect("manifest").1.get(), "[4]");
}

#[test]
fn sixteen_manifest_contents_are_joined_by_the_next_writer_and_by_no_reader() {
    let (storage, repository) = memory_repository();
    // Read while there is one: so this writer has no reason to join them later.
    assert_eq!(found(&repository, &[]).len(), 2);
    let mut ids = Vec::new();
    for number in 0..20 {
        let payload = format!("[{number}]");
        ids.push(repository.manifests().put(labels(&[("type", "t")]), payload.as_bytes()).expect("put"));
        repository.flush().expect("flushed");
    }
    repository.manifests().delete(&ids[3]).expect("deleted");
    repository.flush().expect("flushed");
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let reader = Repository::open(Arc::clone(&storage), PASSWORD, options).expect("opened");
    assert_eq!(found(&reader, &[("type", "t")]).len(), 19);
    assert_eq!(manifest_contents(&storage), 22);
    let writer = open(&storage);
    assert_eq!(found(&writer, &[("type", "t")]).len(), 19);
    assert_eq!(manifest_contents(&storage), 1);
    assert_eq!(found(&open(&storage), &[("type", "t")]), found(&writer, &[("type", "t")]));
    reader.refresh().expect("refreshed");
    assert_eq!(found(&reader, &[("type", "t")]).len(), 19);
}

#[test]
fn payloads_must_be_json_and_labels_must_have_a_type() {
    let (_, repository) = memory_repository();
    let put = |pairs: &[(&str, &str)], payload: &[u8]| repository.manifests().put(labels(pairs), payload);
    assert_eq!(put(&[("a", "1")], b"{}").expect_err("no type").kind, ErrorKind::InvalidArgument);
    assert_eq!(put(&[("type", "t")], b"{").expect_err("not JSON").kind, ErrorKind::InvalidArgument);
}

#[test]
fn a_new_repository_has_the_manifests_that_kopia_writes() {
    let (_, repository) = memory_repository();
    let [policy] =
        found(&repository, &[("type", "policy"), ("policyType", "global")]).try_into().expect("one");
    assert_eq!(
        repository.manifests().get(&policy).expect("manifest").1.get().len(),
        683,
        "as kopia writes it"
    );
    let [maintenance] = found(&repository, &[("type", "maintenance")]).try_into().expect("one");
    let data = repository.manifests().get(&maintenance).expect("manifest").1;
    let data: serde_json::Value = serde_json::from_str(data.get()).expect("JSON");
    assert_eq!(data["owner"], "tester@here");
    let storage: Arc<dyn Storage> = Arc::new(kopia_engine::blob::memory::MemoryStorage::new());
    let bare =
        kopia_engine::repository::CreateOptions { owner: None, global_policy: false, ..create_options() };
    create_in(&storage, &bare);
    assert_eq!(found(&open(&storage), &[]), []);
}
