from __future__ import annotations

import json
import logging
from typing import Any, Literal

import pytest
import structlog
from wherry_chassis.logging import configure, logger


class _Log:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def text(self) -> str:
        """Returns all that has been logged."""
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> _Log:
    """What is logged."""
    return _Log(capsys)


def _configure(format_: Literal["json", "console"], level: str = "info") -> None:
    structlog.reset_defaults()
    configure("queue", format=format_, level=level)


def _lines(log: _Log) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.text().splitlines()]


def test_a_line_is_json_with_event_level_time_and_service(log: _Log) -> None:
    _configure("json")
    logger().info("lease_granted", task="jobs/1/tasks/2")
    (line,) = _lines(log)
    assert line["event"] == "lease_granted"
    assert line["task"] == "jobs/1/tasks/2"
    assert (line["level"], line["service"]) == ("info", "queue")
    assert line["timestamp"].endswith("Z")


def test_below_the_level_nothing_is_written(log: _Log) -> None:
    _configure("json", level="warning")
    logger().info("quiet")
    assert log.text() == ""


@pytest.mark.parametrize("format_", ["json", "console"])
def test_fields_with_a_secrets_name_never_show_their_value_however_deep(
    log: _Log, format_: Literal["json", "console"]
) -> None:
    _configure(format_)
    logger().info(
        "sign_in",
        password="hunter2-a",
        Authorization="hunter2-b",
        request={"refresh_token": "hunter2-c", "list": [{"proxy_pem": "hunter2-d"}]},
        user="users/alice",
    )
    assert "hunter2" not in log.text()
    assert "users/alice" in log.text()
    assert log.text().count("[masked]") == 4


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_traceback_shows_code_and_never_variables(log: _Log, format_: Literal["json", "console"]) -> None:
    _configure(format_)
    password = "".join(("hunter", "2"))
    try:
        raise ValueError(f"not {len(password)}")
    except ValueError:
        logger().exception("incident")
        logging.getLogger("library").exception("library failed")
    assert log.text().count("ValueError: not 7") == 2
    assert "hunter2" not in log.text()


def test_what_libraries_log_is_json_too_and_carries_its_traceback(log: _Log) -> None:
    _configure("json")
    try:
        raise OSError("disk")
    except OSError:
        logging.getLogger("library").exception("failed at %s", "x")
    (line,) = _lines(log)
    assert (line["event"], line["level"]) == ("failed at x", "error")
    assert "OSError: disk" in line["exception"]
