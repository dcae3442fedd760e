"""Replies as they come off the wire, well-behaved and otherwise."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_gridftp.entries import Entry, entry_of
from wherry_gridftp.markers import Markers
from wherry_gridftp.replies import MAX_LINE_BYTES, MAX_REPLY_BYTES, Garbled, Reply, ReplyReader

pytestmark = pytest.mark.row("T14")


def _replies(reader: ReplyReader, data: bytes, *, at_once: int = 1 << 20) -> list[Reply]:
    found: list[Reply] = []
    for start in range(0, len(data), at_once):
        reader.feed(data[start : start + at_once])
        while (reply := reader.next_reply()) is not None:
            found.append(reply)
    return found


def _protected(*lines: bytes, plain: bool = False) -> bytes:
    """A reply as it comes with a protection that changes nothing."""
    outer = [b"632-"] * (len(lines) - 1) + [b"632 "]
    return b"".join(
        before + base64.b64encode(line + (b"" if plain else b"\r\n")) + b"\r\n"
        for before, line in zip(outer, lines, strict=True)
    )


def _open_reader() -> ReplyReader:
    reader = ReplyReader()
    reader.protect(bytes)
    return reader


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_replies_are_the_same_however_they_are_cut_on_their_way(at_once: int) -> None:
    text = b"220 one\r\n211-two\r\n FEAT\r\n 211 not the end\r\n212 nor this\r\n211 end\r\n150 three\n226\r\n"
    replies = _replies(ReplyReader(), text, at_once=at_once)
    assert [(reply.code, len(reply.lines)) for reply in replies] == [(220, 1), (211, 5), (150, 1), (226, 1)]
    assert replies[0].lines == (b"220 one",)
    assert replies[2].preliminary
    assert not replies[3].preliminary


def test_a_protected_reply_ends_where_its_outer_lines_say() -> None:
    lines = [b"250-list", b" x; 250 End.", b"250 End.", b"226 done", b"250 End."]
    (reply,) = _replies(_open_reader(), _protected(*lines), at_once=5)
    assert reply == Reply(250, tuple(lines))


def test_a_reply_that_comes_as_one_protected_line_has_its_lines() -> None:
    (reply,) = _replies(_open_reader(), _protected(b"211-Extensions\r\n MLST\r\n MLSC\r\n211 End"))
    assert reply.lines == (b"211-Extensions", b" MLST", b" MLSC", b"211 End")


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\0"])
def test_ends_of_lines_within_the_protection_may_differ(end: bytes) -> None:
    (reply,) = _replies(_open_reader(), _protected(b"200 fine" + end, plain=True))
    assert reply.lines == (b"200 fine",)


def test_what_comes_without_protection_is_no_reply() -> None:
    """Otherwise whoever sits between could confirm a file that never arrived."""
    with pytest.raises(Garbled, match="without protection: 226 done"):
        _replies(_open_reader(), b"226 done\r\n")


@pytest.mark.parametrize(
    "text", [b"hello\r\n", b"\r\n", b"99 low\r\n", b"632 inner\r\n", b"2260 long\r\n", b"\xb2\xb2\xb2 no digits\r\n"]
)
def test_what_has_no_code_is_no_reply(text: bytes) -> None:
    with pytest.raises(Garbled):
        _replies(ReplyReader(), text)


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    with pytest.raises(Garbled, match="endless line"):
        _replies(ReplyReader(), b"220-" + b"x" * (2 * MAX_LINE_BYTES), at_once=1 << 16)


@pytest.mark.parametrize("line", [b"", b"x" * 1000])
def test_a_reply_without_an_end_is_not_kept_for_ever(line: bytes) -> None:
    text = b"220-\r\n" + (line + b"\r\n") * (1 + MAX_REPLY_BYTES // (len(line) + 40))
    with pytest.raises(Garbled, match="endless reply"):
        _replies(ReplyReader(), text)


def test_lines_that_somebody_takes_are_not_kept() -> None:
    taken: list[tuple[int, bytes]] = []

    def take(code: int, line: bytes) -> bool:
        taken.append((code, line))
        return code < 400

    reader = ReplyReader(take)
    replies = _replies(reader, b"250-a\r\n b\r\n c\r\n250 d\r\n550-e\r\n f\r\n550 g\r\n")
    assert taken == [(250, b" b"), (250, b" c"), (550, b" f")]
    assert [reply.lines for reply in replies] == [(b"250-a", b"250 d"), (b"550-e", b" f", b"550 g")]


def test_an_endless_text_is_told_in_part() -> None:
    assert len(Reply(550, (b"550 " + b"x" * 100_000,)).text) < 5000


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ((b"550-GridFTP-Errno: 13", b"550 End."), 13),
        ((b"500-System error in open: No space left on device", b"500 End."), 28),
        ((b"550 it does not please me",), 70),
        ((b"550 GridFTP-Errno: " + b"9" * 5000,), 999_999_999),
    ],
)
def test_the_error_number_is_the_servers_or_what_its_words_mean(lines: tuple[bytes, ...], number: int) -> None:
    assert Reply(550, lines).errno == number


_PIECES = st.one_of(
    st.sampled_from([b"\r\n", b"\n", b"220 ", b"250-", b"250 ", b"111 Range Marker ", b"632 ", b"Mj", b" Type=file;"]),
    st.sampled_from(
        [b"Size=", b"Modify=", b"UNIX.mode=", b"Errno: ", b"Stripe Bytes Transferred: ", b"9", b"-", b"; "]
    ),
    st.binary(max_size=12),
)


@given(st.lists(_PIECES, max_size=40), st.booleans())
def test_whatever_a_server_says_is_a_reply_or_garbled(pieces: list[bytes], protected: bool) -> None:
    reader, markers = _open_reader() if protected else ReplyReader(), Markers()
    try:
        for reply in _replies(reader, b"".join(pieces), at_once=9):
            assert 100 <= reply.code < 600
            assert isinstance(reply.errno, int)
            markers.take(reply)
            markers.take(Reply(112, reply.lines))
            for line in reply.lines:
                assert isinstance(entry_of(line), Entry)
    except Garbled:
        pass
