"""`make demo`: the main job on a real tree, as a user would do it, with the `mover` command.

Backs up a copy of SOURCE into a new local repository, changes the copy, backs up again, lists,
verifies every byte, restores both snapshots and compares them byte for byte.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MOVER = Path(sys.executable).parent / "mover"
SKIPPED = shutil.ignore_patterns("target", ".venv", "out", "__pycache__", ".kopiaignore")


def left_out(directory: str, names: list[str]) -> set[str]:
    """What is not copied: what was built here, and what a backup leaves out by Kopia's default policy (caches)."""
    tagged = {name for name in names if (Path(directory) / name / "CACHEDIR.TAG").is_file()}
    return SKIPPED(directory, names) | tagged


def main() -> int:
    """Plays the demo on the tree named on the command line."""
    original = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    with tempfile.TemporaryDirectory(prefix="mover-demo-") as scratch:
        return Demo(Path(scratch), original).play()


class Demo:
    """One demonstration in a scratch folder of its own."""

    def __init__(self, scratch: Path, original: Path) -> None:
        self.original = original
        self.tree = scratch / "tree"
        self.repository = scratch / "repository"
        self.restored = scratch / "restored"
        self.environment = os.environ | {"KOPIA_PASSWORD": "demo"}

    def mover(self, *arguments: str | Path) -> None:
        """Runs `mover` visibly."""
        command = [str(part) for part in arguments]
        print(f"\n$ mover {' '.join(command)}", flush=True)
        subprocess.run([MOVER, *command, "--repo", self.repository], check=True, env=self.environment)

    def backup(self) -> str:
        """Backs the tree up and gives the snapshot's ID."""
        print(f"\n$ mover backup {self.tree} --repo {self.repository} --json", flush=True)
        command = [MOVER, "backup", self.tree, "--repo", self.repository, "--json"]
        done = subprocess.run(command, check=True, env=self.environment, stdout=subprocess.PIPE, text=True)
        document = json.loads(done.stdout)
        stats = document["stats"]
        print(f"snapshot {document['id']}: {stats['fileCount']} files read, {stats['cachedFiles']} unchanged")
        return str(document["id"])

    def play(self) -> int:
        """The whole demonstration; 0 when every comparison held."""
        print(f"source: {self.original}")
        shutil.copytree(
            self.original, self.tree, symlinks=True, ignore=left_out, ignore_dangling_symlinks=True
        )
        self.mover("repo", "create", self.repository)
        first = self.backup()
        before = self.restored / "before"
        shutil.copytree(self.tree, before, symlinks=True)
        self.change()
        second = self.backup()
        self.mover("snapshot", "list")
        self.mover("verify", "--percent", "100")
        same = [self.restore_and_compare(first, before), self.restore_and_compare(second, self.tree)]
        print("\nboth snapshots restored and equal byte for byte" if all(same) else "\nDIFFERENCES FOUND")
        return int(not all(same))

    def change(self) -> None:
        """Edits, adds and removes a file."""
        files = sorted(path for path in self.tree.rglob("*") if path.is_file() and not path.is_symlink())
        if files:
            with files[0].open("ab") as file:
                file.write(b"\nchanged by the demo\n")
        if len(files) > 1:
            files[-1].unlink()
        (self.tree / "added-by-the-demo.txt").write_text("a new file\n" * 1000, encoding="utf-8")

    def restore_and_compare(self, snapshot: str, expected: Path) -> bool:
        """Restores and compares names, types, bytes and link targets."""
        target = self.restored / snapshot
        self.mover("restore", snapshot, target)
        return not list(differences(expected, target))


def differences(left: Path, right: Path) -> list[str]:
    """Paths that are not the same in both trees, printed as they are found."""
    found: list[str] = []
    names = {path.relative_to(root) for root in (left, right) for path in root.rglob("*")}
    for name in sorted(names):
        one, other = left / name, right / name
        if not _same(one, other):
            print(f"different: {name}")
            found.append(str(name))
    return found


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if one.is_dir() or other.is_dir():
        return one.is_dir() and other.is_dir()
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


if __name__ == "__main__":
    sys.exit(main())
