"""From what a bucket says to volumes: none that any source knows is lost, and nothing of any shape is a failure."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.velero_buckets import movement_info, operation, pod_volume_backup, pod_volume_info
from velero_store.join import Sources, needs_tarball, volumes_of
from velero_store.tarball import TarFindings
from velero_store.targets import target_paths
from velero_store.volumes import State

NAMESPACES = ("shop", "crm")
NAMES = ("data", "log", "pods", "data.img")
PODS = ("db-0", "web-0")
places = st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(NAMES))
pod_places = st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(PODS), st.sampled_from(NAMES))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
KEYS = (
    "metadata spec status pod volume namespace name pvcName pvbInfo snapshotDataMoved snapshotID phase annotations "
    "snapshotDataMovementInfo resourceIdentifier postOperationItems"
)
keys = st.sampled_from(KEYS.split())
shapes = st.recursive(
    json_values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5)
)


def snapshot_of(*parts: str) -> str:
    """Another ID for another place."""
    return f"{abs(hash(parts)):032x}"[-32:]


def upload(namespace: str, claim: str) -> dict[str, Any]:
    """A complete DataUpload as the tarball's reader keeps it."""
    spec = {"sourceNamespace": namespace, "sourcePVC": claim, "datamover": ""}
    return {"spec": spec, "status": {"phase": "Completed", "snapshotID": snapshot_of(namespace, claim)}}


@settings(max_examples=60)
@given(
    saved=st.sets(pod_places),
    forgotten=st.sets(pod_places),
    uploads=st.sets(places),
    told=st.sets(places),
    handles=st.booleans(),
    operations=st.sets(places),
)
def test_every_record_of_any_source_is_a_volume(
    *,
    saved: set[tuple[str, str, str]],
    forgotten: set[tuple[str, str, str]],
    uploads: set[tuple[str, str]],
    told: set[tuple[str, str]],
    handles: bool,
    operations: set[tuple[str, str]],
) -> None:
    sources = Sources(
        backup="b",
        pod_volume_backups=[pod_volume_backup(*place, snapshot_of(*place)) for place in sorted(saved)],
        volume_info=[
            *(pod_volume_info(*place, snapshot_of(*place)) for place in sorted(forgotten)),
            *(movement_info(*place, snapshot_of(*place) if handles else "") for place in sorted(told)),
        ],
        operations=[operation(*place) for place in sorted(operations)],
        tarball=TarFindings(uploads={place: upload(*place) for place in uploads}),
    )
    volumes = volumes_of(sources)
    by_pod = {(one.namespace, one.pod, one.pod_volume): one.snapshot_id for one in volumes if one.pod}
    assert by_pod == {place: snapshot_of(*place) for place in saved | forgotten}
    moved = {(one.namespace, one.claim): one for one in volumes if not one.pod}
    assert set(moved) == uploads | told | operations
    for place, volume in moved.items():
        is_named = place in uploads or (place in told and handles)
        assert volume.snapshot_id == (snapshot_of(*place) if is_named else "")
        assert (volume.state is State.RESTORABLE) == is_named
    assert needs_tarball(sources) or (operations <= told and (handles or not told))
    paths = target_paths([(one, number % 2 == 0) for number, one in enumerate(volumes)])
    assert len(set(paths)) == len(paths)
    assert not {parent for path in paths for parent in path.parents} & set(paths)


@settings(max_examples=40)
@given(st.lists(shapes, max_size=4), st.lists(shapes, max_size=4), st.lists(shapes, max_size=4))
def test_documents_of_any_shape_are_no_failure(
    saved: list[Any], told: list[Any], operations: list[Any]
) -> None:
    lists = [[one for one in found if isinstance(one, dict)] for found in (saved, told, operations)]
    sources = Sources(backup="b", pod_volume_backups=lists[0], volume_info=lists[1], operations=lists[2])
    needs_tarball(sources)
    for volume in volumes_of(sources):
        assert volume.document()["namespace"] == volume.namespace
    target_paths([(one, True) for one in volumes_of(sources)])
