"""Words and options that do not exist: the error, and what may have been meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

CUTOFF = 0.6
# what hands type that know kopia or restic
ELSEWHERE = {
    "init": "repo create",
    "repository": "repo",
    "snapshots": "snapshot list",
    "list": "snapshot list",
    "create": "backup",
    "connect": "repo connect",
    "forget": "snapshot expire",
    "prune": "repo maintain",
    "check": "verify",
    "dump": "cat",
    "help": "--help",
    "version": "--version",
}


class UsageError(Exception):
    """The words name no command, or its options do not exist; the message says what to do."""


def unknown_command(words: Sequence[str], commands: Iterable[Sequence[str]]) -> UsageError:
    """The error for words that name no command, with the one that was probably meant."""
    text = " ".join(words)
    known = {" ".join(one) for one in commands}
    return UsageError(f"no command {text!r}{_meant(text, known)}; see mover --help")


def incomplete_command(words: Sequence[str], following: Sequence[str]) -> UsageError:
    """The error for a group's name alone."""
    group = " ".join(words)
    return UsageError(f"{group}: say which of {', '.join(following)}; see mover {group} --help")


def wrong_options(program: str, message: str, options: Iterable[str]) -> UsageError:
    """The error for what `argparse` refuses, with the options that were probably meant."""
    known = set(options)
    typed = message.split() if message.startswith("unrecognized arguments") else []
    unknown = [word.partition("=")[0] for word in typed if word.startswith("-")]
    hints = [hint for word in unknown if (hint := _meant(word, known))]
    command = program.removeprefix("mover ")
    return UsageError(f"{command}: {message}{''.join(hints)}; see {program} --help")


def _meant(text: str, known: set[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only when something is wrong

    near = [ELSEWHERE[text]] if text in ELSEWHERE else get_close_matches(text, known, n=1, cutoff=CUTOFF)
    return f": did you mean {' or '.join(near)}?" if near else ""
