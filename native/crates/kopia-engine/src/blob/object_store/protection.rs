//! Locks of objects, in the words of each store, and what S3 protects a bucket by.
//!
//! The crate has no words for these. On a put they are headers, added before the request is signed; for objects that
//! are there already the requests are made here, and go the way of all others. Azure and Google know no governance by
//! Kopia's choice: there each lock is the strict one. Source: Kopia `repo/blob/azure`, `repo/blob/gcs`.

use super::failure::{carried, from_http};
use super::runtime::block_on;
use crate::blob::storage::{BucketProtection, RetentionMode};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use ::object_store::client::{HttpClient, HttpError, HttpRequest, HttpRequestBody};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use kopia_format::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// What a key keeps as it is in a URL; everything else is part of the signature as `%XX`.
pub(super) const KEY: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Whose words are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    S3,
    Azure,
    Gcs,
}

/// A lock as it is asked for with a put.
pub(super) type Lock = (RetentionMode, Duration);

impl Dialect {
    /// The mode as the store writes it.
    const fn mode(self, mode: RetentionMode) -> &'static str {
        match (self, mode) {
            (Self::S3, RetentionMode::Governance) => "GOVERNANCE",
            (Self::S3 | Self::Gcs, _) => "COMPLIANCE",
            (Self::Azure, _) => "Locked",
        }
    }

    const fn names(self) -> [HeaderName; 2] {
        let (mode, until) = match self {
            Self::S3 => ("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"),
            Self::Gcs => ("x-goog-object-lock-mode", "x-goog-object-lock-retain-until-date"),
            Self::Azure => ("x-ms-immutability-policy-mode", "x-ms-immutability-policy-until-date"),
        };
        [HeaderName::from_static(mode), HeaderName::from_static(until)]
    }

    /// `now + period` as the store writes times.
    fn until(self, now: Timestamp, period: Duration) -> Result<String> {
        let seconds = i64::try_from(period.as_secs()).ok().and_then(|period| now.seconds.checked_add(period));
        let until = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        let form = if self == Self::Azure { "%a, %d %b %Y %H:%M:%S GMT" } else { "%Y-%m-%dT%H:%M:%S.%3fZ" };
        until.map(|until| until.strftime(form).to_string()).ok_or_else(|| {
            let message = format!("a retention of {} s ends beyond all time", period.as_secs());
            Error::new(ErrorKind::InvalidArgument, message)
        })
    }

    /// Adds the headers of a lock that begins now.
    pub(super) fn add_headers(self, headers: &mut HeaderMap, lock: Lock, now: Timestamp) -> Result<()> {
        let [mode, until] = self.names();
        headers.insert(mode, HeaderValue::from_static(self.mode(lock.0)));
        headers.insert(until, header(&self.until(now, lock.1)?)?);
        Ok(())
    }

    /// Adds the headers of the lock that a put is to have, if it is to have one.
    pub(super) fn lock_put(
        self,
        request: &mut HttpRequest,
        now: Timestamp,
    ) -> std::result::Result<(), HttpError> {
        match request.extensions().get::<Lock>().copied() {
            Some(lock) => self.add_headers(request.headers_mut(), lock, now).map_err(carried),
            None => Ok(()),
        }
    }
}

/// A header of ours.
pub(super) fn header(value: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(value).map_err(|_| {
        Error::new(ErrorKind::Internal, "a header value has characters that HTTP does not allow")
    })
}

/// Requests about protection, to one bucket.
#[derive(Debug)]
pub(super) struct Protector {
    pub(super) dialect: Dialect,
    /// Authorizes what it sends.
    pub(super) client: HttpClient,
    /// URL of the bucket, without a slash at its end.
    pub(super) bucket_url: String,
    pub(super) clock: Arc<dyn Clock>,
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
        let now = self.clock.now();
        let key = utf8_percent_encode(key, &KEY);
        let mut headers = HeaderMap::new();
        let (query, body) = if self.dialect == Dialect::Azure {
            self.dialect.add_headers(&mut headers, (mode, period), now)?;
            ("comp=immutabilityPolicies", String::new())
        } else {
            let (mode, until) = (self.dialect.mode(mode), self.dialect.until(now, period)?);
            ("retention", retention_document(mode, &until))
        };
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        self.send(Method::PUT, &format!("/{key}?{query}"), headers, body).map(drop)
    }

    /// What the bucket has; `None` if it does not tell: the account may not ask, or the store knows no locks.
    pub(super) fn of_bucket(&self) -> Result<Option<BucketProtection>> {
        if self.dialect != Dialect::S3 {
            return Ok(None);
        }
        let (versioning, lock) = std::thread::scope(|scope| {
            let lock = scope.spawn(|| self.ask::<ObjectLock>("?object-lock"));
            let versioning = self.ask::<Versioning>("?versioning");
            (versioning, lock.join().unwrap_or(Ok(None)))
        });
        Ok(versioning?.zip(lock?).map(|(versioning, lock)| BucketProtection {
            has_versions: versioning.status == "Enabled",
            has_object_lock: lock.object_lock_enabled == "Enabled",
        }))
    }

    fn ask<T: Default + for<'de> Deserialize<'de>>(&self, query: &str) -> Result<Option<T>> {
        match self.send(Method::GET, query, HeaderMap::new(), String::new()) {
            Ok(body) => Ok(quick_xml::de::from_str(&String::from_utf8_lossy(&body)).ok()),
            Err(error) if error.kind == ErrorKind::BlobNotFound => Ok(Some(T::default())),
            Err(error) if error.temporary => Err(error),
            Err(error) => {
                tracing::debug!(%error, query, "the bucket does not tell its protection");
                Ok(None)
            }
        }
    }

    fn send(&self, method: Method, rest: &str, headers: HeaderMap, body: String) -> Result<Bytes> {
        let url = format!("{}{rest}", self.bucket_url);
        let request = http::Request::builder().method(method).uri(url).body(HttpRequestBody::from(body));
        let mut request = http_request(request)?;
        *request.headers_mut() = headers;
        block_on(async {
            let answer = self.client.execute(request).await.map_err(|error| from_http(&error))?;
            answer.into_body().bytes().await.map_err(|error| from_http(&error))
        })
    }
}

fn retention_document(mode: &str, until: &str) -> String {
    format!(
        "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
         <RetainUntilDate>{until}</RetainUntilDate></Retention>"
    )
}

fn http_request(built: std::result::Result<HttpRequest, http::Error>) -> Result<HttpRequest> {
    built.map_err(|error| Error::new(ErrorKind::InvalidArgument, format!("no request can be made: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Timestamp = Timestamp { seconds: 0, nanoseconds: 0 };
    const DAY: Lock = (RetentionMode::Governance, Duration::from_secs(86_400));

    #[test]
    fn each_store_has_its_words_for_a_lock() {
        for (dialect, mode, until) in [
            (Dialect::S3, "GOVERNANCE", "1970-01-02T00:00:00.000Z"),
            (Dialect::Gcs, "COMPLIANCE", "1970-01-02T00:00:00.000Z"),
            (Dialect::Azure, "Locked", "Fri, 02 Jan 1970 00:00:00 GMT"),
        ] {
            let mut headers = HeaderMap::new();
            dialect.add_headers(&mut headers, DAY, EPOCH).expect("headers");
            let [mode_name, until_name] = dialect.names();
            assert!(headers[&mode_name] == mode && headers[&until_name] == until, "{headers:?}");
        }
        assert!(Dialect::S3.until(EPOCH, Duration::MAX).is_err());
    }
}
