"""What all commands share: the options before the command's name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from wherry_client.client import Client, open_client


@dataclass(frozen=True)
class Settings:
    """The options before the command's name."""

    config: Path | None = None


def client_of(context: typer.Context) -> Client:
    """Opens the client; raises UsageError. Use it in `with`."""
    settings = context.find_object(Settings) or Settings()
    return open_client(settings.config)
