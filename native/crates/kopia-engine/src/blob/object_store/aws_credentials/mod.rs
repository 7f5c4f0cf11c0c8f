//! AWS credentials: where they come from, and how they stay fresh.
//!
//! Order, as in AWS SDKs with what Velero sets: a credentials file or profile that the location
//! names; keys of the environment; a file named by `AWS_SHARED_CREDENTIALS_FILE`; web identity;
//! `~/.aws`; container (ECS, EKS pod identity); instance metadata. The first that exists is used,
//! and its failure is not hidden by the next.
//!
//! Files are read again when they change, tokens renewed before they expire or when the storage
//! refuses them. No `Debug` or error of this module shows a secret.

mod ini;
mod metadata_services;
mod profile;
mod secret;
mod sts;

use super::transport::{Transport, TransportOptions};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use ::object_store::aws::AwsCredential;
use kopia_format::Timestamp;
use metadata_services::MetadataService;
use profile::ProfileFiles;
pub(super) use secret::Secret;
use std::path::PathBuf;
use std::sync::Arc;
use sts::{AssumeRole, Sts, WebIdentity};
use tokio::sync::Mutex;

/// Renewed when no more than this is left.
const RENEWED_BEFORE_EXPIRY_SECONDS: i64 = 5 * 60;
/// A role that assumes a role that assumes …: more is a mistake.
const CHAIN_LENGTH_MAX: usize = 5;

/// What the location says of credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CredentialOptions {
    /// File in the format of `~/.aws/credentials`.
    pub(super) credentials_file: Option<PathBuf>,
    /// Section of the files.
    pub(super) profile: Option<String>,
    /// Region of the token service.
    pub(super) region: String,
}

/// Environment variables; a test gives its own.
pub(super) type Environment = dyn Fn(&str) -> Option<String>;

/// A credential and when it ends, in seconds of the epoch.
#[derive(Debug, Clone)]
struct Issued {
    credential: Arc<AwsCredential>,
    expires_seconds: Option<i64>,
}

impl Issued {
    fn lasting(credential: AwsCredential) -> Self {
        Self { credential: Arc::new(credential), expires_seconds: None }
    }

    fn left_seconds(&self, now: Timestamp) -> i64 {
        self.expires_seconds.map_or(i64::MAX, |end| end.saturating_sub(now.seconds))
    }
}

/// Where credentials come from.
#[derive(Debug)]
enum Origin {
    Environment(Arc<AwsCredential>),
    Files(ProfileFiles),
    WebIdentity(WebIdentity),
    Metadata(MetadataService),
}

/// Credentials that stay fresh.
#[derive(Debug)]
pub(super) struct CredentialSource {
    origin: Origin,
    sts: Sts,
    transport_options: TransportOptions,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    issued: Option<Issued>,
    /// What the files were when `issued` was got from them.
    files_seen: profile::Fingerprint,
}

impl CredentialSource {
    /// Chooses the origin.
    ///
    /// # Errors
    /// `InvalidArgument` for contradictions; the transport's.
    pub(super) fn new(
        options: &CredentialOptions,
        environment: &Environment,
        transport_options: &TransportOptions,
    ) -> Result<Self> {
        let origin = choose(options, environment, transport_options)?;
        tracing::debug!(origin = origin.name(), "AWS credentials");
        let sts = Sts::new(
            Transport::new(transport_options)?.client(),
            &options.region,
            environment("AWS_ENDPOINT_URL_STS"),
        );
        Ok(Self {
            origin,
            sts,
            transport_options: transport_options.clone(),
            clock: Arc::new(SystemClock),
            state: Mutex::default(),
        })
    }

    /// The credentials of this moment. `refused` are ones that the storage does not take: others
    /// are given if there are any.
    ///
    /// # Errors
    /// `AccessDenied`, saying where credentials were looked for.
    pub(super) async fn current(&self, refused: Option<&AwsCredential>) -> Result<Arc<AwsCredential>> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let seen = self.origin.fingerprint();
        let changed = seen != state.files_seen;
        if let Some(issued) = &state.issued {
            let is_refused = refused.is_some_and(|refused| *refused == *issued.credential);
            let left = issued.left_seconds(now);
            if !is_refused && !changed && left > RENEWED_BEFORE_EXPIRY_SECONDS {
                return Ok(Arc::clone(&issued.credential));
            }
        }
        match self.issue(refused.is_some()).await {
            Ok(issued) => {
                *state = State { issued: Some(issued.clone()), files_seen: seen };
                Ok(issued.credential)
            }
            Err(error) => state.unexpired(refused, now).ok_or(error),
        }
    }

    async fn issue(&self, is_refused: bool) -> Result<Issued> {
        match &self.origin {
            Origin::Environment(credential) => {
                Ok(Issued { credential: Arc::clone(credential), expires_seconds: None })
            }
            Origin::Files(files) => self.issue_for_profile(files).await,
            Origin::WebIdentity(web_identity) => self.sts.assume_role_with_web_identity(web_identity).await,
            Origin::Metadata(service) => service.issue(is_refused, self.clock.now()).await,
        }
    }

    /// Follows `source_profile` to a profile with credentials of its own, then assumes the roles
    /// on the way back.
    async fn issue_for_profile(&self, files: &ProfileFiles) -> Result<Issued> {
        let profiles = files.read()?;
        let mut name = files.profile.clone();
        let mut roles: Vec<AssumeRole> = Vec::new();
        let mut issued = loop {
            if roles.len() > CHAIN_LENGTH_MAX {
                return Err(files.refused(&name, "its chain of source_profile does not end"));
            }
            match profiles.step(&name, files)? {
                profile::Step::Keys(credential) => break Issued::lasting(credential),
                profile::Step::WebIdentity(web_identity) => {
                    break self.sts.assume_role_with_web_identity(&web_identity).await?;
                }
                profile::Step::Service(service) => {
                    let service = MetadataService::new(
                        service,
                        &|name| std::env::var(name).ok(),
                        &self.transport_options,
                    )?;
                    roles.push(profiles.role(&name, files)?);
                    break service.issue(false, self.clock.now()).await?;
                }
                profile::Step::Role(role, source) => {
                    roles.push(role);
                    name = source;
                }
                profile::Step::RoleOfOwnKeys(role, credential) => {
                    roles.push(role);
                    break Issued::lasting(credential);
                }
            }
        };
        while let Some(role) = roles.pop() {
            issued = self.sts.assume_role(&role, &issued.credential).await?;
        }
        Ok(issued)
    }
}

impl State {
    /// What was issued before, if it has not expired: better than nothing when the token service fails.
    fn unexpired(&self, refused: Option<&AwsCredential>, now: Timestamp) -> Option<Arc<AwsCredential>> {
        let issued = self.issued.as_ref()?;
        let usable = refused.is_none() && issued.left_seconds(now) > 0;
        usable.then(|| Arc::clone(&issued.credential))
    }
}

impl Origin {
    fn name(&self) -> &'static str {
        match self {
            Self::Environment(_) => "environment",
            Self::Files(_) => "files",
            Self::WebIdentity(_) => "web identity",
            Self::Metadata(_) => "metadata service",
        }
    }

    fn fingerprint(&self) -> profile::Fingerprint {
        match self {
            Self::Files(files) => files.fingerprint(),
            _ => profile::Fingerprint::default(),
        }
    }
}

fn choose(
    options: &CredentialOptions,
    environment: &Environment,
    transport_options: &TransportOptions,
) -> Result<Origin> {
    let files = ProfileFiles::new(options, environment);
    if options.credentials_file.is_some() || options.profile.is_some() {
        return Ok(Origin::Files(files));
    }
    if let Some(credential) = of_environment(environment)? {
        return Ok(Origin::Environment(Arc::new(credential)));
    }
    if environment("AWS_SHARED_CREDENTIALS_FILE").is_some() && files.exist() {
        return Ok(Origin::Files(files));
    }
    if let Some(web_identity) = WebIdentity::of_environment(environment) {
        return Ok(Origin::WebIdentity(web_identity));
    }
    if files.exist() {
        return Ok(Origin::Files(files));
    }
    let kind = metadata_services::kind_of_environment(environment);
    Ok(Origin::Metadata(MetadataService::new(kind, environment, transport_options)?))
}

fn of_environment(environment: &Environment) -> Result<Option<AwsCredential>> {
    let (key_id, secret_key) = (environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"));
    match (key_id, secret_key) {
        (Some(key_id), Some(secret_key)) => {
            Ok(Some(AwsCredential { key_id, secret_key, token: environment("AWS_SESSION_TOKEN") }))
        }
        (None, None) => Ok(None),
        _ => Err(Error::new(
            ErrorKind::InvalidArgument,
            "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither",
        )),
    }
}

/// The region that the profile names.
pub(super) fn profile_region(options: &CredentialOptions, environment: &Environment) -> Option<String> {
    let files = ProfileFiles::new(options, environment);
    files.read().ok()?.setting(&files.profile, "region")
}

#[cfg(test)]
mod tests;
