"""Maintains a repository of Velero, if the cluster shows that no maintenance Job of Velero does so now.

All of Velero's clients maintain as `default@default`, so the repository itself cannot tell two of them apart;
the cluster can, by the Jobs of the server (contract 5.4).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from agent.care.locations import Place, find_places, opened, read_passwords
from kube.api import Kube, Resource, Selection, list_all
from mover.commands.maintain import lock_file
from repository.care import MaintainOptions, maintain

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]

JOB = Resource("batch/v1", "jobs", "Job")
REPOSITORY_LABEL = "velero.io/repo-name"
_LABEL_LENGTH_MAX = 63


class MaintenanceError(Exception):
    """Maintenance cannot be done now; says why, and what to do."""


def job_label(name: str) -> str:
    """Return the label value of a repository's Jobs: its name, of a longer one the hex SHA3-224.

    Source: Velero `pkg/repository/maintenance/maintenance.go`.
    """
    return name if len(name) <= _LABEL_LENGTH_MAX else hashlib.sha3_224(name.encode()).hexdigest()


async def running_jobs(kube: Kube, namespace: str, name: str) -> list[str]:
    """Name the maintenance Jobs of a repository that are not over."""
    jobs = await list_all(kube, JOB, namespace, Selection(labels=f"{REPOSITORY_LABEL}={job_label(name)}"))
    return sorted(job["metadata"]["name"] for job in jobs if not _is_over(job))


def _is_over(job: Json) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(
        one.get("type") in ("Complete", "Failed") and one.get("status") == "True" for one in conditions
    )


async def find_place(kube: Kube, namespace: str, name: str, directory: Path) -> Place:
    """Find a repository by the name of its object.

    Raises:
        MaintenanceError: there is none of that name.
    """
    places = await find_places(kube, namespace, directory, only=name)
    if not places:
        raise MaintenanceError(
            f"there is no BackupRepository {namespace}/{name}: kubectl -n {namespace} get backuprepositories"
        )
    return places[0]


async def refuse_beside_a_job(kube: Kube, namespace: str, name: str) -> None:
    """Refuse while a Job of the server maintains.

    Raises:
        MaintenanceError: one does, or is about to.
    """
    running = await running_jobs(kube, namespace, name)
    if running:
        raise MaintenanceError(
            f"Velero maintains {name} now: Job {', '.join(running)}; wait until it is over, "
            f"or see why it hangs: kubectl -n {namespace} describe job {running[0]}"
        )


async def maintain_place(kube: Kube, namespace: str, place: Place, mode: str, *, dry_run: bool) -> Json:
    """Run a cycle (`auto`, `quick` or `full`) with all safety margins; return the engine's report."""
    passwords = await read_passwords(kube, namespace)
    await refuse_beside_a_job(kube, namespace, place.name)
    with opened(place, [passwords.current, passwords.spare], read_only=dry_run) as session:
        options = MaintainOptions(
            mode=mode,
            dry_run=dry_run,
            no_job_running=True,
            lock_file=str(lock_file(session.status()["uniqueIDHex"])),
        )
        return maintain(session, options)
