"""`buildout.toml`: one deployment, declared. Every process reads it and takes its own part.

Unknown keys and bad values are errors that name key and line. Relative paths are relative to the file. Secrets stand
in it only by reference: `env:NAME` or `file:PATH`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from wherry_chassis.access import certificate_role, role, rpc_name
from wherry_chassis.identity import normalise_subject
from wherry_chassis.toml_lines import line_of

ServiceName = Literal["user", "site", "queue"]


class BuildoutError(Exception):
    """A buildout file that cannot be used; the message names the file, the line, the key and the remedy."""


class SecretRef(str):
    """A reference to a secret; shows itself, never what it refers to."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> SecretRef:
        """Raises ValueError for what is no reference."""
        if not re.match(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)\Z", text):
            raise ValueError("a secret is given by reference: env:NAME or file:PATH")
        return cls(text)

    def read(self) -> bytes:
        """Returns the secret, without a line break at its end.

        Raises:
            BuildoutError: the variable is unset or the file cannot be read.
        """
        kind, _, name = self.partition(":")
        if kind == "env":
            if (value := os.environ.get(name)) is None:
                raise BuildoutError(f"the environment variable {name}, named by {self}, is not set")
            return value.encode()
        try:
            return Path(name).read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise BuildoutError(f"cannot read the secret {self}: {error.strerror}") from error

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Lets pydantic make references out of strings."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema())


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("an address is written host:port")
    return text


def _database(text: str) -> str:
    if text.startswith(("env:", "file:")):
        return SecretRef.parse(text)
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ValueError(
            "a database is an SQLAlchemy URL, as sqlite:///wherry.db or postgresql+psycopg://host/name"
        ) from error
    if url.password is not None or any("password" in key.lower() for key in url.query):
        raise ValueError("a password does not belong in this file: give the whole URL as env:NAME or file:PATH")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("an SQLite database is a file, as sqlite:///wherry.db")
    return text


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme != "https" or not parts.hostname or not bare:
        raise ValueError("the address that people type is written https://HOST or https://HOST:PORT")
    return text.rstrip("/")


Address = Annotated[str, AfterValidator(_address)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]
Subject = Annotated[str, AfterValidator(normalise_subject)]
Network = Annotated[str, AfterValidator(lambda text: str(ipaddress.ip_network(text)))]
Role = Annotated[str, AfterValidator(role)]
CertificateRole = Annotated[str, AfterValidator(certificate_role)]
RpcName = Annotated[str, AfterValidator(rpc_name)]
Seconds = Annotated[float, Field(gt=0, le=365 * 86400)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    paths: ClassVar[Sequence[str]] = ()


class Identity(_Section):
    """A host certificate: PEM files of the chain and of its key."""

    paths: ClassVar[Sequence[str]] = ("certificate", "key")
    certificate: Path
    key: Path


class Deployment(_Section):
    """The deployment as a whole."""

    paths: ClassVar[Sequence[str]] = ("ca",)
    name: str = Field(min_length=1, max_length=100)
    ca: Path
    """PEM file of the CAs that the deployment's own hosts are believed by."""


class Service(Identity):
    """One of the services. `listen` has an address for each replica; `address` is how others reach them."""

    listen: list[Address] = Field(min_length=1)
    address: list[Address] = []
    database: DatabaseUrl

    @field_validator("database")
    @classmethod
    def _one_writer(cls, database: str, info: ValidationInfo) -> str:
        if database.startswith("sqlite") and len(info.data.get("listen", ())) > 1:
            raise ValueError("SQLite serves one replica: give one address in `listen`, or use PostgreSQL")
        return database

    @property
    def addresses(self) -> list[str]:
        """How other processes reach the replicas."""
        return list(self.address or self.listen)


class SiteServiceSection(Service):
    """The site service, with the key that wraps the vault's data keys: 32 bytes in base64, by reference."""

    key_encryption_key: SecretRef
    myproxy_timeout_s: Seconds = 20


class QueueServiceSection(Service):
    """The queue service."""

    heartbeat_s: float = Field(default=20, gt=0, le=30)
    """A watch or listing that has no news says so often that it lives: the contracts promise 30 s at most. Shorter than
    `gateway.stream_idle_s`."""
    pairs_per_job: int = Field(default=10_000_000, ge=1)
    """A copy of named files has so many of them at most."""
    staged_bytes_per_user: int = Field(default=512 << 20, ge=1 << 20)
    """So much of such copies, packed, is kept for a person at most while they are still being sent."""


class Services(_Section):
    """`[service.*]`."""

    user: Service
    site: SiteServiceSection
    queue: QueueServiceSection


class Worker(Identity):
    """The workers of this machine."""

    paths: ClassVar[Sequence[str]] = ("certificate", "key", "state")
    processes: int = Field(default=1, ge=1, le=1000)
    interactive: int = Field(default=2, ge=1, le=1000)
    """Places for tasks that somebody waits for; bulk work never takes them."""
    bulk: int = Field(default=4, ge=1, le=1000)
    state: Path
    """A folder of its own; engines keep credentials there while they live."""
    engine_python: str = "/usr/bin/python3"
    gsiftp: Literal["pipelined", "gfal2"] = "pipelined"
    stall_s: Seconds = 120
    """A copy that makes no progress for so long is stopped."""
    verify_stall_s: Seconds = 1800
    """So long a site may take for the checksum of a file."""
    other_stall_s: Seconds = 900
    """So long it may take for anything else, such as a listing."""
    engine_idle_s: Seconds = 60
    engine_memory_bytes: int = Field(default=2 << 30, ge=64 << 20)
    drain_grace_s: Seconds = 600
    """So long a worker that an operator drains may go on with what it runs; what is left then goes on elsewhere."""


class Gateway(Identity):
    """The one door for browsers, scripts and the command line. `certificate` is its host certificate, by which the
    services know it; `public_certificate` is what its callers see."""

    paths: ClassVar[Sequence[str]] = ("certificate", "key", "public_certificate", "public_key", "state", "envoy")
    public_url: PublicUrl
    listen: Address
    public_certificate: Path
    public_key: Path
    state: Path
    """A folder of its own, for what is rendered and for its sockets."""
    envoy: Path | None = None
    """Another build of Envoy than the one that is installed with Wherry."""
    sign_ins_per_s: int = Field(default=20, ge=1, le=100_000)
    """Sign-ins, registrations and the like that pass in a second, of all callers together; twice as many in a burst."""
    stream_idle_s: Seconds = 300
    """A stream on which nothing moves for so long is ended."""


class Lease(_Section):
    """How leases behave."""

    ttl_s: Seconds = 30
    heartbeat_s: Seconds = 10
    stream_max_age_s: Seconds = 3600
    attempts: int = Field(default=3, ge=1, le=100)
    """How often a task is tried, unless its failure is for good."""
    back_off_s: Seconds = 5
    """Before the second attempt; doubles with each further one, with jitter."""
    listing_wait_s: Seconds = 30
    """How long a caller waits for a worker to take a listing."""


class Tokens(_Section):
    """Access and refresh tokens of users; the key that wraps the signing keys is 32 bytes in base64, by reference."""

    signing_key_encryption_key: SecretRef
    issuer: str = "wherry"
    audience: str = "wherry"
    access_ttl_s: Seconds = 600
    refresh_ttl_s: Seconds = 30 * 86400
    verification_ttl_s: Seconds = 2 * 86400


class Mail(_Section):
    """How mail is sent."""

    paths: ClassVar[Sequence[str]] = ("ca",)
    host: str
    port: int = Field(ge=1, le=65535)
    security: Literal["none", "starttls", "tls"] = "starttls"
    username: str | None = None
    password: SecretRef | None = None
    sender: str
    ca: Path | None = None
    """PEM file of the CAs that the mail server is believed by; the system's if not given."""
    verify_url: str = ""
    """If given, `{token}` in it is replaced and the mail carries the link beside the token."""


class Access(_Section):
    """Who may call what. `rpc` adds to or replaces lines of the table that ships with Wherry."""

    roles: dict[CertificateRole, list[Subject]]
    rpc: dict[RpcName, list[Role]] = {}


class Egress(_Section):
    """Addresses, given by users, that Wherry connects to although they are private or loopback."""

    allow: list[Network] = []


class Retention(_Section):
    """How long things are kept."""

    listing_s: Seconds = 300
    """What listings of directories have found, after their end."""
    jobs_s: Annotated[float, Field(gt=0, le=3650 * 86400)] = 90 * 86400
    """Jobs with all that is known of them, after their end."""
    audit_s: Annotated[float, Field(gt=0, le=3650 * 86400)] = 365 * 86400
    """What operators have done to the queue."""


class Limits(_Section):
    """How many bulk tasks run at once where an operator has set nothing else; null is as many as there are places."""

    link_tasks: int | None = Field(default=None, ge=1)
    """On one link."""
    site_out_tasks: int | None = Field(default=None, ge=1)
    """That read at one site."""
    site_in_tasks: int | None = Field(default=None, ge=1)
    """That write at one site."""
    user_tasks: int | None = Field(default=None, ge=1)
    """Of one user."""


class Logging(_Section):
    """How processes log to standard error."""

    format: Literal["json", "console", "auto"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Buildout(_Section):
    """A whole deployment."""

    deployment: Deployment
    service: Services
    worker: Worker
    gateway: Gateway | None = None
    lease: Lease = Lease()
    limits: Limits = Limits()
    tokens: Tokens
    mail: Mail
    access: Access
    egress: Egress = Egress()
    retention: Retention = Retention()
    logging: Logging = Logging()

    @model_validator(mode="after")
    def _streams_outlive_silence(self) -> Buildout:
        if self.gateway is not None and self.gateway.stream_idle_s <= self.service.queue.heartbeat_s:
            raise ValueError(
                "gateway.stream_idle_s: longer than service.queue.heartbeat_s, or the gateway ends streams that live"
            )
        return self


def load(path: Path) -> Buildout:
    """Reads a buildout file.

    Raises:
        BuildoutError: it cannot be read, is no TOML, or says something that means nothing; all faults at once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildoutError(f"{path}: cannot be read: {error}") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BuildoutError(f"{path}: no valid TOML: {error}") from error
    try:
        parsed = Buildout.model_validate(raw)
    except pydantic.ValidationError as error:
        raise BuildoutError("\n".join(_complaint(path, text, fault) for fault in error.errors())) from error
    resolved: Buildout = _resolve(parsed, path.resolve().parent)
    return resolved


def _complaint(path: Path, text: str, fault: Any) -> str:
    loc = [part for part in fault["loc"] if part != "[key]"]  # pydantic's way to say "the key itself"
    key = ".".join(str(part) for part in loc)
    line = line_of(text, loc)
    where = f"{path}:{line}" if line else str(path)
    match fault["type"]:
        case "extra_forbidden":
            what = "unknown key; remove it or correct its spelling"
        case "missing":
            what = "missing; add it"
        case _:
            what = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {key}: {what}" if key else f"{where}: {what}"


def _resolve(section: Any, base: Path) -> Any:
    """Makes paths, `file:` references and SQLite files absolute."""
    changes: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, _Section):
            changes[name] = _resolve(value, base)
        elif name in section.paths and value is not None:
            changes[name] = base / value
        elif isinstance(value, SecretRef) and value.startswith("file:"):
            changes[name] = SecretRef(f"file:{base / value.removeprefix('file:')}")
        elif name == "database" and value.startswith("sqlite"):
            url = make_url(value)
            changes[name] = url.set(database=str(base / str(url.database))).render_as_string()
    return section.model_copy(update=changes)


def database_url(section: Service) -> str:
    """Returns the SQLAlchemy URL of a service, its reference followed."""
    url = section.database
    return url.read().decode() if isinstance(url, SecretRef) else url


def effective(buildout: Buildout) -> dict[str, Any]:
    """Returns the whole configuration, defaults included, as plain data. References stay references."""
    return buildout.model_dump(mode="json", exclude_none=True, exclude_defaults=False)
