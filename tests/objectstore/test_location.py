"""A BackupStorageLocation in a file opens the repository that Velero's movers mean."""

from __future__ import annotations

import base64
import hashlib
import json
import tarfile
from pathlib import Path

import yaml

from tests.drivers import Kopia, Mover
from tests.objectstore.servers import BUCKET, S3Server
from tests.objectstore.source import contents, tree

VECTORS = Path(__file__).parents[1] / "fixtures" / "vectors" / "repos"


def location(server: S3Server) -> str:
    """A location with its Secret, as `kubectl get -o yaml` would give them."""
    assert server.ca_file is not None
    encoded = {
        name: base64.b64encode(path.read_bytes()).decode()
        for name, path in (("cloud", server.credentials), ("ca", server.ca_file))
    }
    spec = {
        "provider": "velero.io/aws",
        "credential": {"name": "keys", "key": "cloud"},
        "objectStorage": {"bucket": BUCKET, "prefix": "velero", "caCertRef": {"name": "keys", "key": "ca"}},
        "config": {"s3Url": server.endpoint, "region": "us-east-1", "s3ForcePathStyle": "true"},
    }
    secret = {"kind": "Secret", "metadata": {"name": "keys"}, "data": encoded}
    return yaml.safe_dump_all([{"kind": "BackupStorageLocation", "spec": spec}, secret])


def test_a_location_in_a_file_is_the_repository_of_veleros_movers(
    s3_with_tls: S3Server, kopia_binary: Path, tmp_path: Path
) -> None:
    """The real program made it where Velero's movers do; our snapshot is by their client identity."""
    kopia = Kopia(kopia_binary, tmp_path / "kopia-home", tmp_path)
    kopia("repository", "create", *s3_with_tls.kopia_arguments("velero/kopia/app/"))
    bsl = tmp_path / "bsl.yaml"
    bsl.write_text(location(s3_with_tls))
    mover = Mover(tmp_path / "mover-home", tmp_path)
    options = ["--bsl", str(bsl), "--namespace", "app"]
    source = tree(tmp_path / "source", seed=8)
    mover("backup", source, *options)
    (snapshot,) = kopia.snapshots()
    assert (snapshot["source"]["userName"], snapshot["source"]["host"]) == ("default", "default")
    kopia.restore(snapshot["id"], tmp_path / "restored")
    assert contents(tmp_path / "restored") == contents(source)
    done = mover("snapshot", "list", "--bsl", str(bsl), check=False)
    assert done.returncode == 2
    assert b"--namespace" in done.stderr


def test_a_repository_of_veleros_library_in_a_bucket_opens_by_its_location(
    s3_with_tls: S3Server, tmp_path: Path
) -> None:
    """Made with the calls of Velero's movers and their password.

    What Velero's own pods made is read in `tests/acceptance`, on the cluster that they run in.
    """
    with tarfile.open(VECTORS / "velero-like.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    expected = json.loads((VECTORS / "velero-like.expected.json").read_text())
    made = Mover(tmp_path / "mover-home", tmp_path / "velero-like", password=expected["password"])
    made("repo", "sync-to", s3_with_tls.url("velero/kopia/made/"))
    bsl = tmp_path / "bsl.yaml"
    bsl.write_text(location(s3_with_tls))
    options = ["--bsl", str(bsl), "--namespace", "made"]
    mover = Mover(tmp_path / "other-home", tmp_path, password=expected["password"])
    listed = {one["id"] for one in json.loads(mover("snapshot", "list", "--all", "--json", *options).stdout)}
    assert listed == {one["manifestID"] for one in expected["snapshots"]}
    largest = max(expected["snapshots"], key=lambda one: len(one["tree"]))
    mover("restore", largest["manifestID"], tmp_path / "restored", *options)
    digests = {
        name: hashlib.sha256(data).hexdigest() for name, data in contents(tmp_path / "restored").items()
    }
    files = {one["path"]: one["sha256"] for one in largest["tree"] if "sha256" in one}
    assert files
    assert files.items() <= digests.items()
