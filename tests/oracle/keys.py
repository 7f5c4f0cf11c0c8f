"""Passwords, keys, hashes and seals, from the format document alone (sections 2 and 3)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from .ecc import Ecc

Hash = Callable[[bytes], bytes]


def _hkdf(key: bytes, salt: bytes, info: bytes, length: int = 32) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(key)


def password_key(algorithm: str, password: str, salt: bytes) -> bytes:
    """The 32-byte format encryption key."""
    if algorithm == "scrypt-65536-8-1":
        return Scrypt(salt=salt, length=32, n=65536, r=8, p=1).derive(password.encode())
    if algorithm == "pbkdf2-sha256-600000":
        return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 600_000, 32)
    raise ValueError(algorithm)


def open_block(key: bytes, unique_id: bytes, sealed: bytes) -> bytes:
    """Opens `encryptedBlockFormat` or `kopia.blobcfg`."""
    cipher = AESGCM(_hkdf(key, unique_id, b"AES"))
    return cipher.decrypt(sealed[:12], sealed[12:], _hkdf(key, unique_id, b"CHECKSUM"))


def keyed_hash(name: str, secret: bytes) -> Hash:
    """The repository's hash function; BLAKE3 is left to the engine's own tests."""
    table: dict[str, Hash] = {
        "BLAKE2B-256-128": lambda data: hashlib.blake2b(data, digest_size=32, key=secret).digest()[:16],
        "BLAKE2B-256": lambda data: hashlib.blake2b(data, digest_size=32, key=secret).digest(),
        "BLAKE2S-128": lambda data: hashlib.blake2s(data, digest_size=16, key=secret).digest(),
        "BLAKE2S-256": lambda data: hashlib.blake2s(data, digest_size=32, key=secret).digest(),
        "HMAC-SHA224": lambda data: hmac.digest(secret, data, "sha224"),
        "HMAC-SHA256": lambda data: hmac.digest(secret, data, "sha256"),
        "HMAC-SHA256-128": lambda data: hmac.digest(secret, data, "sha256")[:16],
        "HMAC-SHA3-224": lambda data: hmac.new(secret, data, "sha3_224").digest(),
        "HMAC-SHA3-256": lambda data: hmac.new(secret, data, "sha3_256").digest(),
    }
    return table[name]


@dataclass(frozen=True)
class Keys:
    """All that opening a repository gives."""

    config: dict[str, Any]
    hash: Hash
    key_derivation_secret: bytes

    def open(self, iv: bytes, sealed: bytes) -> bytes:
        """Opens a content or a whole blob; raises `InvalidTag` if the seal does not match."""
        if self.config.get("eccOverheadPercent"):
            sealed = Ecc(self.config["eccOverheadPercent"]).open(sealed)
        key = hmac.digest(self.key_derivation_secret, iv, "sha256")
        aead = AESGCM(key) if self.config["encryption"].startswith("AES256") else ChaCha20Poly1305(key)
        return aead.decrypt(sealed[:12], sealed[12:], iv)


def open_format(blob: bytes, password: str) -> Keys:
    """Opens `kopia.repository`."""
    outer = json.loads(blob)
    unique_id = base64.b64decode(outer["uniqueID"])
    key = password_key(outer["keyAlgo"], password, unique_id)
    inner = json.loads(open_block(key, unique_id, base64.b64decode(outer["encryptedBlockFormat"])))["format"]
    master = base64.b64decode(inner["masterKey"])
    secret = base64.b64decode(inner.get("secret", ""))
    return Keys(inner, keyed_hash(inner["hash"], secret), _hkdf(master, b"encryption", b""))
