"""Sites and their doors: what they are, and which values are fit."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from wherry_chassis.errors import FieldProblem

from wherry_site.authorities import Authority

AUTH_MYPROXY = "myproxy"
AUTH_KINDS = frozenset({AUTH_MYPROXY})
SCHEMES = frozenset({"gsiftp"})
DATA_CHANNELS = frozenset({"clear", "authenticated", "encrypted"})
"""How bytes go; what stands for each in the contract says what it means."""

_SITE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# A label of a host name; the underscore is no hostname's but exists in DNS.
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host (name or address, IPv6 without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A door of a site.

    Attributes:
        id: unique within the site, never changes; empty until it is stored.
        root_path: what is put before every path at this door; `/` for none.
    """

    id: str
    scheme: str
    host: str
    port: int
    root_path: str = "/"

    @property
    def door(self) -> tuple[str, str, int]:
        """What no two endpoints of a site have in common."""
        return self.scheme, self.host.lower().rstrip("."), self.port

    @property
    def address(self) -> str:
        """How people write it."""
        return f"{self.scheme}://{HostPort(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class SiteDraft:
    """What its owner says about a site.

    Attributes:
        data_channel: the least protection of bytes that go to or from it, of DATA_CHANNELS; empty: none is demanded.
    """

    title: str
    description: str = ""
    public: bool = False
    auth_kind: str = AUTH_MYPROXY
    auth_address: str = ""
    authorities: Sequence[Authority] = ()
    default_path: str = "/"
    data_channel: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """A registered site.

    Attributes:
        id: as in `sites/{id}`.
        owner: `users/{user}`.
        create_ms, update_ms: milliseconds since the epoch.
        revision: counts the changes.
    """

    id: str
    owner: str
    draft: SiteDraft
    endpoints: Sequence[Endpoint]
    create_ms: int
    update_ms: int
    revision: int = field(default=1)

    @property
    def name(self) -> str:
        """The resource name."""
        return f"sites/{self.id}"

    @property
    def etag(self) -> str:
        """Changes with every change; also when a site is deleted and one of the same id made."""
        text = f"{self.id} {self.create_ms} {self.revision}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def visible_to(self, user: str) -> bool:
        """Tells whether the site exists for a user."""
        return self.draft.public or self.owner == user


def draft_problems(draft: SiteDraft, prefix: str = "site.") -> list[FieldProblem]:
    """Returns what is unfit in what an owner says; addresses' resolution and the CAs are looked at elsewhere."""
    problems = []
    if fault := title_fault(draft.title):
        problems.append(FieldProblem(f"{prefix}title", fault))
    if any(unicodedata.category(character) == "Cc" and character != "\n" for character in draft.description):
        problems.append(FieldProblem(f"{prefix}description", "has a control character"))
    if draft.auth_kind not in AUTH_KINDS:
        problems.append(FieldProblem(f"{prefix}auth_kind", "say how people sign in; known: MYPROXY"))
    try:
        parse_address(draft.auth_address)
    except ValueError as error:
        problems.append(FieldProblem(f"{prefix}auth_address", str(error)))
    if fault := path_fault(draft.default_path):
        problems.append(FieldProblem(f"{prefix}default_path", fault))
    if draft.data_channel and draft.data_channel not in DATA_CHANNELS:
        problems.append(FieldProblem(f"{prefix}data_channel", "known: CLEAR, AUTHENTICATED, ENCRYPTED"))
    return problems


def endpoint_problems(endpoint: Endpoint, prefix: str = "endpoint.") -> list[FieldProblem]:
    """Returns what is unfit in a door."""
    problems = []
    if endpoint.scheme not in SCHEMES:
        problems.append(FieldProblem(f"{prefix}scheme", f"not a known scheme; known: {', '.join(sorted(SCHEMES))}"))
    if fault := host_fault(endpoint.host):
        problems.append(FieldProblem(f"{prefix}host", fault))
    if not 1 <= endpoint.port <= 65535:
        problems.append(FieldProblem(f"{prefix}port", "a TCP port is a number from 1 to 65535"))
    if fault := path_fault(endpoint.root_path):
        problems.append(FieldProblem(f"{prefix}root_path", fault))
    return problems


def duplicate_doors(endpoints: Iterable[Endpoint]) -> list[int]:
    """Returns the places of endpoints that repeat an earlier one."""
    seen: set[tuple[str, str, int]] = set()
    repeated = []
    for index, endpoint in enumerate(endpoints):
        if endpoint.door in seen:
            repeated.append(index)
        seen.add(endpoint.door)
    return repeated


def is_site_id(text: str) -> bool:
    """Tells whether `text` can be the id of a site."""
    return _SITE_ID.fullmatch(text) is not None


def parse_address(text: str) -> HostPort:
    """Returns host and port of `host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.

    Raises:
        ValueError: it is none of them; the message says what would be right.
    """
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and len(port) <= 5):
        raise ValueError("an address is written host:port, as myproxy.example.org:7512")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _IPV6.fullmatch(host):
            raise ValueError("only an IPv6 address stands in brackets")
    elif ":" in host:
        raise ValueError("an IPv6 address is written in brackets, as [2001:db8::1]:7512")
    if fault := host_fault(host):
        raise ValueError(fault)
    if not 1 <= int(port) <= 65535:
        raise ValueError("a TCP port is a number from 1 to 65535")
    return HostPort(host, int(port))


def host_fault(host: str) -> str | None:
    """Says what is wrong with a host's name or address; None if nothing is."""
    if _IPV6.fullmatch(host):
        return None
    labels = host.removesuffix(".").split(".")
    if not host or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "not the name or address of a host"
    return None


def path_fault(path: str) -> str | None:
    """Says what is wrong with a path of a site; None if nothing is."""
    if not path.startswith("/"):
        return "a path begins with /"
    if "\0" in path:
        return "a path has no NUL"
    if ".." in path.split("/"):
        return "a path has no .. in it"
    return None


def title_fault(title: str) -> str | None:
    """Says what is wrong with a title; None if nothing is."""
    if not title_key(title):
        return "give it a title that people can read"
    # Control and formatting characters (bidirectional overrides, zero-width joiners) make one name look like another.
    if any(unicodedata.category(character) in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"} for character in title):
        return "has a character that cannot be seen"
    return None


def title_key(title: str) -> str:
    """Returns what titles that people would take for the same have in common: letters and digits, compatibly folded."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", title).casefold())
    return "".join(character for character in folded if character.isalnum())


CHANGEABLE_SITE_FIELDS = (
    "title",
    "description",
    "public",
    "auth_kind",
    "auth_address",
    "certificate_authorities",
    "default_path",
    "data_channel",
)
CHANGEABLE_ENDPOINT_FIELDS = ("scheme", "host", "port", "root_path")


def fields_to_change(mask: Collection[str], given: Collection[str], changeable: Sequence[str]) -> frozenset[str]:
    """Returns the fields that an update changes: those of the mask; without one, all that are given (AIP-134).

    Raises:
        ValueError: the mask names something that cannot be changed.
    """
    if not mask:
        return frozenset(given) & frozenset(changeable)
    if set(mask) == {"*"}:
        return frozenset(changeable)
    if unknown := sorted(set(mask) - set(changeable)):
        raise ValueError(f"cannot change {', '.join(unknown)}; can change: {', '.join(changeable)}")
    return frozenset(mask)
