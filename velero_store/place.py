"""Where a store of backups is, and where in it the repositories of its namespaces are. Pure.

A store is `<bucket>/<prefix>/`; the repository of a namespace is `kopia/<namespace>/` below it. Source:
Velero `pkg/persistence/object_store_layout.go`, `pkg/repository/config/config.go`.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlencode

from repository.errors import InvalidRequestError
from velero_store.fields import is_name

FILE_SCHEME = "file"


def store_url(store: str) -> str:
    """The store as a URL of a folder: an option `prefix` becomes the path that it means.

    Raises:
        InvalidRequestError: It is empty, or names its prefix twice.
    """
    if not store:
        raise InvalidRequestError(
            "no store: give s3://bucket/prefix, azure://…, gcs://…, a directory or --bsl"
        )
    scheme, separator, rest = store.partition("://")
    if not separator or scheme == FILE_SCHEME:
        return store.rstrip("/") or "/"
    location, _, query = rest.partition("?")
    bucket, _, path = location.partition("/")
    pairs = parse_qsl(query, keep_blank_values=True)
    named = [value for key, value in pairs if key == "prefix"]
    if named and path.strip("/"):
        raise InvalidRequestError(f"give the prefix of {scheme}://{bucket} as path or as option, not both")
    folder = quote(named[0]) if named else path
    others = urlencode([pair for pair in pairs if pair[0] != "prefix"])
    url = f"{scheme}://{bucket}/{folder.strip('/')}".rstrip("/") + "/"
    return url + (f"?{others}" if others else "")


def repository_url(url: str, namespace: str) -> str:
    """The repository of a namespace in the store at `url` (of `store_url`).

    Raises:
        InvalidRequestError: No namespace can have this name.
    """
    if not is_name(namespace):
        raise InvalidRequestError(f"{namespace!r} is no namespace")
    folder = f"kopia/{namespace}"
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == FILE_SCHEME:
        return f"{url.rstrip('/')}/{folder}"
    location, question, query = rest.partition("?")
    return f"{scheme}://{location.rstrip('/')}/{folder}/{question}{query}"


def shown(url: str) -> str:
    """The URL without its options, for people."""
    return unquote(url.partition("?")[0])
