"""The demonstration from its beginning to its end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry_chassis.buildout import BuildoutError, load

from wherry_deploy.check import check
from wherry_deploy.demonstration import source_data
from wherry_deploy.demonstration.accounts import Account, Accounts, load_or_make
from wherry_deploy.demonstration.commands import Commands
from wherry_deploy.demonstration.failing import DemonstrationFailed
from wherry_deploy.demonstration.inbox import Inbox
from wherry_deploy.demonstration.site import DemoSite
from wherry_deploy.demonstration.verify import Comparison, compare
from wherry_deploy.deployment import running
from wherry_deploy.initialise import InitError, initialise
from wherry_deploy.log_lines import FolderLines
from wherry_deploy.ports import NoFreePort, free_ports
from wherry_deploy.supervise import ProgramFailed
from wherry_deploy.template import Choices, MailChoice

_NEEDED_BYTES = 1 << 30
_LOOPBACK = ("127.0.0.0/8", "::1/128")
_MAIL_WITHIN_S = 15.0
_COPIED_WITHIN_S = 1800.0
_TOKEN = re.compile(r"wherry verify (\S+)")
_SHOWN_DIFFERENCES = 5


async def demonstrate(folder: Path, *, stay: bool) -> None:
    """Runs the demonstration in `folder`, which is there, and which a later run uses again.

    Args:
        folder: everything is kept there.
        stay: whether to go on running after the copy, until this task is cancelled.

    Raises:
        DemonstrationFailed: with one line that says why.
    """
    began = time.monotonic()
    with _alone(folder), FolderLines(folder / "logs") as lines:
        try:
            await _Demonstration(folder, lines).run(stay=stay, began=began)
        except (BuildoutError, InitError, ProgramFailed, NoFreePort) as error:
            raise DemonstrationFailed(str(error)) from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps a second demonstration out of the folder; the lock ends with the process, however it ends."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemonstrationFailed(f"a demonstration is running in {folder} already: stop that one first") from None
        yield


@dataclass(frozen=True)
class _Demonstration:
    folder: Path
    lines: FolderLines

    @property
    def _deployment(self) -> Path:
        return self.folder / "deployment"

    @property
    def _file(self) -> Path:
        return self._deployment / "buildout.toml"

    async def run(self, *, stay: bool, began: float) -> None:
        if shutil.disk_usage(self.folder).free < _NEEDED_BYTES:
            raise DemonstrationFailed(f"less than 1 GB is free at {self.folder}: the demonstration needs that much")
        accounts = load_or_make(self.folder / "accounts.json")
        ports = free_ports(9)
        site_a = self._site("site-a", "University of A", accounts.site_a, ports[:2])
        site_b = self._site("site-b", "Institute of B", accounts.site_b, ports[2:4])
        _say("Setting up two sites, each with certificate authorities, MyProxy and GridFTP of its own …")
        await _both(site_a.install(), site_b.install())
        if await asyncio.to_thread(source_data.make, site_a.files()):
            site_a.own(site_a.files() / source_data.NAME)
        known = (self._deployment / "data" / "user.db").exists()
        initialise(self._deployment, _choices(ports[4:]))
        mail, gateway = load(self._file).mail, load(self._file).gateway
        if gateway is None:
            raise DemonstrationFailed(f"{self.folder} is of an earlier release: remove it to begin anew")
        self._write_for_others()
        async with self._inbox(mail.host, mail.port) as inbox:
            report = await asyncio.to_thread(check, self._file, starting=True)
            if report.faults:
                raise DemonstrationFailed(report.faults[0])
            _say("Starting the gateway, the services, a worker and both sites …")
            async with running(self._file, self.lines, further=[site_a.program(), site_b.program()]):
                _say(f"All is healthy, {time.monotonic() - began:.0f} s after the start.\n")
                await self._sign_in(accounts, inbox, known=known)
                await _both(self._add(site_a, known=known), self._add(site_b, known=known))
                self._show_door(gateway.public_url, accounts)
                for site in (site_a, site_b):
                    await self._sign_in_at(site)
                destination = await self._copy(site_a, site_b)
                if stay:
                    self._show_what_to_try(destination)
                    await asyncio.Event().wait()
                _say("Stopping …")

    def _site(self, name: str, title: str, account: Account, ports: Sequence[int]) -> DemoSite:
        return DemoSite(name, title, self.folder / name, account, (ports[0], ports[1]), self.lines)

    @contextlib.asynccontextmanager
    async def _inbox(self, host: str, port: int) -> AsyncIterator[Inbox]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                inbox = await stack.enter_async_context(Inbox(self.folder / "inbox").receiving(host, port))
            except OSError as error:
                raise DemonstrationFailed(
                    f"the inbox cannot have port {port} ({error.strerror}): stop what has it, or remove {self.folder}"
                ) from error
            yield inbox

    async def _sign_in(self, accounts: Accounts, inbox: Inbox, *, known: bool) -> None:
        """Signs in at Wherry; at the first run through registration, as everybody does."""
        email, password = accounts.wherry.name, accounts.wherry.password
        login = ("login", email, "--password-stdin")
        if known and (await self._wherry.run(self._command(*login), stdin=password)).status == 0:
            return
        await self._must("register", email, "--password-stdin", stdin=password)
        try:
            async with asyncio.timeout(_MAIL_WITHIN_S):
                mail = await inbox.next_to(email)
        except TimeoutError:
            raise DemonstrationFailed(f"no mail came within {_MAIL_WITHIN_S:.0f} s of the registration") from None
        token = _TOKEN.search(mail.text)
        if token is None:
            raise DemonstrationFailed(
                f"the mail {mail.file} holds no token: {email} has another password already; remove {self.folder}"
            )
        await self._must("verify", token[1], shown=("verify", "TOKEN-FROM-THE-MAIL"))
        await self._must(*login, stdin=password)

    async def _add(self, site: DemoSite, *, known: bool) -> None:
        """Registers a site if it is not; at the first run it cannot be."""
        if not known or (await self._wherry.run(self._command("site", "show", site.name))).status != 0:
            await self._must("site", "add", "--from", str(await site.registration()))

    async def _sign_in_at(self, site: DemoSite) -> None:
        login = ("site", "login", site.name, "--username", site.account.name, "--password-stdin")
        await self._must(*login, stdin=site.account.password)

    def _show_door(self, url: str, accounts: Accounts) -> None:
        """Says all that somebody with a browser needs."""
        rows = [("Wherry", accounts.wherry), ("site-a", accounts.site_a), ("site-b", accounts.site_b)]
        width = max(len(account.name) for _, account in rows)
        shown = "\n".join(
            f"  {where:<8} {account.name:<{width}}   password {account.password}" for where, account in rows
        )
        _say(
            f"""
Open this address in a browser:

  {url}

Sign in with the first of these accounts, and at each site, in its pane, with the site's own. They were made up for
this machine only.

{shown}

The browser will warn you, because the page's certificate is of this demonstration's own authority, which no browser
knows: go on to the page all the same, or import {_shown(self._web_ca)} as an authority beforehand.
"""
        )

    async def _copy(self, site_a: DemoSite, site_b: DemoSite) -> str:
        """Copies the directory and looks at the result; returns where it went."""
        name = f"{source_data.NAME}-{time.strftime('%Y%m%d-%H%M%S')}"
        command = ("cp", "-r", f"{site_a.name}:{source_data.NAME}", f"{site_b.name}:{name}")
        _say_command(command)
        began = time.monotonic()
        try:
            async with asyncio.timeout(_COPIED_WITHIN_S):
                status = await self._wherry.show(self._command(*command))
        except TimeoutError:
            raise DemonstrationFailed(f"the copy has not ended within {_COPIED_WITHIN_S / 60:.0f} minutes") from None
        took_s = time.monotonic() - began
        if status != 0:
            raise DemonstrationFailed(f"the copy ended with status {status}; what it said is above")
        _say("Reading both directories on the two file systems to compare every file …")
        here, there = site_a.files() / source_data.NAME, site_b.files() / name
        compared = await asyncio.to_thread(compare, here, there)
        if compared.differences:
            shown = "; ".join(compared.differences[:_SHOWN_DIFFERENCES])
            raise DemonstrationFailed(f"{len(compared.differences)} differences between {here} and {there}: {shown}")
        _show_summary(compared, took_s, here, there)
        return f"{site_b.name}:{name}"

    def _show_what_to_try(self, copied: str) -> None:
        wherry = _shown(self.folder / "wherry")
        _say(
            f"""
Everything stays up until Ctrl-C. Go on in the browser, or try in another terminal:

  {wherry} ls -l {copied}
  {wherry} ls "{copied}/odd names"
  {wherry} cp -r "{copied}/readings" site-a:readings-again
  {wherry} rm -r {copied}
  {wherry} jobs
  {wherry} --help

Mail: {_shown(self.folder / "inbox")}   logs: {_shown(self.folder / "logs")}   all of it: {_shown(self.folder)}
"""
        )

    async def _must(self, *arguments: str, stdin: str = "", shown: Sequence[str] = ()) -> None:
        shown = shown or [argument for argument in arguments if argument != "--password-stdin"]
        _say_command(shown)
        doing = f"wherry {' '.join(shown)}"
        await self._wherry.must(self._command(*arguments), stdin=stdin, shown=doing, doing=doing)

    @property
    def _wherry(self) -> Commands:
        return Commands("wherry", self.lines, self._environment)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "WHERRY_CONFIG": str(self._deployment / "client.toml"),
            "WHERRY_STATE": str(self.folder / "client-state"),
        }

    def _command(self, *arguments: str) -> list[str]:
        return [str(_program()), *arguments]

    @property
    def _web_ca(self) -> Path:
        return self.folder / "web-ca.pem"

    def _write_for_others(self) -> None:
        """The page's authority where every browser can read it, and a `wherry` that knows this deployment."""
        shutil.copyfile(self._deployment / "trust" / "web-ca.pem", self._web_ca)
        variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self._environment.items())
        file = self.folder / "wherry"
        file.write_text(f'#!/bin/sh\n{variables}exec {shlex.quote(str(_program()))} "$@"\n', encoding="utf-8")
        file.chmod(0o755)


def _program() -> Path:
    return Path(sys.executable).with_name("wherry")


async def _both(first: Coroutine[None, None, None], second: Coroutine[None, None, None]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(first)
            group.create_task(second)
    except BaseExceptionGroup as problems:
        raise problems.exceptions[0] from None


def _choices(ports: Sequence[int]) -> Choices:
    user, site, queue, gateway, mail = ports
    return Choices(
        name="Demonstration",
        ports=(user, site, queue),
        gateway_port=gateway,
        allow_networks=_LOOPBACK,
        mail=MailChoice("localhost", mail, "none", "wherry@localhost"),
    )


def _show_summary(compared: Comparison, took_s: float, here: Path, there: Path) -> None:
    megabytes = compared.size_bytes / 1e6
    _say(
        f"""
Copied  {compared.files} files and {compared.directories} directories ({compared.empty_directories} of them empty)
Bytes   {compared.size_bytes:,}
Time    {took_s:.1f} s, from the command's start to its end
Rate    {megabytes / took_s:.1f} MB/s, {compared.files / took_s:.1f} files/s, straight from one site to the other
Checked the SHA-256 of every file is the same on both file systems:
        {_shown(here)}
        {_shown(there)}
"""
    )


def _shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _say_command(arguments: Sequence[str]) -> None:
    _say(f"$ wherry {shlex.join(arguments)}")


def _say(text: str) -> None:
    print(text, flush=True)
