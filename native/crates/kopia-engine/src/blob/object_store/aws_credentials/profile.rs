//! Profiles of AWS's shared credentials and config files.
//!
//! Reads files and says what a profile asks for; assuming roles is done by the caller. Both files
//! are read as one, the credentials file winning; Velero gives one file as both.

use super::ini::{self, Section};
use super::metadata_services::ServiceKind;
use super::sts::{AssumeRole, WebIdentity};
use super::{CredentialOptions, Environment};
use crate::error::{Error, ErrorKind, Result};
use ::object_store::aws::AwsCredential;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Which files, and which profile of them.
#[derive(Debug, Clone)]
pub(super) struct ProfileFiles {
    /// In order of growing weight.
    paths: Vec<PathBuf>,
    pub(super) profile: String,
}

/// Changes whenever a file is rewritten or replaced: inode, length, time of change.
pub(super) type Fingerprint = Vec<Option<(u64, u64, i64, i64)>>;

/// The next thing to do for a profile.
#[derive(Debug)]
pub(super) enum Step {
    Keys(AwsCredential),
    WebIdentity(WebIdentity),
    Service(ServiceKind),
    /// Assume this role with the credentials of the named profile.
    Role(AssumeRole, String),
    /// Assume this role with the keys that stand in the same profile.
    RoleOfOwnKeys(AssumeRole, AwsCredential),
}

impl ProfileFiles {
    pub(super) fn new(options: &CredentialOptions, environment: &Environment) -> Self {
        let home = |name: &str| environment("HOME").map(|home| PathBuf::from(home).join(".aws").join(name));
        let named = |variable: &str| environment(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
        let paths = match &options.credentials_file {
            Some(path) => vec![path.clone()],
            None => [
                named("AWS_CONFIG_FILE").or_else(|| home("config")),
                named("AWS_SHARED_CREDENTIALS_FILE").or_else(|| home("credentials")),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        let profile = options.profile.clone().or_else(|| environment("AWS_PROFILE"));
        Self { paths, profile: profile.unwrap_or_else(|| "default".into()) }
    }

    pub(super) fn exist(&self) -> bool {
        self.paths.iter().any(|path| path.is_file())
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let of = |path: &PathBuf| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
        };
        self.paths.iter().map(of).collect()
    }

    /// # Errors
    /// `AccessDenied` if none of the files can be read.
    pub(super) fn read(&self) -> Result<Profiles> {
        let mut profiles: BTreeMap<String, Section> = BTreeMap::new();
        let mut failure = None;
        let mut read_count = 0;
        for path in &self.paths {
            match std::fs::read_to_string(path) {
                Ok(text) => {
                    read_count += 1;
                    for (name, section) in ini::parse(&text) {
                        profiles.entry(name).or_default().extend(section);
                    }
                }
                Err(error) => failure = Some(format!("cannot read {}: {error}", path.display())),
            }
        }
        if read_count == 0 {
            let why = failure.unwrap_or_else(|| "no credentials file is known".into());
            return Err(Error::new(ErrorKind::AccessDenied, format!("no AWS credentials: {why}")));
        }
        Ok(Profiles(profiles))
    }

    pub(super) fn refused(&self, profile: &str, why: &str) -> Error {
        let files: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
        let files = files.join(" and ");
        Error::new(ErrorKind::AccessDenied, format!("AWS profile {profile:?} of {files}: {why}"))
    }
}

/// The profiles that were read.
pub(super) struct Profiles(BTreeMap<String, Section>);

impl Profiles {
    fn section(&self, name: &str, files: &ProfileFiles) -> Result<&Section> {
        self.0.get(name).ok_or_else(|| files.refused(name, "there is no such profile"))
    }

    /// A setting of the profile that the files name.
    pub(super) fn setting(&self, profile: &str, key: &str) -> Option<String> {
        self.0.get(profile)?.get(key).cloned()
    }

    /// What profile `name` asks for.
    ///
    /// # Errors
    /// `AccessDenied` for a profile that is missing or gives no way to credentials.
    pub(super) fn step(&self, name: &str, files: &ProfileFiles) -> Result<Step> {
        let section = self.section(name, files)?;
        let get = |key: &str| section.get(key).filter(|value| !value.is_empty()).cloned();
        if let (Some(token_file), Some(role_arn)) = (get("web_identity_token_file"), get("role_arn")) {
            let session_name = get("role_session_name");
            return Ok(Step::WebIdentity(WebIdentity {
                token_file: token_file.into(),
                role_arn,
                session_name,
            }));
        }
        if get("role_arn").is_some() {
            return self.role_step(name, section, files);
        }
        if let Some(credential) = keys(section) {
            return Ok(Step::Keys(credential));
        }
        let why = match get("credential_process")
            .or_else(|| get("sso_session"))
            .or_else(|| get("sso_start_url"))
        {
            Some(_) => "credential_process and SSO are not supported: give keys, a role or a web identity",
            None => "it has no aws_access_key_id with aws_secret_access_key, no role_arn and no web identity",
        };
        Err(files.refused(name, why))
    }

    fn role_step(&self, name: &str, section: &Section, files: &ProfileFiles) -> Result<Step> {
        let role = self.role(name, files)?;
        match (section.get("source_profile"), section.get("credential_source")) {
            (Some(source), None) if source == name => match keys(section) {
                Some(credential) => Ok(Step::RoleOfOwnKeys(role, credential)),
                None => Err(files.refused(name, "it is its own source_profile and has no keys")),
            },
            (Some(source), None) => Ok(Step::Role(role, source.clone())),
            (None, Some(source)) => ServiceKind::of_credential_source(source)
                .map(Step::Service)
                .ok_or_else(|| files.refused(name, &format!("credential_source {source:?} is unknown"))),
            (Some(_), Some(_)) => {
                Err(files.refused(name, "give source_profile or credential_source, not both"))
            }
            (None, None) => Err(files.refused(name, "role_arn needs source_profile or credential_source")),
        }
    }

    /// The role of profile `name`.
    ///
    /// # Errors
    /// `AccessDenied` if it has none, or a duration that is no number.
    pub(super) fn role(&self, name: &str, files: &ProfileFiles) -> Result<AssumeRole> {
        let section = self.section(name, files)?;
        let role_arn = section.get("role_arn").cloned();
        let duration_seconds = section.get("duration_seconds").map(|text| text.parse()).transpose();
        Ok(AssumeRole {
            role_arn: role_arn.ok_or_else(|| files.refused(name, "it has no role_arn"))?,
            session_name: section.get("role_session_name").cloned(),
            external_id: section.get("external_id").cloned(),
            duration_seconds: duration_seconds
                .map_err(|_| files.refused(name, "duration_seconds must be a number"))?,
        })
    }
}

fn keys(section: &Section) -> Option<AwsCredential> {
    let get = |key: &str| section.get(key).filter(|value| !value.is_empty()).cloned();
    Some(AwsCredential {
        key_id: get("aws_access_key_id")?,
        secret_key: get("aws_secret_access_key")?,
        token: get("aws_session_token"),
    })
}
