"""What becomes of a file that is at the destination already."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_worker.engine.messages import Comparison, Entry, Overwrite
from wherry_worker.engine.overwriting import Decision, after_difference, algorithm_to_compare, decide, name_beside
from wherry_worker.engine.paths import to_bytes, to_text

J8 = pytest.mark.row("J8")
SOURCE = Entry("f", "file", 10, 1000)


def there(size_bytes: int = 10, modify_time_s: int = 1000) -> Entry:
    return Entry("f", "file", size_bytes, modify_time_s)


@J8
@pytest.mark.parametrize(
    ("overwrite", "comparison", "existing", "decision"),
    [
        ("never", "size_and_time", there(11), "refuse"),
        ("never", "size_and_time", there(), "compare"),
        ("always", "size_and_time", there(11), "copy"),
        ("always", "size_and_time", there(), "compare"),
        ("if_newer", "size_and_time", there(11, 999), "copy"),
        ("if_newer", "size_and_time", there(11, 1000), "leave"),
        ("if_newer", "size_and_time", there(11, 1001), "leave"),
        ("if_newer", "size_and_time", there(10, 999), "compare"),
        ("if_different", "size_and_time", there(), "leave"),
        ("if_different", "size_and_time", there(11), "copy"),
        ("if_different", "size_and_time", there(10, 999), "compare"),
        ("if_different", "size_and_time", there(10, 1001), "compare"),
        ("if_different", "checksum", there(), "compare"),
        ("if_different", "checksum", there(11), "copy"),
        ("keep_both", "size_and_time", there(), "compare"),
        ("keep_both", "size_and_time", there(11), "beside"),
    ],
)
def test_each_policy_decides_as_it_says(
    overwrite: Overwrite, comparison: Comparison, existing: Entry, decision: Decision
) -> None:
    assert decide(overwrite, comparison, SOURCE, existing) == decision


@J8
@pytest.mark.parametrize("overwrite", ["never", "always", "if_newer", "if_different", "keep_both"])
def test_where_nothing_is_there_every_policy_copies(overwrite: Overwrite) -> None:
    assert decide(overwrite, "size_and_time", SOURCE, None) == "copy"


@J8
@pytest.mark.parametrize(
    ("asked", "comparison", "modify_time_s", "algorithm"),
    [
        ("adler32", "size_and_time", 1000, "adler32"),
        ("adler32", "size_and_time", 999, "md5"),
        ("adler32", "size_and_time", 0, "md5"),
        ("adler32", "checksum", 1000, "md5"),
        ("sha256", "size_and_time", 999, "sha256"),
        ("sha256", "checksum", 1000, "sha256"),
    ],
)
def test_adler32_is_not_believed_of_what_may_be_an_edited_file(
    asked: str, comparison: Comparison, modify_time_s: int, algorithm: str
) -> None:
    assert algorithm_to_compare(asked, comparison, SOURCE, there(10, modify_time_s)) == algorithm


@J8
def test_a_time_that_is_not_told_proves_nothing() -> None:
    unknown = Entry("f", "file", 10, 0)
    assert decide("if_newer", "size_and_time", unknown, there(11)) == "copy"
    assert decide("if_different", "size_and_time", unknown, unknown) == "compare"


@J8
def test_bytes_that_differ_are_never_left_by_if_different() -> None:
    assert after_difference("if_different") == "copy"
    assert after_difference("never") == "refuse"
    assert after_difference("keep_both") == "beside"


@J8
@pytest.mark.parametrize(
    ("name", "number", "beside"),
    [
        ("results.csv", 1, "results (1).csv"),
        ("a.tar.gz", 2, "a (2).tar.gz"),
        ("noext", 1, "noext (1)"),
        (".hidden", 1, ".hidden (1)"),
        ("dot.", 1, "dot (1)."),
    ],
)
def test_a_file_beside_another_has_a_name_like_it(name: str, number: int, beside: str) -> None:
    assert name_beside(name, number) == beside


@J8
@given(st.binary(min_size=1, max_size=255), st.integers(1, 1000))
def test_it_is_never_too_long_and_never_the_same(raw: bytes, number: int) -> None:
    name = to_text(raw.replace(b"/", b"_").replace(b"\0", b"_"))
    beside = name_beside(name, number)
    assert 0 < len(to_bytes(beside)) <= 255
    assert beside != name
    assert "/" not in beside


@J8
@given(st.text(alphabet="äö€𝄞x", min_size=60, max_size=200), st.integers(1, 1000))
def test_half_a_character_is_never_left(name: str, number: int) -> None:
    assert to_bytes(name_beside(name, number)).decode()
