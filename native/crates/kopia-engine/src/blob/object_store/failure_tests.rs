//! The failure list of object stores as a table.

use super::*;

fn refusal(code: &str) -> Refusal {
    Refusal { code: code.into(), message: "why".into() }
}

#[test]
fn every_refusal_has_its_kind_and_says_whether_to_try_again() {
    let table = [
        (404, "NoSuchKey", ErrorKind::BlobNotFound, false),
        (404, "", ErrorKind::BlobNotFound, false),
        (404, "XAdminUserNotFound", ErrorKind::AccessDenied, false),
        (404, "NoSuchUpload", ErrorKind::Storage, false),
        (404, "NoSuchBucket", ErrorKind::Storage, false),
        (404, "ContainerNotFound", ErrorKind::Storage, false),
        (403, "AccessDenied", ErrorKind::AccessDenied, false),
        (404, "InvalidAccessKeyId", ErrorKind::AccessDenied, false),
        (403, "RequestTimeTooSkewed", ErrorKind::AccessDenied, false),
        (400, "ExpiredToken", ErrorKind::AccessDenied, true),
        (409, "OperationAborted", ErrorKind::Storage, true),
        (409, "BlobAlreadyExists", ErrorKind::AlreadyExists, false),
        (409, "BlobImmutableDueToPolicy", ErrorKind::AccessDenied, false),
        (412, "PreconditionFailed", ErrorKind::AlreadyExists, false),
        (416, "InvalidRange", ErrorKind::InvalidRange, false),
        (429, "", ErrorKind::Storage, true),
        (500, "InternalError", ErrorKind::Storage, true),
        (503, "SlowDown", ErrorKind::Storage, true),
        (400, "RequestTimeout", ErrorKind::Storage, true),
        (400, "BadDigest", ErrorKind::Storage, true),
        (301, "PermanentRedirect", ErrorKind::InvalidArgument, false),
        (403, "QuotaExceeded", ErrorKind::NoSpace, false),
        (507, "XMinioStorageFull", ErrorKind::NoSpace, false),
        (400, "InvalidArgument", ErrorKind::Storage, false),
        (501, "NotImplemented", ErrorKind::UnsupportedFormat, false),
    ];
    for (status, code, kind, temporary) in table {
        let error = refusal(code).error(StatusCode::from_u16(status).expect("a status"));
        assert_eq!((error.kind, error.temporary), (kind, temporary), "{status} {code}: {error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[test]
fn only_code_and_first_line_of_the_message_are_kept() {
    let body = b"<?xml version=\"1.0\"?><Error><Code>ExpiredToken</Code><Message>The token has expired.\n\
        RequestId:1</Message><Token-0>sEcReT</Token-0></Error>";
    let refusal = Refusal::parse(&HeaderMap::new(), body);
    assert_eq!((refusal.code.as_str(), refusal.message.as_str()), ("ExpiredToken", "The token has expired."));
    let error = refusal.error(StatusCode::BAD_REQUEST);
    assert!(!format!("{error} {error:?}").contains("sEcReT"));
}

#[test]
fn a_body_that_is_no_error_document_leaves_the_status() {
    for body in [&b""[..], b"<html>busy", b"\xff\xfe", b"{}"] {
        let error = Refusal::parse(&HeaderMap::new(), body).error(StatusCode::SERVICE_UNAVAILABLE);
        assert!(error.temporary, "{error}");
    }
}

#[test]
fn an_azure_head_has_its_code_in_a_header() {
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-error-code", http::HeaderValue::from_static("ContainerNotFound"));
    assert_eq!(Refusal::parse(&headers, b"").error(StatusCode::NOT_FOUND).kind, ErrorKind::Storage);
}

#[test]
fn our_own_error_survives_its_way_through_the_crate() {
    let own = Error::new(ErrorKind::NoSpace, "the storage is full");
    let through = ::object_store::Error::Generic { store: "S3", source: Box::new(carried(own)) };
    let back = from_crate(&through);
    assert_eq!(
        (back.kind, back.temporary, back.message.as_str()),
        (ErrorKind::NoSpace, false, "the storage is full")
    );
}
