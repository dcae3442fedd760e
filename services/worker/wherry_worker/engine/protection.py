"""How strongly bytes are protected on their way."""

from __future__ import annotations

from collections.abc import Mapping

from wherry_worker.engine.messages import Protection

_STRENGTH: Mapping[Protection, int] = {"clear": 0, "authenticated": 1, "encrypted": 2}


def strongest(*asked: Protection | None) -> Protection:
    """Returns the strongest of what is asked for; `clear` where nobody asks for anything."""
    return max((one for one in asked if one is not None), key=_STRENGTH.__getitem__, default="clear")
