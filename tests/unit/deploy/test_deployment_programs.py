from __future__ import annotations

from pathlib import Path

import pytest
from wherry_chassis.buildout import load
from wherry_deploy.deployment import programs
from wherry_deploy.initialise import initialise
from wherry_deploy.template import Choices


@pytest.fixture
def file(tmp_path: Path) -> Path:
    databases = {"queue": "postgresql+psycopg://localhost/queue"}
    initialise(tmp_path, Choices(databases=databases, worker_processes=2))
    return tmp_path / "buildout.toml"


def test_there_is_a_process_for_each_replica_and_each_worker(file: Path) -> None:
    file.write_text(file.read_text().replace('["localhost:50053"]', '["localhost:50053", "localhost:50063"]'))
    found = {program.name: list(program.command) for program in programs(file, load(file))}
    assert list(found) == [*("user", "site", "queue-0", "queue-1", "gateway-assets", "gateway", "worker-0", "worker-1")]
    assert found["queue-1"][-5:] == ["serve", "--buildout", str(file), "--replica", "1"]


def test_who_calls_others_is_stopped_before_them(file: Path) -> None:
    stages = {program.name: program.stage for program in programs(file, load(file))}
    assert stages["worker-0"] > stages["queue"] > stages["site"] == stages["user"] > 0
    assert stages["gateway"] > stages["queue"]
    assert stages["gateway"] > stages["gateway-assets"] > 0


def test_a_deployment_without_a_gateway_has_no_process_for_one(file: Path) -> None:
    text = file.read_text()
    file.write_text(text[: text.index("[gateway]")] + text[text.index("[lease]") :])
    assert not [program.name for program in programs(file, load(file)) if "gateway" in program.name]


@pytest.mark.parametrize(("level", "waited_for"), [("info", True), ("warning", False)])
def test_a_worker_is_waited_for_where_its_log_can_say_that_it_is_ready(
    file: Path, level: str, waited_for: bool
) -> None:
    file.write_text(file.read_text().replace('# level = "info"', f'level = "{level}"'))
    worker = next(program for program in programs(file, load(file)) if program.name == "worker-0")
    assert (worker.ready_line is not None) == waited_for
    if worker.ready_line is not None:
        assert worker.ready_line('{"held": 0, "event": "stream_opened", "service": "worker"}')
        assert not worker.ready_line('{"event": "worker_started", "service": "worker"}')


def test_no_secret_stands_on_a_command_line(file: Path) -> None:
    secrets = [path.read_text().strip() for path in (file.parent / "secrets").iterdir()]
    for program in programs(file, load(file)):
        assert not any(secret in word for secret in secrets for word in program.command)
