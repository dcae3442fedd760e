"""Chunks as they travel: many names in one compressed payload."""

from __future__ import annotations

from collections.abc import Sequence

import zstandard
from wherry.queue.v1 import lease_service_pb2 as lease

from wherry_worker.engine.paths import to_bytes, to_text
from wherry_worker.work import (
    ChunkItem,
    DestinationFile,
)

#: An unpacked chunk holds at most 1,000 names; more is a fault or an attack.
_MAX_UNPACKED_BYTES = 8 << 20


def pack_chunk(items: Sequence[ChunkItem]) -> lease.EntryChunk:
    """Returns items as a chunk."""
    entries = lease.ChunkEntries(
        entries=[
            lease.ChunkEntry(
                name=to_bytes(item.name),
                destination_name=to_bytes(item.destination_name),
                size_bytes=item.size_bytes,
                modify_time_s=item.modify_time_s,
                mode=item.mode,
                destination=None
                if item.destination is None
                else lease.DestinationFile(
                    size_bytes=item.destination.size_bytes, modify_time_s=item.destination.modify_time_s
                ),
            )
            for item in items
        ]
    )
    return lease.EntryChunk(
        payload=compress(entries.SerializeToString()),
        entry_count=len(items),
        total_bytes=sum(item.size_bytes for item in items),
    )


def unpack_chunk(chunk: lease.EntryChunk) -> tuple[ChunkItem, ...]:
    """Returns a chunk's items. Raises ValueError for a payload that is none."""
    if zstandard.frame_content_size(chunk.payload) > _MAX_UNPACKED_BYTES:
        raise ValueError("a chunk's payload is too large")
    raw = zstandard.ZstdDecompressor().decompress(chunk.payload, max_output_size=_MAX_UNPACKED_BYTES)
    return tuple(
        ChunkItem(
            to_text(item.name),
            to_text(item.destination_name),
            item.size_bytes,
            item.modify_time_s,
            item.mode,
            DestinationFile(item.destination.size_bytes, item.destination.modify_time_s)
            if item.HasField("destination")
            else None,
        )
        for item in lease.ChunkEntries.FromString(raw).entries
    )


def compress(raw: bytes) -> bytes:
    """Returns bytes as the contracts have payloads: a zstd frame."""
    return zstandard.ZstdCompressor(level=3).compress(raw)
