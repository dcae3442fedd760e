"""The commented `endpoint.toml` that `wherry-endpoint init` writes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from wherry_endpoint.config import is_host
from wherry_endpoint.errors import EndpointError

_TEMPLATE = """\
# A Wherry storage site. After a change: wherry-endpoint install, then restart it.
# Unknown keys are errors. What is commented out shows the default.

[site]
# Letters, digits, - and _. Becomes the organisation in the site's certificates and cannot change later.
name = "example"
# What people see.
# title = "Example storage"
# The name by which users and other sites reach this machine; it must resolve.
host = "{host}"
# Further names and IP addresses for the host certificate.
# alternative_names = ["192.0.2.7"]
# Everything the kit makes lies here. Relative to this file.
folder = "/var/lib/wherry-endpoint"

[authority]
# key_bits = 3072        # RSA; at least 2048
# ca_days = 3650         # life of the two authorities
# host_days = 395        # life of the host certificate
# renew_days = 30        # install renews the host certificate when less than this is left

[myproxy]
# port = 7512
# listen = ""            # an IP address; empty: all
# pam_service = "wherry" # a file in /etc/pam.d: how this site checks its users' passwords
# max_lifetime_hours = 72

[gridftp]
# port = 2811
# listen = ""
# data_ports = [50000, 51000]   # open these in the firewall, with both ports above
# root_path = "/"
# restrict_paths = []           # for instance ["~", "/scratch", "R/archive"]; empty: file permissions decide
# log_level = "error,warn"

# A demonstration site: nothing outside site.folder is touched, no system account is needed.
# [sandbox]
# enabled = true
# accounts = ["alice", "bob"]   # passwords: wherry-endpoint install --passwords FILE
# data = "data"                 # the accounts' files; default: data in site.folder
# hosts = {{ "other.test" = "192.0.2.8" }}
"""


def write_template(path: Path) -> None:
    """Write a new file at `path`; an existing one is left alone, with an EndpointError."""
    host = socket.getfqdn()
    text = _TEMPLATE.format(host=host if is_host(host) else "storage.example.org")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError as problem:
        raise EndpointError(f"{path}: exists already; choose another with --config, or remove it") from problem
    except OSError as problem:
        raise EndpointError(f"{path}: cannot be written: {problem.strerror}") from problem
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
