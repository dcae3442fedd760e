"""`wherry-buildout show`: the configuration as the processes see it, defaults included, and the access table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tomlkit
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Buildout, effective


def configuration_text(buildout: Buildout) -> str:
    """Returns the effective configuration as TOML. References to secrets stay references; none is followed."""
    return tomlkit.dumps(effective(buildout))


def access_lines(buildout: Buildout) -> Iterator[str]:
    """Yields the access table: each RPC with the roles that may call it, then each subject with its roles."""
    table = build_table(buildout.access)
    width = max(len(method) for method in table.rpcs)
    for method in sorted(table.rpcs):
        yield f"{method:<{width}}  {', '.join(sorted(table.rpcs[method])) or 'nobody'}"
    yield ""
    width = max((len(name) for name in table.subjects), default=0)
    for name in sorted(table.subjects):
        yield f"{name:<{width}}  {', '.join(sorted(table.subjects[name]))}"


def as_plain(buildout: Buildout) -> dict[str, Any]:
    """Returns both for programs."""
    table = build_table(buildout.access)
    return {
        "configuration": effective(buildout),
        "access": {
            "rpcs": {method: sorted(roles) for method, roles in sorted(table.rpcs.items())},
            "subjects": {name: sorted(roles) for name, roles in sorted(table.subjects.items())},
        },
    }
