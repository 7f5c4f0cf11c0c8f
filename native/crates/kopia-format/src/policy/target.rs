//! What a policy applies to (everything, a host, a user, a path) and which policies concern a source.
//!
//! A target is a [`SourceInfo`] with empty parts: all empty is the global policy. Paths may be of
//! another operating system than ours. Source: Kopia `snapshot/policy/policy_manager.go`.

use super::Policy;
use crate::snapshot::SourceInfo;
use std::collections::BTreeMap;

/// A policy and what it was defined for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinedPolicy {
    /// What it applies to.
    pub target: SourceInfo,
    /// The policy.
    pub policy: Policy,
}

/// Labels of the manifest of a policy for `target`; also what to search it by.
pub fn labels_for_target(target: &SourceInfo) -> BTreeMap<String, String> {
    let host = ("hostname", &target.host);
    let user = ("username", &target.user_name);
    let (kind, parts) = if !target.path.is_empty() {
        ("path", vec![host, user, ("path", &target.path)])
    } else if !target.user_name.is_empty() {
        ("user", vec![host, user])
    } else if !target.host.is_empty() {
        ("host", vec![host])
    } else {
        ("global", vec![])
    };
    let fixed =
        [("type", "policy"), ("policyType", kind)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    fixed.into_iter().chain(parts.into_iter().map(|(key, value)| (key.to_owned(), value.clone()))).collect()
}

/// What the policy with these manifest labels applies to.
pub fn target_of_labels(labels: &BTreeMap<String, String>) -> SourceInfo {
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    SourceInfo { host: label("hostname"), user_name: label("username"), path: label("path") }
}

/// Targets of the policies that concern `source`, the most specific first: its path, each parent
/// path, user@host, host, global. The first is `source` itself.
pub fn hierarchy(source: &SourceInfo) -> Vec<SourceInfo> {
    let mut targets = Vec::new();
    let above = |path: &String| Some(parent_path(path)).filter(|parent| parent != path);
    let own = Some(source.path.clone()).filter(|path| !path.is_empty());
    for path in std::iter::successors(own, above) {
        targets.push(SourceInfo { path, ..source.clone() });
    }
    let user = SourceInfo { path: String::new(), ..source.clone() };
    let host = SourceInfo { user_name: String::new(), ..user.clone() };
    targets.extend([user, host, SourceInfo::default()]);
    // Parts that are empty already give the same target again.
    targets.dedup();
    targets
}

/// The parent of a path with slashes or backslashes, maybe with a drive (`X:\`); a root is its own parent.
pub fn parent_path(path: &str) -> String {
    let (volume, rest) = volume_and_path(path);
    let separators = ['/', '\\'];
    let whole = rest;
    let mut rest = rest;
    let mut last = rest.rfind(separators);
    if let Some(position) = last
        && position + 1 == rest.len()
        && position != 0
    {
        rest = &rest[..position];
        last = rest.rfind(separators);
    }
    match last {
        None => path.to_owned(),
        Some(0) => format!("{volume}{}", &whole[..1]),
        Some(position) => format!("{volume}{}", &rest[..position]),
    }
}

/// Splits off a drive such as `X:` that a separator follows.
fn volume_and_path(path: &str) -> (&str, &str) {
    match path.as_bytes() {
        [first, b':', b'/' | b'\\', ..] if first.is_ascii() => path.split_at(2),
        _ => ("", path),
    }
}

/// The path from `parent` down to `child` with slashes; `None` if it is not below.
pub(super) fn nested_path(parent: &str, child: &str) -> Option<String> {
    let windows = !volume_and_path(parent).0.is_empty();
    let trimmed = parent.strip_suffix('/').unwrap_or(parent);
    let trimmed = trimmed.strip_suffix('\\').unwrap_or(trimmed);
    let below = child.strip_prefix(trimmed)?.strip_prefix(['/', '\\'])?;
    let below = if windows { below.replace('\\', "/") } else { below.to_owned() };
    (!below.is_empty()).then_some(below)
}
