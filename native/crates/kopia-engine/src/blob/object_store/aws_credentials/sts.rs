//! AWS's token service: AssumeRole and AssumeRoleWithWebIdentity.
//!
//! The crate knows the second alone, and only over TLS; both are one signed or unsigned form and
//! one small XML answer.

use super::{Environment, Issued, Secret};
use crate::blob::object_store::failure::{Refusal, from_crate};
use crate::error::{Error, ErrorKind, Result};
use ::object_store::aws::{AwsAuthorizer, AwsCredential};
use ::object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;

const API_VERSION: &str = "2011-06-15";
const SESSION_NAME: &str = "kopia-data-mover";

/// A role to assume with credentials that one has.
#[derive(Debug, Clone)]
pub(super) struct AssumeRole {
    pub(super) role_arn: String,
    pub(super) session_name: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) duration_seconds: Option<u32>,
}

/// A role to assume with a token that somebody writes to a file and renews (IRSA).
#[derive(Debug, Clone)]
pub(super) struct WebIdentity {
    pub(super) token_file: PathBuf,
    pub(super) role_arn: String,
    pub(super) session_name: Option<String>,
}

impl WebIdentity {
    pub(super) fn of_environment(environment: &Environment) -> Option<Self> {
        Some(Self {
            token_file: environment("AWS_WEB_IDENTITY_TOKEN_FILE")?.into(),
            role_arn: environment("AWS_ROLE_ARN")?,
            session_name: environment("AWS_ROLE_SESSION_NAME"),
        })
    }
}

/// A client of the token service.
#[derive(Debug)]
pub(super) struct Sts {
    client: HttpClient,
    region: String,
    endpoint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(alias = "AssumeRoleWithWebIdentityResult")]
    assume_role_result: AnswerResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AnswerResult {
    credentials: AnswerCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AnswerCredentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

/// `<ErrorResponse><Error>…`
#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(rename = "Error")]
    error: Refusal,
}

impl Sts {
    pub(super) fn new(client: HttpClient, region: &str, endpoint: Option<String>) -> Self {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = endpoint.unwrap_or_else(|| format!("https://sts.{region}.{domain}"));
        Self { client, region: region.to_owned(), endpoint: endpoint.trim_end_matches('/').to_owned() }
    }

    /// # Errors
    /// `AccessDenied`; temporary if the service is busy or cannot be reached.
    pub(super) async fn assume_role(&self, role: &AssumeRole, credential: &AwsCredential) -> Result<Issued> {
        let duration = role.duration_seconds.map(|seconds| seconds.to_string());
        let mut form = vec![("Action", "AssumeRole"), ("RoleArn", &role.role_arn)];
        form.push(("RoleSessionName", role.session_name.as_deref().unwrap_or(SESSION_NAME)));
        form.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
        form.extend(duration.as_deref().map(|seconds| ("DurationSeconds", seconds)));
        self.ask(&form, Some(credential)).await.map_err(|error| about(&role.role_arn, error))
    }

    /// The token file is read at each call.
    ///
    /// # Errors
    /// `AccessDenied`; temporary if the service is busy or cannot be reached.
    pub(super) async fn assume_role_with_web_identity(&self, web_identity: &WebIdentity) -> Result<Issued> {
        let role_arn = &web_identity.role_arn;
        let token = std::fs::read_to_string(&web_identity.token_file).map_err(|error| {
            let path = web_identity.token_file.display();
            Error::new(ErrorKind::AccessDenied, format!("cannot read web identity token {path}: {error}"))
        })?;
        let token = Secret::new(token.trim());
        let mut form = vec![("Action", "AssumeRoleWithWebIdentity"), ("RoleArn", role_arn)];
        form.push(("RoleSessionName", web_identity.session_name.as_deref().unwrap_or(SESSION_NAME)));
        form.push(("WebIdentityToken", token.reveal()));
        self.ask(&form, None).await.map_err(|error| about(role_arn, error))
    }

    async fn ask(&self, form: &[(&str, &str)], credential: Option<&AwsCredential>) -> Result<Issued> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Version", API_VERSION)
            .extend_pairs(form)
            .finish();
        let mut request: HttpRequest = http::Request::post(format!("{}/", self.endpoint))
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(HttpRequestBody::from(form))
            .map_err(|error| Error::new(ErrorKind::InvalidArgument, format!("{}: {error}", self.endpoint)))?;
        if let Some(credential) = credential {
            AwsAuthorizer::new(credential, "sts", &self.region)
                .try_authorize(&mut request, None)
                .map_err(|error| from_crate(&error))?;
        }
        let failed =
            |error| from_crate(&::object_store::Error::Generic { store: "STS", source: Box::new(error) });
        let (parts, body) = self.client.execute(request).await.map_err(failed)?.into_parts();
        let body = body.bytes().await.map_err(failed)?;
        if !parts.status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let refusal = quick_xml::de::from_str::<ErrorAnswer>(&text).map(|answer| answer.error);
            let error = refusal.unwrap_or_default().error(parts.status);
            return Err(Error { kind: ErrorKind::AccessDenied, ..error });
        }
        parse_answer(&body)
    }
}

fn about(role_arn: &str, error: Error) -> Error {
    error.while_doing(format!("cannot assume role {role_arn}"))
}

fn parse_answer(body: &[u8]) -> Result<Issued> {
    // The cause would repeat a part of the answer, and that holds secrets.
    let unreadable =
        || Error::new(ErrorKind::AccessDenied, "the token service gives an answer that cannot be read");
    let answer: Answer = quick_xml::de::from_reader(body).map_err(|_| unreadable())?;
    let AnswerCredentials { access_key_id, secret_access_key, session_token, expiration } =
        answer.assume_role_result.credentials;
    let credential =
        AwsCredential { key_id: access_key_id, secret_key: secret_access_key, token: Some(session_token) };
    let expires: jiff::Timestamp = expiration.parse().map_err(|_| unreadable())?;
    Ok(Issued { credential: Arc::new(credential), expires_seconds: Some(expires.as_second()) })
}
