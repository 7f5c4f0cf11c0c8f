"""Changes the password of all repositories of Velero's locations, and then the Secret that names it.

Resumable, and without a note of its own: which repositories open with which password says how far a run came.
First everything is looked at and nothing is changed; then the new password is put beside the old one, where
movers of ours find both; then all repositories are changed side by side, and the Secret right after them.
Only between the first repository and the Secret is the server, which knows one password, locked out.
"""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.care.locations import Passwords, Place, opened, read_passwords
from agent.control.mover_inputs import PASSWORD_KEY, PASSWORD_SECRET, SPARE_PASSWORD_KEY
from exposer.hosting_pod import MOVER_LABEL
from kube.api import POD, SECRET, Kube, Selection, list_all
from repository.care import change_password
from repository.errors import InvalidPasswordError, RepositoryNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Json = dict[str, Any]

_PARALLEL = 4


class PasswordChangeError(Exception):
    """Nothing was changed by the step that failed; says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where the repositories stand: by the password that opens them; `absent` are not made yet."""

    old: tuple[Place, ...]
    new: tuple[Place, ...]
    absent: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What a run did. `locked_out_seconds`: how long the server could not open what had been changed."""

    changed: tuple[str, ...]
    had_been_changed: tuple[str, ...]
    absent: tuple[str, ...]
    locked_out_seconds: float


def wanted_password(passwords: Passwords, given: bytes | None) -> bytes:
    """Choose the new password: the one of a change under way, else the one that is given.

    Raises:
        PasswordChangeError: there is none, or another change is under way.
    """
    if passwords.spare and given not in (None, passwords.spare):
        raise PasswordChangeError(
            f"a change to another password is under way: finish it first (give no new password), "
            f"or remove {SPARE_PASSWORD_KEY} from Secret {PASSWORD_SECRET} if no repository has it"
        )
    new = passwords.spare or given
    if not new:
        raise PasswordChangeError("no new password: set KOPIA_NEW_PASSWORD or give --new-password-file FILE")
    return new


def refuse_partial(places: Sequence[Place], locations: Iterable[str]) -> None:
    """Refuse to leave repositories out: the Secret is one for all locations.

    Raises:
        PasswordChangeError: a repository is of a location that is not named, or a location has none.
    """
    named = set(locations)
    left_out = sorted({place.location for place in places} - named)
    if left_out:
        raise PasswordChangeError(
            f"one Secret serves all locations: repositories of {', '.join(left_out)} would be locked out; "
            f"name {'it' if len(left_out) == 1 else 'them'} with --location too"
        )
    unknown = sorted(named - {place.location for place in places})
    if unknown:
        raise PasswordChangeError(f"no BackupRepository is of location {', '.join(unknown)}")


async def look(places: Sequence[Place], old: bytes, new: bytes) -> Found:
    """Open every repository, to know with which password; changes nothing.

    Raises:
        PasswordChangeError: one opens with neither, or cannot change its password (format 1).
    """
    answers = await _side_by_side(places, lambda place: _opens_with(place, old, new))
    troubles = [answer for answer in answers if answer not in ("old", "new", "absent")]
    if troubles:
        raise PasswordChangeError("nothing was changed: " + "; ".join(troubles))
    by = {
        state: tuple(place for place, answer in zip(places, answers, strict=True) if answer == state)
        for state in ("old", "new", "absent")
    }
    return Found(by["old"], by["new"], by["absent"])


def _opens_with(place: Place, old: bytes, new: bytes) -> str:
    for state, password in (("new", new), ("old", old)):
        try:
            with opened(place, [password]) as session:
                changeable = session.status()["contentFormat"]["enablePasswordChange"]
        except InvalidPasswordError:
            continue
        except RepositoryNotFoundError:
            return "absent"
        return state if changeable else f"repository {place.name} is of format 1: its password is for ever"
    return f"repository {place.name} opens with neither the old nor the new password"


async def change_passwords(
    kube: Kube,
    namespace: str,
    places: Sequence[Place],
    new: bytes,
    *,
    say: Callable[[str], None],
    settle_seconds: float,
) -> Change:
    """Carry the change out, or finish one that was cut off. `settle_seconds`: for mounts to be refreshed.

    Raises:
        PasswordChangeError: see `look`; or the Secret was changed by somebody else meanwhile.
    """
    passwords = await read_passwords(kube, namespace)
    found = await look(places, passwords.current, new)
    say(f"{len(found.old)} repositories to change, {len(found.new)} changed already")
    if new not in (passwords.current, passwords.spare):
        await _patch_secret(kube, namespace, passwords, {SPARE_PASSWORD_KEY: _encoded(new)})
        passwords = await read_passwords(kube, namespace)
        await _settle(kube, namespace, say, settle_seconds)
    began = time.monotonic()
    await _side_by_side(found.old, lambda place: change_password(place.url, passwords.current, new))
    if passwords.spare or passwords.current != new:
        taken = {PASSWORD_KEY: _encoded(new), SPARE_PASSWORD_KEY: None}
        await _patch_secret(kube, namespace, passwords, taken)
    locked_out = time.monotonic() - began if found.old else 0.0
    return Change(_names(found.old), _names(found.new), _names(found.absent), locked_out)


def _names(places: Sequence[Place]) -> tuple[str, ...]:
    return tuple(place.name for place in places)


async def _settle(kube: Kube, namespace: str, say: Callable[[str], None], seconds: float) -> None:
    """Give movers that wait for their start the time in which the kubelet shows them the new password too."""
    pods = await list_all(kube, POD, namespace, Selection(labels=MOVER_LABEL))
    if pods and seconds:
        say(f"waiting {seconds:g} s until the movers that are prepared know the new password too")
        await asyncio.sleep(seconds)


async def _patch_secret(kube: Kube, namespace: str, before: Passwords, data: Json) -> None:
    patch = {"metadata": {"resourceVersion": before.resource_version}, "data": data}
    await kube.patch(SECRET, namespace, PASSWORD_SECRET, patch)


def _encoded(password: bytes) -> str:
    return base64.b64encode(password).decode()


async def _side_by_side(places: Sequence[Place], work: Callable[[Place], Any]) -> list[Any]:
    """Work on some repositories at a time, each in a thread; the first failure is raised at the end."""
    free = asyncio.Semaphore(_PARALLEL)

    async def one(place: Place) -> Any:
        async with free:
            return await asyncio.to_thread(work, place)

    answers = await asyncio.gather(*(one(place) for place in places), return_exceptions=True)
    for place, answer in zip(places, answers, strict=True):
        if isinstance(answer, BaseException):
            raise PasswordChangeError(f"repository {place.name}: {answer}; run the command again") from answer
    return answers
