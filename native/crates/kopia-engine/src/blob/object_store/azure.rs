//! Azure Blob Storage: from a location to a storage.
//!
//! Credentials in Velero's order: the account key that the location names; Entra ID by client
//! secret, workload identity or managed identity. The crate renews tokens. A SAS token or account
//! key of the file is taken where none is named. What it lacks is refused by name: client
//! certificates, and asking the management API for the account key.

use super::dotenv::Settings;
use super::failure::{Answered, RefusingClient, carried, from_crate};
use super::keys::Keys;
use super::listing::Lister;
use super::options::StoreUrl;
use super::protection::{Dialect, Lock, Protector};
use super::s3::no_retry;
use super::storage::ObjectStorage;
use super::transport::{Connector, Transport, TransportOptions};
use crate::blob::layers::throttling::Throttle;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use ::object_store::azure::{
    AzureAuthorizer, AzureCredential, AzureCredentialProvider, MicrosoftAzureBuilder, split_sas,
};
use ::object_store::client::{HttpClient, HttpRequest, HttpResponse, HttpService};
use async_trait::async_trait;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

const KEYS: [&str; 5] = ["account", "account-key-variable", "use-aad", "authority", "credentials-file"];

/// A place in a container, and how to get there. Holds no secret, only where secrets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureConfig {
    /// Container.
    pub container: String,
    /// What goes before each blob name; as it is, so usually with a slash at its end.
    pub prefix: String,
    /// Storage account; without one `AZURE_STORAGE_ACCOUNT`.
    pub account: Option<String>,
    /// Origin of the account, with its name as path where the host does not have it (Azure Stack,
    /// Azurite); without one what the cloud's name says.
    pub endpoint: Option<String>,
    /// Name of the variable (in the file or the environment) with the account key.
    pub account_key_variable: Option<String>,
    /// Do not use an account key or SAS token that is there by chance.
    pub use_aad: bool,
    /// Origin of the token service.
    pub authority: Option<String>,
    /// `NAME=value` lines, as Velero has them.
    pub credentials_file: Option<PathBuf>,
    /// Blobs that a page of a listing is to have; without one what the storage gives.
    pub page_length: Option<NonZeroUsize>,
    /// TLS and time limits.
    pub transport: TransportOptions,
}

impl AzureConfig {
    /// Reads what follows `azure://`.
    ///
    /// # Errors
    /// `InvalidArgument`, naming what is wrong.
    pub fn parse(rest: &str) -> Result<Self> {
        let url = StoreUrl::parse("azure", rest, &KEYS)?;
        Ok(Self {
            account: url.text("account"),
            endpoint: url.endpoint_with_path()?,
            account_key_variable: url.text("account-key-variable"),
            use_aad: url.flag("use-aad")?.unwrap_or(false),
            authority: url.text("authority"),
            credentials_file: url.path("credentials-file"),
            page_length: url.page_length()?,
            transport: url.transport()?,
            container: url.bucket,
            prefix: url.prefix,
        })
    }

    /// Connects; bodies pass the throttle, if there is one. No request is made.
    ///
    /// # Errors
    /// `AccessDenied` without credentials; `InvalidArgument` for what cannot be used.
    pub fn open(&self, throttle: Option<Arc<Throttle>>) -> Result<ObjectStorage> {
        let settings = self.settings()?;
        let account = self.account.clone().or_else(|| settings.get("AZURE_STORAGE_ACCOUNT"));
        let account = account.ok_or_else(|| self.refused(ErrorKind::InvalidArgument, "give account="))?;
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://{account}.blob.{}", self.blob_domain(&settings)?),
        };
        let host = endpoint.split_once("://").map_or("", |(_, host)| host);
        let host = host.split('/').next().unwrap_or_default().to_owned();
        let transport = Transport::paced(&self.transport, throttle.clone())?.client();
        let client = StoreClient {
            inner: HttpClient::new(RefusingClient::new(transport, &host)),
            account: account.clone(),
            credentials: Arc::default(),
            clock: Arc::new(SystemClock),
            is_unsigned: false,
        };
        let ours = HttpClient::new(StoreClient { is_unsigned: true, ..client.clone() });
        let bucket_url = format!("{endpoint}/{}", self.container);
        let lister = Lister { dialect: Dialect::Azure, client: ours.clone(), bucket_url: bucket_url.clone() };
        let clock = Arc::new(SystemClock);
        let protector = Protector { dialect: Dialect::Azure, client: ours, bucket_url, clock };
        let builder = MicrosoftAzureBuilder::new()
            .with_account(account)
            .with_container_name(&self.container)
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_retry(no_retry())
            .with_http_connector(Connector::new(HttpClient::new(client.clone())));
        let store = self.with_credentials(builder, &settings)?.build().map_err(|error| from_crate(&error))?;
        // Where they come from is the crate's; it asks for tokens through the same client.
        let _ = client.credentials.set(Arc::clone(store.credentials()));
        let store = Arc::new(store);
        let mut storage =
            ObjectStorage::new(store, lister, self.keys()?, self.to_string(), self.page_length, throttle);
        storage.protector = Some(Arc::new(protector));
        Ok(storage)
    }

    /// The crate signs the URL that it made itself: what it cannot say cannot be put in below it.
    fn keys(&self) -> Result<Keys> {
        let keys = Keys::new(&self.prefix);
        if keys.is_raw {
            let why = "on Azure a prefix neither begins with a slash nor has an empty part";
            return Err(self.refused(ErrorKind::InvalidArgument, why));
        }
        Ok(keys)
    }

    fn settings(&self) -> Result<Settings> {
        let variable = std::env::var_os("AZURE_CREDENTIALS_FILE").map(PathBuf::from);
        let Some(path) = self.credentials_file.clone().or(variable) else { return Ok(Settings::default()) };
        let text = std::fs::read_to_string(&path).map_err(|error| {
            self.refused(ErrorKind::AccessDenied, &format!("cannot read {}: {error}", path.display()))
        })?;
        Ok(Settings::parse(&text))
    }

    fn with_credentials(
        &self,
        builder: MicrosoftAzureBuilder,
        settings: &Settings,
    ) -> Result<MicrosoftAzureBuilder> {
        if let Some(name) = &self.account_key_variable {
            let why = format!("{name} is neither in the credentials file nor in the environment");
            let key = settings.get(name).ok_or_else(|| self.refused(ErrorKind::AccessDenied, &why))?;
            return Ok(builder.with_access_key(key));
        }
        if !self.use_aad {
            if let Some(key) =
                settings.get("AZURE_STORAGE_ACCOUNT_ACCESS_KEY").or_else(|| settings.get("AZURE_STORAGE_KEY"))
            {
                return Ok(builder.with_access_key(key));
            }
            if let Some(token) = settings.get("AZURE_STORAGE_SAS_TOKEN") {
                let pairs = split_sas(&token).map_err(|_| {
                    self.refused(ErrorKind::InvalidArgument, "AZURE_STORAGE_SAS_TOKEN cannot be read")
                })?;
                return Ok(builder.with_sas_authorization(pairs));
            }
        }
        self.with_entra_id(builder, settings)
    }

    fn with_entra_id(
        &self,
        mut builder: MicrosoftAzureBuilder,
        settings: &Settings,
    ) -> Result<MicrosoftAzureBuilder> {
        let (tenant, client) = (settings.get("AZURE_TENANT_ID"), settings.get("AZURE_CLIENT_ID"));
        let authority = self.authority.clone().or_else(|| settings.get("AZURE_AUTHORITY_HOST"));
        let of_cloud = || authority_of_cloud(&settings.get("AZURE_CLOUD_NAME")?).map(ToOwned::to_owned);
        if let Some(authority) = authority.or_else(of_cloud) {
            builder = builder.with_authority_host(authority.trim_end_matches('/'));
        }
        if let (Some(tenant), Some(client)) = (&tenant, &client) {
            if let Some(secret) = settings.get("AZURE_CLIENT_SECRET") {
                return Ok(builder.with_client_secret_authorization(client, secret, tenant));
            }
            if settings
                .get("AZURE_CLIENT_CERTIFICATE")
                .or_else(|| settings.get("AZURE_CLIENT_CERTIFICATE_PATH"))
                .is_some()
            {
                let why = "client certificates are not supported: give a client secret, a workload identity or an account key";
                return Err(self.refused(ErrorKind::InvalidArgument, why));
            }
            if let Some(file) = settings.get("AZURE_FEDERATED_TOKEN_FILE") {
                return Ok(builder
                    .with_client_id(client)
                    .with_tenant_id(tenant)
                    .with_federated_token_file(file));
            }
        }
        // Managed identity is what is left; a client ID chooses one of several.
        Ok(client.into_iter().fold(builder, MicrosoftAzureBuilder::with_client_id))
    }

    fn blob_domain(&self, settings: &Settings) -> Result<&'static str> {
        match settings.get("AZURE_CLOUD_NAME").as_deref().map(str::to_lowercase).as_deref() {
            None | Some("azurepubliccloud" | "azurecloud" | "public") => Ok("core.windows.net"),
            Some("azureusgovernment" | "azureusgovernmentcloud") => Ok("core.usgovcloudapi.net"),
            Some("azurechinacloud" | "azurechina") => Ok("core.chinacloudapi.cn"),
            Some(other) => {
                Err(self
                    .refused(ErrorKind::InvalidArgument, &format!("AZURE_CLOUD_NAME {other:?} is unknown")))
            }
        }
    }

    fn refused(&self, kind: ErrorKind, why: &str) -> Error {
        Error::new(kind, format!("cannot use {self}: {why}"))
    }
}

/// Adds the headers of locks to puts, and signs what the crate has not signed like that.
#[derive(Debug, Clone)]
struct StoreClient {
    inner: HttpClient,
    account: String,
    credentials: Arc<OnceLock<AzureCredentialProvider>>,
    clock: Arc<dyn Clock>,
    /// Its requests are not the crate's.
    is_unsigned: bool,
}

#[async_trait]
impl HttpService for StoreClient {
    async fn call(&self, mut request: HttpRequest) -> Answered<HttpResponse> {
        let has_lock = request.extensions().get::<Lock>().is_some();
        Dialect::Azure.lock_put(&mut request, self.clock.now())?;
        if has_lock || self.is_unsigned {
            self.sign(&mut request).await.map_err(|error| carried(from_crate(&error)))?;
        }
        self.inner.execute(request).await
    }
}

impl StoreClient {
    async fn sign(&self, request: &mut HttpRequest) -> ::object_store::Result<()> {
        let Some(credentials) = self.credentials.get() else { return Ok(()) };
        let credential = credentials.get_credential().await?;
        // Tokens are good for any headers; an account key has signed those that were there.
        if self.is_unsigned || matches!(*credential, AzureCredential::AccessKey(_)) {
            request.headers_mut().remove(http::header::AUTHORIZATION);
            AzureAuthorizer::new(&credential, &self.account).try_authorize(request)?;
        }
        Ok(())
    }
}

fn authority_of_cloud(name: &str) -> Option<&'static str> {
    match name.to_lowercase().as_str() {
        "azureusgovernment" | "azureusgovernmentcloud" => Some("https://login.microsoftonline.us"),
        "azurechinacloud" | "azurechina" => Some("https://login.chinacloudapi.cn"),
        _ => None,
    }
}

impl fmt::Display for AzureConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "azure://{}/{}", self.container, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(query: &str, credentials: &str) -> Result<ObjectStorage> {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), credentials).expect("write");
        let url = format!("box/p?credentials-file={}&{query}", file.path().display());
        AzureConfig::parse(&url).expect("valid").open(None)
    }

    #[test]
    fn each_way_to_credentials_opens_without_a_request() {
        let secret =
            "AZURE_TENANT_ID=t\nAZURE_CLIENT_ID=c\nAZURE_CLIENT_SECRET=s\nAZURE_CLOUD_NAME=AzureChinaCloud\n";
        let workload = "AZURE_TENANT_ID=t\nAZURE_CLIENT_ID=c\nAZURE_FEDERATED_TOKEN_FILE=/token\n";
        for (query, credentials) in [
            ("account=a&account-key-variable=MINE", "MINE=c2VjcmV0\n"),
            ("account=a", "AZURE_STORAGE_ACCOUNT_ACCESS_KEY=c2VjcmV0\n"),
            ("account=a", "AZURE_STORAGE_SAS_TOKEN=sv=2020-08-04&sig=abc\n"),
            ("account=a&use-aad=true", secret),
            ("", &format!("AZURE_STORAGE_ACCOUNT=a\n{workload}")),
            ("account=a", "AZURE_CLIENT_ID=c\n"),
        ] {
            let storage = open(query, credentials).expect(query);
            assert_eq!(format!("{storage:?}"), "ObjectStorage { location: \"azure://box/p/\", .. }");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_without_a_secret() {
        let certificate = "AZURE_TENANT_ID=t\nAZURE_CLIENT_ID=c\nAZURE_CLIENT_CERTIFICATE=sEcReT\n";
        for (query, credentials, named) in [
            ("", "A=b\n", "account="),
            ("account=a&account-key-variable=MINE", "YOURS=sEcReT\n", "MINE is neither"),
            ("account=a", certificate, "client certificates"),
            ("account=a", "AZURE_CLOUD_NAME=AzureMoon\n", "azuremoon"),
        ] {
            let error = open(query, credentials).expect_err(named);
            assert!(error.to_string().contains(named) && !format!("{error:?}").contains("sEcReT"), "{error}");
        }
    }
}
