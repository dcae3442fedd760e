"""GridFTP: the door through which the data goes. It takes certificates of the site's own users only."""

from __future__ import annotations

import os

from wherry_endpoint.changes import Changes
from wherry_endpoint.config import Config
from wherry_endpoint.layout import Layout

PROGRAM = "globus-gridftp-server"
DEBIAN_PACKAGES = ("globus-gridftp-server-progs", "libglobus-gridmap-verify-myproxy-callout")

_AUTHZ = "globus_mapping libglobus_gridmap_verify_myproxy_callout globus_gridmap_verify_myproxy_callout\n"


def gridftp_config(config: Config, layout: Layout, as_root: bool) -> str:
    """The text of ``gridftp.conf``: lines beginning with ``$`` are the server's environment."""
    lines = [
        f"# Written by wherry-endpoint from {config.source}; changes here are lost at the next install.",
        f'$X509_USER_CERT "{layout.host_certificate}"',
        f'$X509_USER_KEY "{layout.host_key}"',
        f'$X509_CERT_DIR "{layout.trust}"',
        f'$GSI_AUTHZ_CONF "{layout.gridftp_authz}"',
        f'$GLOBUS_MYPROXY_CA_CERT "{layout.users_ca_copy}"',
        # Without a name that resolves, PASV fails.
        f'$GLOBUS_HOSTNAME "{config.site.host}"',
        f"port {config.gridftp.port}",
        f'log_level "{config.gridftp.log_level}"',
        # A session is a process of its own without standard error, so all write to a pipe the supervisor reads.
        f"log_single {layout.gridftp_log}",
        # By default lines wait up to 5 s in a buffer.
        'log_module "stdio:buffer=0"',
    ]
    if config.gridftp.listen:
        lines.append(f"hostname {config.gridftp.listen}")
    if config.gridftp.data_ports is not None:
        low, high = config.gridftp.data_ports
        lines.append(f"port_range {low},{high}")
    paths = config.gridftp.restrict_paths
    if not paths and config.sandbox.enabled and not as_root:
        # Every account is then the one who runs the site, host key and all: the server must keep them apart,
        # because file permissions cannot.
        paths = ("~",)
    if paths:
        lines.append(f'restrict_paths "{",".join(paths)}"')
    return "\n".join(lines) + "\n"


def install_gridftp(config: Config, layout: Layout, changes: Changes) -> None:
    """GridFTP's configuration and the callout that maps a certificate to the account it names."""
    changes.file(layout.gridftp_authz, _AUTHZ.encode(), 0o644)
    changes.file(layout.gridftp_conf, gridftp_config(config, layout, os.geteuid() == 0).encode(), 0o644)


def gridftp_command(layout: Layout) -> list[str]:
    """The command that runs GridFTP in the foreground."""
    return [PROGRAM, "-c", str(layout.gridftp_conf)]
