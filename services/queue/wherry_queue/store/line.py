"""The line of a user's bulk jobs that wait for their turn: what is the place of each."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from wherry_queue.models import Lane
from wherry_queue.states import WorkClass

PLACES = 10_000
"""So far the place among one's own jobs is told."""
IN_LINE = (Lane.work_class == WorkClass.BULK, sa.text("pending > 0 and hold = 0"))
"""Of a lane; the literals are those of its index."""


def line_of(user_id: Any) -> sa.Select[tuple[int, int]]:
    """Returns the query for the jobs in a user's line and their places, from 1."""
    return (
        sa.select(Lane.job_id, sa.func.row_number().over(order_by=(Lane.rank, Lane.id)).label("place"))
        .where(Lane.user_id == user_id, *IN_LINE)
        .order_by(Lane.rank, Lane.id)
        .limit(PLACES)
    )
