"""Error correction `REED-SOLOMON-CRC32` (format document, section 3.3): opened and checked, never repaired.

Every checksum is compared, and every parity shard is made again from the data; that is what shows that
another reader could repair with them.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, reduce

POLYNOMIAL = 0x11D
CHECKSUM_BYTES = 4
LENGTH_BYTES = 4
SMALL = (6, 2)


class EccError(AssertionError):
    """A checksum or a parity shard is not what the data says."""


def _single(value: float) -> float:
    """The value in binary32, as the original computes."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


def _shards(percent: int) -> tuple[int, int, int]:
    """Data shards, parity shards and the largest shard, in bytes, for an overhead."""
    largest = {1: 1024, 2: 512, 3: 256, 4: 128, 5: 128, 6: 128}.get(percent, 64)
    free = max(_single(_single(percent) - _single(400 / largest)), _single(0.01))
    parity = min(max(math.floor(_single(128 * _single(free / 100))), 1), 128)
    if parity > 1:
        return 128, parity, largest
    return min(max(math.floor(_single(2 * _single(100 / free))), 128), 254), 2, largest


def _times(one: int, other: int) -> int:
    product = 0
    while other:
        product ^= one if other & 1 else 0
        one = (one << 1) ^ (POLYNOMIAL if one & 0x80 else 0)
        other >>= 1
    return product


# TABLES[a] translates bytes to their products with a
TABLES = [bytes(_times(a, b) for b in range(256)) for a in range(256)]


def _plus(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(len(one))


def _power(base: int, exponent: int) -> int:
    return reduce(lambda product, _: TABLES[product][base], range(exponent), 1)


@cache
def _parity_rows(data: int, parity: int) -> tuple[bytes, ...]:
    """The lower rows of the code's matrix: a Vandermonde matrix times the inverse of its upper square."""
    rows = [bytes(_power(row, column) for column in range(data)) for row in range(data + parity)]
    inverse = _inverted(rows[:data])
    return tuple(_combined(row, inverse) for row in rows[data:])


def _combined(factors: bytes, rows: list[bytes]) -> bytes:
    """The sum of the rows, each times its factor."""
    return reduce(_plus, (row.translate(TABLES[factor]) for factor, row in zip(factors, rows, strict=True)))


def _inverted(square: list[bytes]) -> list[bytes]:
    size = len(square)
    rows = [row + bytes(int(at == number) for at in range(size)) for number, row in enumerate(square)]
    for column in range(size):
        pivot = next(number for number in range(column, size) if rows[number][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = rows[column].translate(TABLES[TABLES[rows[column][column]].index(1)])
        for number in range(size):
            factor = rows[number][column]
            if number != column and factor:
                rows[number] = _plus(rows[number], rows[column].translate(TABLES[factor]))
    return [row[size:] for row in rows]


@dataclass(frozen=True)
class Ecc:
    """The code of a repository."""

    percent: int

    def open(self, stored: bytes) -> bytes:
        """The bytes inside; raises `EccError` where a checksum or parity does not match."""
        data, parity, size, blocks = self._shape(len(stored))
        shards = list(self._checked_shards(stored, size, blocks * (data + parity)))
        parities, payload = shards[: blocks * parity], shards[blocks * parity :]
        for block in range(blocks):
            members = payload[block * data : (block + 1) * data]
            expected = [_combined(row, members) for row in _parity_rows(data, parity)]
            if parities[block * parity : (block + 1) * parity] != expected:
                raise EccError(f"parity of block {block} does not match its data")
        joined = b"".join(payload)
        length = int.from_bytes(joined[:LENGTH_BYTES])
        return joined[LENGTH_BYTES : LENGTH_BYTES + length]

    def _shape(self, stored: int) -> tuple[int, int, int, int]:
        """Data and parity shards, bytes of a shard, and blocks, from the stored length alone."""
        data, parity, largest = _shards(self.percent)
        if stored <= 8 * (CHECKSUM_BYTES + math.ceil(8 * (data + parity) / 6)):
            return *SMALL, max(math.ceil(stored / 8), 5) - CHECKSUM_BYTES, 1
        whole = (data + parity) * (CHECKSUM_BYTES + largest)
        if stored <= whole:
            return data, parity, max(math.ceil(stored / (data + parity)), 5) - CHECKSUM_BYTES, 1
        return data, parity, largest, math.ceil(stored / whole)

    def _checked_shards(self, stored: bytes, size: int, count: int) -> Iterator[bytes]:
        """All shards, parity first; the last of several blocks are cut short or left out where they are zeros."""
        step = CHECKSUM_BYTES + size
        for number in range(count):
            piece = stored[number * step : (number + 1) * step]
            shard = piece[CHECKSUM_BYTES:].ljust(size, b"\0")
            if piece and int.from_bytes(piece[:CHECKSUM_BYTES]) != zlib.crc32(shard):
                raise EccError(f"checksum of shard {number} does not match")
            yield shard
