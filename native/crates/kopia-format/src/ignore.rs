//! Ignore rules: pattern language and evaluation (format document §7.4). Pure.
//!
//! Here: which entries of a directory a snapshot leaves out. `pattern` compiles a rule, `wildmatch`
//! matches it. Reading dot-ignore files and `CACHEDIR.TAG` is the caller's. The surprise: the
//! language is gitignore-like but Kopia's own, with oddities that decide what gets backed up.

mod pattern;
mod wildmatch;

pub use pattern::IgnoreRule;

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::policy::FilesPolicy;
use std::sync::Arc;

/// Name of the file that marks a directory as a cache.
pub const CACHE_DIRECTORY_TAG_NAME: &str = "CACHEDIR.TAG";
/// Most rules that one directory may add; each entry below is matched with every one.
const RULES_MAX: usize = 10_000;
/// What such a file starts with, see <https://bford.info/cachedir/>.
pub const CACHE_DIRECTORY_TAG_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// How many links a dot-ignore file may hide behind.
pub const DOT_IGNORE_LINKS_MAX: usize = 30;
/// Lines of a dot-ignore file from here on, and all after them, are silently dropped by Kopia.
const LINE_LENGTH_BYTES_MAX: usize = 65_536;

/// Whether a `CACHEDIR.TAG` that starts with `head` marks a cache, whose directory is then stored empty.
pub fn is_cache_directory_tag(head: &[u8]) -> bool {
    head.starts_with(CACHE_DIRECTORY_TAG_SIGNATURE)
}

/// What is known of an entry before it is read.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Path relative to the snapshot root (`a/b`), raw bytes.
    pub path: &'a [u8],
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Bytes; ignored for directories.
    pub size: i64,
    /// Whether it lies on another device than its directory.
    pub is_on_other_device: bool,
}

/// The rules that apply to the entries of one directory; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct IgnoreContext(Option<Arc<Level>>);

#[derive(Debug, Default)]
struct Level {
    parent: IgnoreContext,
    rules: Vec<IgnoreRule>,
    dot_ignore_files: Vec<String>,
    size_max: i64,
    one_file_system: bool,
}

impl Drop for Level {
    /// Frees the parents one after the other: a deep directory tree must not exhaust the stack.
    fn drop(&mut self) {
        let mut next = self.parent.0.take();
        while let Some(mut level) = next.and_then(Arc::into_inner) {
            next = level.parent.0.take();
        }
    }
}

impl IgnoreContext {
    /// Names of the files in a directory whose lines are rules, given the context of its parent and the
    /// policy *defined* for the directory (at the root: the effective one), if there is one.
    pub fn dot_ignore_files<'a>(&'a self, defined: Option<&'a FilesPolicy>) -> &'a [String] {
        match (defined, &self.0) {
            (Some(files), _) => &files.ignore_dot_files,
            (None, Some(level)) => &level.dot_ignore_files,
            (None, None) => &[],
        }
    }
    /// The context of a directory, from that of its parent (for the root: the default one).
    ///
    /// `directory` is its path relative to the root (empty for the root), `defined` as in
    /// [`Self::dot_ignore_files`], `dot_ignore_contents` the bytes of those of the named files
    /// that are there, in their order.
    ///
    /// # Errors
    /// A malformed rule; the directory cannot be listed then.
    pub fn enter(
        &self,
        directory: &[u8],
        defined: Option<&FilesPolicy>,
        dot_ignore_contents: &[&[u8]],
    ) -> Result<Self> {
        if defined.is_none() && dot_ignore_contents.is_empty() {
            return Ok(self.clone());
        }
        let mut level = self.child_level(defined);
        let base = rooted(directory);
        for rule in defined.map_or(&[][..], |files| &files.ignore) {
            let named =
                |error: FormatError| FormatError { why: format!("{rule:.60?}: {}", error.why), ..error };
            level.rules.push(IgnoreRule::compile(rule, &base).map_err(named)?);
        }
        for content in dot_ignore_contents {
            for (position, line) in rule_lines(content).enumerate() {
                if level.rules.len() >= RULES_MAX {
                    let why = format!("more than {RULES_MAX} rules for one directory");
                    return Err(FormatError::new(FormatErrorKind::OutOfRange, "ignore file", why));
                }
                // The text is not told: the message goes where the owner of the file may not look, and the
                // file may be of another.
                let nth = |error: FormatError| {
                    let why = format!("rule {} of an ignore file: {}", position + 1, error.why);
                    FormatError { why, ..error }
                };
                level.rules.push(IgnoreRule::compile(&lossy(line), &base).map_err(nth)?);
            }
        }
        Ok(Self(Some(Arc::new(level))))
    }
    /// A level below this one without rules.
    fn child_level(&self, defined: Option<&FilesPolicy>) -> Level {
        let (size_max, one_file_system) =
            self.0.as_ref().map_or((0, false), |l| (l.size_max, l.one_file_system));
        let mut dot_ignore_files = self.dot_ignore_files(defined).to_vec();
        let Some(files) = defined else {
            return Level {
                parent: self.clone(),
                rules: Vec::new(),
                dot_ignore_files,
                size_max,
                one_file_system,
            };
        };
        let mut seen = std::collections::HashSet::new();
        dot_ignore_files.retain(|name| seen.insert(name.clone()));
        Level {
            parent: self.clone(),
            rules: Vec::new(),
            dot_ignore_files,
            size_max: if files.max_file_size == 0 { size_max } else { files.max_file_size },
            // Not inherited where a policy is defined: unset there means off.
            one_file_system: files.one_file_system.unwrap_or(false),
        }
    }
    /// Whether a snapshot includes the entry of the directory that this context is of.
    pub fn includes(&self, entry: &Candidate<'_>) -> bool {
        let Some(level) = &self.0 else { return true };
        let too_large = !entry.is_directory && level.size_max > 0 && entry.size > level.size_max;
        let elsewhere = level.one_file_system && entry.is_on_other_device;
        !too_large && !elsewhere && !self.is_ignored_by_name(entry)
    }
    /// The verdict of the rules: a level starts from its parent's, then each rule may turn it.
    fn is_ignored_by_name(&self, entry: &Candidate<'_>) -> bool {
        let levels: Vec<&Level> =
            std::iter::successors(self.0.as_deref(), |level| level.parent.0.as_deref()).collect();
        if levels.iter().all(|level| level.rules.is_empty()) {
            return false;
        }
        let path: Vec<char> = rooted(entry.path).chars().collect();
        let rules = levels.iter().rev().flat_map(|level| &level.rules);
        rules.fold(false, |ignored, rule| {
            // A rule that could only confirm the verdict is not tried.
            if rule.is_negated() == ignored { rule.matches(&path, entry.is_directory) } else { ignored }
        })
    }
}

/// `/a/b` of `a/b`, empty for the root; bytes that are not UTF-8 as U+FFFD each.
fn rooted(path: &[u8]) -> String {
    if path.is_empty() { String::new() } else { format!("/{}", lossy(path)) }
}

/// The text of `bytes` as Go's conversion to runes has it.
fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
    }
    text
}

/// The lines of a dot-ignore file that are rules.
fn rule_lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = content.split(|&byte| byte == b'\n').take_while(|line| line.len() < LINE_LENGTH_BYTES_MAX);
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.starts_with(b"#") && !lossy(line).trim().is_empty())
}

#[cfg(test)]
mod tests;
