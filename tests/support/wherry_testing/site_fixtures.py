"""Fixtures with real sites; the root conftest loads them by ``pytest_plugins``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from wherry_testing.sites import RealSite

_NEEDED = ("myproxy-server", "myproxy-logon", "globus-gridftp-server", "globus-url-copy", "openssl")


@pytest.fixture(scope="session")
def two_sites() -> Iterator[tuple[RealSite, RealSite]]:
    """Two independent sites, ``site-a`` and ``site-b``: no authority in common, neither trusts the other."""
    missing = [name for name in _NEEDED if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if missing:
        pytest.fail(f"missing programs: {', '.join(missing)}: run `make setup`")
    with RealSite("site-a") as site_a, RealSite("site-b") as site_b:
        yield site_a, site_b
