//! The one rule of names: an object's key is the prefix and the blob's name, joined as they are.
//!
//! The crate's paths drop a slash at the front and refuse empty parts. A prefix with such is put into the request's URL
//! here, below the crate and above the signature.

use super::failure::{Answered, carried};
use super::protection::KEY;
use crate::error::{Error, ErrorKind, Result};
use ::object_store::client::{HttpClient, HttpRequest, HttpResponse, HttpService};
use ::object_store::path::Path;
use async_trait::async_trait;
use http::uri::PathAndQuery;
use kopia_format::BlobId;
use percent_encoding::utf8_percent_encode;

/// Kopia's storage-class settings of a bucket: no blob.
const HIDDEN: &str = ".storageconfig";

/// What goes before the name of each blob.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
    /// The crate cannot say it: [`Prefixing`] does.
    pub(super) is_raw: bool,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let probe = format!("{prefix}x");
        let is_raw = Path::parse(&probe).is_ok_and(|path| path.as_ref() == probe);
        Self { prefix: prefix.to_owned(), is_raw: !is_raw }
    }

    /// The key of a blob, or the beginning of the keys of several.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What the crate is asked for.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that no object can have.
    pub(super) fn path(&self, id: &BlobId) -> Result<Path> {
        let key = if self.is_raw { id.to_string() } else { self.key(id.as_str()) };
        Path::parse(&key).map_err(|error| {
            let message = format!("no object can be named {}: {error}", self.key(id.as_str()));
            Error::new(ErrorKind::InvalidArgument, message)
        })
    }

    /// A listed key without the prefix.
    ///
    /// # Errors
    /// `Storage` for a key that was not asked for: whoever listed it does not mean the same by the prefix as whoever
    /// stores, and what is put there would not be found again.
    pub(super) fn name<'a>(&self, key: &'a str) -> Result<&'a str> {
        key.strip_prefix(&self.prefix).ok_or_else(|| {
            let message = format!(
                "the storage lists {key:?}, which does not begin with the prefix {:?}: choose another prefix",
                self.prefix
            );
            Error::new(ErrorKind::Storage, message)
        })
    }

    /// The blob that a listed key stands for; `None` for what is no blob: markers of folders, what lies deeper, and
    /// names that could not be asked for.
    ///
    /// # Errors
    /// As [`Self::name`].
    pub(super) fn blob(&self, key: &str) -> Result<Option<BlobId>> {
        let name = self.name(key)?;
        if name.is_empty() || name == HIDDEN || name.contains('/') {
            return Ok(None);
        }
        if Path::parse(name).is_err() {
            tracing::warn!(key = ?key, "an object that is no blob is passed over");
            return Ok(None);
        }
        Ok(Some(BlobId::new(name)))
    }
}

/// Puts a prefix into the URLs of requests that were made without it.
#[derive(Debug)]
pub(super) struct Prefixing {
    inner: HttpClient,
    /// The path of the bucket in a URL, with a slash at its end.
    bucket_path: String,
    /// As it stands in a URL.
    prefix: String,
}

impl Prefixing {
    /// `client` as the crate is to use it, for the bucket at `bucket_url`.
    pub(super) fn around(client: HttpClient, keys: &Keys, bucket_url: &str) -> HttpClient {
        if !keys.is_raw {
            return client;
        }
        let path = bucket_url.split_once("://").map_or("", |(_, rest)| rest);
        let path = path.split_once('/').map_or("", |(_, path)| path);
        let bucket_path = if path.is_empty() { "/".to_owned() } else { format!("/{path}/") };
        let prefix = utf8_percent_encode(&keys.prefix, &KEY).to_string();
        HttpClient::new(Self { inner: client, bucket_path, prefix })
    }

    fn prefixed(&self, path_and_query: &str) -> Option<PathAndQuery> {
        let name = path_and_query.strip_prefix(&self.bucket_path).filter(|name| !name.is_empty())?;
        PathAndQuery::try_from(format!("{}{}{name}", self.bucket_path, self.prefix)).ok()
    }
}

#[async_trait]
impl HttpService for Prefixing {
    async fn call(&self, mut request: HttpRequest) -> Answered<HttpResponse> {
        let mut uri = request.uri().clone().into_parts();
        let asked = uri.path_and_query.as_ref().map_or("", PathAndQuery::as_str);
        let unknown = |what: &str| {
            carried(Error::new(ErrorKind::Internal, format!("no prefix can be put into {what}")))
        };
        uri.path_and_query = Some(self.prefixed(asked).ok_or_else(|| unknown(asked))?);
        *request.uri_mut() = http::Uri::from_parts(uri).map_err(|error| unknown(&error.to_string()))?;
        self.inner.execute(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::transport::{Transport, TransportOptions};
    use super::*;

    #[test]
    fn a_key_is_prefix_and_name_whoever_says_it() {
        for prefix in ["", "x/", "/x/", "//", "a//b/", "half-", "/half-", "a b/"] {
            let keys = Keys::new(prefix);
            let key = keys.key("p1");
            assert_eq!(keys.blob(&key).expect("ours"), Some("p1".into()), "{prefix}");
            let crates = keys.path(&"p1".into()).expect("a path").as_ref().to_owned();
            assert_eq!(crates, if keys.is_raw { "p1".into() } else { key }, "{prefix}");
        }
        let raw = |prefix| Keys::new(prefix).is_raw;
        assert!(raw("/x/") && raw("//") && raw("a//b/") && !raw("x/") && !raw("half-") && !raw(""));
    }

    #[test]
    fn what_is_no_blob_is_passed_over_and_what_was_not_asked_for_is_an_error() {
        let keys = Keys::new("/x/");
        for key in ["/x/", "/x/.storageconfig", "/x/deep/er", "/x/..", "/x/.", "/x/../../etc", "/x/a\nb"] {
            assert_eq!(keys.blob(key).expect(key), None, "{key}");
        }
        for key in ["x/kopia.repository", "kopia.repository", "//x/p1"] {
            let error = keys.blob(key).expect_err(key);
            assert!(
                !error.temporary && error.to_string().contains("does not begin with the prefix"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_prefix_is_put_behind_the_bucket() {
        let client = Transport::new(&TransportOptions::default()).expect("a client").client();
        let prefixed = |bucket_url: &str, asked: &str| {
            let (bucket_path, prefix) = match bucket_url {
                "http://b.h" => ("/".to_owned(), "/x%20y/".to_owned()),
                _ => ("/b/".to_owned(), "/x%20y/".to_owned()),
            };
            let prefixing = Prefixing { inner: client.clone(), bucket_path, prefix };
            prefixing.prefixed(asked).map(|path| path.to_string())
        };
        assert_eq!(prefixed("http://h/b", "/b/p1?tagging").as_deref(), Some("/b//x%20y/p1?tagging"));
        assert_eq!(prefixed("http://b.h", "/p1").as_deref(), Some("//x%20y/p1"));
        assert_eq!(prefixed("http://h/b", "/other/p1"), None);
    }
}
