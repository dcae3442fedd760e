from __future__ import annotations

from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from wherry_chassis.errors import DomainError, FieldProblem, InvalidFields, Kind
from wherry_chassis.status import GRPC_CODES, error_status, grpc_status, incident_status

_STATUS_KEY = "grpc-status-details-bin"


class _Missing(DomainError):
    """There is no site {site}{absent}."""

    kind = Kind.NOT_FOUND
    reason = "SITE_NOT_FOUND"


def _details(status: status_pb2.Status) -> status_pb2.Status:
    """What a caller gets: the status out of the trailer that gRPC sends."""
    sent: Any = grpc_status(status)  # opaque in the stubs
    return status_pb2.Status.FromString(dict(sent.trailing_metadata)[_STATUS_KEY])


def _info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert _details(status).details[0].Unpack(info)
    return info


def test_every_kind_has_the_code_of_its_name() -> None:
    assert {kind.value: code.name for kind, code in GRPC_CODES.items()} == {kind.value: kind.value for kind in Kind}


def test_a_docstring_is_the_message_and_the_arguments_are_metadata() -> None:
    error = _Missing(site="sites/a")
    assert str(error) == "There is no site sites/a."
    status = error_status(error)
    assert _details(status).message == "There is no site sites/a."
    info = _info(status)
    assert (info.reason, info.domain, dict(info.metadata)) == ("SITE_NOT_FOUND", "wherry", {"site": "sites/a"})


def test_unfit_fields_are_named_in_the_standard_detail() -> None:
    status = error_status(InvalidFields(FieldProblem("site.port", "too large"), FieldProblem("site.host", "empty")))
    bad = error_details_pb2.BadRequest()
    assert _details(status).details[1].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("site.port", "too large"),
        ("site.host", "empty"),
    ]
    assert _info(status).reason == "INVALID_FIELDS"
    assert _details(status).message == "site.port: too large; site.host: empty"


def test_an_incident_tells_its_id_and_nothing_else() -> None:
    status = incident_status("0123abcd")
    assert _info(status).metadata == {"incident": "0123abcd"}
    assert "0123abcd" in _details(status).message


@pytest.mark.parametrize("text", ["x" * 20000, "é" * 20000, "\N{FERRY}" * 20000, "\n" * 20000])
def test_a_status_always_fits_into_trailers(text: str) -> None:
    problems = [FieldProblem(f"job.copy.items[{index}].source.path", text) for index in range(1000)]
    for error in (InvalidFields(*problems), _Missing(site=text, absent=text)):
        size_bytes = len(_details(error_status(error)).SerializeToString()) * 4 / 3
        assert size_bytes < 7000
