//! The common shape of object store URLs: `scheme://bucket/prefix?key=value&…`.
//!
//! Parsing only. A key that the provider does not know is refused by name; no key takes a secret:
//! secrets are in files and variables, because URLs are logged.

use super::transport::{Timeouts, TransportOptions};
use crate::error::{Error, ErrorKind, Result};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Query keys that every provider knows.
const COMMON_KEYS: [&str; 8] = [
    "prefix",
    "endpoint",
    "ca-file",
    "insecure-skip-tls-verify",
    "connect-timeout",
    "first-byte-timeout",
    "stall-timeout",
    "page-length",
];

/// A URL in its parts.
#[derive(Debug)]
pub(super) struct StoreUrl {
    scheme: String,
    pub(super) bucket: String,
    /// What goes before each blob name.
    pub(super) prefix: String,
    options: Vec<(String, String)>,
}

impl StoreUrl {
    /// `rest` is what follows `scheme://`; `known` are the provider's own keys.
    ///
    /// # Errors
    /// `InvalidArgument`, naming what is wrong.
    pub(super) fn parse(scheme: &str, rest: &str, known: &[&str]) -> Result<Self> {
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, path) = location.split_once('/').unwrap_or((location, ""));
        let mut url = Self {
            scheme: scheme.to_owned(),
            bucket: bucket.to_owned(),
            prefix: String::new(),
            options: Vec::new(),
        };
        if bucket.is_empty() || bucket.contains(['@', ':']) {
            return Err(url.refused(&format!("it must begin with a bucket: {scheme}://bucket/prefix")));
        }
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let all = || COMMON_KEYS.iter().chain(known);
            if !all().any(|known| *known == key) {
                let mut keys: Vec<_> = all().copied().collect();
                keys.sort_unstable();
                return Err(url.refused(&format!("option {key:?} is unknown; there are {}", keys.join(", "))));
            }
            if url.option(&key).is_some() {
                return Err(url.refused(&format!("option {key:?} is given twice")));
            }
            url.options.push((key.into_owned(), value.into_owned()));
        }
        let path = percent_encoding::percent_decode_str(path).decode_utf8();
        let path = path.map_err(|_| url.refused("its prefix is not UTF-8"))?;
        url.prefix = match (url.option("prefix"), path.trim_matches('/')) {
            (Some(prefix), "") => prefix.to_owned(),
            (Some(_), _) => return Err(url.refused("give the prefix as path or as option, not both")),
            (None, "") => String::new(),
            (None, folder) => format!("{folder}/"),
        };
        url.check_prefix()?;
        Ok(url)
    }

    /// URLs are made simple on their way: `a/../b` would be asked for as `b`, and listed as what it is.
    fn check_prefix(&self) -> Result<()> {
        if self.prefix.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(
                self.refused(&format!("no part of its prefix may be . or .., as in {:?}", self.prefix))
            );
        }
        if self.prefix.contains(char::is_control) {
            return Err(self.refused(&format!("its prefix {:?} has control characters", self.prefix)));
        }
        Ok(())
    }

    pub(super) fn refused(&self, why: &str) -> Error {
        let message = format!("cannot use {}://{} as a storage: {why}", self.scheme, self.bucket);
        Error::new(ErrorKind::InvalidArgument, message)
    }

    pub(super) fn option(&self, key: &str) -> Option<&str> {
        let found = self.options.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.option(key).map(ToOwned::to_owned)
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.option(key).map(PathBuf::from)
    }

    /// # Errors
    /// `InvalidArgument` unless it is `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.option(key) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.refused(&format!("{key} must be true or false, not {other:?}"))),
        }
    }

    /// `endpoint` as an origin without a slash at its end: TLS unless it says `http://`.
    ///
    /// # Errors
    /// `InvalidArgument` if it has a path or another scheme.
    pub(super) fn endpoint(&self) -> Result<Option<String>> {
        let endpoint = self.endpoint_with_path()?;
        if endpoint.as_deref().and_then(host_of).is_some_and(|host| host.contains('/')) {
            return Err(self.refused("endpoint must be http://host:port or https://host:port without a path"));
        }
        Ok(endpoint)
    }

    /// As [`Self::endpoint`], but a path may follow.
    ///
    /// # Errors
    /// `InvalidArgument` if it has another scheme, a query or a user.
    pub(super) fn endpoint_with_path(&self) -> Result<Option<String>> {
        let Some(text) = self.option("endpoint") else { return Ok(None) };
        let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let endpoint = text.trim_end_matches('/');
        match host_of(endpoint) {
            Some(host) if !host.is_empty() && !host.starts_with('/') && !host.contains(['?', '@']) => {
                Ok(Some(endpoint.to_owned()))
            }
            _ => Err(self.refused("endpoint must be http://host:port or https://host:port")),
        }
    }

    /// Blobs that a page of a listing is to have; without one what the storage gives.
    ///
    /// # Errors
    /// `InvalidArgument` unless it is a number above 0.
    pub(super) fn page_length(&self) -> Result<Option<NonZeroUsize>> {
        let Some(text) = self.option("page-length") else { return Ok(None) };
        let refused = |_| self.refused(&format!("page-length must be a number above 0, not {text:?}"));
        text.parse().map(Some).map_err(refused)
    }

    pub(super) fn transport(&self) -> Result<TransportOptions> {
        Ok(TransportOptions {
            ca_file: self.path("ca-file"),
            insecure_skip_tls_verify: self.flag("insecure-skip-tls-verify")?.unwrap_or(false),
            timeouts: self.timeouts()?,
        })
    }

    fn timeouts(&self) -> Result<Timeouts> {
        let default = Timeouts::default();
        Ok(Timeouts {
            connect: self.seconds("connect-timeout", default.connect)?,
            first_byte: self.seconds("first-byte-timeout", default.first_byte)?,
            stall: self.seconds("stall-timeout", default.stall)?,
        })
    }

    fn seconds(&self, key: &str, default: Duration) -> Result<Duration> {
        let Some(text) = self.option(key) else { return Ok(default) };
        let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
        let seconds = seconds
            .ok_or_else(|| self.refused(&format!("{key} must be a number of seconds, not {text:?}")))?;
        Ok(Duration::from_secs(seconds))
    }
}

/// What follows the scheme of an endpoint, if that is HTTP.
fn host_of(endpoint: &str) -> Option<&str> {
    endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_folder_and_an_option_is_taken_as_it_is() {
        let prefix = |rest| StoreUrl::parse("s3", rest, &[]).expect(rest).prefix;
        assert_eq!(prefix("b"), "");
        assert_eq!(prefix("b/"), "");
        assert_eq!(prefix("b/velero/kopia/ns"), "velero/kopia/ns/");
        assert_eq!(prefix("b/velero/kopia/ns/"), "velero/kopia/ns/");
        assert_eq!(prefix("b/a%20b"), "a b/");
        assert_eq!(prefix("b?prefix=half-"), "half-");
    }

    #[test]
    fn what_is_refused_is_named() {
        for (rest, named) in [
            (
                "b?regoin=x",
                "\"regoin\" is unknown; there are ca-file, connect-timeout, endpoint, first-byte-timeout, \
                 insecure-skip-tls-verify, page-length, prefix, region, stall-timeout",
            ),
            ("b?region=x&region=y", "twice"),
            ("", "bucket"),
            ("key:secret@b/p", "bucket"),
            ("b/p?prefix=q", "not both"),
            ("b/a/../c", ". or .."),
            ("b?prefix=/./x/", ". or .."),
            ("b?prefix=x%0A", "control"),
        ] {
            let error = StoreUrl::parse("s3", rest, &["region"]).expect_err(rest);
            assert!(error.kind == ErrorKind::InvalidArgument && error.to_string().contains(named), "{error}");
        }
        let url = |rest| StoreUrl::parse("s3", rest, &[]).expect(rest);
        for rest in [
            "b?endpoint=http://h/path",
            "b?endpoint=ftp://h",
            "b?endpoint=http://",
            "b?endpoint=http://k:s@h",
        ] {
            assert!(url(rest).endpoint().expect_err(rest).to_string().contains("endpoint"));
        }
        assert!(url("b?insecure-skip-tls-verify=1").transport().is_err());
        for rest in ["b?connect-timeout=0", "b?stall-timeout=1.5", "b?first-byte-timeout=-1"] {
            assert!(url(rest).transport().is_err(), "{rest}");
        }
        assert!(url("b?page-length=0").page_length().is_err());
        let timeouts = url("b?stall-timeout=7").transport().expect("valid").timeouts;
        assert_eq!(timeouts, Timeouts { stall: Duration::from_secs(7), ..Timeouts::default() });
    }

    #[test]
    fn an_endpoint_is_tls_unless_it_says_otherwise() {
        let endpoint = |rest| StoreUrl::parse("s3", rest, &[]).expect(rest).endpoint().expect(rest);
        assert_eq!(endpoint("b?endpoint=minio:9000").as_deref(), Some("https://minio:9000"));
        assert_eq!(endpoint("b?endpoint=http%3A%2F%2Fminio%3A9000%2F").as_deref(), Some("http://minio:9000"));
        assert_eq!(endpoint("b"), None);
        let url = StoreUrl::parse("azure", "b?endpoint=http://h:1/account/", &[]).expect("valid");
        assert_eq!(url.endpoint_with_path().expect("a path").as_deref(), Some("http://h:1/account"));
        assert!(url.endpoint().is_err());
    }
}
