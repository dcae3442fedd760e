"""What a production site needs outside its folder: written inside it, for the administrator to put into place."""

from __future__ import annotations

import sys
from pathlib import Path

from wherry_endpoint.changes import Changes
from wherry_endpoint.config import Config
from wherry_endpoint.layout import Layout

_PAM_DEBIAN = "@include common-auth\n@include common-account\n"
_PAM_ENTERPRISE = "auth     include  password-auth\naccount  include  password-auth\n"

_UNIT = """\
[Unit]
Description=Wherry site {name}: MyProxy and GridFTP
After=network-online.target nss-user-lookup.target
Wants=network-online.target

[Service]
Type=exec
ExecStart={python} -m wherry_endpoint serve --config {source}
Restart=on-failure
KillMode=mixed
LimitNOFILE=65536
UMask=0022
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes

[Install]
WantedBy=multi-user.target
"""


def unit_name(config: Config) -> str:
    """The name of the site's systemd unit."""
    return f"wherry-endpoint-{config.site.name}.service"


def install_system_files(config: Config, layout: Layout, changes: Changes) -> None:
    """The PAM service and the systemd unit, as text in the site's folder."""
    pam = _PAM_DEBIAN if Path("/etc/pam.d/common-auth").exists() else _PAM_ENTERPRISE
    changes.file(layout.pam_service, pam.encode(), 0o644)
    changes.directory(layout.units, 0o755)
    unit = _UNIT.format(name=config.site.name, python=sys.executable, source=config.source)
    changes.file(layout.units / unit_name(config), unit.encode(), 0o644)


def system_instructions(config: Config, layout: Layout) -> list[str]:
    """The commands that put these files into place, as root."""
    service = Path("/etc/pam.d") / config.myproxy.pam_service
    unit = Path("/etc/systemd/system") / unit_name(config)
    return [
        f"install -m 0644 {layout.pam_service} {service}",
        f"install -m 0644 {layout.units / unit.name} {unit}",
        f"systemctl daemon-reload && systemctl enable --now {unit.name}",
    ]
