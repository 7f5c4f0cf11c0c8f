"""The mover of a hosting pod: how soon it reads its first byte, what it imports, and its memory beside its budget.

Started as our agent starts it (the pod waits, then the request file comes) and as an upstream agent does
(`/velero data-mover backup`, which asks a real API server). The first byte read is seen from outside, by inotify.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import statistics
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from agent.control.backup_repository import BACKUP_REPOSITORY, RepositoryKey, ensure_repository
from agent.control.mover_inputs import BACKUP_STORAGE_LOCATION
from agent.control.world import RESOURCES
from mover.memory import BUDGET_DEFAULT_BYTES, OVERHEAD_BYTES
from mover.protocol import BackupRequest, RepositoryAccess, encode_request
from tests.apiserver.conftest import furnish
from tests.apiserver.control_plane import ActorKube, ControlPlane, missing_programs
from tests.apiserver.manifests import kubeconfig
from tests.fakes.resources import body

from .data import large_files
from .measure import MemoryPoll

if TYPE_CHECKING:
    from types import TracebackType

PASSWORD = "static-passw0rd"  # noqa: S105 - what Velero's server chooses
NAME, NEEDS_BYTES = "mover start", 4 << 30
ROUNDS = 5
_WAIT_SECONDS = 60
_IN_ACCESS, _IN_ISDIR = 0x1, 0x40000000
_EVENT = struct.Struct("iIII")
_IMPORTS = """
import sys
before = set(sys.modules)
import mover.pod, mover.kopia_engine
made = sorted(set(sys.modules) - before)
client = [name for name in made if name.split(".")[0] in ("aiohttp", "asyncio", "kubernetes", "exposer", "agent")]
print(len(made), ",".join(client) or "none")
"""


class FirstRead:
    """When a file of a directory is read first, whoever reads it."""

    def __init__(self, directory: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_CLOEXEC)
        if self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), _IN_ACCESS) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def wait(self, seconds: float) -> float:
        """Return the moment (`time.perf_counter`); raises `TimeoutError`."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            ready, _, _ = select.select([self._descriptor], [], [], 0.5)
            if ready and self._is_of_a_file(os.read(self._descriptor, 65536)):
                return time.perf_counter()
        raise TimeoutError("no byte was read")

    @staticmethod
    def _is_of_a_file(events: bytes) -> bool:
        offset = 0
        while offset < len(events):
            _, mask, _, length = _EVENT.unpack_from(events, offset)
            if not mask & _IN_ISDIR:
                return True
            offset += _EVENT.size + length
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True)
class Start:
    """One start: seconds to the first byte read, since the process began or was told to; its CPU till then."""

    seconds: float
    cpu_seconds: float
    resident_bytes_max: int


def velero(*arguments: str) -> list[str]:
    """The image's `/velero`, from this tree."""
    return [sys.executable, "-m", "agent.velero_command", *arguments]


class Place:
    """A repository, a source and the files that the kubelet would mount, in one directory."""

    def __init__(self, root: Path, source: Path) -> None:
        self.root, self.source = root, source
        (root / "kopia").mkdir(parents=True)
        environment = os.environ | {"KOPIA_PASSWORD": PASSWORD, "HOME": str(root)}
        mover = Path(sys.executable).parent / "mover"
        subprocess.run(
            [mover, "repo", "create", root / "kopia" / "app", "--quiet"], env=environment, check=True
        )
        (root / "password").write_text(PASSWORD)
        self.location = {"provider": "fs", "config": {"fspath": str(root)}}

    def renew(self) -> None:
        """Change the source, so that there is something to read."""
        file = self.source / "file"
        if file.exists():
            file.write_bytes(os.urandom(1 << 20))

    def request(self) -> str:
        """What our agent writes onto the pod."""
        access = RepositoryAccess("default", self.location, "app", str(self.root / "password"))
        return encode_request(
            BackupRequest("move-1", "uid", str(self.source), "Filesystem", access, "bench/kopia/app/data")
        )

    def environment(self) -> dict[str, str]:
        """The mover's files instead of the pod's."""
        return os.environ | {
            "KOPIA_DATA_MOVER_REQUEST_DIRECTORIES": str(self.root),
            "KOPIA_DATA_MOVER_TERMINATION_LOG": str(self.root / "termination-log"),
        }


def start_by_request(place: Place, *, waits: bool) -> Start:
    """Start as our agent does; `waits`: the pod has been running when the request comes."""
    place.renew()
    request = place.root / "request"
    request.unlink(missing_ok=True)
    if not waits:
        request.write_text(place.request())
    with FirstRead(place.source) as first:
        began = time.perf_counter()
        process = _spawn(velero("mover-pod", "backup"), place)
        if waits:
            time.sleep(1.5)
            told = time.perf_counter()
            request.with_suffix(".new").write_text(place.request())
            request.with_suffix(".new").rename(request)
        else:
            told = began
        read_at = first.wait(_WAIT_SECONDS)
        return Start(read_at - told, _cpu_seconds(process), _finish(process))


def start_as_upstream(place: Place, plane: ControlPlane) -> Start:
    """Start as an upstream agent does, its resource being InProgress."""
    place.renew()
    config = kubeconfig(plane, place.root)
    arguments = ["--data-upload=move-1", "--volume-mode=Filesystem", "--resource-timeout=1m"]
    with FirstRead(place.source) as first:
        began = time.perf_counter()
        command = velero("data-mover", "backup", f"--volume-path={place.source}", *arguments)
        process = _spawn([*command, f"--kubeconfig={config}"], place)
        read_at = first.wait(_WAIT_SECONDS)
        return Start(read_at - began, _cpu_seconds(process), _finish(process))


def _spawn(command: list[str], place: Place) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=place.environment(), stdout=subprocess.DEVNULL)


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """What a process has used so far; a loaded machine changes it little."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _finish(process: subprocess.Popen[bytes]) -> int:
    """Wait for the mover and return the most memory that it had."""
    memory = MemoryPoll(process.pid)
    memory.start()
    code = process.wait(600)
    memory.stop()
    if code != 0:
        raise RuntimeError(f"the mover ended with {code}")
    return memory.resident_bytes_max


async def _furnish(plane: ControlPlane, place: Place) -> None:
    await furnish(plane, "1.18")
    async with ActorKube(plane.connection()) as kube:
        await kube.patch(BACKUP_STORAGE_LOCATION, "velero", "default", {"spec": place.location})
        made = await ensure_repository(kube, "velero", RepositoryKey("app", "default"))
        ready = {"status": {"phase": "Ready"}}
        await kube.patch(BACKUP_REPOSITORY, "velero", made["metadata"]["name"], ready)
        upload = body("DataUpload")
        upload["metadata"] = {"name": "move-1"}
        await kube.create(RESOURCES["DataUpload"], "velero", upload | {"status": {"phase": "InProgress"}})


def measure(directory: Path, *, quick: bool) -> str:
    """Run all starts and both memory measurements; return the lines of the report."""
    small, large = directory / "small", directory / "large"
    small.mkdir(parents=True)
    (small / "file").write_bytes(os.urandom(1 << 20))
    large_files(large, (300 if quick else 700) * 10**6)
    place = Place(directory / "place", small)
    start_by_request(place, waits=False)  # what is compiled once is not measured
    lines = ["", "mover start and memory:"]
    waiting = [start_by_request(place, waits=True) for _ in range(ROUNDS)]
    fresh = [start_by_request(place, waits=False) for _ in range(ROUNDS)]
    lines += [
        _line("request to a pod that waits → first byte read", waiting),
        _line("process start with the request there → first byte read", fresh),
        *_upstream_lines(directory, place),
        _imports_line(),
    ]
    idle = max(one.resident_bytes_max for one in waiting)
    full = start_by_request(Place(directory / "full", large), waits=False).resident_bytes_max
    return "\n".join([*lines, *_memory_lines(idle, full)])


def _upstream_lines(directory: Path, place: Place) -> list[str]:
    if missing_programs():
        return ["- `/velero data-mover backup`: no API server here (tests/cluster/build/build.sh k8s)"]
    plane = ControlPlane(directory / "plane")
    try:
        plane.start()
        asyncio.run(_furnish(plane, place))
        starts = [start_as_upstream(place, plane) for _ in range(ROUNDS)]
    finally:
        plane.stop()
    return [_line("`/velero data-mover backup`: process start → first byte read", starts)]


def _line(what: str, starts: list[Start]) -> str:
    seconds, cpu = [one.seconds for one in starts], [one.cpu_seconds for one in starts]
    return (
        f"- {what}: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s of {len(starts)}; "
        f"CPU {statistics.median(cpu):.2f} s"
    )


def _imports_line() -> str:
    output = subprocess.run(
        [sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True
    ).stdout
    count, client = output.split()
    return f"- imports of a mover: {count} modules; of the Kubernetes client, asyncio or the web server: {client}"


def _memory_lines(idle: int, full: int) -> list[str]:
    budget, room = BUDGET_DEFAULT_BYTES >> 20, OVERHEAD_BYTES >> 20
    beside = (full >> 20) - budget
    return [
        f"- VmHWM with 1 MiB to move: {idle >> 20} MiB; with random bytes in large files: {full >> 20} MiB",
        f"- budget of the engine {budget} MiB, so {beside} MiB beside it; requested for the pod: {budget} + {room} MiB",
    ]
