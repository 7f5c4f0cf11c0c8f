"""Locks of objects where they are not S3's: in the words of Google's XML API and of Azure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.drivers import Kopia
from tests.objectstore.azure import AzureServer
from tests.objectstore.faulty_gateway import Fault, Refuse, faulty_gateway
from tests.objectstore.gcs import GcsServer
from tests.objectstore.source import mover_at, tree
from tests.objectstore.test_providers import Server, kopia_at

RETENTION = ("--retention-mode", "GOVERNANCE", "--retention-period", "49h")
PERIOD = timedelta(hours=49)
LOCKED = ("p", "q", "x", "kopia.repository", "kopia.blobcfg")


def extend_locks(server: Server, prefix: str, binary: Path, tmp_path: Path) -> Kopia:
    """Has the real program switch the extension of locks on."""
    kopia = kopia_at(server, binary, tmp_path)
    kopia("repository", "connect", *server.kopia_arguments(prefix))
    kopia("maintenance", "set", "--owner=me", "--extend-object-locks=true")
    return kopia


def test_google_locks_what_must_stay_and_maintenance_extends_it(
    gcs: GcsServer, kopia_binary: Path, tmp_path: Path
) -> None:
    """Each blob is put with its lock, the strict one as by the real program; the extension names each again."""
    mover = mover_at(tmp_path, gcs.url("locked/"))
    mover.create(*RETENTION)
    mover.backup(tree(tmp_path / "source", seed=41, large_bytes=1 << 20))
    names = [one["id"] for one in mover.json("blob", "list")]
    locked = {f"locked/{name}" for name in names if name.startswith(LOCKED)}
    assert locked <= gcs.locks.keys()
    assert "locked/kopia.maintenance" not in gcs.locks
    for key in locked:
        assert gcs.locks[key].mode == "COMPLIANCE"
        left = datetime.fromisoformat(gcs.locks[key].until) - datetime.now(UTC)
        assert PERIOD - timedelta(minutes=10) < left <= PERIOD
    extend_locks(gcs, "locked/", kopia_binary, tmp_path)
    gcs.locks.clear()
    mover("repo", "maintain", "--full", "--force")
    kept = {f"locked/{one['id']}" for one in mover.json("blob", "list")} & locked
    assert kept <= gcs.locks.keys()


def test_azure_is_asked_for_locks_in_signed_headers(azure: AzureServer, tmp_path: Path) -> None:
    """Azurite checks the signature, in which these headers are; of locks it knows nothing."""
    with faulty_gateway(azure.port) as gateway:
        url = azure.url("locked/").replace(f":{azure.port}/", f":{gateway.server_port}/")
        mover_at(tmp_path, url).create(*RETENTION)
        puts = {
            path.rpartition("/")[2]: headers for method, path, headers in gateway.asked if method == "PUT"
        }
    locked = puts["kopia.repository"]
    assert locked["x-ms-immutability-policy-mode"] == "Locked"
    left = parsedate_to_datetime(locked["x-ms-immutability-policy-until-date"]) - datetime.now(UTC)
    assert PERIOD - timedelta(minutes=10) < left <= PERIOD
    for name, headers in puts.items():
        assert ("x-ms-immutability-policy-mode" in headers) == name.startswith(LOCKED), name


@pytest.mark.parametrize("status", [200, 409])
def test_azure_extends_locks_and_a_refusal_is_told(
    azure: AzureServer, kopia_binary: Path, tmp_path: Path, status: int
) -> None:
    """The requests are answered in Azurite's place, which does not know them."""
    prefix = f"extended-{status}/"
    direct = mover_at(tmp_path, azure.url(prefix))
    direct.create(*RETENTION)
    direct.backup(tree(tmp_path / "source", seed=42, large_bytes=1 << 20))
    extend_locks(azure, prefix, kopia_binary, tmp_path)
    answer = Refuse(status, "" if status == 200 else "BlobImmutableDueToPolicy")
    with faulty_gateway(azure.port) as gateway:
        url = azure.url(prefix).replace(f":{azure.port}/", f":{gateway.server_port}/")
        with gateway.with_fault(Fault(answer, lambda _, path: "comp=immutabilityPolicies" in path)):
            mover = mover_at(tmp_path, url)
            done = mover("repo", "maintain", "--full", "--force", check=False)
    asked = [headers for _, path, headers in gateway.asked if "comp=immutabilityPolicies" in path]
    assert asked[0]["x-ms-immutability-policy-mode"] == "Locked"
    if status == 200:
        assert done.returncode == 0, done.stderr
        assert len(asked) > 4
    else:
        assert b"retention lock" in done.stdout + done.stderr
