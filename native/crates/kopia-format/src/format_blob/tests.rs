use super::*;
use crate::error::FormatErrorKind;
use crate::time::Timestamp;
use crate::vectors::{load_json, unhex};
use proptest::prelude::*;

fn blob(unique_id: Vec<u8>) -> FormatBlob {
    FormatBlob {
        tool: "https://github.com/kopia/kopia".into(),
        build_version: "v0.22.3".into(),
        build_info: "a <b> & c".into(),
        unique_id,
        key_derivation: KeyDerivation::Scrypt65536_8_1,
        encryption: FORMAT_ENCRYPTION.into(),
        encrypted_block_format: vec![1, 2, 3],
    }
}

fn config() -> RepositoryConfig {
    RepositoryConfig {
        hash: "BLAKE2B-256-128".into(),
        encryption: "AES256-GCM-HMAC-SHA256".into(),
        ecc: String::new(),
        ecc_overhead_percent: 0,
        secret: vec![1; 3].into(),
        master_key: vec![2; 3].into(),
        version: 3,
        max_pack_size: 20 << 20,
        index_version: 2,
        epoch_parameters: EpochParameters { enabled: true, delete_parallelism: 4, ..Default::default() },
        enable_password_change: true,
        splitter: "DYNAMIC-4M-BUZHASH".into(),
        upgrade_lock: None,
        required_features: Vec::new(),
    }
}

fn feature(name: &str, warn: bool) -> RequiredFeature {
    RequiredFeature { feature: name.into(), warn, url: "https://x".into(), ..Default::default() }
}

#[test]
fn keys_are_those_that_kopia_derives() {
    for case in load_json("crypto/kdf.json").as_array().unwrap() {
        let mut blob = blob(unhex(&case["salt_uniqueID"]));
        blob.key_derivation = KeyDerivation::parse(case["algorithm"].as_str().unwrap()).unwrap();
        let key = blob.derive_key(case["password"].as_str().unwrap()).unwrap();
        assert_eq!(key[..], unhex(&case["key"])[..]);
        for (purpose, expected) in case["hkdf_sha256_ikm=key_salt=uniqueID_info="].as_object().unwrap() {
            let expected = unhex(expected);
            let derived = derive_purpose_key(&*key, &blob.unique_id, purpose, expected.len()).unwrap();
            assert_eq!(*derived, expected, "{purpose}");
        }
        let sealed = unhex(&case["format_blob_encrypt_sample"]);
        let plain = case["format_blob_encrypt_plaintext"].as_str().unwrap();
        assert_eq!(decrypt_block(&key, &blob.unique_id, &sealed).unwrap(), plain.as_bytes());
        let nonce = *sealed.first_chunk().unwrap();
        assert_eq!(encrypt_block(&key, &blob.unique_id, nonce, plain.as_bytes()).unwrap(), sealed);
    }
}

#[test]
fn the_outer_blob_is_written_as_kopia_writes_it() {
    let text = r#"{
  "tool": "https://github.com/kopia/kopia",
  "buildVersion": "v0.22.3",
  "buildInfo": "a \u003cb\u003e \u0026 c",
  "uniqueID": "BwcH",
  "keyAlgo": "scrypt-65536-8-1",
  "encryption": "AES256_GCM",
  "encryptedBlockFormat": "AQID"
}
"#;
    let blob = blob(vec![7; 3]);
    assert_eq!(String::from_utf8(blob.encode()).unwrap(), text);
    assert_eq!(FormatBlob::parse(text.as_bytes()).unwrap(), blob);
}

#[test]
fn the_configuration_is_written_as_kopia_writes_it() {
    let mut config = config();
    config.required_features = vec![feature("f", false)];
    let text = concat!(
        r#"{"format":{"hash":"BLAKE2B-256-128","encryption":"AES256-GCM-HMAC-SHA256","secret":"AQEB","#,
        r#""masterKey":"AgIC","version":3,"maxPackSize":20971520,"indexVersion":2,"#,
        r#""epochParameters":{"Enabled":true,"EpochRefreshFrequency":0,"FullCheckpointFrequency":0,"#,
        r#""CleanupSafetyMargin":0,"MinEpochDuration":0,"EpochAdvanceOnCountThreshold":0,"#,
        r#""EpochAdvanceOnTotalSizeBytesThreshold":0,"DeleteParallelism":4},"enablePasswordChange":true,"#,
        r#""splitter":"DYNAMIC-4M-BUZHASH","#,
        r#""requiredFeatures":[{"feature":"f","ifNotUnderstood":{"warn":false,"url":"https://x"}}]}}"#,
    );
    assert_eq!(String::from_utf8(config.encode().unwrap()).unwrap(), text);
    assert_eq!(RepositoryConfig::decode(text.as_bytes()).unwrap(), config);
}

#[test]
fn absent_pack_size_and_index_version_are_filled_in() {
    let config =
        RepositoryConfig::decode(br#"{"format":{"version":1,"requiredFeatures":null,"future":[]}}"#).unwrap();
    assert_eq!((config.max_pack_size, config.index_version), (20 << 20, 1));
}

#[test]
fn a_wrong_password_is_told_from_other_errors() {
    let mut blob = blob(vec![7; 32]);
    blob.encrypt_config(&Zeroizing::new([1; 32]), &config(), [0; 12]).unwrap();
    let error = blob.decrypt_config(&Zeroizing::new([2; 32])).unwrap_err();
    assert_eq!(error.kind, FormatErrorKind::InvalidPassword);
}

#[test]
fn short_salts_and_unknown_algorithms_are_refused() {
    assert_eq!(blob(vec![7; 15]).derive_key("p").unwrap_err().kind, FormatErrorKind::Malformed);
    assert_eq!(KeyDerivation::parse("argon2").unwrap_err().kind, FormatErrorKind::Unsupported);
    let mut other = blob(vec![7; 32]);
    other.encryption = "NONE".into();
    assert_eq!(
        other.decrypt_config(&Zeroizing::new([1; 32])).unwrap_err().kind,
        FormatErrorKind::Unsupported
    );
}

#[test]
fn configurations_that_this_program_cannot_use_are_refused() {
    let refused = |change: fn(&mut RepositoryConfig)| {
        let mut config = config();
        change(&mut config);
        config.check().unwrap_err().kind == FormatErrorKind::Unsupported
    };
    assert!(config().check().is_ok());
    assert!(refused(|config| config.version = 4));
    assert!(refused(|config| config.version = 0));
    assert!(refused(|config| config.index_version = 3));
    assert!(refused(|config| config.hash = "MD5".into()));
    assert!(refused(|config| config.encryption = "DES".into()));
    assert!(refused(|config| (config.ecc, config.ecc_overhead_percent) = ("X".into(), 5)));
    assert!(refused(|config| config.splitter = "HALVES".into()));
    assert!(refused(|config| config.required_features.push(feature("new", false))));
}

#[test]
fn unknown_features_that_only_warn_are_returned() {
    let mut config = config();
    config.required_features =
        vec![feature("index-v1", false), feature("index-v2", false), feature("new", true)];
    let unknown = config.check_required_features().unwrap();
    assert_eq!(unknown, [&feature("new", true)]);
    assert_eq!(
        unknown[0].unsupported_message(),
        "feature \"new\" is not supported by this program; see https://x"
    );
}

#[test]
fn debug_output_hides_the_keys() {
    let text = format!("{:?}", config());
    assert!(text.contains("secret: ***, master_key: ***"), "{text}");
}

#[test]
fn a_lock_without_notice_holds_at_once() {
    let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
    let second = 1_000_000_000;
    let mut lock = UpgradeLock {
        creation_time: at(1000),
        io_drain_timeout: 10 * second,
        max_permitted_clock_drift: 5 * second,
        ..Default::default()
    };
    assert!(lock.is_locked(at(0)));
    assert!(!lock.writers_drained(at(1024)) && lock.writers_drained(at(1025)));
    lock.advance_notice_duration = 100 * second;
    assert!(!lock.is_locked(at(1074)) && lock.is_locked(at(1075)));
    assert!(!lock.writers_drained(at(1099)) && lock.writers_drained(at(1100)));
}

#[test]
fn retention_needs_mode_and_period_of_a_day() {
    let config = |mode: &str, hours: i64| BlobConfig {
        retention_mode: mode.into(),
        retention_period: hours * 3_600_000_000_000,
    };
    assert!(config("", 0).check().is_ok() && !config("", 0).is_retention_enabled());
    assert!(config("GOVERNANCE", 24).check().is_ok() && config("GOVERNANCE", 24).is_retention_enabled());
    for refused in [config("GOVERNANCE", 0), config("", 24), config("COMPLIANCE", 23)] {
        assert_eq!(refused.check().unwrap_err().kind, FormatErrorKind::OutOfRange);
    }
}

#[test]
fn blob_config_survives_sealing_and_damage_is_noticed() {
    let (blob, key) = (blob(vec![7; 32]), Zeroizing::new([1; 32]));
    let config =
        BlobConfig { retention_mode: "COMPLIANCE".into(), retention_period: 100 * 3_600_000_000_000 };
    let mut sealed = blob.seal_blob_config(&key, &config, [4; 12]).unwrap();
    assert_eq!(blob.open_blob_config(&key, &sealed).unwrap(), config);
    assert_eq!(blob.seal_blob_config(&key, &BlobConfig::default(), [4; 12]).unwrap().len(), 30);
    sealed[13] ^= 1;
    assert_eq!(blob.open_blob_config(&key, &sealed).unwrap_err().kind, FormatErrorKind::Corrupted);
}

proptest! {
    #[test]
    fn outer_blobs_survive_a_round_trip(tool: String, info: String, id: Vec<u8>, sealed: Vec<u8>) {
        let blob = FormatBlob { tool, build_info: info, encrypted_block_format: sealed, ..blob(id) };
        prop_assert_eq!(FormatBlob::parse(&blob.encode()).unwrap(), blob);
    }

    #[test]
    fn configurations_survive_a_round_trip(
        secret: Vec<u8>, ecc: String, percent: u32, version: u32, parallelism: i64, name: String, message: String, warn: bool,
    ) {
        let mut config = config();
        config.secret = secret.into();
        config.ecc = ecc;
        config.ecc_overhead_percent = percent;
        config.version = version;
        config.epoch_parameters.delete_parallelism = parallelism;
        config.required_features = vec![RequiredFeature { message, ..feature(&name, warn) }];
        prop_assert_eq!(RepositoryConfig::decode(&config.encode().unwrap()).unwrap(), config);
    }

    #[test]
    fn format_blobs_are_found_at_either_end_of_a_pack(format in prop::collection::vec(any::<u8>(), 0..3000), rest: Vec<u8>) {
        let prefix = pack_prefix(&format).unwrap();
        let at_start = [&prefix[..], &rest].concat();
        let at_end = [&rest[..], &prefix].concat();
        prop_assert_eq!(recover_from_pack(&at_start, b""), Some(format.clone()));
        prop_assert_eq!(recover_from_pack(b"", &at_end), Some(format));
        prop_assert_eq!(recover_from_pack(&rest, &rest), None);
    }

    #[test]
    fn any_bytes_parse_or_are_refused(bytes: Vec<u8>, text in "[\\{\\}\\[\\]\":,a-zA-Z0-9 ]{0,60}") {
        for input in [&bytes[..], text.as_bytes()] {
            let _ = FormatBlob::parse(input);
            let _ = RepositoryConfig::decode(input);
            let _ = recover_from_pack(input, input);
            prop_assert!(decrypt_block(&Zeroizing::new([0; 32]), input, input).is_err());
        }
    }
}

#[test]
fn pack_prefixes_of_long_blobs_are_refused() {
    assert!(pack_prefix(&[0; 64_968]).is_ok());
    assert_eq!(pack_prefix(&[0; 64_969]).unwrap_err().kind, FormatErrorKind::OutOfRange);
}
