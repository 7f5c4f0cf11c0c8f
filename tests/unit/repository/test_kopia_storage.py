"""The storage of Kopia's `repository.config` as our URL; keys go to files, never into the URL."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from repository.errors import InvalidRequestError
from repository.kopia_storage import speeds, storage_url


def _url(kind: str, config: dict[str, Any]) -> tuple[str, dict[str, str]]:
    kept: dict[str, str] = {}

    def keep(name: str, secret: bytes) -> str:
        kept[name] = secret.decode()
        return f"/private/{name}"

    return storage_url(kind, config, keep), kept


KEYS = {"accessKeyID": "AK", "secretAccessKey": "sEcReT", "sessionToken": ""}
INI = "[default]\naws_access_key_id=AK\naws_secret_access_key=sEcReT\n"
FILE = "credentials-file=%2Fprivate%2Fcredentials"


@pytest.mark.parametrize(
    ("config", "url", "kept"),
    [
        ({"endpoint": "s3.amazonaws.com", **KEYS}, f"s3://b?{FILE}", {"credentials": INI}),
        (
            {"endpoint": "minio:9000", "doNotUseTLS": True, "prefix": "p/", "region": "r"},
            "s3://b?prefix=p%2F&endpoint=http%3A%2F%2Fminio%3A9000&region=r",
            {},
        ),
        (
            {"endpoint": "minio", "doNotVerifyTLS": True, "rootCA": base64.b64encode(b"PEM").decode()},
            "s3://b?endpoint=https%3A%2F%2Fminio&insecure-skip-tls-verify=true&ca-file=%2Fprivate%2Fca.pem",
            {"ca.pem": "PEM"},
        ),
        (
            {"endpoint": "s3.amazonaws.com", "roleARN": "arn:x", "sessionName": "me", **KEYS},
            f"s3://b?{FILE}",
            {
                "credentials": "[default]\nrole_arn=arn:x\nsource_profile=keys\nrole_session_name=me\n"
                + INI.replace("default", "keys")
            },
        ),
    ],
    ids=["aws", "plain", "tls", "role"],
)
def test_s3(config: dict[str, Any], url: str, kept: dict[str, str]) -> None:
    assert _url("s3", {"bucket": "b", **config}) == (url, kept)


def test_azure() -> None:
    config = {"container": "c", "storageAccount": "a", "storageKey": "sEcReT", "prefix": "p/"}
    assert _url("azureBlob", config) == (
        f"azure://c?prefix=p%2F&account=a&{FILE}",
        {"credentials": "AZURE_STORAGE_ACCOUNT_ACCESS_KEY=sEcReT\n"},
    )
    url, _ = _url("azureBlob", config | {"storageDomain": "blob.cn", "doNotUseTLS": True})
    assert "endpoint=http%3A%2F%2Fa.blob.cn&" in url


def test_gcs() -> None:
    assert _url("gcs", {"bucket": "b", "credentialsFile": "/k"}) == ("gcs://b?credentials-file=%2Fk", {})
    url, kept = _url("gcs", {"bucket": "b", "prefix": "p", "credentials": {"type": "service_account"}})
    assert url == "gcs://b?prefix=p&credentials-file=%2Fprivate%2Fcredentials.json"
    assert kept == {"credentials.json": '{"type": "service_account"}'}


@pytest.mark.parametrize(
    ("kind", "config", "named"),
    [
        ("rclone", {}, "rclone"),
        ("s3", {"bucket": "b", "pointInTime": "2026-01-01T00:00:00Z"}, "pointInTime"),
        ("s3", {"bucket": "b", "roleARN": "arn:x", "roleEndpoint": "https://sts"}, "roleEndpoint"),
        (
            "azureBlob",
            {"container": "c", "storageAccount": "a", "clientCertificate": "x"},
            "clientCertificate",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_name(
    kind: str, config: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequestError, match=named):
        _url(kind, config)


def test_limits_are_kopias() -> None:
    assert speeds({"maxUploadSpeedBytesPerSecond": 1e6}) == (1_000_000, 0)
