from __future__ import annotations

from pathlib import Path

import pytest
from wherry_endpoint.config import load_config
from wherry_endpoint.errors import ConfigError
from wherry_endpoint.template import write_template

pytestmark = pytest.mark.row("I1", missing="registration, XRootD, systemd")

_SITE = '[site]\nname = "a"\nhost = "storage.example.org"\nfolder = "state"\n'


def _write(folder: Path, text: str) -> Path:
    path = folder / "endpoint.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_minimal_file_gets_the_documented_defaults(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, _SITE))
    assert (config.myproxy.port, config.gridftp.port) == (7512, 2811)
    assert config.site.folder == tmp_path / "state"
    assert config.authority.key_bits == 3072
    assert not config.sandbox.enabled
    assert (config.root_path, config.user_path("alice")) == ("/", "/~")


def test_a_sandbox_serves_below_data(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, _SITE + '[sandbox]\nenabled = true\naccounts = ["alice"]\n'))
    assert (config.root_path, config.user_path("alice")) == ("/data", "/data/alice")


def test_the_written_template_is_a_valid_configuration(tmp_path: Path) -> None:
    path = tmp_path / "endpoint.toml"
    write_template(path)
    assert load_config(path).site.name == "example"


def test_the_templates_commented_lines_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "endpoint.toml"
    write_template(path)
    as_written = load_config(path)
    head, _, _ = path.read_text(encoding="utf-8").partition("# A demonstration site")
    lines = []
    for line in head.splitlines():
        commented = line.startswith("# ") and line[2:].partition(" =")[0].isidentifier() and " = " in line
        key = line[2:].partition(" =")[0]
        # These two are examples, not defaults.
        lines.append(line[2:] if commented and key not in ("title", "alternative_names", "data_ports") else line)
    path.write_text("\n".join(lines), encoding="utf-8")
    uncommented = load_config(path)
    assert uncommented.authority == as_written.authority
    assert uncommented.myproxy == as_written.myproxy
    assert uncommented.gridftp.log_level == as_written.gridftp.log_level
    assert (uncommented.root_path, uncommented.gridftp.port) == (as_written.root_path, as_written.gridftp.port)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_SITE + "[gridftp]\nprot = 1\n", r"endpoint\.toml:6: gridftp\.prot: is not known; .*port.*Remove or correct"),
        (_SITE + "[gridftp]\n\nport = 99999\n", r"endpoint\.toml:7: gridftp\.port: must be .* 65535"),
        (_SITE + '[gridftp]\nport = "2811"\n', r"endpoint\.toml:6: gridftp\.port: must be a whole number"),
        (_SITE + "[myproxy]\nport = true\n", r"endpoint\.toml:6: myproxy\.port: must be a whole number"),
        (_SITE + "[xrootd]\nport = 1094\n", r"\[xrootd\] is not known; .*\[gridftp\]"),
        ("[site]\nhost = 'h'\nfolder = 'f'\n", r"site\.name: is missing: add"),
        (_SITE.replace('"a"', '"a/CN=b"'), r"endpoint\.toml:2: site\.name: 'a/CN=b' must be"),
        (_SITE.replace('"a"', '"a\\nb"'), r"endpoint\.toml:2: site\.name: must not hold control characters"),
        (_SITE.replace("storage.", "-storage."), r"endpoint\.toml:3: site\.host: '-storage.*is not a host name"),
        (_SITE.replace('"state"', '"my state"'), r"endpoint\.toml:4: site\.folder: .*cannot read paths"),
        (_SITE + "[authority]\nkey_bits = 1024\n", r"endpoint\.toml:6: authority\.key_bits: .* from 2048"),
        (_SITE + "[gridftp]\ndata_ports = [5, 9]\n", r"endpoint\.toml:6: gridftp\.data_ports: must be two ports"),
        (_SITE + "[sandbox]\nenabled = true\n", r"sandbox\.accounts: is missing"),
        (_SITE + '[sandbox]\naccounts = ["root"]\n', r"endpoint\.toml:6: sandbox\.accounts: 'root' cannot be"),
        (_SITE + '[sandbox]\naccounts = ["a:b"]\n', r"sandbox\.accounts: 'a:b' cannot be an account"),
        (_SITE + '[sandbox.hosts]\n"x.test" = "y"\n', r"endpoint\.toml:5: sandbox\.hosts: 'x\.test' = 'y' must be"),
        (_SITE + "[myproxy]\nport = 2811\n", r"gridftp\.port: is also myproxy\.port"),
        (_SITE + "site = 1\n", r"endpoint\.toml:5: site\.site: is not known"),
        ("[site\n", r"is not TOML: .*line 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_the_remedy(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(_write(tmp_path, text))


def test_a_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wherry-endpoint init"):
        load_config(tmp_path / "endpoint.toml")
