//! `NAME=value` files, as Velero's Azure credentials are written.
//!
//! Blank lines and `#` comments are skipped, `export ` and quotes around a value taken away.
//! Values are secrets: nothing here shows one.

use super::aws_credentials::Secret;
use std::collections::HashMap;

/// The settings of a credentials file, with the environment behind them.
#[derive(Debug, Default)]
pub(super) struct Settings(HashMap<String, Secret>);

impl Settings {
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(setting).collect())
    }

    /// A value that is not empty; the file wins over the environment.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let of_file = self.0.get(name).map(|value| value.reveal().to_owned());
        of_file.or_else(|| std::env::var(name).ok()).filter(|value| !value.is_empty())
    }
}

fn setting(line: &str) -> Option<(String, Secret)> {
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let value = value.trim();
    let unquoted = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value);
    Some((name.trim().to_owned(), Secret::new(unquoted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_read_and_never_shown() {
        let settings = Settings::parse("# c\nexport A=b=c==\nB = \"x y\"\n\nC='q'\nnonsense\nD=\n");
        let get = |name| settings.get(name).unwrap_or_default();
        assert_eq!((get("A"), get("B"), get("C")), ("b=c==".into(), "x y".into(), "q".into()));
        assert_eq!(settings.get("D"), None);
        assert!(!format!("{settings:?}").contains("x y"));
    }
}
