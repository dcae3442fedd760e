"""Replicas' rows, the keys they sign lease tokens with, and the workers whose streams are open at them."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import JobProgress, Replica, SigningKey, Task
from wherry_queue.states import TaskState
from wherry_queue.store import workers


def renew_replica(connection: Connection, replica_id: int | None, ttl_ms: int, *, version: str = "") -> int:
    """Extends a replica's row, or makes one; returns its id. An id that has gone (it was reaped) comes back anew."""
    now_ms = database_now_ms(connection)
    until_ms = now_ms + ttl_ms
    if replica_id is not None:
        found = connection.execute(
            sa.update(Replica).where(Replica.id == replica_id).values(until_ms=until_ms).returning(Replica.id)
        ).scalar_one_or_none()
        if found is not None:
            return int(found)
    values = {"until_ms": until_ms, "started_ms": now_ms, "version": version}
    return int(connection.execute(sa.insert(Replica).values(values).returning(Replica.id)).scalar_one())


def retire_replica(connection: Connection, replica_id: int) -> None:
    """Lets a replica's row expire now: it ends, and its workers go on elsewhere. Its leases wait for them one TTL."""
    now_ms = database_now_ms(connection)
    connection.execute(sa.update(Replica).where(Replica.id == replica_id).values(until_ms=now_ms))


def dead_replicas(connection: Connection, grace_ms: int) -> list[int]:
    """Returns replicas whose rows have been expired for `grace_ms`, in which their workers could come elsewhere."""
    limit_ms = database_now_ms(connection) - grace_ms
    return list(connection.execute(sa.select(Replica.id).where(Replica.until_ms < limit_ms)).scalars())


def forget_replica(connection: Connection, replica_id: int) -> None:
    """Deletes a dead replica's row, once nothing runs in its name."""
    # A lease that is being committed holds the row: it is waited for, and then seen.
    connection.execute(sa.select(Replica.id).where(Replica.id == replica_id).with_for_update()).all()
    running = sa.select(Task.id).where(Task.replica_id == replica_id, Task.state == TaskState.RUNNING).exists()
    connection.execute(sa.delete(Replica).where(Replica.id == replica_id, ~running))
    connection.execute(sa.delete(JobProgress).where(JobProgress.replica_id == replica_id))
    workers.forget_workers(connection, replica_id)


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A public key of lease tokens."""

    kid: str
    public_key: bytes
    expires_ms: int


def publish_key(connection: Connection, kid: str, public_key: bytes, lifetime_ms: int) -> None:
    """Publishes a key, and forgets those that have expired."""
    now_ms = database_now_ms(connection)
    connection.execute(sa.delete(SigningKey).where(SigningKey.expires_ms < now_ms))
    connection.execute(sa.insert(SigningKey).values(kid=kid, public_key=public_key, expires_ms=now_ms + lifetime_ms))


def published_keys(connection: Connection) -> list[PublishedKey]:
    """Returns the keys that may sign now."""
    now_ms = database_now_ms(connection)
    rows = connection.execute(sa.select(SigningKey.__table__).where(SigningKey.expires_ms >= now_ms))
    return [PublishedKey(row.kid, row.public_key, row.expires_ms) for row in rows]
