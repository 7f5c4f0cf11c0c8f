"""S3 by a real server: the promises of the storage, and both programs on one bucket."""

from __future__ import annotations

import os
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover
from tests.objectstore.bad_network import BadNetwork, Fault
from tests.objectstore.servers import ACCESS_KEY, SECRET_KEY, S3Server, write_credentials

ROOT = Path(__file__).parents[2]
CARGO_SECONDS_MAX = 900


def tree(root: Path, *, seed: int) -> Path:
    """A few hundred small files and one of several packs."""
    for number in range(300):
        path = root / f"d{number % 7}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{seed} {number} ".encode() * (number % 50))
    (root / "large").write_bytes(random.Random(seed).randbytes(30 << 20))
    return root


def contents(root: Path) -> dict[str, bytes]:
    """Every file below `root` by its name."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def mover_at(tmp_path: Path, url: str) -> Mover:
    """Our program on a URL."""
    return Mover(tmp_path / "mover-home", url)  # type: ignore[arg-type]


def test_the_storage_keeps_every_promise(s3: S3Server) -> None:
    """The conformance suite of the engine, with a listing of 10,000 blobs."""
    command = ["cargo", "test", "--quiet", "--package", "kopia-engine", "--test", "storage_s3", "--"]
    command += ["--ignored", "--test-threads", "1"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"KOPIA_TEST_S3": s3.url("conformance")},
        capture_output=True,
        text=True,
        check=False,
        timeout=CARGO_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "4 passed" in done.stdout, done.stdout


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


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_repository_of_ours_is_kopias(
    tls: bool, request: pytest.FixtureRequest, kopia_binary: Path, tmp_path: Path
) -> None:
    """We create and back up; the real program verifies every byte, and backs up for us to restore."""
    server: S3Server = request.getfixturevalue("s3_with_tls" if tls else "s3")
    prefix = f"ours-{tls}/kopia/ns/"
    mover = mover_at(tmp_path, server.url(prefix))
    mover.create()
    ours = tree(tmp_path / "ours", seed=1)
    mover.backup(ours)

    kopia = Kopia(kopia_binary, tmp_path / "kopia-home", tmp_path)
    kopia("repository", "connect", *server.kopia_arguments(prefix))
    kopia.prove()
    theirs = tree(tmp_path / "theirs", seed=2)
    kopia.backup(theirs)

    snapshot = next(one["id"] for one in mover.snapshots() if one["source"]["path"] == str(theirs))
    mover.restore(snapshot, tmp_path / "restored")
    assert contents(tmp_path / "restored") == contents(theirs)


def test_a_repository_of_kopia_is_ours(s3: S3Server, kopia_binary: Path, tmp_path: Path) -> None:
    """The real program creates and backs up; we restore it and back up for it to restore."""
    kopia = Kopia(kopia_binary, tmp_path / "kopia-home", tmp_path)
    kopia("repository", "create", *s3.kopia_arguments("theirs/"))
    theirs = tree(tmp_path / "theirs", seed=3)
    snapshot = kopia.backup(theirs)["id"]

    mover = mover_at(tmp_path, s3.url("theirs"))
    mover.restore(snapshot, tmp_path / "restored")
    assert contents(tmp_path / "restored") == contents(theirs)
    ours = tree(tmp_path / "ours", seed=4)
    mover.backup(ours)
    snapshot = next(one["id"] for one in kopia.snapshots() if one["source"]["path"] == str(ours))
    kopia.restore(snapshot, tmp_path / "restored-by-kopia")
    assert contents(tmp_path / "restored-by-kopia") == contents(ours)


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
