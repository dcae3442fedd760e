"""The configuration file and where it is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from wherry_client import configuration
from wherry_client.errors import UsageError

GOOD = """
gateway = "https://wherry.example.org:8443"
ca = "trust/web-ca.pem"
"""
LATER_OF_C4 = "job pause, resume, retry, logs, receipt"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "client.toml"
    path.write_text(GOOD)
    return path


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_file_names_are_relative_to_the_configuration_file(file: Path) -> None:
    loaded = configuration.load(file)
    assert loaded.gateway == "wherry.example.org:8443"
    assert loaded.ca == file.parent / "trust/web-ca.pem"
    file.write_text(GOOD.replace("trust/web-ca.pem", "/etc/wherry/ca.pem"))
    assert configuration.load(file).ca == Path("/etc/wherry/ca.pem")


@pytest.mark.row("C4", missing=LATER_OF_C4)
@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://wherry.example.org", "wherry.example.org:443"),
        ("https://wherry.example.org/", "wherry.example.org:443"),
        ("https://WHERRY.example.org:8443", "wherry.example.org:8443"),
        ("https://[2001:db8::1]", "[2001:db8::1]:443"),
        ("https://192.0.2.1:99", "192.0.2.1:99"),
    ],
)
def test_an_address_is_read_and_has_a_port(file: Path, url: str, address: str) -> None:
    file.write_text(f'gateway = "{url}"\n')
    loaded = configuration.load(file)
    assert (loaded.gateway, loaded.ca) == (address, None)


@pytest.mark.row("C4", missing=LATER_OF_C4)
@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("ca =", "cs =", "cs: unknown key; there are gateway and ca"),
        ("ca =", "[other]\nca =", "other: unknown key"),
        ("gateway =", "ca1 =", "ca1"),
        ('gateway = "https://wherry.example.org:8443"', "", "gateway is missing"),
        ('"https://wherry.example.org:8443"', "8443", "gateway must be a string"),
        ('"trust/web-ca.pem"', '""', "ca must be a string"),
        ("https://", "http://", "is no address of a gateway"),
        ("https://", "", "is no address of a gateway"),
        (":8443", ":99999", "is no address of a gateway"),
        (":8443", ":0", "is no address of a gateway"),
        (":8443", ":8443/page", "is no address of a gateway"),
        ("wherry.", "alice@wherry.", "is no address of a gateway"),
        ("wherry.", "wherry .", "is no address of a gateway"),
        ("ca =", "ca", "line 3"),
    ],
)
def test_a_fault_names_the_file_and_the_key(file: Path, before: str, after: str, named: str) -> None:
    assert before in GOOD
    file.write_text(GOOD.replace(before, after))
    with pytest.raises(UsageError) as caught:
        configuration.load(file)
    assert named in caught.value.message
    assert str(file) in caught.value.message


@pytest.mark.row("C4", missing=LATER_OF_C4)
@pytest.mark.parametrize(
    "former", ['[services]\nuser = "localhost:50051"\n', f'{GOOD}[tls]\ncertificate = "trust/client.pem"\n']
)
def test_a_file_of_an_earlier_release_is_told_what_to_write_now(file: Path, former: str) -> None:
    file.write_text(former)
    with pytest.raises(UsageError, match="earlier release") as caught:
        configuration.load(file)
    assert 'gateway = "https://HOST:PORT"' in caught.value.advice
    assert 'ca = "FILE"' in caught.value.advice


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_a_missing_configuration_and_a_missing_authority_are_told(file: Path) -> None:
    with pytest.raises(UsageError, match="no configuration file"):
        configuration.load(file.with_name("other.toml"))
    loaded = configuration.load(file)
    with pytest.raises(UsageError, match=r"ca: .*cannot be read"):
        configuration.read_ca(loaded)
    assert loaded.ca is not None
    loaded.ca.parent.mkdir()
    loaded.ca.write_text("nothing of use")
    with pytest.raises(UsageError, match=r"ca: .*holds no certificate"):
        configuration.read_ca(loaded)


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_the_systems_authorities_come_from_a_file_or_from_a_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = configuration.load(file)
    folder = tmp_path / "certs"
    folder.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    with pytest.raises(UsageError, match="ca is missing"):
        configuration.system_authorities(loaded)
    (folder / "0a1b2c3d.0").write_bytes(b"one")
    (folder / "0a1b2c3d.1").write_bytes(b"other")
    assert configuration.system_authorities(loaded) == b"one\nother"
    (tmp_path / "none").write_bytes(b"all")
    assert configuration.system_authorities(loaded) == b"all"


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_the_option_comes_before_the_environment_and_that_before_the_users_own() -> None:
    environment = {"WHERRY_CONFIG": "/somewhere/client.toml"}
    assert configuration.find(Path("here.toml"), environment) == Path("here.toml")
    assert configuration.find(None, environment) == Path("/somewhere/client.toml")
    assert configuration.find(None, {}).parts[-2:] == ("wherry", "client.toml")
