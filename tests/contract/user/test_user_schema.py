"""The migrations make the schema that the models describe, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from wherry_chassis import migrations
from wherry_chassis.sql import make_engine
from wherry_user.models import Base


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/user.db"
    make: Callable[[str | None], str] = request.getfixturevalue("fresh_postgres")
    return make(None)


def test_migrating_from_empty_gives_the_models_and_again_changes_nothing(url: str) -> None:
    with pytest.raises(migrations.SchemaError):
        migrations.require_current(url, "wherry_user")
    for _ in range(2):
        migrations.upgrade(url, "wherry_user")
    migrations.require_current(url, "wherry_user")
    engine = make_engine(url, pool_size=1)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()
