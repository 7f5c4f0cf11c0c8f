"""Upstream's node-agent and ours on the same repository: each restores the other's, and chains go on across the swap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.applications import claim, pod
from tests.acceptance.cluster import DATA_UPLOAD
from tests.acceptance.flows import LINK_BYTES, by_claim, move_data, moves_of, restore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = pytest.mark.alone
_CHANGED = 54_321


@pytest.mark.item("9.3.3")
@pytest.mark.parametrize(("writer", "reader"), [("upstream", "ours"), ("ours", "upstream")])
@pytest.mark.core
def test_one_agent_backs_up_and_the_other_restores_and_continues_the_chain(
    cluster: Cluster,
    new_app: Callable[[], App],
    writer: str,
    reader: str,
    record_property: Callable[[str, object], None],
) -> None:
    app, first_target, second_target = new_app(), new_app(), new_app()
    ns = app.namespace
    app.start(
        claim(ns, "files"),
        claim(ns, "blocks", block=True, size="24Mi"),
        pod(ns, "app", claims=("files",), devices=("blocks",)),
    )
    files, blocks = app.write_tree("/files", count=60), app.blocks("/dev/blocks", seed=5)
    cluster.use_agent(writer)
    first = move_data(cluster, ns)
    cluster.use_agent(reader)
    restore(cluster, first, ns, first_target.namespace)
    cluster.wait_pod(first_target.namespace, "app")
    assert (first_target.digest("/files"), first_target.blocks("/dev/blocks")) == (files, blocks)

    app.run(f"open('/files/new', 'wb').write(b'n' * {_CHANGED})")
    files = app.digest("/files")
    second = move_data(cluster, ns)
    upload = by_claim(moves_of(cluster, DATA_UPLOAD, second))["files"]
    assert abs(upload["status"]["incrementalBytes"] - _CHANGED) <= LINK_BYTES
    record_property(
        f"second backup, by {reader}, read",
        f"{_CHANGED} bytes of {upload['status']['progress']['totalBytes']}",
    )
    cluster.use_agent(writer)
    restore(cluster, second, ns, second_target.namespace)
    cluster.wait_pod(second_target.namespace, "app")
    assert (second_target.digest("/files"), second_target.blocks("/dev/blocks")) == (files, blocks)
