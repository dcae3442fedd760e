"""Which tests run in one process where several processes run tests; loaded by the root conftest."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

_TOGETHER = PurePosixPath("tests/e2e")


class ByDeployment(LoadFileScheduling):
    """Those of a file; and of the end-to-end tests those of a folder, which share a deployment.

    One takes long to start, and costs processor time for as long as it stands, which all others would lack.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        folder = PurePosixPath(file).parent
        return str(folder) if folder.parent == _TOGETHER else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByDeployment | None:
    """Takes the place of `--dist loadfile`."""
    return ByDeployment(config, log) if config.getoption("dist") == "loadfile" else None
