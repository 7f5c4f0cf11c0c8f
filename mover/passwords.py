"""The passwords that a repository of Velero may have: the one in force, and the one that it is changed to.

Velero's server knows `repository-password` of its Secret alone. While the password of a location is changed,
`repository-password-next` stands beside it, and whoever is of ours tries both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from repository.errors import InvalidPasswordError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


def with_first_that_opens(passwords: Sequence[bytes], opened: Callable[[bytes], T]) -> T:
    """Return what `opened` gives for the first password that it does not refuse; empty ones are left out.

    Raises:
        InvalidPasswordError: it refuses all of them.
    """
    tried = [password for password in dict.fromkeys(passwords) if password]
    for password in tried[:-1]:
        try:
            return opened(password)
        except InvalidPasswordError:
            continue
    if not tried:
        raise InvalidPasswordError("the repository's password is empty")
    return opened(tried[-1])
