"""Jobs: the work that takes time (expose, start, re-bind, clean-up), one task per move and job.

A temporary failure is tried again with back-off, and not before the API server wants it; meanwhile the job
counts as running and its reason is the error. What fails for good stays failed until the move is forgotten.
Clean-up is tried for ever. A refused right counts as temporary for some seconds: an API server that starts
refuses what it grants later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from agent.moves.steps import Job, JobState, JobView
from kube.api import ForbiddenError
from kube.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    # Work is told how to say what it waits for.
    Work = Callable[[Callable[[str], None]], Awaitable[None]]

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.5, 15.0)
_RIGHTS_SECONDS = 5.0


class Jobs:
    """All jobs of this process. `changed` is called with the uid whenever a job's view changes."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._views: dict[str, dict[Job, JobView]] = {}
        self._tasks: dict[tuple[str, Job], asyncio.Task[None]] = {}

    def views(self, uid: str) -> dict[Job, JobView]:
        """Where the jobs of a move stand."""
        return self._views.get(uid, {})

    def run(self, uid: str, job: Job, work: Work) -> None:
        """Begin a job; nothing happens if it runs already."""
        if (uid, job) in self._tasks:
            return
        self._views.setdefault(uid, {})[job] = JobView(JobState.RUNNING)
        self._tasks[uid, job] = asyncio.create_task(self._run(uid, job, work))

    async def stop(self, uid: str, *, but: Job | None = None) -> None:
        """End all jobs of a move, except one, and wait until they have ended."""
        tasks = [task for (owner, job), task in self._tasks.items() if owner == uid and job is not but]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)  # not `await task`: whoever is cancelled here must see it

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a move that is gone."""
        self._views.pop(uid, None)

    def known(self) -> set[str]:
        """All moves of which something is remembered."""
        return set(self._views)

    async def close(self) -> None:
        """End everything."""
        await asyncio.gather(*(self.stop(uid) for uid in {uid for uid, _ in self._tasks}))

    async def _run(self, uid: str, job: Job, work: Work) -> None:
        backoff = Backoff(*_BACKOFF_SECONDS)
        began = time.monotonic()
        try:
            while True:
                try:
                    await work(lambda reason: self._show(uid, job, JobView(JobState.RUNNING, reason)))
                except Exception as error:  # noqa: BLE001 - whatever fails is shown on the object
                    early = time.monotonic() - began < _RIGHTS_SECONDS
                    if not self._try_again(uid, job, error, early=early):
                        return
                    seconds = backoff.next_seconds(error)
                else:
                    self._show(uid, job, JobView(JobState.DONE))
                    return
                await asyncio.sleep(seconds)
        finally:
            self._tasks.pop((uid, job), None)

    def _try_again(self, uid: str, job: Job, error: Exception, *, early: bool) -> bool:
        temporary = bool(getattr(error, "temporary", False)) or job is Job.CLEAN_UP
        temporary = temporary or (early and isinstance(error, ForbiddenError))
        if not hasattr(error, "temporary"):
            log.error("job failed unexpectedly", exc_info=error, extra={"job": job, "uid": uid})
        text = str(error) or type(error).__name__
        if job is Job.CLEAN_UP:
            log.warning("clean-up is tried again", extra={"uid": uid, "error": text})
        self._show(uid, job, JobView(JobState.RUNNING if temporary else JobState.FAILED, text))
        return temporary

    def _show(self, uid: str, job: Job, view: JobView) -> None:
        views = self._views.setdefault(uid, {})
        if views.get(job) != view:
            views[job] = view
            self._changed(uid)
