"""The command `mover`: words to a command, errors to one line and an exit code.

Start-up is part of the speed: a command's module, the engine and even `argparse` are imported only by
who needs them. Options may stand anywhere, before the command too.
"""

from __future__ import annotations

import atexit
import io
import os
import sys

from mover.command_list import COMMANDS, GROUPS, VALUE_OPTIONS, help_text

PROGRAM = "mover"
USAGE = 2


def program() -> None:
    """The command as a process of its own: ends it at once, where Python would take itself apart first."""
    code = main()
    try:
        atexit._run_exitfuncs()  # noqa: SLF001 - there is no public name for what a usual end does first
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.close(os.dup(sys.stdout.fileno()))  # a network file system says only now that it is full
    except BrokenPipeError:
        pass  # whoever read our output has seen enough
    except OSError as error:
        from mover.failure import report  # noqa: PLC0415 - only when something failed

        code = report(error, debug=False)
    os._exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that `arguments` name; gives the exit code. Nothing is ever raised to the user."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_standard_streams()
    try:
        return _run(arguments)
    except SystemExit as error:  # argparse has printed what was wrong
        return error.code if isinstance(error.code, int) else USAGE
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep the interpreter from complaining at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # noqa: BLE001 - the last stop before the user
        from mover.failure import report  # noqa: PLC0415 - only when something failed

        return report(error, debug="--debug" in arguments, as_json="--json" in arguments)


def _open_standard_streams() -> None:
    """Stands in for closed standard streams.

    Else the repository's files would get their numbers, and what is told would be written into them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding cannot say (LANG=C, ASCII) is shown by its numbers.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    words, rest = split_command(arguments)
    if not words:
        return _run_without_command(rest)
    if words not in COMMANDS:
        known = sorted({name[len(words)] for name in COMMANDS if name[: len(words)] == words})
        from mover.usage import incomplete_command, unknown_command  # noqa: PLC0415 - only then

        if known and set(rest) & {"-h", "--help"}:
            print(help_text(words))
            return 0
        raise incomplete_command(words, known) if known else unknown_command(words, COMMANDS)
    from mover.commands import run  # noqa: PLC0415 - imports argparse

    return run(words, rest)


def _run_without_command(rest: list[str]) -> int:
    if "--version" in rest:
        from repository.version import VERSION  # noqa: PLC0415 - only for this

        print(f"{PROGRAM} {VERSION}")
        return 0
    if set(rest) & {"-h", "--help"}:
        print(help_text())
        return 0
    from mover.usage import UsageError  # noqa: PLC0415 - only then

    raise UsageError(f"no command; see {PROGRAM} --help")


def split_command(arguments: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The words of the command, and all that is left of the arguments, in order."""
    words: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest.append(argument)
            break
        if argument.startswith("-") and argument != "-":
            rest.append(argument)
            if argument in VALUE_OPTIONS:
                rest.extend(value for value in [next(left, None)] if value is not None)
            continue
        words.append(argument)
        if words[0] not in GROUPS or len(words) > 1:
            break
    return tuple(words), rest + list(left)


if __name__ == "__main__":
    sys.exit(main())
