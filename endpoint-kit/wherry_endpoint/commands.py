"""What each command of ``wherry-endpoint`` does with its arguments."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from wherry_endpoint import __version__
from wherry_endpoint.accounts import read_passwords
from wherry_endpoint.checks import check_machine
from wherry_endpoint.config import load_config
from wherry_endpoint.errors import EndpointError
from wherry_endpoint.install import install_site
from wherry_endpoint.layout import Layout
from wherry_endpoint.serve import serve
from wherry_endpoint.show import describe_site, show_text
from wherry_endpoint.system_files import system_instructions
from wherry_endpoint.template import write_template

_DEFAULT_CONFIG = Path("endpoint.toml")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; its exit status: 0 done, 1 something to put right, 2 a wrong command line."""
    options = _parser().parse_args(arguments)
    # Modes are set explicitly; this only keeps what the servers' own tools write from being group-writable.
    os.umask(0o022)
    try:
        status: int = options.run(options)
    except EndpointError as problem:
        print(f"wherry-endpoint: {problem}", file=sys.stderr)
        return 1
    except PermissionError as problem:
        print(
            f"wherry-endpoint: {problem.filename or 'a file'}: permission denied: run as the owner of site.folder, "
            "or choose another site.folder",
            file=sys.stderr,
        )
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wherry-endpoint", description="Sets up and runs a Wherry storage site.")
    parser.add_argument("--version", action="version", version=f"wherry-endpoint {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--config", type=Path, default=_DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")
        sub.set_defaults(run=run)
        return sub

    command("init", _init, "write a commented endpoint.toml")
    command("check", _check, "look whether this machine can be a site; every failing item with its fix")
    install = command("install", _install, "make the authorities, certificates and configurations; safe to repeat")
    install.add_argument("--dry-run", action="store_true", help="only say what would change")
    install.add_argument(
        "--passwords",
        metavar="FILE",
        help="sandbox: account:password lines (- for standard input); needed once for each account",
    )
    command("serve", _serve, "run MyProxy and GridFTP in the foreground; prints ready when both answer")
    show = command("show", _show, "print what registering the site at the centre needs")
    show.add_argument("--json", action="store_true", help="for programs, with the authorities' certificates")
    return parser


def _init(options: argparse.Namespace) -> int:
    write_template(options.config)
    print(f"wrote {options.config}: set site.name and site.host in it, then run: wherry-endpoint check")
    return 0


def _check(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    failed = 0
    for item in check_machine(config, Layout.of(config)):
        if item.fix is None:
            print(f"ok    {item.what}")
        else:
            failed += 1
            print(f"FAIL  {item.what}: {item.fix}")
    return 1 if failed else 0


def _install(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    layout = Layout.of(config)
    passwords = read_passwords(_read_password_file(options.passwords)) if options.passwords else {}
    if passwords and not config.sandbox.enabled:
        raise EndpointError(
            "--passwords is for a sandbox only: elsewhere the site's own PAM service knows the passwords"
        )
    changes = install_site(config, layout, passwords, options.dry_run)
    for change in changes:
        print(f"would {change}" if options.dry_run else change)
    if not changes:
        print("nothing to change")
    elif not (config.sandbox.enabled or options.dry_run):
        print("\nto put the site into place, as root:")
        for line in system_instructions(config, layout):
            print(f"  {line}")
    return 0


def _read_password_file(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise EndpointError(f"--passwords {name}: cannot be read: {type(problem).__name__}") from problem


def _serve(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    return serve(config, Layout.of(config))


def _show(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    site = describe_site(config, Layout.of(config))
    print(json.dumps(site, indent=2) if options.json else show_text(site))
    return 0
