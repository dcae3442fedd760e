"""Alembic's entry."""

from __future__ import annotations

from wherry_chassis.migrations import run_environment
from wherry_user.models import Base

run_environment(Base.metadata)
