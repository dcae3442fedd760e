"""Rows of sites and links by their names, made where work or an operator names them for the first time."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from wherry_queue.models import Link, Site, User


def made(connection: Connection, table: type[User] | type[Site], name: str) -> int:
    """Returns the id of a user's or site's row, made if it is new."""
    return _made(connection, table, {"name": name})


def made_link(connection: Connection, source: str, destination: str) -> int:
    """Returns the id of a link's row, made with its sites' if it is new."""
    # In one order: else two who name the same new sites the other way round wait for each other.
    sites = {name: made(connection, Site, name) for name in sorted({source, destination})}
    return _made(connection, Link, {"source_id": sites[source], "destination_id": sites[destination]})


def _made(connection: Connection, table: type[User] | type[Site] | type[Link], values: dict[str, Any]) -> int:
    query = sa.select(table.id).filter_by(**values)
    found = connection.execute(query).scalar_one_or_none()
    if found is not None:
        return int(found)
    try:
        with connection.begin_nested():
            return int(connection.execute(sa.insert(table).values(**values).returning(table.id)).scalar_one())
    except IntegrityError:
        return int(connection.execute(query).scalar_one())  # somebody else was first
