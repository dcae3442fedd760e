"""Bitmaps over the entries of a chunk: bit i of the text is bit i % 8, from the lowest, of byte i // 8."""

from __future__ import annotations

from collections.abc import Iterable


def union(first: bytes | None, second: bytes | None, extra: Iterable[int] = ()) -> bytes:
    """Returns the entries of either bitmap, and those of `extra`."""
    bits = int.from_bytes(first or b"", "little") | int.from_bytes(second or b"", "little")
    for index in extra:
        bits |= 1 << index
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def without(bitmap: bytes | None, indices: Iterable[int]) -> bytes:
    """Returns the entries of a bitmap except those of `indices`."""
    bits = int.from_bytes(bitmap or b"", "little")
    for index in indices:
        bits &= ~(1 << index)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def contains(bitmap: bytes | None, index: int) -> bool:
    """Tells whether an entry's bit is set."""
    return bool(int.from_bytes(bitmap or b"", "little") >> index & 1)


def count(bitmap: bytes | None) -> int:
    """Returns how many bits are set."""
    return int.from_bytes(bitmap or b"", "little").bit_count()


def clipped(bitmap: bytes | None, entry_count: int) -> bytes:
    """Returns the bitmap without bits past the chunk's end, which would make it seem settled too early."""
    bits = int.from_bytes(bitmap or b"", "little") & ((1 << entry_count) - 1)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
