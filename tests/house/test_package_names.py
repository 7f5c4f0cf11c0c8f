"""Our flat top-level names shadow nobody's, and nobody's shadow ours."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions

OURS = ("agent", "exposer", "kube", "mover", "repository", "velero_store")
DISTRIBUTION = "kopia-data-mover"


def test_no_other_distribution_has_our_top_level_names() -> None:
    providers = packages_distributions()
    for name in OURS:
        others = set(providers.get(name, [])) - {DISTRIBUTION}
        assert not others, f"{name} is also in {others}"


def test_our_top_level_names_are_not_of_the_standard_library() -> None:
    assert not set(OURS) & set(sys.stdlib_module_names)
