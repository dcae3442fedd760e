"""The conformance suites with real GridFTP servers as doors."""

from __future__ import annotations

from wherry_testing.copy_rules_conformance import CopyRulesConformance
from wherry_testing.engine_conformance import EngineConformance


class TestGridFtpEngine(EngineConformance):
    pass


class TestGridFtpEngineByRules(CopyRulesConformance):
    pass
