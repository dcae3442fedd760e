"""The security context of data channels: a certificate that both servers show and believe, made for it alone (DCSC).

Two sites that trust nothing in common can so know each other, and encrypt. It says nothing about anybody, and is worth
nothing elsewhere: nobody else believes it.
"""

from __future__ import annotations

import base64
import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_KEY_BITS = 2048
_BACKDATED = dt.timedelta(hours=1)
"""The sites' clocks and ours need not agree to the minute."""


def channel_context(lifetime: dt.timedelta, now: dt.datetime | None = None) -> str:
    """Returns a new context as DCSC takes it: base64 of certificate, key and the certificate again, in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"data channel {x509.random_serial_number():x}"[:64])])
    now = now or dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return base64.b64encode(pem + private + pem).decode("ascii")
