"""Upstream's node-agent and ours on the same repository: each restores the other's, and chains go on across the swap.

Both directions are walked at once, so that the agents are swapped three times and not ten.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.applications import claim, pod
from tests.acceptance.cluster import DATA_UPLOAD
from tests.acceptance.flows import LINK_BYTES, App, back_up, by_claim, move_data, moves_of, restore, unique

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.cluster import Cluster, Json

pytestmark = [pytest.mark.alone, pytest.mark.core]
_CHANGED = 54_321
Contents = tuple[str, str]


@dataclass
class Direction:
    """An application whose first backups `writer` makes, and `reader` restores and continues."""

    cluster: Cluster
    writer: str
    reader: str
    app: App = field(init=False)
    backup: str = ""
    pod_backup: str = ""
    written: list[Contents] = field(default_factory=list)
    restored: list[Contents] = field(default_factory=list)
    pod_restored: str = ""
    second_upload: Json = field(default_factory=dict)
    namespaces: list[str] = field(default_factory=list)

    def _new(self) -> App:
        app = App(self.cluster, unique("app"))
        self.namespaces.append(app.namespace)
        return app

    @staticmethod
    def _contents(app: App) -> Contents:
        return app.digest("/files"), app.blocks("/dev/blocks")

    def first_backups(self) -> None:
        """By the writer, of snapshots and of the pod's volume."""
        self.app = self._new()
        ns = self.app.namespace
        self.app.start(
            claim(ns, "files"),
            claim(ns, "blocks", block=True, size="24Mi"),
            pod(ns, "app", claims=("files",), devices=("blocks",)),
        )
        self.app.write_tree("/files", count=60)
        self.app.blocks("/dev/blocks", seed=5)
        self.written.append(self._contents(self.app))
        self.backup = move_data(self.cluster, ns)
        self.pod_backup = back_up(
            self.cluster, ns, "--default-volumes-to-fs-backup", "--snapshot-volumes=false"
        )

    def restores_and_second_backup(self) -> None:
        """By the reader."""
        ns, pods = self.app.namespace, self._new()
        self.restored.append(self._restore())
        restore(self.cluster, self.pod_backup, ns, pods.namespace)
        self.cluster.wait_pod(pods.namespace, "app")
        self.pod_restored = pods.digest("/files")
        self.app.run(f"open('/files/new', 'wb').write(b'n' * {_CHANGED})")
        self.written.append(self._contents(self.app))
        self.backup = move_data(self.cluster, ns)
        self.second_upload = by_claim(moves_of(self.cluster, DATA_UPLOAD, self.backup))["files"]

    def second_restore(self) -> None:
        """By the writer again."""
        self.restored.append(self._restore())

    def _restore(self) -> Contents:
        target = self._new()
        restore(self.cluster, self.backup, self.app.namespace, target.namespace)
        self.cluster.wait_pod(target.namespace, "app")
        return self._contents(target)


@pytest.fixture(scope="module")
def walked(cluster: Cluster) -> Iterator[dict[str, Direction]]:
    """Both directions, by their writer."""
    there, back = Direction(cluster, "upstream", "ours"), Direction(cluster, "ours", "upstream")
    stages: list[tuple[str, list[Callable[[], None]]]] = [
        ("upstream", [there.first_backups]),
        ("ours", [there.restores_and_second_backup, back.first_backups]),
        ("upstream", [there.second_restore, back.restores_and_second_backup]),
        ("ours", [back.second_restore]),
    ]
    with ThreadPoolExecutor() as pool:
        for whose, steps in stages:
            cluster.use_agent(whose)
            for done in [pool.submit(step) for step in steps]:
                done.result()
    yield {"upstream": there, "ours": back}
    for direction in (there, back):
        for namespace in direction.namespaces:
            cluster.delete_namespace(namespace)


WRITERS = pytest.mark.parametrize("writer", ["upstream", "ours"], ids=["upstream-ours", "ours-upstream"])


@pytest.mark.item("9.3.3")
@WRITERS
def test_one_agent_backs_up_and_the_other_restores(walked: dict[str, Direction], writer: str) -> None:
    assert walked[writer].restored[0] == walked[writer].written[0]


@pytest.mark.item("9.3.3, 9.3.6")
@WRITERS
def test_the_other_agent_continues_the_chain_and_the_first_one_restores_it(
    walked: dict[str, Direction], writer: str, record_property: Callable[[str, object], None]
) -> None:
    found = walked[writer]
    status = found.second_upload["status"]
    assert abs(status["incrementalBytes"] - _CHANGED) <= LINK_BYTES
    assert found.restored[1] == found.written[1]
    total = status["progress"]["totalBytes"]
    record_property(f"second backup, by {found.reader}, read", f"{_CHANGED} bytes of {total}")


@pytest.mark.item("9.3.7, 9.3.3")
@WRITERS
def test_pod_volume_backed_up_by_one_agent_is_restored_by_the_other(
    walked: dict[str, Direction], writer: str
) -> None:
    assert walked[writer].pod_restored == walked[writer].written[0][0]
