"""Access to real sites as the site service gives it to a worker, and engines that work there."""

from __future__ import annotations

import shutil
from pathlib import Path

from wherry_testing.sites import RealSite
from wherry_worker.access import Endpoint, SiteAccess, Visit
from wherry_worker.engines import Plan
from wherry_worker.trust import Authority


def site_access(site: RealSite, user: str, credential: Path, *, below: str = "") -> SiteAccess:
    """Access of `user` to a site, with the credential in a file; `below` is a folder that becomes the door's root."""
    root = site.root_path(user) + (f"/{below}" if below else "")
    return SiteAccess(
        site=f"sites/{site.name}",
        endpoints=(Endpoint("gsiftp", site.host, site.gridftp_port, root),),
        authorities=(Authority(site.host_ca_pem), Authority(site.user_ca_pem)),
        credential_id=f"{site.name}-{user}",
        expires=None,
        proxy_pem=credential.read_bytes(),
    )


def plan_between(source: SiteAccess, destination: SiteAccess | None, engine: str) -> Plan:
    """The plan that uses each site's only door."""
    first = Visit(source, source.endpoints[0])
    return Plan(engine, first, None if destination is None else Visit(destination, destination.endpoints[0]))


def fresh_folder(site: RealSite, user: str, name: str) -> Path:
    """An empty folder of the user's, as the machine sees it."""
    folder = site.data_dir(user) / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    site.own(user)
    return folder
