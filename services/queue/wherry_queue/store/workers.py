"""Replicas and workers as operators see them, and the word to send them away.

A replica writes every few seconds which workers have a stream at it; leases do not look here. That somebody shall drain
stands in the row, until it does: the replica concerned reads it there, whichever was asked. (A worker that ends of
itself shows it by having no places: in the same column, it would have it told to end wherever it came next.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.draining import DrainOrders, ReplicaNotFound, WorkerNotFound
from wherry_queue.models import Replica, Task, Worker
from wherry_queue.states import TaskState
from wherry_queue.store import audit

NOWHERE = 0
"""The replica of a worker that was to drain when its stream was lost, before it was known to have been told."""
_MEMORY_MS = 60_000
"""For so long the word waits for such a worker to open another stream."""

_WORKER: Any = Worker.__table__
_UPDATE = (
    sa.update(_WORKER)
    .where(_WORKER.c.id == sa.bindparam("worker"))
    .values(
        version=sa.bindparam("its_version"),
        connected_ms=sa.bindparam("its_connected_ms"),
        heard_ms=sa.bindparam("its_heard_ms"),
        interactive_places=sa.bindparam("its_interactive_places"),
        bulk_places=sa.bindparam("its_bulk_places"),
        held=sa.bindparam("its_held"),
        subject=sa.bindparam("its_subject"),
        thumbprint=sa.bindparam("its_thumbprint"),
    )
)
_RUNNING = Task.state == sa.literal_column(str(int(TaskState.RUNNING)))
"""As in the index of running tasks: a parameter would keep the index from being used."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker with an open stream, as its replica knows it.

    Attributes:
        open_ms: for how long its stream has been open.
        silent_ms: how long ago its last sign of life was.
        held: tasks that it holds.
        subject, thumbprint: of its certificate.
    """

    name: str
    version: str
    open_ms: int
    silent_ms: int
    interactive_places: int
    bulk_places: int
    held: int
    subject: str = ""
    thumbprint: str = ""


def write_workers(connection: Connection, replica_id: int, rows: Sequence[WorkerRow]) -> None:
    """Writes which workers have streams at a replica, in place of what stood there.

    Of streams with one name the last counts: a worker may open another before the loss of the first is noticed. Who
    was to drain elsewhere under the same name, still is.
    """
    now_ms = database_now_ms(connection)
    here = {row.name: row for row in rows}
    known = connection.execute(
        sa.select(Worker.__table__).where(Worker.replica_id == replica_id).order_by(Worker.id).with_for_update()
    ).all()
    _let_go(connection, [row for row in known if row.name not in here], now_ms)
    ids = {row.name: row.id for row in known}
    changed = [(ids[name], row) for name, row in here.items() if name in ids]
    if changed:
        connection.execute(
            _UPDATE,
            [
                {"worker": row_id} | {f"its_{name}": value for name, value in _values(row, now_ms).items()}
                for row_id, row in changed
            ],
        )
    new = [row for name, row in here.items() if name not in ids]
    if new:
        to_drain = _to_drain(connection, [row.name for row in new])
        connection.execute(
            sa.insert(Worker),
            [
                {"name": row.name, "replica_id": replica_id, "draining": row.name in to_drain} | _values(row, now_ms)
                for row in new
            ],
        )


def _values(row: WorkerRow, now_ms: int) -> dict[str, Any]:
    return {
        "version": row.version,
        "connected_ms": now_ms - row.open_ms,
        "heard_ms": now_ms - row.silent_ms,
        "interactive_places": row.interactive_places,
        "bulk_places": row.bulk_places,
        "held": row.held,
        "subject": row.subject,
        "thumbprint": row.thumbprint,
    }


def forget_workers(connection: Connection, replica_id: int) -> None:
    """Lets go of the workers of a replica that has died; who is at another by now has been told there."""
    gone = connection.execute(sa.select(Worker.__table__).where(Worker.replica_id == replica_id)).all()
    elsewhere = sa.select(Worker.name).where(
        Worker.name.in_([row.name for row in gone]), _WORKER.c.replica_id != replica_id
    )
    there = set(connection.execute(elsewhere).scalars())
    connection.execute(sa.delete(Worker).where(Worker.id.in_([row.id for row in gone if row.name in there])))
    _let_go(connection, [row for row in gone if row.name not in there], database_now_ms(connection))


def _let_go(connection: Connection, gone: Sequence[Any], now_ms: int) -> None:
    """Deletes rows of workers whose streams have ended, and remembers for a while who was to drain and did not."""
    # One that drains says that it has no places.
    waiting = [row.id for row in gone if row.draining and (row.interactive_places or row.bulk_places)]
    done = [row.id for row in gone if row.id not in waiting]
    if waiting:
        connection.execute(sa.update(Worker).where(Worker.id.in_(waiting)).values(replica_id=NOWHERE, heard_ms=now_ms))
    if done:
        connection.execute(sa.delete(Worker).where(Worker.id.in_(done)))
    connection.execute(sa.delete(Worker).where(Worker.replica_id == NOWHERE, Worker.heard_ms < now_ms - _MEMORY_MS))


def _to_drain(connection: Connection, names: Sequence[str]) -> set[str]:
    """Returns those of the names that are to drain elsewhere, and forgets the ones that are nowhere."""
    found = connection.execute(sa.select(Worker.name).where(Worker.name.in_(names), Worker.draining)).scalars().all()
    connection.execute(sa.delete(Worker).where(Worker.replica_id == NOWHERE, Worker.name.in_(names)))
    return set(found)


def others_name(connection: Connection, replica_id: int | None, name: str, thumbprint: str) -> bool:
    """Tells whether a worker with another certificate has a stream at another replica under a name."""
    query = sa.select(Worker.id).where(Worker.name == name, Worker.thumbprint != thumbprint)
    elsewhere = query.where(Worker.replica_id.in_(_alive(connection)), Worker.replica_id != (replica_id or NOWHERE))
    return connection.execute(elsewhere.limit(1)).first() is not None


def drain_orders(connection: Connection, replica_id: int) -> DrainOrders:
    """Returns what operators want of a replica: whether it, and which of its workers, shall drain."""
    replica = connection.execute(sa.select(Replica.draining).where(Replica.id == replica_id)).scalar_one_or_none()
    names = connection.execute(
        sa.select(Worker.name).where(Worker.replica_id == replica_id, Worker.draining).order_by(Worker.name)
    )
    return DrainOrders(bool(replica), list(names.scalars()))


def drain_replica(connection: Connection, actor: str, replica_id: int) -> None:
    """Writes down that a replica shall drain. Raises ReplicaNotFound."""
    alive = Replica.until_ms >= database_now_ms(connection)
    if not connection.execute(sa.update(Replica).where(Replica.id == replica_id, alive).values(draining=True)).rowcount:
        raise ReplicaNotFound(replica=str(replica_id))
    audit.record(connection, actor, "DrainReplica", f"replicas/{replica_id}")


def drain_worker(connection: Connection, actor: str, name: str) -> None:
    """Writes down that a worker shall drain. Raises WorkerNotFound."""
    if not connection.execute(
        sa.update(Worker).where(Worker.name == name, Worker.replica_id.in_(_alive(connection))).values(draining=True)
    ).rowcount:
        raise WorkerNotFound(worker=name)
    audit.record(connection, actor, "DrainWorker", f"workers/{name}")


def list_workers(connection: Connection) -> Sequence[Any]:
    """Returns the rows of the workers with streams at replicas that live, by name."""
    query = sa.select(Worker.__table__).where(Worker.replica_id.in_(_alive(connection)))
    return connection.execute(query.order_by(Worker.name, Worker.id)).all()


@dataclass(frozen=True, slots=True)
class ReplicaFigures:
    """A replica: its row, the leases that it has given out, and the workers with a stream at it."""

    row: Any
    tasks_running: int
    workers: int


def list_replicas(connection: Connection) -> list[ReplicaFigures]:
    """Returns the replicas that live, by id."""
    alive = Replica.until_ms >= database_now_ms(connection)
    rows = connection.execute(sa.select(Replica.__table__).where(alive).order_by(Replica.id)).all()
    tasks = _by_replica(connection, sa.select(Task.replica_id, sa.func.count().label("number")).where(_RUNNING))
    workers = _by_replica(connection, sa.select(Worker.replica_id, sa.func.count().label("number")))
    return [ReplicaFigures(row, tasks.get(row.id, 0), workers.get(row.id, 0)) for row in rows]


def places(connection: Connection) -> tuple[int, int]:
    """Returns the interactive and the bulk places of the workers that take something."""
    row = connection.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(Worker.interactive_places), 0).label("interactive"),
            sa.func.coalesce(sa.func.sum(Worker.bulk_places), 0).label("bulk"),
        ).where(Worker.replica_id.in_(_alive(connection)), ~Worker.draining)
    ).one()
    return int(row.interactive), int(row.bulk)


def _alive(connection: Connection) -> Any:
    return sa.select(Replica.id).where(Replica.until_ms >= database_now_ms(connection))


def _by_replica(connection: Connection, query: Any) -> dict[int, int]:
    grouped = query.group_by(query.selected_columns[0])
    return {row.replica_id: row.number for row in connection.execute(grouped)}
