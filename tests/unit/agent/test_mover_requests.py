"""From custom resources to what a mover is told: place of the repository, credentials, cache. No cluster."""

from __future__ import annotations

import pytest

from agent.control.mover_inputs import MoverInputError, read_inputs, repository_access, with_mounted_authority
from agent.moves.mover_request import build_request
from exposer.access_point import AccessPoint, VolumeMode
from kube.api import SECRET
from mover.kopia_engine import _cache_bytes_max
from mover.protocol import RepositoryAccess, decode_request, encode_request
from repository.location import repository_url
from tests.fakes import scene
from tests.fakes.kube import FakeKube
from tests.fakes.resources import move

POINT = AccessPoint("/uid-move-1", VolumeMode.FILESYSTEM)
S3 = {
    "provider": "aws",
    "objectStorage": {"bucket": "backups", "prefix": "velero", "caCert": "Y2E="},
    "config": {"region": "eu-1", "s3Url": "https://minio.example:9000", "s3ForcePathStyle": "true"},
    "credential": {"name": "store-keys", "key": "cloud"},
}


async def told(kind: str, *, cached: bool = False, cache_limit_mib: int = 0) -> RepositoryAccess:
    """The repository in a request that went through its JSON, as the mover reads it."""
    kube = FakeKube()
    kube.put(SECRET, scene.password_secret())
    kube.put(SECRET, {"metadata": {"name": "store-keys", "namespace": "velero"}, "data": {"cloud": "eA=="}})
    body = scene.storage_location()
    body["spec"] = S3
    kube.put(scene.BACKUP_STORAGE_LOCATION, body)
    inputs = await read_inputs(kube, "velero", "default")
    access = repository_access(inputs, move(kind), cached=cached, cache_limit_mib=cache_limit_mib)
    return decode_request(encode_request(build_request(move(kind), POINT, access))).repository


@pytest.mark.parametrize("kind", ["DataUpload", "DataDownload", "PodVolumeBackup", "PodVolumeRestore"])
async def test_bucket_of_the_location_is_the_repository_s_url(kind: str) -> None:
    access = await told(kind)
    url = repository_url(
        access.location, access.volume_namespace, credentials_path=access.credentials_path, ca_path="/ca.pem"
    )
    assert url.startswith("s3://backups/velero/kopia/app/?")
    for part in ("region=eu-1", "endpoint=https%3A%2F%2Fminio.example%3A9000", "path-style=true"):
        assert part in url
    assert "credentials" in url


async def test_few_ca_certificates_travel_in_the_request_and_a_bundle_does_not() -> None:
    kube = FakeKube()
    kube.put(SECRET, scene.password_secret())
    large = scene.large_authority()
    store = S3["objectStorage"]
    for name, changed in (
        ("small", store),
        ("large", store | {"caCert": large}),
        ("secret", store | {"caCert": large, "caCertRef": {"name": "velero-repo-credentials", "key": "x"}}),
    ):
        kube.put(scene.BACKUP_STORAGE_LOCATION, scene.storage_location(name, objectStorage=changed))
    kube.change(SECRET, "velero", "velero-repo-credentials", {"data": {"x": "eA=="}})
    inputs = {name: await read_inputs(kube, "velero", name) for name in ("small", "large", "secret")}
    assert {name: one.large_authority for name, one in inputs.items()} == {
        "small": "",
        "large": large,
        "secret": "",
    }
    access = repository_access(inputs["large"], move("DataUpload"), cached=False, cache_limit_mib=0)
    told = with_mounted_authority(access, mounted=True)
    assert told.ca_certificate_path == "/var/run/kopia-data-mover/authority/ca.crt"
    assert told.location["objectStorage"] == {"bucket": "backups", "prefix": "velero"}
    with pytest.raises(MoverInputError, match="came after the hosting pod was made"):
        with_mounted_authority(access, mounted=False)


async def test_secrets_are_named_by_their_mounted_files_and_never_carried() -> None:
    access = await told("DataUpload")
    assert access.password_path == "/var/run/kopia-data-mover/password/repository-password"
    assert access.credentials_path == "/var/run/kopia-data-mover/credentials/cloud"
    assert "c3RhdGlj" not in str(access)
    assert "static-passw0rd" not in str(access)


async def test_cache_volume_and_its_limit_reach_the_engine() -> None:
    access = await told("DataDownload", cached=True, cache_limit_mib=2000)
    assert (access.cache_path, access.cache_limit_mib) == ("/cachedir", 2000)
    assert _cache_bytes_max(access) == 2000 << 20


@pytest.mark.parametrize(
    ("cached", "limit", "mib"),
    [(True, 0, 5000), (True, 8000, 8000), (False, 0, 512), (False, 8000, 512), (False, 100, 100)],
)
async def test_cache_on_the_pod_s_own_disk_is_small(cached: bool, limit: int, mib: int) -> None:
    access = await told("PodVolumeRestore", cached=cached, cache_limit_mib=limit)
    assert _cache_bytes_max(access) == mib << 20


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("7", 7),
        ("1000000000", 256),
        ("9" * 5000, 256),
        ("\u00b2", 0),
        ("\u0663", 0),
        ("-1", 0),
        ("1e3", 0),
        ("", 0),
    ],
)
async def test_number_of_files_is_read_in_ascii_and_bounded(text: str, files: int) -> None:
    access = await told("DataUpload")
    asked = move("DataUpload", spec={"dataMoverConfig": {"ParallelFilesUpload": text}})
    assert build_request(asked, POINT, access).parallel == files
