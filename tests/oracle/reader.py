"""A second reader of Kopia repositories in pure Python, independent of the engine.

Written from the format document alone; slow and plain on purpose. It reads repositories on a
local directory: formats 1 to 3, legacy and epoch indexes (uncompacted ones and complete
compactions), zstd, gzip and deflate. Error correction is checked, not used for repair. It has no
S2, LZ4 or BLAKE3: those have vectors.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash
import zstandard

from .index import Entry, decode
from .keys import Keys, open_format


class OracleError(AssertionError):
    """The repository is not as the format document says."""


def _decompress(header: int, data: bytes) -> bytes:
    family = header >> 8
    if family == 0x11:
        return (
            zstandard.ZstdDecompressor().decompressobj(read_across_frames=False).decompress(data)
            if data
            else b""
        )
    if family in (0x10, 0x13):
        return gzip.decompress(data)
    if family == 0x15:
        return zlib.decompress(data, wbits=-15)
    raise OracleError(f"compression {header:#x} is not known here")


class OracleRepository:
    """One repository on a local directory."""

    def __init__(self, root: Path, password: str) -> None:
        self.root = root
        self.blobs = {self._blob_name(path): path for path in root.rglob("*.f")}
        self.keys: Keys = open_format(self.blob("kopia.repository"), password)
        self.index = self._merge()

    def _blob_name(self, path: Path) -> str:
        return "".join(path.relative_to(self.root).parts).removesuffix(".f")

    def blob(self, name: str) -> bytes:
        """All bytes of a blob."""
        return self.blobs[name].read_bytes()

    def open_blob(self, name: str) -> bytes:
        """Opens a whole-blob encrypted blob and checks its name against its bytes."""
        digest = re.sub(r"^(x[nsr](\d+_)+|[a-z])", "", name.split("-", 1)[0])
        plain = self.keys.open(bytes.fromhex(digest[-32:]), self.blob(name))
        if self.keys.hash(plain).hex() != digest:
            raise OracleError(f"{name}: name does not match its bytes")
        return plain

    def active_index_blobs(self) -> list[str]:
        """Names of the index blobs that together hold every entry."""
        if self.keys.config["epochParameters"].get("Enabled"):
            return [name for name in self.blobs if re.match(r"x[nsr]\d", name)]
        names = {name for name in self.blobs if name.startswith("n")}
        for log in [name for name in self.blobs if name.startswith("m")]:
            body = json.loads(self.open_blob(log))
            if all(one["id"] in names for one in body["outputMetadata"]):
                names -= {one["id"] for one in body["inputMetadata"]}
        return sorted(names)

    def _merge(self) -> dict[str, Entry]:
        merged: dict[str, Entry] = {}
        for name in self.active_index_blobs():
            for entry in decode(self.open_blob(name)):
                if entry.content not in merged or entry.beats(merged[entry.content]):
                    merged[entry.content] = entry
        return merged

    def content(self, content_id: str) -> bytes:
        """Plain bytes of a content, checked against its ID."""
        entry = self.index[content_id]
        sealed = self.blob(entry.pack)[entry.offset : entry.offset + entry.packed_length]
        digest = bytes.fromhex(content_id[len(content_id) % 2 :])
        plain = self.keys.open(digest[-16:], sealed)
        if entry.compression:
            if int.from_bytes(plain[:4], "big") != entry.compression:
                raise OracleError(f"{content_id}: header and index name different compressors")
            plain = _decompress(entry.compression, plain[4:])
        if self.keys.hash(plain) != digest:
            raise OracleError(f"{content_id}: bytes do not match the ID")
        if entry.original_length not in (None, len(plain)):
            raise OracleError(f"{content_id}: length {len(plain)}, the index says {entry.original_length}")
        return plain

    def object(self, object_id: str) -> bytes:
        """All bytes of an object."""
        if object_id.startswith("I"):
            body = json.loads(self.object(object_id[1:]))
            return b"".join(self._checked_part(part) for part in body["entries"])
        if object_id.startswith("Z"):
            stored = self.content(object_id[1:])
            return _decompress(int.from_bytes(stored[:4], "big"), stored[4:])
        return self.content(object_id)

    def _checked_part(self, part: dict[str, Any]) -> bytes:
        data = self.object(part["o"])
        if len(data) != part.get("l", 0):
            raise OracleError(f"{part['o']}: length {len(data)}, its entry says {part.get('l')}")
        return data

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Live manifest entries by ID."""
        newest: dict[str, dict[str, Any]] = {}
        for content_id, index_entry in self.index.items():
            if content_id.startswith("m") and not index_entry.deleted:
                for entry in json.loads(gzip.decompress(self.content(content_id)))["entries"]:
                    if entry["id"] not in newest or entry["modified"] >= newest[entry["id"]]["modified"]:
                        newest[entry["id"]] = entry
        return {key: one for key, one in newest.items() if not one.get("deleted")}

    def snapshots(self) -> dict[str, dict[str, Any]]:
        """Snapshot payloads by ID."""
        return {
            key: one["data"] for key, one in self.manifests().items() if one["labels"]["type"] == "snapshot"
        }

    def walk(self, entry: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """Every entry below `entry` with its path."""
        body = json.loads(self.object(entry["obj"]))
        if body["stream"] != "kopia:directory":
            raise OracleError(f"{path}: not a directory object")
        for child in body["entries"] or []:
            name = f"{path}/{child['name']}" if path else child["name"]
            yield name, child
            if child["type"] == "d":
                yield from self.walk(child, name)

    def fingerprint(self, snapshot: str) -> dict[str, tuple[str, str]]:
        """Type and XXH3 fingerprint of every path of a snapshot."""
        root = self.snapshots()[snapshot]["rootEntry"]
        return {path: (entry["type"], self._mark(entry)) for path, entry in self.walk(root)}

    def _mark(self, entry: dict[str, Any]) -> str:
        return "" if entry["type"] == "d" else xxhash.xxh3_128_hexdigest(self.object(entry["obj"]))
