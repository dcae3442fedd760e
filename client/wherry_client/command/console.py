"""What is written to the terminal, or into a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wherry_client.errors import WherryError
from wherry_client.names import show_text


def console(*, stderr: bool = False) -> Console:
    """Returns a console that takes every text literally, for the streams as they are now: tests swap them."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)


def is_terminal() -> bool:
    """Whether somebody looks at the output as it comes."""
    return sys.stdout.isatty()


def say(text: str) -> None:
    """Writes a line to the standard output."""
    print(text)


def note(text: str) -> None:
    """Writes a line to the standard error output: what is not the command's result."""
    print(text, file=sys.stderr)


def show_error(error: WherryError) -> None:
    """Writes an error and what can be done about it."""
    where = console(stderr=True)
    where.print(Text("error: ", style="bold red"), Text(show_text(error.message)), sep="", end="\n")
    if error.advice:
        where.print(Text("       " + show_text(error.advice)))


def show_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes a table: aligned with headers on a terminal, else a line for each row, tabs between the columns."""
    if not is_terminal():
        for row in rows:
            say("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(markup=False, highlight=False, emoji=False).print(table)


def show_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Writes a thing's fields, one a line; empty ones are left out."""
    width = max(len(name) for name, _ in fields) + 2
    for name, value in fields:
        if value:
            say(f"{name:<{width}}{value}")


def as_json(message: Message) -> dict[str, object]:
    """Returns a message as the JSON mapping of protocol buffers has it, as the gateway's JSON does."""
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def show_json(content: object) -> None:
    """Writes JSON: indented for eyes, in one line into a pipe."""
    say(json.dumps(content, indent=2 if is_terminal() else None, ensure_ascii=False))


def show_json_line(content: object) -> None:
    """Writes JSON in one line, at once."""
    print(json.dumps(content, ensure_ascii=False), flush=True)
