"""What operators set: limits of links, sites and users, and users' weights in the fair share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.limiting import SubjectNotFound, limit_in_words
from wherry_queue.models import Link, Site, User
from wherry_queue.store import audit, naming
from wherry_queue.store.limits import Defaults, Kind, set_cap, set_ones


@dataclass(frozen=True, slots=True)
class Subject:
    """What a limit is about.

    Attributes:
        name: `users/{user}` or `sites/{site}`; of a link, the source's.
        destination: of a link: `sites/{site}`.
    """

    kind: Kind
    name: str
    destination: str = ""

    def __str__(self) -> str:
        """Returns it as it stands in the audit log."""
        match self.kind:
            case Kind.LINK:
                return f"{self.name} to {self.destination}"
            case Kind.SITE_OUT:
                return f"{self.name} (out)"
            case Kind.SITE_IN:
                return f"{self.name} (in)"
            case Kind.USER:
                return self.name


@dataclass(frozen=True, slots=True)
class SetLimit:
    """A limit that an operator has set.

    Attributes:
        cap: None: the deployment's default; below 0: no limit.
        in_use: running tasks that are counted against it.
    """

    subject: Subject
    cap: int | None
    in_use: int


def set_limit(connection: Connection, actor: str, subject: Subject, cap: int | None, defaults: Defaults) -> SetLimit:
    """Sets a limit (`limiting.UNLIMITED`: none; None: the deployment's). What runs already counts from now on.

    A site or link that no work has named yet may be limited all the same, before the first work comes.

    Raises:
        SubjectNotFound: there is no such user here.
    """
    row = set_cap(connection, subject.kind, _row_id(connection, subject), cap, defaults)
    audit.record(connection, actor, "SetLimit", str(subject), limit_in_words(cap))
    return SetLimit(subject, row.cap, row.in_use)


def set_weight(connection: Connection, actor: str, user: str, weight: float) -> None:
    """Sets how large a user's share is, against 1 of everybody else, from now on. Raises SubjectNotFound."""
    if not connection.execute(sa.update(User).where(User.name == user).values(weight=weight)).rowcount:
        raise SubjectNotFound(subject=user)
    audit.record(connection, actor, "SetWeight", user, f"{weight:g}")


def limits_set(connection: Connection) -> list[SetLimit]:
    """Returns the limits that operators have set: users', sites' and links', each by name."""
    rows = set_ones(connection)
    names = {kind: _names(connection, kind, [row.row_id for row in rows if row.kind is kind]) for kind in Kind}
    found = [SetLimit(names[row.kind][row.row_id], row.cap, row.in_use) for row in rows]
    order = list(Kind)
    return sorted(found, key=lambda one: (order.index(one.subject.kind), one.subject.name, one.subject.destination))


def _row_id(connection: Connection, subject: Subject) -> int:
    match subject.kind:
        case Kind.USER:
            found = connection.execute(sa.select(User.id).where(User.name == subject.name)).scalar_one_or_none()
            if found is None:
                raise SubjectNotFound(subject=subject.name)
            return int(found)
        case Kind.SITE_IN | Kind.SITE_OUT:
            return naming.made(connection, Site, subject.name)
        case Kind.LINK:
            return naming.made_link(connection, subject.name, subject.destination)


def _names(connection: Connection, kind: Kind, ids: Sequence[int]) -> dict[int, Subject]:
    if not ids:
        return {}
    if kind is Kind.LINK:
        source, destination = sa.orm.aliased(Site), sa.orm.aliased(Site)
        rows = connection.execute(
            sa.select(Link.id, source.name, destination.name.label("destination"))
            .join(source, source.id == Link.source_id)
            .join(destination, destination.id == Link.destination_id)
            .where(Link.id.in_(ids))
        )
        return {row.id: Subject(kind, row.name, row.destination) for row in rows}
    table: Any = User if kind is Kind.USER else Site
    rows = connection.execute(sa.select(table.id, table.name).where(table.id.in_(ids)))
    return {row.id: Subject(kind, row.name) for row in rows}
