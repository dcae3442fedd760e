from __future__ import annotations

import io
import json
from pathlib import Path

from wherry_deploy.log_lines import FolderLines, TerminalLines, event_of

EVENT = json.dumps(
    {"event": "serving", "level": "info", "timestamp": "2026-01-02T03:04:05Z", "port": 5, "service": "x"}
)


def test_each_line_has_its_process_before_it() -> None:
    stream = io.StringIO()
    lines = TerminalLines(stream, ["user", "worker-1"], terminal=False)
    lines.line("user", EVENT)
    lines.line("worker-1", "plain")
    assert stream.getvalue() == f"user     | {EVENT}\nworker-1 | plain\n"


def test_on_a_terminal_events_are_readable_and_processes_have_colours() -> None:
    stream = io.StringIO()
    lines = TerminalLines(stream, ["user", "site"], terminal=True)
    lines.line("user", EVENT)
    lines.line("site", EVENT)
    first, second = stream.getvalue().splitlines()
    assert "03:04:05" in first
    assert "serving port=5" in first
    assert first[:6] != second[:6]


def test_an_exception_in_an_event_stands_in_lines_of_its_own() -> None:
    stream = io.StringIO()
    event = {"event": "broke", "level": "error", "exception": "Traceback\n  here"}
    TerminalLines(stream, ["user"], terminal=True).line("user", json.dumps(event))
    assert "\nTraceback\n  here\n" in stream.getvalue()


def test_what_only_looks_like_an_event_is_shown_as_it_is() -> None:
    for text in ('{"broken', "[1]", '{"no": "event"}', "text"):
        assert event_of(text) == {}


def test_each_process_has_a_file_begun_anew(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with FolderLines(tmp_path / "logs") as lines:
            lines.line("user", word)
    assert (tmp_path / "logs" / "user.log").read_text() == "second\n"
