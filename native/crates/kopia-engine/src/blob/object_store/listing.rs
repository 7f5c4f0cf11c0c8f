//! Listings of a bucket, page by page, in the words of each store.
//!
//! Asked for and read here and not by the crate: its names of objects cannot begin with a slash nor have an empty part,
//! so that what was put under `/x/` was not found again, and one foreign key with a `..` in it ended every listing.
//! A key is the prefix and the blob's name, joined as they are, for whoever asks and whoever lists; that is Kopia's rule
//! (`repo/blob/s3/s3_storage.go`, `getObjectNameString` and `ListBlobs`).

use super::failure::from_http;
use super::protection::Dialect;
use crate::error::{Error, ErrorKind, Result};
use ::object_store::client::{HttpClient, HttpRequestBody, HttpResponseBody};
use http::Method;
use http_body_util::BodyExt;
use jiff::fmt::rfc2822;
use kopia_format::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::num::NonZeroUsize;

/// What a value keeps as it is in a query.
const VALUE: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// No store gives more entries in a page than 5,000, with keys of a kilobyte each and their metadata.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// An object of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The whole key, prefix included, as the store says it.
    pub(super) key: String,
    pub(super) length: u64,
    pub(super) modified: Timestamp,
}

impl Listed {
    fn folder(key: String) -> Self {
        Self { key, length: 0, modified: Timestamp::default() }
    }
}

/// How far a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Every key.
    All,
    /// Keys without a further slash, and the folders of the others; a folder's key ends in `/`.
    Folder,
}

/// A page, and what the next one is asked for with.
pub(super) type Page = (Vec<Listed>, Option<String>);

/// Asks one bucket for its keys.
#[derive(Debug)]
pub(super) struct Lister {
    pub(super) dialect: Dialect,
    /// Authorizes what it sends.
    pub(super) client: HttpClient,
    /// URL of the bucket, without a slash at its end.
    pub(super) bucket_url: String,
}

impl Lister {
    /// One page of the keys that begin with `prefix`.
    ///
    /// # Errors
    /// `Storage` for an answer that is no listing or does not end; what the store refuses.
    pub(super) async fn page(
        &self,
        prefix: &str,
        page_length: Option<NonZeroUsize>,
        token: Option<&str>,
        depth: Depth,
    ) -> Result<Page> {
        let delimiter = if depth == Depth::Folder { "&delimiter=%2F" } else { "" };
        let query = self.query(prefix, page_length, token);
        let url = format!("{}?{query}{delimiter}", self.bucket_url);
        let request = http::Request::builder().method(Method::GET).uri(url).body(HttpRequestBody::empty());
        let request = request.map_err(|error| {
            Error::new(ErrorKind::InvalidArgument, format!("no request can be made: {error}"))
        })?;
        let answer = self.client.execute(request).await.map_err(|error| from_http(&error))?;
        let body = bounded(answer.into_body()).await?;
        match self.dialect {
            Dialect::Azure => azure_page(&body),
            Dialect::S3 | Dialect::Gcs => s3_page(&body),
        }
    }

    fn query(&self, prefix: &str, page_length: Option<NonZeroUsize>, token: Option<&str>) -> String {
        let (fixed, length_key, token_key) = match self.dialect {
            Dialect::Azure => ("restype=container&comp=list", "maxresults", "marker"),
            Dialect::S3 | Dialect::Gcs => ("list-type=2", "max-keys", "continuation-token"),
        };
        let length = page_length.map(|length| length.to_string());
        let pairs = [("prefix", Some(prefix)), (length_key, length.as_deref()), (token_key, token)];
        pairs
            .iter()
            .filter_map(|(key, value)| Some((key, (*value)?)))
            .fold(fixed.to_owned(), |query, (key, value)| {
                format!("{query}&{key}={}", utf8_percent_encode(value, &VALUE))
            })
    }
}

/// A body that is no larger than a page can be.
async fn bounded(mut body: HttpResponseBody) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| from_http(&error))?;
        let Ok(piece) = frame.into_data() else { continue };
        if bytes.len() + piece.len() > PAGE_BYTES_MAX {
            let message = format!(
                "a page of the listing is longer than {PAGE_BYTES_MAX} bytes: this is no object store"
            );
            return Err(Error::new(ErrorKind::Storage, message));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct S3Page {
    #[serde(default)]
    contents: Vec<S3Entry>,
    #[serde(default)]
    common_prefixes: Vec<S3Folder>,
    next_continuation_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct S3Folder {
    prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct S3Entry {
    key: String,
    size: u64,
    last_modified: String,
}

fn s3_page(body: &[u8]) -> Result<Page> {
    let page: S3Page = parsed(body)?;
    let folders = page.common_prefixes.into_iter().map(|folder| Ok(Listed::folder(folder.prefix)));
    let listed = page.contents.into_iter().map(|entry| {
        let modified =
            entry.last_modified.parse::<jiff::Timestamp>().map_err(|_| no_time(&entry.last_modified))?;
        Ok(Listed { key: entry.key, length: entry.size, modified: whole_seconds(modified) })
    });
    Ok((
        folders.chain(listed).collect::<Result<_>>()?,
        page.next_continuation_token.filter(|token| !token.is_empty()),
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AzurePage {
    blobs: AzureBlobs,
    next_marker: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct AzureBlobs {
    blob: Vec<AzureEntry>,
    blob_prefix: Vec<AzureFolder>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AzureFolder {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AzureEntry {
    name: String,
    properties: AzureProperties,
}

#[derive(Deserialize)]
struct AzureProperties {
    #[serde(rename = "Last-Modified")]
    last_modified: String,
    #[serde(rename = "Content-Length")]
    content_length: u64,
    /// `directory` in accounts with a hierarchical namespace.
    #[serde(rename = "ResourceType", default)]
    resource_type: String,
}

fn azure_page(body: &[u8]) -> Result<Page> {
    let page: AzurePage = parsed(body)?;
    let folders = page.blobs.blob_prefix.into_iter().map(|folder| Ok(Listed::folder(folder.name)));
    let blobs = page.blobs.blob.into_iter().filter(|entry| entry.properties.resource_type != "directory");
    let listed = blobs.map(|entry| {
        let text = &entry.properties.last_modified;
        let modified = rfc2822::parse(text).map_err(|_| no_time(text))?.timestamp();
        Ok(Listed {
            key: entry.name,
            length: entry.properties.content_length,
            modified: whole_seconds(modified),
        })
    });
    Ok((folders.chain(listed).collect::<Result<_>>()?, page.next_marker.filter(|token| !token.is_empty())))
}

fn parsed<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T> {
    let text = String::from_utf8_lossy(body);
    quick_xml::de::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
        Error::new(ErrorKind::Storage, format!("the answer is no listing: {error}")).temporary()
    })
}

fn no_time(text: &str) -> Error {
    Error::new(ErrorKind::Storage, format!("the listing has {text:?} where a time should be"))
}

/// A HEAD knows no more, and a listing must say the same.
fn whole_seconds(time: jiff::Timestamp) -> Timestamp {
    Timestamp { seconds: time.as_second(), nanoseconds: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lister(dialect: Dialect) -> Lister {
        let client = super::super::transport::Transport::new(&super::super::TransportOptions::default());
        let client = client.expect("a client").client();
        Lister { dialect, client, bucket_url: "http://127.0.0.1:1/b".into() }
    }

    #[test]
    fn each_store_is_asked_in_its_words() {
        let page = NonZeroUsize::new(7);
        assert_eq!(
            lister(Dialect::S3).query("/x/ &", page, Some("t=1")),
            "list-type=2&prefix=%2Fx%2F%20%26&max-keys=7&continuation-token=t%3D1"
        );
        assert_eq!(lister(Dialect::Azure).query("", None, None), "restype=container&comp=list&prefix=");
    }

    #[test]
    fn keys_are_read_as_they_are() {
        let entry = |key: &str| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-30T01:02:03.9Z</LastModified><ETag>e</ETag><Size>5</Size></Contents>"
            )
        };
        let keys = ["/x/p1", "x//q2", "../up", "a &amp; b"].map(entry).concat();
        let text = format!(
            "<ListBucketResult><Name>b</Name>{keys}<NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
        );
        let (listed, token) = s3_page(text.as_bytes()).expect("a page");
        let keys: Vec<_> = listed.iter().map(|one| one.key.as_str()).collect();
        assert_eq!((keys, token.as_deref()), (vec!["/x/p1", "x//q2", "../up", "a & b"], Some("t")));
        let modified = Timestamp { seconds: 1_796_000_523, nanoseconds: 0 };
        assert_eq!((listed[0].length, listed[0].modified), (5, modified));
    }

    #[test]
    fn azures_page_has_blobs_and_no_directories() {
        let blob = |name: &str, kind: &str| {
            format!(
                "<Blob><Name>{name}</Name><Properties><Last-Modified>Mon, 30 Nov 2026 01:02:03 GMT</Last-Modified>\
                 <Content-Length>5</Content-Length>{kind}</Properties></Blob>"
            )
        };
        let blobs = blob("/x/p1", "") + &blob("dir", "<ResourceType>directory</ResourceType>");
        let text =
            format!("\u{feff}<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>");
        let modified = Timestamp { seconds: 1_796_000_523, nanoseconds: 0 };
        let listed = vec![Listed { key: "/x/p1".into(), length: 5, modified }];
        assert_eq!(azure_page(text.as_bytes()).expect("a page"), (listed, None));
        let error = s3_page(b"<html>").expect_err("no listing");
        assert!(error.temporary && error.to_string().contains("no listing"), "{error}");
    }
}
