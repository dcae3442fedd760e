"""The client with the files that the endpoint kit and wherry-buildout really write."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import pytest
from wherry_client import configuration, registration
from wherry_client.__main__ import run
from wherry_endpoint.config import load_config
from wherry_endpoint.install import install_site
from wherry_endpoint.layout import Layout
from wherry_endpoint.show import describe_site
from wherry_site.authorities import parse_authority


@pytest.mark.row("C2", missing="site probe")
def test_what_the_endpoint_kit_shows_registers_as_a_site_whose_authorities_the_site_service_takes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "endpoint.toml"
    path.write_text(
        '[site]\nname = "site-a"\nhost = "localhost"\nfolder = "state"\n'
        '[authority]\nkey_bits = 2048\n[sandbox]\nenabled = true\naccounts = ["alice"]\n'
    )
    config = load_config(path)
    install_site(config, Layout.of(config), {"alice": "in wonderland"}, False)
    name, site = registration.from_kit(json.dumps(describe_site(config, Layout.of(config))))
    assert (name, site.auth_address) == ("site-a", "localhost:7512")
    assert [(door.scheme, door.host, door.port) for door in site.endpoints] == [("gsiftp", "localhost", 2811)]
    namespaces = [list(authority.namespaces) for authority in site.certificate_authorities]
    assert namespaces == [["/O=site-a/OU=Hosts/*"], ["/O=site-a/OU=Users/*"]]
    for authority in site.certificate_authorities:
        assert parse_authority(authority.certificate_pem, authority.namespaces, dt.datetime.now(dt.UTC))


@pytest.mark.row("C4", missing="job pause, resume, retry, logs, receipt")
def test_the_configuration_that_buildout_init_writes_is_the_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Path(sys.executable).with_name("wherry-buildout")
    subprocess.run([command, "init", tmp_path / "centre", "--free-ports"], check=True, capture_output=True, timeout=60)
    written = tmp_path / "centre" / "client.toml"
    loaded = configuration.load(written)
    assert configuration.read_ca(loaded) == (tmp_path / "centre" / "trust" / "web-ca.pem").read_bytes()
    monkeypatch.setenv("WHERRY_STATE", str(tmp_path / "state"))
    assert run(["--config", str(written), "whoami"]) == 4
    assert "wherry login" in capsys.readouterr().err
