"""Schema migrations: one Alembic history for each service, in its package's `migrations` folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from wherry_chassis.sql import make_engine

_LOCK = 0x57_48_45_52  # any number, the same everywhere: replicas that start together migrate one after the other


class SchemaError(Exception):
    """A database whose schema is not the one that this release needs; the message says what to run."""


def upgrade(url: str, package: str) -> None:
    """Brings a database to the newest schema of `package` (as `wherry_queue`); does nothing when it is there.

    Raises:
        SchemaError: the database's schema is one that this release does not know.
    """
    try:
        with _connection(url) as connection:
            command.upgrade(_config(package, connection), "head")
    except CommandError as error:
        name = package.removeprefix("wherry_")
        raise SchemaError(f"the {name} database cannot be migrated, a newer release may have been: {error}") from error


def require_current(url: str, package: str) -> None:
    """Raises SchemaError unless the database has the newest schema of `package`."""
    head = ScriptDirectory.from_config(_config(package)).get_current_head()
    engine = make_engine(url, pool_size=1)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    if current != head:
        name = package.removeprefix("wherry_")
        raise SchemaError(
            f"the {name} database is at schema {current or 'none'}, this release needs {head}: "
            f"run `wherry-{name} migrate`"
        )


def run_environment(metadata: sa.MetaData) -> None:
    """What a service's `migrations/env.py` calls."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


@contextlib.contextmanager
def _connection(url: str) -> Iterator[Connection]:
    engine = make_engine(url, pool_size=1).execution_options(wherry_writes=True)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield connection
    finally:
        engine.dispose()


def _config(package: str, connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", f"{package}:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
