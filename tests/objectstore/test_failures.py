"""The failure list of object stores: each failure is told, or outlived; after each the repository is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from mover import exit_codes
from tests.drivers import NO_LIST_CACHE, Kopia, Mover
from tests.objectstore.faulty_gateway import (
    SECRET,
    CutAnswer,
    DropAnswer,
    Fault,
    Gateway,
    Refuse,
    ResetRequest,
    Silence,
    Wrong,
    faulty_gateway,
)
from tests.objectstore.servers import S3Server
from tests.objectstore.source import contents, mover_at, tree

LARGE_BYTES = 1 << 20
PREFIX = "failures/"
seeds = count(100)
Requests = Callable[[str, str], bool]


def name(path: str) -> str:
    """The blob that a request is about."""
    return path.partition("?")[0].rpartition("/")[2]


def pack_is_put(method: str, path: str) -> bool:
    """Whether a data pack is put."""
    return method == "PUT" and name(path).startswith("p")


def index_is_put(method: str, path: str) -> bool:
    """Whether an index blob is put: the packs are stored by then."""
    return method == "PUT" and name(path).startswith("xn")


def pack_is_read(method: str, path: str) -> bool:
    """Whether a pack, or a part of one, is read."""
    return method == "GET" and name(path).startswith(("p", "q"))


def pack_is_deleted(method: str, path: str) -> bool:
    """Whether a pack is deleted."""
    return method == "DELETE" and name(path).startswith(("p", "q"))


def any_request(_method: str, _path: str) -> bool:
    """Every one."""
    return True


@dataclass
class Scene:
    """One repository, seen by both programs; ours goes through the gateway."""

    gateway: Gateway
    through: Mover
    kopia: Kopia
    directory: Path

    def source(self) -> Path:
        """A tree that was never backed up."""
        seed = next(seeds)
        return tree(self.directory / f"source-{seed}", seed=seed, large_bytes=LARGE_BYTES)

    def prove_whole(self) -> None:
        """The next backup succeeds, and the real program reads back every byte of all that there is."""
        self.through.backup(self.source())
        self.kopia("snapshot", "verify", "--verify-files-percent=100", "--no-progress")


@pytest.fixture(scope="module")
def scene(s3: S3Server, kopia_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A repository, a gateway without a fault."""
    directory = tmp_path_factory.mktemp("failures")
    mover_at(directory, s3.url(PREFIX)).create()
    kopia = Kopia(kopia_binary, directory / "kopia-home", directory)
    kopia("repository", "connect", *s3.kopia_arguments(PREFIX), *NO_LIST_CACHE)
    with faulty_gateway(s3.port) as gateway:
        url = s3.url(PREFIX, endpoint=f"http://127.0.0.1:{gateway.server_port}")
        through = mover_at(directory, f"{url}&first-byte-timeout=2&connect-timeout=2&stall-timeout=2")
        yield Scene(gateway, through, kopia, directory)


TOLD = {
    "denied": (Refuse(403, "AccessDenied"), pack_is_put, "check the credentials and their rights"),
    "denied, at the index": (Refuse(403, "AccessDenied"), index_is_put, "AccessDenied"),
    "denied without a word": (Refuse(403, ""), pack_is_put, "check the credentials and their rights"),
    "denied from the start": (Refuse(403, "AccessDenied"), any_request, "AccessDenied"),
    "no bucket": (Refuse(404, "NoSuchBucket"), any_request, "create the bucket"),
    "a wrong clock": (Refuse(403, "RequestTimeTooSkewed"), any_request, "set the clock"),
    "over quota": (Refuse(403, "QuotaExceeded"), pack_is_put, "make room or raise the quota"),
    "full": (Refuse(507, "XMinioStorageFull"), pack_is_put, "make room"),
    "full, at the index": (Refuse(507, ""), index_is_put, "make room"),
}


@pytest.mark.parametrize(("wrong", "when", "said"), TOLD.values(), ids=TOLD.keys())
def test_what_does_not_pass_is_told_at_once(scene: Scene, wrong: Refuse, when: Requests, said: str) -> None:
    """Permanent, in words that say what to do; no token of the answer is repeated."""
    with scene.gateway.with_fault(Fault(wrong, when)):
        done = scene.through("backup", scene.source(), check=False)
        assert scene.gateway.fault_count > 0
    output = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == exit_codes.PERMANENT, output
    assert said in output
    assert SECRET not in output
    scene.prove_whole()


def test_a_refused_delete_is_told_and_ends_nothing(scene: Scene) -> None:
    """Packs that no index names stay where they may not be deleted; the rest of maintenance is done."""
    with scene.gateway.with_fault(Fault(Refuse(403, "AccessDenied"), index_is_put)):
        assert scene.through("backup", scene.source(), check=False).returncode == exit_codes.PERMANENT
    maintain = ("repo", "maintain", "--full", "--force", "--safety", "none")
    with scene.gateway.with_fault(Fault(Refuse(403, "AccessDenied"), pack_is_deleted)):
        report = scene.through.json(*maintain)
        assert scene.gateway.fault_count > 0
    assert "failed" not in report or report["failed"] is None, report
    said = [task["why"] for task in report["tasks"] if task["outcome"] == "done" and task.get("why")]
    assert any("stay" in why and "AccessDenied" in why for why in said), report
    assert b"stay" not in scene.through(*maintain).stdout
    scene.prove_whole()


def test_a_storm_that_does_not_end_is_temporary(scene: Scene) -> None:
    """After ten attempts the command gives up, and its exit code says that a later try may succeed."""
    with scene.gateway.with_fault(Fault(Refuse(503, "SlowDown"), pack_is_put)):
        done = scene.through("backup", scene.source(), check=False)
        assert scene.gateway.fault_count >= 10
    assert done.returncode == exit_codes.TEMPORARY, done.stderr
    assert b"SlowDown" in done.stderr
    scene.prove_whole()


OUTLIVED: dict[str, tuple[Wrong, Requests, int]] = {
    "a storm of SlowDown": (Refuse(503, "SlowDown"), any_request, 5),
    "429 without a word": (Refuse(429, ""), any_request, 5),
    "internal errors": (Refuse(500, "InternalError"), pack_is_put, 5),
    "a bad gateway": (Refuse(502, ""), any_request, 5),
    "a conflict": (Refuse(409, "OperationAborted"), pack_is_put, 3),
    "resets in mid-request": (ResetRequest(), pack_is_put, 3),
    "lost answers": (DropAnswer(), pack_is_put, 3),
    "lost answers, at the index": (DropAnswer(), index_is_put, 2),
    "a put without an answer": (Silence(), pack_is_put, 1),
    "resets in mid-answer": (CutAnswer("reset"), pack_is_read, 3),
    "cut answers": (CutAnswer("end"), pack_is_read, 3),
    "an answer that stalls": (CutAnswer("stall"), pack_is_read, 1),
}


@pytest.mark.parametrize(("wrong", "when", "times"), OUTLIVED.values(), ids=OUTLIVED.keys())
def test_what_passes_is_outlived(
    scene: Scene, wrong: Wrong, when: Requests, times: int, tmp_path: Path
) -> None:
    """Backup and restore succeed all the same, with the right bytes."""
    source = scene.source()
    with scene.gateway.with_fault(Fault(wrong, when, times)):
        snapshot = scene.through.backup(source)["id"]
        scene.through.restore(snapshot, tmp_path / "restored", "--no-cache")
        assert scene.gateway.fault_count == times
    assert contents(tmp_path / "restored") == contents(source)
    scene.prove_whole()
