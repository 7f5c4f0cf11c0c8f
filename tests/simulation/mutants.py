"""Each mending taken back, to show that the simulation finds the fault: `python -m tests.simulation.mutants [NAME…]`.

A mutant gives one mended function its old behaviour while a block runs. `FOUND_BY` names seeds that find it; the
program runs those, and with `--search N` looks for more among the first N. `make test` runs one seed of each.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from tests.simulation.clock import ROOMS
from tests.simulation.simulation import run_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

Mutant = "Callable[[], AbstractContextManager[None]]"


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
        async def old(exposure: Any, wanted: Any) -> Any:
            content = await product("find")(exposure.kube, product_resource("VOLUME_SNAPSHOT_CONTENT"), "", exposure.name)
            if content is not None and product("is_owned")(content, exposure.uid):
                passed.add(exposure.uid)
            return await original(exposure, wanted)

        return old

    def retain(original: Any) -> Any:
        async def old(exposure: Any, content: Any) -> None:
            if exposure.uid not in passed:
                passed.add(exposure.uid)
                await original(exposure, content)

        return old

    with replaced("_take_over", take_over), replaced("_retain_original", retain):
        yield


def product_resource(name: str) -> Any:
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
            volume = await exposure.kube.get(product_resource("PV"), "", name)
            ours = {
                part: {key: None for key in volume["metadata"].get(part) or {} if key.startswith("kopia-data-mover.io/")}
                for part in ("labels", "annotations")
            }
            unmark = {"metadata": ours}
            await exposure.kube.patch(product_resource("PV"), "", name, unmark)

        return old

    return replaced("_give_policy_back", give_back)


def _relist_drops_all() -> AbstractContextManager[None]:
    """A3: a relist drops what is not in the list, also what was made after the list was taken."""
    return method("Informer", "_drop_unlisted", lambda original: lambda self, seen, _at: original(self, seen, 1 << 62))


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


MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "A1": _retain_once,
    "A2": _mark_goes_last,
    "A3": _relist_drops_all,
    "A4": _new_is_not_held,
    "A12": _late_write_resurrects,
    "A13": _namesake_goes_on,
}
# Seeds that find each, and what they say.
FOUND_BY: dict[str, tuple[int, ...]] = {}


def violations(name: str, seed: int) -> list[str]:
    """What a seed finds with a mending taken back."""
    with MUTANTS[name]():
        return run_seed(seed).violations


def main(argv: list[str]) -> int:
    """Run the mutants; 1 if one is found by none of its seeds."""
    search = int(argv[argv.index("--search") + 1]) if "--search" in argv else 0
    names = [one for one in argv if one in MUTANTS] or list(MUTANTS)
    missed = 0
    for name in names:
        seeds = range(search) if search else FOUND_BY[name]
        found = {seed: texts for seed in seeds if (texts := violations(name, seed))}
        missed += not found
        print(f"{name}: {len(found)} of {len(seeds)} seeds find it: {sorted(found)}")
        for texts in list(found.values())[:2]:
            print(f"    {texts[0][:200]}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
