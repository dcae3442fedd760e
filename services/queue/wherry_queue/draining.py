"""Whom operators can send away: replicas and workers; and that a worker's name means one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry_chassis.errors import DomainError, Kind


class ReplicaNotFound(DomainError):
    """There is no replica {replica} that lives."""

    kind = Kind.NOT_FOUND
    reason = "REPLICA_NOT_FOUND"


class WorkerNotFound(DomainError):
    """There is no worker {worker} with an open stream."""

    kind = Kind.NOT_FOUND
    reason = "WORKER_NOT_FOUND"


class WorkerNameTaken(DomainError):
    """A worker with another certificate has the name {worker} already; give each worker a name of its own, or wait
    until the other one has gone."""

    kind = Kind.ALREADY_EXISTS
    reason = "WORKER_NAME_TAKEN"


@dataclass(frozen=True, slots=True)
class DrainOrders:
    """What operators want of a replica.

    Attributes:
        replica: whether it shall send everybody elsewhere, for good.
        workers: the names of those with a stream here that shall end what they run and take nothing more.
    """

    replica: bool = False
    workers: Sequence[str] = ()
