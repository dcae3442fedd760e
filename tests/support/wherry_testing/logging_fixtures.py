"""Puts logging back after each test; the root conftest loads it by ``pytest_plugins``."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test configures would otherwise write to that test's captured stream for ever."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    # pytest's own handlers come and go: take away only what the test has added.
    logging.root.handlers[:] = [
        handler for handler in logging.root.handlers if handler in handlers or type(handler).__module__ != "logging"
    ]
    logging.root.setLevel(level)
