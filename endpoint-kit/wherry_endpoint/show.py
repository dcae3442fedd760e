"""`wherry-endpoint show`: what registering the site at the centre needs."""

from __future__ import annotations

import hashlib
import ssl
from typing import Any

from wherry_endpoint.authority import read_authorities
from wherry_endpoint.config import Config
from wherry_endpoint.errors import EndpointError
from wherry_endpoint.layout import Layout
from wherry_endpoint.openssl import subject_of
from wherry_endpoint.trust import HOSTS, USERS, namespace


def describe_site(config: Config, layout: Layout) -> dict[str, Any]:
    """The site for the centre: addresses, paths, and its authorities' certificates. Nothing in it is secret.

    `default_path` is where a user begins, below the endpoint's `root_path`, which the centre puts before every path;
    ``{user}`` in it stands for the account name, ``/~`` for a home folder.
    """
    authorities = read_authorities(layout)
    if authorities is None:
        raise EndpointError(
            f"{layout.folder}: the site is not installed: run wherry-endpoint install --config {config.source} first"
        )
    return {
        "name": config.site.name,
        "title": config.site.title or config.site.name,
        "myproxy": {"host": config.site.host, "port": config.myproxy.port},
        "endpoint": {
            "scheme": "gsiftp",
            "host": config.site.host,
            "port": config.gridftp.port,
            "root_path": config.root_path,
        },
        "default_path": _below_root(config),
        "hosts_ca": _authority(authorities.hosts, namespace(config, HOSTS)),
        "users_ca": _authority(authorities.users, namespace(config, USERS)),
    }


def _below_root(config: Config) -> str:
    path, root = config.user_path("{user}"), config.root_path.rstrip("/")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _authority(pem: bytes, allowed: str) -> dict[str, Any]:
    text = pem.decode("ascii")
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest().upper()
    return {
        "subject": subject_of(pem),
        "sha256_fingerprint": ":".join(digest[at : at + 2] for at in range(0, len(digest), 2)),
        "namespaces": [allowed],
        "pem": text,
    }


def show_text(site: dict[str, Any]) -> str:
    """The same for people."""
    myproxy, endpoint = site["myproxy"], site["endpoint"]
    return "\n".join(
        [
            f"site          {site['name']} ({site['title']})",
            f"MyProxy       {myproxy['host']}:{myproxy['port']}",
            f"endpoint      {endpoint['scheme']}://{endpoint['host']}:{endpoint['port']}{endpoint['root_path']}",
            f"default path  {site['default_path']}",
            f"hosts' CA     {site['hosts_ca']['subject']}",
            f"              SHA-256 {site['hosts_ca']['sha256_fingerprint']}",
            f"users' CA     {site['users_ca']['subject']}",
            f"              SHA-256 {site['users_ca']['sha256_fingerprint']}",
        ]
    )
