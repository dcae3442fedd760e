"""Plugins of all tests; fixtures live in `tests/support/wherry_testing`."""

from __future__ import annotations

import os

# Tests fork children in a process where gRPC runs: its handlers of forks have ended such a child before its program.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

pytest_plugins = [
    "wherry_testing.rows",
    "wherry_testing.logging_fixtures",
    "wherry_testing.pki_fixtures",
    "wherry_testing.site_fixtures",
    "wherry_testing.postgres_fixtures",
    "wherry_testing.deployment_fixtures",
]
