"""`make lint`: every check of form, all of them even when one fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
CARGO_DENY_VERSION = "0.19.1"
CARGO_DENY = (
    Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    / "kopia-data-mover"
    / f"cargo-deny-{CARGO_DENY_VERSION}"
)

CHECKS: dict[str, list[str]] = {
    "rustfmt": ["cargo", "fmt", "--all", "--check"],
    "clippy": ["cargo", "clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"],
    "cargo deny": [
        str(CARGO_DENY / "bin" / "cargo-deny"),
        "--workspace",
        "check",
        "bans",
        "licenses",
        "sources",
    ],
    "ruff format": [str(BIN / "ruff"), "format", "--check", "--quiet", "."],
    "ruff": [str(BIN / "ruff"), "check", "--quiet", "."],
    "mypy": [str(BIN / "mypy")],
    "import contracts": [str(BIN / "lint-imports")],
    "stubtest": [
        sys.executable,
        "-m",
        "mypy.stubtest",
        "repository._native",
        "--allowlist",
        "tests/house/stubtest-allow.txt",
    ],
}


def main() -> int:
    """Runs the checks named on the command line, or all."""
    wanted = sys.argv[1:] or list(CHECKS)
    failed = [name for name in wanted if not _passes(name)]
    print(
        f"lint: {len(wanted) - len(failed)} passed, {len(failed)} failed"
        + "".join(f"\n  failed: {n}" for n in failed)
    )
    return int(bool(failed))


def _passes(name: str) -> bool:
    print(f"== {name}", flush=True)
    if name == "cargo deny":
        _install_cargo_deny()
    return subprocess.run(CHECKS[name], cwd=ROOT, check=False).returncode == 0


def _install_cargo_deny() -> None:
    """Builds the pinned cargo-deny into the cache, once (some five minutes)."""
    if not (CARGO_DENY / "bin" / "cargo-deny").exists():
        command = ["cargo", "install", "--quiet", "--locked", "--root", str(CARGO_DENY), "cargo-deny"]
        subprocess.run([*command, "--version", CARGO_DENY_VERSION], check=True)


if __name__ == "__main__":
    sys.exit(main())
