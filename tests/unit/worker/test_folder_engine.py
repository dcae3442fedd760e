"""The conformance suites with folders as doors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wherry_fakes.worker_access import folder_plan, folder_pool
from wherry_testing.copy_rules_conformance import CopyRulesConformance
from wherry_testing.engine_conformance import EngineConformance, EngineRig
from wherry_worker.engines import EngineKey


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[EngineRig]:
    source, destination = tmp_path / "source", tmp_path / "destination"
    source.mkdir()
    destination.mkdir()
    plan = folder_plan(source, destination)
    pool = folder_pool(tmp_path)
    key = EngineKey("users/1", "sites/a", "sites/b")
    yield EngineRig(pool, plan, source, destination, lambda: None, lambda: pool.engine(key, plan))
    await pool.close()


class TestFolderEngine(EngineConformance):
    pass


class TestFolderEngineByRules(CopyRulesConformance):
    pass
