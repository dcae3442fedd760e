"""Names, whatever they are, through real GridFTP servers: copied byte for byte, or said to be beyond the protocol."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from wherry_testing.engine_conformance import EngineRig, copy_with, listing, run
from wherry_worker.engine.messages import RemoveFiles
from wherry_worker.engine.paths import to_bytes, to_text

_ODD = " \t\n\r#%?&+;:=@!$'\"`\\|<>()[]{}*~^,.-_\x01\x0b\x0c\x7f\x85\u00a0\u200b\u2028\ufeffäß€日🚢/a"


def _is_a_name(name: bytes) -> bool:
    return 0 < len(name) <= 255 and b"/" not in name and b"\0" not in name and name not in (b".", b"..")


_TEXTS = st.text(alphabet=st.sampled_from(_ODD), min_size=1, max_size=20).map(str.encode)
_NAMES = st.one_of(
    _TEXTS, st.binary(min_size=1, max_size=20), st.text(max_size=60).map(lambda t: t.encode("utf-8", "ignore"))
)


@pytest.fixture
def engine_name() -> str:
    return "gfal2"


@pytest.mark.row("D7")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example({b" a ", b"-rf", b"%41", b"#", b"a\nb", b"x" * 255})
@example({b"a", b"a ", b"a\t", b"a\r\n"})
@given(st.sets(_NAMES.filter(_is_a_name), min_size=1, max_size=4))
async def test_any_name_is_copied_byte_for_byte_or_said(rig: EngineRig, names: set[bytes]) -> None:
    for folder in (rig.source, rig.destination):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    for name in names:
        (rig.source / os.fsdecode(name)).write_bytes(b"content of " + name)
    rig.own()
    carried = {name for name in names if b"\n" not in name and b"\r" not in name}
    async with rig.open() as engine:
        entries = [pair.source for pair in await listing(engine)]
        assert {to_bytes(entry.name) for entry in entries if entry.kind == "file"} == carried
        assert len([entry for entry in entries if entry.kind == "unlistable"]) == len(names - carried)
        done = await copy_with(engine, *sorted(carried))
        assert [item.problem for item in done] == [None] * len(carried)
        for name in carried:
            assert (rig.destination / os.fsdecode(name)).read_bytes() == b"content of " + name
        await run(engine, RemoveFiles("/", tuple(to_text(name) for name in carried)))
    assert {os.fsencode(path.name) for path in rig.source.iterdir()} == names - carried
    assert {os.fsencode(path.name) for path in rig.destination.iterdir()} == carried


@pytest.mark.row("D7")
async def test_a_name_beyond_the_protocol_in_a_request_is_a_failure_of_that_file(rig: EngineRig) -> None:
    (rig.source / "good").write_bytes(b"1")
    rig.own()
    async with rig.open() as engine:
        done = await copy_with(engine, b"line\nbreak", b"good")
    assert [item.problem.reason if item.problem else None for item in done] == ["SOURCE_NAME_NOT_CARRIED", None]
