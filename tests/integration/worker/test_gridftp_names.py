"""Names, whatever they are, through real GridFTP servers: listed, copied, renamed and removed byte for byte, or said to
be beyond the protocol, while all others go.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from wherry_testing.engine_conformance import EngineRig, copy_with, failure, in_order, listing, run
from wherry_worker.engine.messages import CopyFiles, CopyItem, RemoveFiles, Rename, Stat, StatResult
from wherry_worker.engine.paths import to_bytes, to_text

_ODD = (
    " \t\n\r#%?&+;:=@!$'\"`\\|<>()[]{}*~^,.-_\x01\x0b\x0c\x1b\x7f\x85\u00a0"
    "\u200b\u200e\u200f\u2028\u202e\u2066\u2069\ufeff\u0301\u0308\u0e33äß€日🚢/a"
)
#: What could be taken for something else: replies, facts, options, commands, addresses, ways.
_TELLING = [
    *("226 x", " 226 x", "250 End", " 250 End.", "632 x", "type=dir; a", " Type=file;Size=9; a", "size=1;", "; ", " ;"),
    *(
        "-rf",
        "--",
        "-",
        "~",
        "~root",
        "*",
        "?",
        "[a]",
        "{a,b}",
        "%41",
        "%2F",
        "%00",
        "a%",
        "#",
        "a#b",
        "?copy_mode=push",
    ),
    *("..a", "...", ". ", " .", ".. ", "\\", "\\n", "a\\", '"', '""', "'", "$(id)", "`id`", "|id", ">x", "&", "a:b"),
    *(
        "DELE x",
        "NOOP",
        "file:x",
        ".wherry-x",
        ".wherry-job.8-1-0",
        "\ufeffa",
        "a\u0301",
        "á",
        "\u202egnp.a",
    ),
]


def _is_a_name(name: bytes) -> bool:
    return 0 < len(name) <= 255 and b"/" not in name and b"\0" not in name and name not in (b".", b"..")


_TEXTS = st.text(alphabet=st.sampled_from(_ODD), min_size=1, max_size=20).map(str.encode)
_SPLICED = st.lists(st.sampled_from(_TELLING), min_size=1, max_size=3).map(lambda parts: "".join(parts).encode())
_LONG = st.text(alphabet=st.sampled_from(_ODD), min_size=255, max_size=255).map(lambda text: text.encode()[:255])
_NAMES = st.one_of(
    _TEXTS,
    _SPLICED,
    _LONG,
    st.binary(min_size=1, max_size=20),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "ignore")),
).filter(_is_a_name)
_MANY = st.sets(_NAMES, min_size=1, max_size=30)
_ROUNDS = settings(
    max_examples=24,
    deadline=None,
    print_blob=True,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink against real servers would take for ever
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _is_carried(name: bytes) -> bool:
    return b"\n" not in name and b"\r" not in name


def _prepare(rig: EngineRig, names: set[bytes]) -> None:
    for folder in (rig.source, rig.destination):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    for name in names:
        (rig.source / os.fsdecode(name)).write_bytes(b"content of " + name)
    rig.own()


def _there(folder: Path) -> set[bytes]:
    return {os.fsencode(path.name) for path in folder.iterdir()}


@pytest.mark.row("D7")
@pytest.mark.parametrize("engine_name", ["pipelined"], indirect=True)
@_ROUNDS
@example({name.encode() for name in _TELLING})
@example({b"a", b"a ", b" a", b"a\t", b"a\r\n", b"a\n", b"a\r", b"\n", b"\r\n", b" ", b"  ", b"x" * 255, b"\xff" * 255})
@example({b"a\n226 x", b"a\r\n250 End.", b"a\r\n Type", b"a\n632 x", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"z"})
@given(_MANY)
async def test_many_names_in_one_chunk_are_listed_copied_renamed_and_removed(rig: EngineRig, names: set[bytes]) -> None:
    _prepare(rig, names)
    carried = {name for name in names if _is_carried(name)}
    async with rig.open() as engine:
        entries = [pair.source for pair in await listing(engine)]
        assert {to_bytes(entry.name) for entry in entries if entry.kind == "file"} == carried
        unlistable = [entry for entry in entries if entry.kind == "unlistable"]
        assert bool(unlistable) == bool(names - carried)
        assert {entry.problem.reason for entry in unlistable if entry.problem} <= {"SOURCE_NAME_NOT_CARRIED"}

        ordered = sorted(names)
        done = await copy_with(engine, *ordered)
        refused = {ordered[item.index]: item.problem.reason for item in done if item.problem}
        assert refused == dict.fromkeys(names - carried, "SOURCE_NAME_NOT_CARRIED")
        assert _there(rig.destination) == carried
        for name in carried:
            assert (rig.destination / os.fsdecode(name)).read_bytes() == b"content of " + name

        # Each gets the name of another one, so that every name is looked for, left and taken.
        ring = sorted(carried)
        if len(ring) > 1:
            await run(engine, Rename("/" + to_text(ring[0]), "/.between"))
            for name, new in zip(ring[1:], ring, strict=False):
                await run(engine, Rename("/" + to_text(name), "/" + to_text(new)))
            await run(engine, Rename("/.between", "/" + to_text(ring[-1])))
            for name, new in zip([*ring[1:], ring[0]], ring, strict=True):
                assert (rig.source / os.fsdecode(new)).read_bytes() == b"content of " + name
        for name in names - carried:
            assert await failure(engine, Rename("/" + to_text(name), "/new")) == "SOURCE_NAME_NOT_CARRIED"

        removed = in_order(await run(engine, RemoveFiles("/", tuple(to_text(name) for name in ordered))))
        refused = {ordered[item.index]: item.problem.reason for item in removed if item.problem}
        assert refused == dict.fromkeys(names - carried, "SOURCE_NAME_NOT_CARRIED")
    assert _there(rig.source) == names - carried
    assert _there(rig.destination) == carried


@pytest.mark.row("D7")
@pytest.mark.parametrize("engine_name", ["pipelined"], indirect=True)
async def test_a_name_that_imitates_an_entry_of_the_listing_leads_nowhere_and_hides_no_other(rig: EngineRig) -> None:
    """What follows its line break looks like an entry: nobody can tell, but it is of this directory, and not there."""
    inside = {b"a\r\n Type=dir;Size=1; ..", b"b\r\n Type=file;Size=4; ghost", b"c\r\n Type=cdir; .", b"good", b"z"}
    (rig.source / "dir").mkdir()
    for name in inside:
        (rig.source / "dir" / os.fsdecode(name)).write_bytes(name)
    (rig.source / "precious").write_bytes(b"1")
    rig.own()
    async with rig.open() as engine:
        found = [pair.source for pair in await listing(engine, "/dir")]
        assert {"good", "z"} <= {entry.name for entry in found if entry.kind == "file"}
        assert {entry.kind for entry in found if entry.name in (".", "..")} == {"unlistable"}
        done = await copy_with(engine, b"dir/good", b"dir/ghost", make_parents=True)
        assert [item.problem.reason if item.problem else None for item in done] == [None, "SOURCE_NOT_FOUND"]
    assert (rig.source / "precious").exists()


@pytest.mark.row("D7")
@pytest.mark.parametrize("engine_name", ["pipelined"], indirect=True)
@_ROUNDS
@example({b"a ", b"-", b"~", b"x" * 255, b"Type=file; a", b"226 x"})
@given(st.sets(_NAMES.filter(_is_carried), min_size=1, max_size=12))
async def test_directories_may_have_any_name_that_the_protocol_carries(rig: EngineRig, names: set[bytes]) -> None:
    _prepare(rig, set())
    for name in names:
        (rig.source / os.fsdecode(name)).mkdir()
        (rig.source / os.fsdecode(name) / "file").write_bytes(b"content of " + name)
    rig.own()
    paths = [to_text(name) + "/file" for name in sorted(names)]
    items = tuple(CopyItem(index, path, path) for index, path in enumerate(paths))
    async with rig.open() as engine:
        entries = [pair.source for pair in await listing(engine)]
        assert {to_bytes(entry.name) for entry in entries if entry.kind == "directory"} == names
        done = in_order(await run(engine, CopyFiles("job.7", 1, "/", "/", items, make_parents=True)))
        assert [item.problem for item in done] == [None] * len(names)
        for name in names:
            (found,) = await run(engine, Stat("destination", f"/{to_text(name)}"))
            assert isinstance(found, StatResult)
            assert found.entry is not None
            assert found.entry.kind == "directory"
    assert _there(rig.destination) == names
    for name in names:
        assert (rig.destination / os.fsdecode(name) / "file").read_bytes() == b"content of " + name


@pytest.mark.row("D7")
@pytest.mark.parametrize("engine_name", ["gfal2"], indirect=True)
@settings(_ROUNDS, max_examples=6)
@example({b" a ", b"-rf", b"%41", b"#", b"a\nb", b"x" * 255})
@example({b"a", b"a ", b"a\t", b"a\r\n"})
@given(st.sets(_NAMES, min_size=1, max_size=3))
async def test_any_name_is_copied_byte_for_byte_or_said(rig: EngineRig, names: set[bytes]) -> None:
    _prepare(rig, names)
    carried = {name for name in names if _is_carried(name)}
    async with rig.open() as engine:
        done = await copy_with(engine, *sorted(names))
        refused = {sorted(names)[item.index] for item in done if item.problem}
        assert refused == names - carried
        await run(engine, RemoveFiles("/", tuple(to_text(name) for name in carried)))
    assert _there(rig.source) == names - carried
    assert _there(rig.destination) == carried
    for name in carried:
        assert (rig.destination / os.fsdecode(name)).read_bytes() == b"content of " + name


@pytest.mark.row("D7")
@pytest.mark.parametrize("engine_name", ["pipelined", "gfal2"], indirect=True)
async def test_a_name_beyond_the_protocol_in_a_request_is_a_failure_of_that_file(rig: EngineRig) -> None:
    (rig.source / "good").write_bytes(b"1")
    rig.own()
    async with rig.open() as engine:
        done = await copy_with(engine, b"line\nbreak", b"good")
    assert [item.problem.reason if item.problem else None for item in done] == ["SOURCE_NAME_NOT_CARRIED", None]
