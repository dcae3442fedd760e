"""A throw-away PostgreSQL server: its own folder, unix socket and port, stopped by its own process id.

Nothing in it outlives the tests, so it never waits for the disk. Where the tests run as root, the server runs as an
unprivileged account, since PostgreSQL refuses root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from wherry_testing.deployment_processes import children_of, is_alive, wait_until

_ACCOUNT = "wherry"
_START_S = 30.0
_STOP_S = 20.0
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "5s",
    "log_min_messages": "warning",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_KILL_PROOF = {"synchronous_commit": "on", "full_page_writes": "on"}
"""What was written before a process was killed is the kernel's, which is not: only a power cut would lose it."""


class PostgresMissing(Exception):
    """No PostgreSQL server is installed; `make setup` installs one."""


def postgres_programs() -> Path:
    """Returns the folder with `initdb` and `postgres` of the newest server installed.

    Raises:
        PostgresMissing: there is none.
    """
    debian = Path("/usr/lib/postgresql")
    folders = sorted(debian.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise PostgresMissing(str(PostgresMissing.__doc__))


class PostgresServer:
    """A running server; `fresh()` gives the URL of a new database on it.

    The unix socket stands in a folder that only its owner (and root) can enter, so it asks for no password. The TCP
    port (127.0.0.1) asks for one; it is there for tests that put something between a service and its database.

    Args:
        durable: wait for the disk at each commit, as a benchmark has to.
        kill_proof: keep what was committed when `kill` ends it, without waiting for the disk.
    """

    def __init__(self, *, durable: bool = False, kill_proof: bool = False) -> None:
        self._settings = _SETTINGS | (_KILL_PROOF if kill_proof else {}) | (_DURABLE if durable else {})
        self._programs = postgres_programs()
        self._prefix, self._owner = _unprivileged()
        self.folder = Path(tempfile.mkdtemp(prefix="wherry-pg-"))
        if self._owner is not None:
            os.chown(self.folder, *self._owner)
        self.port = _free_port()
        self._password = secrets.token_urlsafe(16)
        self._templates: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._initialise()
        self.start()

    def start(self) -> None:
        """Starts the server, again after a `stop`, and waits until it answers."""
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        listen = ["-c", "listen_addresses=127.0.0.1", "-p", str(self.port), "-k", str(self.folder)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, str(self._programs / "postgres"), "-D", str(self.folder / "data"), *listen, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        deadline_s = time.monotonic() + _START_S
        while True:
            try:
                with self._administrator():
                    return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline_s:
                    text = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{text}") from error
                time.sleep(0.02)

    def stop(self, *, crash: bool = False) -> None:
        """Stops the server and its connections; with `crash` without so much as a checkpoint."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Kills the server and every process of it (SIGKILL). Those that are made for it lose nothing."""
        if self._process is None:
            return
        pids = [self._process.pid, *children_of(self._process.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        # The next one refuses to start while a process of this one still has its memory.
        wait_until(lambda: not any(is_alive(pid) for pid in pids), "PostgreSQL's processes are gone", _STOP_S)

    def remove(self) -> None:
        """Stops the server and deletes its folder."""
        self.stop()
        shutil.rmtree(self.folder)

    def fresh(self, package: str | None = None) -> str:
        """Returns the SQLAlchemy URL of a new database: empty, or with the newest schema of a service's package.

        A package (as `wherry_queue`) is migrated once; its further databases are copies of that.
        """
        if package is None:
            return self._create("template0")
        if package not in self._templates:
            from wherry_chassis import migrations

            url = self._create("template0")
            migrations.upgrade(url, package)
            self._templates[package] = _database_of(url)
        return self._create(self._templates[package])

    def drop(self, url: str) -> None:
        """Drops a database that `fresh` made, with whoever is still connected to it."""
        with self._administrator() as connection:
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(_database_of(url)))
            )

    def tcp_url(self, url: str) -> str:
        """Returns the URL of the same database by TCP; it holds the server's password."""
        return f"postgresql+psycopg://{_ACCOUNT}:{quote(self._password)}@127.0.0.1:{self.port}/{_database_of(url)}"

    def _create(self, template: str) -> str:
        name = f"w{secrets.token_hex(8)}"
        with self._administrator() as connection:
            connection.execute(
                sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return f"postgresql+psycopg:///{name}?host={quote(str(self.folder), safe='')}&port={self.port}&user={_ACCOUNT}"

    @contextlib.contextmanager
    def _administrator(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(
            host=str(self.folder), port=self.port, user=_ACCOUNT, dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection:
            yield connection

    def _initialise(self) -> None:
        password_file = self.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if self._owner is not None:
            os.chown(password_file, *self._owner)
        command = [
            *self._prefix,
            str(self._programs / "initdb"),
            *("-D", str(self.folder / "data"), "-U", _ACCOUNT, "--encoding=UTF8", "--locale=C"),
            *("--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password_file}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=120)
        password_file.unlink()
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr.strip()}")


def _unprivileged() -> tuple[list[str], tuple[int, int] | None]:
    """Returns what to put before a command so that it is unprivileged and dies with us, and (uid, gid) if changed."""
    prefix = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() != 0:
        return prefix, None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            owner = (account.pw_uid, account.pw_gid)
            return [*prefix, f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups"], owner
    raise RuntimeError("PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody`")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _database_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]
