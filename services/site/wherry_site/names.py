"""Resource names of the site service."""

from __future__ import annotations


def site_id(name: str) -> str:
    """Returns `a` of `sites/a`."""
    return name.removeprefix("sites/")


def site_name(identifier: str) -> str:
    """Returns `sites/a` of `a`."""
    return f"sites/{identifier}"


def endpoint_ids(name: str) -> tuple[str, str]:
    """Returns (`a`, `e`) of `sites/a/endpoints/e`."""
    site, _, endpoint = name.removeprefix("sites/").partition("/endpoints/")
    return site, endpoint


def endpoint_name(site: str, endpoint: str) -> str:
    """Returns `sites/a/endpoints/e` of `a` and `e`."""
    return f"sites/{site}/endpoints/{endpoint}"


def session_name(user: str, site: str) -> str:
    """Returns `users/u/siteSessions/a` of `users/u` and `a`."""
    return f"{user}/siteSessions/{site}"


def session_ids(name: str) -> tuple[str, str]:
    """Returns (`users/u`, `a`) of `users/u/siteSessions/a`."""
    user, _, site = name.partition("/siteSessions/")
    return user, site
