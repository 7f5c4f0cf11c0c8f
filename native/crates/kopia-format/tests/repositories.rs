//! Every repository of the vectors, made by the real Kopia, opens: format blob, keys, schedule, index blobs.

#![allow(clippy::unwrap_used)] // all of it is test code

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kopia_format::format_blob::{
    self, BlobConfig, FormatBlob, FormatEncryptionKey, RepositoryConfig, derive_purpose_key,
};
use kopia_format::ids::encode_hex;
use kopia_format::index_blob::{open_blob, seal_blob};
use kopia_format::maintenance::{MaintenanceSchedule, schedule_key};
use kopia_format::{BlobId, FormatError};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A repository of the vectors, opened.
struct Opened {
    expected: Value,
    /// By blob name.
    blobs: BTreeMap<String, Vec<u8>>,
    format: FormatBlob,
    key: FormatEncryptionKey,
    config: RepositoryConfig,
}

fn repositories() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors/repos");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "tar")).collect()
}

/// Directory and file names below the top directory, put together, are the blob name.
fn read_blobs(tar: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    let mut blobs = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        if let Some(name) = path.split_once('/').and_then(|(_, rest)| rest.strip_suffix(".f")) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            blobs.insert(name.replace('/', ""), bytes);
        }
    }
    blobs
}

fn open(tar: &Path) -> Opened {
    let expected = std::fs::read(tar.with_extension("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let blobs = read_blobs(tar);
    let format = FormatBlob::parse(&blobs["kopia.repository"]).unwrap();
    let key = format.derive_key(expected["password"].as_str().unwrap()).unwrap();
    let config = format.decrypt_config(&key).unwrap();
    Opened { expected, blobs, format, key, config }
}

fn check_format(opened: &Opened) {
    let Opened { expected, blobs, format, key, config } = opened;
    assert_eq!(encode_hex(&**key), expected["formatEncryptionKey"].as_str().unwrap());
    assert_eq!(STANDARD.encode(&format.unique_id), expected["uniqueID"].as_str().unwrap());
    let secret = derive_master_secret(config).unwrap();
    assert_eq!(secret, expected["contentKeyDerivationSecret"].as_str().unwrap());
    let written: Value = serde_json::from_slice(&config.encode().unwrap()).unwrap();
    assert_eq!(written["format"], expected["config"]);

    // The same nonce must give back the same bytes, so not a byte of the JSON differs from Kopia's.
    assert_eq!(format.encode(), blobs["kopia.repository"]);
    let mut again = format.clone();
    again.encrypt_config(key, config, *format.encrypted_block_format.first_chunk().unwrap()).unwrap();
    assert_eq!(&again, format);

    if let Some(sealed) = blobs.get("kopia.blobcfg") {
        let blob_config = format.open_blob_config(key, sealed).unwrap();
        assert_eq!(blob_config, BlobConfig::default());
        assert_eq!(
            &format.seal_blob_config(key, &blob_config, *sealed.first_chunk().unwrap()).unwrap(),
            sealed
        );
    }
}

/// HKDF with the purpose in the salt, by the public function: no info.
fn derive_master_secret(config: &RepositoryConfig) -> Result<String, FormatError> {
    Ok(encode_hex(&derive_purpose_key(&config.master_key, b"encryption", "", 32)?))
}

fn check_schedule(opened: &Opened) {
    let Some(sealed) = opened.blobs.get("kopia.maintenance") else {
        assert!(opened.expected["maintenanceSchedule"].is_null());
        return;
    };
    let key = schedule_key(&opened.config, &opened.key, &opened.format.unique_id).unwrap();
    let schedule = MaintenanceSchedule::open(&key, sealed).unwrap();
    let written: Value = serde_json::from_slice(&schedule.encode().unwrap()).unwrap();
    assert_eq!(written, opened.expected["maintenanceSchedule"]);
    assert_eq!(&schedule.seal(&key, *sealed.first_chunk().unwrap()).unwrap(), sealed);
}

fn check_index_blobs(opened: &Opened) -> usize {
    let hasher = opened.config.content_hasher().unwrap();
    let sealer = opened.config.content_sealer().unwrap();
    let names = opened.expected["activeIndexBlobs"].as_array().unwrap().iter().map(|blob| &blob["id"]);
    let names: Vec<_> = names.map(|id| BlobId::new(id.as_str().unwrap())).collect();
    for name in &names {
        let stored = &opened.blobs[name.as_str()];
        let mut buffer = stored.clone();
        let plain = open_blob(&sealer, name, &mut buffer).unwrap();

        let (hashed, suffix) =
            name.as_str().split_once('-').map_or((name.as_str(), None), |(h, s)| (h, Some(s)));
        let prefix = &hashed[..hashed.len() - 2 * hasher.algorithm().output_length()];
        if opened.config.ecc.is_empty() {
            let nonce = *stored.first_chunk().unwrap();
            let sealed = seal_blob(&hasher, &sealer, prefix, suffix, nonce, plain).unwrap();
            assert_eq!(sealed, (name.clone(), stored.clone()));
        }
    }
    names.len()
}

fn check_pack_copies(opened: &Opened) {
    let packs = opened.blobs.iter().filter(|(name, _)| name.starts_with(['p', 'q']));
    for (name, pack) in packs {
        let head = &pack[..pack.len().min(65_536)];
        let found = format_blob::recover_from_pack(head, head);
        match opened.config.enable_password_change {
            true => assert_eq!(found, None, "{name}"),
            false => {
                let original = &opened.blobs["kopia.repository"];
                assert_eq!(found.as_ref(), Some(original), "{name}");
                assert!(pack.starts_with(&format_blob::pack_prefix(original).unwrap()));
            }
        }
    }
}

#[test]
fn every_repository_of_the_vectors_opens_to_its_keys_and_configuration() {
    let (mut repositories_seen, mut index_blobs_seen) = (0, 0);
    for path in repositories() {
        let opened = open(&path);
        check_format(&opened);
        check_schedule(&opened);
        check_pack_copies(&opened);
        index_blobs_seen += check_index_blobs(&opened);
        repositories_seen += 1;
    }
    assert_eq!(repositories_seen, 24);
    assert!(index_blobs_seen > 50, "{index_blobs_seen}");
}
