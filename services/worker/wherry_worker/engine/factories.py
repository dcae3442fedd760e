"""The engines there are, by the name that the configuration gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wherry_gridftp.errors import NotOffered

from wherry_worker.engine.gsiftp_namespace import ControlNamespace
from wherry_worker.engine.messages import Door, Entry, Setup
from wherry_worker.engine.namespace import Namespace, ThirdParty
from wherry_worker.engine.pipelined import PipelinedEngine
from wherry_worker.engine.port import Engine, EngineFactory
from wherry_worker.engine.stepwise import StepwiseEngine

_MakeNamespace = Callable[[Setup, Door], Namespace]


def pipelined_engine(setup: Setup) -> Engine:
    """Everything by our own client; what a server lacks for that by gfal2."""
    names = _names_engine(setup)
    return PipelinedEngine(setup, names, lambda: _engine(setup, _best_namespace))


def gfal2_engine(setup: Setup) -> Engine:
    """Bytes by gfal2; names by our own control channel where the door is GridFTP and offers what that needs."""
    return _engine(setup, _best_namespace)


def gfal2_only_engine(setup: Setup) -> Engine:
    """Everything by gfal2, as for servers that our own control channel does not get on with."""
    return _engine(setup, _gfal_namespace)


def _names_engine(setup: Setup) -> StepwiseEngine:
    """Names alone: nothing of it needs gfal2 before a server turns out to need it."""
    destination = None if setup.destination is None else _best_namespace(setup, setup.destination)
    return StepwiseEngine(setup, _best_namespace(setup, setup.source), destination, None)


def _engine(setup: Setup, namespace: _MakeNamespace) -> StepwiseEngine:
    source = namespace(setup, setup.source)
    if setup.destination is None:
        return StepwiseEngine(setup, source, None, None)
    return StepwiseEngine(setup, source, namespace(setup, setup.destination), _third_party(setup, setup.destination))


def _best_namespace(setup: Setup, door: Door) -> Namespace:
    if door.scheme == "gsiftp":
        return FirstThatFits(setup, door)
    return _gfal_namespace(setup, door)


def _gfal_namespace(setup: Setup, door: Door) -> Namespace:
    # Imported here: a process that runs another engine needs no gfal2.
    from wherry_worker.engine.gfal import GfalNamespace

    return GfalNamespace(setup, door)


def _third_party(setup: Setup, destination: Door) -> ThirdParty:
    from wherry_worker.engine.gfal import GfalThirdParty

    return GfalThirdParty(setup, setup.source, destination)


class FirstThatFits:
    """A GridFTP door's file operations: by our control channel, or by gfal2 where the server lacks what that needs.

    Which it is turns out at the first operation, and stays so.
    """

    def __init__(self, setup: Setup, door: Door, fallback: _MakeNamespace = _gfal_namespace) -> None:
        self._setup = setup
        self._door = door
        self._fallback = fallback
        self._chosen: Namespace | None = None

    def _namespace(self) -> Namespace:
        if self._chosen is None:
            own = ControlNamespace(self._setup, self._door)
            try:
                own.connect()
                self._chosen = own
            except NotOffered:
                self._chosen = self._fallback(self._setup, self._door)
        return self._chosen

    def entries(self, path: str) -> Iterator[Entry]:
        """As Namespace says."""
        return self._namespace().entries(path)

    def stat(self, path: str) -> Entry | None:
        """As Namespace says."""
        return self._namespace().stat(path)

    def make_directory(self, path: str) -> None:
        """As Namespace says."""
        self._namespace().make_directory(path)

    def rename(self, path: str, new_path: str) -> None:
        """As Namespace says."""
        self._namespace().rename(path, new_path)

    def unlink(self, path: str) -> None:
        """As Namespace says."""
        self._namespace().unlink(path)

    def remove_directory(self, path: str) -> None:
        """As Namespace says."""
        self._namespace().remove_directory(path)

    def checksum(self, path: str, algorithm: str) -> str:
        """As Namespace says."""
        return self._namespace().checksum(path, algorithm)

    def set_mode(self, path: str, mode: int) -> None:
        """As Namespace says."""
        self._namespace().set_mode(path, mode)

    def set_modify_time(self, path: str, seconds: int) -> None:
        """As Namespace says."""
        self._namespace().set_modify_time(path, seconds)

    def close(self) -> None:
        """As Namespace says."""
        if self._chosen is not None:
            self._chosen.close()


FACTORIES: dict[str, EngineFactory] = {
    "pipelined": pipelined_engine,
    "gfal2": gfal2_engine,
    "gfal2-only": gfal2_only_engine,
}
