"""Plugins of all tests; fixtures live in `tests/support/wherry_testing`."""

from __future__ import annotations

import os

# Tests fork children in a process where gRPC runs: with its handlers of forks one child in twenty ends before its
# program begins.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

pytest_plugins = [
    "wherry_testing.rows",
    "wherry_testing.logging_fixtures",
    "wherry_testing.pki_fixtures",
    "wherry_testing.site_fixtures",
    "wherry_testing.postgres_fixtures",
    "wherry_testing.scheduling",
]
