"""Who may call which RPC: data, and total. What is not listed is refused.

The table that ships with Wherry is `access.toml` beside this module; `[access.rpc]` of a buildout overrides lines
of it. A line names roles: `anyone` (whoever has a certificate of the deployment's CA), `user` (with a valid access
token), `owner` (a user; the service itself sees to it that the thing is theirs), and roles of certificates (`operator`,
`gateway`, `user-service`, `site`, `queue`, `worker`, `client`), which `[access.roles]` gives to certificate subjects.
"""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry_chassis.errors import AccessDenied, TokenMissing
from wherry_chassis.identity import Peer, UserClaims

if TYPE_CHECKING:  # buildout checks its lines against this table
    from wherry_chassis.buildout import Access

ANYONE, USER, OWNER = "anyone", "user", "owner"
CERTIFICATE_ROLES = frozenset({"operator", "gateway", "user-service", "site", "queue", "worker", "client"})
ROLES = CERTIFICATE_ROLES | {ANYONE, USER, OWNER}


@dataclass(frozen=True)
class AccessTable:
    """RPCs, as `wherry.user.v1.UserService/GetUser`, and who may call them."""

    rpcs: Mapping[str, frozenset[str]]
    subjects: Mapping[str, frozenset[str]]

    def roles_of(self, subject: str) -> frozenset[str]:
        """Returns the roles of a certificate's subject (grid form)."""
        return self.subjects.get(subject, frozenset())

    def needs_user(self, method: str) -> bool:
        """Tells whether a token may be what opens the RPC."""
        return bool(self.rpcs.get(method, frozenset()) & {USER, OWNER})

    def check(self, method: str, peer: Peer, user: UserClaims | None) -> None:
        """Returns if the caller may call `method`.

        Raises:
            TokenMissing: it takes a user, and there is none.
            AccessDenied: it takes somebody else, or nobody has been named.
        """
        allowed = self.rpcs.get(method, frozenset())
        if ANYONE in allowed or allowed & peer.roles:
            return
        if allowed & {USER, OWNER}:
            if user is not None:
                return
            raise TokenMissing
        raise AccessDenied(method=method)


@functools.cache
def shipped_table() -> Mapping[str, frozenset[str]]:
    """Returns the table that ships with Wherry."""
    text = importlib.resources.files("wherry_chassis").joinpath("access.toml").read_text(encoding="utf-8")
    return {
        f"{service}/{method}": frozenset(roles)
        for service, methods in tomllib.loads(text).items()
        for method, roles in methods.items()
    }


def build_table(access: Access) -> AccessTable:
    """Returns the table of a deployment."""
    subjects: dict[str, set[str]] = {}
    for role, names in access.roles.items():
        for name in names:
            subjects.setdefault(name, set()).add(role)
    return AccessTable(
        {**shipped_table(), **{method: frozenset(roles) for method, roles in access.rpc.items()}},
        {name: frozenset(roles) for name, roles in subjects.items()},
    )


def certificate_role(text: str) -> str:
    """Returns `text`; raises ValueError unless it is a role that certificates can have."""
    return _one_of("role", text, CERTIFICATE_ROLES)


def role(text: str) -> str:
    """Returns `text`; raises ValueError unless it is a role."""
    return _one_of("role", text, ROLES)


def rpc_name(text: str) -> str:
    """Returns `text`; raises ValueError unless it is an RPC: a line for a misspelt one would protect nothing."""
    if text not in shipped_table():
        raise ValueError(f"unknown RPC {text}; they are written as wherry.queue.v1.JobService/GetJob")
    return text


def _one_of(what: str, text: str, known: Iterable[str]) -> str:
    if text not in known:
        raise ValueError(f"unknown {what} {text}; known: {', '.join(sorted(known))}")
    return text
