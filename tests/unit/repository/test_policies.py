"""Policies: targets and edits of documents."""

from __future__ import annotations

import pytest

from repository.errors import InvalidRequestError
from repository.policies import SECTIONS, Target, with_field, with_list_changes


@pytest.mark.parametrize(
    ("text", "kind", "labels"),
    [
        ("(global)", "global", {}),
        ("@db", "host", {"hostname": "db"}),
        ("me@db", "user", {"hostname": "db", "username": "me"}),
        ("me@db:/var", "path", {"hostname": "db", "username": "me", "path": "/var"}),
    ],
)
def test_a_target_has_the_labels_that_kopia_gives_it(text: str, kind: str, labels: dict[str, str]) -> None:
    target = Target.parse(text)
    assert target.labels() == {"type": "policy", "policyType": kind} | labels
    assert str(target) == text


@pytest.mark.parametrize("text", ["", "me", "me@", "@db:/var", "/var"])
def test_anything_else_is_no_target(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="neither"):
        Target.parse(text)


def test_a_field_is_set_and_inherited_again_and_the_others_stay() -> None:
    before = {"retention": {"keepLatest": 3}, "unknown": {"of": "later versions"}}
    changed = with_field(before, "retention", "keepDaily", 7)
    assert changed["retention"] == {"keepLatest": 3, "keepDaily": 7}
    assert changed["unknown"] == before["unknown"]
    assert with_field(changed, "retention", "keepLatest", None)["retention"] == {"keepDaily": 7}
    assert before == {"retention": {"keepLatest": 3}, "unknown": {"of": "later versions"}}


def test_every_section_is_written_as_kopia_does() -> None:
    assert list(with_field({}, "files", "ignoreCacheDirs", True)) == list(SECTIONS)


def test_a_list_keeps_its_order_has_each_text_once_and_vanishes_when_empty() -> None:
    first = with_list_changes({}, "files", "ignore", add=("b", "a", "b"))
    assert first["files"]["ignore"] == ["b", "a"]
    second = with_list_changes(first, "files", "ignore", add=("c",), remove=("b",))
    assert second["files"]["ignore"] == ["a", "c"]
    assert with_list_changes(second, "files", "ignore", add=("x",), clear=True)["files"]["ignore"] == ["x"]
    assert "ignore" not in with_list_changes(second, "files", "ignore", clear=True)["files"]
