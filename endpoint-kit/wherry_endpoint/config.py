"""`endpoint.toml`: what may stand in it, and what each value means."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from wherry_endpoint.errors import ConfigError
from wherry_endpoint.toml_reader import load_toml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_PAM_SERVICE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_TABLE_LINE = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]")
_LOG_LEVELS = ("error", "warn", "info", "transfer", "dump", "all")


@dataclass(frozen=True)
class SiteConfig:
    """`[site]`: who the site is and where the kit keeps what it makes."""

    name: str
    host: str
    folder: Path
    title: str = ""
    alternative_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuthorityConfig:
    """`[authority]`: the site's two certificate authorities and its host certificate."""

    key_bits: int = 3072
    ca_days: int = 3650
    host_days: int = 395
    renew_days: int = 30


@dataclass(frozen=True)
class MyProxyConfig:
    """`[myproxy]`: the server where users type the site's own password."""

    port: int = 7512
    listen: str = ""
    pam_service: str = "wherry"
    max_lifetime_hours: int = 72


@dataclass(frozen=True)
class GridFtpConfig:
    """`[gridftp]`: the server that moves the data."""

    port: int = 2811
    listen: str = ""
    data_ports: Optional[tuple[int, int]] = None
    root_path: str = ""
    restrict_paths: tuple[str, ...] = ()
    log_level: str = "error,warn"


@dataclass(frozen=True)
class SandboxConfig:
    """`[sandbox]`: a demonstration site that touches nothing outside its folder."""

    enabled: bool = False
    accounts: tuple[str, ...] = ()
    data: Optional[Path] = None
    hosts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """One whole `endpoint.toml`, checked. `source` is the file it came from."""

    source: Path
    site: SiteConfig
    authority: AuthorityConfig = AuthorityConfig()
    myproxy: MyProxyConfig = MyProxyConfig()
    gridftp: GridFtpConfig = GridFtpConfig()
    sandbox: SandboxConfig = SandboxConfig()

    @property
    def root_path(self) -> str:
        """The path at the GridFTP door under which users' data begins."""
        return self.gridftp.root_path or ("/data" if self.sandbox.enabled else "/")

    def user_path(self, account: str) -> str:
        """Where `account` lands at the GridFTP door; below `/~` it puts the home folder of a real account."""
        return f"{self.root_path.rstrip('/')}/{account}" if self.sandbox.enabled else "/~"


class _Table:
    """One table of the file: takes its keys one by one with their types, then refuses what is left."""

    def __init__(self, path: Path, text: str, name: str, values: Any) -> None:
        self._path = path
        self._text = text
        self._name = name
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: [{name}] must be a table")
        self._left: dict[str, Any] = dict(values)

    def line(self, key: str) -> Optional[int]:
        """The line that sets `key`, as far as it can be found without a parser that keeps positions."""
        table = ""
        for number, line in enumerate(self._text.splitlines(), start=1):
            head = _TABLE_LINE.match(line)
            if head is not None:
                table = head.group(1)
                if table == f"{self._name}.{key}":
                    return number
            elif table == self._name and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", line):
                return number
        return None

    def error(self, key: str, problem: str) -> ConfigError:
        number = self.line(key)
        where = f"{self._path}:{number}" if number is not None else str(self._path)
        return ConfigError(f"{where}: {self._name}.{key}: {problem}")

    def string(self, key: str, default: Optional[str] = None) -> str:
        value = self._left.pop(key, default)
        if value is None:
            raise self.error(key, f'is missing: add `{key} = "…"` to [{self._name}]')
        if not isinstance(value, str):
            raise self.error(key, f"must be a string in quotes, not {value!r}")
        if any(ord(character) < 32 for character in value):
            raise self.error(key, "must not hold control characters or line breaks")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self._left.pop(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {value!r}")
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self._left.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(key, f"must be a whole number from {low} to {high}, not {value!r}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"must be a list of strings, not {value!r}")
        return tuple(value)

    def mapping(self, key: str) -> dict[str, str]:
        value = self._left.pop(key, {})
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.error(key, 'must be a table of strings such as { "storage.test" = "192.0.2.7" }')
        return dict(value)

    def port_range(self, key: str) -> Optional[tuple[int, int]]:
        value = self._left.pop(key, None)
        if value is None:
            return None
        whole = isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value)
        if not whole or not 1024 <= value[0] < value[1] <= 65535:
            raise self.error(key, "must be two ports from 1024 to 65535, the lower first, such as [50000, 51000]")
        return (value[0], value[1])

    def close(self, known: type[Any]) -> None:
        """Refuse every key that nobody asked for."""
        names = ", ".join(item.name for item in dataclasses.fields(known))
        for key in self._left:
            raise self.error(key, f"is not known; [{self._name}] takes: {names}. Remove or correct it")


def is_host(value: str) -> bool:
    """Whether `value` is a DNS name (or an IP address) that can stand in a certificate."""
    if is_address(value):
        return True
    return len(value) <= 253 and all(_HOST_LABEL.fullmatch(label) for label in value.split("."))


def is_address(value: str) -> bool:
    """Whether `value` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _site(table: _Table, base: Path) -> SiteConfig:
    name = table.string("name")
    if not _NAME.fullmatch(name):
        raise table.error(
            "name", f"{name!r} must be 1 to 40 letters, digits, '-' or '_', beginning with a letter or digit"
        )
    host = table.string("host")
    if not is_host(host):
        raise table.error("host", f"{host!r} is not a host name; use the name by which users reach this machine")
    folder = _folder(table, "folder", table.string("folder"), base)
    names = table.strings("alternative_names")
    for other in names:
        if not is_host(other):
            raise table.error("alternative_names", f"{other!r} is neither a host name nor an IP address")
    site = SiteConfig(name, host, folder, table.string("title", ""), names)
    table.close(SiteConfig)
    return site


def _folder(table: _Table, key: str, text: str, base: Path) -> Path:
    # The servers' own configuration formats have no way to quote these.
    if not text or re.search(r"[\s\"'#$,:]", text):
        raise table.error(
            key, f"{text!r}: the servers cannot read paths that are empty or hold blanks or any of \"'#$,:"
        )
    return (base / Path(text).expanduser()).resolve()


def _authority(table: _Table) -> AuthorityConfig:
    authority = AuthorityConfig(
        key_bits=table.integer("key_bits", AuthorityConfig.key_bits, 2048, 8192),
        ca_days=table.integer("ca_days", AuthorityConfig.ca_days, 1, 7300),
        host_days=table.integer("host_days", AuthorityConfig.host_days, 1, 7300),
        renew_days=table.integer("renew_days", AuthorityConfig.renew_days, 0, 365),
    )
    table.close(AuthorityConfig)
    if authority.host_days > authority.ca_days:
        raise table.error("host_days", f"must not exceed ca_days ({authority.ca_days})")
    return authority


def _listen(table: _Table) -> str:
    listen = table.string("listen", "")
    if listen and not is_address(listen):
        raise table.error("listen", f"{listen!r} is not an IP address; leave it empty to listen on all")
    return listen


def _myproxy(table: _Table) -> MyProxyConfig:
    service = table.string("pam_service", MyProxyConfig.pam_service)
    if not _PAM_SERVICE.fullmatch(service):
        raise table.error("pam_service", f"{service!r} is not the name of a file in /etc/pam.d")
    myproxy = MyProxyConfig(
        port=table.integer("port", MyProxyConfig.port, 1, 65535),
        listen=_listen(table),
        pam_service=service,
        max_lifetime_hours=table.integer("max_lifetime_hours", MyProxyConfig.max_lifetime_hours, 1, 24 * 31),
    )
    table.close(MyProxyConfig)
    return myproxy


def _gridftp(table: _Table) -> GridFtpConfig:
    root_path = table.string("root_path", "")
    if root_path and (not root_path.startswith("/") or ".." in root_path.split("/")):
        raise table.error("root_path", f"{root_path!r} must begin with / and hold no ..")
    paths = table.strings("restrict_paths")
    for path in paths:
        if not re.fullmatch(r"(R|W|RW)?[/~][^\s,\"]*", path):
            raise table.error("restrict_paths", f"{path!r} must be a path (or ~), with R, W or RW before it if wanted")
    level = table.string("log_level", GridFtpConfig.log_level)
    if not set(level.split(",")) <= set(_LOG_LEVELS):
        raise table.error("log_level", f"{level!r} must be some of {', '.join(_LOG_LEVELS)}, with commas between them")
    gridftp = GridFtpConfig(
        port=table.integer("port", GridFtpConfig.port, 1, 65535),
        listen=_listen(table),
        data_ports=table.port_range("data_ports"),
        root_path=root_path,
        restrict_paths=paths,
        log_level=level,
    )
    table.close(GridFtpConfig)
    return gridftp


def _sandbox(table: _Table, base: Path) -> SandboxConfig:
    accounts = table.strings("accounts")
    for account in accounts:
        if not _ACCOUNT.fullmatch(account) or account in ("root", "nobody"):
            raise table.error(
                "accounts", f"{account!r} cannot be an account: small letters, digits, '-', '_'; not root"
            )
    if len(set(accounts)) != len(accounts):
        raise table.error("accounts", "names an account twice")
    data = table.string("data", "")
    hosts = table.mapping("hosts")
    for host, address in hosts.items():
        if not is_host(host) or not is_address(address):
            raise table.error("hosts", f"{host!r} = {address!r} must be a host name and an IP address")
    sandbox = SandboxConfig(
        enabled=table.boolean("enabled", False),
        accounts=accounts,
        data=_folder(table, "data", data, base) if data else None,
        hosts=hosts,
    )
    table.close(SandboxConfig)
    if sandbox.enabled and not accounts:
        raise table.error("accounts", 'is missing: a sandbox serves nobody without accounts = ["alice"]')
    return sandbox


def load_config(path: Path) -> Config:
    """Read and check `path`; ConfigError names the key, the line and the remedy."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise ConfigError(
            f"{path}: cannot be read ({problem.strerror}); `wherry-endpoint init` writes one to begin with"
        ) from problem
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: is not UTF-8 text") from problem
    try:
        tables = load_toml(text)
    except ValueError as problem:
        raise ConfigError(f"{path}: is not TOML: {problem}") from problem
    base = path.resolve().parent

    def table(name: str) -> _Table:
        return _Table(path, text, name, tables.pop(name, {}))

    config = Config(
        source=path.resolve(),
        site=_site(table("site"), base),
        authority=_authority(table("authority")),
        myproxy=_myproxy(table("myproxy")),
        gridftp=_gridftp(table("gridftp")),
        sandbox=_sandbox(table("sandbox"), base),
    )
    for name in tables:
        known = ", ".join(f"[{item.name}]" for item in dataclasses.fields(Config) if item.name != "source")
        raise ConfigError(f"{path}: [{name}] is not known; the file takes: {known}. Remove or correct it")
    if config.myproxy.port == config.gridftp.port and (
        config.myproxy.listen == config.gridftp.listen or not (config.myproxy.listen and config.gridftp.listen)
    ):
        raise ConfigError(f"{path}: gridftp.port: is also myproxy.port; give each server a port of its own")
    return config
