"""The commented `buildout.toml` and the `client.toml` that `wherry-buildout init` writes."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from wherry_deploy.authority import subject

ROLES = {
    "user-service": "user",
    "site": "site",
    "queue": "queue",
    "worker": "worker",
    "operator": "operator",
    "gateway": "gateway",
}
"""Role of `[access.roles]` → host (common name) of the certificate that `init` makes for it."""
SERVICES = ("user", "site", "queue")
_HTTPS_PORT = 443


@dataclass(frozen=True)
class MailChoice:
    """Where the deployment hands in its mail."""

    host: str = "localhost"
    port: int = 25
    security: str = "none"
    sender: str = "wherry@localhost"


@dataclass(frozen=True)
class Choices:
    """What differs from one new deployment to the next.

    Attributes:
        name: of the deployment; stands in its certificates.
        ports: of the user, the site and the queue service.
        host: the name or address under which the services listen and are reached.
        gateway_port: the one port for browsers, scripts and the `wherry` command.
        public_host: the name or address that people type; `host` where not given.
        databases: SQLAlchemy URL (or `env:`, `file:`) by service; SQLite in the deployment's folder where not given.
        worker_processes: how many workers run on this machine.
        allow_networks: private networks in which sites may lie.
        mail: where mail is handed in.
        further_names: DNS names and addresses for the certificates, beside this machine's own.
    """

    name: str = "wherry"
    ports: tuple[int, int, int] = (50051, 50052, 50053)
    host: str = "localhost"
    gateway_port: int = 8443
    public_host: str = ""
    databases: dict[str, str] = field(default_factory=dict)
    worker_processes: int = 1
    allow_networks: Sequence[str] = ()
    mail: MailChoice = MailChoice()
    further_names: Sequence[str] = ()

    def address(self, service: str) -> str:
        """Returns `host:port` of a service."""
        return f"{_bracketed(self.host)}:{self.ports[SERVICES.index(service)]}"

    @property
    def web_host(self) -> str:
        """The host of the public address."""
        return self.public_host or self.host

    @property
    def public_url(self) -> str:
        """The public address."""
        port = "" if self.gateway_port == _HTTPS_PORT else f":{self.gateway_port}"
        return f"https://{_bracketed(self.web_host)}{port}"

    @property
    def gateway_listen(self) -> str:
        """Where the gateway listens: on this machine alone where its public host is that, else on all addresses."""
        return f"{_bracketed(self.web_host) if _is_loopback(self.web_host) else '*'}:{self.gateway_port}"

    def database(self, service: str) -> str:
        """Returns where a service keeps its rows."""
        return self.databases.get(service, f"sqlite:///data/{service}.db")


def buildout_text(choices: Choices) -> str:
    """Returns a `buildout.toml`; all paths in it are relative to the file."""
    roles = "\n".join(f"{role} = [{_quoted(subject(choices.name, host))}]" for role, host in ROLES.items())
    services = "\n".join(_service(choices, service) for service in SERVICES)
    mail = choices.mail
    return f"""\
# One Wherry deployment. Every process reads this file and takes its own part.
# After a change: wherry-buildout check, then restart. Unknown keys are errors; what is commented out shows the default.
# Paths are relative to this file. Secrets stand here by reference only: env:NAME or file:PATH.

[deployment]
# Stands in the certificates that `wherry-buildout init` makes.
name = {_quoted(choices.name)}
# The authorities by whose certificates the deployment's own hosts are believed. The sites' are theirs, not ours.
ca = "trust/ca.pem"

# The services. `listen` has an address for each replica; where others reach them differently, `address` says how.
# `database` is an SQLAlchemy URL: SQLite for one machine (and one replica), or postgresql+psycopg://USER@HOST/NAME;
# one with a password in it by reference.
{services}
# The workers of this machine: they lease tasks and drive the sites' doors. They never see a payload byte.
[worker]
processes = {choices.worker_processes}
certificate = "trust/worker.pem"
key = "trust/worker.key"
# A folder of the workers' own; credentials lie there, one task's at a time, while an engine lives.
state = "data/worker"
# interactive = 2                  # places for listings and the like; bulk work never takes them
# bulk = 4                         # places for copies
# engine_python = "/usr/bin/python3"   # an interpreter that can import gfal2 (Debian: python3-gfal2)
# gsiftp = "pipelined"             # what drives gsiftp doors: our own client, or "gfal2"
# stall_s = 120                    # a copy that makes no progress for so long is stopped
# verify_stall_s = 1800            # so long a site may take for the checksum of a file
# other_stall_s = 900              # and so long for anything else, such as a listing
# engine_idle_s = 60               # an idle engine and its credentials are wiped after so long
# drain_grace_s = 600              # a worker that an operator drains may go on with what it runs for so long
# engine_memory_bytes = 2147483648

# The gateway: the one door for browsers, scripts and the `wherry` command. It meets the services with its host
# certificate, and its callers with the public one; `wherry-buildout init` makes that with an authority of its own
# (trust/web-ca.pem), which is constrained to these names. Any other certificate for the host will do as well.
[gateway]
public_url = {_quoted(choices.public_url)}
# An address, `localhost`, or * for all addresses of this machine.
listen = {_quoted(choices.gateway_listen)}
certificate = "trust/gateway.pem"
key = "trust/gateway.key"
public_certificate = "trust/web.pem"
public_key = "trust/web.key"
# A folder of the gateway's own; what it renders for Envoy can be read there.
state = "data/gateway"
# envoy = "/usr/bin/envoy"         # another build of Envoy than the one that is installed with Wherry
# sign_ins_per_s = 20              # sign-ins and registrations that pass in a second, of all callers together
# stream_idle_s = 300              # a stream on which nothing moves for so long is ended

[lease]
# ttl_s = 30                       # a worker that is not heard of for so long has lost its task
# heartbeat_s = 10
# stream_max_age_s = 3600
# attempts = 3                     # how often a task is tried
# back_off_s = 5                   # before the second attempt; doubles
# listing_wait_s = 30              # how long a caller waits for a worker to take a listing

[limits]
# link_tasks = 8                   # tasks that run at once from one site to another; default: no limit
# site_out_tasks = 50              # that read at one site; default: no limit
# site_in_tasks = 50               # that write at one site; default: no limit
# user_tasks = 100                 # of one user; default: no limit

[tokens]
# The key that wraps the key by which access tokens are signed: 32 bytes in base64.
signing_key_encryption_key = "file:secrets/token-signing.kek"
# issuer = "wherry"
# audience = "wherry"
# access_ttl_s = 600
# refresh_ttl_s = 2592000
# verification_ttl_s = 172800

[mail]
host = {_quoted(mail.host)}
port = {mail.port}
security = {_quoted(mail.security)}                # none, starttls or tls
sender = {_quoted(mail.sender)}
# username = "wherry"
# password = "file:secrets/mail-password"
# ca = "trust/mail-ca.pem"         # the authorities by which the mail server is believed; default: the system's
# verify_url = "https://wherry.example.org/verify#{{token}}"

# Certificate subjects and what they are. Whoever is not named here can do what `anyone` can, and with a user's token
# what `user` and `owner` can.
[access.roles]
{roles}

# Lines that replace those of the access table that ships with Wherry (`wherry-buildout show` prints it).
[access.rpc]
# "wherry.site.v1.SiteService/CreateSite" = ["operator"]

# Users name the addresses of sites. Private and loopback ones are refused unless these networks hold them.
[egress]
allow = {json.dumps(list(choices.allow_networks))}

[retention]
# listing_s = 300                  # how long the entries of a listing are kept
# jobs_s = 7776000                 # how long jobs are kept after their end, with all that is known of them
# audit_s = 31536000               # how long it is kept what operators have done to the queue

[logging]
# format = "auto"                  # json, console, or auto: console on a terminal
# level = "info"
"""


def client_text(public_url: str, ca: str | None) -> str:
    """Returns a `client.toml` for the `wherry` command; `ca` is the gateway's authority, None for the system's."""
    authority = "" if ca is None else f"ca = {_quoted(ca)}\n"
    give = "this file" if ca is None else f"this file and {ca}"
    return f"""\
# For the `wherry` command: wherry --config client.toml …, or WHERRY_CONFIG=…/client.toml.
# Give {give} to the deployment's users.
gateway = {_quoted(public_url)}
{authority}"""


def _service(choices: Choices, service: str) -> str:
    extra = ""
    if service == "site":
        extra = """\
# The key that wraps the data keys of the credential vault: 32 bytes in base64. Keep a copy apart from the database's:
# without it everybody has to sign in at their sites again.
key_encryption_key = "file:secrets/vault.kek"
# myproxy_timeout_s = 20
"""
    elif service == "queue":
        extra = """\
# heartbeat_s = 20                 # a watch or listing without news says so often that it lives
# pairs_per_job = 10000000         # so many files can be named in one copy
# staged_bytes_per_user = 536870912  # so much of such copies is kept for a person while they are still being sent
"""
    return f"""\
[service.{service}]
listen = [{_quoted(choices.address(service))}]
# address = [{_quoted(f"{service}.wherry.example.org:{choices.ports[SERVICES.index(service)]}")}]
certificate = "trust/{service}.pem"
key = "trust/{service}.key"
database = {_quoted(choices.database(service))}
{extra}"""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a TOML basic string has JSON's escapes


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
