//! What the failures of object stores mean.
//!
//! From status, error code and transport error to one [`Error`]; `temporary` decides whether the
//! retrying layer tries again. Of a server's answer only code and message are kept: the rest of
//! it may repeat a token or a signature.

use crate::error::{Error, ErrorKind};
use ::object_store::client::{HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};
use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use std::error::Error as StdError;

/// What the crate's HTTP layer returns.
pub(super) type Answered<T> = std::result::Result<T, HttpError>;

const MESSAGE_LENGTH_MAX: usize = 300;

/// What a server says of a refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    /// Reads an XML error body; Azure repeats the code in a header, which is all that a HEAD has.
    pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let mut refusal: Self =
            quick_xml::de::from_str(text.trim_start_matches('\u{feff}')).unwrap_or_default();
        if let Some(Ok(code)) = headers.get("x-ms-error-code").map(|value| value.to_str()) {
            refusal.code = code.to_owned();
        }
        let first_line = refusal.message.lines().next().unwrap_or_default();
        refusal.message = first_line.chars().take(MESSAGE_LENGTH_MAX).collect();
        refusal
    }

    /// Whether other credentials may be accepted.
    pub(super) fn is_about_credentials(&self, status: StatusCode) -> bool {
        const CODES: [&str; 7] = [
            "ExpiredToken",
            "ExpiredTokenException",
            "TokenRefreshRequired",
            "InvalidToken",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "XAdminUserNotFound",
        ];
        // The answer to a HEAD has no code. With one the status does not matter: versitygw
        // answers an unknown access key with 404.
        let silent =
            matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        CODES.contains(&self.code.as_str()) || (silent && self.code.is_empty())
    }

    /// Whether the storage wants a put with a digest of its body.
    pub(super) fn asks_for_digest(&self) -> bool {
        self.code == "MissingContentMD5" || self.message.to_ascii_lowercase().contains("content-md5")
    }

    /// The error of this refusal.
    pub(super) fn error(&self, status: StatusCode) -> Error {
        let meaning = by_code(&self.code).unwrap_or_else(|| by_status(status, &self.code));
        let mut message = format!("the storage answers {}", status.as_u16());
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                message = format!("{message} {part}");
            }
        }
        if !meaning.advice.is_empty() {
            message = format!("{message}: {}", meaning.advice);
        }
        Error { temporary: meaning.temporary, ..Error::new(meaning.kind, message) }
    }
}

struct Meaning {
    kind: ErrorKind,
    temporary: bool,
    advice: &'static str,
}

const fn temporary() -> Meaning {
    Meaning { kind: ErrorKind::Storage, temporary: true, advice: "" }
}

const fn permanent(kind: ErrorKind, advice: &'static str) -> Meaning {
    Meaning { kind, temporary: false, advice }
}

fn by_code(code: &str) -> Option<Meaning> {
    Some(match code {
        "NoSuchKey" | "BlobNotFound" | "ObjectLockConfigurationNotFoundError" => {
            permanent(ErrorKind::BlobNotFound, "")
        }
        "NoSuchBucket" | "ContainerNotFound" => {
            permanent(ErrorKind::Storage, "create the bucket, or correct its name")
        }
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "XAdminUserNotFound" => {
            permanent(ErrorKind::AccessDenied, "check the credentials")
        }
        "RequestTimeTooSkewed" => permanent(ErrorKind::AccessDenied, "set the clock of this machine right"),
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => Meaning {
            kind: ErrorKind::AccessDenied,
            temporary: true,
            advice: "the credentials have expired and no fresh ones are there yet",
        },
        "SlowDown"
        | "ServerBusy"
        | "ServiceUnavailable"
        | "InternalError"
        | "RequestTimeout"
        | "OperationTimedOut"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "BadDigest"
        | "IncompleteBody"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests" => temporary(),
        "InvalidRange" => permanent(ErrorKind::InvalidRange, ""),
        // A header of ours that it has never heard of: conditions, locks.
        "NotImplemented" => {
            permanent(ErrorKind::UnsupportedFormat, "the storage does not know this operation")
        }
        "PreconditionFailed" | "BlobAlreadyExists" => permanent(ErrorKind::AlreadyExists, ""),
        "ObjectLocked" | "BlobImmutableDueToPolicy" => {
            permanent(ErrorKind::AccessDenied, "the blob is under a retention lock")
        }
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            permanent(ErrorKind::InvalidArgument, "give the region of the bucket")
        }
        code if code.contains("Quota") || code.contains("StorageFull") => {
            permanent(ErrorKind::NoSpace, "make room or raise the quota")
        }
        _ => return None,
    })
}

fn by_status(status: StatusCode, code: &str) -> Meaning {
    match status.as_u16() {
        // With a code that we do not know it is something else that is missing.
        404 if !code.is_empty() => permanent(ErrorKind::Storage, ""),
        404 => permanent(ErrorKind::BlobNotFound, ""),
        401 | 403 => permanent(ErrorKind::AccessDenied, "check the credentials and their rights"),
        301 | 302 | 307 | 308 => {
            permanent(ErrorKind::InvalidArgument, "give the region and the endpoint of the bucket")
        }
        412 => permanent(ErrorKind::AlreadyExists, ""),
        416 => permanent(ErrorKind::InvalidRange, ""),
        507 => permanent(ErrorKind::NoSpace, "make room"),
        501 => permanent(ErrorKind::UnsupportedFormat, "the storage does not know this operation"),
        408 | 409 | 425 | 429 | 500..=599 => temporary(),
        _ => permanent(ErrorKind::Storage, ""),
    }
}

/// The meaning of a request that got no answer. Only a certificate that is not trusted is permanent.
pub(super) fn transport_failure(error: &reqwest::Error, message: String) -> Error {
    let Some(tls) = certificate_failure(error) else {
        return Error::new(ErrorKind::Storage, format!("cannot reach the storage: {message}")).temporary();
    };
    let message = format!(
        "the storage's certificate is not trusted ({tls}): give the authority that signed it as CA file"
    );
    Error::new(ErrorKind::Storage, message)
}

fn certificate_failure<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(next) = cause {
        let io = next.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = next
            .downcast_ref::<rustls::Error>()
            .or_else(|| io.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        if let Some(rustls::Error::InvalidCertificate(_)) = tls {
            return tls;
        }
        // An `io::Error` gives the cause of what it holds as its own: look into what it holds.
        cause = match io {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => next.source(),
        };
    }
    None
}

/// `error` as the crate carries it.
pub(super) fn carried(error: Error) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, error)
}

/// The error of a request that was made without the crate.
pub(super) fn from_http(error: &HttpError) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(next) = cause {
        if let Some(own) = next.downcast_ref::<Error>() {
            return Error { temporary: own.temporary, ..Error::new(own.kind, own.to_string()) };
        }
        cause = next.source();
    }
    Error::new(ErrorKind::Storage, super::transport::chain(error)).temporary()
}

/// The error of what the crate says. Ours come back as they were; its own are put into our words.
pub(super) fn from_crate(error: &::object_store::Error) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    let mut is_transport = false;
    while let Some(next) = cause {
        if let Some(own) = next.downcast_ref::<Error>() {
            return Error { temporary: own.temporary, ..Error::new(own.kind, own.to_string()) };
        }
        is_transport |= next.is::<HttpError>();
        cause = next.source();
    }
    use ::object_store::Error as Crate;
    let kind = match error {
        Crate::NotFound { .. } => ErrorKind::BlobNotFound,
        Crate::AlreadyExists { .. } | Crate::Precondition { .. } => ErrorKind::AlreadyExists,
        Crate::PermissionDenied { .. } | Crate::Unauthenticated { .. } => ErrorKind::AccessDenied,
        Crate::InvalidPath { .. } | Crate::UnknownConfigurationKey { .. } => ErrorKind::InvalidArgument,
        _ => ErrorKind::Storage,
    };
    let temporary = is_transport && kind == ErrorKind::Storage;
    Error { temporary, ..Error::new(kind, super::transport::chain(error)) }
}

/// Turns refusals of one store into errors; other hosts (token services) are refusals of credentials.
#[derive(Debug)]
pub(super) struct RefusingClient {
    inner: HttpClient,
    store_host: String,
    /// Leave out whatever credentials a request has.
    pub(super) is_anonymous: bool,
}

impl RefusingClient {
    pub(super) fn new(inner: HttpClient, store_host: &str) -> Self {
        Self { inner, store_host: store_host.to_owned(), is_anonymous: false }
    }
}

#[async_trait]
impl HttpService for RefusingClient {
    async fn call(&self, mut request: HttpRequest) -> Answered<HttpResponse> {
        if self.is_anonymous {
            request.headers_mut().remove(http::header::AUTHORIZATION);
        }
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let answer = self.inner.execute(request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let (parts, body) = answer.into_parts();
        let body = body.bytes().await.unwrap_or_default();
        let mut error = Refusal::parse(&parts.headers, &body).error(status);
        if host != self.store_host {
            error.kind = ErrorKind::AccessDenied;
            error = error.while_doing(format!("cannot get credentials from {host}"));
        }
        Err(carried(error))
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
