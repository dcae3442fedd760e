"""Runs the ``openssl`` command. Secrets reach it by file or standard input, never as arguments."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Optional

from wherry_endpoint.errors import ToolError

_OPENSSL = "openssl"
_TIMEOUT_S = 300


def run_openssl(arguments: Sequence[str], stdin: bytes = b"") -> bytes:
    """Standard output of ``openssl ARGUMENTS``; ToolError with its last words when it fails."""
    try:
        done = subprocess.run(
            [_OPENSSL, *arguments],
            input=stdin,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            # An administrator's own openssl.cnf or random seed must not change what the kit makes.
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "HOME": "/nonexistent"},
        )
    except FileNotFoundError as problem:
        raise ToolError("the openssl command is missing: install the package openssl") from problem
    except subprocess.TimeoutExpired as problem:
        raise ToolError(f"openssl {arguments[0]} did not end within {_TIMEOUT_S} s") from problem
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ToolError(f"openssl {arguments[0]} failed: {said[-1] if said else 'without a word'}")
    return done.stdout


def new_private_key(bits: int) -> bytes:
    """A new RSA key in PEM (PKCS#8)."""
    return run_openssl(["genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{bits}"])


def subject_hash(certificate: bytes) -> str:
    """The eight hex digits by which a trust directory finds `certificate` (PEM)."""
    return run_openssl(["x509", "-noout", "-hash"], certificate).decode("ascii").strip()


def subject_of(certificate: bytes) -> str:
    """The certificate's subject in the grid's form, ``/O=…/CN=…``."""
    text = run_openssl(["x509", "-noout", "-subject", "-nameopt", "compat"], certificate).decode("utf-8")
    return text.strip().partition("=")[2].strip()


def expires_within(certificate: bytes, seconds: int) -> bool:
    """Whether `certificate` (PEM) will have expired `seconds` from now."""
    try:
        run_openssl(["x509", "-noout", "-checkend", str(seconds)], certificate)
    except ToolError:
        return True
    return False


def password_hash(password: str, salt: Optional[str] = None) -> str:
    """The ``$6$`` (SHA-512) crypt hash of `password`, as pam_pwdfile reads it."""
    salted = [] if salt is None else ["-salt", salt]
    return run_openssl(["passwd", "-6", *salted, "-stdin"], password.encode() + b"\n").decode("ascii").strip()
