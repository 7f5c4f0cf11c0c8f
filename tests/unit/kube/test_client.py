"""What never leaves the client: names that would make another request of the one that is meant."""

from __future__ import annotations

import json

import pytest
from kubernetes.aio.client import Configuration

from kube.api import PVC, SECRET, VOLUME_SNAPSHOT, ForbiddenError, KubeError, NotFoundError
from kube.client import KubeClient, _json, _path, _path_of_one, _raise_for

NO_NAMES = ["", ".", "..", "../../secrets/x", "a/b", "a%2fb"]


async def nobody() -> Configuration:
    return Configuration(host="https://127.0.0.1:1")


@pytest.mark.parametrize("name", NO_NAMES)
async def test_what_can_be_no_name_is_not_there_and_is_never_asked_for(name: str) -> None:
    async with KubeClient(nobody) as kube:
        with pytest.raises(NotFoundError, match="is no name of a PersistentVolumeClaim"):
            await kube.get(PVC, "app", name)
        with pytest.raises(NotFoundError):
            await kube.patch(PVC, "app", name, {})
        assert not await kube.delete(VOLUME_SNAPSHOT, "app", name)


@pytest.mark.parametrize("namespace", [name for name in NO_NAMES if name])
def test_namespace_is_no_path_either(namespace: str) -> None:
    with pytest.raises(NotFoundError):
        _path(SECRET, namespace, "x")


def test_letters_that_mean_something_in_a_url_are_quoted() -> None:
    assert (
        _path_of_one(PVC, "app", "a?b#c d") == "/api/v1/namespaces/app/persistentvolumeclaims/a%3Fb%23c%20d"
    )


@pytest.mark.parametrize(
    ("message", "temporary"),
    [
        ('pods "m" is forbidden: exceeded quota: q, requested: pods=1, used: pods=9, limited: pods=9', True),
        ('pods "m" is forbidden: status unknown for quota: q, resources: pods', True),
        ('pods "m" is forbidden: failed quota: q: must specify requests.memory', False),
        ('pods is forbidden: User "x" cannot create resource "pods"', False),
    ],
)
def test_full_quota_is_waited_for_and_a_missing_right_is_not(message: str, *, temporary: bool) -> None:
    body = json.dumps({"kind": "Status", "reason": "Forbidden", "message": message}).encode()
    with pytest.raises(ForbiddenError, match="is forbidden") as caught:
        _raise_for(403, "POST", "/x", body)
    assert caught.value.temporary is temporary


@pytest.mark.parametrize("text", [b"", b"{", b"<html>", b"[]"])
def test_answer_that_a_proxy_has_spoilt_is_a_failure_that_can_heal(text: bytes) -> None:
    with pytest.raises(KubeError, match="GET /x: answer is not") as caught:
        _json(text, "GET /x")
    assert caught.value.temporary
