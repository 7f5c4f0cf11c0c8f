"""The storage in Kopia's `repository.config` → our URL.

Kopia keeps keys in that file; a URL must not hold them. They go through `keep`, which writes a private file
and gives its path. What cannot be honoured is refused by its name rather than left out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from repository.errors import InvalidRequestError

Keep = Callable[[str, bytes], str]
Config = Mapping[str, Any]
AWS_ENDPOINT = "s3.amazonaws.com"


def storage_url(kind: str, config: Config, keep: Keep) -> str:
    """The URL of a storage of type `kind`.

    Raises:
        InvalidRequestError: The type, or something it is told, is not supported.
    """
    if kind == "filesystem":
        return f"file://{quote(config['path'])}"
    if kind not in _STORES:
        raise InvalidRequestError(f"a storage of type {kind!r} is not supported: give --repo URL")
    if config.get("pointInTime"):
        raise InvalidRequestError("a view of an earlier point in time (pointInTime) is not supported")
    scheme, bucket_key, options_of = _STORES[kind]
    options = {"prefix": config.get("prefix", ""), **options_of(config, keep)}
    query = urlencode({key: value for key, value in options.items() if value})
    return f"{scheme}://{config[bucket_key]}" + (f"?{query}" if query else "")


def speeds(config: Config) -> tuple[int, int]:
    """Limits of upload and download that are kept with a storage, in bytes per second; 0 is none."""
    upload, download = (
        int(config.get(name) or 0)
        for name in ("maxUploadSpeedBytesPerSecond", "maxDownloadSpeedBytesPerSecond")
    )
    return upload, download


def _s3(config: Config, keep: Keep) -> dict[str, str]:
    endpoint, plain = config.get("endpoint", AWS_ENDPOINT), bool(config.get("doNotUseTLS"))
    authority = config.get("rootCA")
    return {
        "endpoint": "" if endpoint == AWS_ENDPOINT and not plain else _origin(endpoint, plain=plain),
        "region": config.get("region", ""),
        "insecure-skip-tls-verify": "true" if config.get("doNotVerifyTLS") else "",
        "ca-file": keep("ca.pem", base64.b64decode(authority)) if authority else "",
        "credentials-file": _aws_credentials(config, keep),
    }


def _aws_credentials(config: Config, keep: Keep) -> str:
    if config.get("roleARN") and config.get("roleEndpoint"):
        raise InvalidRequestError(
            "a role with a token service of its own (roleEndpoint) is not supported: "
            "set AWS_ENDPOINT_URL_STS and give --repo URL"
        )
    keys = {
        "aws_access_key_id": config.get("accessKeyID"),
        "aws_secret_access_key": config.get("secretAccessKey"),
        "aws_session_token": config.get("sessionToken"),
    }
    if not keys["aws_access_key_id"]:
        return ""
    role = {
        "role_arn": config.get("roleARN"),
        "source_profile": "keys",
        "role_session_name": config.get("sessionName"),
        "region": config.get("roleRegion"),
    }
    sections = {"default": role, "keys": keys} if config.get("roleARN") else {"default": keys}
    lines = (
        f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in values.items() if value)
        for name, values in sections.items()
    )
    return keep("credentials", "".join(lines).encode())


def _azure(config: Config, keep: Keep) -> dict[str, str]:
    if config.get("clientCertificate"):
        raise InvalidRequestError("a client certificate (clientCertificate) is not supported")
    account, plain = config["storageAccount"], bool(config.get("doNotUseTLS"))
    domain = config.get("storageDomain") or ("blob.core.windows.net" if plain else "")
    settings = {
        "AZURE_STORAGE_ACCOUNT_ACCESS_KEY": config.get("storageKey"),
        "AZURE_STORAGE_SAS_TOKEN": config.get("sasToken"),
        "AZURE_TENANT_ID": config.get("TenantID"),
        "AZURE_CLIENT_ID": config.get("ClientID"),
        "AZURE_CLIENT_SECRET": config.get("ClientSecret"),
        "AZURE_FEDERATED_TOKEN_FILE": config.get("azureFederatedTokenFile"),
    }
    text = "".join(f"{name}={value}\n" for name, value in settings.items() if value)
    return {
        "account": account,
        "endpoint": _origin(f"{account}.{domain}", plain=plain) if domain else "",
        "credentials-file": keep("credentials", text.encode()) if text else "",
    }


def _gcs(config: Config, keep: Keep) -> dict[str, str]:
    inline = config.get("credentials")
    return {
        "credentials-file": keep("credentials.json", json.dumps(inline).encode())
        if inline
        else config.get("credentialsFile", "")
    }


def _origin(host: str, *, plain: bool) -> str:
    return f"{'http' if plain else 'https'}://{host}"


_STORES: Mapping[str, tuple[str, str, Callable[[Config, Keep], dict[str, str]]]] = {
    "s3": ("s3", "bucket", _s3),
    "azureBlob": ("azure", "container", _azure),
    "gcs": ("gcs", "bucket", _gcs),
}
