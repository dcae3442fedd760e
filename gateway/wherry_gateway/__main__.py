"""The command `wherry-gateway`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from wherry_chassis.buildout import BuildoutError, load
from wherry_chassis.logging import configure

from wherry_gateway.envoy.bootstrap import render
from wherry_gateway.serving import prepare, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status. A fault in the configuration is one line, and status 2."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (BuildoutError, OSError) as error:
        print(f"wherry-gateway: {error}", file=sys.stderr)  # noqa: T201  # for the person who started it
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.command == "openapi":
        from wherry_gateway.openapi import document

        print(json.dumps(document(), indent=2, ensure_ascii=False))  # noqa: T201  # its output
        return 0
    buildout = load(options.buildout)
    match options.command:
        case "serve":
            serve(buildout)
        case "assets":
            from wherry_gateway.assets import run_assets

            configure("gateway-assets", format=buildout.logging.format, level=buildout.logging.level)
            run_assets(buildout)
        case "render":
            options.folder.mkdir(parents=True, exist_ok=True)
            for name, content in render(buildout).items():
                (options.folder / name).write_bytes(content)
        case "check":
            prepare(buildout)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wherry-gateway", description="Wherry's gateway")
    commands = parser.add_subparsers(dest="command", required=True)
    made = {
        "serve": "run Envoy",
        "assets": "serve the web page to Envoy",
        "render": "write Envoy's files into a folder, to be read",
        "check": "render, and have Envoy look at it",
    }
    for name, text in made.items():
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--buildout", type=Path, required=True, metavar="FILE", help="the deployment's buildout.toml"
        )
        if name == "render":
            command.add_argument("folder", type=Path)
    commands.add_parser("openapi", help="print the OpenAPI document of the JSON interface")
    return parser


if __name__ == "__main__":
    sys.exit(main())
