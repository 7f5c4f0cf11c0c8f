"""The Velero server, as far as an agent meets it: it makes BackupRepositories ready."""

from __future__ import annotations

import asyncio
import contextlib

from agent.control.backup_repository import BACKUP_REPOSITORY
from kube.api import Json, Kube, KubeError, list_all


class VeleroServer:
    """Sets `answer` as the status of every repository."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.answer: Json | None = {"phase": "Ready"}
        self.answers: dict[str, Json] = {}  # for repositories of a name, instead

    async def run(self, *, pause_seconds: float = 0.01) -> None:
        while True:
            with contextlib.suppress(KubeError):
                await self.step()
            await asyncio.sleep(pause_seconds)

    async def step(self) -> None:
        for body in await list_all(self.kube, BACKUP_REPOSITORY):
            meta = body["metadata"]
            answer = self.answers.get(meta["name"], self.answer)
            if answer is not None and (body.get("status") or {}) != answer:
                patch = {"status": {"message": None} | answer}
                await self.kube.patch(BACKUP_REPOSITORY, meta["namespace"], meta["name"], patch)
