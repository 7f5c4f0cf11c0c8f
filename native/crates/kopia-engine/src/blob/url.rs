//! Where a repository is, as a person writes it: a URL or a plain path.
//!
//! Parsing only; `connection` opens. What follows the scheme of an object store is read beside
//! its provider.

use super::object_store::{AzureConfig, GcsConfig, S3Config};
use crate::error::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

const SUPPORTED: &str = "supported are s3://bucket/prefix, azure://container/prefix, gcs://bucket/prefix, file:///abs/path and a plain path";

/// A provider and what it needs to find the blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProviderConfig {
    /// A directory, as an absolute path.
    Filesystem {
        /// Root of the storage.
        path: PathBuf,
    },
    /// S3 or a compatible.
    S3(S3Config),
    /// Azure Blob Storage.
    Azure(AzureConfig),
    /// Google Cloud Storage.
    Gcs(GcsConfig),
}

impl ProviderConfig {
    /// Reads a URL or a path. A relative path is taken from the current directory.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the unknown scheme or query key.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once("://") {
            None => Self::from_path(PathBuf::from(text)),
            Some(("file", rest)) => parse_file_url(text, rest),
            Some(("s3", rest)) => S3Config::parse(rest).map(Self::S3),
            Some(("azure", rest)) => AzureConfig::parse(rest).map(Self::Azure),
            Some(("gcs", rest)) => GcsConfig::parse(rest).map(Self::Gcs),
            Some((scheme, _)) => Err(refused(text, &format!("scheme {scheme:?} is unknown; {SUPPORTED}"))),
        }
    }

    /// The directory `path`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is empty, or relative without a current directory.
    pub fn from_path(path: PathBuf) -> Result<Self> {
        let path = std::path::absolute(&path)
            .map_err(|error| refused(&path.display().to_string(), &error.to_string()))?;
        Ok(Self::Filesystem { path })
    }
}

impl fmt::Display for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filesystem { path } => write!(f, "file://{}", path.display()),
            Self::S3(config) => config.fmt(f),
            Self::Azure(config) => config.fmt(f),
            Self::Gcs(config) => config.fmt(f),
        }
    }
}

fn refused(text: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("cannot use {text:?} as a storage: {why}"))
}

/// `rest` is what follows `file://`: an optional host, a path, an optional query.
fn parse_file_url(text: &str, rest: &str) -> Result<ProviderConfig> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    if let Some(key) = query_keys(query).next() {
        return Err(refused(text, &format!("option {key:?} is unknown: a file URL takes none")));
    }
    let path = location.strip_prefix("localhost").unwrap_or(location);
    if !path.starts_with('/') {
        return Err(refused(text, "the path must be absolute and without a host: file:///abs/path"));
    }
    let bytes = percent_decoded(path).ok_or_else(|| refused(text, "% must be followed by two hex digits"))?;
    Ok(ProviderConfig::Filesystem { path: OsString::from_vec(bytes).into() })
}

fn query_keys(query: &str) -> impl Iterator<Item = &str> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').map_or(pair, |(key, _)| key))
}

/// `%41` as `A`; bytes need not be UTF-8, as in file names.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let mut decoded = [0];
        kopia_format::ids::decode_hex_into(digits, &mut decoded)?;
        bytes.push(decoded[0]);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn path(text: &str) -> PathBuf {
        match ProviderConfig::parse(text).expect(text) {
            ProviderConfig::Filesystem { path } => path,
            other => panic!("{other:?} is no directory"),
        }
    }

    #[test]
    fn file_urls_and_plain_paths_name_a_directory() {
        assert_eq!(path("file:///srv/repo"), Path::new("/srv/repo"));
        assert_eq!(path("file://localhost/srv/repo"), Path::new("/srv/repo"));
        assert_eq!(path("file:///srv/a%20b%FF"), Path::new(OsStr::from_bytes(b"/srv/a b\xff")));
        assert_eq!(path("/srv/a%20b?c=d"), Path::new("/srv/a%20b?c=d"));
        assert_eq!(path("repo"), std::env::current_dir().expect("current directory").join("repo"));
        assert_eq!(ProviderConfig::parse("/srv/repo").expect("valid").to_string(), "file:///srv/repo");
    }

    #[test]
    fn what_is_refused_is_named() {
        for (text, named) in [
            ("ftp://host/prefix", "\"ftp\" is unknown; supported are s3://bucket/prefix"),
            ("s3://bucket/prefix?colour=red", "\"colour\" is unknown; there are ca-file, "),
            ("s3:///prefix", "bucket"),
            ("file:///srv/repo?sync=no&x", "\"sync\""),
            ("file:///srv/repo?flat", "\"flat\""),
            ("file://srv/repo", "absolute"),
            ("file://", "absolute"),
            ("file:///srv/%4", "two hex digits"),
            ("file:///srv/%zz", "two hex digits"),
            ("", "empty"),
        ] {
            let error = ProviderConfig::parse(text).expect_err(text);
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
