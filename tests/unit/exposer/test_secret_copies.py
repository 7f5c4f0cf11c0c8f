"""Secrets of encrypted classes, copied beside the intermediate PVC and taken back again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exposer.csi_snapshot import SnapshotSource, expose_csi_snapshot, hide_csi_snapshot
from exposer.errors import CopyTakenError, VolumeNotFoundError
from exposer.generic_restore import expose_new_volume, hide_new_volume
from exposer.secret_copies import COPY_LABEL, copy_secrets, remove_copies
from exposer.settings import BackupPvcSettings, CopiedNames, ExposeSettings
from kube.api import CONFIG_MAP, POD, PVC, SECRET, ForbiddenError
from kube.waiting import WaitTimeoutError
from tests.fakes import scene
from tests.fakes.kube import CrashError

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from kube.api import Json, Resource
    from tests.fakes.cluster import ClusterControllers
    from tests.fakes.kube import FakeKube

WANTED = SnapshotSource("app", "data", "velero-data-x", "fast")
NAMES = CopiedNames(("luks", "tokens"), ("kms",))
KEYS = {"key": "c2VjcmV0", "empty": ""}


@pytest.fixture(autouse=True)
def sources(kube: FakeKube) -> None:
    for name in NAMES.secrets:
        kube.put(
            SECRET,
            {
                "metadata": {"name": name, "namespace": "app", "labels": {"mine": "yes"}},
                "type": "example.test/key",
                "data": KEYS | {"of": name},
            },
        )
    kube.put(
        CONFIG_MAP,
        {
            "metadata": {"name": "kms", "namespace": "app"},
            "data": {"url": "https://kms.test"},
            "binaryData": {"ca": "AAEC/w=="},
        },
    )


@pytest.fixture
def encrypted(exposure: Exposure) -> Exposure:
    settings = ExposeSettings(backup_pvc={"fast": BackupPvcSettings(copied=NAMES)}, restore_copied=NAMES)
    return replace(exposure, settings=settings)


def copies(kube: FakeKube) -> dict[str, Json]:
    return {
        f"{plural}/{name}": body
        for (plural, namespace, name), body in kube.objects.items()
        if namespace == "velero" and plural in (SECRET.plural, CONFIG_MAP.plural)
    }


def another(exposure: Exposure, number: int = 2) -> Exposure:
    return replace(exposure, name=f"move-{number}", uid=f"uid-{number}")


async def test_b4_backup_of_an_encrypted_class_has_its_keys_before_its_claim(
    kube: FakeKube, controllers: ClusterControllers, encrypted: Exposure
) -> None:
    made: list[str] = []
    create = kube.create

    async def recorded(resource: Resource, namespace: str, body: Json) -> Json:
        made.append(f"{resource.kind} {body['metadata']['name']}")
        return await create(resource, namespace, body)

    kube.create = recorded  # type: ignore[method-assign]
    await expose_csi_snapshot(encrypted, WANTED)
    assert {"ConfigMap kms", "Secret luks", "Secret tokens"} == set(
        made[made.index("VolumeSnapshotContent move-1") + 1 : made.index("PersistentVolumeClaim move-1")]
    )
    found = copies(kube)
    assert found["secrets/luks"]["data"] == KEYS | {"of": "luks"}
    assert found["secrets/luks"]["type"] == "example.test/key"
    assert found["configmaps/kms"]["data"] == {"url": "https://kms.test"}
    assert found["configmaps/kms"]["binaryData"] == {"ca": "AAEC/w=="}
    assert {str(body["metadata"]["labels"]) for body in found.values()} == {str({COPY_LABEL: "uid-1"})}
    await hide_csi_snapshot(encrypted, WANTED)
    assert copies(kube) == {}
    assert (await kube.get(SECRET, "app", "luks"))["data"] == KEYS | {"of": "luks"}


async def test_b4_restore_has_the_keys_of_the_targets_namespace(
    kube: FakeKube, controllers: ClusterControllers, encrypted: Exposure
) -> None:
    kube.put(PVC, scene.claim("new", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}}))
    await expose_new_volume(encrypted, "app", "new")
    assert copies(kube)["secrets/tokens"]["data"] == KEYS | {"of": "tokens"}
    await hide_new_volume(encrypted)
    assert copies(kube) == {}


async def test_b4_two_moves_that_need_the_same_secret_take_turns(kube: FakeKube, encrypted: Exposure) -> None:
    told: list[str] = []
    second = replace(another(encrypted), tell=told.append)
    await copy_secrets(encrypted, "app", NAMES)
    waiting = asyncio.create_task(copy_secrets(second, "app", NAMES))
    while not any("in use by another move" in text for text in told):
        assert not waiting.done()
        await asyncio.sleep(0)
    assert copies(kube)["configmaps/kms"]["metadata"]["labels"] == {COPY_LABEL: "uid-1"}
    await remove_copies(kube, "velero", "uid-1")
    await asyncio.wait_for(waiting, 5)
    assert {body["metadata"]["labels"][COPY_LABEL] for body in copies(kube).values()} == {"uid-2"}
    await remove_copies(kube, "velero", "uid-1")  # once more, as after a crash: what is another's stays
    assert len(copies(kube)) == 3


async def test_b4_moves_that_ask_in_another_order_do_not_wait_for_one_another_for_ever(
    kube: FakeKube, encrypted: Exposure
) -> None:
    async def run(one: Exposure, names: CopiedNames) -> None:
        await copy_secrets(one, "app", names)
        await remove_copies(kube, "velero", one.uid)

    turned = CopiedNames(NAMES.secrets[::-1], NAMES.config_maps)
    everybody = (run(another(encrypted, i), NAMES if i % 2 else turned) for i in range(2, 8))
    await asyncio.wait_for(asyncio.gather(*everybody), 10)
    assert copies(kube) == {}


async def test_b4_copy_that_is_not_given_up_ends_the_wait_with_its_holder(
    kube: FakeKube, encrypted: Exposure
) -> None:
    await copy_secrets(encrypted, "app", NAMES)
    with pytest.raises(WaitTimeoutError, match=r"ConfigMap velero/kms.*uid-1"):
        await copy_secrets(replace(another(encrypted), prepare_seconds=0.05), "app", NAMES)


@pytest.mark.parametrize("same", [True, False])
async def test_b4_secret_of_veleros_own_is_never_written_to_and_never_removed(
    kube: FakeKube, encrypted: Exposure, *, same: bool
) -> None:
    own = await kube.get(SECRET, "app", "luks")
    own["metadata"] = {"name": "luks", "namespace": "velero"}
    own["data"] = own["data"] if same else {"key": "b3duZWQ="}
    kube.put(SECRET, own)
    if same:
        await copy_secrets(encrypted, "app", NAMES)
    else:
        with pytest.raises(CopyTakenError, match=r"Secret velero/luks exists with other content"):
            await copy_secrets(encrypted, "app", NAMES)
    await remove_copies(kube, "velero", "uid-1")
    assert list(copies(kube)) == ["secrets/luks"]
    assert copies(kube)["secrets/luks"]["data"] == own["data"]


async def test_b4_key_that_was_changed_between_two_passes_is_copied_anew(
    kube: FakeKube, encrypted: Exposure
) -> None:
    await copy_secrets(encrypted, "app", NAMES)
    kube.change(SECRET, "app", "luks", {"data": {"key": "bmV3"}})
    await copy_secrets(encrypted, "app", NAMES)
    assert copies(kube)["secrets/luks"]["data"]["key"] == "bmV3"


async def test_b4_missing_secret_is_named_and_nothing_is_copied_over_namespaces(
    kube: FakeKube, encrypted: Exposure
) -> None:
    with pytest.raises(VolumeNotFoundError, match="Secret app/lost"):
        await copy_secrets(encrypted, "app", CopiedNames(("lost",)))
    await copy_secrets(encrypted, "velero", CopiedNames(("lost",)))  # they are there already
    assert copies(kube) == {}


@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_b4_crash_after_a_copy_and_deletion_of_the_move_leave_nothing(
    kube: FakeKube, controllers: ClusterControllers, encrypted: Exposure, nth: int
) -> None:
    """Two faults at once: the agent dies after the nth copy; before its successor exposes, the move is deleted."""
    create, made = kube.create, []

    async def dying(resource: Resource, namespace: str, body: Json) -> Json:
        created = await create(resource, namespace, body)
        if resource in (SECRET, CONFIG_MAP):
            made.append(body["metadata"]["name"])
            if len(made) == nth:
                raise CrashError
        return created

    kube.create = dying  # type: ignore[method-assign]
    with pytest.raises(CrashError):
        await expose_csi_snapshot(encrypted, WANTED)
    assert len(copies(kube)) == nth
    await hide_csi_snapshot(encrypted, WANTED)
    assert copies(kube) == {}
    assert kube.names(POD) == []
    assert kube.names(PVC) == ["data"]


async def test_b4_rights_from_before_there_were_copies_do_not_stop_clean_up(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    listing = kube.list

    async def forbidden(resource: Resource, *given: Any, **named: Any) -> Any:
        if resource is SECRET:
            raise ForbiddenError("secrets is forbidden", status=403)
        return await listing(resource, *given, **named)

    kube.list = forbidden  # type: ignore[method-assign]
    await expose_csi_snapshot(exposure, WANTED)
    await hide_csi_snapshot(exposure, WANTED)
    assert kube.names(PVC) == ["data"]
