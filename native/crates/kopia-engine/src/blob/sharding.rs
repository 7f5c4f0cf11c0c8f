//! How blob names become paths: the `.shards` file and its rules.
//!
//! Pure: no I/O here. Names are split as bytes, because a foreign name need not be ASCII. A blob
//! name may come out of a damaged index, so a name that would leave the root is refused.
//!
//! Source: Kopia `repo/blob/sharded/sharded_parameters.go`; format document §1.3.

use crate::error::{Error, ErrorKind, Result};
use kopia_format::BlobId;
use serde::{Deserialize, Deserializer, Serialize};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// File in the root that says how blobs are sharded.
pub const SHARDS_FILE_NAME: &str = ".shards";
/// Ending of the file of a whole blob; every other file is foreign.
pub const BLOB_SUFFIX: &str = ".f";
/// Shards of a storage made by `kopia repository create`, format 2 and later.
pub const SHARDS_WHEN_CREATING: [usize; 2] = [1, 3];
/// Shards of a storage whose `.shards` is missing.
pub const SHARDS_WHEN_MISSING: [usize; 2] = [3, 3];
const NON_SHARDED_LENGTH_MAX: usize = 20;

/// Contents of `.shards`. Fields are written in Kopia's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharding {
    /// Length in bytes of each directory level.
    #[serde(rename = "default", default, deserialize_with = "list_or_null")]
    pub shards: Vec<usize>,
    /// Names up to this length stay in the root.
    #[serde(rename = "maxNonShardedLength", default)]
    pub non_sharded_length_max: usize,
    /// Other shards for names with a prefix; the first match wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "list_or_null")]
    pub overrides: Vec<ShardingOverride>,
}

/// Shards for the names that begin with `prefix`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardingOverride {
    /// Beginning of the blob names.
    #[serde(default)]
    pub prefix: String,
    /// Length in bytes of each directory level.
    #[serde(default, deserialize_with = "list_or_null")]
    pub shards: Vec<usize>,
}

/// Go writes an empty list as `null` too.
fn list_or_null<'de, D, T>(deserializer: D) -> std::result::Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

impl Sharding {
    /// Kopia's parameters for the given directory levels.
    pub fn new(shards: &[usize]) -> Self {
        Self {
            shards: shards.to_vec(),
            non_sharded_length_max: NON_SHARDED_LENGTH_MAX,
            overrides: Vec::new(),
        }
    }

    /// Reads `.shards`. Bytes after the JSON document are ignored, as Kopia does.
    ///
    /// # Errors
    /// `Corrupted` if it is not such a document: guessing would hide blobs.
    pub fn parse(json: &[u8]) -> Result<Self> {
        Self::deserialize(&mut serde_json::Deserializer::from_slice(json)).map_err(|error| {
            Error::new(ErrorKind::Corrupted, format!("cannot read {SHARDS_FILE_NAME}: {error}"))
        })
    }

    /// The bytes of `.shards`: compact JSON and a newline.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json =
            serde_json::to_vec(self).expect("lists of numbers and strings are always representable as JSON");
        json.push(b'\n');
        json
    }

    /// Path of the blob's file relative to the root.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is empty, or would leave its directory.
    pub fn path_of(&self, id: &BlobId) -> Result<PathBuf> {
        let name = id.as_str().as_bytes();
        if name.is_empty() || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(refused(id));
        }
        let (directories, rest) = self.split(name);
        let mut path = PathBuf::new();
        for directory in directories {
            if matches!(directory, b"." | b"..") {
                return Err(refused(id));
            }
            path.push(OsStr::from_bytes(directory));
        }
        path.push(OsStr::from_bytes(&[rest, BLOB_SUFFIX.as_bytes()].concat()));
        Ok(path)
    }

    /// Directory names, and what is left for the file name.
    fn split<'a>(&self, name: &'a [u8]) -> (Vec<&'a [u8]>, &'a [u8]) {
        let mut directories = Vec::new();
        let mut rest = name;
        if name.len() <= self.non_sharded_length_max {
            return (directories, rest);
        }
        for &length in self.shards_for(name) {
            if rest.len() <= length {
                break;
            }
            let (directory, after) = rest.split_at(length);
            rest = after;
            if !directory.is_empty() {
                directories.push(directory);
            }
        }
        (directories, rest)
    }

    fn shards_for(&self, name: &[u8]) -> &[usize] {
        self.overrides
            .iter()
            .find(|rule| name.starts_with(rule.prefix.as_bytes()))
            .map_or(&self.shards, |rule| &rule.shards)
    }
}

fn refused(id: &BlobId) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("blob name {:?} cannot be a file name", id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(sharding: &Sharding, id: &str) -> String {
        sharding.path_of(&id.into()).expect("valid name").to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn paths_are_those_of_the_format_document() {
        let sharding = Sharding::new(&SHARDS_WHEN_CREATING);
        assert_eq!(
            path(&sharding, "q5907ba65f-se7100000000000000147"),
            "q/590/7ba65f-se7100000000000000147.f"
        );
        assert_eq!(path(&sharding, "xn0_c654aaaaaaaaaaaaaaaaa-s0-c1"), "x/n0_/c654aaaaaaaaaaaaaaaaa-s0-c1.f");
        assert_eq!(path(&sharding, "_log_20260101000000_aaaa"), "_/log/_20260101000000_aaaa.f");
        assert_eq!(path(&sharding, "xe7"), "xe7.f");
        assert_eq!(path(&sharding, "kopia.maintenance..."), "kopia.maintenance....f");
        assert_eq!(path(&sharding, "kopia.maintenance...."), "k/opi/a.maintenance.....f");
        assert_eq!(
            path(&Sharding::new(&[]), "q5907ba65f-se7100000000000000147"),
            "q5907ba65f-se7100000000000000147.f"
        );
    }

    #[test]
    fn first_matching_override_wins_and_short_rest_ends_sharding() {
        let json = br#"{"default":[3,3],"maxNonShardedLength":4,"overrides":[{"prefix":"x","shards":null},{"prefix":"xn","shards":[9]},{"prefix":"p","shards":[2,0,3]}],"later":1}"#;
        let sharding = Sharding::parse(json).expect("valid");
        assert_eq!(path(&sharding, "xn0_abcdef"), "xn0_abcdef.f");
        assert_eq!(path(&sharding, "p123456"), "p1/234/56.f");
        assert_eq!(path(&sharding, "p1234"), "p1/234.f");
        assert_eq!(path(&sharding, "q123"), "q123.f");
        assert_eq!(path(&sharding, "q12345"), "q12/345.f");
    }

    #[test]
    fn written_file_is_kopias_byte_for_byte() {
        let json = Sharding::new(&SHARDS_WHEN_CREATING).to_json();
        assert_eq!(json, b"{\"default\":[1,3],\"maxNonShardedLength\":20}\n");
        assert_eq!(Sharding::parse(&json).expect("valid"), Sharding::new(&[1, 3]));
    }

    #[test]
    fn damaged_file_is_refused_not_guessed() {
        for json in [&b""[..], b"[1,3]x", b"{\"default\":[-1]}", b"{\"default\":7}"] {
            assert_eq!(Sharding::parse(json).expect_err("damaged").kind, ErrorKind::Corrupted);
        }
    }

    #[test]
    fn names_that_leave_the_root_are_refused() {
        let sharding = Sharding { non_sharded_length_max: 0, ..Sharding::new(&[2, 1]) };
        for id in ["", "../../etc/passwd", "a/b", "..abc", "ab.cd", "a\0b"] {
            let error = sharding.path_of(&id.into()).expect_err(id);
            assert_eq!(error.kind, ErrorKind::InvalidArgument, "{id:?}");
        }
        assert!(sharding.path_of(&"äöü-not-ascii".into()).is_ok());
    }
}
