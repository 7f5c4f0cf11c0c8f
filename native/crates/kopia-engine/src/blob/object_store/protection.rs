//! What S3 protects a bucket by, and locks of objects that are there already.
//!
//! The crate has no requests for these, so they are made here and go through the same signing as
//! all others. Azure and GCS have such locks too, but none that the crate can set (design 0002).

use super::failure::from_http;
use super::runtime::block_on;
use super::signing::{SigningClient, mode_name, retain_until};
use crate::blob::storage::{BucketProtection, RetentionMode};
use crate::error::{Error, ErrorKind, Result};
use ::object_store::client::{HttpRequest, HttpRequestBody, HttpService};
use bytes::Bytes;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::time::Duration;

/// What a key keeps as it is in a URL; everything else is part of the signature as `%XX`.
const KEY: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Requests about protection, to one bucket.
#[derive(Debug)]
pub(super) struct Protector {
    pub(super) client: SigningClient,
    /// URL of the bucket, without a slash at its end.
    pub(super) bucket_url: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Versioning {
    status: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ObjectLock {
    object_lock_enabled: String,
}

impl Protector {
    /// Locks the newest version of an object until `period` from now.
    pub(super) fn extend(&self, key: &str, mode: RetentionMode, period: Duration) -> Result<()> {
        let until = retain_until(self.client.clock.now(), period)?;
        let mode = mode_name(mode);
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let key = utf8_percent_encode(key, &KEY);
        self.send(Method::PUT, &format!("/{key}?retention"), body).map(drop)
    }

    /// What the bucket has; `None` if it does not tell: the account may not ask, or the store knows no locks.
    pub(super) fn of_bucket(&self) -> Result<Option<BucketProtection>> {
        let versioning: Option<Versioning> = self.ask("?versioning")?;
        let lock: Option<ObjectLock> = self.ask("?object-lock")?;
        Ok(versioning.zip(lock).map(|(versioning, lock)| BucketProtection {
            has_versions: versioning.status == "Enabled",
            has_object_lock: lock.object_lock_enabled == "Enabled",
        }))
    }

    fn ask<T: Default + for<'de> Deserialize<'de>>(&self, query: &str) -> Result<Option<T>> {
        match self.send(Method::GET, query, String::new()) {
            Ok(body) => Ok(quick_xml::de::from_str(&String::from_utf8_lossy(&body)).ok()),
            Err(error) if error.kind == ErrorKind::BlobNotFound => Ok(Some(T::default())),
            Err(error) if error.temporary => Err(error),
            Err(error) => {
                tracing::debug!(%error, query, "the bucket does not tell its protection");
                Ok(None)
            }
        }
    }

    fn send(&self, method: Method, rest: &str, body: String) -> Result<Bytes> {
        let url = format!("{}{rest}", self.bucket_url);
        let request = http::Request::builder().method(method).uri(url).body(HttpRequestBody::from(body));
        let request = http_request(request)?;
        block_on(async {
            let answer = self.client.call(request).await.map_err(|error| from_http(&error))?;
            answer.into_body().bytes().await.map_err(|error| from_http(&error))
        })
    }
}

fn http_request(built: std::result::Result<HttpRequest, http::Error>) -> Result<HttpRequest> {
    built.map_err(|error| Error::new(ErrorKind::InvalidArgument, format!("no request can be made: {error}")))
}
