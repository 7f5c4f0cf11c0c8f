"""Sizes as Kubernetes writes them (`10Gi`, `1500M`, `1e9`) as numbers of bytes. Pure.

Source: `k8s.io/apimachinery/pkg/api/resource`, "Quantity".
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, DecimalException

_BINARY = {f"{letter}i": 1 << (10 * power) for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {letter: 1000**power for power, letter in enumerate(("k", "M", "G", "T", "P", "E"), start=1)}
_DIGITS_MAX = 24
_SUFFIXES: dict[str, int] = _BINARY | _DECIMAL


def quantity_bytes(text: str) -> int:
    """Read a quantity, rounded up to a whole byte; 0 for what is none, or is not a size."""
    text = text.strip()
    suffix = next((suffix for suffix in _SUFFIXES if text.endswith(suffix)), "")
    number, scale = text.removesuffix(suffix), _SUFFIXES.get(suffix, 1)
    if number.endswith("m"):
        number, scale = number[:-1] + "e-3", 1
    try:
        value = Decimal(number) * scale
    except DecimalException:
        return 0
    if not value.is_finite() or value < 0 or value.adjusted() > _DIGITS_MAX:
        return 0
    return int(value.to_integral_value(ROUND_CEILING))
