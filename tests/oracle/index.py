"""Index entries of both versions (format document, section 4.4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """Where one content is."""

    content: str
    pack: str
    offset: int
    packed_length: int
    original_length: int | None
    timestamp: int
    compression: int
    deleted: bool

    def beats(self, other: Entry) -> bool:
        """The merging rule: later, then live, then greater pack name."""
        return (self.timestamp, not self.deleted, self.pack) > (
            other.timestamp,
            not other.deleted,
            other.pack,
        )


def _content_id(key: bytes) -> str:
    return (chr(key[0]) if key[0] else "") + key[1:].hex()


def decode(data: bytes) -> list[Entry]:
    """All entries, in the order of the index."""
    return _version_1(data) if data[0] == 1 else _version_2(data)


def _version_1(data: bytes) -> list[Entry]:
    _, key_size, entry_size, count = struct.unpack_from(">BBHI", data)
    entries = []
    for number in range(count):
        at = 8 + number * (key_size + entry_size)
        value = data[at + key_size : at + key_size + entry_size]
        name_at = int.from_bytes(value[8:12], "big")
        place = int.from_bytes(value[12:16], "big")
        entries.append(
            Entry(
                _content_id(data[at : at + key_size]),
                data[name_at : name_at + value[7]].decode(),
                place & 0x7FFFFFFF,
                int.from_bytes(value[16:20], "big"),
                None,
                int.from_bytes(value[:6], "big"),
                0,
                bool(place >> 31),
            )
        )
    return entries


def _version_2(data: bytes) -> list[Entry]:
    _, key_size, entry_size, count, pack_count, format_count, base = struct.unpack_from(">BBHIIBI", data)
    packs_at = 17 + count * (key_size + entry_size)
    formats_at = packs_at + pack_count * 5
    packs = []
    for number in range(pack_count):
        length, at = struct.unpack_from(">BI", data, packs_at + number * 5)
        packs.append(data[at : at + length].decode())
    formats = [struct.unpack_from(">IBB", data, formats_at + number * 6) for number in range(format_count)]
    entries = []
    for number in range(count):
        at = 17 + number * (key_size + entry_size)
        value = data[at + key_size : at + key_size + entry_size].ljust(19, b"\0")
        place = int.from_bytes(value[4:8], "big")
        entries.append(
            Entry(
                _content_id(data[at : at + key_size]),
                packs[int.from_bytes(value[14:16], "big") | value[17] << 16],
                place & 0x7FFFFFFF,
                int.from_bytes(value[11:14], "big") | (value[18] & 15) << 24,
                int.from_bytes(value[8:11], "big") | (value[18] >> 4) << 24,
                base + int.from_bytes(value[:4], "big"),
                formats[value[16]][0],
                bool(place >> 31),
            )
        )
    return entries
