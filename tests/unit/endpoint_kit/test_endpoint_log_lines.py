from __future__ import annotations

import pytest
from wherry_endpoint.log_lines import LogLines

pytestmark = pytest.mark.row("I1", missing="registration, XRootD, systemd")


def test_a_stream_becomes_whole_prefixed_lines(capfd: pytest.CaptureFixture[str]) -> None:
    log = LogLines("site-a gridftp")
    log.feed(b"one\ntw")
    log.feed(b"o\r\nthree")
    log.end()
    assert capfd.readouterr().err == "[site-a gridftp] one\n[site-a gridftp] two\n[site-a gridftp] three\n"


def test_a_system_log_message_loses_its_head(capfd: pytest.CaptureFixture[str]) -> None:
    LogLines("m").system_log(b"<27>Nov  2 01:40:42 myproxy-server[5]: PAM: denied\0")
    LogLines("m").system_log(b"<27>myproxy-server: started\n")
    assert capfd.readouterr().err == "[m] PAM: denied\n[m] started\n"


def test_what_comes_from_the_network_cannot_steer_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    LogLines("m").line(b"user \x1b[2Jalice\x07")
    assert capfd.readouterr().err == "[m] user ?[2Jalice?\n"
