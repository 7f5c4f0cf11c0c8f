"""Where a store is, and the repositories in it: by URL the same as by a BackupStorageLocation."""

from __future__ import annotations

from typing import Any

import pytest

from repository import location
from repository.errors import InvalidRequestError
from velero_store import place

LOCATIONS = [
    {"provider": "aws", "objectStorage": {"bucket": "b"}},
    {"provider": "aws", "objectStorage": {"bucket": "b", "prefix": "/p/q/"}, "config": {"region": "eu-1"}},
    {
        "provider": "aws",
        "objectStorage": {"bucket": "b", "prefix": "a b/ä"},
        "config": {"s3Url": "http://h:9000"},
    },
    {"provider": "azure", "objectStorage": {"bucket": "c"}, "config": {"storageAccount": "x"}},
    {"provider": "gcp", "objectStorage": {"bucket": "g", "prefix": "p"}},
    {
        "provider": "velero.io/fs",
        "config": {"fspath": "/a b/c/"},
        "objectStorage": {"bucket": "x", "prefix": "p"},
    },
    {"provider": "fs", "config": {"fspath": "/srv"}},
]


@pytest.mark.parametrize("spec", LOCATIONS)
def test_the_repository_of_a_namespace_is_where_the_agent_has_it(spec: dict[str, Any]) -> None:
    options = {"credentials_path": "/tmp/keys", "ca_path": "/tmp/ca"}
    url = place.store_url(location.store_url(spec, **options))
    assert place.repository_url(url, "shop") == location.repository_url(spec, "shop", **options).rstrip(
        "/" if "fs" in str(spec["provider"]) else ""
    )


@pytest.mark.parametrize(
    ("store", "repository"),
    [
        ("s3://b", "s3://b/kopia/shop/"),
        ("s3://b/", "s3://b/kopia/shop/"),
        ("s3://b/p/q", "s3://b/p/q/kopia/shop/"),
        (
            "s3://b/p/?region=r&endpoint=http%3A%2F%2Fh",
            "s3://b/p/kopia/shop/?region=r&endpoint=http%3A%2F%2Fh",
        ),
        ("s3://b?prefix=p/q/&region=r", "s3://b/p/q/kopia/shop/?region=r"),
        ("gcs://b?prefix=", "gcs://b/kopia/shop/"),
        ("/mnt/copy/", "/mnt/copy/kopia/shop"),
        ("copy", "copy/kopia/shop"),
        ("file:///mnt/a%20b", "file:///mnt/a%20b/kopia/shop"),
    ],
)
def test_a_store_by_url_or_path(store: str, repository: str) -> None:
    assert place.repository_url(place.store_url(store), "shop") == repository


@pytest.mark.parametrize("store", ["", "s3://b/p?prefix=q"])
def test_what_makes_no_sense_is_refused(store: str) -> None:
    with pytest.raises(InvalidRequestError):
        place.store_url(store)


@pytest.mark.parametrize("namespace", ["", "..", "a/b", "A", "a?x", "-a"])
def test_a_namespace_is_never_a_path(namespace: str) -> None:
    with pytest.raises(InvalidRequestError):
        place.repository_url("s3://b/", namespace)


def test_options_are_not_shown() -> None:
    assert place.shown("s3://b/a%20b/?credentials-file=/secret") == "s3://b/a b/"
