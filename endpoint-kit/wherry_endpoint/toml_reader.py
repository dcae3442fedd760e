"""The TOML parser of whichever Python runs the kit."""

from __future__ import annotations

import importlib
from typing import Any, Callable

from wherry_endpoint.errors import ToolError

# Python 3.11 has a parser. Enterprise Linux 9 and Debian 11 have 3.9, whose pip carries the same parser
# inside; the kit may not install anything from PyPI, so it takes that one.
_PARSERS = ("tomllib", "tomli", "pip._vendor.tomli")


def load_toml(text: str) -> dict[str, Any]:
    """Parse `text`; ValueError with the line in its message when it is not TOML."""
    for name in _PARSERS:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        loads: Callable[[str], dict[str, Any]] = module.loads
        return loads(text)
    raise ToolError("this Python has no TOML parser: install the package python3-tomli (or python3-pip)")
