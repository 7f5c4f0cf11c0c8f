"""One tree of exceptions; the extension raises these, and whoever decides on a retry reads `temporary`.

    DataMoverError                      .temporary: bool   .context: dict
    ├── RepositoryError
    │   ├── RepositoryNotFoundError     no format blob at this location
    │   ├── RepositoryExistsError       a repository, or foreign data, is there already
    │   ├── InvalidPasswordError
    │   ├── UnsupportedFormatError      a version or algorithm that we do not know; named
    │   ├── CorruptedError              seal, hash or index does not match: never retried, never hidden
    │   ├── ContentNotFoundError · ObjectNotFoundError · SnapshotNotFoundError
    │   └── StorageError                .temporary decides
    │       ├── AccessDeniedError
    │       ├── BlobNotFoundError       a blob that should be there is not
    │       ├── NoSpaceError            no room, on the storage or the target
    │       └── StorageUnavailableError
    ├── FilesystemError                 source or target of the work
    ├── InvalidRequestError             the request itself makes no sense
    ├── CanceledError                   asked for; not a failure
    └── InternalError                   a state that should be impossible

Which kind of the engine becomes which class is decided in `native/src/errors.rs`.
"""

from __future__ import annotations

from collections.abc import Mapping


class DataMoverError(Exception):
    """Something failed. `temporary`: the same call may succeed later; `context`: on what it failed."""

    def __init__(
        self, message: str, *, temporary: bool = False, context: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.temporary = temporary
        self.context = dict(context or {})


class RepositoryError(DataMoverError):
    """The repository does not do what was asked."""


class RepositoryNotFoundError(RepositoryError):
    """There is no repository at this location."""


class RepositoryExistsError(RepositoryError):
    """A repository, or foreign data, is at this location already."""


class InvalidPasswordError(RepositoryError):
    """The password does not open the format blob."""


class UnsupportedFormatError(RepositoryError):
    """A version, feature or algorithm that is not known."""


class CorruptedError(RepositoryError):
    """Stored bytes are not what their seal, hash or index says."""


class ContentNotFoundError(RepositoryError):
    """No index names this content."""


class ObjectNotFoundError(RepositoryError):
    """There is no such object, or no such path in a snapshot."""


class SnapshotNotFoundError(RepositoryError):
    """There is no such snapshot (or other manifest)."""


class StorageError(RepositoryError):
    """The storage does not do what was asked."""


class AccessDeniedError(StorageError):
    """The storage refuses: permissions, credentials, or opened for reading only."""


class BlobNotFoundError(StorageError):
    """A blob that should be there is not."""


class NoSpaceError(StorageError):
    """No room is left on the storage or the target."""


class StorageUnavailableError(StorageError):
    """The storage fails or cannot be reached."""


class FilesystemError(DataMoverError):
    """The source or target of the work cannot be read or written."""


class InvalidRequestError(DataMoverError):
    """The request itself makes no sense."""


class CanceledError(DataMoverError):
    """The work was ended as asked for."""


class InternalError(DataMoverError):
    """A state that should be impossible: please report it."""
