"""The command line that every service has: `serve` and `migrate`, each with `--buildout FILE`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy.exc import InterfaceError, OperationalError

from wherry_chassis import migrations
from wherry_chassis.buildout import Buildout, BuildoutError, ServiceName, database_url, load
from wherry_chassis.logging import configure
from wherry_chassis.server import ListenError, Service, serve_until_signal
from wherry_chassis.tls import MaterialFiles

Build = Callable[[Buildout, int], Service]
"""Makes a service out of a deployment and the index of its replica."""


def run(name: ServiceName, package: str, build: Build, arguments: Sequence[str] | None = None) -> int:
    """Runs a service's command; returns the exit status. A fault in the configuration is one line, and status 2."""
    parser = argparse.ArgumentParser(prog=f"wherry-{name}", description=f"Wherry's {name} service")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the service")
    serve.add_argument("--replica", type=int, default=0, help="which address of `listen` is this one's, from 0")
    migrate = commands.add_parser("migrate", help="bring the database to this release's schema")
    for command in (serve, migrate):
        command.add_argument(
            "--buildout", type=Path, required=True, metavar="FILE", help="the deployment's buildout.toml"
        )
    options = parser.parse_args(arguments)
    try:
        buildout = load(options.buildout)
        configure(name, format=buildout.logging.format, level=buildout.logging.level)
        url = database_url(getattr(buildout.service, name))
        if options.command == "migrate":
            migrations.upgrade(url, package)
            return 0
        migrations.require_current(url, package)
        asyncio.run(_serve(name, build, buildout, options.replica))
    except (BuildoutError, migrations.SchemaError, ListenError) as error:
        print(f"wherry-{name}: {error}", file=sys.stderr)  # noqa: T201  # for the person who started it
        return 2
    except (OperationalError, InterfaceError) as error:
        print(f"wherry-{name}: the database cannot be used: {error.orig}", file=sys.stderr)  # noqa: T201  # as above
        return 2
    return 0


async def _serve(name: ServiceName, build: Build, buildout: Buildout, replica: int) -> None:
    section = getattr(buildout.service, name)
    if not 0 <= replica < len(section.listen):
        raise BuildoutError(
            f"service.{name}.listen has {len(section.listen)} address(es), there is no replica {replica}"
        )
    service = build(buildout, replica)
    await serve_until_signal(service, section.listen[replica], material_files(buildout, name))


def material_files(buildout: Buildout, name: ServiceName) -> MaterialFiles:
    """Returns a service's host certificate.

    Raises:
        BuildoutError: a file cannot be read, or they do not belong together.
    """
    section = getattr(buildout.service, name)
    return read_material(section.certificate, section.key, buildout.deployment.ca)


def read_material(certificate: Path, key: Path, ca: Path) -> MaterialFiles:
    """Returns a certificate's files, read. Raises BuildoutError as above."""
    try:
        return MaterialFiles(certificate, key, ca)
    except (OSError, ValueError) as error:
        raise BuildoutError(f"host certificate: {error}; `wherry-buildout init` makes one") from error
