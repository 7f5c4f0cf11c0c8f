"""Exit codes: what a script or the agent may conclude from how `mover` ended."""

from __future__ import annotations

from repository.errors import (
    BlobNotFoundError,
    CanceledError,
    ContentNotFoundError,
    CorruptedError,
    DataMoverError,
    InvalidPasswordError,
    InvalidRequestError,
    RepositoryNotFoundError,
    SnapshotNotFoundError,
)

DONE = 0
USAGE = 2
FAILED_ENTRIES = 5
CANCELED = 10
TEMPORARY = 20
PERMANENT = 30
NO_REPOSITORY = 31
WRONG_PASSWORD = 32
NO_SNAPSHOT = 33
CORRUPTED = 40

# those that a script tells apart: make the repository, ask for the password, take the first backup
OF_KIND: dict[type[DataMoverError], int] = {
    RepositoryNotFoundError: NO_REPOSITORY,
    InvalidPasswordError: WRONG_PASSWORD,
    SnapshotNotFoundError: NO_SNAPSHOT,
}
MEANINGS = {
    DONE: "done",
    USAGE: "wrong usage",
    FAILED_ENTRIES: "finished, but some entries failed",
    CANCELED: "canceled; a backup goes on from its checkpoint",
    TEMPORARY: "failed for now: try again",
    PERMANENT: "failed: trying again does not help",
    NO_REPOSITORY: "as 30: there is no repository",
    WRONG_PASSWORD: "as 30: the password does not open the repository",
    NO_SNAPSHOT: "as 30: there is no such snapshot",
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
    if isinstance(error, damage):
        return CORRUPTED
    return next((code for kind, code in OF_KIND.items() if isinstance(error, kind)), PERMANENT)
