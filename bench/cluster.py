"""`make cluster-bench`: the same volumes moved by upstream's node-agent and by ours, alternately, on the real cluster.

Each agent has namespaces, and so repositories, of its own with the same data. Measured per move: seconds from its creation
to its final phase and the stages between (by looking every 20 ms), the mover's peak memory (VmHWM, and anonymous), CPU
seconds and network traffic, the CPU seconds of node-agent, Velero's server and S3 server meanwhile (and peak memory, since they
started), and the requests that the S3 server logged for the repository. `many` is thirty volumes of 1 MiB in one backup: from the first move's creation to the last one's end.
A run begins when nothing is left of the one before: the driver deletes 100,000 files as slowly as it makes them. The volumes lie
on an ext4 of their own with a journal, as real ones do (`VOLUMES_GIB`): one without gives no inode of a deleted file out again for
minutes, and looks at each. After ours, the restored files are written once more by `tar xf`, onto the same volume. `--quick`
moves less data.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent.moves.custom_resources import parse_time
from agent.moves.status_patch import RECORD_ANNOTATION
from kube.api import POD
from tests.acceptance.applications import claim, pod
from tests.acceptance.cluster import DATA_DOWNLOAD, DATA_UPLOAD, FINAL, NETNS, STATE, Cluster
from tests.acceptance.flows import App, first_move, moves_of, start_backup, start_restore, unique
from tests.acceptance.leftovers import leftovers
from tests.acceptance.uploads import mover_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from kube.api import Resource

ACCESS_LOG = STATE / "log" / "s3-access.log"
TICKS = os.sysconf("SC_CLK_TCK")
_WRITES = ("Put", "Upload", "Create", "Complete", "Delete", "Copy", "Abort")
FILL = """
import os, random, sys
kind, root = sys.argv[1], "/data"
if kind == "many":
    for v in range(int(sys.argv[2])):
        open(f"/v{v:02}/file", "wb").write(random.Random(100 + v).randbytes(1 << 20))
elif kind == "tiny":
    open(f"{root}/file", "wb").write(random.Random(1).randbytes(1 << 20))
elif kind == "small":
    r = random.Random(2)
    for i in range(int(sys.argv[2])):
        d = f"{root}/d{i % 200}"
        os.makedirs(d, exist_ok=True)
        open(f"{d}/f{i}", "wb").write(r.randbytes(r.randrange(100, 18_000)))
else:
    for i in range(4):
        r = random.Random(10 + i)
        with open(f"{root}/big{i}", "wb") as f:
            for _ in range(int(sys.argv[2])): f.write(r.randbytes(1 << 20))
os.sync()
"""


@dataclass
class Measured:
    """One move."""

    seconds: float = 0.0
    until_in_progress_seconds: float = 0.0
    peak_mib: float = 0.0
    anonymous_mib: float = 0.0
    cpu_seconds: float = 0.0
    gets: int = 0
    puts: int = 0
    agent_cpu_seconds: float = 0.0
    server_cpu_seconds: float = 0.0
    storage_cpu_seconds: float = 0.0
    agent_peak_mib: float = 0.0
    server_peak_mib: float = 0.0
    received_mib: float = 0.0
    sent_mib: float = 0.0
    pod_seen_seconds: float = 0.0
    process_seen_seconds: float = 0.0
    process_gone_seconds: float = 0.0
    open_seconds: float = 0.0
    move_seconds: float = 0.0
    tar_seconds: tuple[float, float] = (0.0, 0.0)
    created_over_seconds: float = 0.0
    after_last_seconds: float = 0.0
    median_seconds: float = 0.0


@dataclass
class MoverWatch:
    """Follows the process of one hosting pod from a thread."""

    cluster: Cluster
    pod: str
    measured: Measured
    begun: float
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        process = 0
        while not self._stop.wait(0.02):
            process = process or self._find()
            if process and not self._read(process):
                self.measured.process_gone_seconds = time.monotonic() - self.begun
                return

    def _find(self) -> int:
        try:
            body = self.cluster.find(POD, self.pod)
        except Exception:  # noqa: BLE001 - looked for again
            return 0
        if not body:
            return 0
        seen = time.monotonic() - self.begun
        self.measured.pod_seen_seconds = self.measured.pod_seen_seconds or seen
        process = mover_process(body["metadata"]["uid"])
        if process:
            self.measured.process_seen_seconds = seen
        return process

    def _read(self, process: int) -> bool:
        try:
            status = Path(f"/proc/{process}/status").read_text()
            stat = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
            network = Path(f"/proc/{process}/net/dev").read_text()  # of its pod
        except OSError:
            return False
        if stat[0] == "Z":
            return False
        found, eth0 = self.measured, re.search(r"eth0:" + r"\s+(\d+)" * 9, network)
        if eth0:
            found.received_mib, found.sent_mib = int(eth0[1]) / (1 << 20), int(eth0[9]) / (1 << 20)
        sizes = dict(re.findall(r"^(VmHWM|RssAnon):\s+(\d+)", status, re.MULTILINE))
        found.peak_mib = max(found.peak_mib, int(sizes.get("VmHWM", 0)) / 1024)
        found.anonymous_mib = max(found.anonymous_mib, int(sizes.get("RssAnon", 0)) / 1024)
        found.cpu_seconds = max(found.cpu_seconds, (int(stat[11]) + int(stat[12])) / TICKS)
        return True


@dataclass
class Bystanders:
    """What node-agent, server and storage have used; `since` gives what came after an earlier look."""

    agent: float
    server: float
    storage: float

    @classmethod
    def now(cls, cluster: Cluster) -> Self:
        server = cluster.select(POD, labels="deploy=velero")
        storage = Path(f"/proc/{(STATE / 'run' / 's3.pid').read_text().strip()}/stat").read_text()
        return cls(
            pod_cpu_seconds(cluster.agent_pod()["metadata"]["uid"]),
            sum(pod_cpu_seconds(body["metadata"]["uid"]) for body in server),
            sum(int(word) for word in storage.rsplit(")", 1)[1].split()[11:13]) / TICKS,
        )

    def since(self, cluster: Cluster, measured: Measured) -> None:
        now = self.now(cluster)
        measured.agent_cpu_seconds = now.agent - self.agent
        measured.server_cpu_seconds = now.server - self.server
        measured.storage_cpu_seconds = now.storage - self.storage
        measured.agent_peak_mib = pod_peak_mib(cluster.agent_pod()["metadata"]["uid"])
        servers = cluster.select(POD, labels="deploy=velero")
        measured.server_peak_mib = max(pod_peak_mib(body["metadata"]["uid"]) for body in servers)


def pod_cpu_seconds(uid: str) -> float:
    """CPU seconds of a pod since its start, by its cgroup."""
    for pattern, scale in (
        (f"cpuacct/{NETNS}/**/pod{uid}/cpuacct.usage", 1e9),
        (f"{NETNS}/**/pod{uid}/cpu.stat", 1e6),
    ):
        for path in Path("/sys/fs/cgroup").glob(pattern):
            return int(re.findall(r"\d+", path.read_text())[0]) / scale
    return 0.0


def pod_peak_mib(uid: str) -> float:
    """The largest VmHWM of a pod's processes."""
    peaks = [0]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if uid in (entry / "cgroup").read_text():
                peaks += [int(kib) for kib in re.findall(r"VmHWM:\s+(\d+)", (entry / "status").read_text())]
        except OSError:
            continue
    return max(peaks) / 1024


def follow(cluster: Cluster, resource: Resource, owner: str, namespace: str) -> Measured:
    """Watches the one move of a backup or restore until it is final."""
    begun_bytes, before = ACCESS_LOG.stat().st_size, Bystanders.now(cluster)
    move = first_move(cluster, resource, owner, 120)
    name, begun, measured = move["metadata"]["name"], time.monotonic(), Measured()
    with MoverWatch(cluster, name, measured, begun):
        while True:
            phase = cluster.phase(resource, name)
            if phase == "InProgress" and not measured.until_in_progress_seconds:
                measured.until_in_progress_seconds = time.monotonic() - begun
            if phase in FINAL:
                break
            time.sleep(0.02)
        measured.seconds = time.monotonic() - begun
    if measured.process_seen_seconds and not measured.process_gone_seconds:  # it outran who looks
        measured.process_gone_seconds = measured.seconds
    if phase != "Completed":
        raise SystemExit(f"{name}: {cluster.get(resource, name)['status']}")
    record = cluster.get(resource, name)["metadata"].get("annotations", {}).get(RECORD_ANNOTATION)
    if record:
        stages = json.loads(record)["seconds"]
        measured.open_seconds = stages.pop("open", 0.0)
        measured.move_seconds = sum(stages.values())
    before.since(cluster, measured)
    measured.gets, measured.puts = requests_since(begun_bytes, f"kopia/{namespace}/")
    return measured


def follow_all(cluster: Cluster, resource: Resource, owner: str, namespace: str, count: int) -> Measured:
    """Watches all moves of a backup or restore until the last one is final."""
    begun_bytes, before, measured = ACCESS_LOG.stat().st_size, Bystanders.now(cluster), Measured()
    first_move(cluster, resource, owner, 120)
    begun = time.monotonic()
    while True:
        moves = moves_of(cluster, resource, owner)
        phases = [cluster_phase(move) for move in moves]
        if len(phases) == count and all(phase in FINAL for phase in phases):
            break
        time.sleep(0.1)
    measured.seconds = time.monotonic() - begun
    if set(phases) != {"Completed"}:
        raise SystemExit(f"{owner}: {phases}")
    created = [parse_time(move["metadata"]["creationTimestamp"]).timestamp() for move in moves]
    ended = [parse_time(move["status"]["completionTimestamp"]).timestamp() for move in moves]
    measured.created_over_seconds = max(created) - min(created)
    measured.after_last_seconds = max(ended) - max(created)
    measured.median_seconds = statistics.median(
        end - begin for begin, end in zip(created, ended, strict=True)
    )
    before.since(cluster, measured)
    measured.gets, measured.puts = requests_since(begun_bytes, f"kopia/{namespace}/")
    return measured


def cluster_phase(move: dict[str, Any]) -> str:
    return str((move.get("status") or {}).get("phase", ""))


def requests_since(offset: int, prefix: str) -> tuple[int, int]:
    """Count reads (GET, HEAD and lists) and writes of a repository in the S3 server's access log."""
    gets = puts = 0
    with ACCESS_LOG.open(errors="replace") as log:
        log.seek(offset)
        for line in log:
            found = re.search(r" s3_(\w+) (?=.*/?" + re.escape(prefix) + ")", line.replace("%2F", "/"))
            if found:
                is_write = found[1].startswith(_WRITES)
                gets, puts = gets + (not is_write), puts + is_write
    return gets, puts


def wait_over(cluster: Cluster, kind: str, name: str) -> None:
    """Waits until Velero's own part is over, so that runs do not overlap."""
    cluster.wait(
        f"{kind} {name} is over",
        lambda: "completionTimestamp" in json.loads(cluster.kubectl("get", kind, name, "-n", "velero", "-o", "json")).get("status", {}),
        300,
    )  # fmt: skip
    cluster.wait("nothing is left of the moves", lambda: not moves_leftovers(cluster), 600)


def moves_leftovers(cluster: Cluster) -> list[str]:
    """What moves have left; the volumes of the applications are none of theirs."""
    left = leftovers(cluster)
    return [what for what in left if not what.startswith("PersistentVolume ") or " of velero/" in what]


def wait_deleted(cluster: Cluster, *namespaces: str) -> None:
    """Waits until the storage of applications is gone."""
    cluster.wait("volumes are gone", lambda: not set(namespaces) & set(leftovers(cluster).values()), 600)


def tar_seconds(cluster: Cluster, namespace: str) -> tuple[float, float]:
    """Seconds of `tar xf` of a pod's volume onto the same volume, and with `sync` of it."""
    volume = volume_of(cluster.get(POD, "app", namespace)["metadata"]["uid"])
    archive = STATE / "bench.tar"
    subprocess.run(["tar", "-C", volume, "-cf", archive, "."], check=True)
    try:
        (volume / "tar").mkdir()
        begun = time.monotonic()
        subprocess.run(["tar", "-C", volume / "tar", "-xf", archive], check=True)
        written = time.monotonic() - begun
        subprocess.run(["sync", "-f", volume / "tar"], check=True)
        return written, time.monotonic() - begun
    finally:
        archive.unlink()


def volume_of(pod_uid: str) -> Path:
    """The volume `data` as a process of its pod sees it."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if pod_uid in (entry / "cgroup").read_text() and (entry / "root/data").is_dir():
                return entry / "root/data"
    raise SystemExit(f"no process of pod {pod_uid} has a volume")


def run_agent(cluster: Cluster, whose: str, kind: str, size: int) -> dict[str, Measured]:
    """First backup, unchanged backup and restore of one kind of data by one agent."""
    app, target = App(cluster, unique(f"bench-{kind}")), App(cluster, unique("target"))
    volumes = tuple(f"v{place:02}" for place in range(size)) if kind == "many" else ("data",)
    cluster.use_agent(whose)
    claims = [claim(app.namespace, name, size="4Gi") for name in volumes]
    app.start(*claims, pod(app.namespace, "app", claims=volumes), seconds=300)
    app.run(FILL, kind, str(size))
    counted = count_files(app, volumes)
    if kind == "many":
        cluster.delete(
            POD, "app", app.namespace, grace_seconds=0
        )  # one pod's volumes would come one after the other

    def watch(resource: Resource, owner: str) -> Measured:
        if kind == "many":
            return follow_all(cluster, resource, owner, app.namespace, size)
        return follow(cluster, resource, owner, app.namespace)

    found: dict[str, Measured] = {}
    for run in ("first backup", "unchanged backup"):
        backup = start_backup(cluster, app.namespace, "--snapshot-move-data")
        found[run] = watch(DATA_UPLOAD, backup)
        wait_over(cluster, "backup", backup)
    name = start_restore(cluster, backup, app.namespace, target.namespace)
    found["restore"] = watch(DATA_DOWNLOAD, name)
    wait_over(cluster, "restore", name)
    if kind == "many":
        cluster.apply(pod(target.namespace, "app", claims=volumes))
    cluster.wait_pod(target.namespace, "app", 300)
    if count_files(target, volumes) != counted:
        raise SystemExit(f"{whose} has not restored all files of {kind}")
    if kind == "small" and whose == "ours":
        found["restore"].tar_seconds = tar_seconds(cluster, target.namespace)
    for made in (app, target):
        cluster.delete_namespace(made.namespace)
    wait_deleted(cluster, app.namespace, target.namespace)
    return found


def count_files(app: App, volumes: tuple[str, ...]) -> str:
    return app.run(
        f"import os; print([sum(len(f) for _, _, f in os.walk('/' + v)) for v in {list(volumes)}])"
    )


def table(results: dict[str, dict[str, list[dict[str, Measured]]]]) -> str:
    """The results as Markdown, medians of the rounds."""
    lines = [
        "| data | run | agent | created to Completed, s | to InProgress, s | mover peak (anonymous), MiB | mover CPU, s | agent CPU, s (peak, MiB) | server CPU, s (peak, MiB) | S3 CPU, s | S3 reads / writes | mover received / sent, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, agents in results.items():
        for run in ("first backup", "unchanged backup", "restore"):
            for whose, rounds in agents.items():
                middle = medians([one[run] for one in rounds])
                lines.append(
                    f"| {kind} | {run} | {whose} | {middle('seconds'):.1f} | {middle('until_in_progress_seconds'):.1f} | "
                    f"{middle('peak_mib'):.0f} ({middle('anonymous_mib'):.0f}) | {middle('cpu_seconds'):.1f} | "
                    f"{middle('agent_cpu_seconds'):.1f} ({middle('agent_peak_mib'):.0f}) | "
                    f"{middle('server_cpu_seconds'):.1f} ({middle('server_peak_mib'):.0f}) | {middle('storage_cpu_seconds'):.1f} | "
                    f"{middle('gets'):.0f} / {middle('puts'):.0f} | {middle('received_mib'):.1f} / {middle('sent_mib'):.1f} |"
                )
    return "\n".join(lines)


def medians(rounds: list[Measured]) -> Callable[[str], float]:
    """Give the median of a field over the rounds."""
    return lambda name: statistics.median(getattr(one, name) for one in rounds)


def stages_table(results: dict[str, dict[str, list[dict[str, Measured]]]]) -> str:
    """Where the time of one move goes, seconds since its creation; `open` and `move` are what the mover says of itself."""
    lines = [
        "| data | run | agent | hosting pod seen | mover process | InProgress | of it, repository open | data moved | process gone | Completed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    names = (
        "pod_seen_seconds", "process_seen_seconds", "until_in_progress_seconds", "open_seconds", "move_seconds",
        "process_gone_seconds", "seconds",
    )  # fmt: skip
    for kind, agents in results.items():
        for run in ("first backup", "unchanged backup", "restore"):
            for whose, rounds in agents.items():
                middle = medians([one[run] for one in rounds])
                if middle("process_seen_seconds"):
                    cells = " | ".join(f"{middle(name):.2f}" for name in names)
                    lines.append(f"| {kind} | {run} | {whose} | {cells} |")
    return "\n".join(lines)


def many_table(results: dict[str, dict[str, list[dict[str, Measured]]]]) -> str:
    """What of the time of many volumes is the server's, which creates the moves one after the other."""
    lines = [
        "| run | agent | created over, s | after the last one, s | median of a move, s |",
        "|---|---|---|---|---|",
    ]
    for run in ("first backup", "unchanged backup", "restore"):
        for whose, rounds in results.get("many", {}).items():
            middle = medians([one[run] for one in rounds])
            names = ("created_over_seconds", "after_last_seconds", "median_seconds")
            lines.append(f"| {run} | {whose} | {' | '.join(f'{middle(name):.0f}' for name in names)} |")
    return "\n".join(lines)


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="2,000 small files, 4 files of 32 MiB, 6 volumes, one round",
    )
    parser.add_argument("--files", type=int, default=100_000, help="of `small`, 9 KB each on average")
    parser.add_argument("--mib", type=int, default=256, help="of each of the 4 files of `big`")
    parser.add_argument("--rounds", type=int, default=3, help="of `tiny`; the others run once")
    parser.add_argument("--only", choices=["tiny", "small", "big", "many"])
    parser.add_argument("--agents", nargs="+", default=["upstream", "ours"], choices=["upstream", "ours"])
    given = parser.parse_args()
    sizes = {
        "tiny": 0,
        "small": 2_000 if given.quick else given.files,
        "big": 32 if given.quick else given.mib,
        "many": 6 if given.quick else 30,
    }
    rounds = {"tiny": 1 if given.quick else given.rounds}
    cluster = Cluster()
    results: dict[str, dict[str, list[dict[str, Measured]]]] = {}
    for kind in [given.only] if given.only else sizes:
        results[kind] = {whose: [] for whose in given.agents}
        for _ in range(rounds.get(kind, 1)):
            for whose in given.agents:
                results[kind][whose].append(run_agent(cluster, whose, kind, sizes[kind]))
                print(f"{kind} {whose}: {results[kind][whose][-1]}", file=sys.stderr, flush=True)
    cluster.use_agent("ours")
    cluster.close()
    print(table(results), stages_table(results), many_table(results), sep="\n\n")
    for restored in [one["restore"] for one in results.get("small", {}).get("ours", [])]:
        print("\n`tar xf` of the small files: {:.1f} s, with sync {:.1f} s".format(*restored.tar_seconds))


if __name__ == "__main__":
    main()
