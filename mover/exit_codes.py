"""Exit codes: what a script or the agent may conclude from how `mover` ended."""

from __future__ import annotations

from repository.errors import (
    BlobNotFoundError,
    CanceledError,
    ContentNotFoundError,
    CorruptedError,
    DataMoverError,
    InvalidRequestError,
)

DONE = 0
USAGE = 2
FAILED_ENTRIES = 5
CANCELED = 10
TEMPORARY = 20
PERMANENT = 30
CORRUPTED = 40

MEANINGS = {
    DONE: "done",
    USAGE: "wrong usage",
    FAILED_ENTRIES: "finished, but some entries failed",
    CANCELED: "canceled; a backup goes on from its checkpoint",
    TEMPORARY: "failed for now: try again",
    PERMANENT: "failed: trying again does not help",
    CORRUPTED: "the repository is damaged",
}


def of_error(error: DataMoverError) -> int:
    """The exit code for an error that ends the program."""
    if isinstance(error, CanceledError):
        return CANCELED
    if isinstance(error, InvalidRequestError):
        return USAGE
    if error.temporary:
        return TEMPORARY
    # What an index names and the storage does not have is damage; looking for what never was is not
    # reported by these two.
    damage = (CorruptedError, BlobNotFoundError, ContentNotFoundError)
    return CORRUPTED if isinstance(error, damage) else PERMANENT
