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
cond_subjects  globus  '"/O={organisation}/OU={unit}/*"'
"""


def signing_policy(subject: str, organisation: str, unit: str) -> str:
    """The policy that lets the authority `subject` sign below ``/O=organisation/OU=unit`` only."""
    return _POLICY.format(subject=subject, organisation=organisation, unit=unit)


def install_trust(config: Config, layout: Layout, authorities: Authorities, changes: Changes) -> None:
    """``<hash>.0`` and ``<hash>.signing_policy`` of both authorities, and nothing else in the directory."""
    changes.directory(layout.trust, 0o755)
    names: set[str] = set()
    for certificate, unit in ((authorities.hosts, "Hosts"), (authorities.users, "Users")):
        stem = subject_hash(certificate)
        policy = signing_policy(subject_of(certificate), config.site.name, unit)
        changes.file(layout.trust / f"{stem}.0", certificate, 0o644)
        changes.file(layout.trust / f"{stem}.signing_policy", policy.encode(), 0o644)
        names |= {f"{stem}.0", f"{stem}.signing_policy"}
    changes.no_other_files(layout.trust, names)
    # GridFTP checks a user's certificate against this file after it has become that user.
    changes.file(layout.users_ca_copy, authorities.users, 0o644)
