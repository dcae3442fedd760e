"""`wherry-endpoint serve`: it leaves nothing running and nothing changed, however it ends."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from wherry_testing.sites import RealSite, SiteFailed, kit_environment, kit_python, merged_trust, wait_until

pytestmark = pytest.mark.row("I1", missing="registration, XRootD, systemd")


def _processes_of(site: RealSite) -> dict[int, str]:
    """Every process that names the site's folder in its command line, with that line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(site.folder) in command:
                found[int(entry.name)] = command
    return found


def _one(site: RealSite, program: str) -> int:
    def pids() -> list[int]:
        return [pid for pid, command in _processes_of(site).items() if command.startswith(program)]

    # MyProxy forks for each connection, so for a moment there may be more.
    wait_until(lambda: len(pids()) == 1)
    return pids()[0]


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def _etc() -> dict[str, str]:
    found = {}
    for path in Path("/etc").rglob("*"):
        if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
            found[str(path)] = f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


@pytest.fixture
def site() -> Iterator[RealSite]:
    """A site of the test's own."""
    with RealSite("site-p", accounts={"alice": "in wonderland"}) as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_both_servers_and_leaves_no_process(site: RealSite, number: signal.Signals) -> None:
    assert {"myproxy-server", "globus-gridftp-server"} <= {line.split()[0] for line in _processes_of(site).values()}
    os.kill(site.pid, number)
    assert site.stop() == 0
    assert _processes_of(site) == {}
    assert not _answers(site.gridftp_port)
    assert not _answers(site.myproxy_port)


def test_an_open_session_ends_with_the_site(site: RealSite) -> None:
    with socket.create_connection(("127.0.0.1", site.gridftp_port), 10) as session:
        assert session.recv(3) == b"220"
        assert site.stop() == 0
        assert _processes_of(site) == {}
        while session.recv(4096):
            pass


def test_kill_9_leaves_no_process_either(site: RealSite) -> None:
    with socket.create_connection(("127.0.0.1", site.gridftp_port), 10) as session:
        assert session.recv(3) == b"220"
        site.kill()
        wait_until(lambda: _processes_of(site) == {})


def test_the_site_ends_when_its_starter_does(site: RealSite) -> None:
    site.stop()
    starter = (
        "import subprocess, sys\n"
        "serving = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)\n"
        "sys.stdout.write(serving.stdout.readline().decode()); sys.stdout.flush()\n"
        "sys.stdin.read()\n"
    )
    command = [kit_python(), "-m", "wherry_endpoint", "serve", "--config", str(site.config)]
    with subprocess.Popen(
        [sys.executable, "-c", starter, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=kit_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert _answers(site.gridftp_port)
        process.kill()
    wait_until(lambda: _processes_of(site) == {})


def test_a_restart_serves_again_with_the_same_authorities_on_the_same_ports(site: RealSite, tmp_path: Path) -> None:
    before = (site.host_ca_pem, site.user_ca_pem)
    site.restart()
    del site.description
    assert (site.host_ca_pem, site.user_ca_pem) == before
    site.sign_in("alice", tmp_path / "credential")


@pytest.mark.parametrize("program", ["globus-gridftp-server", "myproxy-server"])
def test_a_server_that_dies_is_started_again(site: RealSite, program: str, tmp_path: Path) -> None:
    first = _one(site, program)
    os.kill(first, signal.SIGKILL)
    port = site.gridftp_port if program.startswith("globus") else site.myproxy_port
    wait_until(lambda: "starting it again" in site.log_text())
    wait_until(lambda: _answers(port))
    assert _one(site, program) != first
    site.sign_in("alice", tmp_path / "credential")


def test_nothing_of_the_machine_is_changed() -> None:
    before = _etc()
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    with RealSite("site-p", accounts={"alice": "in wonderland"}) as site:
        folder = site.folder
        assert _etc() == before
        assert Path("/proc/self/mounts").read_text(encoding="utf-8") == mounts
        assert not Path("/data/alice").exists()
    assert _etc() == before
    assert not folder.exists()


def test_a_port_that_is_taken_is_an_error_that_says_so() -> None:
    site = RealSite("site-p", accounts={"alice": "in wonderland"})
    site.install()
    try:
        with socket.socket() as other:
            other.bind(("", site.gridftp_port))
            with pytest.raises(SiteFailed, match=r"gridftp: ended with status"):
                site.start()
        assert _processes_of(site) == {}
    finally:
        shutil.rmtree(site.folder)


def test_no_password_is_ever_on_a_command_line(site: RealSite) -> None:
    assert not any("wonderland" in command for command in _processes_of(site).values())
    assert b"wonderland" not in site.config.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else; every other test ran unprivileged")
def test_as_root_each_account_is_a_local_account_of_its_own() -> None:
    with RealSite("site-p") as site, RealSite("site-q") as other:
        owners = {folder.data_dir(user).stat().st_uid for folder in (site, other) for user in ("alice", "bob")}
        assert len(owners) == 4
        assert 0 not in owners


# Runs as an ordinary user; prints the steps it got through.
_UNPRIVILEGED = """
import pathlib, subprocess, sys, tempfile
from wherry_testing.sites import RealSite
with RealSite("site-u") as site, tempfile.TemporaryDirectory() as folder:
    credential = site.sign_in("alice", pathlib.Path(folder) / "alice.pem")
    def client(*arguments):
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "X509_CERT_DIR": str(site.trust_dir),
                       "X509_USER_PROXY": str(credential)}
        command = ["globus-url-copy", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, timeout=30).returncode
    source = pathlib.Path(folder) / "source"
    source.write_bytes(b"hello")
    assert client(f"file://{source}", site.url("alice", "own")) == 0
    assert (site.data_dir("alice") / "own").read_bytes() == b"hello"
    print("own folder written")
    (site.data_dir("bob") / "secret").write_bytes(b"of bob")
    assert client(site.url("bob", "secret"), f"file://{folder}/got") != 0
    assert client(f"file://{source}", site.url("bob", "planted")) != 0
    assert not (site.data_dir("bob") / "planted").exists()
    print("other folder refused")
    for name in ("authorities/users/ca_key.pem", "host/hostkey.pem", "private/passwords"):
        assert client(f"gsiftp://localhost:{site.gridftp_port}{site.state / name}", f"file://{folder}/key") != 0, name
    print("secrets refused")
    assert site.stop() == 0
print("stopped")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="as an ordinary user every other test shows this already")
def test_an_ordinary_user_can_run_a_whole_site(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Copies, because the tree may lie where an ordinary user cannot read, as in root's home.
    tree, copy = Path(__file__).resolve().parents[3], tmp_path_factory.mktemp("tree")
    for folder in ("endpoint-kit/wherry_endpoint", "tests/support/wherry_testing"):
        shutil.copytree(tree / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    base = Path(tempfile.gettempdir()).resolve()
    for parent in (copy, *(one for one in copy.parents if one.is_relative_to(base) and one != base)):
        parent.chmod(0o755)
    done = subprocess.run(
        [kit_python(), "-c", _UNPRIVILEGED],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        env={
            **kit_environment(),
            "HOME": "/nonexistent",
            "PYTHONPATH": f"{copy / 'endpoint-kit'}:{copy / 'tests/support'}",
        },
    )
    assert done.stdout.split("\n")[:-1] == [
        *("own folder written", "other folder refused", "secrets refused", "stopped"),
    ], (done.returncode, done.stderr)


@pytest.fixture
def network_namespace() -> Iterator[str]:
    """A network namespace with nothing but its loopback."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the ip command")
    name = f"wherry-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=30)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True, timeout=30)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True, timeout=30)


def test_a_site_runs_in_a_network_namespace_of_its_own(network_namespace: str, tmp_path: Path) -> None:
    prefix = ["ip", "netns", "exec", network_namespace]
    with RealSite("site-n", accounts={"alice": "in wonderland"}, prefix=prefix) as site:
        assert not _answers(site.gridftp_port)
        trust = merged_trust(tmp_path / "trust", [site])
        done = subprocess.run(
            [
                *(*prefix, "myproxy-logon", "-s", "localhost", "-p", str(site.myproxy_port)),
                *("-l", "alice", "-S", "-q", "-o", str(tmp_path / "credential")),
            ],
            input="in wonderland\n",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "X509_CERT_DIR": str(trust)},
        )
        assert done.returncode == 0, done.stderr
    assert _processes_of(site) == {}


def test_a_site_outside_a_sandbox_serves_and_stops_as_cleanly() -> None:
    site = RealSite("site-p", accounts={"alice": "in wonderland"})
    site.install()
    try:
        text = site.config.read_text(encoding="utf-8").partition("[sandbox]")[0]
        site.config.write_text(text, encoding="utf-8")
        site.kit("install")
        site.start()
        with socket.create_connection(("127.0.0.1", site.gridftp_port), 10) as session:
            assert session.recv(3) == b"220"
            assert site.stop() == 0
        assert _processes_of(site) == {}
        site.start()
        # Without a process namespace the kernel does not help: the supervisor that is left does it.
        site.kill()
        wait_until(lambda: _processes_of(site) == {})
    finally:
        site.stop()
        shutil.rmtree(site.folder)


def test_a_second_serve_of_one_site_is_refused_and_does_the_first_no_harm(site: RealSite, tmp_path: Path) -> None:
    with pytest.raises(SiteFailed, match="is being served already"):
        site.kit("serve")
    site.sign_in("alice", tmp_path / "credential")
    with socket.create_connection(("127.0.0.1", site.gridftp_port), 10) as session:
        assert session.recv(3) == b"220"


def test_a_host_name_given_for_the_sandbox_is_known_to_its_servers(tmp_path: Path) -> None:
    with RealSite(
        "site-h",
        accounts={"alice": "pass word"},
        host="storage.test",
        alternative_names=["127.0.0.1"],
        sandbox='hosts = { "storage.test" = "127.0.0.1" }',
    ) as site:
        # The machine does not know the name, so the clients outside use the address.
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "X509_CERT_DIR": str(site.trust_dir)}
        credential = tmp_path / "credential"
        signed_in = subprocess.run(
            [
                "myproxy-logon",
                "-s",
                "127.0.0.1",
                "-p",
                str(site.myproxy_port),
                "-l",
                "alice",
                "-S",
                "-q",
                "-o",
                str(credential),
            ],
            input="pass word\n",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            # myproxy-logon compares the common name only.
            env={**environment, "MYPROXY_SERVER_DN": "/O=site-h/OU=Hosts/CN=storage.test"},
        )
        assert signed_in.returncode == 0, signed_in.stderr
        listed = subprocess.run(
            ["globus-url-copy", "-list", f"gsiftp://127.0.0.1:{site.gridftp_port}/data/alice/"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**environment, "X509_USER_PROXY": str(credential)},
        )
        # A server that cannot resolve its own name cannot open the data channel that a listing needs.
        assert listed.returncode == 0, listed.stderr
