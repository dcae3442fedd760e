"""Proxy certificates (RFC 3820): a key of their own, signed by a person's key, with a short life.

What leaves the vault is one of these, never the person's own key. The profile is what Globus GridFTP, its MyProxy
authorization callout and gfal2 accept: `inherit all` as policy, the subject of the person with one more CN, no other
extension than ProxyCertInfo and key usage.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

PROXY_LIFE_MAX = dt.timedelta(hours=1)
"""No proxy lives longer, whatever is asked for."""
_BACKDATED = dt.timedelta(minutes=5)
"""Clocks of storage servers may be behind ours."""

_PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
# RFC 3820 3.8, in DER: SEQUENCE { SEQUENCE { id-ppl-inheritAll (1.3.6.1.5.5.7.21.1) } }, no limit of the path's length.
_INHERIT_ALL = bytes.fromhex("300c300a06082b06010505071501")
_KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_encipherment=True,
    content_commitment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def sign_proxy(
    issuer: x509.Certificate,
    issuer_key: RSAPrivateKey,
    key: RSAPrivateKey,
    *,
    now: dt.datetime,
    life: dt.timedelta = PROXY_LIFE_MAX,
) -> x509.Certificate:
    """Returns a proxy certificate for `key`, valid for `life`, never longer than an hour or than its issuer.

    Raises:
        ValueError: the issuer has expired.
    """
    end = min(now + life, now + PROXY_LIFE_MAX, issuer.not_valid_after_utc)
    begin = max(now - _BACKDATED, issuer.not_valid_before_utc)
    if end <= now:
        raise ValueError("the issuing certificate has expired")
    # RFC 3820 3.4: the subject is the issuer's with one CN more, unique among the issuer's proxies.
    number = secrets.randbits(62) + 1
    subject = x509.Name(
        [
            *issuer.subject.rdns,
            x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, str(number))]),
        ]
    )
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .subject_name(subject)
        .serial_number(number)
        .public_key(key.public_key())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.UnrecognizedExtension(_PROXY_CERT_INFO, _INHERIT_ALL), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def proxy_pem(proxy: x509.Certificate, key: RSAPrivateKey, chain: Sequence[x509.Certificate]) -> bytes:
    """Returns a credential file as Globus reads it: proxy, key, then the chain from the person's certificate up."""
    return b"".join(
        [
            proxy.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
            *(certificate.public_bytes(Encoding.PEM) for certificate in chain),
        ]
    )
