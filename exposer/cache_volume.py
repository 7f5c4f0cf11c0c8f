"""Whether a restore gets a volume for its cache, and how large. Pure, apart from `usable_cache`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kube.api import STORAGE_CLASS, Kube, find

if TYPE_CHECKING:
    from exposer.settings import CacheSettings

CACHE_LIMIT_MIB_DEFAULT = 5000
_HEADROOM = 1.2
_MIB = 1 << 20
_MIB_PER_GIB = 1024


def cache_size_gib(settings: CacheSettings | None, *, data_bytes: int, limit_mib: int) -> int:
    """GiB of the cache PVC, 0 for none: unset, or the data is known and smaller than the threshold."""
    if settings is None:
        return 0
    if data_bytes and data_bytes < settings.resident_threshold_mib * _MIB:
        return 0
    return math.ceil((limit_mib or CACHE_LIMIT_MIB_DEFAULT) * _HEADROOM / _MIB_PER_GIB)


async def usable_cache(kube: Kube, settings: CacheSettings | None) -> CacheSettings | None:
    """Return the settings if their storage class exists and deletes what it made."""
    if settings is None:
        return None
    body = await find(kube, STORAGE_CLASS, "", settings.storage_class)
    deletes = body is not None and (body.get("reclaimPolicy") or "Delete") == "Delete"
    return settings if deletes else None
