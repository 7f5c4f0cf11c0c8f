"""A file system that takes everything and says only at `close(2)` that it is full, as NFS and FUSE ones do.

It speaks the kernel's FUSE protocol itself, as far as writing files needs it (Linux `include/uapi/linux/fuse.h`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEVICE = Path("/dev/fuse")
_HEADER = struct.Struct("<IIQQIIIHH")
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
_REQUEST_BYTES_MAX = 1 << 20
_ROOT, _DIRECTORY, _FILE = 1, 0o040755, 0o100644
_LOOKUP, _GETATTR, _SETATTR, _UNLINK, _OPEN, _WRITE, _STATFS = 1, 3, 4, 10, 14, 16, 17
_RELEASE, _FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _CREATE = 18, 25, 26, 27, 28, 29, 35
_UNANSWERED = {2, 36, 42}  # forget, interrupt, batch forget


def can_mount() -> bool:
    """Whether this machine lets us."""
    return os.geteuid() == 0 and os.access(_DEVICE, os.R_OK | os.W_OK)


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """Mount one at a directory that is there."""
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"full", bytes(place), b"fuse", 0, options):
        os.close(device)
        raise OSError(ctypes.get_errno(), "cannot mount")
    server = threading.Thread(target=_Server(device).serve, daemon=True)
    server.start()
    try:
        yield place
    finally:
        libc.umount2(bytes(place), 2)
        server.join(10)
        os.close(device)


class _Server:
    def __init__(self, device: int) -> None:
        self._device = device
        self._names: dict[bytes, int] = {}
        self._sizes: dict[int, int] = {}
        self._mode: dict[int, int] = {}

    def serve(self) -> None:
        """Answer until the file system is unmounted."""
        while True:
            try:
                request = os.read(self._device, _REQUEST_BYTES_MAX)
            except OSError:
                return
            _, operation, unique, node, *_ = _HEADER.unpack_from(request)
            if operation in _UNANSWERED:
                continue
            try:
                error, answer = 0, self._answer(operation, node, request[_HEADER.size :])
            except OSError as refused:
                error, answer = -(refused.errno or errno.EIO), b""
            os.write(self._device, struct.pack("<IiQ", 16 + len(answer), error, unique) + answer)

    def _answer(self, operation: int, node: int, body: bytes) -> bytes:
        handlers = {
            _INIT: self._init,
            _LOOKUP: self._lookup,
            _GETATTR: lambda node, _: self._attributes(node),
            _SETATTR: self._set_attributes,
            _UNLINK: self._unlink,
            _CREATE: self._create,
            _WRITE: self._write,
            _FLUSH: self._flush,
            _STATFS: lambda *_: struct.pack(
                "<QQQQQIIII24x", 1 << 20, 1 << 20, 1 << 20, 99, 99, 4096, 255, 4096, 0
            ),
            _READDIR: lambda *_: b"",
        }
        if operation in {_OPEN, _OPENDIR}:
            return bytes(16)
        if operation in {_RELEASE, _RELEASEDIR}:
            return b""
        if operation not in handlers:
            raise OSError(errno.ENOSYS, "not needed")
        return handlers[operation](node, body)

    def _init(self, _node: int, _body: bytes) -> bytes:
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, 128 << 10, 1, 32, 0, 0)

    def _attributes_of(self, node: int) -> bytes:
        mode = _DIRECTORY if node == _ROOT else self._mode[node]
        size = self._sizes.get(node, 0)
        return _ATTRIBUTES.pack(node, size, 1, 1, 1, 1, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _attributes(self, node: int) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self._attributes_of(node)

    def _entry(self, node: int) -> bytes:
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + self._attributes_of(node)

    def _lookup(self, _node: int, body: bytes) -> bytes:
        node = self._names.get(body.rstrip(b"\0"))
        if node is None:
            raise OSError(errno.ENOENT, "no such file")
        return self._entry(node)

    def _create(self, _node: int, body: bytes) -> bytes:
        node = _ROOT + 1 + len(self._mode)
        self._names[body[16:].rstrip(b"\0")] = node
        self._mode[node] = _FILE
        return self._entry(node) + bytes(16)

    def _set_attributes(self, node: int, body: bytes) -> bytes:
        valid, size = struct.unpack_from("<I12xQ", body)
        if valid & 8:
            self._sizes[node] = size
        return self._attributes(node)

    def _write(self, node: int, body: bytes) -> bytes:
        offset, size = struct.unpack_from("<8xQI", body)
        self._sizes[node] = max(self._sizes.get(node, 0), offset + size)
        return struct.pack("<II", size, 0)

    def _flush(self, node: int, _body: bytes) -> bytes:
        if self._sizes.get(node):
            raise OSError(errno.ENOSPC, "full")
        return b""

    def _unlink(self, _node: int, body: bytes) -> bytes:
        self._names.pop(body.rstrip(b"\0"), None)
        return b""
