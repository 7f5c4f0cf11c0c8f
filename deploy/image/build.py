#!/usr/bin/env python3
"""Builds the project's image from this machine's Python, with no registry: `build.py OUT.tar [NAME:TAG]`.

In it: the interpreter that runs this script with its standard library and shared libraries, the project as
`make build` made it with what the extra `agent` needs, and the commands `velero` (also as `/velero`, which is
what Velero's manifests call), `node-agent` and `mover`. Byte code is compiled beforehand: mover pods have a
read-only root.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

from archive import Layer, Settings, write_image

ROOT = Path(__file__).resolve().parents[2]
NAME = "kopia-data-mover.local/node-agent:dev"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"/usr/local/lib/{VERSION}"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What the Dockerfile says, word for word; and where the interpreter is, which its base image knows.
SETTINGS = Settings(
    entry=("/velero",),
    environment=(
        "PYTHONDONTWRITEBYTECODE=1",
        "PYTHONUNBUFFERED=1",
        "HOME=/tmp",
        "PYTHONHOME=/usr/local",
        "LD_LIBRARY_PATH=/usr/local/lib",
    ),
    user="65534:65534",
    labels={
        "org.opencontainers.image.title": "kopia-data-mover node-agent",
        "org.opencontainers.image.licenses": "Apache-2.0",
    },
)
# Parts of the standard library that no server needs.
_LEFT_OUT = shutil.ignore_patterns(
    *("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "config-*", "*.a"),
    *("site-packages", "dist-packages", "__pycache__"),
)


def install(target: Path) -> None:
    """Put the project's packages there, and what they import at the versions of the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if not list((ROOT / "repository").glob("_native*.so")):
        raise SystemExit("the engine is not built: run `make build` first")
    needed = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["agent"]]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
    ]
    command += ["--target", str(target), "--constraint", str(ROOT / "requirements-dev.lock"), *needed]
    subprocess.run(command, check=True)
    shutil.rmtree(target / "bin", ignore_errors=True)  # scripts for this machine's interpreter
    for package in project["tool"]["maturin"]["python-packages"]:
        shutil.copytree(ROOT / package, target / package, ignore=_LEFT_OUT)
    name, version = project["project"]["name"], project["project"]["version"]
    information = target / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (information / "METADATA").write_text(text, encoding="utf-8")


def commands() -> dict[str, str]:
    """Return the project's commands with the program text of each."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    scripts = {name: text.split(":") for name, text in project["scripts"].items()}
    return {
        name: "#!/usr/local/bin/python3\n"
        f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        for name, (module, function) in scripts.items()
    }


def shared_libraries(*trees: Path) -> list[Path]:
    """Return the system's libraries that the interpreter and the extensions below `trees` load."""
    objects = [Path(os.path.realpath(sys.executable))]
    objects += [path for tree in trees for path in tree.rglob("*.so*") if path.is_file()]
    text = "".join(
        subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
        for path in objects
    )
    named = set(re.findall(r"=> (/\S+)", text)) | set(re.findall(r"^\s+(/\S+/ld-\S+)", text, re.MULTILINE))
    return sorted(Path(name) for name in named if not any(Path(name).is_relative_to(tree) for tree in trees))


def assemble(work: Path) -> Layer:
    """Put the layer together."""
    library, site = work / VERSION, work / VERSION / "site-packages"
    shutil.copytree(sysconfig.get_path("platstdlib"), library, ignore=_LEFT_OUT, symlinks=False)
    if sysconfig.get_path("stdlib") != sysconfig.get_path("platstdlib"):
        shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=_LEFT_OUT, dirs_exist_ok=True)
    install(site)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(
        library, quiet=2, invalidation_mode=unchecked, stripdir=str(work), prependdir="/usr/local/lib"
    )
    layer = Layer()
    layer.directory("/tmp", 0o1777)  # noqa: S108 - in the image
    layer.copy(os.path.realpath(sys.executable), "/usr/local/bin/python3")
    layer.copy(str(library), LIBRARY)
    layer.link(f"{LIBRARY}/dist-packages", "site-packages")  # where Debian's interpreter looks
    for path in shared_libraries(library):
        ours = path.name.startswith("libpython")
        layer.copy(str(path), f"/usr/local/lib/{path.name}" if ours else str(path))
    _add_system_files(layer)
    for name, text in commands().items():
        layer.text(f"/usr/local/bin/{name}", text, 0o755)
    layer.link("/velero", "/usr/local/bin/velero")
    return layer


def _add_system_files(layer: Layer) -> None:
    layer.text(
        "/etc/passwd", "root:x:0:0:root:/tmp:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
    )
    layer.text("/etc/group", "root:x:0:\nnobody:x:65534:\n")
    if CERTIFICATES.exists():
        layer.copy(str(CERTIFICATES), str(CERTIFICATES))


def main() -> None:
    """Build the image."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("name", nargs="?", default=NAME)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        layer = assemble(Path(work))
        write_image(given.out, given.name, layer, SETTINGS)
    print(f"{given.out}: {given.name}, {given.out.stat().st_size >> 20} MiB")  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
