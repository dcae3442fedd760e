"""The command `wherry-gateway`, as `wherry-buildout up` and systemd start it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import HttpCaller


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "wherry_gateway", *arguments]


def test_the_command_becomes_envoy_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    for upstream in edge.all_upstreams():
        upstream.start()
    edge.write_buildout()
    caller = HttpCaller("localhost", edge.port, edge.web.ca)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            _command("serve", "--buildout", str(edge.buildout)), stdout=log, stderr=subprocess.STDOUT
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                return caller.json("GET", "/v1/sites", headers=edge.bearer()).code == "OK"
            except OSError:
                return False

        edge.wait(answers, 20)
        name = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        assert not any(b"wherry_gateway" in part for part in name), "the Python process is still there"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        caller.close()
        process.kill()
        process.wait()
        for upstream in edge.all_upstreams():
            upstream.stop()


def test_a_fault_is_one_line_and_status_two(tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    edge.pki.ca.write_text("nothing", encoding="utf-8")
    edge.write_buildout()
    done = subprocess.run(
        _command("check", "--buildout", str(edge.buildout)), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("wherry-gateway: ")
    assert "ca.pem" in line
