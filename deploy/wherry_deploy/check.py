"""`wherry-buildout check`: everything that would keep a deployment from running, at once, before it does."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from wherry_chassis.buildout import Buildout, BuildoutError, load
from wherry_chassis.tls import Material

from wherry_deploy.check_access import check_access
from wherry_deploy.check_machine import check_machine
from wherry_deploy.check_material import check_material
from wherry_deploy.findings import Finding, show
from wherry_deploy.gateway_health import is_answering
from wherry_deploy.health import connectable, operator_material, service_is_answering


@dataclass(frozen=True)
class Report:
    """What a check has found; lines ready to be printed.

    Attributes:
        buildout: the deployment, where the file can be read at all.
        faults: with these it cannot run.
        warnings: with these it can.
    """

    buildout: Buildout | None
    faults: list[str]
    warnings: list[str]


def check(file: Path, *, starting: bool = False) -> Report:
    """Checks a buildout file and the machine that it is for.

    Args:
        file: the `buildout.toml`.
        starting: the processes are about to be started: a port on which the deployment already serves is a fault then.
    """
    try:
        buildout = load(file)
    except BuildoutError as error:
        return Report(None, str(error).splitlines(), [])
    text = file.read_text(encoding="utf-8")
    found: list[Finding] = list(check_material(buildout))
    found += check_access(buildout)
    material = None if starting else _material(buildout)
    found += check_machine(
        buildout, functools.partial(_answers, material), lambda gateway: not starting and is_answering(gateway)
    )
    lines = [(finding.fatal, show(finding, file, text)) for finding in found]
    return Report(buildout, [line for fatal, line in lines if fatal], [line for fatal, line in lines if not fatal])


def _material(buildout: Buildout) -> Material | None:
    try:
        return operator_material(buildout)
    except BuildoutError:
        return None  # said with the certificates


def _answers(material: Material | None, address: str) -> bool:
    return material is not None and service_is_answering(connectable(address), material)
