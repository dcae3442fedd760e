"""Wherry's Python client and the wherry command.

with open_client() as client:
    job = client.jobs.copy([(parse("site-a:data"), parse("site-b:backup/data"))], recursive=True)
"""

from __future__ import annotations

import os

# gRPC would write lines of its own about connections between a command's. It reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from wherry_client.client import Client, open_client
from wherry_client.configuration import Configuration, load
from wherry_client.errors import (
    NotFoundError,
    SignInNeededError,
    UnavailableError,
    UsageError,
    WherryError,
)
from wherry_client.paths import RemotePath, parse

__all__ = [
    "Client",
    "Configuration",
    "NotFoundError",
    "RemotePath",
    "SignInNeededError",
    "UnavailableError",
    "UsageError",
    "WherryError",
    "load",
    "open_client",
    "parse",
]
