"""The configuration file and where it is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from wherry_client import configuration
from wherry_client.errors import UsageError

GOOD = """
[services]
user = "localhost:50051"
site = "site.example.org:443"
queue = "[::1]:50053"
[tls]
ca = "trust/ca.pem"
certificate = "/etc/wherry/client.pem"
key = "trust/client.key"
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
    assert loaded.services.queue == "[::1]:50053"
    assert loaded.tls.ca == file.parent / "trust/ca.pem"
    assert loaded.tls.certificate == Path("/etc/wherry/client.pem")


@pytest.mark.row("C4", missing=LATER_OF_C4)
@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("[tls]", "usr = 1\n[tls]", "services.usr"),
        ("[tls]", "[tsl]\n[tls]", "tsl"),
        ("[services]", "name = 1\n[services]", "name"),
        ('user = "localhost:50051"', "", "services.user is missing"),
        ('"localhost:50051"', "50051", "services.user must be a string"),
        ('"localhost:50051"', '"localhost"', 'services.user: "localhost" is not HOST:PORT'),
        ('"localhost:50051"', '"localhost:99999"', "services.user"),
        ('"localhost:50051"', '"https://localhost:1"', "services.user"),
        ('ca = "trust/ca.pem"', "", "tls.ca is missing"),
        ("[services]", "[services", "line 2"),
        ("[services]", "[other.services]", "other"),
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
def test_a_missing_configuration_and_a_missing_certificate_are_told(file: Path) -> None:
    with pytest.raises(UsageError, match="no configuration file"):
        configuration.load(file.with_name("other.toml"))
    loaded = configuration.load(file)
    with pytest.raises(UsageError, match=r"tls\.ca: .*cannot be read"):
        configuration.read_pem(loaded, "ca")
    loaded.tls.ca.parent.mkdir()
    loaded.tls.ca.write_text("nothing of use")
    with pytest.raises(UsageError, match=r"tls\.ca: .*holds no PEM"):
        configuration.read_pem(loaded, "ca")


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_the_option_comes_before_the_environment_and_that_before_the_users_own() -> None:
    environment = {"WHERRY_CONFIG": "/somewhere/client.toml"}
    assert configuration.find(Path("here.toml"), environment) == Path("here.toml")
    assert configuration.find(None, environment) == Path("/somewhere/client.toml")
    assert configuration.find(None, {}).parts[-2:] == ("wherry", "client.toml")
