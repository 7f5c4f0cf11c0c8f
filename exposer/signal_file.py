"""Hands a text to a hosting pod on this node at once, through the kubelet's directory of the pod.

A kubelet shows a pod its changed annotation only after it has looked at its containers again, once a second
(PLEG); until then the slot stands idle. So the agent also writes the text into an emptyDir of the pod, below
`/host_pods`. The annotation stays what counts: this is a short cut where `/host_pods` can be written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SIGNAL_VOLUME = "signal"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_MODE = 0o444


def write_signal(host_pods: Path, pod_uid: str, name: str, text: str) -> bool:
    """Write a file that appears whole or not at all; False where that cannot be done.

    That is so without `/host_pods`, where it is read-only, and for pods made without the volume.
    """
    directory = host_pods / pod_uid / "volumes" / "kubernetes.io~empty-dir" / SIGNAL_VOLUME
    part = f"{name}.part"
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        file = os.open(part, _NEW, _MODE, dir_fd=place)
        with os.fdopen(file, "w") as stream:
            stream.write(text)
        os.rename(part, name, src_dir_fd=place, dst_dir_fd=place)
    except OSError:
        return False
    finally:
        os.close(place)
    return True
