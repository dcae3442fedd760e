"""`wherry-endpoint install`: brings a site's folder to what its configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping

from wherry_endpoint.accounts import install_accounts
from wherry_endpoint.authority import install_authorities
from wherry_endpoint.changes import Changes
from wherry_endpoint.config import Config
from wherry_endpoint.gridftp import install_gridftp
from wherry_endpoint.layout import Layout
from wherry_endpoint.myproxy import install_myproxy
from wherry_endpoint.system_files import install_system_files
from wherry_endpoint.trust import install_trust


def install_site(config: Config, layout: Layout, passwords: Mapping[str, str], dry_run: bool = False) -> list[str]:
    """Make or correct everything in the site's folder; what had to change, empty when all was right."""
    changes = Changes(dry_run)
    changes.directory(layout.folder, 0o755)
    changes.directory(layout.conf, 0o755)
    changes.directory(layout.passwords.parent, 0o700)
    changes.directory(layout.run, 0o755)
    changes.directory(layout.sandbox_root, 0o755)
    # First, because this is where a missing password stops the install.
    if config.sandbox.enabled:
        install_accounts(config, layout, passwords, changes)
    else:
        install_system_files(config, layout, changes)
    authorities = install_authorities(config, layout, changes)
    if authorities is None:
        changes.note(f"fill {layout.trust}/ with the two authorities and their signing policies")
    else:
        install_trust(config, layout, authorities, changes)
    install_myproxy(config, layout, changes)
    install_gridftp(config, layout, changes)
    return changes.made
