"""MyProxy: users type the site's own password here and get a short-lived certificate of the site."""

from __future__ import annotations

from wherry_endpoint.changes import Changes
from wherry_endpoint.config import Config
from wherry_endpoint.layout import Layout

PROGRAM = "myproxy-server"
DEBIAN_PACKAGE = "myproxy-server"

_CONFIG = """\
# Written by wherry-endpoint from {source}; changes here are lost at the next install.
authorized_retrievers "*"
pam "required"
pam_id "{pam_service}"
certificate_issuer_cert {ca}/ca_crt.pem
certificate_issuer_key {ca}/ca_key.pem
certificate_issuer_hashalg sha256
certificate_serialfile {ca}/serial
certificate_out_dir {ca}/issued
certificate_mapapp {mapper}
max_cert_lifetime {hours}
min_keylen 2048
cert_dir {trust}
"""

# The account name comes from the network and becomes part of a certificate's subject. What the site's PAM
# accepts may still be a name that would forge another subject (/, =, line breaks), so only plain names pass.
_MAPPER = """\
#!/bin/sh
# Prints the certificate subject of one account. Written by wherry-endpoint; changes here are lost.
LC_ALL=C
export LC_ALL
account=$1
case "$account" in
    '' | -* | .* | root | *[!A-Za-z0-9._@+-]*)
        echo "no certificate for this account name" >&2
        exit 1
        ;;
esac
if [ "$#" -ne 1 ] || [ "${{#account}}" -gt 64 ]; then
    echo "no certificate for this account name" >&2
    exit 1
fi
printf '/O={organisation}/OU=Users/CN=%s\\n' "$account"
"""


def mapper_script(organisation: str) -> str:
    """The program MyProxy runs to turn an account name into a subject; refuses every name that is not plain."""
    return _MAPPER.format(organisation=organisation)


def myproxy_config(config: Config, layout: Layout) -> str:
    """The text of ``myproxy-server.config``."""
    return _CONFIG.format(
        source=config.source,
        pam_service=config.myproxy.pam_service,
        ca=layout.users_ca,
        mapper=layout.mapper,
        hours=config.myproxy.max_lifetime_hours,
        trust=layout.trust,
    )


def install_myproxy(config: Config, layout: Layout, changes: Changes) -> None:
    """MyProxy's configuration, its mapper and its (empty) repository."""
    changes.file(layout.myproxy_conf, myproxy_config(config, layout).encode(), 0o644)
    changes.file(layout.mapper, mapper_script(config.site.name).encode(), 0o755)
    changes.directory(layout.myproxy_store, 0o700)


def myproxy_command(config: Config, layout: Layout) -> list[str]:
    """The command that starts MyProxy. It goes to the background by itself and writes its number to a file."""
    listen = ["-l", config.myproxy.listen] if config.myproxy.listen else []
    return [
        *(PROGRAM, "-c", str(layout.myproxy_conf), "-s", str(layout.myproxy_store)),
        *("-p", str(config.myproxy.port), "-P", str(layout.myproxy_pid), *listen),
    ]


def myproxy_environment(layout: Layout) -> dict[str, str]:
    """What MyProxy takes from its environment: the site's host certificate and trust directory."""
    return {
        "X509_USER_CERT": str(layout.host_certificate),
        "X509_USER_KEY": str(layout.host_key),
        "X509_CERT_DIR": str(layout.trust),
    }
