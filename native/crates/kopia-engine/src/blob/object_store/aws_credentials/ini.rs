//! The INI dialect of AWS's shared files.
//!
//! `[section]`, `key = value`, comments with `#` or `;`. Indented lines are settings of one
//! service and below a key: skipped. Keys are lower-cased, a later one wins.

use std::collections::BTreeMap;

pub(super) type Section = BTreeMap<String, String>;

/// All sections of `text`; `[profile x]` and `[x]` are the same profile.
pub(super) fn parse(text: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.trim_start_matches('\u{feff}').lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = section_name(trimmed) {
            sections.entry(name.clone()).or_default();
            current = Some(name);
        } else if let (Some(name), false) = (&current, line.starts_with([' ', '\t']))
            && let Some((key, value)) = setting(trimmed)
        {
            sections.entry(name.clone()).or_default().insert(key, value);
        }
    }
    sections
}

fn section_name(line: &str) -> Option<String> {
    let inner = line.strip_prefix('[')?.split_once(']')?.0.trim();
    let name = match inner.split_once(char::is_whitespace) {
        Some(("profile", name)) => name.trim(),
        _ => inner,
    };
    Some(name.trim_matches('"').to_owned())
}

fn setting(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once('=')?;
    // A comment needs a space before it: secrets may hold `#`.
    let end = [" #", " ;", "\t#"].iter().filter_map(|mark| value.find(mark)).min();
    let value = value[..end.unwrap_or(value.len())].trim();
    Some((key.trim().to_lowercase(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_forms_are_read() {
        let text = "; comment\n[default]\naws_access_key_id = A # mine\nAWS_Secret_Access_Key=a#b=c\n\
            [profile far away]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n[\"x\"]\n";
        let sections = parse(text);
        assert_eq!(sections["default"]["aws_access_key_id"], "A");
        assert_eq!(sections["default"]["aws_secret_access_key"], "a#b=c");
        assert_eq!(sections["far away"].len(), 2);
        assert_eq!(sections["far away"]["region"], "eu-west-1");
        assert!(sections["x"].is_empty());
        assert!(parse("a = b\nnonsense\n[open").is_empty());
    }
}
