"""S3 by a real server: TLS, object lock, bad networks, credentials that change, the cache."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from tests.drivers import Kopia
from tests.objectstore.bad_network import BadNetwork, Fault
from tests.objectstore.counting_proxy import counting_proxy
from tests.objectstore.servers import ACCESS_KEY, SECRET_KEY, S3Server, write_credentials
from tests.objectstore.source import contents, mover_at, tree


def test_a_repository_under_object_lock_locks_what_must_stay(s3: S3Server, tmp_path: Path) -> None:
    """Format blob and packs are put with their lock; the maintenance schedule is not."""
    s3.make_locked_bucket("locked")
    url = s3.url("kopia/").replace("s3://test/", "s3://locked/")
    mover = mover_at(tmp_path, url)
    mover.create("--retention-mode", "GOVERNANCE", "--retention-period", "48h")
    mover.backup(tree(tmp_path / "source", seed=7))
    names = [one["id"] for one in mover.json("blob", "list")]
    packs = [name for name in names if name.startswith(("p", "q", "xn"))]
    assert packs
    for name in ["kopia.repository", *packs]:
        assert b"<Mode>GOVERNANCE</Mode>" in s3.retention("locked", f"kopia/{name}"), name


def retained_until(s3: S3Server, key: str) -> datetime:
    """When the lock of an object ends."""
    found = re.search(rb"<RetainUntilDate>([^<]+)<", s3.retention("extended", key))
    assert found is not None
    return datetime.fromisoformat(found[1].decode())


def test_maintenance_extends_the_locks_of_what_is_in_use(
    s3: S3Server, kopia_binary: Path, tmp_path: Path
) -> None:
    """The real program switches it on; ours moves the end of every lock; the bucket is known to have locks."""
    s3.make_locked_bucket("extended")
    url = s3.url("kopia/").replace("s3://test/", "s3://extended/")
    mover = mover_at(tmp_path, url)
    mover.create("--retention-mode", "GOVERNANCE", "--retention-period", "49h")
    mover.backup(tree(tmp_path / "source", seed=11, large_bytes=1 << 20))
    assert mover.json("repo", "status")["storage"]["protection"] == {"versions": True, "objectLock": True}
    kopia = Kopia(kopia_binary, tmp_path / "kopia-home", tmp_path)
    arguments = [part.replace("test", "extended") for part in s3.kopia_arguments("kopia/")]
    kopia("repository", "connect", *arguments)
    kopia("maintenance", "set", "--owner=me", "--extend-object-locks=true")
    names = [one["id"] for one in mover.json("blob", "list")]
    keys = [f"kopia/{name}" for name in names if name.startswith(("p", "q", "kopia.repository"))]
    before = {key: retained_until(s3, key) for key in keys}
    # Ends of locks are whole seconds.
    time.sleep(1.1)
    mover("repo", "maintain", "--full", "--force")
    assert all(retained_until(s3, key) > end for key, end in before.items())


def test_a_bucket_without_locks_is_refused_for_a_repository_with_them(s3: S3Server, tmp_path: Path) -> None:
    """Said before anything is written."""
    done = mover_at(tmp_path, s3.url("unlocked"))(
        "repo",
        "create",
        s3.url("unlocked"),
        "--retention-mode",
        "COMPLIANCE",
        "--retention-period",
        "48h",
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert b"no object lock" in done.stderr
    assert not list((s3.data / "test" / "unlocked").glob("*"))


def test_both_programs_share_a_bucket_over_tls(
    s3_with_tls: S3Server, kopia_binary: Path, tmp_path: Path
) -> None:
    """By an authority that only the CA file knows: we create, the real program verifies."""
    mover = mover_at(tmp_path, s3_with_tls.url("over-tls/"))
    mover.create()
    mover.backup(tree(tmp_path / "ours", seed=1))
    kopia = Kopia(kopia_binary, tmp_path / "kopia-home", tmp_path)
    kopia("repository", "connect", *s3_with_tls.kopia_arguments("over-tls/"))
    kopia.prove()


def test_a_proxy_of_the_environment_carries_the_requests(s3_with_tls: S3Server, tmp_path: Path) -> None:
    """By `HTTPS_PROXY`, as a tunnel; `NO_PROXY` leaves it out."""
    mover = mover_at(tmp_path, s3_with_tls.url("by-proxy"))
    mover.create()
    with counting_proxy(s3_with_tls.port, is_tunnel=True) as proxy:
        mover.environment = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": "127.0.0.1"}
        mover("snapshot", "list", "--no-cache")
        assert proxy.downward.total() == 0
        mover.environment["NO_PROXY"] = ""
        mover("snapshot", "list", "--no-cache")
        assert proxy.downward.total() > 0


def test_a_server_of_an_unknown_authority_is_refused_at_once(s3_with_tls: S3Server, tmp_path: Path) -> None:
    """A certificate does not become good by trying again; skipping the check is a wish, and warned of."""
    url = s3_with_tls.url("tls/")
    unknown = url.partition("&ca-file=")[0]
    started = time.monotonic()
    done = mover_at(tmp_path, unknown)("repo", "status", check=False)
    assert done.returncode == 30, done.stderr
    assert b"certificate is not trusted" in done.stderr
    assert time.monotonic() - started < 10
    done = mover_at(tmp_path, f"{unknown}&insecure-skip-tls-verify=true")("repo", "status", check=False)
    assert b"certificate is not trusted" not in done.stderr
    assert b"certificates of the object store are not verified" in done.stderr


FAULTS = {
    "resets in mid-body": Fault(kind="reset_peer", attributes={"timeout": 30}, toxicity=0.3),
    "truncated bodies": Fault(kind="limit_data", attributes={"bytes": 3 << 20}, toxicity=0.3),
    "slow and far": Fault(kind="latency", attributes={"latency": 20, "jitter": 10}, toxicity=1.0),
    "thin": Fault(kind="bandwidth", attributes={"rate": 20_000}, toxicity=1.0),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_bad_network_costs_time_and_nothing_else(
    fault: Fault, s3: S3Server, bad_network: BadNetwork, kopia_binary: Path, tmp_path: Path
) -> None:
    """Backup and restore through a bad network; afterwards the repository is whole."""
    prefix = f"bad-{fault.kind}/"
    direct = mover_at(tmp_path, s3.url(prefix))
    direct.create()
    with bad_network.before(s3.port, fault) as port:
        mover = mover_at(tmp_path, s3.url(prefix, endpoint=f"http://127.0.0.1:{port}"))
        source = tree(tmp_path / "source", seed=5)
        snapshot = mover.backup(source)["id"]
        mover.restore(snapshot, tmp_path / "restored")
    assert contents(tmp_path / "restored") == contents(source)
    kopia = Kopia(kopia_binary, tmp_path / "kopia-home", tmp_path)
    kopia("repository", "connect", *s3.kopia_arguments(prefix))
    kopia.prove()


def test_credentials_that_are_rotated_during_a_backup_are_followed(
    s3: S3Server, bad_network: BadNetwork, tmp_path: Path
) -> None:
    """The account that a backup began with is deleted in its middle, when the file names another one."""
    rotated = tmp_path / "credentials"
    s3.admin("create-user", "--access", "FIRST", "--secret", "first-secret", "--role", "admin")
    write_credentials(rotated, "FIRST", "first-secret")
    source = tree(tmp_path / "source", seed=6)
    thin = Fault(kind="bandwidth", attributes={"rate": 8_000}, toxicity=1.0, stream="upstream")
    mover_at(tmp_path, s3.url("rotated", credentials=rotated)).create()
    with bad_network.before(s3.port, thin) as port:
        url = s3.url("rotated", endpoint=f"http://127.0.0.1:{port}", credentials=rotated)
        with ThreadPoolExecutor() as pool:
            backup = pool.submit(mover_at(tmp_path, url), "backup", source, "--json")
            time.sleep(1.5)
            assert not backup.done(), "the backup ended before the rotation: make the link thinner"
            write_credentials(rotated, ACCESS_KEY, SECRET_KEY)
            s3.admin("delete-user", "--access", "FIRST")
            done = backup.result()
    assert b"secret" not in done.stdout + done.stderr
    mover = mover_at(tmp_path, s3.url("rotated"))
    mover.restore(mover.snapshots()[0]["id"], tmp_path / "restored")
    assert contents(tmp_path / "restored") == contents(source)


def test_the_cache_keeps_sealed_bytes_within_its_bound_and_survives_damage(
    s3: S3Server, tmp_path: Path
) -> None:
    """Indexes and metadata come from the disk, which holds no plain text and stays within its bound."""
    mover = mover_at(tmp_path, s3.url("cached"))
    mover.create()
    source = tree(tmp_path / "source", seed=9)
    (source / "secret-name-of-a-file").write_bytes(b"plain text of the user" * 1000)
    snapshot = mover.backup(source)["id"]
    cache = tmp_path / "cache"
    options = ["--cache-directory", str(cache), "--cache-limit", "1M"]
    for target in ("first", "second"):
        mover.restore(snapshot, tmp_path / target, *options)
        assert contents(tmp_path / target) == contents(source)
    kept = [path for path in cache.rglob("*") if path.is_file() and path.name != "lock"]
    assert {path.name[:1] for path in kept} >= {"q", "x"}
    assert sum(path.stat().st_size for path in kept) <= 1 << 20
    together = b"".join(path.read_bytes() for path in kept)
    assert b"secret-name" not in together
    assert b"plain text" not in together
    for path in kept:
        path.write_bytes(path.read_bytes()[:-1])
    mover.restore(snapshot, tmp_path / "third", *options)
    assert contents(tmp_path / "third") == contents(source)
    mover.restore(snapshot, tmp_path / "fourth", "--cache-directory", str(tmp_path / "unused"), "--no-cache")
    assert not (tmp_path / "unused").exists()
