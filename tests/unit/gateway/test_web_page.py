"""The web page: its own unit tests, and what its build brings to people's browsers."""

from __future__ import annotations

import gzip
import importlib.resources
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[3]
_WEB = _ROOT / "gateway" / "web"
_PAGE = Path(str(importlib.resources.files("wherry_gateway"))) / "page"
_SCRIPT_BYTES = 260_000
_STYLE_BYTES = 16_000
"""Compressed: what a person waits for on a slow line."""


class _Elements(HTMLParser):
    """The elements of a document, and the text within scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            self.inline += data.strip()


@pytest.fixture
def index() -> _Elements:
    """The page that browsers get first."""
    elements = _Elements()
    elements.feed((_PAGE / "index.html").read_text(encoding="utf-8"))
    return elements


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.row("V23", missing="in a browser")
def test_the_pages_own_unit_tests_pass() -> None:
    node = _ROOT / ".tools" / "node" / "bin"  # where deploy/setup.sh puts one if the system's is missing or too old
    environment = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ['PATH']}", "CI": "1", "NO_COLOR": "1"}
    npm = shutil.which("npm", path=environment["PATH"])
    assert npm is not None, "deploy/setup.sh --tests brings npm"
    run = subprocess.run(
        [npm, "--silent", "test"], cwd=_WEB, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]


@pytest.mark.row("V25", missing="every screen there will be")
def test_nothing_of_the_page_stands_within_it_or_comes_from_elsewhere(index: _Elements) -> None:
    assert index.inline == ""
    attributes = [(name, value or "") for _, attrs in index.found for name, value in attrs.items()]
    assert not [name for name, _ in attributes if name == "style" or name.startswith("on")]
    fetched = [value for name, value in attributes if name in ("src", "href")]
    assert fetched
    assert all(value.startswith("/") and not value.startswith("//") for value in fetched)


@pytest.mark.row("V25", missing="every screen there will be")
def test_style_sheets_ask_no_other_host() -> None:
    addresses = [address for text in _texts("*.css") for address in re.findall(r"url\(([^)]*)\)", text)]
    assert addresses, "fonts come from files of ours"
    assert all(address.startswith("/assets/") for address in addresses)


def test_what_the_page_names_is_there_compressed_too(index: _Elements) -> None:
    named = [
        Path(value)
        for _, attrs in index.found
        for name, value in attrs.items()
        if name in ("src", "href") and value and value.endswith((".js", ".css"))
    ]
    assert len(named) >= 3
    for path in named:
        for suffix in ("", ".br", ".gz"):
            assert (_PAGE / f"{path.relative_to('/')}{suffix}").is_file()


def test_the_page_is_small() -> None:
    scripts = sum(len(gzip.compress(text.encode())) for text in _texts("*.js"))
    styles = sum(len(gzip.compress(text.encode())) for text in _texts("*.css"))
    assert scripts < _SCRIPT_BYTES
    assert styles < _STYLE_BYTES


def test_the_client_in_the_page_knows_what_users_may_call_and_no_rules_of_servers() -> None:
    generated = {str(path.relative_to(_WEB / "src" / "gen")) for path in (_WEB / "src" / "gen").rglob("*.ts")}
    assert {"wherry/queue/v1/job_service_pb.ts", "google/rpc/error_details_pb.ts"} <= generated
    assert not [path for path in generated if path.startswith(("buf/", "google/api/")) or "lease" in path]


def _texts(pattern: str) -> Iterator[str]:
    for path in sorted((_PAGE / "assets").glob(pattern)):
        yield path.read_text(encoding="utf-8")
