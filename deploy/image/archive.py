#!/usr/bin/env python3
"""Writes container images of one layer as docker archives, from this machine's files: no registry, no daemon.

`archive.py OUT.tar NAME:TAG [options] SRC=DST …`: SRC is a file, a directory, or `@` for an empty directory.
Owners and times are left out, so the same content gives the same image. What goes into our own image is for
`build.py` to say.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

CREATED = "2026-01-01T00:00:00Z"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass
class Layer:
    """The one layer, built up in memory. Paths in the image are absolute or relative to its root."""

    excluded: tuple[str, ...] = ()
    _buffer: io.BytesIO = field(default_factory=io.BytesIO)
    _made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Open the tar."""
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add an empty directory and those above it."""
        parts = PurePosixPath(path.strip("/")).parts
        for count in range(1, len(parts) + 1):
            name = "/".join(parts[:count])
            if name not in self._made:
                self._made.add(name)
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, mode if count == len(parts) else 0o755
                self._tar.addfile(entry)

    def copy(self, source: str, target: str) -> None:
        """Add a file or a tree, following the symlink that `source` may be."""
        self._above(target)
        self._tar.add(os.path.realpath(source), target.strip("/"), filter=self._normal)

    def link(self, path: str, target: str) -> None:
        """Add a symlink."""
        self._above(path)
        entry = tarfile.TarInfo(path.strip("/"))
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)

    def text(self, path: str, content: str, mode: int = 0o644) -> None:
        """Add a file with this content."""
        self._above(path)
        data = content.encode()
        entry = tarfile.TarInfo(path.strip("/"))
        entry.size, entry.mode = len(data), mode
        self._tar.addfile(entry, io.BytesIO(data))

    def bytes(self) -> bytes:
        """Close the layer and return it."""
        self._tar.close()
        return self._buffer.getvalue()

    def _above(self, path: str) -> None:
        parent = str(PurePosixPath(path.strip("/")).parent)
        if parent != ".":
            self.directory(parent)

    def _normal(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if any(part in "/" + entry.name for part in self.excluded):
            return None
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = "root"
        return entry


@dataclass(frozen=True)
class Settings:
    """How containers of an image run unless their pods say otherwise, in the Dockerfile's words."""

    entry: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    user: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Return the part `config` of an image's configuration."""
        said = {"Entrypoint": list(self.entry), "User": self.user, "Labels": self.labels}
        return {"Env": [f"PATH={PATH}", *self.environment]} | {
            key: value for key, value in said.items() if value
        }


def write_image(out: Path, name: str, layer: Layer, settings: Settings) -> None:
    """Write the archive that `ctr images import` and `docker load` read."""
    content = layer.bytes()
    digest = hashlib.sha256(content).hexdigest()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": CREATED,
            "config": settings.document(),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": CREATED, "created_by": "deploy/image"}],
        }
    ).encode()
    config_name, layer_name = f"{hashlib.sha256(config).hexdigest()}.json", f"{digest}/layer.tar"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]).encode()
    temporary = out.with_suffix(".partial")
    with tarfile.open(temporary, "w") as tar:
        for path, data in ((config_name, config), (layer_name, content), ("manifest.json", manifest)):
            entry_info = tarfile.TarInfo(path)
            entry_info.size, entry_info.mode = len(data), 0o644
            tar.addfile(entry_info, io.BytesIO(data))
    temporary.rename(out)


def main() -> None:
    """Write the image that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("name", metavar="NAME:TAG")
    parser.add_argument("files", nargs="*", metavar="SRC=DST")
    parser.add_argument("--entry", default="", metavar="PROGRAM,ARGUMENT,…")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--link", action="append", default=[], metavar="PATH=TARGET")
    parser.add_argument("--exclude", action="append", default=[], metavar="PART", help="of a path")
    given = parser.parse_intermixed_args()
    layer = Layer(tuple(given.exclude))
    for pair in given.files:
        source, target = pair.split("=", 1)
        if source == "@":
            layer.directory(target, 0o1777 if target.strip("/") == "tmp" else 0o755)
        else:
            layer.copy(source, target)
    for pair in given.link:
        layer.link(*pair.split("=", 1))
    entry = tuple(given.entry.split(",")) if given.entry else ()
    write_image(given.out, given.name, layer, Settings(entry, tuple(given.env)))


if __name__ == "__main__":
    main()
