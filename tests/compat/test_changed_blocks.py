"""The client of a changed-block service, against a played one: gRPC over TLS, with the faults of real ones."""

from __future__ import annotations

import base64
import datetime as dt
import json
import random
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import repository
from mover.cancel import CancelToken
from mover.changed_blocks import ALLOCATED, DELTA, NOT_ASKED, Changes, find_changes
from mover.kopia_engine import KopiaEngine
from mover.protocol import BackupRequest, ChangeTracking, RepositoryAccess, decode_request, encode_request

grpc = pytest.importorskip("grpc", reason="the played service needs grpcio (requirements-dev.lock)")

MIB = 1 << 20
DEVICE_BYTES = 8 * MIB
Ranges = list[tuple[int, int]]


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(ranges: Ranges, *, block_type: int = 2, capacity: int = DEVICE_BYTES) -> bytes:
    out = b"\x08" + varint(block_type) + b"\x10" + varint(capacity)
    for offset, length in ranges:
        entry = b"\x08" + varint(offset) + b"\x10" + varint(length)
        out += b"\x1a" + varint(len(entry)) + entry
    return out


def fields(request: bytes) -> dict[int, Any]:
    found: dict[int, Any] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = request[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(request):
        key = number()
        if key & 7 == 2:
            length = number()
            found[key >> 3] = request[at : at + length].decode()
            at += length
        else:
            found[key >> 3] = number()
    return found


@dataclass
class Service:
    """`answer` gives messages, or raises by `context.abort`; `asked` is what came."""

    answer: Callable[[str, dict[int, Any], Any], Iterator[bytes]] = lambda *_: iter([message([])])
    asked: list[tuple[str, dict[int, Any]]] = field(default_factory=list)
    port: int = 0
    authority: bytes = b""

    def tracking(self, token: Path) -> ChangeTracking:
        authority = base64.b64encode(self.authority).decode()
        return ChangeTracking(f"localhost:{self.port}", authority, str(token), "velero", "du-1")


def certificate() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, built.public_bytes(pem)


@pytest.fixture
def service() -> Iterator[Service]:
    played = Service()

    def handler(method: str) -> Any:
        def serve(request: bytes, context: Any) -> Iterator[bytes]:
            played.asked.append((method, fields(request)))
            yield from played.answer(method, fields(request), context)

        return grpc.unary_stream_rpc_method_handler(serve)

    methods = {name: handler(name) for name in ("GetMetadataAllocated", "GetMetadataDelta")}
    server = grpc.server(futures.ThreadPoolExecutor(4))
    generic = grpc.method_handlers_generic_handler("snapshotmetadata.SnapshotMetadata", methods)
    server.add_generic_rpc_handlers((generic,))
    key, played.authority = certificate()
    credentials = grpc.ssl_server_credentials([(key, played.authority)])
    played.port = server.add_secure_port("localhost:0", credentials)
    server.start()
    yield played
    server.stop(None).wait()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("shown\n")
    return tmp_path / "token"


def ask(service: Service, token: Path, base: str = "", *, has_parent: bool = False) -> Changes:
    return find_changes(
        service.tracking(token),
        base,
        has_parent=has_parent or bool(base),
        device_bytes=DEVICE_BYTES,
        cancel=repository.CancelToken(),
    )


def count(changes: Changes) -> int:
    assert changes.blocks is not None
    return changes.blocks.count


def test_what_is_asked_and_what_is_marked(service: Service, token: Path):
    service.answer = lambda *_: iter([message([(0, 1)]), message([(3 * MIB - 1, 2), (9 * MIB, 5)])])
    delta = ask(service, token, "snap-1")
    assert (delta.known_by, delta.fallbacks, count(delta)) == (DELTA, (), 3)
    assert service.asked == [("GetMetadataDelta", {1: "shown", 2: "velero", 3: "snap-1", 4: "du-1"})]
    allocated = ask(service, token)
    assert (allocated.known_by, allocated.goes_on, count(allocated)) == (ALLOCATED, False, 3)
    assert service.asked[1] == ("GetMetadataAllocated", {1: "shown", 2: "velero", 3: "du-1"})
    # An empty stream: nothing changed.
    service.answer = lambda *_: iter([])
    assert count(ask(service, token, "snap-1")) == 0


def test_an_answer_that_is_cut_off_is_gone_on_with(service: Service, token: Path):
    def answer(_method: str, request: dict[int, Any], context: Any) -> Iterator[bytes]:
        if len(service.asked) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not ready")
        if len(service.asked) == 2:
            yield message([(0, MIB), (2 * MIB, MIB)])
            context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        yield message([(5 * MIB, MIB)])

    service.answer = answer
    changes = ask(service, token, "snap-1")
    assert (changes.known_by, count(changes)) == (DELTA, 3)
    assert [request.get(5, 0) for _, request in service.asked] == [0, 0, 3 * MIB]


def test_without_the_base_snapshot_what_is_allocated_is_asked(service: Service, token: Path):
    def answer(method: str, _request: dict[int, Any], context: Any) -> Iterator[bytes]:
        if method == "GetMetadataDelta":
            context.abort(grpc.StatusCode.NOT_FOUND, "base snapshot snap-1 is gone")
        yield message([(0, 1)])

    service.answer = answer
    changes = ask(service, token, "snap-1")
    assert (changes.known_by, count(changes)) == (ALLOCATED, 1)
    assert "snap-1 is gone" in changes.fallbacks[0]
    changes = ask(service, token, has_parent=True)
    assert changes.fallbacks == ("the parent has no change ID of this volume",)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([message([(-1, 5)])], "cannot be"),
        ([message([(0, -5)])], "cannot be"),
        ([message([((1 << 63) - 1, 5)])], "cannot be"),
        ([message([(0, 1)], block_type=0)], "type 0"),
        ([message([(0, 1)]), message([(MIB, 1)], capacity=5)], "volume of 5 bytes"),
        ([b"\x1a\xff"], "no message"),
        ([message([(offset, 1) for offset in range(20_000)])], "more than the device can have"),
    ],
)
def test_hostile_answers_are_refused_and_everything_is_read(
    service: Service, token: Path, messages: list[bytes], why: str
):
    service.answer = lambda *_: iter(messages)
    changes = ask(service, token, "snap-1")
    assert (changes.blocks, changes.known_by) == (None, NOT_ASKED)
    assert len(changes.fallbacks) == 2
    assert why in changes.fallbacks[0]


def test_who_may_not_ask_is_told_at_once(service: Service, token: Path):
    service.answer = lambda _method, _request, context: context.abort(
        grpc.StatusCode.PERMISSION_DENIED, "may not get volumesnapshots"
    )
    changes = ask(service, token, "snap-1")
    assert "may not get volumesnapshots" in changes.fallbacks[0]
    assert len(service.asked) == 2, "neither question is repeated"
    service.authority = certificate()[1]
    changes = ask(service, token, "snap-1")
    assert changes.blocks is None
    assert len(service.asked) == 2, "a server of another authority is shown no token"


def test_a_service_that_never_answers_ends_with_the_cancel(service: Service, token: Path):
    over = threading.Event()

    def answer(*_: Any) -> Iterator[bytes]:
        over.wait(30)
        yield message([])

    service.answer = answer
    cancel = repository.CancelToken()
    threading.Timer(0.5, cancel.cancel).start()
    with pytest.raises(repository.CanceledError):
        find_changes(
            service.tracking(token), "snap-1", has_parent=True, device_bytes=DEVICE_BYTES, cancel=cancel
        )
    over.set()


def test_an_increment_reads_what_the_service_says_and_records_its_fallbacks(
    service: Service, token: Path, tmp_path: Path
):
    (tmp_path / "kopia").mkdir()
    repository.create_repository(str(tmp_path / "kopia" / "app"), "password")
    (tmp_path / "password").write_text("password")
    location = {"provider": "fs", "config": {"fspath": str(tmp_path)}}
    access = RepositoryAccess("default", location, "app", str(tmp_path / "password"))
    device = tmp_path / "device"
    device.write_bytes(random.Random(3).randbytes(DEVICE_BYTES))

    def back_up(change: str) -> Any:
        tags = {"snapshot-requester": "snapshot-data-upload-download", "snapshot-uploader": "velero-block"}
        tags |= {"cbt-change-id": change, "cbt-volume-id": "disk-1"}
        request = BackupRequest(
            "du", "uid", str(device), "Block", access, "x/velero-block/app/data", tags,
            tracking=service.tracking(token),
        )  # fmt: skip
        request = decode_request(encode_request(request))
        with KopiaEngine().open(access) as opened:
            return opened.backup(request, CancelToken())

    service.answer = lambda *_: iter([message([(0, DEVICE_BYTES)])])
    full = back_up("snap-1")
    assert (full.record["changedBlocks"], full.record["fallbacks"]) == ("allocated", [])
    with device.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(b"changed")
    service.answer = lambda *_: iter([message([(3 * MIB, 512)])])
    increment = back_up("snap-2")
    assert increment.record["changedBlocks"] == "delta"
    assert (increment.record["readBytes"], increment.incremental_bytes) == (MIB, MIB)
    assert increment.record["parents"] == [full.snapshot_id]
    assert service.asked[-1][1][3] == "snap-1"
    service.answer = lambda _m, _r, context: context.abort(grpc.StatusCode.INTERNAL, "broken")
    last = back_up("snap-3")
    assert (last.record["changedBlocks"], last.record["readBytes"]) == ("not asked", DEVICE_BYTES)
    assert last.record["parents"] == [increment.snapshot_id], "what is equal is still not stored again"
    assert (last.incremental_bytes, len(last.record["fallbacks"])) == (0, 2)
    with KopiaEngine().open(access) as opened:
        opened._session.restore_block(increment.snapshot_id, tmp_path / "restored")
    assert (tmp_path / "restored").read_bytes() == device.read_bytes()
    assert json.dumps(last.record)
