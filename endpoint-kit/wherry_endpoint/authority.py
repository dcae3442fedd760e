"""The site's two certificate authorities and its host certificate.

Each site has its own: one authority signs its servers, the other its users, and nobody else's. Breaking one
site opens no other.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from wherry_endpoint.changes import Changes
from wherry_endpoint.config import Config, is_address
from wherry_endpoint.errors import EndpointError
from wherry_endpoint.layout import Layout
from wherry_endpoint.openssl import expires_within, new_private_key, run_openssl, subject_of

_DAY_S = 86_400
# The common name of a certificate holds at most 64 characters (RFC 5280, ub-common-name-length).
_MAX_COMMON_NAME = 64
_LOOPBACK = ("127.0.0.1", "::1")

_CA_REQUEST = """\
[req]
distinguished_name = subject
x509_extensions = authority
prompt = no
[subject]
O = {organisation}
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""

_HOST_EXTENSIONS = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


@dataclass(frozen=True)
class Authorities:
    """The certificates of the two authorities, in PEM."""

    hosts: bytes
    users: bytes


@dataclass(frozen=True)
class _Wanted:
    """One authority: its folder, what its subject begins with, and how it is called in messages."""

    folder: Path
    label: str

    @property
    def certificate(self) -> Path:
        return self.folder / "ca_crt.pem"

    @property
    def key(self) -> Path:
        return self.folder / "ca_key.pem"


def _wanted(layout: Layout) -> tuple[_Wanted, _Wanted]:
    return _Wanted(layout.hosts_ca, "Hosts CA"), _Wanted(layout.users_ca, "Users CA")


def read_authorities(layout: Layout) -> Optional[Authorities]:
    """Both authorities' certificates, or None while the site is not installed."""
    hosts, users = _wanted(layout)
    if not (hosts.certificate.is_file() and users.certificate.is_file()):
        return None
    return Authorities(hosts.certificate.read_bytes(), users.certificate.read_bytes())


def install_authorities(config: Config, layout: Layout, changes: Changes) -> Optional[Authorities]:
    """Make what is missing of the two authorities and the host certificate; None in the dry run of a new site."""
    wanted = _wanted(layout)
    changes.directory(layout.hosts_ca.parent, 0o700)
    changes.directory(layout.hosts_ca, 0o700)
    changes.directory(layout.users_ca, 0o700)
    changes.directory(layout.users_ca / "issued", 0o700)
    changes.directory(layout.host_key.parent, 0o755)

    keys = _missing_keys([item.key for item in wanted] + [layout.host_key], config.authority.key_bits, changes)
    for item in wanted:
        _install_authority(config, item, keys.get(item.key), changes)
    authorities = read_authorities(layout)
    if authorities is None:
        if not changes.dry_run:
            raise EndpointError(f"{layout.hosts_ca.parent}: the authorities are not there after they were made")
        changes.note(f"sign {layout.host_certificate} for {config.site.host}")
        return None
    for item in wanted:
        _check_organisation(config, item)
    _install_host(config, layout, wanted[0], keys.get(layout.host_key), changes)
    return authorities


def _missing_keys(paths: list[Path], bits: int, changes: Changes) -> Mapping[Path, bytes]:
    """New private keys for those of `paths` that do not exist, made side by side: each takes up to a second."""
    missing = [path for path in paths if not path.is_file()]
    for path in paths:
        if path not in missing:
            # Says nothing unless the mode is wrong.
            changes.file(path, path.read_bytes(), 0o600)
    if not missing or changes.dry_run:
        for path in missing:
            changes.note(f"make the private key {path}")
        return {}
    with ThreadPoolExecutor(max_workers=len(missing)) as pool:
        making = {path: pool.submit(new_private_key, bits) for path in missing}
        return {path: key.result() for path, key in making.items()}


def _common_name(label: str, host: str) -> str:
    # The random end keeps two sites (or two lives of one site) from ever sharing a subject: clients look
    # authorities up by subject, and a second key under a known subject would be a forgery.
    suffix = secrets.token_hex(6)
    return f"{label} {host[: _MAX_COMMON_NAME - len(label) - len(suffix) - 2]}-{suffix}"


def _install_authority(config: Config, wanted: _Wanted, new_key: Optional[bytes], changes: Changes) -> None:
    if wanted.certificate.is_file():
        if new_key is not None:
            raise EndpointError(
                f"{wanted.key} is missing but {wanted.certificate} is there: put the key back from a backup; "
                f"to start anew, move {wanted.folder} aside and register the site's new authority at the centre"
            )
        changes.file(wanted.certificate, wanted.certificate.read_bytes(), 0o644)
        return
    if changes.dry_run:
        changes.note(f"sign {wanted.certificate}")
        return
    if new_key is not None:
        changes.file(wanted.key, new_key, 0o600)
    request = _CA_REQUEST.format(organisation=config.site.name, name=_common_name(wanted.label, config.site.host))
    certificate = run_openssl(
        [
            *("req", "-x509", "-new", "-sha256", "-config", "/dev/stdin", "-key", str(wanted.key)),
            *("-days", str(config.authority.ca_days), "-set_serial", _serial()),
        ],
        request.encode(),
    )
    changes.file(wanted.certificate, certificate, 0o644)


def _serial() -> str:
    """A positive serial number of at most 16 bytes (RFC 5280 allows 20)."""
    return f"0x{secrets.randbits(127) | 1:x}"


def _check_organisation(config: Config, wanted: _Wanted) -> None:
    subject = subject_of(wanted.certificate.read_bytes())
    if not subject.startswith(f"/O={config.site.name}/"):
        raise EndpointError(
            f"{config.source}: site.name: is {config.site.name!r}, but the authority in {wanted.folder} is {subject}: "
            "a site keeps the name it was installed with; set the old name, or choose a new site.folder"
        )


def host_names(config: Config) -> str:
    """The host certificate's subjectAltName in OpenSSL's notation."""
    names = [config.site.host, *config.site.alternative_names]
    if config.site.host == "localhost":
        names.extend(_LOOPBACK)
    return ", ".join(dict.fromkeys(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in names))


def _install_host(
    config: Config, layout: Layout, authority: _Wanted, new_key: Optional[bytes], changes: Changes
) -> None:
    extensions = _HOST_EXTENSIONS.format(names=host_names(config)).encode()
    certificate = layout.host_certificate
    fits = (
        new_key is None
        and certificate.is_file()
        and layout.host_names.is_file()
        and layout.host_names.read_bytes() == extensions
        and not expires_within(certificate.read_bytes(), config.authority.renew_days * _DAY_S)
    )
    if fits:
        changes.file(certificate, certificate.read_bytes(), 0o644)
        return
    if new_key is not None:
        changes.file(layout.host_key, new_key, 0o600)
    changes.file(layout.host_names, extensions, 0o644)
    if changes.dry_run:
        changes.note(f"sign {certificate} for {host_names(config)}")
        return
    subject = f"/O={config.site.name}/OU=Hosts/CN={config.site.host[:_MAX_COMMON_NAME]}"
    request = run_openssl(
        ["req", "-new", "-sha256", "-config", "/dev/stdin", "-key", str(layout.host_key), "-subj", subject],
        b"[req]\ndistinguished_name = subject\n[subject]\n",
    )
    signed = run_openssl(
        [
            *("x509", "-req", "-sha256", "-CA", str(authority.certificate), "-CAkey", str(authority.key)),
            *("-set_serial", _serial(), "-days", str(config.authority.host_days)),
            *("-extfile", str(layout.host_names)),
        ],
        request,
    )
    changes.file(certificate, signed, 0o644)
