"""The `wherry` command put together."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from wherry_client.command import (
    account_commands,
    copy_commands,
    file_commands,
    job_commands,
    site_commands,
    site_session_commands,
    tree_commands,
)
from wherry_client.command.settings import Settings
from wherry_client.exits import EPILOG

# Tracebacks with local variables would show passwords: typer's own are switched off.
app = typer.Typer(
    name="wherry",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Move research data between sites. Places are written SITE:PATH, as in site-a:data/run1; SITE: alone is the "
    "site's default directory.",
    epilog=EPILOG,
)
for _command in (
    account_commands.register,
    account_commands.verify,
    account_commands.resend,
    account_commands.login,
    account_commands.logout,
    account_commands.whoami,
    site_commands.sites,
    file_commands.ls,
    copy_commands.cp,
    copy_commands.sync,
    file_commands.rm,
    file_commands.mkdir,
    file_commands.mv,
    tree_commands.chmod,
    job_commands.jobs,
):
    app.command(epilog=EPILOG)(_command)
app.command("sum", epilog=EPILOG)(tree_commands.sum_)
for _session_command in (site_session_commands.login, site_session_commands.logout, site_session_commands.session):
    site_commands.commands.command()(_session_command)
app.add_typer(site_commands.commands, name="site")
app.add_typer(job_commands.commands, name="job")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wherry {metadata.version('wherry-client')}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Configuration file; else $WHERRY_CONFIG or your own."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the release.")
    ] = False,
) -> None:
    """Keeps the common options for the command that follows."""
    context.obj = Settings(config)
