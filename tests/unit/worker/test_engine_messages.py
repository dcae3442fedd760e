"""Messages between lease process and engine: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_worker.engine.codec import ProtocolError, decode, encode
from wherry_worker.engine.framing import MAX_FRAME_BYTES, FramingError, body_length, pack, read_frame
from wherry_worker.engine.messages import (
    PROTOCOL_VERSION,
    Begin,
    CopyFiles,
    CopyItem,
    Door,
    Entry,
    EntryBatch,
    Extend,
    Finished,
    ItemDone,
    LeftBehind,
    ListDirectory,
    Pair,
    Problem,
    RemoveTemporaries,
    Setup,
    StatResult,
)
from wherry_worker.engine.paths import to_bytes, to_text

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name and b"/" not in name).map(to_text)


@given(NAMES, st.integers(0, 2**63), st.integers(0, 2**31))
def test_entries_with_any_name_and_size_travel_whole(name: str, size: int, when: int) -> None:
    entry = Entry(name, "file", size, when, 0o644)
    problem = Problem("REASON", "words", "user", retryable=True, help="do", stops=True)
    batch = EntryBatch((Pair(entry), Pair(entry, Entry(name, "unlistable", problem=problem))))
    assert decode(encode(batch)) == batch


@given(st.lists(NAMES, max_size=5), st.floats(0.001, 1e6))
def test_tasks_travel_whole(names: list[str], deadline_s: float) -> None:
    items = tuple(CopyItem(index, name, name, index) for index, name in enumerate(names))
    begin = Begin(CopyFiles("tag", 3, "/a", "/b", items, "always", remove_stale=True, later=(3, 5)), deadline_s)
    assert decode(encode(begin)) == begin


@pytest.mark.parametrize(
    "message",
    [
        Setup("gfal2", Door("sites/a", "gsiftp", "h", 1, "/c", "/t", "/r", rename_replaces=False)),
        Begin(ListDirectory("/", beside=None, after="x"), 1.0),
        Extend(2.5),
        StatResult(None),
        ItemDone(1, problem=Problem("R", "m")),
        Begin(RemoveTemporaries("tag", 3, ("/a", "/b"), keep_resumable=True), 1.0),
        LeftBehind(),
        Finished(None, worn=True),
    ],
)
def test_messages_travel_whole(message: Any) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "change",
    [
        {"v": PROTOCOL_VERSION + 1},
        {"t": "Popen"},
        {"m": {"deadline_s": "soon"}},
        {"m": {"deadline_s": 1.0, "more": 1}},
        {"m": {}},
        {"m": 3},
    ],
)
def test_what_is_not_the_protocols_is_refused(change: dict[str, Any]) -> None:
    good = json.loads(encode(Extend(1.0)))
    with pytest.raises(ProtocolError):
        decode(json.dumps(good | change).encode())


def test_what_is_no_json_is_refused() -> None:
    for body in (b"", b"[]", b"{}", b"\xff", b"null"):
        with pytest.raises(ProtocolError):
            decode(body)


@given(st.binary(max_size=300), st.integers(1, 7))
def test_frames_come_out_of_a_stream_in_pieces_as_they_went_in(body: bytes, piece: int) -> None:
    stream = io.BytesIO(pack(body) + pack(b"next"))

    def read(count: int) -> bytes:
        return stream.read(min(count, piece))

    assert read_frame(read) == body
    assert read_frame(read) == b"next"
    assert read_frame(read) is None


def test_a_frame_cut_short_or_too_long_is_refused() -> None:
    with pytest.raises(FramingError):
        read_frame(io.BytesIO(pack(b"12345")[:-1]).read)
    with pytest.raises(FramingError):
        read_frame(io.BytesIO(b"\0\0").read)
    with pytest.raises(FramingError):
        body_length((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


@given(st.binary(max_size=60))
def test_paths_keep_every_byte(raw: bytes) -> None:
    assert to_bytes(to_text(raw)) == raw


def test_the_engine_side_imports_nothing_but_the_standard_library_and_gfal2() -> None:
    """Read from the sources, as the engine runs under an interpreter that has nothing else."""
    import ast
    from pathlib import Path

    import wherry_gridftp
    import wherry_worker.engine

    allowed = set(sys.stdlib_module_names) | {"gfal2"}
    packages = [Path(package.__file__ or "").parent for package in (wherry_worker.engine, wherry_gridftp)]
    for file in [file for package in packages for file in package.glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                ours = name.startswith(("wherry_worker.engine", "wherry_gridftp"))
                assert ours or name.split(".")[0] in allowed, (file.name, name)
