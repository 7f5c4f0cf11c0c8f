"""Connection files: ours, and Kopia's."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from repository import connection
from repository.connection import Connection
from repository.errors import InvalidRequestError, RepositoryNotFoundError
from repository.password_bytes import of_file


def _kopia_config(path: Path, storage: dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"storage": storage, "hostname": "vm", "username": "root", "readonly": True}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_saved_connection_is_found_again_and_is_its_owners(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    path = connection.default_path(environment)
    saved = Connection(url="file:///srv", username="me", hostname="here", password_file="/secret")
    connection.save(path, saved)
    assert connection.find(environment) == saved
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["connection.json"]


def test_kopias_connection_is_understood_where_there_is_none_of_ours(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    path = _kopia_config(
        connection.kopia_path(environment), {"type": "filesystem", "config": {"path": "/srv/a b"}}
    )
    Path(f"{path}.kopia-password").write_text(base64.b64encode(b"sesame").decode(), encoding="utf-8")
    found = connection.find(environment)
    assert (found.url, found.username, found.hostname) == ("file:///srv/a%20b", "root", "vm")
    assert found.read_only
    assert of_file(Path(found.password_file)) == b"sesame"


def test_a_storage_that_is_not_known_is_refused_by_its_type(tmp_path: Path) -> None:
    path = _kopia_config(tmp_path / "repository.config", {"type": "rclone", "config": {}})
    with pytest.raises(InvalidRequestError, match="rclone"):
        connection.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nonsense": 1}', "\xff"])
def test_what_is_no_connection_file_is_refused_by_its_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidRequestError, match=r"some\.json"):
        connection.load(path)


def test_without_any_connection_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError, match="--repo"):
        connection.find({"HOME": str(tmp_path)})
    with pytest.raises(RepositoryNotFoundError, match="gone"):
        connection.load(tmp_path / "gone")
