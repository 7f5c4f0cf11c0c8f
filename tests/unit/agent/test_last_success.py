"""When volumes were last backed up: what metrics, alert and page say of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agent.control.history import History
from agent.control.last_success import LastSuccess
from agent.control.malformed import MoveReader
from agent.control.metrics import Metrics
from agent.control.node_agent import untaken
from agent.moves.custom_resources import KIND_BY_NAME, PVC_NAME_ANNOTATION, format_time
from kube.api import NODE, PVC
from tests.fakes import scene
from tests.fakes.kube import FakeKube
from tests.fakes.resources import T0, after, body, move
from tests.unit.agent.conftest import Stage

HOUR = 3600


def done(hours: float, node: str = "node-1", **changes: Any) -> dict[str, Any]:
    """A finished DataUpload of `app/data`, or what `changes` make of it."""
    status = {"phase": "Completed", "node": node, "completionTimestamp": format_time(after(hours * HOUR))}
    return body("DataUpload", status=status | changes.pop("status", {}), **changes)


def seen(*bodies: dict[str, Any], count_max: int = 5000) -> LastSuccess:
    """Through the reader of all finished resources, with a history that keeps none of them."""
    successes = LastSuccess(count_max)
    reader = MoveReader(FakeKube(), frozenset({"", "velero"}), History(1), successes)
    for one in bodies:
        reader.read(KIND_BY_NAME[one["kind"]], one)
    return successes


def test_latest_success_counts_in_whatever_order_resources_come_and_failures_do_not() -> None:
    successes = seen(done(1), done(9), done(5), done(12, status={"phase": "Failed"}))
    assert successes.on_node("node-1") == {("app", "data"): after(9 * HOUR).timestamp()}


def test_volume_that_moved_to_another_node_is_that_node_s() -> None:
    for order in ((done(1), done(2, "node-2")), (done(2, "node-2"), done(1))):
        successes = seen(*order)
        assert successes.on_node("node-1") == {}
        assert list(successes.on_node("node-2")) == [("app", "data")]


def test_pod_volumes_count_by_their_claim_and_restores_and_strangers_not_at_all() -> None:
    claim = {"annotations": {PVC_NAME_ANNOTATION: "orders"}}
    over = {"phase": "Completed", "completionTimestamp": format_time(T0)}
    successes = seen(
        body("PodVolumeBackup", status=over, metadata=claim),
        body("PodVolumeBackup", status=over),
        body("DataDownload", status=over | {"node": "node-1"}),
        done(1, spec={"datamover": "somebody-else", "sourcePVC": "theirs"}),
        done(1, spec={"sourcePVC": "broken"}, status={"completionTimestamp": "yesterday"}),
        done(1, spec={"sourcePVC": 7}),
    )
    assert list(successes.on_node("node-1")) == [("app", "orders")]


def test_what_is_remembered_is_bounded_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    bodies = [done(1, spec={"sourcePVC": f"v{number}"}) for number in range(9)]
    successes = seen(*bodies, done(3, spec={"sourcePVC": "v0"}), count_max=4)
    assert len(successes.on_node("node-1")) == 4
    assert successes.on_node("node-1")["app", "v0"] == after(3 * HOUR).timestamp()
    assert caplog.text.count("more volumes") == 1


async def test_volumes_that_are_gone_are_dropped_and_those_that_exist_stay() -> None:
    kube = FakeKube()
    kube.put(PVC, scene.claim("there"))
    successes = seen(*(done(1, spec={"sourcePVC": name}) for name in ("there", "gone")))
    successes.saw(KIND_BY_NAME["DataUpload"], done(20, spec={"sourcePVC": "young"}))
    await successes.drop_gone(kube, "node-1", after(26 * HOUR))
    assert {name for _, name in successes.on_node("node-1")} == {"there", "young"}
    assert successes.oldest("node-1") == (("app", "there"), format_time(after(HOUR)))


def test_series_of_a_volume_goes_with_it() -> None:
    metrics = Metrics("node-1")
    metrics.last_success({("app", "a"): 5.0, ("app", "b"): 6.0})
    metrics.last_success({("app", "b"): 7.0})
    text = metrics.render().decode()
    assert 'last_success_timestamp_seconds{namespace="app",pvc="b"} 7.0' in text
    assert 'pvc="a"' not in text


def test_oldest_is_what_has_been_in_its_phase_for_longest() -> None:
    metrics, history = Metrics("node-1"), History()
    accepted = {"acceptedTimestamp": format_time(after(100))}
    prepared = move("DataUpload", "Prepared", name="p")
    history.saw(prepared, after(400))
    moves = [move("DataUpload", "", name="n"), move("DataUpload", "Accepted", name="a", status=accepted)]
    metrics.oldest([*moves, prepared], history, after(1000))
    text = metrics.render().decode()
    for phase, age in (("New", 1000), ("Accepted", 900), ("Prepared", 600), ("InProgress", 0)):
        assert f'oldest_move_seconds{{phase="{phase}"}} {age}.0' in text
    metrics.oldest([], history, after(2000))
    assert 'oldest_move_seconds{phase="New"} 0.0' in metrics.render().decode()


async def test_agent_exports_last_success_of_what_was_there_at_its_start_and_new_moves_of_silent_nodes(
    stage: Stage,
) -> None:
    stage.create("DataUpload", "old", status=done(0)["status"])
    stage.kube.put(NODE, {"metadata": {"name": "node-2"}, "spec": {}})
    stage.create("PodVolumeBackup", "alone", spec={"node": "node-2"})
    agent = await stage.start_agent()
    await stage.until(lambda: bool(list(agent.world.all_moves())))
    agent.gauge()
    text = agent.world.metrics.render().decode()
    [value] = re.findall(r'last_success_timestamp_seconds\{namespace="app",pvc="data"\} (\S+)', text)
    assert float(value) == T0.timestamp()
    assert [one.name for one in untaken(list(agent.world.all_moves()), agent.world)] == ["alone"]


def test_retries_of_the_storage_are_counted_from_records() -> None:
    metrics = Metrics("node-1")
    for number in (3, 4):
        metrics.recorded(move("DataUpload", "InProgress", name=f"m{number}"), f'{{"retries":{number}}}')
    assert "kopia_data_mover_storage_retries_total 7.0" in metrics.render().decode()
