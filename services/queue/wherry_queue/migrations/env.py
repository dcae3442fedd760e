"""Alembic's environment."""

from wherry_chassis.migrations import run_environment
from wherry_queue.models import Base

run_environment(Base.metadata)
