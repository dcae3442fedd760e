"""Relays whose connections can be cut, on which chaos runs stand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wherry_testing.cutting import Cutter, Relay
from wherry_testing.waiting import PATIENCE_S


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture(params=["tcp", "unix"])
async def relay(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Relay]:
    """A relay to somebody who says everything again."""
    with Cutter() as cutter:
        if request.param == "unix":
            server = await asyncio.start_unix_server(_echo, tmp_path / "echo")
            yield cutter.relay(tmp_path / "echo", at=tmp_path / "relay")
        else:
            server = await asyncio.start_server(_echo, "127.0.0.1", 0)
            yield cutter.relay(("127.0.0.1", server.sockets[0].getsockname()[1]))
    server.close()


async def _connect(relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(relay.place, Path):
        return await asyncio.open_unix_connection(relay.place)
    return await asyncio.open_connection(*relay.place)


async def _says_again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bool:
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.readexactly(len(data)), PATIENCE_S) == data
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def test_bytes_pass_as_they_are(relay: Relay) -> None:
    reader, writer = await _connect(relay)
    assert await _says_again(reader, writer, random.Random(1).randbytes(3_000_000))
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    writer.close()


async def test_one_connection_is_cut_and_the_others_are_not(relay: Relay) -> None:
    connections = [await _connect(relay) for _ in range(4)]
    assert [await _says_again(*one, b"hello") for one in connections] == [True] * 4
    assert relay.cut(one=random.Random(1)) == 1
    assert sorted([await _says_again(*one, b"hello") for one in connections]) == [False, True, True, True]
    for _, writer in connections:
        writer.close()


async def test_all_are_cut_and_whoever_connects_again_is_served(relay: Relay) -> None:
    connections = [await _connect(relay) for _ in range(3)]
    assert [await _says_again(*one, b"hello") for one in connections] == [True] * 3
    assert relay.cut() == 3
    assert [await _says_again(*one, b"hello") for one in connections] == [False] * 3
    again = await _connect(relay)
    assert await _says_again(*again, b"hello")
    for _, writer in [*connections, again]:
        writer.close()


async def test_a_place_where_nobody_listens_is_a_connection_that_ends(tmp_path: Path) -> None:
    with Cutter() as cutter:
        relay = cutter.relay(tmp_path / "nobody")
        reader, writer = await _connect(relay)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE_S)
        writer.close()
