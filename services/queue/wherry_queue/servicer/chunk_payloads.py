"""Packs and opens what chunks hold. Workers do it all the time; the queue only on its owners' demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import zstandard
from google.protobuf.message import DecodeError
from wherry.queue.v1 import lease_service_pb2 as pb

_MOST_BYTES = 8 << 20
"""Unpacked; 1,000 entries with the longest paths are well below it."""
_LEVEL = 3


class Unreadable(Exception):
    """A payload is not what the contract says."""


def packer() -> Callable[[Sequence[tuple[bytes, bytes, int]]], bytes]:
    """Returns a function that packs files, as (name, name at the destination or nothing if it is the same, size in
    bytes), into a chunk's payload. One thread at a time may use it."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)

    def pack(files: Sequence[tuple[bytes, bytes, int]]) -> bytes:
        message = pb.ChunkEntries()
        add = message.entries.add
        for name, arrival, size_bytes in files:
            entry = add()  # and not with arguments: that takes three times as long
            entry.name = name
            entry.size_bytes = size_bytes
            if arrival:
                entry.destination_name = arrival
        return compressor.compress(message.SerializeToString())

    return pack


def entries(payload: bytes) -> Sequence[pb.ChunkEntry]:
    """Returns a chunk's entries; raises Unreadable."""
    try:
        return pb.ChunkEntries.FromString(_unpacked(payload)).entries
    except DecodeError as error:
        raise Unreadable("a chunk's entries are no message") from error


def results(payloads: Sequence[bytes]) -> Mapping[int, pb.EntryResult]:
    """Returns what attempts told of a chunk's files, the latest word on each, by place; raises Unreadable."""
    try:
        return {
            result.index: result
            for payload in payloads
            for result in pb.ChunkResults.FromString(_unpacked(payload)).results
        }
    except DecodeError as error:
        raise Unreadable("a chunk's results are no message") from error


def _unpacked(payload: bytes) -> bytes:
    """Returns what was packed; more than it can rightly be is not even begun with."""
    try:
        # -1 where the frame does not say; then the bound below holds.
        if zstandard.frame_content_size(payload) > _MOST_BYTES:
            raise Unreadable("a chunk's payload is too large")
        return zstandard.ZstdDecompressor().decompress(payload, max_output_size=_MOST_BYTES)
    except zstandard.ZstdError as error:
        raise Unreadable("a chunk's payload is not packed as agreed") from error
