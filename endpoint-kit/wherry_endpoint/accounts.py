"""The accounts of a sandbox site: who may sign in, by what password, and which files are theirs."""

from __future__ import annotations

import os
import pwd
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from wherry_endpoint.changes import Changes
from wherry_endpoint.config import Config
from wherry_endpoint.errors import EndpointError
from wherry_endpoint.layout import Layout
from wherry_endpoint.openssl import password_hash

# Free for local use on Debian and Enterprise Linux: above ordinary accounts, below systemd's dynamic ones.
_FIRST_UID = 30_000
_LAST_UID = 59_000
_MAX_PASSWORD_BYTES = 128

_PAM_SERVICE = """\
# Written by wherry-endpoint; changes here are lost at the next install.
auth     required  pam_pwdfile.so pwdfile={passwords} nodelay
account  required  pam_permit.so
"""


class Account(NamedTuple):
    """One local account of the sandbox."""

    name: str
    uid: int
    gid: int


def read_passwords(text: str) -> dict[str, str]:
    """The passwords in `text`, one ``account:password`` a line; empty lines and ``#`` comments are skipped."""
    passwords: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        # The text of the line is kept out of the message: it may be a password.
        if not colon or not name or not password:
            raise EndpointError(f"passwords, line {number}: must be account:password")
        if len(password.encode()) > _MAX_PASSWORD_BYTES or "\0" in password:
            raise EndpointError(f"passwords, line {number}: at most {_MAX_PASSWORD_BYTES} bytes, without NUL")
        passwords[name] = password
    return passwords


def read_accounts(layout: Layout) -> dict[str, Account]:
    """The accounts that an earlier install gave numbers to."""
    if not layout.passwd.is_file():
        return {}
    accounts = {}
    for line in layout.passwd.read_text(encoding="ascii").splitlines():
        name, _, uid, gid, *_ = line.split(":")
        accounts[name] = Account(name, int(uid), int(gid))
    return accounts


def _number_accounts(config: Config, layout: Layout) -> list[Account]:
    names = config.sandbox.accounts
    if os.geteuid() != 0:
        # Only root can become somebody else: every account of the site is the one who runs it.
        return [Account(name, os.geteuid(), os.getegid()) for name in names]
    known = {name: account for name, account in read_accounts(layout).items() if account.uid != 0}
    taken = {entry.pw_uid for entry in pwd.getpwall()} | {account.uid for account in known.values()}
    # Two sites on one machine should not share numbers, or one site's alice could open the other's files.
    candidate = secrets.choice(range(_FIRST_UID, _LAST_UID, 16))
    accounts = []
    for name in names:
        if name not in known:
            while candidate in taken:
                candidate += 1
            taken.add(candidate)
            known[name] = Account(name, candidate, candidate)
        accounts.append(known[name])
    return accounts


def _hashes(config: Config, layout: Layout, given: Mapping[str, str]) -> str:
    unknown = sorted(set(given) - set(config.sandbox.accounts))
    if unknown:
        raise EndpointError(
            f"passwords: {', '.join(unknown)}: not in sandbox.accounts of {config.source}; add the name there"
        )
    old: dict[str, str] = {}
    if layout.passwords.is_file():
        for line in layout.passwords.read_text(encoding="ascii").splitlines():
            name, _, hashed = line.partition(":")
            old[name] = hashed
    lines = []
    for name in config.sandbox.accounts:
        before = old.get(name)
        if name in given and not (before and _same(given[name], before)):
            lines.append(f"{name}:{password_hash(given[name])}\n")
        elif before:
            lines.append(f"{name}:{before}\n")
        else:
            raise EndpointError(
                f"passwords: none for {name}: give install a file of account:password lines with "
                "--passwords FILE (- for standard input)"
            )
    return "".join(lines)


def _same(password: str, hashed: str) -> bool:
    _, _, salt, _ = hashed.split("$")
    return secrets.compare_digest(password_hash(password, salt), hashed)


def install_accounts(config: Config, layout: Layout, passwords: Mapping[str, str], changes: Changes) -> None:
    """Passwords, account files, PAM service and data folders of the sandbox."""
    accounts = _number_accounts(config, layout)
    changes.file(layout.passwords, _hashes(config, layout, passwords).encode(), 0o600)
    passwd = "".join(
        f"{account.name}:x:{account.uid}:{account.gid}:{config.site.name}:{config.user_path(account.name)}:/bin/sh\n"
        for account in accounts
    )
    groups = {account.gid: account.name for account in reversed(accounts)}
    changes.file(layout.passwd, passwd.encode(), 0o644)
    changes.file(layout.group, "".join(f"{name}:x:{gid}:\n" for gid, name in sorted(groups.items())).encode(), 0o644)
    changes.file(layout.hosts, _hosts(config).encode(), 0o644)
    changes.file(layout.pam_service, _PAM_SERVICE.format(passwords=layout.passwords).encode(), 0o644)
    changes.directory(layout.data, 0o755)
    for account in accounts:
        changes.directory(layout.data / account.name, 0o700, account.uid, account.gid)


def _hosts(config: Config) -> str:
    lines = [f"{address}\t{host}\n" for host, address in config.sandbox.hosts.items()]
    return "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n" + "".join(lines)


def data_folder(layout: Layout, account: str) -> Path:
    """The folder of `account` as the machine itself sees it."""
    return layout.data / account
