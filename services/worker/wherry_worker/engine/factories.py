"""The engines there are, by the name that the configuration gives them."""

from __future__ import annotations

from wherry_worker.engine.messages import Setup
from wherry_worker.engine.port import Engine, EngineFactory
from wherry_worker.engine.stepwise import StepwiseEngine


def gfal2_engine(setup: Setup) -> Engine:
    """Everything by gfal2."""
    # Imported here: a process that runs another engine needs no gfal2.
    from wherry_worker.engine.gfal import GfalNamespace, GfalThirdParty

    source = GfalNamespace(setup, setup.source)
    if setup.destination is None:
        return StepwiseEngine(setup, source, None, None)
    destination = GfalNamespace(setup, setup.destination)
    return StepwiseEngine(setup, source, destination, GfalThirdParty(setup, setup.source, setup.destination))


FACTORIES: dict[str, EngineFactory] = {"gfal2": gfal2_engine}
