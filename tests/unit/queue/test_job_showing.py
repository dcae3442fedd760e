"""When a watcher is told of a job: by what its message says, whichever field says it."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_queue.servicer.watching import JobShowing

_OPERATIONS = frozenset(field.name for field in pb.Job.DESCRIPTOR.oneofs_by_name["operation"].fields)
_MOMENTS = frozenset({"elapsed", "average_bytes_per_second", "measure_time"})


def with_field(message: Any, field: FieldDescriptor) -> Any:
    """Sets one field to something that is not its default."""
    if field.message_type is not None and not field.is_repeated:
        getattr(message, field.name).SetInParent()
    elif field.message_type is not None:
        getattr(message, field.name).add()
    else:
        value: Any = "text" if field.type == FieldDescriptor.TYPE_STRING else 1
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


@pytest.mark.row("J5")
@pytest.mark.parametrize("name", [field.name for field in pb.Job.DESCRIPTOR.fields if field.name not in _OPERATIONS])
def test_whatever_a_job_says_anew_is_news(name: str) -> None:
    showing = JobShowing()
    message = with_field(pb.Job(), pb.Job.DESCRIPTOR.fields_by_name[name])
    assert showing.content(message) != showing.content(pb.Job())


@pytest.mark.row("J5")
@pytest.mark.parametrize("name", [field.name for field in pb.JobProgress.DESCRIPTOR.fields])
def test_of_its_progress_all_is_news_but_the_moment(name: str) -> None:
    showing = JobShowing()
    before = pb.Job(progress=pb.JobProgress())
    after = pb.Job(progress=with_field(pb.JobProgress(), pb.JobProgress.DESCRIPTOR.fields_by_name[name]))
    assert (showing.content(after) == showing.content(before)) == (name in _MOMENTS)
