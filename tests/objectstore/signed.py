"""One signed request to an S3 server: for what tests prepare in a bucket. (AWS Signature Version 4.)"""

from __future__ import annotations

import hashlib
import hmac
import urllib.request
from datetime import UTC, datetime
from urllib.parse import urlsplit

REGION = "us-east-1"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signed_request(
    method: str,
    url: str,
    access_key: str,
    secret_key: str,
    headers: dict[str, str] | None = None,
    *,
    body: bytes = b"",
) -> bytes:
    """Sends it; the answer's body."""
    at, now = urlsplit(url), datetime.now(UTC)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    signed = {"host": at.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp} | (headers or {})
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    query = "&".join(part if "=" in part else f"{part}=" for part in sorted(at.query.split("&")) if part)
    canonical = f"{method}\n{at.path}\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{day}/{REGION}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = _hmac(key, part)
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope},SignedHeaders={names},Signature={signature}"
    )
    request = urllib.request.Request(  # noqa: S310 - loopback
        url, data=body or None, method=method, headers=signed | {"authorization": authorization}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
        body: bytes = answer.read()
        return body
