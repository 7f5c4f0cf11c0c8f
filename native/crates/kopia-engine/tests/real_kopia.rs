//! The real Kopia reads, verifies, extends and recovers what is written here.
//!
//! Needs the pinned binary, see `support::kopia`.

mod support;

use kopia_engine::content::WriteScratch;
use kopia_engine::manifest::Labels;
use kopia_engine::object::{self, ObjectWriter, ObjectWriterOptions};
use kopia_engine::repository::{CreateOptions, Repository};
use kopia_format::compression::CompressorId;
use kopia_testing::data::splitmix;
use std::collections::BTreeMap;
use support::kopia::RealKopia;
use support::{create_options, samples};

/// Kopia connected as another user.
fn connected(options: &CreateOptions) -> Option<RealKopia> {
    RealKopia::new(options, "tester", "here")
}

fn combinations() -> Vec<CreateOptions> {
    let (gcm, chacha) = ("AES256-GCM-HMAC-SHA256", "CHACHA20-POLY1305-HMAC-SHA256");
    let rows = [
        (1, "BLAKE2B-256-128", chacha, 0),
        (1, "HMAC-SHA3-224", gcm, 0),
        (2, "BLAKE2S-128", gcm, 5),
        (2, "HMAC-SHA224", chacha, 0),
        (3, "BLAKE3-256", chacha, 10),
        (3, "BLAKE2B-256-128", gcm, 0),
    ];
    rows.map(|(format_version, hash, encryption, ecc_overhead_percent)| CreateOptions {
        format_version,
        hash: hash.into(),
        encryption: encryption.into(),
        ecc_overhead_percent,
        ..create_options()
    })
    .into()
}

/// Writes contents of all kinds in three sessions, deletes one, leaves manifests.
fn write_everything(repository: &Repository) -> usize {
    let scratch = &mut WriteScratch::default();
    for (number, (prefix, data, compressor)) in samples().into_iter().enumerate() {
        let id = repository.contents().write(prefix, data, compressor, scratch).expect("written");
        if number % 20 == 19 {
            repository.flush().expect("flushed");
            repository.contents().delete(&id).expect("deleted");
        }
    }
    let labels: Labels = [("type".into(), "test".into()), ("number".into(), "1".into())].into();
    repository.manifests().put(labels, br#"{"hello":"world"}"#).expect("put");
    repository.flush().expect("flushed");
    let mut live = 0;
    repository
        .contents()
        .for_each(false, &mut |_| {
            live += 1;
            Ok(())
        })
        .expect("listed");
    live
}

fn listed_by_kopia(connected: &RealKopia) -> BTreeMap<String, String> {
    let lines = connected.run(&["content", "list", "--deleted", "--long"]);
    let line = |line: &str| line.split_once(' ').map(|(id, rest)| (id.to_owned(), rest.trim().to_owned()));
    lines.lines().filter_map(line).collect()
}

fn listed_here(repository: &Repository) -> Vec<String> {
    let mut ids = Vec::new();
    repository
        .contents()
        .for_each(true, &mut |info| {
            ids.push(info.id.to_string());
            Ok(())
        })
        .expect("listed");
    ids.sort();
    ids
}

#[test]
fn kopia_verifies_every_content_of_every_format() {
    for options in combinations() {
        let Some(connected) = connected(&options) else { return };
        let repository = connected.open();
        write_everything(&repository);
        connected.run(&["content", "verify", "--full"]);
        let by_kopia: Vec<_> = listed_by_kopia(&connected).into_keys().collect();
        assert_eq!(by_kopia, listed_here(&repository), "{options:?}");
        let manifests = connected.run(&["manifest", "list"]);
        assert!(manifests.contains("type:test") && manifests.contains("type:maintenance"), "{manifests}");
    }
}

#[test]
fn kopia_shows_objects_as_they_were_written() {
    for format_version in [1, 3] {
        let Some(connected) = connected(&CreateOptions { format_version, ..create_options() }) else {
            return;
        };
        let repository = connected.open();
        let text = "all the same words ".repeat(60_000);
        let compressor = CompressorId::ZSTD_FASTEST;
        let splitter =
            kopia_format::splitter::SplitterAlgorithm::parse("DYNAMIC-128K-BUZHASH").expect("splitter");
        let options = ObjectWriterOptions {
            prefix: None,
            splitter: Some(splitter),
            compressor,
            metadata_compressor: compressor,
        };
        let mut writer = ObjectWriter::new(repository.contents(), options);
        writer.write(text.as_bytes()).expect("written");
        let object = writer.finish().expect("finished");
        let joined =
            object::concatenate(repository.contents(), &[object, object], compressor).expect("joined");
        repository.flush().expect("flushed");
        assert_eq!(connected.run(&["show", &object.to_string()]), text);
        assert_eq!(connected.run(&["show", &joined.to_string()]), text.repeat(2));
    }
}

#[test]
fn kopia_recovers_the_indexes_from_the_packs() {
    for options in [combinations()[0].clone(), combinations()[2].clone(), create_options()] {
        let Some(connected) = connected(&options) else { return };
        let repository = connected.open();
        let scratch = &mut WriteScratch::default();
        for (prefix, data, compressor) in samples() {
            repository.contents().write(prefix, data, compressor, scratch).expect("written");
        }
        repository.flush().expect("flushed");
        let before = listed_here(&repository);
        for prefix in ["x", "n"] {
            for blob in support::blobs(repository.storage(), prefix) {
                repository.storage().delete(&blob).expect("deleted");
            }
        }
        assert_eq!(listed_here(&connected.open()), Vec::<String>::new());
        connected.run(&["index", "recover", "--commit", "--dangerous-commands=enabled"]);
        assert_eq!(listed_here(&connected.open()), before, "{options:?}");
        connected.run(&["content", "verify", "--full"]);
    }
}

#[test]
fn both_write_to_one_repository_and_see_each_other() {
    for format_version in [1, 2, 3] {
        let Some(connected) = connected(&CreateOptions { format_version, ..create_options() }) else {
            return;
        };
        let source = connected.beside("source");
        std::fs::create_dir(&source).expect("directory");
        std::fs::write(source.join("file"), splitmix(5, 300_000)).expect("file");
        let repository = connected.open();
        write_everything(&repository);
        connected.run(&["snapshot", "create", source.to_str().expect("UTF-8")]);
        let id =
            kopia_format::ContentId::new(None, repository.contents().hasher().hash(&splitmix(5, 300_000)));
        let id = id.expect("content ID");
        assert!(!repository.contents().contains_live(&id).expect("looked up"));
        repository.refresh().expect("refreshed");
        let mut bytes = Vec::new();
        repository.contents().read(&id, &mut bytes).expect("read");
        assert!(bytes == splitmix(5, 300_000));
        assert_eq!(
            repository.manifests().find(&[("type".into(), "snapshot".into())].into()).expect("found").len(),
            1
        );
        connected.run(&["maintenance", "run", "--full", "--safety=none"]);
        connected.run(&["content", "verify", "--full"]);
        repository.refresh().expect("refreshed");
        repository.contents().read(&id, &mut bytes).expect("read after maintenance");
    }
}
