"""What an error means, for people and for the queue."""

from __future__ import annotations

from typing import Literal

from wherry_worker.engine.failure_table import TABLE, Row
from wherry_worker.engine.messages import Party, Problem
from wherry_worker.engine.namespace import DoorError

#: Where an error happened; "transfer" where a copy's error does not tell which of the two doors it comes from, "site"
#: where the task is about one site only.
Where = Literal["source", "destination", "transfer", "site"]


def explain(error: DoorError, scheme: str, where: Where, site: str) -> Problem:
    """Returns what an error means for people and for the queue; `site` is the name that the texts shall show.

    An error that no row knows keeps its raw text, has the reason UNKNOWN_ERROR and may be tried again.
    """
    for row in TABLE:
        if row.fits(scheme, error):
            return _problem(row, error, where, site)
    return Problem("UNKNOWN_ERROR", f"{site}: {shorten(error.text)}", "unknown", retryable=True)


def shorten(text: str, limit: int = 600) -> str:
    """Returns a raw text in one line of printable characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


_SITE_PARTIES: dict[str, Party] = {
    "source": "source_site",
    "destination": "destination_site",
    "transfer": "unknown",
    "site": "source_site",
}


def _problem(row: Row, error: DoorError, where: Where, site: str) -> Problem:
    return Problem(
        reason=row.reason.replace("{side}_", "" if where == "site" else f"{where.upper()}_"),
        message=f"{row.message.replace('{site}', site)} ({shorten(error.text, 300)})",
        party=_SITE_PARTIES[where] if row.whose is None else row.whose,
        retryable=row.retryable,
        help=row.help.replace("{site}", site),
        stops=row.stops,
    )
