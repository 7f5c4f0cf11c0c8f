"""`/velero`: the image's one executable, with the verbs that upstream's image has (and no others).

Imports nothing before it knows which of its roles is wanted: a mover starts in a fraction of the agent's
time.
"""

from __future__ import annotations

import sys

_USAGE = """usage: velero node-agent server|status|change-passwords|maintain [flags]
       velero data-mover backup|restore [flags]
       velero pod-volume backup|restore [flags]
       velero mover-pod backup|restore"""


def main(argv: list[str] | None = None) -> int:
    """Hand over to the role named first; return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    role, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if role == "node-agent":
        from agent.cli import main as node_agent  # noqa: PLC0415 - see above

        return node_agent(rest)
    if role == "mover-pod":
        from mover.pod import main as mover_pod  # noqa: PLC0415 - see above

        return mover_pod(rest)
    if role in ("data-mover", "pod-volume"):
        from agent.upstream_mover import main as upstream_mover  # noqa: PLC0415 - see above

        return upstream_mover([role, *rest])
    print(_USAGE, file=sys.stderr)  # noqa: T201 - a command's output
    return 2


if __name__ == "__main__":
    sys.exit(main())
