"""The session's certificate authority; the root conftest loads it by ``pytest_plugins``."""

from __future__ import annotations

import pytest
from wherry_testing.pki import TestPki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> TestPki:
    """A CA that issues host certificates; `pki.files("queue")` issues each once."""
    return TestPki(tmp_path_factory.mktemp("pki"))
