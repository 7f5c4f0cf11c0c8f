//! Signs requests to S3, with the credentials of this moment.
//!
//! The crate can sign by itself, but has no way to add object-lock headers to a put, and signs a
//! request once. Here a request that is refused because of its credentials is signed anew, once,
//! with fresh ones: an upload outlives its session token.
//!
//! Over TLS the payload is not hashed for the signature (as Kopia does): TLS guards it on its way and the
//! AEAD at rest. Over plain HTTP the signature does. A Content-MD5 beside either was nearly half of our CPU
//! time of an upload; it is sent where a lock must have it, and once a storage has asked for it (a
//! bucket with a default retention does).

use super::aws_credentials::CredentialSource;
use super::failure::{Answered, Refusal, carried};
use super::protection::{Dialect, Lock, header};
use super::transport::frames;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use ::object_store::PutPayload;
use ::object_store::aws::{AwsAuthorizer, AwsCredential};
use ::object_store::client::{HttpClient, HttpRequest, HttpRequestBody, HttpResponse, HttpService};
use async_trait::async_trait;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Method, StatusCode};
use kopia_format::Timestamp;
use md5::{Digest, Md5};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Signs what it passes to `inner`; clones share credentials and connections.
#[derive(Debug, Clone)]
pub(super) struct SigningClient {
    pub(super) inner: HttpClient,
    pub(super) credentials: Arc<CredentialSource>,
    pub(super) region: String,
    /// Whether the payload is part of the signature.
    pub(super) sign_payload: bool,
    /// Set once the storage has refused a put without a digest.
    pub(super) digest_is_asked_for: Arc<AtomicBool>,
    pub(super) clock: Arc<dyn Clock>,
}

#[async_trait]
impl HttpService for SigningClient {
    async fn call(&self, request: HttpRequest) -> Answered<HttpResponse> {
        let (mut parts, body) = request.into_parts();
        let body = frames(body).await?;
        if self.digest_is_asked_for.load(Ordering::Relaxed) || needs_digest(&parts) {
            add_digest(&mut parts, &body).map_err(carried)?;
        }
        add_lock(&mut parts, self.clock.now()).map_err(carried)?;
        let credential = self.credentials.current(None).await.map_err(carried)?;
        let (mut status, mut refusal) = match self.send(&parts, &body, &credential).await? {
            Ok(answer) => return Ok(answer),
            Err(refused) => refused,
        };
        if refusal.asks_for_digest() && !parts.headers.contains_key(CONTENT_MD5) {
            self.digest_is_asked_for.store(true, Ordering::Relaxed);
            add_digest(&mut parts, &body).map_err(carried)?;
            (status, refusal) = match self.send(&parts, &body, &credential).await? {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            };
        }
        if refusal.is_about_credentials(status) {
            let fresh = self.credentials.current(Some(&credential)).await.map_err(carried)?;
            if *fresh != *credential {
                tracing::info!(
                    status = status.as_u16(),
                    code = refusal.code,
                    "credentials changed: trying again"
                );
                return match self.send(&parts, &body, &fresh).await? {
                    Ok(answer) => Ok(answer),
                    Err((status, refusal)) => Err(carried(refusal.error(status))),
                };
            }
        }
        Err(carried(refusal.error(status)))
    }
}

impl SigningClient {
    /// Sends once. The inner error is what the storage refuses.
    async fn send(
        &self,
        parts: &Parts,
        body: &[Bytes],
        credential: &AwsCredential,
    ) -> Answered<std::result::Result<HttpResponse, (StatusCode, Refusal)>> {
        let payload = PutPayload::from_iter(body.iter().cloned());
        let mut request = HttpRequest::from_parts(parts.clone(), HttpRequestBody::from(payload));
        let digest = self.sign_payload.then(|| sha256_of(body));
        AwsAuthorizer::new(credential, "s3", &self.region)
            .with_sign_payload(self.sign_payload)
            .try_authorize(&mut request, digest.as_ref().map(AsRef::as_ref))
            .map_err(|error| {
                carried(Error::new(ErrorKind::Internal, format!("cannot sign a request: {error}")))
            })?;
        let answer = self.inner.execute(request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(Ok(answer));
        }
        let (parts, body) = answer.into_parts();
        let body = body.bytes().await.unwrap_or_default();
        Ok(Err((status, Refusal::parse(&parts.headers, &body))))
    }
}

/// The crate takes a body in several pieces for an empty one.
fn sha256_of(body: &[Bytes]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    body.iter().for_each(|piece| context.update(piece));
    context.finish()
}

/// Whether a put must have a digest at once: one of or under a lock.
fn needs_digest(parts: &Parts) -> bool {
    parts.extensions.get::<Lock>().is_some() || parts.uri.query().is_some()
}

/// Adds the digest of a put's body.
fn add_digest(parts: &mut Parts, body: &[Bytes]) -> Result<()> {
    if parts.method == Method::PUT {
        let digest = STANDARD.encode(body.iter().fold(Md5::new(), Md5::chain_update).finalize());
        parts.headers.insert(CONTENT_MD5, header(&digest)?);
    }
    Ok(())
}

/// Adds the lock that a put carries, which the crate knows nothing of.
fn add_lock(parts: &mut Parts, now: Timestamp) -> Result<()> {
    match parts.extensions.get::<Lock>().copied() {
        Some(lock) if parts.method == Method::PUT => Dialect::S3.add_headers(&mut parts.headers, lock, now),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::aws_credentials::CredentialOptions;
    use super::super::transport::TransportOptions;
    use super::*;
    use crate::blob::storage::RetentionMode;
    use std::time::Duration;

    const LOCK_MODE: &str = "x-amz-object-lock-mode";
    const LOCK_UNTIL: &str = "x-amz-object-lock-retain-until-date";
    const EPOCH: Timestamp = Timestamp { seconds: 0, nanoseconds: 0 };

    fn put_parts() -> Parts {
        let request = http::Request::builder().method(Method::PUT).uri("https://s3.example/b/k").body(());
        request.expect("a request").into_parts().0
    }

    #[test]
    fn a_put_under_a_lock_has_a_digest_and_the_lock() {
        let mut parts = put_parts();
        assert!(!needs_digest(&parts));
        parts.extensions.insert((RetentionMode::Compliance, Duration::from_secs(86_400)));
        assert!(needs_digest(&parts));
        add_digest(&mut parts, &[Bytes::from_static(b"hel"), Bytes::from_static(b"lo")]).expect("a digest");
        add_lock(&mut parts, EPOCH).expect("headers");
        assert_eq!(parts.headers[CONTENT_MD5], "XUFAKrxLKna5cZ2REBfFkg==");
        assert_eq!(parts.headers[LOCK_MODE], "COMPLIANCE");
        assert!(parts.headers.contains_key(LOCK_UNTIL));
    }

    #[test]
    fn other_puts_have_no_lock_and_reads_no_digest() {
        let mut parts = put_parts();
        add_lock(&mut parts, EPOCH).expect("headers");
        assert!(!parts.headers.contains_key(LOCK_MODE));
        parts.method = Method::GET;
        add_digest(&mut parts, &[]).expect("headers");
        assert!(parts.headers.is_empty());
    }

    #[test]
    fn setting_a_lock_has_a_digest() {
        let mut parts = put_parts();
        parts.uri = http::Uri::from_static("https://s3.example/b/k?retention");
        assert!(needs_digest(&parts));
    }

    /// Answers as a bucket does, with a default retention if it `retains`.
    #[derive(Debug, Clone, Default)]
    struct Retaining {
        retains: bool,
        digests: Arc<std::sync::Mutex<Vec<bool>>>,
    }

    #[async_trait]
    impl HttpService for Retaining {
        async fn call(&self, request: HttpRequest) -> Answered<HttpResponse> {
            let has_digest = request.headers().contains_key(CONTENT_MD5);
            self.digests.lock().expect("no panic").push(has_digest);
            let (status, text) = if has_digest || !self.retains {
                (200, "")
            } else {
                (
                    400,
                    "<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is \
                       required for Put Object requests with Object Lock parameters</Message></Error>",
                )
            };
            let answer = http::Response::builder().status(status).body(text.to_owned().into());
            Ok(answer.expect("an answer"))
        }
    }

    fn client(server: impl HttpService, sign_payload: bool) -> SigningClient {
        let options =
            CredentialOptions { credentials_file: None, profile: None, region: "us-east-1".to_owned() };
        let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        let environment = move |name: &str| keys.contains(&name).then(|| "key".to_owned());
        let credentials =
            CredentialSource::new(&options, &environment, &TransportOptions::default()).expect("credentials");
        SigningClient {
            inner: HttpClient::new(server),
            credentials: Arc::new(credentials),
            region: options.region,
            sign_payload,
            digest_is_asked_for: Arc::default(),
            clock: Arc::new(crate::clock::SystemClock),
        }
    }

    fn put(parts: Parts) -> HttpRequest {
        HttpRequest::from_parts(parts, HttpRequestBody::from(PutPayload::from_static(b"pack")))
    }

    #[tokio::test]
    async fn a_storage_that_asks_for_a_digest_gets_it_from_then_on() {
        for sign_payload in [true, false] {
            let server = Retaining { retains: true, ..Retaining::default() };
            let client = client(server.clone(), sign_payload);
            for _ in 0..2 {
                client.call(put(put_parts())).await.expect("stored");
            }
            assert_eq!(*server.digests.lock().expect("no panic"), [false, true, true]);
        }
    }

    #[tokio::test]
    async fn only_a_put_under_a_lock_has_a_digest_that_nobody_asked_for() {
        for sign_payload in [true, false] {
            let server = Retaining::default();
            let client = client(server.clone(), sign_payload);
            client.call(put(put_parts())).await.expect("stored");
            let mut locked = put_parts();
            locked.extensions.insert((RetentionMode::Governance, Duration::from_secs(86_400)));
            client.call(put(locked)).await.expect("stored");
            assert_eq!(*server.digests.lock().expect("no panic"), [false, true]);
        }
    }
}
