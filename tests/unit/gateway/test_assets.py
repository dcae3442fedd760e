"""The static process, a real one on its unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import brotli
import pytest
from google.protobuf import descriptor_pb2
from wherry_chassis.buildout import BuildoutError, load
from wherry_gateway import descriptors
from wherry_gateway.assets import run_assets
from wherry_testing.buildout_text import BUILDOUT
from wherry_testing.unix_http import Answer, UnixConnection, get
from wherry_testing.waiting import until
from whitenoise.compress import Compressor

_GATEWAY = """
[gateway]
certificate = "hosts/gateway.pem"
key = "hosts/gateway.key"
public_url = "https://wherry.example"
listen = "127.0.0.1:0"
public_certificate = "web.pem"
public_key = "web.key"
state = "gateway"
"""
_PROGRAM = """
import sys
from pathlib import Path
from wherry_chassis.buildout import BuildoutError, load
from wherry_gateway.assets import run_assets
try:
    run_assets(load(Path(sys.argv[1])), Path(sys.argv[2]))
except BuildoutError as error:
    sys.exit(str(error))
"""
_INDEX = "<!doctype html><title>Wherry</title>"
_SCRIPT = "console.log('wherry');\n" * 10_000


class Assets:
    """A running process and its page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page = folder / "page"
        self.socket = folder / "gateway" / "assets.sock"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _PROGRAM, str(self.folder / "buildout.toml"), str(self.page)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)

    async def serving(self) -> subprocess.Popen[str]:
        self.process = self.start()
        await until(self.answers, within_s=30)
        return self.process

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.get("/").status == 200
        return False

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return get(self.socket, path, method, None, **headers)

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.communicate(timeout=10)


def processes_of_session(leader: int) -> list[int]:
    """Live processes that a process started in its own session, itself included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, _, session = (entry / "stat").read_text().rpartition(") ")[2].split()[:4]
                if int(session) == leader and state != "Z":
                    found.append(int(entry.name))
    return found


@contextlib.contextmanager
def prepared() -> Iterator[Assets]:
    with tempfile.TemporaryDirectory(prefix="assets-") as name:  # short: a socket's name has 107 bytes
        assets = Assets(Path(name))
        text = BUILDOUT if "[gateway]" in BUILDOUT else BUILDOUT + _GATEWAY
        (assets.folder / "buildout.toml").write_text(text)
        write_page(assets.page)
        try:
            yield assets
        finally:
            assets.stop()


@pytest.fixture
def stopped() -> Iterator[Assets]:
    with prepared() as assets:
        yield assets


@pytest.fixture(scope="module")
def assets() -> Iterator[Assets]:
    """One that the tests only read from."""
    with prepared() as running:
        asyncio.run(running.serving())
        yield running


def write_page(page: Path) -> None:
    files = {"index.html": _INDEX, "favicon.svg": "<svg/>", "assets/app-1a2b.js": _SCRIPT}
    for name, content in files.items():
        path = page / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    Compressor(quiet=True).compress(str(page / "assets" / "app-1a2b.js"))


@pytest.mark.row("V25", missing="every screen there will be")
def test_every_screens_address_is_the_page_and_is_asked_for_again_each_time(assets: Assets) -> None:
    for path in ("/", "/index.html", "/jobs/1234", "/sites?left=a%3A%2Fdata", "/v2/nothing.js"):
        answer = assets.get(path)
        assert (answer.status, answer.body.decode()) == (200, _INDEX), path
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.headers["cache-control"] == "no-cache"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.row("V25", missing="every screen there will be")
def test_an_asset_that_is_not_there_is_not_the_page(assets: Assets) -> None:
    answer = assets.get("/assets/app-0000.js")
    assert answer.status == 404
    assert answer.headers["cache-control"] == "no-store"
    assert _INDEX.encode() not in answer.body
    for path in ("/assets/../../buildout.toml", "/assets/%2e%2e/%2e%2e/buildout.toml", "/assets/"):
        assert assets.get(path).status == 404, path
    assert assets.get("/../buildout.toml").body.decode() == _INDEX


@pytest.mark.row("D19")
def test_hashed_files_are_kept_for_a_year_and_others_are_asked_for_again(assets: Assets) -> None:
    script = assets.get("/assets/app-1a2b.js")
    assert (script.status, script.body.decode()) == (200, _SCRIPT)
    assert script.headers["content-type"].startswith("text/javascript")
    assert set(script.headers["cache-control"].split(", ")) == {"max-age=31536000", "public", "immutable"}
    icon = assets.get("/favicon.svg")
    assert (icon.headers["content-type"], icon.headers["cache-control"]) == ("image/svg+xml", "no-cache")


@pytest.mark.row("V25", missing="every screen there will be")
def test_a_file_comes_compressed_to_who_takes_it(assets: Assets) -> None:
    for encoding, unpack in (("br", brotli.decompress), ("gzip", gzip.decompress)):
        answer = assets.get("/assets/app-1a2b.js", accept_encoding=encoding)
        assert answer.headers["content-encoding"] == encoding
        assert answer.headers["vary"] == "Accept-Encoding"
        assert len(answer.body) < len(_SCRIPT) / 10
        assert unpack(answer.body).decode() == _SCRIPT
    assert "content-encoding" not in assets.get("/assets/app-1a2b.js", accept_encoding="identity").headers


@pytest.mark.row("V25", missing="every screen there will be")
def test_what_a_caller_has_already_is_not_sent_again(assets: Assets) -> None:
    first = assets.get("/")
    again = assets.get("/", if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert assets.get("/", if_none_match='"another"').status == 200


@pytest.mark.row("V25", missing="every screen there will be")
def test_parts_and_heads_of_files_can_be_had(assets: Assets) -> None:
    part = assets.get("/assets/app-1a2b.js", range="bytes=23-29")
    assert (part.status, part.body.decode()) == (206, _SCRIPT[23:30])
    assert part.headers["content-range"] == f"bytes 23-29/{len(_SCRIPT)}"
    head = assets.get("/assets/app-1a2b.js", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(_SCRIPT))


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_but_reading_is_allowed(assets: Assets, method: str) -> None:
    for path in ("/", "/openapi.json", "/assets/none.js"):
        answer = assets.get(path, method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD"), path


@pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")
def test_the_openapi_document_and_the_descriptor_set_are_served(assets: Assets) -> None:
    document = assets.get("/openapi.json")
    assert document.headers["content-type"] == "application/json"
    assert json.loads(document.body)["openapi"].startswith("3.1.")
    assert len(assets.get("/openapi.json", accept_encoding="br").body) < len(document.body) / 3
    answer = assets.get("/contracts.binpb")
    assert answer.headers["content-type"] == "application/octet-stream"
    found = descriptor_pb2.FileDescriptorSet.FromString(answer.body)
    services = {f"{file.package}.{service.name}" for file in found.file for service in file.service}
    assert services == {method.service for method in descriptors.user_facing()}


@pytest.mark.row("V25", missing="every screen there will be")
async def test_a_page_that_is_built_anew_is_served_without_a_restart(stopped: Assets) -> None:
    assets = stopped
    await assets.serving()
    (assets.page / "assets" / "app-3c4d.js").write_text("new")
    assert assets.get("/assets/app-3c4d.js").status == 404
    draft = assets.page / "index.html.new"
    draft.write_text(_INDEX + "<script src=/assets/app-3c4d.js></script>")
    draft.replace(assets.page / "index.html")
    assert b"app-3c4d.js" in assets.get("/").body
    assert assets.get("/assets/app-3c4d.js").body == b"new"
    (assets.page / "assets" / "app-1a2b.js").unlink()
    (assets.page / "assets" / "app-1a2b.js.br").unlink()
    assert assets.get("/assets/app-1a2b.js").status == 404


@pytest.mark.row("V25", missing="every screen there will be")
def test_the_socket_is_for_the_gateways_user_alone(assets: Assets) -> None:
    assert stat.S_IMODE(assets.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(assets.socket.parent.stat().st_mode) == 0o700


@pytest.mark.row("V25", missing="every screen there will be")
async def test_when_it_is_told_to_end_it_ends_at_once_and_leaves_nothing(stopped: Assets) -> None:
    process = await stopped.serving()
    idle = UnixConnection(stopped.socket)  # as Envoy keeps one
    idle.request("GET", "/")
    idle.getresponse().read()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=5)
    idle.close()
    assert (process.returncode, "Traceback" in said) == (0, False), said
    assert not stopped.socket.exists()
    assert processes_of_session(process.pid) == []


@pytest.mark.row("V25", missing="every screen there will be")
async def test_one_that_was_killed_leaves_no_process_and_the_next_starts(stopped: Assets) -> None:
    process = await stopped.serving()
    assert processes_of_session(process.pid) == [process.pid]
    process.kill()
    process.communicate(timeout=5)
    await until(lambda: not processes_of_session(process.pid), within_s=5)
    assert stopped.socket.exists()
    await stopped.serving()


@pytest.mark.row("V25", missing="every screen there will be")
def test_a_second_one_on_the_same_socket_is_refused_in_one_line(assets: Assets) -> None:
    second = assets.start()
    _, said = second.communicate(timeout=30)
    assert second.returncode == 1
    assert said.strip() == f"another process serves at {assets.socket}; stop it first"
    assert assets.answers()


@pytest.mark.row("V25", missing="every screen there will be")
def test_what_cannot_be_served_is_said_in_one_line(stopped: Assets) -> None:
    buildout = load(stopped.folder / "buildout.toml")
    (stopped.page / "index.html").unlink()
    with pytest.raises(BuildoutError, match=r"not built: .*page has no index.html; `make setup` builds it"):
        run_assets(buildout, stopped.page)
    write_page(stopped.page)
    stopped.socket.write_text("not a socket")
    with pytest.raises(BuildoutError, match=r"assets\.sock is in the way"):
        run_assets(buildout, stopped.page)


@pytest.mark.row("V25", missing="every screen there will be")
def test_a_folder_whose_name_is_too_long_for_a_socket_is_refused(stopped: Assets) -> None:
    text = (stopped.folder / "buildout.toml").read_text()
    long = text.replace('state = "gateway"', f'state = "{"g" * 100}"')
    assert long != text
    (stopped.folder / "buildout.toml").write_text(long)
    with pytest.raises(BuildoutError, match=r"too long for a socket's name"):
        run_assets(load(stopped.folder / "buildout.toml"), stopped.page)
