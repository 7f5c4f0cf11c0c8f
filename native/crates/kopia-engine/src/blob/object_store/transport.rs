//! HTTP: connections, TLS, proxies and time limits, for every object store.
//!
//! What a status means is not known here (`failure`). Redirects are not followed: a signed request
//! is for one host. Proxies come from the usual variables (`HTTPS_PROXY`, `HTTP_PROXY`,
//! `ALL_PROXY`, `NO_PROXY`).

use super::failure::Answered;
use super::pacing::{LetPass, Pacing};
use super::progress::{Progress, ReceivedBody, SentBody, stalled, while_moving};
use crate::blob::layers::throttling::{Flow, Throttle};
use crate::error::{Error, ErrorKind, Result};
use ::object_store::ClientOptions;
use ::object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Time limits of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// From the last byte sent to the first one of the answer.
    pub first_byte: Duration,
    /// Between two bytes of the answer.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(60),
            stall: Duration::from_secs(30),
        }
    }
}

/// How servers are reached and trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransportOptions {
    /// PEM bundle of authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Trust any certificate: only for tests, and warned of.
    pub insecure_skip_tls_verify: bool,
    /// Time limits.
    pub timeouts: Timeouts,
}

/// An HTTP client with time limits; clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: reqwest::Client,
    timeouts: Timeouts,
    /// What bodies wait for.
    throttle: Option<Arc<Throttle>>,
}

impl Transport {
    /// A client whose bodies pass the throttle, if there is one.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn paced(options: &TransportOptions, throttle: Option<Arc<Throttle>>) -> Result<Self> {
        Ok(Self { throttle, ..Self::new(options)? })
    }

    /// # Errors
    /// `InvalidArgument` for a CA file that cannot be read or holds no certificate.
    pub(super) fn new(options: &TransportOptions) -> Result<Self> {
        Self::build(options, reqwest::Client::builder())
    }

    /// A client that never takes a proxy: for metadata services of the machine itself.
    pub(super) fn without_proxy(options: &TransportOptions) -> Result<Self> {
        Self::build(options, reqwest::Client::builder().no_proxy())
    }

    fn build(options: &TransportOptions, builder: reqwest::ClientBuilder) -> Result<Self> {
        let mut builder = builder
            .connect_timeout(options.timeouts.connect)
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(60))
            .tcp_nodelay(true)
            .user_agent(concat!("kopia-data-mover/", env!("CARGO_PKG_VERSION")))
            .http1_only();
        if let Some(path) = &options.ca_file {
            builder = builder.tls_certs_merge(certificates(path)?);
        }
        if options.insecure_skip_tls_verify {
            tracing::warn!(
                "certificates of the object store are not verified: anybody can answer in its place"
            );
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let client = builder.build().map_err(|error| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("cannot set up the HTTP client: {}", chain(&error)),
            )
        })?;
        Ok(Self { client, timeouts: options.timeouts, throttle: None })
    }

    fn pacing(&self, flow: Flow) -> Option<Pacing> {
        self.throttle.as_ref().map(|throttle| Pacing::new(throttle, flow))
    }

    /// This transport as the crate's client.
    pub(super) fn client(&self) -> HttpClient {
        HttpClient::new(self.clone())
    }
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>> {
    let refused = |why: String| {
        Error::new(ErrorKind::InvalidArgument, format!("cannot use CA file {}: {why}", path.display()))
    };
    let pem = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| refused(chain(&error)))?;
    if certificates.is_empty() {
        return Err(refused("it holds no certificate in PEM form".into()));
    }
    Ok(certificates)
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Answered<HttpResponse> {
        let (parts, body) = request.into_parts();
        let body = frames(body).await?;
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let progress = Progress::new();
        let waits =
            if parts.extensions.get::<LetPass>().is_some() { None } else { self.pacing(Flow::Download) };
        let mut outgoing = reqwest::Request::new(parts.method, url);
        *outgoing.headers_mut() = parts.headers;
        *outgoing.body_mut() =
            Some(reqwest::Body::wrap(SentBody::new(body, progress.clone(), self.pacing(Flow::Upload))));
        let limit = self.timeouts.connect.max(self.timeouts.first_byte);
        let answer = while_moving(&progress, limit, self.client.execute(outgoing)).await;
        let Some(answer) = answer else {
            return Err(stalled(format!("no answer came for {} s", limit.as_secs())));
        };
        let answer: http::Response<reqwest::Body> = answer.map_err(translated)?.into();
        let (parts, body) = answer.into_parts();
        let body = ReceivedBody::new(body.map_err(translated), self.timeouts.stall, waits);
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// The pieces of a body, which are not copied.
pub(super) async fn frames(mut body: HttpRequestBody) -> Answered<Vec<Bytes>> {
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        frames.extend(frame?.into_data().ok().filter(|bytes| !bytes.is_empty()));
    }
    Ok(frames)
}

/// `chain` of causes in one line, without the URL: it may hold a signature.
fn translated(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Unknown
    };
    let error = error.without_url();
    let message = chain(&error);
    HttpError::new(kind, super::failure::transport_failure(&error, message))
}

/// An error and its causes, each once.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let message = next.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = next.source();
    }
    text
}

/// Gives the crate a client that was made before.
#[derive(Debug, Clone)]
pub(super) struct Connector(pub(super) Arc<HttpClient>);

impl Connector {
    pub(super) fn new(client: HttpClient) -> Self {
        Self(Arc::new(client))
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> ::object_store::Result<HttpClient> {
        Ok(self.0.as_ref().clone())
    }
}
