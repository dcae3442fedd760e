"""The acceptance rows: ids and requirements in `docs/acceptance.md`, and the marks of tests that name them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

_LINE = re.compile(r"^\|\s*([A-Z]+[0-9]+)\s*\|\s*(.+?)\s*\|\s*$")


class RowsError(Exception):
    """A table of rows that cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class RowClaim:
    """What a test says it proves.

    Attributes:
        row: the id, as `U3`.
        missing: the clause that it does not prove yet; None where it proves its clause whole.
    """

    row: str
    missing: str | None = None


def load_rows(file: Path) -> dict[str, str]:
    """Returns requirement by id, in the order of the file.

    Raises:
        RowsError: the file cannot be read, has no row, or gives an id twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise RowsError(f"{file}: cannot be read: {error.strerror}") from error
    rows: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _LINE.match(line):
            if found[1] in rows:
                raise RowsError(f"{file}:{number}: the row {found[1]} is there twice")
            rows[found[1]] = found[2]
    if not rows:
        raise RowsError(f"{file}: no row in it")
    return rows


def parse_ids(text: str, known: dict[str, str]) -> list[str]:
    """Returns the ids of a list as `U1,U3`, each once.

    Raises:
        RowsError: it is empty, or names a row that there is not.
    """
    ids = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not ids:
        raise RowsError("no row is named; write them as U1,U3")
    if unknown := [row for row in ids if row not in known]:
        raise RowsError(f"no such row: {', '.join(unknown)}; docs/acceptance.md lists those there are")
    return ids


def claims_of(item: pytest.Item, known: dict[str, str]) -> tuple[RowClaim, ...]:
    """Returns what a test proves.

    Raises:
        RowsError: a mark is of another form than `row("U3")` or `row("U3", missing="...")`, or names no row.
    """
    claims = []
    for mark in item.iter_markers("row"):
        missing = mark.kwargs.get("missing")
        formed = len(mark.args) == 1 and isinstance(mark.args[0], str) and not mark.kwargs.keys() - {"missing"}
        if not formed or not (missing is None or (isinstance(missing, str) and missing.strip())):
            raise RowsError(f'{item.nodeid}: a row is marked as row("U3") or row("U3", missing="what it lacks")')
        if mark.args[0] not in known:
            raise RowsError(f"{item.nodeid}: no such row: {mark.args[0]}; docs/acceptance.md lists those there are")
        claims.append(RowClaim(mark.args[0], missing))
    return tuple(dict.fromkeys(claims))
