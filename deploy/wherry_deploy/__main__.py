"""`wherry-buildout`: makes, checks, shows and runs a deployment that is declared in one file."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from wherry_chassis.buildout import BuildoutError, load

from wherry_deploy.check import check as run_check
from wherry_deploy.deployment import READY_WITHIN_S, programs, running
from wherry_deploy.initialise import InitError, initialise
from wherry_deploy.log_lines import TerminalLines
from wherry_deploy.ports import NoFreePort, free_ports
from wherry_deploy.show import access_lines, as_plain, configuration_text
from wherry_deploy.stopping import ended_by_signal
from wherry_deploy.supervise import ProgramFailed
from wherry_deploy.template import Choices, MailChoice

app = typer.Typer(
    name="wherry-buildout",
    help="Builds a Wherry deployment out of one declared file, buildout.toml.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
BuildoutFile = Annotated[
    Path, typer.Option("--buildout", metavar="FILE", envvar="WHERRY_BUILDOUT", help="The deployment's file.")
]
_FILE = Path("buildout.toml")


class MailSecurity(Enum):
    """How the connection to the mail server is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where the deployment is to live.")] = Path(),
    name: Annotated[str, typer.Option(help="Of the deployment; stands in its certificates.")] = "wherry",
    host: Annotated[str, typer.Option(help="Under which the services listen and are reached.")] = "localhost",
    user_port: Annotated[int, typer.Option(min=1, max=65535)] = 50051,
    site_port: Annotated[int, typer.Option(min=1, max=65535)] = 50052,
    queue_port: Annotated[int, typer.Option(min=1, max=65535)] = 50053,
    gateway_port: Annotated[
        int, typer.Option(min=1, max=65535, help="The one for browsers, scripts and the wherry command.")
    ] = 8443,
    public_host: Annotated[
        str, typer.Option(metavar="HOST", help="The name or address that people type; else that of --host.")
    ] = "",
    pick_ports: Annotated[bool, typer.Option("--free-ports", help="Pick four ports that are free now.")] = False,
    further_name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A DNS name or address for the certificates; repeatable.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=1000, help="Worker processes on this machine.")] = 1,
    allow_network: Annotated[
        list[str] | None,
        typer.Option(metavar="NET", help="A private network in which sites may lie, as 10.1.0.0/16; repeatable."),
    ] = None,
    mail_host: Annotated[str, typer.Option(help="Where mail is handed in.")] = "localhost",
    mail_port: Annotated[int, typer.Option(min=1, max=65535)] = 25,
    mail_security: Annotated[MailSecurity, typer.Option()] = MailSecurity.NONE,
    mail_sender: Annotated[str, typer.Option(help="The address that mail comes from.")] = "wherry@localhost",
) -> None:
    """Make a deployment: file, authorities, certificates, keys. Never touches what is there."""
    ports = (user_port, site_port, queue_port)
    try:
        if pick_ports:
            first, second, third, gateway_port = free_ports(4)
            ports = (first, second, third)
        mail = MailChoice(mail_host, mail_port, mail_security.value, mail_sender)
        choices = Choices(
            name=name,
            ports=ports,
            host=host,
            gateway_port=gateway_port,
            public_host=public_host,
            worker_processes=workers,
            allow_networks=allow_network or (),
            mail=mail,
            further_names=further_name or (),
        )
        made = initialise(folder, choices)
    except (InitError, NoFreePort) as error:
        raise _stop(str(error)) from error
    for line in made:
        print(f"made {line}")
    if not made:
        print("nothing to make: everything is there")
    print(f"next: wherry-buildout check --buildout {folder / 'buildout.toml'}")


@app.command()
def check(buildout: BuildoutFile = _FILE) -> None:
    """Say everything that would keep the deployment from running, with key and line. Status 1 if there is any."""
    # The library would write its own lines between ours, about a port that somebody else has.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    report = run_check(buildout)
    for line in (*report.faults, *report.warnings):
        print(line)
    if report.faults:
        raise typer.Exit(1)
    print(f"{buildout}: ready to run")


@app.command()
def show(
    buildout: BuildoutFile = _FILE, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """Print the effective configuration, defaults included, secrets masked, and who may call what."""
    try:
        loaded = load(buildout)
        if as_json:
            print(json.dumps(as_plain(loaded), indent=2, ensure_ascii=False))
            return
        print(configuration_text(loaded))
        print("# Who may call what, then who is what:")
        for line in access_lines(loaded):
            print(f"# {line}".rstrip())
    except BuildoutError as error:
        raise _stop(str(error)) from error


@app.command()
def up(
    buildout: BuildoutFile = _FILE,
    within: Annotated[float, typer.Option(metavar="SECONDS", help="All must be ready by then.")] = READY_WITHIN_S,
) -> None:
    """Migrate, then run every process of the deployment on this machine until Ctrl-C. Says `ready` when all are."""
    report = run_check(buildout, starting=True)
    for line in (*report.faults, *report.warnings):
        print(line, file=sys.stderr)
    if report.faults or report.buildout is None:
        raise typer.Exit(1)
    try:
        names = [program.name for program in programs(buildout, report.buildout)]
        asyncio.run(_up(buildout, TerminalLines(sys.stderr, names, terminal=sys.stderr.isatty()), within))
    except (BuildoutError, ProgramFailed) as error:
        raise _stop(str(error)) from error


async def _up(file: Path, lines: TerminalLines, within_s: float) -> None:
    with ended_by_signal():
        async with running(file, lines, within_s=within_s):
            print("ready", flush=True)
            await asyncio.Event().wait()


def _stop(message: str) -> typer.Exit:
    print(f"wherry-buildout: {message}", file=sys.stderr)
    return typer.Exit(1)


def main() -> None:
    """Runs the command."""
    app()


if __name__ == "__main__":
    main()
