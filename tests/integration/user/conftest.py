"""A running user service with its inbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wherry_testing.inbox import Inbox
from wherry_testing.pki import TestPki
from wherry_testing.user_service import RunningUsers, user_buildout, user_service

SENDER = "wherry@example.org"


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    async with Inbox().serving() as inbox:
        yield inbox


@pytest.fixture
async def service(tmp_path: Path, pki: TestPki, inbox: Inbox) -> AsyncIterator[RunningUsers]:
    mail = {"host": "127.0.0.1", "port": inbox.port, "security": "none", "sender": SENDER}
    buildout = user_buildout(tmp_path / "deployment", pki, "sqlite:///user.db", mail)
    async with user_service(buildout, pki, inbox) as running_service:
        yield running_service
