from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mover.kopia_engine import KopiaEngine
from mover.passwords import with_first_that_opens
from mover.protocol import RepositoryAccess
from repository.errors import InvalidPasswordError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def lock(right: bytes) -> Callable[[bytes], str]:
    def opened(password: bytes) -> str:
        if password != right:
            raise InvalidPasswordError(f"{password.decode()} is wrong")
        return f"opened with {password.decode()}"

    return opened


@pytest.mark.parametrize("passwords", [[b"old", b"new"], [b"new"], [b"", b"new"], [b"old", b"", b"new"]])
def test_first_password_that_opens_is_taken(passwords: list[bytes]) -> None:
    assert with_first_that_opens(passwords, lock(b"new")) == "opened with new"


def test_refusal_of_the_last_is_raised() -> None:
    with pytest.raises(InvalidPasswordError, match="b is wrong"):
        with_first_that_opens([b"a", b"b"], lock(b"new"))


@pytest.mark.parametrize("passwords", [[], [b"", b""]])
def test_no_password_at_all_is_said(passwords: list[bytes]) -> None:
    with pytest.raises(InvalidPasswordError, match="empty"):
        with_first_that_opens(passwords, lock(b"new"))


@pytest.mark.parametrize("spare", ["right", None])
def test_mover_opens_with_the_password_in_force_or_the_next(tmp_path: Path, spare: str | None) -> None:
    repository = pytest.importorskip("repository")
    (tmp_path / "kopia").mkdir()
    repository.create_repository(str(tmp_path / "kopia" / "app"), "right")
    (tmp_path / "password").write_text("wrong\n" if spare else " right\n")
    if spare:
        (tmp_path / "next").write_text(f"{spare}\n")
    access = RepositoryAccess(
        name="default",
        location={"provider": "fs", "config": {"fspath": str(tmp_path)}},
        volume_namespace="app",
        password_path=str(tmp_path / "password"),
        spare_password_path=str(tmp_path / "next"),
    )
    with KopiaEngine().open(access) as opened:
        assert opened.progress().done_bytes == 0
