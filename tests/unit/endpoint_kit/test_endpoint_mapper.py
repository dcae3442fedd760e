from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from wherry_endpoint.myproxy import mapper_script

pytestmark = pytest.mark.row("I1", missing="registration, XRootD, systemd")


@pytest.fixture
def mapper(tmp_path: Path) -> Path:
    path = tmp_path / "mapper"
    path.write_text(mapper_script("site-a"), encoding="utf-8")
    path.chmod(0o755)
    return path


def _run(mapper: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(mapper), *arguments], capture_output=True, text=True, timeout=10, check=False)


@pytest.mark.parametrize("account", ["alice", "a.b-c_d", "alice@example.org", "u1000", "A"])
def test_a_plain_account_becomes_a_subject_of_the_site(mapper: Path, account: str) -> None:
    done = _run(mapper, account)
    assert (done.returncode, done.stdout) == (0, f"/O=site-a/OU=Users/CN={account}\n")


@pytest.mark.parametrize(
    "account",
    [
        "alice/CN=bob",
        "alice/bob",
        "a=b",
        "alice\nbob",
        "alice\n",
        "\nalice",
        "",
        " ",
        "alice bob",
        "al%69ce",
        "$(id)",
        "`id`",
        "alice;id",
        "-n",
        "..",
        "root",
        "ålice",
        "a" * 65,
        "alice\rbob",
        "*",
    ],
)
def test_a_name_that_could_forge_a_subject_is_refused(mapper: Path, account: str) -> None:
    done = _run(mapper, account)
    assert done.returncode == 1
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [[], ["alice", "bob"]])
def test_anything_but_one_name_is_refused(mapper: Path, arguments: list[str]) -> None:
    done = _run(mapper, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
