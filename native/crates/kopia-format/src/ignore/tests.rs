use super::*;
use proptest::prelude::*;
use serde::Deserialize;

const POLICY_VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors/policy");

fn vectors<T: serde::de::DeserializeOwned>(name: &str) -> Vec<T> {
    let json = std::fs::read_to_string(format!("{POLICY_VECTORS}/{name}")).expect("fixture");
    serde_json::from_str(&json).expect("fixture")
}

fn rule(pattern: &str, base: &str) -> Result<IgnoreRule> {
    IgnoreRule::compile(pattern, base)
}

fn names(rule: &IgnoreRule, path: &str, is_directory: bool) -> bool {
    rule.matches(&path.chars().collect::<Vec<_>>(), is_directory)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wildcard {
    pattern: String,
    base_dir: String,
    path: String,
    negated: bool,
    match_file: bool,
    match_dir: bool,
}

#[test]
fn patterns_match_what_kopia_matches() {
    let all: Vec<Wildcard> = vectors("wildcards.json");
    assert_eq!(all.len(), 54);
    for case in all {
        let rule = rule(&case.pattern, &case.base_dir).expect("valid");
        assert_eq!(rule.is_negated(), case.negated);
        assert_eq!(names(&rule, &case.path, false), case.match_file, "{} {}", case.pattern, case.path);
        assert_eq!(names(&rule, &case.path, true), case.match_dir, "{} {}", case.pattern, case.path);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct RandomWildcard {
    pattern: String,
    base_dir: String,
    error: bool,
    negated: bool,
    paths: Vec<String>,
    matches: String,
}

#[test]
fn random_patterns_match_what_kopia_matches() {
    for case in vectors::<RandomWildcard>("wildcards-random.json") {
        let compiled = rule(&case.pattern, &case.base_dir);
        assert_eq!(compiled.is_err(), case.error, "{:?}", case.pattern);
        let Ok(compiled) = compiled else { continue };
        assert_eq!(compiled.is_negated(), case.negated, "{:?}", case.pattern);
        for (path, expected) in case.paths.iter().zip(case.matches.chars()) {
            let found = match (names(&compiled, path, false), names(&compiled, path, true)) {
                (true, true) => 'B',
                (true, false) => 'F',
                (false, true) => 'D',
                (false, false) => '-',
            };
            assert_eq!(found, expected, "{:?} in {:?} on {path:?}", case.pattern, case.base_dir);
        }
    }
}

#[test]
fn oddities_of_kopia_that_decide_what_is_backed_up_are_kept() {
    let named = |pattern, path| names(&rule(pattern, "").expect("valid"), path, false);
    assert!(named("a*b", "/ax/b") && !named("a*b", "/a/b"), "a * may end with one separator");
    assert!(!named("**/*/x", "/x"));
    assert!(named("[[:digit:]]", "/7"));
    assert!(!named("abcdefgh[[:digit:]]", "/abcdefgh7") && named("abcdefgh[[:digit:]]", "/abcdefghd]"));
    assert!(named("[!a]b", "//b"), "a negated set matches a separator");
}

#[test]
fn many_wildcards_cost_no_exponential_time_and_no_stack() {
    let hostile = rule(&"**/a*".repeat(60), "").expect("valid");
    let path = "/a".repeat(2000);
    assert!(!names(&hostile, &format!("{path}/b"), false));
    assert!(rule(&"*a".repeat(300), "").is_err());
}

fn files(ignore: &[&str]) -> FilesPolicy {
    FilesPolicy { ignore: ignore.iter().map(|&rule| rule.to_owned()).collect(), ..Default::default() }
}

fn file(path: &str) -> Candidate<'_> {
    Candidate { path: path.as_bytes(), is_directory: false, size: 10, is_on_other_device: false }
}

#[test]
fn a_level_may_turn_the_verdict_of_its_parents() {
    let root = IgnoreContext::default()
        .enter(b"", Some(&files(&["*.log", "!keep.log", "/tmp/"])), &[])
        .expect("valid");
    assert!(
        root.includes(&file("a.txt")) && !root.includes(&file("a.log")) && root.includes(&file("keep.log"))
    );
    assert!(root.includes(&file("tmp")), "a trailing slash names directories only");
    assert!(!root.includes(&Candidate { is_directory: true, ..file("tmp") }));
    let same = root.enter(b"d", None, &[]).expect("nothing new");
    assert!(!same.includes(&file("d/a.log")));
    let below = same.enter(b"d", None, &[b"# a comment\r\n\r\n!a.log\r\n/only-here\nlast"]).expect("valid");
    assert!(below.includes(&file("d/a.log")) && !below.includes(&file("d/b.log")));
    assert!(!below.includes(&file("d/only-here")) && below.includes(&file("d/e/only-here")));
    assert!(!below.includes(&file("d/e/last")) && below.includes(&file("d/comment")));
}

#[test]
fn sizes_devices_and_dot_files_follow_the_defined_policy() {
    let policy = FilesPolicy {
        ignore_dot_files: vec![".a".into(), ".b".into(), ".a".into()],
        max_file_size: 9,
        one_file_system: Some(true),
        ..Default::default()
    };
    assert!(IgnoreContext::default().dot_ignore_files(None).is_empty());
    let root = IgnoreContext::default().enter(b"", Some(&policy), &[]).expect("valid");
    assert_eq!(root.dot_ignore_files(None), [".a", ".b"]);
    assert!(!root.includes(&file("large")) && root.includes(&Candidate { size: 9, ..file("small") }));
    assert!(root.includes(&Candidate { is_directory: true, size: 4096, ..file("d") }));
    let elsewhere = Candidate { size: 1, is_on_other_device: true, ..file("mount") };
    assert!(!root.includes(&elsewhere));
    let child = root.enter(b"d", Some(&FilesPolicy::default()), &[]).expect("valid");
    assert!(child.includes(&elsewhere), "the device rule is not inherited past a defined policy");
    assert!(!child.includes(&file("d/large")), "the size limit is");
    assert!(child.dot_ignore_files(None).is_empty());
}

#[test]
fn a_bad_rule_refuses_the_directory_and_a_line_too_long_ends_the_file() {
    assert!(IgnoreContext::default().enter(b"", None, &[b"[a"]).is_err());
    let mut content = b"first\n".to_vec();
    content.extend(vec![b'x'; LINE_LENGTH_BYTES_MAX]);
    content.extend(b"\nlast");
    let context = IgnoreContext::default().enter(b"", None, &[&content]).expect("valid");
    assert!(!context.includes(&file("first")) && context.includes(&file("last")));
    assert!(is_cache_directory_tag(b"Signature: 8a477f597d28d172789f06886806bc55\n# more"));
    assert!(!is_cache_directory_tag(b"Signature: 8a477f597d28d172789f06886806bc5"));
}

#[test]
fn a_deep_chain_of_levels_is_freed_without_using_the_stack() {
    let mut context = IgnoreContext::default();
    for _ in 0..200_000 {
        context = context.enter(b"", None, &[b""]).expect("valid");
    }
    drop(context);
}

proptest! {
    #[test]
    fn any_rule_is_judged_and_matched(pattern in "[a/*?!\\[\\]:\\\\\\-é ]{0,40}|.{0,20}", path in "(/[a-bé*]{1,4}){1,6}") {
        if let Ok(rule) = rule(&pattern, "/a") {
            let _ = names(&rule, &path, true);
        }
    }
    #[test]
    fn any_dot_ignore_file_is_judged(content: Vec<u8>, path: Vec<u8>) {
        if let Ok(context) = IgnoreContext::default().enter(b"d", None, &[&content]) {
            let _ = context.includes(&Candidate { path: &path, is_directory: false, size: 0, is_on_other_device: false });
        }
    }
}
