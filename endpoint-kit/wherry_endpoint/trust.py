"""The trust directory of the site's servers: its own two authorities, each held to its own names."""

from __future__ import annotations

from wherry_endpoint.authority import Authorities
from wherry_endpoint.changes import Changes
from wherry_endpoint.config import Config
from wherry_endpoint.layout import Layout
from wherry_endpoint.openssl import subject_hash, subject_of

_POLICY = """\
access_id_CA   X509    '{subject}'
pos_rights     globus  CA:sign
cond_subjects  globus  '"{namespace}"'
"""


HOSTS, USERS = "Hosts", "Users"


def namespace(config: Config, unit: str) -> str:
    """What the site's authority of hosts or users may sign, in the grid form."""
    return f"/O={config.site.name}/OU={unit}/*"


def signing_policy(subject: str, allowed: str) -> str:
    """The policy that lets the authority `subject` sign below the namespace `allowed` only."""
    return _POLICY.format(subject=subject, namespace=allowed)


def install_trust(config: Config, layout: Layout, authorities: Authorities, changes: Changes) -> None:
    """``<hash>.0`` and ``<hash>.signing_policy`` of both authorities, and nothing else in the directory."""
    changes.directory(layout.trust, 0o755)
    names: set[str] = set()
    for certificate, unit in ((authorities.hosts, HOSTS), (authorities.users, USERS)):
        stem = subject_hash(certificate)
        policy = signing_policy(subject_of(certificate), namespace(config, unit))
        changes.file(layout.trust / f"{stem}.0", certificate, 0o644)
        changes.file(layout.trust / f"{stem}.signing_policy", policy.encode(), 0o644)
        names |= {f"{stem}.0", f"{stem}.signing_policy"}
    changes.no_other_files(layout.trust, names)
    # GridFTP checks a user's certificate against this file after it has become that user.
    changes.file(layout.users_ca_copy, authorities.users, 0o644)
