from __future__ import annotations

import base64
from pathlib import Path

import pytest

from repository import password_bytes
from repository.errors import InvalidRequestError

TRIMMED = {
    b"secret": b"secret",
    b"secret\n": b"secret",
    b"secret\r\n": b"secret",
    b" \t\v\fsecret \n\n": b"secret",
    b"two\nlines\n": b"two\nlines",
    b"in ner": b"in ner",
    "\u00a0\u2003secret\u3000\u0085".encode(): b"secret",
    # Go takes neither for white space: the separators of ASCII, and bytes that are no text
    b"\x1csecret\x1f": b"\x1csecret\x1f",
    b"\xa0secret\x85\n": b"\xa0secret\x85",
    b"\xff\xfe\n": b"\xff\xfe",
}


@pytest.mark.parametrize(("given", "password"), TRIMMED.items())
def test_every_way_in_trims_as_kopia_and_velero(given: bytes, password: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(given)
    assert password_bytes.trimmed(given) == password
    assert password_bytes.of_file(tmp_path / "file") == password
    assert password_bytes.of_variable("P", {b"P": given}) == password


def test_what_kopia_has_kept_and_what_was_typed_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "repository.config.kopia-password"
    path.write_bytes(base64.b64encode(b" kept \xff"))
    assert password_bytes.of_file(path) == b" kept \xff"
    assert password_bytes.typed(" typed ") == b" typed "


def test_nothing_is_no_password(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b" \n")
    assert password_bytes.of_variable("P", {}) is None
    assert password_bytes.of_variable("P", {b"P": b""}) is None
    with pytest.raises(InvalidRequestError, match="variable P holds no password"):
        password_bytes.of_variable("P", {b"P": b"\n"})
    with pytest.raises(InvalidRequestError, match="empty holds no password"):
        password_bytes.of_file(tmp_path / "empty")
    with pytest.raises(InvalidRequestError, match="white space"):
        password_bytes.check_new(b"new ")
    (tmp_path / "x.kopia-password").write_bytes(b"!")
    with pytest.raises(InvalidRequestError, match="not base64"):
        password_bytes.of_file(tmp_path / "x.kopia-password")
