"""`deploy/setup.sh` on machines that lack something, played by stubs of the programs that it asks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = [
    line
    for line in (ROOT / "deploy" / "packages.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """Programs that say: nothing is installed, and I am not root."""
    stub(tmp_path, "dpkg-query", "exit 1")
    stub(tmp_path, "id", "echo 1000")
    stub(tmp_path, "sudo", "exit 1")
    stub(tmp_path, "apt-get", "echo 'E: Unable to reach the archive'; exit 100")
    return tmp_path


def stub(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def setup(stubs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "deploy" / "setup.sh"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": f"{stubs}:/usr/bin:/bin"},
        timeout=60,
        check=False,
    )


def test_without_root_and_sudo_one_line_says_which_packages_and_the_command(stubs: Path) -> None:
    done = setup(stubs)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "neither root nor sudo" in line
    assert line.endswith(f"apt-get install --no-install-recommends {' '.join(PACKAGES)}")


def test_only_what_is_missing_is_named(stubs: Path) -> None:
    there = [package for package in PACKAGES if package != "libpam-pwdfile"]
    stub(stubs, "dpkg-query", "\n".join(f"echo 'ii {package}'" for package in there))
    done = setup(stubs)
    assert done.stderr.rstrip().endswith("--no-install-recommends libpam-pwdfile")


def test_a_package_that_was_removed_and_left_its_configuration_is_missing(stubs: Path) -> None:
    lines = [f"echo '{'rc' if package == 'myproxy-server' else 'ii'} {package}'" for package in PACKAGES]
    stub(stubs, "dpkg-query", "\n".join(lines))
    assert setup(stubs).stderr.rstrip().endswith("--no-install-recommends myproxy-server")


def test_what_apt_says_is_in_the_one_line(stubs: Path) -> None:
    before = [path.name for path in Path("/usr/sbin").iterdir()]
    stub(stubs, "sudo", 'test "$1" = -n && exit 0\nexec "$@"')
    done = setup(stubs)
    assert done.returncode == 1
    assert done.stderr == "setup: apt-get failed: E: Unable to reach the archive (all of it: .setup/apt.log)\n"
    assert [path.name for path in Path("/usr/sbin").iterdir()] == before
