from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest

from agent.control.jobs import Jobs
from agent.control.work_queue import Slots, WorkQueue
from agent.moves.steps import Job, JobState
from kube.api import CONFIG_MAP, ForbiddenError, GoneError, KubeError
from kube.backoff import Backoff
from kube.informer import Informer
from tests.fakes.kube import FakeKube
from tests.fakes.resources import T0


def thing(name: str, **data: str) -> dict:
    return {"metadata": {"name": name, "namespace": "velero"}, "data": data}


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_informer_reports_every_difference_once_also_after_410() -> None:
    kube, told = FakeKube(), []
    kube.put(CONFIG_MAP, thing("a"))
    informer = Informer(
        kube,
        CONFIG_MAP,
        "velero",
        read=lambda b: b["metadata"]["name"],
        changed=lambda k, b, a: told.append((k[1], b, a)),
    )
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    kube.put(CONFIG_MAP, thing("b"))
    await settled()
    kube.expire_watches()
    kube.put(CONFIG_MAP, thing("c"))
    kube.remove(CONFIG_MAP, "velero", "a")
    await until(lambda: sorted(informer.items.values()) == ["b", "c"])
    assert told.count(("c", None, "c")) == 1
    assert ("a", "a", None) in told
    task.cancel()


async def test_informer_ignores_older_news_than_its_own_write() -> None:
    informer = Informer(FakeKube(), CONFIG_MAP, read=lambda b: b["data"]["v"])
    for version, value in ((5, "new"), (4, "old")):
        informer.put({"metadata": {"name": "a", "resourceVersion": str(version)}, "data": {"v": value}})
    assert informer.get("", "a") == "new"


class SlowList(FakeKube):
    """Takes a list at once and hands it out later, as a large one is."""

    def __init__(self) -> None:
        super().__init__()
        self.taken, self.handed_out = asyncio.Event(), asyncio.Event()

    async def list(self, *arguments, **options):
        page = await super().list(*arguments, **options)
        self.taken.set()
        await self.handed_out.wait()
        return page


@contextlib.asynccontextmanager
async def running(informer: Informer):
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(20):
            yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(test) -> None:
    async with asyncio.timeout(20):
        while not test():  # noqa: ASYNC110 - a dictionary tells nobody
            await asyncio.sleep(0.001)


async def test_relist_keeps_what_was_written_after_it_was_taken_and_drops_what_is_gone() -> None:
    kube, told = SlowList(), []
    for name in ("old", "gone"):
        kube.put(CONFIG_MAP, thing(name))
    informer = Informer(
        kube, CONFIG_MAP, "velero", read=lambda b: b, changed=lambda k, b, a: told.append((k[1], b, a))
    )
    kube.handed_out.set()
    async with running(informer):
        await informer.synced.wait()
        kube.taken.clear()
        kube.handed_out.clear()
        kube.remove(CONFIG_MAP, "velero", "gone")
        kube.expire_watches()
        await kube.taken.wait()
        informer.put(await kube.create(CONFIG_MAP, "velero", thing("own")))
        told.clear()
        informer.synced.clear()
        kube.handed_out.set()
        await informer.synced.wait()
        assert sorted(name for _, name in informer.items) == ["old", "own"]
        assert [(name, after) for name, _, after in told if name == "own" and after is None] == []
        kube.remove(CONFIG_MAP, "velero", "own")
        await until(lambda: ("velero", "own") not in informer.items)


async def test_answer_of_a_write_that_comes_after_the_deletion_brings_nothing_back() -> None:
    kube = FakeKube()
    kube.put(CONFIG_MAP, thing("a"))
    informer = Informer(kube, CONFIG_MAP, "velero", read=lambda b: b)
    async with running(informer):
        await informer.synced.wait()
        late = await kube.patch(CONFIG_MAP, "velero", "a", {"data": {"v": "2"}})
        kube.remove(CONFIG_MAP, "velero", "a")
        await until(lambda: not informer.items)
        informer.put(late)
        assert informer.items == {}
        made_anew = await kube.create(CONFIG_MAP, "velero", thing("a", v="3"))
        informer.put(made_anew)
        informer.put(late)
        assert informer.get("velero", "a")["data"] == {"v": "3"}
        await settled()
        assert informer.get("velero", "a")["metadata"]["uid"] == made_anew["metadata"]["uid"]


async def test_deletion_of_a_namesake_before_it_does_not_drop_an_object_of_our_own() -> None:
    kube = FakeKube()
    kube.put(CONFIG_MAP, thing("a"))
    told = []
    informer = Informer(
        kube,
        CONFIG_MAP,
        "velero",
        read=lambda b: b["metadata"]["uid"],
        changed=lambda *change: told.append(change[1:]),
    )
    async with running(informer):
        await informer.synced.wait()
        first = informer.get("velero", "a")
        kube.remove(CONFIG_MAP, "velero", "a")
        made = await kube.create(CONFIG_MAP, "velero", thing("a"))
        informer.put(made)  # before the watch has told of the deletion
        await settled()
        assert informer.get("velero", "a") == made["metadata"]["uid"]
        assert told == [(None, first), (first, made["metadata"]["uid"])]


async def test_informer_believes_an_etcd_that_was_restored_from_an_older_copy() -> None:
    kube = FakeKube()
    kube.put(CONFIG_MAP, thing("a", v="restored"))
    informer = Informer(kube, CONFIG_MAP, read=lambda b: b["data"]["v"])
    later = {"name": "a", "namespace": "velero", "resourceVersion": "9000"}
    informer.put({"metadata": later, "data": {"v": "lost"}})
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    assert informer.get("velero", "a") == "restored"
    task.cancel()


async def test_watch_from_a_version_that_the_server_does_not_know_is_begun_anew() -> None:
    kube, lists, again = FakeKube(), [], asyncio.Event()
    too_large = iter([KubeError("Too large resource version", status=504)])

    def fail(verb: str, *_: object) -> KubeError | None:
        lists.extend(["list"] if verb == "list" else [])
        if len(lists) > 1:
            again.set()
        return next(too_large, None) if verb == "watch" else None

    kube.fail = fail
    informer = Informer(kube, CONFIG_MAP, read=lambda b: b)
    task = asyncio.create_task(informer.run())
    async with asyncio.timeout(20):
        await again.wait()
    task.cancel()


async def test_watch_that_ends_with_one_server_error_goes_on_and_lists_after_the_second() -> None:
    class Counting(FakeKube):
        lists = 0

        async def list(self, *arguments, **options):
            Counting.lists += 1
            return await super().list(*arguments, **options)

    kube = Counting()
    kube.put(CONFIG_MAP, thing("a"))
    failures = iter([KubeError("bad gateway", status=502)])
    kube.fail = lambda verb, *_: next(failures, None) if verb == "watch" else None
    informer = Informer(kube, CONFIG_MAP, "velero", read=lambda b: b["metadata"]["name"])
    async with running(informer):
        await informer.synced.wait()
        kube.put(CONFIG_MAP, thing("b"))
        await until(lambda: ("velero", "b") in informer.items)
        assert Counting.lists == 1
    failures = iter([KubeError("down", status=503), KubeError("down", status=503)])
    informer = Informer(kube, CONFIG_MAP, "velero", read=lambda b: b["metadata"]["name"])
    async with running(informer):
        await until(lambda: Counting.lists == 3)


async def test_informer_outlives_an_api_that_is_away() -> None:
    kube = FakeKube()
    failures = iter([KubeError("connection refused")] * 2)
    kube.fail = lambda *_: next(failures, None)
    informer = Informer(kube, CONFIG_MAP, read=lambda b: b)
    task = asyncio.create_task(informer.run())
    await asyncio.wait_for(informer.synced.wait(), 5)
    task.cancel()


class Sick(FakeKube):
    """Ends each watch at once, cleanly or with 410, as a proxy that gives nobody a long answer."""

    def __init__(self, error: KubeError | None) -> None:
        super().__init__()
        self.watches, self.error = 0, error

    async def watch(self, *_: object):
        self.watches += 1
        if self.error is not None:
            raise self.error
        return
        yield


@pytest.mark.parametrize("error", [None, GoneError("expired", status=410), KubeError("busy", status=429)])
async def test_informer_backs_off_whatever_ends_its_watches(
    error: KubeError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    async def pause(self: Backoff, error: BaseException | None = None) -> None:
        pauses.append(self.next_seconds(error))
        await asyncio.sleep(0)

    monkeypatch.setattr(Backoff, "pause", pause)
    kube = Sick(error)
    informer = Informer(kube, CONFIG_MAP, read=lambda b: b)
    async with running(informer):
        await until(lambda: len(pauses) >= 8)
    assert abs(kube.watches - len(pauses)) <= 1
    assert pauses[7] > 4


async def test_look_that_fails_again_and_again_comes_later_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, pauses = WorkQueue(), []
    monkeypatch.setattr(queue, "add_after", lambda _key, seconds: pauses.append(seconds))
    busy = KubeError("busy", status=500)
    for _ in range(6):
        queue.add_backed_off("a", busy)
    assert pauses[0] <= 1
    assert pauses[5] >= 16
    queue.add_backed_off("a", KubeError("busy", status=429, retry_after_seconds=50))
    assert pauses[6] >= 50
    queue.went_well("a")
    queue.add_backed_off("a", busy)
    assert pauses[7] <= 1


async def test_job_obeys_what_the_api_server_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def next_seconds(_self: Backoff, error: KubeError) -> float:
        asked.append(error.retry_after_seconds)
        return 0.0

    monkeypatch.setattr(Backoff, "next_seconds", next_seconds)
    jobs = Jobs(lambda _: None)
    outcomes = iter([KubeError("busy", status=429, retry_after_seconds=7), None])

    async def work(_tell) -> None:
        error = next(outcomes)
        if error:
            raise error

    jobs.run("u", Job.EXPOSE, work)
    await until(lambda: jobs.views("u")[Job.EXPOSE].state is JobState.DONE)
    assert asked == [7]


async def test_end_that_comes_while_a_job_is_stopped_is_not_swallowed() -> None:
    """Or a worker of the queue would go on after SIGTERM, and the process with it."""
    jobs = Jobs(lambda _: None)
    begun = asyncio.Event()

    async def slow_to_end(_tell) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)

    jobs.run("u", Job.EXPOSE, slow_to_end)
    await begun.wait()
    stopping = asyncio.create_task(jobs.stop("u"))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await jobs.close()


async def test_key_added_while_it_is_worked_on_is_worked_on_once_more_and_never_side_by_side() -> None:
    queue, seen, inside = WorkQueue(), [], 0

    async def look(key: object) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        seen.append(key)
        if len(seen) == 1:
            queue.add(key)
            queue.add(key)
        await asyncio.sleep(0.01)
        inside -= 1

    workers = [asyncio.create_task(queue.work(look)) for _ in range(3)]
    queue.add("a")
    await asyncio.sleep(0.06)
    assert seen == ["a", "a"]
    for worker in workers:
        worker.cancel()


async def test_look_that_does_not_end_is_seen() -> None:
    queue = WorkQueue()
    assert queue.longest_look_seconds() == 0

    async def look(_key: object) -> None:
        await asyncio.Event().wait()

    queue.add("a")
    task = asyncio.create_task(queue.work(look))
    await settled()
    assert queue.longest_look_seconds() > 0
    task.cancel()


async def test_earliest_of_several_wishes_counts() -> None:
    queue, seen = WorkQueue(), []

    async def look(key: object) -> None:
        seen.append(key)

    worker = asyncio.create_task(queue.work(look))
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    queue.add_after("a", 30)
    await asyncio.sleep(0.05)
    assert seen == ["a"]
    worker.cancel()


def test_slots_go_to_the_oldest_first() -> None:
    freed = []
    slots = Slots(1, lambda: freed.append(1))
    assert slots.try_take("b", T0 + timedelta(seconds=1))
    assert not slots.try_take("c", T0 + timedelta(seconds=2))
    assert not slots.try_take("a", T0)
    slots.leave("b")
    assert freed
    assert not slots.try_take("c", T0 + timedelta(seconds=2)), "a is older and waits"
    assert slots.try_take("a", T0)
    slots.hold("resumed")
    assert slots.holders == {"a", "resumed"}


def test_one_who_leaves_the_line_lets_the_next_through() -> None:
    slots = Slots(1)
    slots.try_take("x", T0)
    slots.try_take("a", T0)
    slots.try_take("b", T0)
    slots.leave("x")
    slots.leave("a")
    assert slots.try_take("b", T0)


class TemporaryError(Exception):
    temporary = True


async def test_job_is_tried_again_after_a_temporary_failure_and_says_why(monkeypatch) -> None:
    monkeypatch.setattr("agent.control.jobs._BACKOFF_SECONDS", (0.001, 0.001))
    reasons, jobs = [], None

    def changed(uid: str) -> None:
        reasons.append(jobs.views(uid)[Job.EXPOSE].reason)

    jobs = Jobs(changed)
    outcomes = iter([TemporaryError("driver is busy"), None])

    async def work(tell) -> None:
        tell("looking")
        error = next(outcomes)
        if error:
            raise error

    jobs.run("u", Job.EXPOSE, work)
    await asyncio.sleep(0.05)
    assert jobs.views("u")[Job.EXPOSE].state is JobState.DONE
    assert "driver is busy" in reasons


async def test_refused_right_is_asked_for_again_for_some_seconds_and_then_final(monkeypatch) -> None:
    monkeypatch.setattr("agent.control.jobs._BACKOFF_SECONDS", (0.001, 0.001))
    monkeypatch.setattr("agent.control.jobs._RIGHTS_SECONDS", 0.1)
    jobs, calls, ended = None, [], asyncio.Event()

    def changed(uid: str) -> None:
        if jobs.views(uid)[Job.EXPOSE].state is JobState.FAILED:
            ended.set()

    jobs = Jobs(changed)

    async def refused(_tell) -> None:
        calls.append(1)
        raise ForbiddenError("secrets is forbidden", status=403)

    jobs.run("u", Job.EXPOSE, refused)
    async with asyncio.timeout(20):
        await ended.wait()
    assert len(calls) > 1
    assert jobs.views("u")[Job.EXPOSE].reason == "secrets is forbidden"


async def test_job_that_fails_for_good_stays_failed_and_a_stopped_one_ends() -> None:
    jobs = Jobs(lambda _: None)

    async def broken(tell) -> None:
        raise ValueError("no such volume")

    async def endless(tell) -> None:
        await asyncio.sleep(60)

    jobs.run("u", Job.EXPOSE, broken)
    jobs.run("u", Job.START, endless)
    await asyncio.sleep(0.01)
    assert jobs.views("u")[Job.EXPOSE].state is JobState.FAILED
    assert jobs.views("u")[Job.EXPOSE].reason == "no such volume"
    with contextlib.suppress(asyncio.CancelledError):
        await jobs.stop("u")
    await jobs.close()
