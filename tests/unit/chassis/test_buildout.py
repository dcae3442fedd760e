from __future__ import annotations

from pathlib import Path

import pytest
from wherry_chassis.buildout import Buildout, BuildoutError, SecretRef, database_url, effective, load
from wherry_testing.buildout_text import BUILDOUT, line_number


def _load(folder: Path, text: str) -> Buildout:
    file = folder / "buildout.toml"
    file.write_text(text, encoding="utf-8")
    return load(file)


def _changed(line: str, *replacement: str) -> str:
    """Returns the buildout with one line replaced; asserts that the line is there once."""
    assert BUILDOUT.count(f"{line}\n") == 1
    return BUILDOUT.replace(f"{line}\n", "".join(f"{new}\n" for new in replacement))


def _complaints(folder: Path, text: str) -> list[str]:
    with pytest.raises(BuildoutError) as caught:
        _load(folder, text)
    return str(caught.value).splitlines()


def test_a_whole_file_is_read_and_what_it_does_not_say_has_its_default(tmp_path: Path) -> None:
    buildout = _load(tmp_path, BUILDOUT)
    assert buildout.deployment.name == "Test"
    assert buildout.service.queue.addresses == ["127.0.0.1:0"]
    assert buildout.lease.ttl_s == 30
    assert buildout.access.roles["worker"] == ["/O=Wherry test/CN=worker"]


def test_paths_and_file_references_are_relative_to_the_file_and_not_to_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    buildout = _load(tmp_path, BUILDOUT)
    assert buildout.deployment.ca == tmp_path / "hosts/ca.pem"
    assert buildout.worker.state == tmp_path / "worker"
    assert buildout.service.site.key_encryption_key == f"file:{tmp_path}/secrets/vault.key"
    assert buildout.service.user.database == f"sqlite:///{tmp_path}/user.db"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("sqlite+pysqlite:///user.db", "sqlite+pysqlite:///{folder}/user.db"),
        ("sqlite:////var/lib/wherry/user.db", "sqlite:////var/lib/wherry/user.db"),
        ("sqlite:///user.db?timeout=5", "sqlite:///{folder}/user.db?timeout=5"),
        ("postgresql+psycopg://db.example/user", "postgresql+psycopg://db.example/user"),
    ],
)
def test_every_spelling_of_an_sqlite_file_is_relative_to_the_buildout(tmp_path: Path, written: str, read: str) -> None:
    buildout = _load(tmp_path, _changed('database = "sqlite:///user.db"', f'database = "{written}"'))
    assert buildout.service.user.database == read.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("line", "replacement", "key", "words"),
    [
        ('name = "Test"', "nmae = 1", "deployment.nmae", "unknown key"),
        ("port = 2525", 'port = "many"', "mail.port", "valid integer"),
        ("port = 2525", "port = 70000", "mail.port", "65535"),
        ('security = "none"', 'security = "ssl"', "mail.security", "starttls"),
        ('state = "worker"', "state = 'w'\nbulk = 0", "worker.bulk", "greater than or equal to 1"),
        ('database = "sqlite:///user.db"', 'database = "user.db"', "service.user.database", "SQLAlchemy URL"),
        ('database = "sqlite:///user.db"', 'database = "sqlite://"', "service.user.database", "is a file"),
        (
            'operator = ["/O=Wherry test/CN=operator"]',
            'operator = ["joe"]',
            "access.roles.operator.0",
            "no certificate",
        ),
        (
            'operator = ["/O=Wherry test/CN=operator"]',
            "opreator = []",
            "access.roles.opreator",
            "unknown role opreator",
        ),
        (
            '"wherry.queue.v1.JobService/GetJob" = ["owner", "operator"]',
            '"wherry.queue.v1.JobService/GetJob" = ["onwer"]',
            "access.rpc.wherry.queue.v1.JobService/GetJob.0",
            "unknown role onwer",
        ),
        (
            '"wherry.queue.v1.JobService/GetJob" = ["owner", "operator"]',
            '"wherry.queue.v1.JobService/GetJbo" = ["owner"]',
            "access.rpc.wherry.queue.v1.JobService/GetJbo",
            "unknown RPC",
        ),
    ],
)
def test_a_fault_names_file_line_key_and_remedy(
    tmp_path: Path, line: str, replacement: str, key: str, words: str
) -> None:
    text = _changed(line, replacement)
    (complaint,) = _complaints(tmp_path, text) if "nmae" not in replacement else _complaints(tmp_path, text)[1:]
    number = line_number(text, replacement.splitlines()[-1])
    assert complaint.startswith(f"{tmp_path}/buildout.toml:{number}: {key}: ")
    assert words in complaint


def test_a_missing_key_names_the_line_of_its_section(tmp_path: Path) -> None:
    text = _changed('sender = "wherry@example.org"')
    assert _complaints(tmp_path, text) == [
        f"{tmp_path}/buildout.toml:{line_number(text, '[mail]')}: mail.sender: missing; add it"
    ]


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = BUILDOUT.replace("port = 2525", "port = 0").replace('name = "Test"', 'name = ""\ncolour = "red"')
    keys = [complaint.split(": ")[1] for complaint in _complaints(tmp_path, text)]
    assert keys == ["deployment.name", "deployment.colour", "mail.port"]


def test_what_is_no_toml_or_no_text_or_not_there_is_one_line(tmp_path: Path) -> None:
    assert "no valid TOML" in _complaints(tmp_path, "[deployment\n")[0]
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name, words in (("binary.toml", "cannot be read"), ("absent.toml", "cannot be read")):
        with pytest.raises(BuildoutError, match=words):
            load(tmp_path / name)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://wherry:hunter2-hunter2@db.example/user",
        "postgresql+psycopg://db.example/user?password=hunter2-hunter2",
        "postgresql+psycopg://db.example/user?sslpassword=hunter2-hunter2",
    ],
)
def test_a_database_password_in_the_file_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    (complaint,) = _complaints(tmp_path, _changed('database = "sqlite:///user.db"', f'database = "{url}"'))
    assert "env:NAME or file:PATH" in complaint
    assert "hunter2" not in complaint


def test_a_plain_secret_where_a_reference_belongs_is_refused_and_not_repeated(tmp_path: Path) -> None:
    text = _changed('password = "env:WHERRY_TEST_MAIL_PASSWORD"', 'password = "hunter2-hunter2"')
    (complaint,) = _complaints(tmp_path, text)
    assert "mail.password: a secret is given by reference" in complaint
    assert "hunter2" not in complaint


def test_sqlite_has_one_replica(tmp_path: Path) -> None:
    section = BUILDOUT.index("[service.site]")
    text = BUILDOUT[:section].replace('["127.0.0.1:0"]', '["127.0.0.1:1", "127.0.0.1:2"]') + BUILDOUT[section:]
    (complaint,) = _complaints(tmp_path, text)
    assert "service.user.database: SQLite serves one replica" in complaint


def test_showing_the_configuration_shows_references_and_never_what_they_refer_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERRY_TEST_MAIL_PASSWORD", "hunter2-hunter2")
    buildout = _load(tmp_path, BUILDOUT)
    assert buildout.mail.password is not None
    assert buildout.mail.password.read() == b"hunter2-hunter2"
    shown = effective(buildout)
    assert shown["mail"]["password"] == "env:WHERRY_TEST_MAIL_PASSWORD"
    assert shown["lease"]["ttl_s"] == 30
    assert "hunter2" not in f"{shown}{buildout!r}"


def test_a_secret_file_loses_only_the_line_break_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b" two words \n")
    assert SecretRef.parse(f"file:{tmp_path}/secret").read() == b" two words "


def test_a_reference_to_nothing_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHERRY_TEST_UNSET", raising=False)
    with pytest.raises(BuildoutError, match="WHERRY_TEST_UNSET"):
        SecretRef.parse("env:WHERRY_TEST_UNSET").read()
    with pytest.raises(BuildoutError, match="No such file"):
        SecretRef.parse(f"file:{tmp_path}/absent").read()


def test_a_database_by_reference_is_read_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_TEST_DATABASE", "postgresql+psycopg://wherry:hunter2@db.example/user")
    buildout = _load(tmp_path, _changed('database = "sqlite:///user.db"', 'database = "env:WHERRY_TEST_DATABASE"'))
    assert buildout.service.user.database == "env:WHERRY_TEST_DATABASE"
    assert database_url(buildout.service.user) == "postgresql+psycopg://wherry:hunter2@db.example/user"
