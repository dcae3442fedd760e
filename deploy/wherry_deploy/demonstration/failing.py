"""How the demonstration says that it cannot go on."""

from __future__ import annotations


class DemonstrationFailed(Exception):
    """The demonstration cannot go on; the message is one line that says why."""
