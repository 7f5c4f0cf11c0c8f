//! Which credentials are chosen, and that they stay fresh. Token services answer on loopback.

use super::*;
use crate::blob::object_store::runtime::block_on;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;

fn environment(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let pairs: HashMap<String, String> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    move |name| pairs.get(name).cloned()
}

fn source(file: Option<&Path>, pairs: &[(&str, &str)]) -> CredentialSource {
    let options = CredentialOptions {
        credentials_file: file.map(Path::to_owned),
        profile: None,
        region: "us-east-1".into(),
    };
    CredentialSource::new(&options, &environment(pairs), &TransportOptions::default()).expect("a source")
}

fn current(source: &CredentialSource, refused: Option<&AwsCredential>) -> Result<Arc<AwsCredential>> {
    block_on(source.current(refused))
}

fn write(path: &Path, text: &str) {
    // Replaced, not rewritten: as Kubernetes does with the files of a Secret.
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text).expect("write");
    std::fs::rename(temporary, path).expect("rename");
}

fn keys(id: &str) -> String {
    format!("[default]\naws_access_key_id={id}\naws_secret_access_key=s-{id}\naws_session_token=t-{id}\n")
}

/// Answers each request with the next answer, and gives back what was asked.
fn service(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let thread =
        std::thread::spawn(move || answers.into_iter().map(|answer| serve_one(&listener, &answer)).collect());
    (url, thread)
}

fn serve_one(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        head += &line;
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let length = answer.len();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}")
        .expect("answer");
    format!("{head}{}", String::from_utf8_lossy(&body))
}

fn sts_answer(action: &str, id: &str, seconds: i64) -> String {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser/>\
         <Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>s-{id}</SecretAccessKey>\
         <SessionToken>t-{id}</SessionToken><Expiration>{end}</Expiration></Credentials></{action}Result>\
         <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
    )
}

#[test]
fn a_rewritten_file_gives_its_new_keys_at_once() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("credentials");
    write(&path, &keys("OLD"));
    let source = source(Some(&path), &[]);
    let old = current(&source, None).expect("old");
    assert_eq!((old.key_id.as_str(), old.token.as_deref()), ("OLD", Some("t-OLD")));
    write(&path, &keys("NEW"));
    assert_eq!(current(&source, None).expect("new").key_id, "NEW");
    write(&path, "[default]\n");
    assert_eq!(current(&source, None).expect("a file in the making leaves the last keys").key_id, "NEW");
}

#[test]
fn the_files_of_the_location_win_over_the_environment_and_web_identity() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("cloud");
    write(&path, &keys("FILE"));
    let file = path.to_str().expect("UTF-8");
    let static_keys = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")];
    let shared = ("AWS_SHARED_CREDENTIALS_FILE", file);
    let chosen = |file, pairs: &[(&str, &str)]| source(file, pairs).origin.name();
    assert_eq!(chosen(Some(path.as_path()), &static_keys), "files");
    assert_eq!(chosen(None, &[static_keys[0], static_keys[1], shared]), "environment");
    assert_eq!(chosen(None, &[identity[0], identity[1], shared]), "files");
    assert_eq!(chosen(None, &identity), "web identity");
    assert_eq!(chosen(None, &[]), "metadata service");
    let half = CredentialSource::new(
        &CredentialOptions::default(),
        &environment(&static_keys[..1]),
        &TransportOptions::default(),
    );
    assert!(half.expect_err("half").to_string().contains("AWS_SECRET_ACCESS_KEY"));
}

#[test]
fn a_role_is_assumed_with_the_keys_of_its_source_profile() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("cloud");
    let role = "[profile base]\naws_access_key_id=BASE\naws_secret_access_key=s\n\
        [default]\nrole_arn=arn:aws:iam::1:role/r\nsource_profile=base\nexternal_id=x y\n";
    write(&path, role);
    let (url, asked) = service(vec![sts_answer("AssumeRole", "ROLE", 3600)]);
    let source = source(Some(&path), &[("AWS_ENDPOINT_URL_STS", &url)]);
    assert_eq!(current(&source, None).expect("role").key_id, "ROLE");
    assert_eq!(current(&source, None).expect("kept").key_id, "ROLE");
    let asked = asked.join().expect("service");
    assert!(asked[0].contains("Action=AssumeRole&") && asked[0].contains("ExternalId=x+y"), "{}", asked[0]);
    assert!(asked[0].contains("Credential=BASE/"), "the source's keys sign: {}", asked[0]);
}

#[test]
fn a_web_identity_is_renewed_before_it_expires_with_the_token_of_that_time() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("token");
    write(&path, "first\n");
    let action = "AssumeRoleWithWebIdentity";
    let (url, asked) = service(vec![sts_answer(action, "ONE", 200), sts_answer(action, "TWO", 3600)]);
    let pairs = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().expect("UTF-8")),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let source = source(None, &pairs);
    assert_eq!(current(&source, None).expect("one").key_id, "ONE");
    write(&path, "second\n");
    assert_eq!(current(&source, None).expect("two").key_id, "TWO");
    let asked = asked.join().expect("service");
    assert!(asked[0].ends_with("WebIdentityToken=first"), "{}", asked[0]);
    assert!(asked[1].ends_with("WebIdentityToken=second"), "{}", asked[1]);
}

#[test]
fn refused_credentials_are_got_anew_and_kept_ones_used_while_the_service_is_down() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("token");
    write(&path, "token");
    let action = "AssumeRoleWithWebIdentity";
    let (url, asked) = service(vec![sts_answer(action, "ONE", 3600), sts_answer(action, "TWO", 200)]);
    let pairs = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().expect("UTF-8")),
        ("AWS_ROLE_ARN", "r"),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let source = source(None, &pairs);
    let one = current(&source, None).expect("one");
    assert_eq!(current(&source, Some(&one)).expect("two").key_id, "TWO");
    asked.join().expect("service");
    // It is due, but the service is gone and it has not expired.
    assert_eq!(current(&source, None).expect("still two").key_id, "TWO");
}

#[test]
fn what_is_missing_is_said_and_no_secret_shown() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("cloud");
    for (text, named) in [
        ("[other]\n", "no such profile"),
        ("[default]\naws_access_key_id=A\n", "aws_secret_access_key"),
        ("[default]\naws_secret_access_key=sEcReT\nrole_arn=r\n", "source_profile"),
        (
            "[default]\nrole_arn=r\nsource_profile=a\n[a]\nrole_arn=r\nsource_profile=default\n",
            "does not end",
        ),
        ("[default]\nrole_arn=r\ncredential_source=Moon\n", "Moon"),
        ("[default]\ncredential_process=/bin/true\n", "credential_process"),
        ("[default]\nrole_arn=r\nsource_profile=b\nduration_seconds=long\n", "duration_seconds"),
    ] {
        write(&path, text);
        let error = current(&source(Some(&path), &[]), None).expect_err(text);
        assert_eq!(error.kind, ErrorKind::AccessDenied, "{error}");
        assert!(error.to_string().contains(named), "{error}");
        assert!(!format!("{error:?}").contains("sEcReT"));
    }
    write(&path, &keys("A"));
    let source = source(Some(&path), &[]);
    current(&source, None).expect("keys");
    let shown = format!("{source:?}");
    assert!(!shown.contains("s-A") && !shown.contains("t-A"), "{shown}");
}
