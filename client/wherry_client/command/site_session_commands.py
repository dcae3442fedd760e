"""site login, site logout, site session."""

from __future__ import annotations

from typing import Annotated

import typer
from wherry.site.v1 import site_service_pb2

from wherry_client import paths
from wherry_client.command import console, prompts, wording
from wherry_client.command.options import Json, PasswordStdin
from wherry_client.command.settings import client_of
from wherry_client.command.site_commands import SiteId
from wherry_client.errors import NotFoundError, site_sign_in_needed
from wherry_client.names import show_text


def login(
    context: typer.Context,
    site: SiteId,
    username: Annotated[
        str | None, typer.Option("--username", "-u", metavar="NAME", help="Your account's name at the site.")
    ] = None,
    lifetime: Annotated[
        str | None,
        typer.Option("--lifetime", metavar="TIME", help="How long, as 30m, 12h, 7d; else 12 hours. Sites have limits."),
    ] = None,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Sign in at a site, with the account that you have there."""
    identity = paths.site_id(site)
    lifetime_s = None if lifetime is None else wording.parse_duration(lifetime)
    with client_of(context) as client:
        # A site is where a password is typed: show first whose it is and where it goes.
        found = client.sites.get(identity)
        console.note(f"{show_text(found.title)}, at {show_text(found.auth_address)}")
        account = prompts.line("User name there", username, "--username")
        password = prompts.password("Password there", from_stdin=password_stdin)
        session = client.site_sessions.sign_in(identity, account, password, lifetime_s)
    if as_json:
        console.show_json({"siteSession": console.as_json(session)})
        return
    shortened = " (the site gives no more)" if session.lifetime_shortened else ""
    console.say(
        f"Signed in at {identity} as {show_text(session.username)}"
        f" until {wording.moment(session.expire_time)}{shortened}."
    )


def logout(context: typer.Context, site: SiteId) -> None:
    """Sign out at a site; the credential is deleted, jobs that need it wait."""
    identity = paths.site_id(site)
    with client_of(context) as client:
        try:
            client.site_sessions.sign_out(identity)
        except NotFoundError:
            console.say(f"You were not signed in at {identity}.")
            return
    console.say(f"Signed out at {identity}.")


def session(
    context: typer.Context,
    site: Annotated[str | None, typer.Argument(metavar="SITE", help="One site's; else all.")] = None,
    as_json: Json = False,
) -> None:
    """Show your sign-ins at sites. Exit status 4 where there is none."""
    identity = None if site is None else paths.site_id(site)
    with client_of(context) as client:
        if identity is None:
            found = client.site_sessions.all()
        else:
            try:
                found = [client.site_sessions.get(identity)]
            except NotFoundError as error:
                raise site_sign_in_needed(identity, error.reason) from error
    if as_json:
        console.show_json({"siteSessions": [console.as_json(item) for item in found]})
        return
    console.show_table(("site", "user", "until", "subject"), [_row(item) for item in found])


def _row(item: site_service_pb2.SiteSession) -> tuple[str, ...]:
    return (
        show_text(item.site.removeprefix("sites/")),
        show_text(item.username),
        wording.moment(item.expire_time),
        show_text(item.subject),
    )
