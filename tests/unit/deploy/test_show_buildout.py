from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from wherry_chassis.buildout import load
from wherry_deploy.check_access import known_rpcs
from wherry_deploy.initialise import initialise
from wherry_deploy.show import access_lines, as_plain, configuration_text
from wherry_deploy.template import Choices


@pytest.fixture
def file(tmp_path: Path) -> Path:
    initialise(tmp_path, Choices())
    return tmp_path / "buildout.toml"


def test_the_configuration_that_is_shown_is_one_that_loads_alike(file: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown.toml"
    shown.write_text(configuration_text(load(file)))
    assert load(shown) == load(file)


def test_defaults_are_shown(file: Path) -> None:
    assert tomllib.loads(configuration_text(load(file)))["lease"]["ttl_s"] == 30


def test_no_secret_is_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_TEST_DB", "postgresql+psycopg://u:hunter2@host/x")
    file.write_text(file.read_text().replace('"sqlite:///data/queue.db"', '"env:WHERRY_TEST_DB"'))
    secrets = [path.read_text().strip() for path in (file.parent / "secrets").iterdir()]
    for shown in (configuration_text(load(file)), str(as_plain(load(file)))):
        for secret in ("hunter2", *secrets):
            assert secret not in shown
        assert "env:WHERRY_TEST_DB" in shown


def test_the_access_table_is_shown_whole(file: Path) -> None:
    lines = list(access_lines(load(file)))
    for rpc in known_rpcs():
        assert any(line.startswith(f"{rpc} ") for line in lines), rpc
    assert any("/CN=operator" in line and line.endswith("operator") for line in lines)
