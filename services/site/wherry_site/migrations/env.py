"""What Alembic runs."""

from __future__ import annotations

from wherry_chassis.migrations import run_environment

from wherry_site.models import Base

run_environment(Base.metadata)
