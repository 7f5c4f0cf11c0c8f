from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from repository.credentials import location_files, read_location, secret_value
from repository.errors import InvalidRequestError

LOCATION = {
    "kind": "BackupStorageLocation",
    "spec": {
        "provider": "aws",
        "credential": {"name": "cloud", "key": "keys"},
        "objectStorage": {"bucket": "b", "caCert": base64.b64encode(b"inline").decode()},
    },
}
SECRET = {
    "kind": "Secret",
    "metadata": {"name": "cloud"},
    "data": {"keys": base64.b64encode(b"sEcReT").decode(), "bad": "%"},
    "stringData": {"plain": "text", "ca": "from a Secret"},
}


def test_secrets_beside_the_location_become_files_of_their_owner_only(tmp_path: Path) -> None:
    files = location_files([LOCATION, SECRET], tmp_path)
    assert Path(files.credentials_path).read_bytes() == b"sEcReT"
    assert stat.S_IMODE(Path(files.credentials_path).stat().st_mode) == 0o600
    assert Path(files.ca_path).read_bytes() == b"inline"
    assert "sEcReT" not in repr(files)


def test_a_certificate_of_a_secret_wins_over_the_inline_one(tmp_path: Path) -> None:
    store = LOCATION["spec"]["objectStorage"] | {"caCertRef": {"name": "cloud", "key": "ca"}}
    location = LOCATION | {"spec": LOCATION["spec"] | {"objectStorage": store}}
    files = location_files([location, SECRET], tmp_path)
    assert Path(files.ca_path).read_text() == "from a Secret"


def test_a_credentials_file_that_is_given_needs_no_secret(tmp_path: Path) -> None:
    assert location_files([LOCATION], tmp_path, "/given").credentials_path == "/given"


def test_a_file_with_several_documents_and_lists_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bsl.yaml"
    path.write_text("kind: List\nitems:\n- kind: A\n- kind: B\n---\n\n---\nkind: C\n")
    assert [one["kind"] for one in read_location(path)] == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ({"name": "other", "key": "k"}, "--credentials-file"),
        ({"name": "cloud", "key": "k"}, "no key 'k'"),
        ({"name": "cloud", "key": "bad"}, "not base64"),
    ],
)
def test_a_secret_that_is_missing_is_named(reference: dict, text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text) as error:
        secret_value([SECRET], reference)
    assert "sEcReT" not in str(error.value)


def test_a_file_that_is_no_yaml_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "bsl.yaml"
    path.write_text("password: [sEcReT")
    with pytest.raises(InvalidRequestError) as error:
        read_location(path)
    assert "sEcReT" not in str(error.value)
    with pytest.raises(InvalidRequestError, match="there are 0"):
        location_files([SECRET], tmp_path)
