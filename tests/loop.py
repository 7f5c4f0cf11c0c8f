"""Block devices for tests: image files behind loop devices, where root can make them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts import lacking


@contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """The block device of an image file; a loud skip where there can be none."""
    if os.geteuid() != 0:
        lacking("a loop device: run as root")
    made = subprocess.run(
        ["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        lacking(f"a loop device: losetup says {made.stderr.strip()}")
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)
