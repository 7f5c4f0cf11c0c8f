"""The node-agent ConfigMap in force: read at start, where it must be right, and followed later.

A change that cannot be read keeps the last good configuration, with a warning: a slip of the pen stops no
backup.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.control.node_agent_config import NodeConfig, NodeConfigError, parse_config_map
from kube.api import CONFIG_MAP, PRIORITY_CLASS, KubeError, Selection, find
from kube.informer import Informer
from kube.waiting import insist

if TYPE_CHECKING:
    from agent.control.controller import Controller
    from agent.control.world import World
    from kube.informer import Key

Json = dict[str, Any]

log = logging.getLogger(__name__)


class StartError(Exception):
    """The agent cannot start; the message says what to put right."""


class Configuration:
    """Puts what the ConfigMaps say into the world."""

    def __init__(self, world: World, controller: Controller) -> None:
        self._world, self._controller = world, controller
        self._changed = asyncio.Event()

    async def load(self) -> None:
        """Read the ConfigMap, if one is named.

        Raises:
            StartError: the node-agent ConfigMap is missing, wrong, or may not be read. An API server that is
            away is waited for.
        """
        name = self._world.config.node_agent_config_map
        if not name:
            return
        where = f"ConfigMap {self._world.config.namespace}/{name}"
        kube, namespace = self._world.kube, self._world.config.namespace
        try:
            body = await insist(lambda: find(kube, CONFIG_MAP, namespace, name), where)
            if body is None:
                raise StartError(f"{where} (--node-agent-configmap) does not exist")
            await insist(lambda: self._apply(body), where)
        except (NodeConfigError, KubeError) as error:
            raise StartError(f"{where} cannot be used: {error}") from error

    async def follow(self) -> None:
        """Apply every later change."""
        name = self._world.config.node_agent_config_map
        if not name:
            await asyncio.Event().wait()
        namespace = self._world.config.namespace
        informer = Informer[Json](
            self._world.kube,
            CONFIG_MAP,
            namespace,
            Selection.by_name(name),
            read=lambda body: body,
            changed=self._heard,
        )
        watching = asyncio.create_task(informer.run())
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._reload(informer.get(namespace, name))
        finally:
            watching.cancel()

    def _heard(self, _key: Key, _before: Json | None, _after: Json | None) -> None:
        self._changed.set()

    async def _reload(self, body: Json | None) -> None:
        try:
            if body is None:
                log.warning("node-agent ConfigMap was deleted; the last configuration stays in force")
            else:
                await self._apply(body)
        except (NodeConfigError, KubeError) as error:
            log.warning("node-agent ConfigMap is ignored", extra={"error": str(error)})

    async def _apply(self, body: Json) -> None:
        config = parse_config_map(body.get("data") or {})
        config = await self._checked(config)
        for warning in config.warnings:
            log.warning("node-agent ConfigMap", extra={"warning": warning})
        if config != self._world.node_config:
            self._world.node_config = config
            self._controller.apply_limits()
            log.info("node-agent ConfigMap is in force", extra={"slots": self._world.slots.limit})

    async def _checked(self, config: NodeConfig) -> NodeConfig:
        """Leave out a priority class that does not exist: pods of it would be refused."""
        name = config.expose.priority_class
        if not name or await find(self._world.kube, PRIORITY_CLASS, "", name):
            return config
        warning = f"priority class {name} does not exist and is ignored"
        expose = replace(config.expose, priority_class="")
        return replace(config, expose=expose, warnings=(*config.warnings, warning))
