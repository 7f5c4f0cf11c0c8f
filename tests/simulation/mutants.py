"""Each mending taken back, to show that the simulation finds the fault: `python -m tests.simulation.mutants [NAME…]`.

A mutant gives one mended function its old behaviour while a block runs. `HUNTS` says under which faults it shows,
and which seeds have found it; `--search N` lists all seeds below N that do. `make test` runs every hunt.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from tests.simulation.clock import ROOMS
from tests.simulation.simulation import run_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


def product(name: str) -> Any:
    """A function or class of the product, wherever it lives."""
    found = {
        id(value): value
        for room, module in list(sys.modules.items())
        if room.partition(".")[0] in ROOMS and module is not None
        for attribute, value in vars(module).items()
        if attribute == name and getattr(value, "__module__", "").partition(".")[0] in ROOMS
    }
    if len(found) != 1:
        raise LookupError(f"{len(found)} objects of the product are called {name}")
    return next(iter(found.values()))


@contextlib.contextmanager
def replaced(name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Let every module of the product that knows a function by its name call another instead."""
    original = product(name)
    other = make(original)
    places = [
        (module, attribute)
        for room, module in list(sys.modules.items())
        if room.partition(".")[0] in ROOMS and module is not None
        for attribute, value in list(vars(module).items())
        if value is original
    ]
    for module, attribute in places:
        setattr(module, attribute, other)
    try:
        yield
    finally:
        for module, attribute in places:
            setattr(module, attribute, original)


@contextlib.contextmanager
def method(owner: str, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """The same for a method."""
    cls = product(owner)
    original = cls.__dict__[name]
    setattr(cls, name, make(original))
    try:
        yield
    finally:
        setattr(cls, name, original)


@contextlib.contextmanager
def _retain_once() -> Iterator[None]:
    """A1: the original content is set to Retain where our content is made, and never looked at again."""
    passed: set[str] = set()

    def take_over(original: Any) -> Any:
        async def old(exposure: Any, *wanted: Any) -> Any:
            content = await product("find")(
                exposure.kube, constant("VOLUME_SNAPSHOT_CONTENT"), "", exposure.name
            )
            if content is not None and product("is_owned")(content, exposure.uid):
                passed.add(exposure.uid)
            return await original(exposure, *wanted)

        return old

    def retain(original: Any) -> Any:
        async def old(exposure: Any, content: Any) -> None:
            if exposure.uid not in passed:
                passed.add(exposure.uid)
                await original(exposure, content)

        return old

    with replaced("_take_over", take_over), replaced("_retain_original", retain):
        yield


def constant(name: str) -> Any:
    """One of the API's resources, by the product's constant."""
    for room, module in list(sys.modules.items()):
        if room.partition(".")[0] in ROOMS and hasattr(module, name):
            return getattr(module, name)
    raise LookupError(name)


def _mark_goes_last() -> AbstractContextManager[None]:
    """A2: the re-bind's last write takes the mark from the PV by which a successor would find it."""

    def give_back(original: Any) -> Any:
        async def old(exposure: Any, name: str) -> None:
            await original(exposure, name)
            volume = await exposure.kube.get(constant("PV"), "", name)
            ours = {
                part: {
                    key: None
                    for key in volume["metadata"].get(part) or {}
                    if key.startswith("kopia-data-mover.io/")
                }
                for part in ("labels", "annotations")
            }
            unmark = {"metadata": ours}
            await exposure.kube.patch(constant("PV"), "", name, unmark)

        return old

    return replaced("_give_policy_back", give_back)


def _relist_drops_all() -> AbstractContextManager[None]:
    """A3: a relist drops what is not in the list, also what was made after the list was taken."""
    return method(
        "Informer", "_drop_unlisted", lambda original: lambda self, seen, _at: original(self, seen, 1 << 62)
    )


def _new_is_not_held() -> AbstractContextManager[None]:
    """A4: a DataUpload gets its finalizer when it is accepted, however long it waits before."""
    return replaced("_brings_a_snapshot", lambda _: lambda _move: False)


@contextlib.contextmanager
def _late_write_resurrects() -> Iterator[None]:
    """A12: what an own write returned is taken in, though it is known that the object was deleted."""
    with (
        method("Informer", "put", lambda _: lambda self, body: self._take(body) and None),
        method("Informer", "forget", lambda _: lambda _self, _key, _seen: None),
    ):
        yield


def _namesake_goes_on() -> AbstractContextManager[None]:
    """A13: a move that was made anew under its name inherits slots and timers of the one before."""

    def changed(original: Any) -> Any:
        def old(self: Any, kind: str, key: Any, before: Any, after: Any) -> None:
            anew = before is not None and after is not None and before.uid != after.uid
            original(self, kind, key, after if anew else before, after)

        return old

    return method("Controller", "move_changed", changed)


def _any_volume_is_ours() -> AbstractContextManager[None]:
    """F1: what a claim of ours was bound to counts as made for it."""
    return replaced("is_provisioned_for", lambda _: lambda _volume, _claim: True)


def _any_pod_of_the_name() -> AbstractContextManager[None]:
    """F5: the pod of a PodVolumeBackup is found by its name alone."""

    def scheduled(original: Any) -> Any:
        async def old(exposure: Any, wanted: Any) -> Any:
            return await original(exposure, dataclasses.replace(wanted, uid=""))

        return old

    return replaced("_scheduled_pod", scheduled)


def _source_must_be_there() -> AbstractContextManager[None]:
    """F6: a backup whose source is gone fails, though its snapshot is ready."""

    def expose(original: Any) -> Any:
        async def old(exposure: Any, wanted: Any) -> None:
            claim = await product("find")(exposure.kube, constant("PVC"), wanted.namespace, wanted.claim)
            if claim is None:
                raise product("VolumeNotFoundError")(
                    f"source PVC {wanted.namespace}/{wanted.claim} does not exist"
                )
            await original(exposure, wanted)

        return old

    return replaced("expose_csi_snapshot", expose)


MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "A1": _retain_once,
    "A2": _mark_goes_last,
    "A3": _relist_drops_all,
    "A4": _new_is_not_held,
    "A12": _late_write_resurrects,
    "A13": _namesake_goes_on,
    "F1": _any_volume_is_ours,
    "F5": _any_pod_of_the_name,
    "F6": _source_must_be_there,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Hunt:
    """Where a fault is looked for: moves of these kinds under these faults, from seed 0 on.

    `seeds` found it when it was mended. A seed's history changes with every request that the product makes more or
    less, so a hunt goes on to `seeds_max` before it says that the simulation has lost the fault.
    """

    kinds: tuple[str, ...]
    faults: dict[str, float]
    seeds: tuple[int, ...]
    seeds_max: int = 60


_UPLOAD, _DOWNLOAD, _POD_BACKUP = ("DataUpload",), ("DataDownload",), ("PodVolumeBackup",)
HUNTS = {
    "A1": Hunt(_UPLOAD, {"500": 0.15, "429": 0.1}, (1, 2, 3)),
    "A2": Hunt(_DOWNLOAD, {"500, done": 0.1, "reset, done": 0.1, "killed after": 0.02}, (0,)),
    "A3": Hunt(_UPLOAD + _POD_BACKUP, {"slow lists": 20.0, "watch gone": 30.0}, (1, 4, 7)),
    "A4": Hunt(_UPLOAD, {"deleted": 25.0, "mover slow": 40.0}, (8,)),
    "A12": Hunt(_POD_BACKUP, {"slow answers": 12.0, "deleted": 20.0}, (4, 7, 8)),
    "A13": Hunt(_POD_BACKUP, {"watch late": 9.0, "forced anew": 12.0}, (1, 2, 3)),
    "F1": Hunt(_UPLOAD + _DOWNLOAD, {"foreign volume": 9.0}, (0, 1, 2)),
    "F5": Hunt(_POD_BACKUP, {"pod made anew": 12.0, "agent killed": 9.0, "API away": 6.0}, (0, 1, 2)),
    "F6": Hunt(_UPLOAD, {"source gone": 12.0, "agent killed": 9.0, "API away": 6.0}, (0, 1, 2)),
}


def violations(name: str, seed: int) -> list[str]:
    """What a seed finds with a mending taken back."""
    hunt = HUNTS[name]
    with MUTANTS[name]():
        return run_seed(seed, chosen=hunt.faults, kinds=hunt.kinds).violations


def hunt(name: str) -> tuple[int, list[str]]:
    """The first seed that finds a fault, those first that found it before, and what it says; -1: none does."""
    known = HUNTS[name].seeds
    for seed in (*known, *(other for other in range(HUNTS[name].seeds_max) if other not in known)):
        found = violations(name, seed)
        if found:
            return seed, found
    return -1, []


def main(argv: list[str]) -> int:
    """Hunt for each fault; 1 if one is not found."""
    if "--search" in argv:
        count = int(argv[argv.index("--search") + 1])
        for name in [one for one in argv if one in MUTANTS] or MUTANTS:
            print(name, [seed for seed in range(count) if violations(name, seed)], flush=True)
        return 0
    missed = 0
    for name in [one for one in argv if one in MUTANTS] or MUTANTS:
        seed, found = hunt(name)
        missed += seed < 0
        print(f"{name}: seed {seed}: {found[0] if found else 'NOT FOUND'}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
