"""Velero's backups read straight from their bucket, without a cluster.

    from velero_store import open_velero_store

    with open_velero_store("s3://bucket/prefix") as store:
        for volume in store.backup("latest").volumes():
            print(volume.namespace, volume.name, volume.state, volume.snapshot_id)
        with store.reader(store.backup("nightly").volume("shop/data")) as data:
            print(data.open_file("db/dump.sql").read(100))

`repository/` knows one repository; this room knows the bucket around it: `backups/` says which snapshot of
which repository below `kopia/` is which volume. Everything in the bucket is untrusted, and nothing is ever
written to it. Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from velero_store.store import Backup, VeleroStore, open_velero_store
    from velero_store.volumes import Method, State, Volume

__all__ = ["Backup", "Method", "State", "VeleroStore", "Volume", "open_velero_store"]

_MODULES = {
    "store": ("Backup", "VeleroStore", "open_velero_store"),
    "volumes": ("Method", "State", "Volume"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - on first use only

    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"velero_store.{module}"), name)
    raise AttributeError(f"module 'velero_store' has no attribute {name!r}")
