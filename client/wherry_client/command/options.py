"""Options that several commands have, so that they read alike everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password as the first line of the standard input.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the job; write its id.")]
Priority = Annotated[
    int | None,
    typer.Option("--priority", min=0, max=9, metavar="0-9", help="Among your own jobs: 0 last, 9 first; else 5."),
]
Attempts = Annotated[
    int | None,
    typer.Option(
        "--attempts", min=1, max=20, metavar="1-20", help="How often each part is tried before it has failed."
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Wait so long at most (30s, 5m, 2h); the job goes on."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
