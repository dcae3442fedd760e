"""register, verify, resend, login, logout, whoami."""

from __future__ import annotations

from typing import Annotated

import typer

from wherry_client.command import console, prompts, wording
from wherry_client.command.options import Json, PasswordStdin
from wherry_client.command.settings import client_of
from wherry_client.names import show_text


def register(
    context: typer.Context,
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The address to register.")],
    name: Annotated[str, typer.Option("--name", help="What others see; else the address's first part.")] = "",
    password_stdin: PasswordStdin = False,
) -> None:
    """Register an account; a mail with a token follows."""
    with client_of(context) as client:
        password = prompts.password("New password (at least 8 characters)", from_stdin=password_stdin, twice=True)
        client.accounts.register(email, password, name)
    console.say(f"A mail is on its way to {show_text(email)}. Take the token from it: wherry verify TOKEN")


def verify(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="The token from the mail; it works once.")],
) -> None:
    """Confirm your address with the token from the mail."""
    with client_of(context) as client:
        client.accounts.verify(token)
    console.say("The address is verified. Sign in: wherry login EMAIL")


def resend(
    context: typer.Context, email: Annotated[str, typer.Argument(metavar="EMAIL", help="The address registered.")]
) -> None:
    """Have the mail with the token sent again."""
    with client_of(context) as client:
        client.accounts.resend_verification(email)
    console.say(f"If {show_text(email)} is registered and not verified, another mail is on its way.")


def login(
    context: typer.Context,
    email: Annotated[str | None, typer.Argument(metavar="EMAIL", help="The address registered.")] = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Sign in at Wherry."""
    with client_of(context) as client:
        address = prompts.line("E-mail", email, "the e-mail address")
        password = prompts.password("Password", from_stdin=password_stdin)
        user = client.accounts.sign_in(address, password)
    console.say(f"Signed in as {show_text(user.email or address)}.")


def logout(context: typer.Context) -> None:
    """Sign out of Wherry; the session ends everywhere."""
    with client_of(context) as client:
        ended = client.accounts.sign_out()
    console.say("Signed out." if ended else "You were not signed in.")


def whoami(context: typer.Context, as_json: Json = False) -> None:
    """Show who is signed in."""
    with client_of(context) as client:
        user = client.accounts.me()
    if as_json:
        console.show_json({"user": console.as_json(user)})
        return
    console.show_fields(
        [
            ("e-mail", show_text(user.email)),
            ("name", show_text(user.display_name)),
            ("account", show_text(user.name)),
            ("last sign-in", wording.moment(user.last_sign_in_time)),
        ]
    )
