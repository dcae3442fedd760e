"""Named pairs of a large copy, cut into chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_chassis.errors import InvalidFields
from wherry_queue.jobs import Chunk
from wherry_queue.pairs import CHUNK_BYTES, CHUNK_FILES, Pair, PairCutter

pytestmark = pytest.mark.row("J10")

parts = st.binary(min_size=1, max_size=8).filter(lambda part: not set(part) & {0, 47} and part not in (b".", b".."))
names = st.lists(parts, min_size=1, max_size=4).map(b"/".join)


class Cut:
    """A cutter with what went into its chunks."""

    def __init__(self, source: bytes = b"/from", destination: bytes = b"/to", **given: Any) -> None:
        self.chunks: list[list[Pair]] = []
        self.cutter = PairCutter(
            source, destination, self._pack, same_site=given.get("same_site", False), most=given.get("most", 1000)
        )

    def _pack(self, files: Sequence[Pair]) -> bytes:
        self.chunks.append(list(files))
        return b"%d" % len(files)

    def of(self, *pairs: Pair) -> list[Chunk]:
        """All chunks of some pairs."""
        return [*self.cutter.add(pairs), *self.cutter.rest()]


def problem_of(pairs: Sequence[Pair], **given: Any) -> tuple[str, str]:
    """The field that is refused, and why."""
    with pytest.raises(InvalidFields) as refused:
        Cut(**given).of(*pairs)
    (problem,) = refused.value.field_problems
    return problem.field, problem.problem


@given(st.lists(st.tuples(names, names | st.just(b""), st.integers(0, CHUNK_BYTES * 2)), max_size=250))
def test_every_pair_is_in_one_chunk_and_no_chunk_is_too_large(pairs: list[Pair]) -> None:
    cut = Cut()
    chunks = cut.of(*pairs)
    expected = [(source, b"" if other in (b"", source) else other, size) for source, other, size in pairs]
    assert sorted(pair for chunk in cut.chunks for pair in chunk) == sorted(expected)
    assert all(len(chunk) <= CHUNK_FILES and chunk == sorted(chunk) for chunk in cut.chunks)
    assert all(chunk.total_bytes <= CHUNK_BYTES or chunk.entry_count == 1 for chunk in chunks)
    assert (cut.cutter.count, cut.cutter.total_bytes) == (len(pairs), sum(size for _, _, size in pairs))
    assert sum(chunk.entry_count for chunk in chunks) == len(pairs)


def test_chunks_are_given_as_soon_as_they_are_full() -> None:
    cut = Cut()
    assert not cut.cutter.add([(b"f%03d" % n, b"", 1) for n in range(CHUNK_FILES)])
    (chunk,) = cut.cutter.add([(b"one more", b"", 1)])
    assert chunk.entry_count == CHUNK_FILES
    (rest,) = cut.cutter.rest()
    assert rest.entry_count == 1
    assert not cut.cutter.rest()


def test_long_names_make_chunks_smaller() -> None:
    cut = Cut()
    chunks = cut.of(*((b"%d" % n + b"x" * 4000, b"y" * 4000, 1) for n in range(50)))
    assert max(chunk.entry_count for chunk in chunks) <= 20


@pytest.mark.parametrize(
    ("roots", "pair", "kept"),
    [
        ((b"/from", b"/to"), (b"a/b", b""), (b"a/b", b"")),
        ((b"/from", b"/to"), (b"/from/a", b"/to/b"), (b"a", b"b")),
        ((b"/from", b"/to"), (b"/from/a", b"a"), (b"a", b"")),
        ((b"/", b"/"), (b"/a/b", b"/c"), (b"a/b", b"c")),
        ((b"/from", b"/to"), (b"..a/.b", b"..."), (b"..a/.b", b"...")),
        ((b"/from", b"/to"), (b"\xff\n", b""), (b"\xff\n", b"")),
    ],
)
def test_paths_are_kept_as_they_lie_below_the_roots(
    roots: tuple[bytes, bytes], pair: tuple[bytes, bytes], kept: tuple[bytes, bytes]
) -> None:
    cut = Cut(*roots)
    cut.of((*pair, 1))
    assert cut.chunks == [[(*kept, 1)]]


@pytest.mark.parametrize(
    "path",
    [
        *(b"/elsewhere/a", b"/from", b"/fromage", b"/from/", b"/from/../a", b"//from/a"),
        *(b"", b"a//b", b"a/", b".", b"..", b"a/../b", b"./a", b"a/.", b"a\0b", b"..\n/.."),
    ],
)  # fmt: skip
def test_paths_that_lie_elsewhere_or_go_up_are_refused_with_their_place(path: bytes) -> None:
    field, _ = problem_of([(b"good", b"", 1), (path, b"", 1)])
    assert field == "pairs[1].source_path"
    if path:
        field, _ = problem_of([(b"good", path.replace(b"from", b"to"), 1)])
        assert field == "pairs[0].destination_path"


def test_a_pairs_place_is_counted_over_all_messages() -> None:
    cut = Cut()
    cut.cutter.add([(b"a", b"", 1), (b"b", b"", 1)])
    with pytest.raises(InvalidFields) as refused:
        cut.cutter.add([(b"c", b"", 1), (b"../d", b"", 1)])
    assert refused.value.field_problems[0].field == "pairs[3].source_path"


def test_a_file_is_not_copied_onto_itself() -> None:
    for destination, path in ((b"/x", b"/x/a/b"), (b"/x/a", b"b"), (b"/x", b"")):
        field, _ = problem_of([(b"a/b", path, 1)], source=b"/x", destination=destination, same_site=True)
        assert field == "pairs[0].destination_path"
    assert Cut(b"/x", b"/x", same_site=True).of((b"a", b"b", 1))
    assert Cut(b"/x", b"/x", same_site=False).of((b"a", b"", 1))


def test_what_is_too_long_or_negative_is_refused() -> None:
    assert problem_of([(b"a" * 4097, b"", 1)])[0] == "pairs[0].source_path"
    assert problem_of([(b"a", b"a" * 4097, 1)])[0] == "pairs[0].destination_path"
    assert problem_of([(b"a", b"", -1)])[0] == "pairs[0].size_bytes"
    assert Cut().of((b"a" * 4096, b"", 0))


def test_more_bytes_than_can_be_counted_are_refused() -> None:
    assert problem_of([(b"a", b"", 1 << 61), (b"b", b"", 1 << 61), (b"c", b"", 1)])[0] == "pairs[2].size_bytes"


def test_one_pair_more_than_a_job_may_have_is_refused_and_says_what_to_do() -> None:
    three: list[Pair] = [(b"a", b"", 1), (b"b", b"", 1), (b"c", b"", 1)]
    field, problem = problem_of(three, most=2)
    assert field == "pairs[2]"
    assert problem.endswith("make several jobs")
    assert Cut(most=3).of(*three)


def test_below_a_root_whose_beginning_is_not_known_names_are_relative() -> None:
    cut = Cut(b"a", b"")
    cut.of((b"x/y", b"", 1), (b"z", b"other", 1))
    assert cut.chunks == [[(b"x/y", b"", 1), (b"z", b"other", 1)]]
    assert cut.cutter.shown == [(b"a/x/y", b"x/y"), (b"a/z", b"other")]
    field, problem = problem_of([(b"x", b"/x", 1)], source=b"a", destination=b"")
    assert field == "pairs[0].destination_path"
    assert "write that absolutely too" in problem
    assert problem_of([(b"/x", b"", 1)], source=b"a", destination=b"/b")[0] == "pairs[0].source_path"
    assert problem_of([(b"x", b"", 1)], source=b"a", destination=b"a", same_site=True)[0] == "pairs[0].destination_path"
