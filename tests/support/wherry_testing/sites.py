"""Real storage sites for tests: MyProxy and GridFTP, set up and run by the endpoint kit itself.

    with RealSite("site-a") as site:
        (site.data_dir("alice") / "hello.txt").write_text("hello")
        site.own("alice")
        site.url("alice", "hello.txt")  # gsiftp://localhost:PORT/data/alice/hello.txt

As root every account is a local account of its own inside the site; as an ordinary user all of them are that user.
Start a site from a thread that lives as long as the site: the kernel stops it when that thread ends.
"""

from __future__ import annotations

import functools
import json
import os
import random
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from wherry_testing.waiting import PATIENCE_S

_KIT = Path(__file__).resolve().parents[3] / "endpoint-kit"
_SYSTEM_PYTHON = "/usr/bin/python3"
_INSTALL_WITHIN_S = 2 * PATIENCE_S
_READY_WITHIN_S = 2 * PATIENCE_S
_STOP_WITHIN_S = 15.0
# Below Linux's ephemeral ports (32768 and up), so that no outgoing connection takes a chosen port.
_PORTS = range(20_000, 32_000)


class SiteFailed(Exception):
    """The endpoint kit did not do what the test needed; the message holds what it said."""


def free_ports(count: int) -> list[int]:
    """`count` TCP ports nobody listens on now, on any address."""
    chosen: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise SiteFailed(f"no {count} free ports")


def kit_python() -> str:
    """The interpreter the kit is run with: the distribution's, as at a real site, when there is one."""
    return _SYSTEM_PYTHON if Path(_SYSTEM_PYTHON).exists() else sys.executable


def kit_environment() -> dict[str, str]:
    """An environment in which ``python -m wherry_endpoint`` is the kit of this tree."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(_KIT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class RealSite:
    """One real site; a context manager that installs and starts it, and leaves nothing behind.

    `accounts` maps account names to the passwords MyProxy accepts. `gridftp` and `sandbox` are further lines of
    TOML for those tables. `prefix` is put before the command that serves the site, such as
    ``("ip", "netns", "exec", "site-a")``. With `folder` the site is kept there and not removed at the end.
    """

    def __init__(
        self,
        name: str,
        *,
        accounts: Mapping[str, str] | None = None,
        host: str = "localhost",
        alternative_names: Sequence[str] = (),
        folder: Path | None = None,
        prefix: Sequence[str] = (),
        gridftp: str = "",
        sandbox: str = "",
    ) -> None:
        self.name = name
        self.host = host
        self.accounts: dict[str, str] = dict(accounts or {user: f"{user} of {name}" for user in ("alice", "bob")})
        self.myproxy_port, self.gridftp_port = free_ports(2)
        self._alternative_names = list(alternative_names)
        self._keep = folder is not None
        self._given_folder = folder
        self._prefix = list(prefix)
        self._more_gridftp = gridftp
        self._more_sandbox = sandbox
        self._serving: subprocess.Popen[bytes] | None = None
        self.folder = Path()

    def __enter__(self) -> RealSite:
        self.install()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if not self._keep:
            shutil.rmtree(self.folder)

    # -- setting up and running

    def install(self) -> str:
        """Write the configuration and run ``install``; what it printed."""
        if self.folder == Path():
            if self._given_folder is None:
                self.folder = Path(tempfile.mkdtemp(prefix=f"wherry-{self.name}-"))
            else:
                self.folder = self._given_folder
                self.folder.mkdir(parents=True, exist_ok=True)
            # Sandbox accounts are other users: they must be able to walk through.
            self.folder.chmod(0o755)
            self.config.write_text(self._toml(), encoding="utf-8")
        passwords = "".join(f"{user}:{password}\n" for user, password in self.accounts.items())
        return self.kit("install", "--passwords", "-", stdin=passwords)

    def start(self) -> None:
        """Run ``serve`` and wait until both servers answer."""
        command = [*self._prefix, kit_python(), "-m", "wherry_endpoint", "serve", "--config", str(self.config)]
        with self.log.open("ab") as log:
            serving = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=kit_environment()
            )
        self._serving = serving
        assert serving.stdout is not None  # asked for with PIPE
        ready, _, _ = select.select([serving.stdout], [], [], _READY_WITHIN_S)
        line = serving.stdout.readline() if ready else b""
        if line != b"ready\n":
            self.kill()
            raise SiteFailed(f"{self.name} did not become ready:\n{self.log_text()}")

    def stop(self) -> int | None:
        """Stop the site cleanly; the exit status of ``serve``, None if it was not running."""
        serving, self._serving = self._serving, None
        if serving is None:
            return None
        serving.terminate()
        return _ended(serving)

    def kill(self) -> None:
        """Kill the site as a power cut would: nothing is said to anybody, every process is gone."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.kill()
            _ended(serving)

    def restart(self) -> None:
        """Stop and start again on the same ports."""
        self.stop()
        self.start()

    @property
    def pid(self) -> int:
        """The process of ``serve``."""
        if self._serving is None:
            raise SiteFailed(f"{self.name} is not running")
        return self._serving.pid

    def kit(self, *arguments: str, stdin: str = "") -> str:
        """Run the kit with this site's configuration; its standard output, SiteFailed if it fails."""
        done = subprocess.run(
            [kit_python(), "-m", "wherry_endpoint", *arguments, "--config", str(self.config)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_INSTALL_WITHIN_S,
            env=kit_environment(),
            check=False,
        )
        if done.returncode != 0:
            raise SiteFailed(f"wherry-endpoint {arguments[0]} of {self.name}: {done.stderr.strip()}\n{done.stdout}")
        return done.stdout

    # -- what is where

    @property
    def config(self) -> Path:
        """The site's ``endpoint.toml``."""
        return self.folder / "endpoint.toml"

    @property
    def log(self) -> Path:
        """What the servers have said so far."""
        return self.folder / "serve.log"

    def log_text(self) -> str:
        """The text of `log`."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    @property
    def state(self) -> Path:
        """The folder that the kit fills."""
        return self.folder / "site"

    @property
    def trust_dir(self) -> Path:
        """The site's own trust directory: its two authorities and nothing else."""
        return self.state / "certificates"

    def data_dir(self, user: str) -> Path:
        """The user's files as the machine sees them; call `own` after preparing some as root."""
        return self.state / "data" / user

    def own(self, user: str) -> None:
        """Give everything in `data_dir` to the user (as root; otherwise it is the user's already)."""
        top = self.data_dir(user)
        owner = top.stat()
        for path in top.rglob("*"):
            now = path.lstat()
            if (now.st_uid, now.st_gid) != (owner.st_uid, owner.st_gid):
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def root_path(self, user: str) -> str:
        """The user's folder at the GridFTP door, such as ``/data/alice``."""
        return f"/data/{user}"

    def url(self, user: str, *parts: str) -> str:
        """The quoted gsiftp URL of a path below the user's folder."""
        path = "/".join([self.root_path(user), *parts])
        return f"gsiftp://{self.host}:{self.gridftp_port}{quote(path)}"

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """``wherry-endpoint show --json``: what registering the site needs."""
        described: dict[str, Any] = json.loads(self.kit("show", "--json"))
        return described

    @property
    def host_ca_pem(self) -> str:
        """The authority that signs the site's servers, in PEM."""
        return str(self.description["hosts_ca"]["pem"])

    @property
    def user_ca_pem(self) -> str:
        """The authority that signs the site's users, in PEM."""
        return str(self.description["users_ca"]["pem"])

    # -- signing in, as a user of the field would

    def sign_in(self, user: str, credential: Path, *, password: str | None = None, hours: int = 12) -> Path:
        """Get a credential (key and certificate in one file) with ``myproxy-logon``; SiteFailed if refused."""
        done = subprocess.run(
            [
                *("myproxy-logon", "-s", self.host, "-p", str(self.myproxy_port), "-l", user),
                *("-S", "-q", "-t", str(hours), "-o", str(credential)),
            ],
            input=(self.accounts[user] if password is None else password) + "\n",
            capture_output=True,
            text=True,
            timeout=30,
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "X509_CERT_DIR": str(self.trust_dir)},
            check=False,
        )
        if done.returncode != 0:
            raise SiteFailed(done.stderr.strip())
        return credential

    def _toml(self) -> str:
        names = json.dumps(list(self.accounts))
        return f"""\
[site]
name = "{self.name}"
title = "Test site {self.name}"
host = "{self.host}"
alternative_names = {json.dumps(self._alternative_names)}
folder = "site"
[authority]
key_bits = 2048
[myproxy]
port = {self.myproxy_port}
[gridftp]
port = {self.gridftp_port}
{self._more_gridftp}
[sandbox]
enabled = true
accounts = {names}
{self._more_sandbox}
"""


def _ended(serving: subprocess.Popen[bytes]) -> int:
    """Wait for the end; kill what does not end in time, because a test must not leave a site behind."""
    try:
        serving.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        serving.kill()
        serving.wait()
        raise SiteFailed(f"serve (process {serving.pid}) did not stop within {_STOP_WITHIN_S:.0f} s") from None
    finally:
        if serving.stdout is not None:
            serving.stdout.close()
    return serving.returncode


def merged_trust(folder: Path, sites: Sequence[RealSite]) -> Path:
    """A trust directory with the authorities of several sites: what a client that talks to all of them needs."""
    folder.mkdir(parents=True, exist_ok=True)
    for site in sites:
        for path in site.trust_dir.iterdir():
            shutil.copy(path, folder / path.name)
    return folder


def wait_until(condition: Any, within_s: float = PATIENCE_S) -> None:
    """Poll `condition` until it is true; SiteFailed after `within_s`."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise SiteFailed(f"not true within {within_s} s: {condition}")
        time.sleep(0.02)
