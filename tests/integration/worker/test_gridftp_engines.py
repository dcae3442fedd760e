"""The conformance suite with real GridFTP servers as doors."""

from __future__ import annotations

from wherry_testing.engine_conformance import EngineConformance


class TestGridFtpEngine(EngineConformance):
    pass
