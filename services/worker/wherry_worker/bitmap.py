"""Bits that say which items of a chunk are done: bit i is bit `i % 8`, from the lowest, of byte `i // 8`."""

from __future__ import annotations


class Bitmap:
    """A set of item indexes, as bytes on the wire."""

    def __init__(self, done: bytes = b"", size: int = 0) -> None:
        self._bytes = bytearray(max(len(done), (size + 7) // 8))
        self._bytes[: len(done)] = done

    def __contains__(self, index: int) -> bool:
        return index // 8 < len(self._bytes) and bool(self._bytes[index // 8] >> (index % 8) & 1)

    def add(self, index: int) -> None:
        """Marks an item as done."""
        missing = index // 8 + 1 - len(self._bytes)
        if missing > 0:
            self._bytes.extend(bytes(missing))
        self._bytes[index // 8] |= 1 << (index % 8)

    def __bytes__(self) -> bytes:
        return bytes(self._bytes)
