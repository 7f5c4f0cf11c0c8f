"""`make cluster-bench`: the same volumes moved by upstream's node-agent and by ours, alternately, on the real cluster.

Each agent has namespaces, and so repositories, of its own with the same data. Measured per move: seconds from its creation
to its final phase and to InProgress (by looking every 20 ms), the mover's peak memory (VmHWM, and anonymous) and CPU
seconds, and the requests that the S3 server logged meanwhile for its repository. `--quick` moves less data.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.acceptance.applications import claim, pod
from tests.acceptance.cluster import DATA_DOWNLOAD, DATA_UPLOAD, POD, STATE, Cluster
from tests.acceptance.flows import App, first_move, start_backup, start_restore, unique
from tests.acceptance.uploads import mover_process

if TYPE_CHECKING:
    from exposer.kube import Resource

ACCESS_LOG = STATE / "log" / "s3-access.log"
TICKS = os.sysconf("SC_CLK_TCK")
_WRITES = ("Put", "Upload", "Create", "Complete", "Delete", "Copy", "Abort")
FILL = """
import os, random, sys
kind, root = sys.argv[1], "/data"
if kind == "tiny":
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


@dataclass
class MoverWatch:
    """Follows the process of one hosting pod from a thread."""

    cluster: Cluster
    pod: str
    peak_mib: float = 0.0
    anonymous_mib: float = 0.0
    cpu_seconds: float = 0.0
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
        while not self._stop.wait(0.05):
            process = process or self._find()
            if process and not self._read(process):
                return

    def _find(self) -> int:
        try:
            body = self.cluster.find(POD, self.pod)
        except Exception:  # noqa: BLE001 - looked for again
            return 0
        return mover_process(body["metadata"]["uid"]) if body else 0

    def _read(self, process: int) -> bool:
        try:
            status = Path(f"/proc/{process}/status").read_text()
            stat = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return False
        sizes = dict(re.findall(r"^(VmHWM|RssAnon):\s+(\d+)", status, re.MULTILINE))
        self.peak_mib = max(self.peak_mib, int(sizes.get("VmHWM", 0)) / 1024)
        self.anonymous_mib = max(self.anonymous_mib, int(sizes.get("RssAnon", 0)) / 1024)
        self.cpu_seconds = max(self.cpu_seconds, (int(stat[11]) + int(stat[12])) / TICKS)
        return True


def follow(cluster: Cluster, resource: Resource, owner: str, namespace: str) -> Measured:
    """Watches the one move of a backup or restore until it is final."""
    begun_bytes = ACCESS_LOG.stat().st_size
    move = first_move(cluster, resource, owner, 120)
    name, begun, measured = move["metadata"]["name"], time.monotonic(), Measured()
    with MoverWatch(cluster, name) as watch:
        while True:
            phase = cluster.phase(resource, name)
            if phase == "InProgress" and not measured.until_in_progress_seconds:
                measured.until_in_progress_seconds = time.monotonic() - begun
            if phase in ("Completed", "Failed", "Canceled"):
                break
            time.sleep(0.02)
        measured.seconds = time.monotonic() - begun
    if phase != "Completed":
        raise SystemExit(f"{name}: {cluster.get(resource, name)['status']}")
    measured.peak_mib, measured.anonymous_mib = watch.peak_mib, watch.anonymous_mib
    measured.cpu_seconds = watch.cpu_seconds
    measured.gets, measured.puts = requests_since(begun_bytes, f"kopia/{namespace}/")
    return measured


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


def run_agent(cluster: Cluster, whose: str, kind: str, size: int) -> dict[str, Measured]:
    """First backup, unchanged backup and restore of one kind of data by one agent."""
    app, target = App(cluster, unique(f"bench-{kind}")), App(cluster, unique("target"))
    cluster.use_agent(whose)
    app.start(claim(app.namespace, "data", size="4Gi"), pod(app.namespace, "app", claims=("data",)))
    app.run(FILL, kind, str(size))
    found: dict[str, Measured] = {}
    for run in ("first backup", "unchanged backup"):
        backup = start_backup(cluster, app.namespace, "--snapshot-move-data")
        found[run] = follow(cluster, DATA_UPLOAD, backup, app.namespace)
        wait_over(cluster, "backup", backup)
    name = start_restore(cluster, backup, app.namespace, target.namespace)
    found["restore"] = follow(cluster, DATA_DOWNLOAD, name, app.namespace)
    wait_over(cluster, "restore", name)
    cluster.wait_pod(target.namespace, "app")
    if target.run("import os; print(sum(len(f) for _, _, f in os.walk('/data')))") != app.run(
        "import os; print(sum(len(f) for _, _, f in os.walk('/data')))"
    ):
        raise SystemExit(f"{whose} has not restored all files of {kind}")
    for made in (app, target):
        cluster.delete_namespace(made.namespace)
    return found


def table(results: dict[str, dict[str, list[dict[str, Measured]]]]) -> str:
    """The results as Markdown, medians of the rounds."""
    lines = [
        "| data | run | agent | created to Completed, s | to InProgress, s | mover peak (anonymous), MiB | mover CPU, s | S3 reads / writes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, agents in results.items():
        for run in ("first backup", "unchanged backup", "restore"):
            for whose, rounds in agents.items():
                got = [one[run] for one in rounds]

                def middle(name: str, got: list[Measured] = got) -> float:
                    return statistics.median(getattr(one, name) for one in got)

                lines.append(
                    f"| {kind} | {run} | {whose} | {middle('seconds'):.1f} | {middle('until_in_progress_seconds'):.1f} | "
                    f"{middle('peak_mib'):.0f} ({middle('anonymous_mib'):.0f}) | {middle('cpu_seconds'):.1f} | "
                    f"{middle('gets'):.0f} / {middle('puts'):.0f} |"
                )
    return "\n".join(lines)


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--quick", action="store_true", help="2,000 small files, 4 files of 32 MiB, one round"
    )
    parser.add_argument("--files", type=int, default=20_000, help="of `small`, 9 KB each on average")
    parser.add_argument("--mib", type=int, default=256, help="of each of the 4 files of `big`")
    parser.add_argument("--rounds", type=int, default=3, help="of `tiny`; the others run once")
    parser.add_argument("--only", choices=["tiny", "small", "big"])
    given = parser.parse_args()
    sizes = {
        "tiny": 0,
        "small": 2_000 if given.quick else given.files,
        "big": 32 if given.quick else given.mib,
    }
    rounds = {"tiny": 1 if given.quick else given.rounds, "small": 1, "big": 1}
    cluster = Cluster()
    results: dict[str, dict[str, list[dict[str, Measured]]]] = {}
    for kind in [given.only] if given.only else sizes:
        results[kind] = {"upstream": [], "ours": []}
        for _ in range(rounds[kind]):
            for whose in ("upstream", "ours"):
                results[kind][whose].append(run_agent(cluster, whose, kind, sizes[kind]))
                print(f"{kind} {whose}: {results[kind][whose][-1]}", file=sys.stderr, flush=True)
    cluster.use_agent("ours")
    cluster.close()
    print(table(results))


if __name__ == "__main__":
    main()
