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
        ({"provider": "azure", "objectStorage": {"bucket": "b"}}, "'azure' is not supported yet"),
    ],
)
def test_what_cannot_be_used_is_named(location: dict, text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text):
        repository_url(location, "app")
