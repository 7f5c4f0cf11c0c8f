"""`ensure_created`: made by us, found made already, or neither, because a namesake went meanwhile."""

from __future__ import annotations

import pytest

from kube.api import PVC, AlreadyExistsError, ConflictError, KubeError, Resource, ensure_created
from tests.fakes.kube import FakeKube
from tests.fakes.scene import claim


async def test_a_namesake_that_goes_between_create_and_read_is_no_reason_to_fail() -> None:
    """Found by the simulation: the old object answers 409, then 404; the new one is made at the next try."""
    kube = FakeKube()
    there = [True]

    def fail(verb: str, _resource: Resource, name: str) -> KubeError | None:
        return (
            AlreadyExistsError(f"{name} already exists", status=409)
            if verb == "create" and there[0]
            else None
        )

    kube.fail = fail
    with pytest.raises(ConflictError) as caught:
        await ensure_created(kube, PVC, "velero", claim("move-1", "velero"))
    assert caught.value.temporary
    there[0] = False
    made = await ensure_created(kube, PVC, "velero", claim("move-1", "velero"))
    assert made["metadata"]["uid"]
