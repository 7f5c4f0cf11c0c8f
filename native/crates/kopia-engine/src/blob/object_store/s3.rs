//! S3 and its compatibles: from a location to a storage.
//!
//! Address style as Kopia's client chooses it: the bucket is in the host name only where the
//! provider is known to want that; everywhere else it is in the path.

use super::aws_credentials::{CredentialOptions, CredentialSource, profile_region};
use super::keys::{Keys, Prefixing};
use super::listing::Lister;
use super::options::StoreUrl;
use super::protection::{Dialect, Protector};
use super::signing::SigningClient;
use super::storage::ObjectStorage;
use super::transport::{Connector, Transport, TransportOptions};
use crate::blob::layers::throttling::Throttle;
use crate::error::{Error, ErrorKind, Result};
use ::object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use ::object_store::client::{HttpClient, HttpRequestBody};
use ::object_store::{BackoffConfig, RetryConfig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const KEYS: [&str; 6] =
    ["region", "profile", "credentials-file", "path-style", "kms-key-id", "sse-customer-key-file"];
const REGION_DEFAULT: &str = "us-east-1";
const CUSTOMER_KEY_BYTES: usize = 32;

/// A place in a bucket, and how to get there. Holds no secret, only where secrets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Config {
    /// Bucket.
    pub bucket: String,
    /// What goes before each blob name; as it is, so usually with a slash at its end.
    pub prefix: String,
    /// Region; without one the profile's, the environment's, or what AWS says of the bucket.
    pub region: Option<String>,
    /// `http://` or `https://` with host and port; without one AWS.
    pub endpoint: Option<String>,
    /// Section of the credentials file.
    pub profile: Option<String>,
    /// File in the format of `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// Whether the bucket is in the path; without an answer, as the endpoint wants it.
    pub path_style: Option<bool>,
    /// Key of server-side encryption with AWS KMS.
    pub kms_key_id: Option<String>,
    /// File with the 32 bytes of a key for server-side encryption (SSE-C).
    pub sse_customer_key_file: Option<PathBuf>,
    /// Blobs that a page of a listing is to have; without one what the storage gives.
    pub page_length: Option<NonZeroUsize>,
    /// TLS and time limits.
    pub transport: TransportOptions,
}

impl S3Config {
    /// Reads what follows `s3://`.
    ///
    /// # Errors
    /// `InvalidArgument`, naming what is wrong.
    pub fn parse(rest: &str) -> Result<Self> {
        let url = StoreUrl::parse("s3", rest, &KEYS)?;
        if url.option("kms-key-id").is_some() && url.option("sse-customer-key-file").is_some() {
            return Err(url.refused("give kms-key-id or sse-customer-key-file, not both"));
        }
        Ok(Self {
            region: url.text("region"),
            endpoint: url.endpoint()?,
            profile: url.text("profile"),
            credentials_file: url.path("credentials-file"),
            path_style: url.flag("path-style")?,
            kms_key_id: url.text("kms-key-id"),
            sse_customer_key_file: url.path("sse-customer-key-file"),
            page_length: url.page_length()?,
            transport: url.transport()?,
            bucket: url.bucket,
            prefix: url.prefix,
        })
    }

    /// Connects; bodies pass the throttle, if there is one. No request is made but to learn the region.
    ///
    /// # Errors
    /// `AccessDenied` without credentials; `InvalidArgument` for what cannot be used.
    pub fn open(&self, throttle: Option<Arc<Throttle>>) -> Result<ObjectStorage> {
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let transport = Transport::paced(&self.transport, throttle.clone())?.client();
        let mut options = CredentialOptions {
            credentials_file: self.credentials_file.clone(),
            profile: self.profile.clone(),
            region: String::new(),
        };
        options.region = self.region(&options, &environment, &transport)?;
        let address = Address::new(self, &options.region);
        let signing = SigningClient {
            inner: transport,
            credentials: Arc::new(CredentialSource::new(&options, &environment, &self.transport)?),
            region: options.region.clone(),
            clock: Arc::new(crate::clock::SystemClock),
            sign_payload: !address.endpoint.starts_with("https://"),
            digest_is_asked_for: Arc::default(),
        };
        let bucket_url = if address.bucket_in_host {
            address.endpoint.clone()
        } else {
            format!("{}/{}", address.endpoint, self.bucket)
        };
        let client = HttpClient::new(signing);
        let clock = Arc::new(crate::clock::SystemClock);
        let keys = Keys::new(&self.prefix);
        let named = Prefixing::around(client.clone(), &keys, &bucket_url);
        let lister = Lister { dialect: Dialect::S3, client: client.clone(), bucket_url: bucket_url.clone() };
        let protector = Protector { dialect: Dialect::S3, client, bucket_url, clock };
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&options.region)
            .with_endpoint(&address.endpoint)
            .with_virtual_hosted_style_request(address.bucket_in_host)
            .with_allow_http(true)
            .with_skip_signature(true)
            .with_unsigned_payload(true)
            .with_disable_bulk_delete(true)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(no_retry())
            .with_http_connector(Connector::new(named));
        let store = self.encrypted(builder)?.build().map_err(|error| super::failure::from_crate(&error))?;
        let store = Arc::new(store);
        let mut storage =
            ObjectStorage::new(store, lister, keys, self.to_string(), self.page_length, throttle);
        storage.protector = Some(Arc::new(protector));
        Ok(storage)
    }

    fn encrypted(&self, builder: AmazonS3Builder) -> Result<AmazonS3Builder> {
        if let Some(key_id) = &self.kms_key_id {
            return Ok(builder.with_sse_kms_encryption(key_id));
        }
        match &self.sse_customer_key_file {
            Some(path) => Ok(builder.with_ssec_encryption(customer_key(path)?)),
            None => Ok(builder),
        }
    }

    fn region(
        &self,
        options: &CredentialOptions,
        environment: &super::aws_credentials::Environment,
        transport: &HttpClient,
    ) -> Result<String> {
        let known = self
            .region
            .clone()
            .or_else(|| profile_region(options, environment))
            .or_else(|| environment("AWS_REGION"))
            .or_else(|| environment("AWS_DEFAULT_REGION"));
        match (known, &self.endpoint) {
            (Some(region), _) => Ok(region),
            (None, Some(_)) => Ok(REGION_DEFAULT.into()),
            (None, None) => super::runtime::block_on(region_of_bucket(&self.bucket, transport)),
        }
    }
}

impl fmt::Display for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// The retrying layer tries again; the crate would do it with an old signature.
pub(super) fn no_retry() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, backoff: BackoffConfig::default() }
}

/// The key as the crate wants it. Velero's file holds the 32 bytes themselves.
fn customer_key(path: &Path) -> Result<String> {
    let refused = |why: String| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("cannot use SSE customer key {}: {why}", path.display()),
        )
    };
    let key = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    if key.len() != CUSTOMER_KEY_BYTES {
        return Err(refused(format!("it has {} bytes, {CUSTOMER_KEY_BYTES} are needed", key.len())));
    }
    Ok(STANDARD.encode(key))
}

/// AWS names the region of a bucket in any answer, also in a refusal.
async fn region_of_bucket(bucket: &str, transport: &HttpClient) -> Result<String> {
    let failed = |why: String| {
        let message = format!("cannot learn the region of bucket {bucket}: {why}; give it as region=");
        Error::new(ErrorKind::InvalidArgument, message)
    };
    let request = http::Request::head(format!("https://s3.{REGION_DEFAULT}.amazonaws.com/{bucket}"))
        .body(HttpRequestBody::empty())
        .map_err(|error| failed(error.to_string()))?;
    let answer = transport.execute(request).await.map_err(|error| failed(super::transport::chain(&error)))?;
    let region = answer.headers().get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
    region.map(ToOwned::to_owned).ok_or_else(|| failed(format!("AWS answers {}", answer.status())))
}

/// Where requests go.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    endpoint: String,
    bucket_in_host: bool,
}

impl Address {
    fn new(config: &S3Config, region: &str) -> Self {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = config.endpoint.clone().unwrap_or_else(|| format!("https://s3.{region}.{domain}"));
        let wanted = !config.path_style.unwrap_or_else(|| !wants_bucket_in_host(&endpoint));
        // A certificate for *.host does not cover a bucket with dots.
        let bucket_in_host = wanted && !(endpoint.starts_with("https://") && config.bucket.contains('.'));
        match endpoint.split_once("://") {
            Some((scheme, host)) if bucket_in_host => {
                Self { endpoint: format!("{scheme}://{}.{host}", config.bucket), bucket_in_host }
            }
            _ => Self { endpoint, bucket_in_host: false },
        }
    }
}

fn wants_bucket_in_host(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    [".amazonaws.com", ".amazonaws.com.cn", ".aliyuncs.com"].iter().any(|domain| host.ends_with(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(rest: &str, region: &str) -> (String, bool) {
        let address = Address::new(&S3Config::parse(rest).expect(rest), region);
        (address.endpoint, address.bucket_in_host)
    }

    #[test]
    fn only_providers_that_want_it_have_the_bucket_in_the_host() {
        let host = |text: &str| (text.to_owned(), true);
        let path = |text: &str| (text.to_owned(), false);
        assert_eq!(address("b/p", "eu-west-1"), host("https://b.s3.eu-west-1.amazonaws.com"));
        assert_eq!(address("b/p", "cn-north-1"), host("https://b.s3.cn-north-1.amazonaws.com.cn"));
        assert_eq!(address("b.c/p", "eu-west-1"), path("https://s3.eu-west-1.amazonaws.com"));
        assert_eq!(address("b?path-style=true", "eu-west-1"), path("https://s3.eu-west-1.amazonaws.com"));
        assert_eq!(address("b?endpoint=http://minio:9000", "x"), path("http://minio:9000"));
        assert_eq!(
            address("b?endpoint=http://minio:9000&path-style=false", "x"),
            host("http://b.minio:9000")
        );
        assert_eq!(address("b?endpoint=oss-cn-x.aliyuncs.com", "x"), host("https://b.oss-cn-x.aliyuncs.com"));
    }

    #[test]
    fn a_url_gives_every_setting() {
        let rest = "b/p?region=r&profile=q&credentials-file=/c&ca-file=/ca&insecure-skip-tls-verify=true&kms-key-id=k";
        let config = S3Config::parse(rest).expect("valid");
        assert_eq!((config.region.as_deref(), config.profile.as_deref()), (Some("r"), Some("q")));
        assert_eq!(config.credentials_file.as_deref(), Some(Path::new("/c")));
        assert_eq!(config.transport.ca_file.as_deref(), Some(Path::new("/ca")));
        assert!(config.transport.insecure_skip_tls_verify);
        assert_eq!(config.to_string(), "s3://b/p/");
        assert!(S3Config::parse("b?kms-key-id=k&sse-customer-key-file=/k").is_err());
    }

    #[test]
    fn a_customer_key_of_a_wrong_length_is_refused_without_showing_it() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), b"sEcReT").expect("write");
        let error = customer_key(file.path()).expect_err("too short");
        assert!(error.to_string().contains("6 bytes") && !error.to_string().contains("sEcReT"), "{error}");
    }
}
