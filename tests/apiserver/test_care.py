"""Care of Velero's repositories through the real API server, on repositories that the real kopia made and opens."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from agent.care import change_passwords as passwords
from agent.care.change_passwords import PasswordChangeError, change_passwords
from agent.care.locations import Place, find_places, opened
from agent.care.maintenance import JOB, job_label
from agent.control.backup_repository import BACKUP_REPOSITORY, RepositoryKey
from agent.control.mover_inputs import BACKUP_STORAGE_LOCATION, PASSWORD_SECRET
from kube.api import SECRET
from tests.apiserver.manifests import kubeconfig
from tests.apiserver.mover_process import MoverProcess
from tests.apiserver.repository import grow_tree
from tests.conftest import real_program
from tests.fakes import scene
from tests.objectstore.servers import BUCKET, S3Server, make_certificate, s3_server
from tests.programs import S3_SERVER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.apiserver.conftest import Stage

pytest.importorskip("repository._native", reason="the engine is not built: make build")

OLD, NEW = "static-passw0rd", "a new one"


@dataclass
class Care:
    stage: Stage
    kopia_binary: Path
    root: Path
    kubeconfig: Path

    def path(self, namespace: str) -> Path:
        return self.root / "kopia" / namespace

    def kopia(self, namespace: str, password: str, *arguments: str) -> int:
        return self.kopia_at(["filesystem", "--path", str(self.path(namespace))], password, *arguments)

    def kopia_at(self, storage: list[str], password: str, *arguments: str) -> int:
        environment = os.environ | {"KOPIA_PASSWORD": password, "KOPIA_CHECK_FOR_UPDATES": "false"}
        client = self.root / f"client-{len(list(self.root.iterdir()))}"  # a new one: nothing is in its cache
        client.mkdir()
        environment["KOPIA_CACHE_DIRECTORY"] = str(client / "cache")
        config = ["--config-file", str(client / "config")]
        identity = ["--override-username", "default", "--override-hostname", "default"]
        command = [
            str(self.kopia_binary),
            *config,
            *arguments,
            *storage,
            *identity,
        ]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    def opens(self, namespace: str, password: str) -> bool:
        return self.kopia(namespace, password, "repository", "connect") == 0

    def kopia_in(self, server: S3Server, password: str, verb: str) -> int:
        """Create the bucket's repository of namespace `app`, or connect to it."""
        return self.kopia_at(server.kopia_arguments("velero/kopia/app/"), password, "repository", verb)

    async def add(self, namespace: str, *, made: bool = True, location: str = "default") -> None:
        if made:
            await asyncio.to_thread(self.path(namespace).mkdir, parents=True)
            assert self.kopia(namespace, OLD, "repository", "create") == 0
        spec = {
            "volumeNamespace": namespace,
            "backupStorageLocation": location,
            "repositoryType": "kopia",
            "maintenanceFrequency": "1h0m0s",
        }
        labels = RepositoryKey(namespace, location).labels
        meta = {"name": f"{namespace}-{location}-kopia", "namespace": "velero", "labels": labels}
        body = {"metadata": meta, "spec": spec}
        await self.stage.kube.create(BACKUP_REPOSITORY, "velero", body)

    async def password(self, key: str = "repository-password") -> str:
        body = await self.stage.kube.get(SECRET, "velero", PASSWORD_SECRET)
        return base64.b64decode(body["data"].get(key, "")).decode()

    def opens_with_ours(self, namespace: str, known: list[str]) -> bool:
        with opened(
            Place(namespace, "default", f"file://{self.path(namespace)}"), [one.encode() for one in known]
        ):
            return True

    async def change(self, scratch: Path) -> passwords.Change:
        await asyncio.to_thread(scratch.mkdir)
        places = await find_places(self.stage.kube, "velero", scratch)
        return await change_passwords(
            self.stage.kube, "velero", places, NEW.encode(), say=lambda _: None, settle_seconds=0
        )

    async def remove_job(self, name: str) -> None:
        await self.stage.kube.delete(JOB, "velero", name)
        await self.stage.kube.patch(JOB, "velero", name, {"metadata": {"finalizers": None}})

    def node_agent(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agent.cli", *arguments, "-n", "velero"]
        environment = os.environ | {"KOPIA_NEW_PASSWORD": NEW, "HOME": str(self.root)}
        return subprocess.run(
            [*command, "--kubeconfig", str(self.kubeconfig)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
async def care(stage: Stage, kopia_binary: Path, tmp_path: Path) -> AsyncIterator[Care]:
    root = tmp_path / "location"
    await asyncio.to_thread((root / "kopia").mkdir, parents=True)
    await stage.kube.patch(
        BACKUP_STORAGE_LOCATION, "velero", "default", {"spec": {"config": {"fspath": str(root)}}}
    )
    care = Care(stage, kopia_binary, root, kubeconfig(stage.plane, tmp_path))
    yield care
    for job in (await stage.kube.list(JOB, "velero")).items:
        await care.remove_job(job["metadata"]["name"])
    spare = {"data": {"repository-password-next": None} | scene.password_secret()["data"]}
    await stage.kube.patch(SECRET, "velero", PASSWORD_SECRET, spare)


class KilledError(BaseException):
    """The command's process ends here."""


async def test_change_that_is_killed_at_each_of_its_steps_goes_on_where_it_was(
    care: Care, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await care.add("app")
    await care.add("shop")
    await care.add("later", made=False)
    for moment in ("published", "half", "all", "secret"):
        with monkeypatch.context() as killing:
            kill_at(moment, killing)
            with pytest.raises((KilledError, PasswordChangeError)):
                await care.change(tmp_path / moment)
        known = [await care.password(), await care.password("repository-password-next")]
        assert care.opens_with_ours("app", known)
        assert care.opens_with_ours("shop", known)
    done = await care.change(tmp_path / "last")
    assert (done.changed, done.absent) == ((), ("later-default-kopia",))
    assert done.had_been_changed == ("app-default-kopia", "shop-default-kopia")
    assert [await care.password(), await care.password("repository-password-next")] == [NEW, ""]
    for namespace in ("app", "shop"):
        assert care.opens(namespace, NEW)
        assert not care.opens(namespace, OLD)


def kill_at(moment: str, killing: pytest.MonkeyPatch) -> None:
    """Let the command die: after the new password is published, half-way, before and after the Secret is changed."""
    real_change, real_patch = passwords.change_password, passwords._patch_secret

    def change(url: str, old: str, new: str) -> Any:
        if moment == "published" or (moment == "half" and url.endswith("shop")):
            raise KilledError
        return real_change(url, old, new)

    async def patch(kube: Any, namespace: str, before: Any, data: dict[str, Any]) -> None:
        takes_over = "repository-password" in data
        if moment == "all" and takes_over:
            raise KilledError
        await real_patch(kube, namespace, before, data)
        if moment == "secret" and takes_over:
            raise KilledError

    killing.setattr(passwords, "change_password", change)
    killing.setattr(passwords, "_patch_secret", patch)


async def test_nothing_is_changed_if_one_repository_opens_with_neither_password(
    care: Care, tmp_path: Path
) -> None:
    await care.add("app")
    await care.add("shop")
    stranger = [Place("stranger", "default", f"file://{care.path('shop')}")]
    passwords.change_password(stranger[0].url, OLD, "somebody else's")
    with pytest.raises(
        PasswordChangeError, match=r"nothing was changed: .*shop-default-kopia opens with neither"
    ):
        await care.change(tmp_path / "scratch")
    assert [await care.password(), await care.password("repository-password-next")] == [OLD, ""]
    assert care.opens("app", OLD)


async def test_command_says_how_long_the_server_was_locked_out(care: Care) -> None:
    await care.add("app")
    refused = care.node_agent("change-passwords", "--location", "other")
    assert refused.returncode == 1
    assert "one Secret serves all locations: repositories of default would be locked out" in refused.stderr
    done = care.node_agent("change-passwords", "--location", "default", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["changed"] == ["app-default-kopia"]
    assert 0 < document["serverLockedOutSeconds"] < 60
    assert OLD not in done.stderr + done.stdout
    assert NEW not in done.stderr + done.stdout
    again = care.node_agent("change-passwords", "--location", "default")
    assert again.returncode == 0, again.stderr
    assert "locked out for 0.0 s" in again.stdout


async def test_maintenance_is_refused_while_a_job_of_the_server_runs(care: Care) -> None:
    await care.add("app")
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}}
    labels = {"velero.io/repo-name": job_label("app-default-kopia")}
    meta = {"name": "app-default-kopia-maintain-job-1", "labels": labels}
    await care.stage.kube.create(JOB, "velero", {"metadata": meta, "spec": {"template": template}})
    refused = care.node_agent("maintain", "app-default-kopia", "--full")
    assert refused.returncode == 1, refused
    assert "Velero maintains app-default-kopia now: Job app-default-kopia-maintain-job-1" in refused.stderr
    await care.remove_job(meta["name"])
    done = care.node_agent("maintain", "app-default-kopia", "--full")
    assert done.returncode == 0, done.stderr
    assert "full maintenance" in done.stdout
    unknown = care.node_agent("maintain", "shop-default-kopia")
    assert "there is no BackupRepository velero/shop-default-kopia" in unknown.stderr


@pytest.fixture
async def bucket(care: Care, tmp_path: Path) -> AsyncIterator[S3Server]:
    """A location in a bucket behind TLS, with credentials of its own and the repository of namespace `app`."""
    kube = care.stage.kube
    certificate = make_certificate(tmp_path)
    with s3_server(real_program(S3_SERVER), tmp_path, certificate) as server:
        assert care.kopia_in(server, OLD, "create") == 0
        credentials = base64.b64encode(server.credentials.read_bytes()).decode()
        await kube.put(
            SECRET, {"metadata": {"name": "bucket", "namespace": "velero"}, "data": {"cloud": credentials}}
        )
        store = {
            "bucket": BUCKET,
            "prefix": "velero",
            "caCert": base64.b64encode(certificate.authority.read_bytes()).decode(),
        }
        location = scene.storage_location("bucket", provider="aws", objectStorage=store)
        location["spec"] |= {
            "config": {"region": "us-east-1", "s3Url": server.endpoint, "s3ForcePathStyle": "true"},
            "credential": {"name": "bucket", "key": "cloud"},
        }
        await kube.put(BACKUP_STORAGE_LOCATION, location)
        await care.add("app", made=False, location="bucket")
        yield server
    await kube.delete(BACKUP_STORAGE_LOCATION, "velero", "bucket")
    await kube.delete(SECRET, "velero", "bucket")


async def test_movers_reach_a_bucket_before_while_and_after_its_password_is_changed(
    care: Care, bucket: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, source = care.stage, tmp_path / "source"
    grow_tree(source)
    await stage.running_pod()
    directory = f"/var/lib/kubelet/pods/{stage.pod_uid}/volumes/kubernetes.io~empty-dir/data"
    stage.kubelet.mover = MoverProcess(stage.kube, tmp_path / "pods", {directory: source})
    await stage.start_agent()

    async def back_up(name: str) -> None:
        await stage.create("PodVolumeBackup", name, spec={"backupStorageLocation": "bucket"})
        await stage.phase("PodVolumeBackup", "Completed", name, seconds=60)

    await back_up("before")
    with monkeypatch.context() as killing:
        kill_at("all", killing)
        with pytest.raises(KilledError):
            await care.change(tmp_path / "killed")
    assert [await care.password(), await care.password("repository-password-next")] == [OLD, NEW]
    assert care.kopia_in(bucket, OLD, "connect") != 0
    await back_up("while")
    done = await asyncio.to_thread(care.node_agent, "change-passwords", "--location", "bucket", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hadBeenChanged"] == ["app-bucket-kopia"]
    assert [await care.password(), await care.password("repository-password-next")] == [NEW, ""]
    await back_up("after")
    assert care.kopia_in(bucket, NEW, "connect") == 0
