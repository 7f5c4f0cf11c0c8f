from __future__ import annotations

import pytest

from repository.errors import InvalidRequestError
from repository.location import repository_url


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ({"provider": "fs", "config": {"fspath": "/srv/backups/"}}, "file:///srv/backups/kopia/app"),
        (
            {
                "provider": "velero.io/fs",
                "config": {"fspath": "/a b"},
                "objectStorage": {"bucket": "x", "prefix": "/p/"},
            },
            "file:///a%20b/p/kopia/app",
        ),
        ({"provider": "aws", "objectStorage": {"bucket": "b"}}, "s3://b/kopia/app/"),
        (
            {
                "provider": "velero.io/aws",
                "objectStorage": {"bucket": "b", "prefix": "p/q/"},
                "config": {"region": "eu-1", "profile": "x"},
            },
            "s3://b/p/q/kopia/app/?region=eu-1&profile=x",
        ),
        (
            {"provider": "ceph", "objectStorage": {"bucket": "b"}, "config": {"s3Url": "http://h:9000/"}},
            "s3://b/kopia/app/?endpoint=http%3A%2F%2Fh%3A9000",
        ),
        ({"provider": "aws", "config": {"bucket": "inner", "prefix": "p"}}, "s3://inner/p/kopia/app/"),
        (
            {
                "provider": "aws",
                "objectStorage": {"bucket": "b"},
                "config": {
                    "s3Url": "minio:9000",
                    "s3ForcePathStyle": "true",
                    "kmsKeyId": "k/1",
                    "customerKeyEncryptionFile": "/key",
                    "checksumAlgorithm": "",
                    "tagging": "a=b",
                },
            },
            "s3://b/kopia/app/?endpoint=minio%3A9000&path-style=true&kms-key-id=k%2F1",
        ),
        (
            {
                "provider": "velero.io/azure",
                "objectStorage": {"bucket": "box", "prefix": "v"},
                "config": {
                    "storageAccount": "acc",
                    "storageAccountURI": "https://acc.blob.example/",
                    "storageAccountKeyEnvVar": "KEY",
                    "useAAD": "true",
                    "activeDirectoryAuthorityURI": "https://login.example",
                    "resourceGroup": "rg",
                    "subscriptionId": "s",
                },
            },
            "azure://box/v/kopia/app/?account=acc&endpoint=https%3A%2F%2Facc.blob.example&account-key-variable=KEY&use-aad=true&authority=https%3A%2F%2Flogin.example",
        ),
        ({"provider": "gcp", "objectStorage": {"bucket": "b", "prefix": "v"}}, "gcs://b/v/kopia/app/"),
    ],
)
def test_repository_is_where_veleros_movers_find_it(location: dict, url: str) -> None:
    assert repository_url(location, "app") == url


def test_files_of_secrets_are_named_in_the_url_and_not_read() -> None:
    location = {
        "provider": "aws",
        "objectStorage": {"bucket": "b"},
        "config": {"insecureSkipTLSVerify": "true"},
    }
    url = repository_url(location, "app", credentials_path="/c", ca_path="/ca")
    assert url == "s3://b/kopia/app/?credentials-file=%2Fc&ca-file=%2Fca&insecure-skip-tls-verify=true"


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ({"provider": "tape"}, "invalid storage provider 'tape'"),
        ({"provider": "fs"}, "config.fspath must be an absolute path"),
        ({"provider": "aws"}, "objectStorage.bucket is missing"),
        (
            {"provider": "aws", "objectStorage": {"bucket": "b"}, "config": {"s3Url": "http://h/path"}},
            "a host without a path",
        ),
        ({"provider": "azure", "objectStorage": {"bucket": "b"}}, "config.storageAccount is missing"),
    ],
)
def test_what_cannot_be_used_is_named(location: dict, text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text):
        repository_url(location, "app")


FLAGS = [
    ("aws", "insecureSkipTLSVerify", "insecure-skip-tls-verify=true"),
    ("aws", "s3ForcePathStyle", "path-style=true"),
    ("azure", "useAAD", "use-aad=true"),
]


@pytest.mark.parametrize(("provider", "key", "option"), FLAGS)
def test_booleans_are_those_of_velero(provider: str, key: str, option: str) -> None:
    """Go's strconv.ParseBool; anything else is refused by key and value."""

    def url(value: object) -> str:
        config = {"storageAccount": "acc", key: value}
        location = {"provider": provider, "objectStorage": {"bucket": "b"}, "config": config}
        return repository_url(location, "app")

    for yes in ("1", "t", "T", "true", "TRUE", "True", True):
        assert option in url(yes), yes
    for no in ("0", "f", "F", "false", "FALSE", "False", False, "", None):
        assert option not in url(no), no
    for neither in ("yes", "tRUE", " true", "2"):
        with pytest.raises(InvalidRequestError, match=f"config.{key} must be true or false, not '{neither}'"):
            url(neither)
