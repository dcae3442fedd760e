"""How what is found is cut into chunks and batches."""

from __future__ import annotations

from wherry_worker.chunking import BATCH_CHUNKS, BatchBuilder, ChunkLimits
from wherry_worker.work import ChunkItem, Found


def cut(count: int, limits: ChunkLimits, size_bytes: int = 10) -> list[Found]:
    batch, batches = BatchBuilder("", limits), []
    for number in range(count):
        if batch.full:
            batches.append(batch.take())
        batch.add_file(ChunkItem(f"f{number:06}", "", size_bytes, 0, 0o644))
    return [*batches, batch.take()]


def test_no_chunk_but_the_last_goes_with_fewer_files_than_it_may_hold() -> None:
    sizes = [len(chunk) for one in cut(1004, ChunkLimits(items=10)) for chunk in one.chunks]
    assert sizes == [10] * 100 + [4]


def test_the_first_batches_are_small_so_that_their_copying_begins_soon() -> None:
    counts = [len(one.chunks) for one in cut(1000, ChunkLimits(items=10))]
    assert counts[:4] == [1, 2, 3, 4]
    assert max(counts) == BATCH_CHUNKS


def test_bytes_fill_a_chunk_too() -> None:
    sizes = [len(chunk) for one in cut(9, ChunkLimits(total_bytes=20)) for chunk in one.chunks]
    assert sizes == [2, 2, 2, 2, 1]


def test_batches_begin_where_those_before_ended() -> None:
    batches = cut(100, ChunkLimits(items=3))
    assert [one.after for one in batches] == ["", *(one.cursor for one in batches[:-1])]
    assert batches[-1].cursor == "f000099"
