"""BackupStorageLocation → the URL of a repository, as Velero's movers find it (contract 5.6). Pure.

The repository of a namespace is `<prefix>/kopia/<namespace>/` in the location's bucket. Keys that do not
reach the data path upstream are ignored here too (`publicUrl`, `tagging`, `signatureVersion`,
`enableSharedConfig`, `checksumAlgorithm`), but two that upstream forgets: `kmsKeyId` is applied, and
`s3ForcePathStyle: "true"`. A customer key (SSE-C) is not applied, by intent: upstream's maintenance could not
read what it seals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from repository.errors import InvalidRequestError

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})
_BACKENDS = {"aws": "s3", "fs": "filesystem", "azure": "azure", "gcp": "gcs"}


def repository_url(
    location: Mapping[str, Any], volume_namespace: str, *, credentials_path: str = "", ca_path: str = ""
) -> str:
    """The URL of the repository for a namespace; `location` is the `spec` of a BackupStorageLocation.

    Raises:
        InvalidRequestError: the provider, or what it needs, is unknown or missing.
    """
    return _url(location, f"kopia/{volume_namespace}/", credentials_path, ca_path)


def store_url(location: Mapping[str, Any], *, credentials_path: str = "", ca_path: str = "") -> str:
    """The URL of the location itself: what holds `backups/`, `kopia/` and the rest.

    Raises:
        InvalidRequestError: as for `repository_url`.
    """
    return _url(location, "", credentials_path, ca_path)


def _url(location: Mapping[str, Any], folder: str, credentials_path: str, ca_path: str) -> str:
    backend = _backend(location)
    inside = f"{_prefix(location)}{folder}"
    if backend == "filesystem":
        return _filesystem(location, inside)
    options = {"credentials-file": credentials_path, "ca-file": ca_path}
    config = _config(location)
    if _flag(config, "insecureSkipTLSVerify"):
        options["insecure-skip-tls-verify"] = "true"
    if backend == "s3":
        return _object_store("s3", location, inside, _s3(config) | options)
    if backend == "azure":
        return _object_store("azure", location, inside, _azure(config) | options)
    return _object_store("gcs", location, inside, options)


def _backend(location: Mapping[str, Any]) -> str:
    provider = str(location.get("provider", "")).removeprefix("velero.io/")
    if provider in _BACKENDS:
        return _BACKENDS[provider]
    if _config(location).get("s3Url"):
        return "s3"
    raise InvalidRequestError(f"invalid storage provider {provider!r}: known are aws, azure, gcp and fs")


def _config(location: Mapping[str, Any]) -> Mapping[str, str]:
    config: Mapping[str, str] = location.get("config") or {}
    return config


def _flag(config: Mapping[str, str], key: str) -> bool:
    """What Velero takes for true and false: Go's `strconv.ParseBool`, and nothing for false.

    Raises:
        InvalidRequestError: it is neither.
    """
    value = str(config.get(key) or "")
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise InvalidRequestError(f"config.{key} must be true or false, not {value!r}")


def _store(location: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bucket and prefix: those inside `config` count only where `objectStorage` is absent."""
    store: Mapping[str, Any] = location.get("objectStorage") or _config(location)
    return store


def _prefix(location: Mapping[str, Any]) -> str:
    prefix = str(_store(location).get("prefix") or "").strip("/")
    return f"{prefix}/" if prefix else ""


def _filesystem(location: Mapping[str, Any], inside: str) -> str:
    path = _config(location).get("fspath", "")
    if not path.startswith("/"):
        raise InvalidRequestError(f"config.fspath must be an absolute path, not {path!r}")
    return f"file://{quote(path.rstrip('/'))}/{quote(inside.rstrip('/'))}".rstrip("/")


def _object_store(scheme: str, location: Mapping[str, Any], inside: str, options: Mapping[str, str]) -> str:
    bucket = _store(location).get("bucket")
    if not bucket:
        raise InvalidRequestError("objectStorage.bucket is missing")
    query = urlencode({key: value for key, value in options.items() if value})
    return f"{scheme}://{bucket}/{quote(inside)}" + (f"?{query}" if query else "")


def _s3(config: Mapping[str, str]) -> dict[str, str]:
    return {
        "endpoint": _endpoint(config.get("s3Url", "")),
        "region": config.get("region", ""),
        "profile": config.get("profile", ""),
        "path-style": "true" if _flag(config, "s3ForcePathStyle") else "",
        "kms-key-id": config.get("kmsKeyId", ""),
    }


def _azure(config: Mapping[str, str]) -> dict[str, str]:
    account = config.get("storageAccount", "")
    if not account:
        raise InvalidRequestError("config.storageAccount is missing")
    return {
        "account": account,
        "endpoint": config.get("storageAccountURI", "").rstrip("/"),
        "account-key-variable": config.get("storageAccountKeyEnvVar", ""),
        "use-aad": "true" if _flag(config, "useAAD") else "",
        "authority": config.get("activeDirectoryAuthorityURI", ""),
    }


def _endpoint(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.path not in ("", "/"):
        raise InvalidRequestError(f"config.s3Url must be a host without a path, not {url!r}")
    return url.rstrip("/")
