//! Google Cloud Storage: from a location to a storage.
//!
//! Credentials: a key file that the location or `GOOGLE_APPLICATION_CREDENTIALS` names; the
//! gcloud defaults; the metadata service (GKE workload identity). The crate renews tokens.
//! What it lacks: workload identity federation (`external_account` files), which is refused by name.

use super::failure::{Answered, RefusingClient, carried, from_crate};
use super::keys::{Keys, Prefixing};
use super::listing::Lister;
use super::options::StoreUrl;
use super::protection::{Dialect, Protector, header};
use super::s3::no_retry;
use super::storage::ObjectStorage;
use super::transport::{Connector, Transport, TransportOptions};
use crate::blob::layers::throttling::Throttle;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use ::object_store::StaticCredentialProvider;
use ::object_store::client::{HttpClient, HttpRequest, HttpResponse, HttpService};
use ::object_store::gcp::{GcpCredential, GcpCredentialProvider, GoogleCloudStorageBuilder};
use async_trait::async_trait;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

const KEYS: [&str; 2] = ["credentials-file", "anonymous"];
const HOST: &str = "storage.googleapis.com";

/// A place in a bucket, and how to get there. Holds no secret, only where secrets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcsConfig {
    /// Bucket.
    pub bucket: String,
    /// What goes before each blob name; as it is, so usually with a slash at its end.
    pub prefix: String,
    /// Origin of the service, for compatibles.
    pub endpoint: Option<String>,
    /// Key file in JSON.
    pub credentials_file: Option<PathBuf>,
    /// Send no credentials: public buckets and stand-ins.
    pub anonymous: bool,
    /// Blobs that a page of a listing is to have; without one what the storage gives.
    pub page_length: Option<NonZeroUsize>,
    /// TLS and time limits.
    pub transport: TransportOptions,
}

impl GcsConfig {
    /// Reads what follows `gcs://`.
    ///
    /// # Errors
    /// `InvalidArgument`, naming what is wrong.
    pub fn parse(rest: &str) -> Result<Self> {
        let url = StoreUrl::parse("gcs", rest, &KEYS)?;
        Ok(Self {
            endpoint: url.endpoint()?,
            credentials_file: url.path("credentials-file"),
            anonymous: url.flag("anonymous")?.unwrap_or(false),
            page_length: url.page_length()?,
            transport: url.transport()?,
            bucket: url.bucket,
            prefix: url.prefix,
        })
    }

    /// Connects; bodies pass the throttle, if there is one. No request is made.
    ///
    /// # Errors
    /// `AccessDenied` for a file that cannot be used; `InvalidArgument`.
    pub fn open(&self, throttle: Option<Arc<Throttle>>) -> Result<ObjectStorage> {
        let transport = Transport::paced(&self.transport, throttle.clone())?.client();
        let host =
            self.endpoint.as_ref().and_then(|origin| origin.split_once("://")).map_or(HOST, |(_, host)| host);
        let mut client = RefusingClient::new(transport, host);
        client.is_anonymous = self.anonymous;
        let client =
            HttpClient::new(Locking { inner: HttpClient::new(client), clock: Arc::new(SystemClock) });
        let origin = self.endpoint.clone().unwrap_or_else(|| format!("https://{HOST}"));
        let bucket_url = format!("{origin}/{}", self.bucket);
        let keys = Keys::new(&self.prefix);
        let named = Prefixing::around(client.clone(), &keys, &bucket_url);
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&self.bucket)
            .with_skip_signature(self.anonymous)
            .with_retry(no_retry())
            .with_http_connector(Connector::new(named));
        if self.anonymous {
            // For a put the crate asks for credentials all the same, and would go to the metadata service.
            let nobody = GcpCredential { bearer: String::new() };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        let variable = || std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").filter(|path| !path.is_empty());
        let file = self.credentials_file.clone().or_else(|| variable().map(PathBuf::from));
        if let (Some(path), false) = (file, self.anonymous) {
            self.check_key_file(&path)?;
            builder = builder.with_application_credentials(path.display().to_string());
        }
        let store =
            builder.build().map_err(|error| from_crate(&error).while_doing(format!("cannot use {self}")))?;
        let credentials = Arc::clone(store.credentials());
        let authorized = HttpClient::new(Authorized { inner: client, credentials });
        let lister =
            Lister { dialect: Dialect::Gcs, client: authorized.clone(), bucket_url: bucket_url.clone() };
        let clock = Arc::new(SystemClock);
        let protector = Protector { dialect: Dialect::Gcs, client: authorized, bucket_url, clock };
        let store = Arc::new(store);
        let mut storage =
            ObjectStorage::new(store, lister, keys, self.to_string(), self.page_length, throttle);
        storage.protector = Some(Arc::new(protector));
        Ok(storage)
    }

    /// The crate's own error would repeat a part of the file.
    fn check_key_file(&self, path: &PathBuf) -> Result<()> {
        let refused = |why: String| {
            Error::new(
                ErrorKind::AccessDenied,
                format!("cannot use key file {} for {self}: {why}", path.display()),
            )
        };
        let text = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
        let file: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&text).map_err(|_| refused("it is no JSON object".into()))?;
        match file.get("type").and_then(serde_json::Value::as_str).unwrap_or_default() {
            "service_account" | "authorized_user" => Ok(()),
            other => Err(refused(format!(
                "credentials of type {other:?} are not supported: give a service account key"
            ))),
        }
    }
}

/// Adds the headers of locks to puts.
#[derive(Debug)]
struct Locking {
    inner: HttpClient,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl HttpService for Locking {
    async fn call(&self, mut request: HttpRequest) -> Answered<HttpResponse> {
        Dialect::Gcs.lock_put(&mut request, self.clock.now())?;
        self.inner.execute(request).await
    }
}

/// Adds a token to requests that the crate does not make.
#[derive(Debug)]
struct Authorized {
    inner: HttpClient,
    credentials: GcpCredentialProvider,
}

#[async_trait]
impl HttpService for Authorized {
    async fn call(&self, mut request: HttpRequest) -> Answered<HttpResponse> {
        let token = self.credentials.get_credential().await.map_err(|error| carried(from_crate(&error)))?;
        let mut bearer = header(&format!("Bearer {}", token.bearer)).map_err(carried)?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
        self.inner.execute(request).await
    }
}

impl fmt::Display for GcsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gcs://{}/{}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_of_other_kinds_are_refused_without_showing_them() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let url = format!("box/p?credentials-file={}", file.path().display());
        for (text, named) in [
            (r#"{"type":"external_account","token":"sEcReT"}"#, "external_account"),
            (r#"["sEcReT"]"#, "no JSON object"),
            ("", "no JSON object"),
        ] {
            std::fs::write(file.path(), text).expect("write");
            let error = GcsConfig::parse(&url).expect("valid").open(None).expect_err(named);
            assert!(error.kind == ErrorKind::AccessDenied && error.to_string().contains(named), "{error}");
            assert!(!format!("{error:?}").contains("sEcReT"));
        }
    }

    #[test]
    fn a_compatible_opens_without_credentials() {
        let config = GcsConfig::parse("box/p?endpoint=http://127.0.0.1:1&anonymous=true").expect("valid");
        assert_eq!(
            format!("{:?}", config.open(None).expect("open")),
            "ObjectStorage { location: \"gcs://box/p/\", .. }"
        );
    }
}
