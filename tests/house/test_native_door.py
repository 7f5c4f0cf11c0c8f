"""The extension has one door, one error table and one contract."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from repository import engine, errors

ROOT = Path(__file__).parents[2]
DOOR = Path("repository/engine.py")


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_only_the_engine_module_imports_the_extension() -> None:
    packages = ("agent", "exposer", "kube", "mover", "repository", "velero_store", "tests", "bench")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    doors = {path.relative_to(ROOT) for path in files if "repository._native" in _imports(path)}
    assert doors == {DOOR}


def test_every_kind_of_error_has_its_exception() -> None:
    kinds = dict(engine.error_kinds())
    assert len(kinds) == len(engine.error_kinds())
    for name in kinds.values():
        assert issubclass(getattr(errors, name), errors.DataMoverError), name


def test_every_exception_is_drawn_in_the_tree() -> None:
    drawing = inspect.getdoc(errors) or ""
    classes = [name for name, one in vars(errors).items() if inspect.isclass(one) and name.endswith("Error")]
    assert {name for name in classes if name not in drawing} == set()


def test_stub_and_door_export_the_same_names() -> None:
    stub = ast.parse((ROOT / "repository/_native.pyi").read_text(encoding="utf-8"))
    exported = next(
        ast.literal_eval(node.value)
        for node in stub.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    assert sorted(exported) == sorted(engine.__all__)


def test_everything_public_in_the_stub_has_prose() -> None:
    stub = ast.parse((ROOT / "repository/_native.pyi").read_text(encoding="utf-8"))
    silent = [
        node.name
        for node in ast.walk(stub)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("__")
        and ast.get_docstring(node) is None
    ]
    assert silent == []
