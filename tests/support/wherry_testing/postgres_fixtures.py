"""Fixtures with a real PostgreSQL; the root conftest loads them by ``pytest_plugins``.

`postgres_url` is an empty database; `fresh_postgres("wherry_queue")` gives one with that package's newest schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from wherry_testing.postgres import PostgresMissing, PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's server; tests that stop it have to start it again."""
    try:
        server = PostgresServer()
    except PostgresMissing as error:
        pytest.fail(str(error))
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def fresh_postgres(postgres_server: PostgresServer) -> Iterator[Callable[[str | None], str]]:
    """Makes databases, each its own; they are dropped after the test."""
    made: list[str] = []

    def make(package: str | None = None) -> str:
        made.append(postgres_server.fresh(package))
        return made[-1]

    yield make
    for url in made:
        postgres_server.drop(url)


@pytest.fixture
def postgres_url(fresh_postgres: Callable[[str | None], str]) -> str:
    """The URL of an empty database."""
    return fresh_postgres(None)
