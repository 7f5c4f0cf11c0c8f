use super::*;
use crate::snapshot::SourceInfo;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors");

fn encoded(policy: &Policy) -> String {
    String::from_utf8(policy.encode()).expect("utf-8")
}

#[test]
fn every_policy_of_kopia_is_encoded_to_the_same_bytes() {
    use base64::Engine;
    let json = std::fs::read_to_string(format!("{FIXTURES}/metadata/contents.json")).expect("fixture");
    let all: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&json).expect("fixture");
    let mut policies = 0;
    for (_, text) in all.into_values().flatten().filter(|(id, _)| id.starts_with('m')) {
        let gzip = base64::engine::general_purpose::STANDARD.decode(text).expect("fixture");
        for entry in crate::manifest::decode(&gzip).expect("fixture") {
            if entry.labels.get("type").is_some_and(|kind| kind == "policy") {
                let policy = Policy::decode(entry.data.get().as_bytes()).expect("a policy");
                assert_eq!(encoded(&policy), entry.data.get());
                assert_eq!(labels_for_target(&target_of_labels(&entry.labels)), entry.labels);
                policies += 1;
            }
        }
    }
    assert_eq!(policies, 42);
}

#[derive(Deserialize)]
struct MergeCase {
    policies: Vec<String>,
    merged: String,
    compressors: Vec<(String, i64, String, String)>,
}

#[test]
fn policies_merge_and_choose_compressors_as_in_kopia() {
    let json = std::fs::read_to_string(format!("{FIXTURES}/policy/merge.json")).expect("fixture");
    for case in serde_json::from_str::<Vec<MergeCase>>(&json).expect("fixture") {
        let policies: Vec<Policy> =
            case.policies.iter().map(|json| Policy::decode(json.as_bytes()).expect("a policy")).collect();
        for (policy, json) in policies.iter().zip(&case.policies) {
            assert_eq!(&encoded(policy), json);
        }
        let merged = effective_policy(policies.first(), &policies[1..]);
        assert_eq!(encoded(&merged), case.merged);
        for (name, size, by_merged, by_own) in &case.compressors {
            let extension = file_extension(name.as_bytes());
            let chosen = |policy: &Policy| {
                policy.compression.compressor_for_file(extension, *size).unwrap_or_default().to_owned()
            };
            assert_eq!(&chosen(&merged), by_merged, "{name} {size} {:?}", merged.compression);
            assert_eq!(&chosen(&policies[0]), by_own, "{name} {size} {:?}", policies[0].compression);
        }
    }
}

#[test]
fn only_compress_excludes_nothing_and_never_compress_does() {
    let policy = CompressionPolicy {
        compressor_name: "zstd".into(),
        only_compress: vec![".log".into()],
        never_compress: vec![".log".into(), ".zip".into()],
        ..Default::default()
    };
    assert_eq!(policy.compressor_for_file(b".txt", 1), Some("zstd"));
    assert_eq!(policy.compressor_for_file(b".log", 1), Some("zstd"));
    assert_eq!(policy.compressor_for_file(b".zip", 1), None);
    assert_eq!(file_extension(b"a.b/c"), b"");
    assert_eq!(file_extension(b"a.tar.gz"), b".gz");
    assert_eq!(file_extension(b".bashrc"), b".bashrc");
}

#[test]
fn parents_are_found_in_paths_of_any_system() {
    let cases = [
        ("/", "/"),
        ("/x", "/"),
        ("/x/", "/"),
        ("/x/a", "/x"),
        ("/x/a/", "/x"),
        ("x:\\", "x:\\"),
        ("X:\\Program Files", "X:\\"),
        ("X:\\Program Files\\Blah", "X:\\Program Files"),
        ("X:/Program Files", "X:/"),
        ("X:/Program Files\\", "X:/"),
        ("X:/a/b/", "X:/a"),
        ("plain", "plain"),
        ("a/b", "a"),
        ("", ""),
        ("data/", "data/"),
    ];
    for (path, parent) in cases {
        assert_eq!(parent_path(path), parent, "{path}");
    }
}

fn target(host: &str, user_name: &str, path: &str) -> SourceInfo {
    SourceInfo { host: host.into(), user_name: user_name.into(), path: path.into() }
}

#[test]
fn a_source_is_concerned_by_its_parents_user_host_and_all() {
    let paths = |source| {
        hierarchy(&source).iter().map(|t| format!("{}@{}:{}", t.user_name, t.host, t.path)).collect()
    };
    let found: Vec<String> = paths(target("h", "u", "/a/b"));
    assert_eq!(found, ["u@h:/a/b", "u@h:/a", "u@h:/", "u@h:", "@h:", "@:"]);
    let found: Vec<String> = paths(target("h", "", ""));
    assert_eq!(found, ["@h:", "@:"]);
}

fn with_compressor(target: SourceInfo, name: &str) -> DefinedPolicy {
    let compression = CompressionPolicy { compressor_name: name.into(), ..Default::default() };
    DefinedPolicy { target, policy: Policy { compression, ..Default::default() } }
}

#[test]
fn policies_below_a_source_count_as_they_are() {
    let mut unset = with_compressor(target("h", "u", "/data/raw"), "");
    unset.policy.files.ignore = vec!["*.x".into()];
    let defined = [
        with_compressor(SourceInfo::default(), "zstd"),
        with_compressor(target("h", "u", "/data/logs/deep"), "s2-default"),
        with_compressor(target("h", "other", "/data/logs"), "gzip"),
        with_compressor(target("h", "u", "/database"), "gzip"),
        unset,
    ];
    let tree = PolicyTree::for_source(&target("h", "u", "/data"), &defined);
    let compressor =
        |path: &str| tree.child(path.as_bytes()).effective_policy().compression.compressor_name.clone();
    assert_eq!(compressor(""), "zstd");
    assert_eq!(compressor("raw"), "", "not merged: no compression");
    assert_eq!(compressor("raw/below/it"), "");
    assert_eq!(compressor("logs"), "zstd");
    assert_eq!(compressor("logs/./deep/x"), "s2-default");
    assert_eq!(compressor("elsewhere/deep"), "zstd");
    assert!(tree.defined_policy().is_some() && tree.child(b"raw").defined_policy().is_some());
    assert!(
        tree.child(b"logs").defined_policy().is_none() && tree.child(b"raw/x").defined_policy().is_none()
    );
    assert_eq!(tree.effective_policy().retention.keep_latest, Some(10));
}

#[test]
fn windows_paths_nest_with_either_separator() {
    let defined = [with_compressor(target("h", "u", "C:\\Users\\me\\dir2\\a"), "gzip")];
    let tree = PolicyTree::for_source(&target("h", "u", "C:\\Users"), &defined);
    assert_eq!(tree.child(b"me/dir2/a").effective_policy().compression.compressor_name, "gzip");
    let defined = [with_compressor(target("h", "u", "/home/back\\slash/x"), "gzip")];
    let tree = PolicyTree::for_source(&target("h", "u", "/"), &defined);
    assert_eq!(tree.child(b"home/back\\slash/x").effective_policy().compression.compressor_name, "gzip");
}

#[test]
fn a_path_of_very_many_components_costs_no_stack() {
    let path = "a/".repeat(300_000);
    let tree = PolicyTree::new(
        Policy::default(),
        [(path.clone(), Policy { no_parent: true, ..Default::default() })],
    );
    assert!(tree.child(path.as_bytes()).child(b"x").defined_policy().is_none());
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes: Vec<u8>) {
        let _ = Policy::decode(&bytes);
    }
    #[test]
    fn any_json_of_a_policy_is_judged(part in "retention|files|scheduling|compression|actions|logging|upload|noParent", value in "[\\[\\]{}:,\"a1]{0,12}|null|true") {
        let _ = Policy::decode(format!(r#"{{"{part}":{value}}}"#).as_bytes());
    }
    #[test]
    fn any_path_has_parents_that_end(path: String) {
        let found = hierarchy(&target("h", "u", &path));
        prop_assert_eq!(found.last(), Some(&SourceInfo::default()));
    }
}
