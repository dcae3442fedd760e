"""Migrations of a small package made by the test, on both databases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from wherry_chassis.migrations import SchemaError, require_current, upgrade
from wherry_chassis.sql import make_engine

_PACKAGE = "wherry_pebble"
_ENV = """\
import sqlalchemy as sa
from wherry_chassis.migrations import run_environment

run_environment(sa.MetaData())
"""
_REVISION = """\
import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {down!r}


def upgrade() -> None:
    op.create_table({table!r}, sa.Column("id", sa.Integer, primary_key=True))
    {then}
"""


class _Package:
    """A package with a migration history that grows."""

    def __init__(self, folder: Path) -> None:
        self._versions = folder / _PACKAGE / "migrations" / "versions"
        self._versions.mkdir(parents=True)
        (folder / _PACKAGE / "__init__.py").touch()
        (folder / _PACKAGE / "migrations" / "env.py").write_text(_ENV)
        self._last: str | None = None

    def add(self, revision: str, *, then: str = "pass") -> None:
        text = _REVISION.format(revision=revision, down=self._last, table=f"table_{revision}", then=then)
        (self._versions / f"{revision}.py").write_text(text)
        self._last = revision

    def forget(self, revision: str, last: str | None) -> None:
        (self._versions / f"{revision}.py").unlink()
        self._last = last


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Package]:
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = _Package(tmp_path / "packages")
    made.add("one")
    yield made
    sys.modules.pop(_PACKAGE, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/pebble.db"
    fresh: Callable[[str | None], str] = request.getfixturevalue("fresh_postgres")
    return fresh(None)


def _tables(url: str) -> set[str]:
    engine = make_engine(url)
    try:
        return set(sa.inspect(engine).get_table_names()) - {"alembic_version"}
    finally:
        engine.dispose()


def test_a_service_does_not_start_on_an_empty_database_and_says_what_to_run(package: _Package, url: str) -> None:
    with pytest.raises(SchemaError, match=r"is at schema none, this release needs one: run `wherry-pebble migrate`"):
        require_current(url, _PACKAGE)


def test_an_empty_database_is_brought_to_the_newest_schema_once(package: _Package, url: str) -> None:
    package.add("two")
    upgrade(url, _PACKAGE)
    upgrade(url, _PACKAGE)
    require_current(url, _PACKAGE)
    assert _tables(url) == {"table_one", "table_two"}


def test_an_older_schema_is_refused_until_it_is_migrated(package: _Package, url: str) -> None:
    upgrade(url, _PACKAGE)
    package.add("two")
    with pytest.raises(SchemaError, match="is at schema one, this release needs two"):
        require_current(url, _PACKAGE)
    upgrade(url, _PACKAGE)
    require_current(url, _PACKAGE)


def test_a_schema_of_a_newer_release_is_refused(package: _Package, url: str) -> None:
    package.add("two")
    upgrade(url, _PACKAGE)
    package.forget("two", "one")
    with pytest.raises(SchemaError, match="is at schema two, this release needs one"):
        require_current(url, _PACKAGE)
    with pytest.raises(SchemaError, match="newer release"):
        upgrade(url, _PACKAGE)


def test_a_migration_that_fails_leaves_the_schema_as_it_was(package: _Package, url: str) -> None:
    upgrade(url, _PACKAGE)
    package.add("two")
    package.add("three", then='raise LookupError("half-way")')
    with pytest.raises(LookupError, match="half-way"):
        upgrade(url, _PACKAGE)
    assert _tables(url) == {"table_one"}
    package.forget("three", "two")
    upgrade(url, _PACKAGE)
    assert _tables(url) == {"table_one", "table_two"}
