"""The image's two builds, without a registry: the Dockerfile is what the repository holds, `deploy/image` says the same."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
import tarfile
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.apiserver.manifests import DEPLOY

if TYPE_CHECKING:
    from pathlib import Path

ROOT = DEPLOY.parent
Step = tuple[str, str]


def stages() -> list[list[Step]]:
    """Instructions and arguments of the Dockerfile, by stage; comments and line ends gone."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    steps = [
        (word, rest) for word, _, rest in (line.strip().partition(" ") for line in text.splitlines()) if word
    ]
    starts = [place for place, (word, _) in enumerate(steps) if word == "FROM"]
    return [steps[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def said(stage: list[Step], word: str) -> list[str]:
    return [rest for instruction, rest in stage if instruction == word]


def copied(stage: list[Step]) -> list[tuple[str, str]]:
    """What a stage takes from the repository, and where to."""
    lines = [shlex.split(rest) for rest in said(stage, "COPY") if not rest.startswith("--from")]
    return [(source, words[-1]) for words in lines for source in words[:-1]]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEPLOY / "image"))
    return importlib.import_module("build")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_copied_path_is_in_the_repository_and_reaches_the_build() -> None:
    ignored = [line.strip() for line in (ROOT / ".dockerignore").read_text().splitlines()]
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    sources = [source for stage in stages() for source, _ in copied(stage)]
    assert len(sources) >= 10
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source not in ignored
        assert not tracked or source in tracked or any(name.startswith(f"{source}/") for name in tracked), (
            source
        )


def test_what_is_copied_is_enough_to_build_the_wheel(tmp_path: Path) -> None:
    """Cargo finds every crate of the workspace, and each file that the project names is there."""
    [build_stage, *_] = stages()
    for source, target in copied(build_stage):
        place = tmp_path / (target if target not in (".", "./") else source)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / source, place)
    command = ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    members = json.loads(done.stdout)["workspace_members"]
    assert len(members) == len(tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"])
    maturin = project()["tool"]["maturin"]
    named = [project()["project"]["readme"], *project()["project"]["license-files"], maturin["manifest-path"]]
    for name in [*named, *(f"{package}/__init__.py" for package in maturin["python-packages"])]:
        assert (tmp_path / name).is_file(), name


def test_wheel_is_built_and_installed_as_the_project_says() -> None:
    building, installing, _ = stages()
    [_, wheel] = [rest for rest in said(building, "RUN") if "maturin" in rest]
    makefile = (ROOT / "Makefile").read_text()
    assert "maturin develop --release" in makefile
    assert {"build", "--release", "--locked"} <= set(shlex.split(wheel)), "as `make build`, from the lock"
    [install] = said(installing, "RUN")
    extra = re.findall(r"\$\{wheel\}\[(\w+)\]", install)
    assert extra == ["agent"]
    assert extra[0] in project()["project"]["optional-dependencies"]
    assert "--constraint /requirements-dev.lock" in install
    rust, python = (
        re.findall(r":(\d+\.\d+)-", said(stage, "FROM")[0])[0] for stage in (building, installing)
    )
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    assert version(rust) >= version(workspace["rust-version"])
    assert version(python) >= version(project()["project"]["requires-python"].removeprefix(">="))
    assert said(installing, "FROM")[0].split()[0] == said(stages()[-1], "FROM")[0].split()[0], (
        "one interpreter"
    )


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_both_builds_run_as_the_same_user_with_the_same_entry_environment_labels_and_commands(
    build: Any, tmp_path: Path
) -> None:
    final = stages()[-1]
    settings = build.SETTINGS
    assert said(final, "USER") == [settings.user] == ["65534:65534"]
    assert json.loads(said(final, "ENTRYPOINT")[0]) == list(settings.entry) == ["/velero"]
    [environment] = said(final, "ENV")
    where = ("PYTHONHOME=", "LD_LIBRARY_PATH=")  # the base image's own
    assert environment.split() == [entry for entry in settings.environment if not entry.startswith(where)]
    labels = dict(word.split("=", 1) for text in said(final, "LABEL") for word in shlex.split(text))
    assert labels == settings.labels
    assert not said(final, "CMD") + said(final, "WORKDIR") + said(final, "VOLUME") + said(final, "EXPOSE")
    [links] = said(final, "RUN")
    assert "ln -s /opt/kopia-data-mover/bin/velero /velero" in links
    [names] = re.findall(r"for name in ([\w -]+); do ln -s", links)
    assert {*names.split(), "velero"} == set(build.commands()) == set(project()["project"]["scripts"])

    layer = build.Layer()
    layer.link("/velero", "/usr/local/bin/velero")
    build.write_image(tmp_path / "image.tar", "a:b", layer, settings)
    with tarfile.open(tmp_path / "image.tar") as tar:
        [manifest] = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(tar.extractfile(manifest["Config"]))["config"]  # type: ignore[arg-type]
    assert (config["User"], config["Entrypoint"], config["Labels"]) == (
        settings.user,
        list(settings.entry),
        settings.labels,
    )
    assert set(settings.environment) < set(config["Env"])
