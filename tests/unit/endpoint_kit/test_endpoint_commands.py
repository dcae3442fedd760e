from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from wherry_endpoint.commands import main

pytestmark = pytest.mark.row("I1", missing="registration, XRootD, systemd")


def _write(folder: Path, host: str = "localhost", gridftp_port: int = 0) -> Path:
    path = folder / "endpoint.toml"
    path.write_text(
        f'[site]\nname = "site-a"\nhost = "{host}"\nfolder = "state"\n'
        f"[authority]\nkey_bits = 2048\n[gridftp]\nport = {gridftp_port or 2811}\n"
        '[sandbox]\nenabled = true\naccounts = ["alice"]\n',
        encoding="utf-8",
    )
    return path


def test_init_writes_a_file_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "endpoint.toml"
    assert main(["init", "--config", str(path)]) == 0
    written = path.read_bytes()
    assert main(["init", "--config", str(path)]) == 1
    assert path.read_bytes() == written
    assert "exists already" in capsys.readouterr().err


def test_install_reads_passwords_from_a_file_and_says_when_nothing_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _write(tmp_path)
    passwords = tmp_path / "passwords"
    passwords.write_text("alice:in wonderland\n", encoding="utf-8")
    assert main(["install", "--config", str(path), "--passwords", str(passwords)]) == 0
    assert "in wonderland" not in capsys.readouterr().out
    assert main(["install", "--config", str(path)]) == 0
    assert capsys.readouterr().out == "nothing to change\n"


def test_show_json_is_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _write(tmp_path)
    assert main(["show", "--json", "--config", str(path)]) == 1
    assert "install" in capsys.readouterr().err
    (tmp_path / "passwords").write_text("alice:in wonderland\n", encoding="utf-8")
    main(["install", "--config", str(path), "--passwords", str(tmp_path / "passwords")])
    capsys.readouterr()
    assert main(["show", "--json", "--config", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "site-a"


def test_check_names_each_failing_item_with_its_fix_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        port = other.getsockname()[1]
        path = _write(tmp_path, host="no-such-host.invalid", gridftp_port=port)
        assert main(["check", "--config", str(path)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert any(line.startswith("FAIL  host name no-such-host.invalid: does not resolve") for line in failed)
    assert any(f"gridftp.port {port}: cannot be used" in line and "change gridftp.port" in line for line in failed)


def test_check_names_the_package_of_a_missing_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_endpoint.checks._SEARCH", str(tmp_path))
    monkeypatch.setattr("wherry_endpoint.checks._LIBRARY_FOLDERS", (str(tmp_path),))
    assert main(["check", "--config", str(_write(tmp_path))]) == 1
    out = capsys.readouterr().out
    for program in ("openssl", "myproxy-server", "globus-gridftp-server"):
        assert f"FAIL  program {program}: " in out
    assert "libglobus-gridmap-verify-myproxy-callout" in out or "globus-gridmap-verify-myproxy-callout" in out


def test_serve_before_install_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(_write(tmp_path))]) == 1
    assert "wherry-endpoint install" in capsys.readouterr().err


def test_passwords_outside_a_sandbox_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "endpoint.toml"
    path.write_text('[site]\nname = "a"\nhost = "localhost"\nfolder = "s"\n', encoding="utf-8")
    (tmp_path / "passwords").write_text("alice:in wonderland\n", encoding="utf-8")
    assert main(["install", "--config", str(path), "--passwords", str(tmp_path / "passwords")]) == 1
    assert "PAM" in capsys.readouterr().err
