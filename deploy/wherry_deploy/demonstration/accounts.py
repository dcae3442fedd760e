"""The accounts of the demonstration: made up for it, with generated passwords, kept between runs."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wherry_deploy.demonstration.failing import DemonstrationFailed

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # nothing that reads like something else


@dataclass(frozen=True)
class Account:
    """A name and its password."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Accounts:
    """The account at Wherry, and those that the same person has at the sites."""

    wherry: Account
    site_a: Account
    site_b: Account


def load_or_make(file: Path) -> Accounts:
    """Returns the accounts of the last run; makes them at the first. The file is for its owner alone."""
    if file.exists():
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            return Accounts(**{key: Account(**value) for key, value in kept.items()})
        except (OSError, ValueError, TypeError) as error:
            raise DemonstrationFailed(f"{file} cannot be used: remove its folder to begin anew") from error
    made = Accounts(
        Account("demo@example.org", _password()), Account("alice", _password()), Account("guest17", _password())
    )
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(made), stream, indent=2)
    return made


def _password() -> str:
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(3))
