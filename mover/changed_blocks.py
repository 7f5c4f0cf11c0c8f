"""Asks the driver's changed-block service what to read of a device. Whatever fails, the backup goes on.

What changed since the parent is asked first; if that fails (the driver may need the parent's snapshot, which
is gone), or without a parent, what is allocated; if that fails too, the device is read and compared with the
parent. Every fallback is told: in the transfer record, and so in a Warning Event (upstream's are silent).
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repository.engine import ChangedBlocks, ask_changed_blocks
from repository.errors import CanceledError, DataMoverError
from repository.requests import ChangedBlocksQuery, encode

if TYPE_CHECKING:
    from mover.protocol import ChangeTracking
    from repository.engine import CancelToken

NOT_ASKED, DELTA, ALLOCATED = "not asked", "delta", "allocated"


@dataclass(frozen=True, slots=True)
class Changes:
    """What to read (`None`: everything), how that is known, and what was tried in vain.

    `goes_on` is false where `blocks` are those that are allocated: they say nothing of a parent.
    """

    blocks: ChangedBlocks | None = None
    known_by: str = NOT_ASKED
    fallbacks: tuple[str, ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether a parent may be gone on from with these blocks."""
        return self.known_by != ALLOCATED


def find_changes(
    tracking: ChangeTracking | None, base: str, *, has_parent: bool, device_bytes: int, cancel: CancelToken
) -> Changes:
    """Ask for what changed since `base` (the parent's change ID), or for what is allocated.

    Raises:
        CanceledError: `cancel` was set.
    """
    if tracking is None:
        return Changes()
    failed: list[str] = []
    if base:
        blocks = _asked(tracking, base, device_bytes, cancel, failed)
        if blocks is not None:
            return Changes(blocks, DELTA)
    elif has_parent:
        failed.append("the parent has no change ID of this volume")
    blocks = _asked(tracking, "", device_bytes, cancel, failed)
    known_by = ALLOCATED if blocks is not None else NOT_ASKED
    return Changes(blocks, known_by, tuple(failed))


def _asked(
    tracking: ChangeTracking, base: str, device_bytes: int, cancel: CancelToken, failed: list[str]
) -> ChangedBlocks | None:
    try:
        blocks = ChangedBlocks(device_bytes)
        query = ChangedBlocksQuery(
            address=tracking.address,
            authority=base64.b64decode(tracking.authority, validate=True).decode(),
            token_path=tracking.token_path,
            namespace=tracking.namespace,
            snapshot=tracking.snapshot,
            base=base,
        )
        json.loads(ask_changed_blocks(encode(query), blocks, cancel))
    except CanceledError:
        raise
    except (DataMoverError, ValueError, binascii.Error) as error:
        asked = f"what changed since {base}" if base else "what is allocated"
        failed.append(f"cannot ask for {asked}: {error}")
        return None
    return blocks
