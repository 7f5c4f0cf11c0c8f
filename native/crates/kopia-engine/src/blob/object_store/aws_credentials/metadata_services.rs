//! Credentials from services beside the machine: ECS, EKS pod identity, EC2 instance metadata.
//!
//! The crate speaks their protocols and renews in time; credentials that were refused before
//! their time are got through a new client, which has nothing cached. Never through a proxy.

use super::{Environment, Issued};
use crate::blob::object_store::failure::from_crate;
use crate::blob::object_store::transport::{Connector, Transport, TransportOptions};
use crate::error::{Error, ErrorKind, Result};
use ::object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use ::object_store::{BackoffConfig, RetryConfig};
use kopia_format::Timestamp;
use std::time::Duration;

/// The crate renews by itself: how long we keep what it gave before we ask it again.
const KEPT_SECONDS: i64 = 6 * 60;

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceKind {
    Container,
    Instance,
    /// Not a service: `credential_source = Environment`.
    Environment,
}

impl ServiceKind {
    pub(super) fn of_credential_source(text: &str) -> Option<Self> {
        match text {
            "Ec2InstanceMetadata" => Some(Self::Instance),
            "EcsContainer" => Some(Self::Container),
            "Environment" => Some(Self::Environment),
            _ => None,
        }
    }
}

pub(super) fn kind_of_environment(environment: &Environment) -> ServiceKind {
    let names = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
    let is_container = names.iter().any(|name| environment(name).is_some());
    if is_container { ServiceKind::Container } else { ServiceKind::Instance }
}

/// A service, and how a client of it is made.
#[derive(Debug)]
pub(super) struct MetadataService {
    kind: ServiceKind,
    settings: Vec<(AmazonS3ConfigKey, String)>,
    connector: Connector,
    provider: parking_lot::Mutex<Option<::object_store::aws::AwsCredentialProvider>>,
}

impl MetadataService {
    /// # Errors
    /// `InvalidArgument` from the transport.
    pub(super) fn new(
        kind: ServiceKind,
        environment: &Environment,
        options: &TransportOptions,
    ) -> Result<Self> {
        use AmazonS3ConfigKey as Key;
        let variables: &[(&str, Key)] = match kind {
            ServiceKind::Container => &[
                ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Key::ContainerCredentialsRelativeUri),
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Key::ContainerCredentialsFullUri),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Key::ContainerAuthorizationTokenFile),
            ],
            ServiceKind::Instance => &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", Key::MetadataEndpoint)],
            ServiceKind::Environment => &[
                ("AWS_ACCESS_KEY_ID", Key::AccessKeyId),
                ("AWS_SECRET_ACCESS_KEY", Key::SecretAccessKey),
                ("AWS_SESSION_TOKEN", Key::Token),
            ],
        };
        let set = |(name, key): &(&str, Key)| environment(name).map(|value| (*key, value));
        let mut short = options.clone();
        short.timeouts.connect = Duration::from_secs(2);
        short.timeouts.first_byte = Duration::from_secs(5);
        Ok(Self {
            kind,
            settings: variables.iter().filter_map(set).collect(),
            connector: Connector::new(Transport::without_proxy(&short)?.client()),
            provider: parking_lot::Mutex::default(),
        })
    }

    fn provider(&self, is_refused: bool) -> Result<::object_store::aws::AwsCredentialProvider> {
        let mut provider = self.provider.lock();
        if let (Some(provider), false) = (provider.as_ref(), is_refused) {
            return Ok(provider.clone());
        }
        let retry = RetryConfig {
            max_retries: 2,
            retry_timeout: Duration::from_secs(20),
            backoff: BackoffConfig::default(),
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name("none")
            .with_http_connector(self.connector.clone())
            .with_retry(retry);
        for (key, value) in &self.settings {
            builder = builder.with_config(*key, value);
        }
        let client = builder.build().map_err(|error| self.failed(&from_crate(&error)))?;
        Ok(provider.insert(client.credentials().clone()).clone())
    }

    pub(super) async fn issue(&self, is_refused: bool, now: Timestamp) -> Result<Issued> {
        let provider = self.provider(is_refused)?;
        let credential = provider.get_credential().await.map_err(|error| self.failed(&from_crate(&error)))?;
        let expires = now.seconds + super::RENEWED_BEFORE_EXPIRY_SECONDS + KEPT_SECONDS;
        Ok(Issued { credential, expires_seconds: Some(expires) })
    }

    fn failed(&self, error: &Error) -> Error {
        let what = match self.kind {
            ServiceKind::Container => "the container's credentials service gives none",
            ServiceKind::Environment => "the environment has no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ServiceKind::Instance => {
                "no AWS credentials: neither environment, nor ~/.aws, web identity, container or instance metadata give any"
            }
        };
        Error {
            temporary: error.temporary,
            ..Error::new(ErrorKind::AccessDenied, format!("{what}: {error}"))
        }
    }
}
