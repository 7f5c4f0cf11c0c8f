"""Where the volumes of a backup go when all of them are restored below one directory. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from velero_store.fields import is_name
from velero_store.volumes import Volume

IMAGE_SUFFIX = ".img"
NAMELESS = "unnamed"


def target_paths(volumes: Sequence[tuple[Volume, bool]]) -> list[PurePosixPath]:
    """Where each volume goes; block devices are marked `True`.

    `NAMESPACE/PVC`, `NAMESPACE/pods/POD/VOLUME`, or of a block device the same with `.img`. No two are the
    same or lie in one another (a claim may be named `pods` or `data.img`): those that would get `~` and their
    place in the list, which no name has. Names that no object of Kubernetes can have are left out.
    """
    wanted = [_wanted(volume, is_block=is_block) for volume, is_block in volumes]
    counts = Counter(wanted)
    above = {parent for path in wanted for parent in path.parents}
    return [
        path.with_name(f"{path.name}~{number}") if counts[path] > 1 or path in above else path
        for number, path in enumerate(wanted, 1)
    ]


def _wanted(volume: Volume, *, is_block: bool) -> PurePosixPath:
    parts = [volume.namespace, *volume.name.split("/")]
    if not all(map(is_name, parts)):
        return PurePosixPath(NAMELESS)
    path = PurePosixPath(*parts)
    return path.with_name(path.name + IMAGE_SUFFIX) if is_block else path
