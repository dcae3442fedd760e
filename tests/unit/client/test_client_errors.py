"""What an answer of a service becomes: a text, an advice, an exit status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from wherry.type.v1 import entry_pb2
from wherry_chassis.errors import FieldProblem
from wherry_chassis.status import bad_request, make_status
from wherry_client.errors import UnavailableError, WherryError, from_failure, from_rpc
from wherry_client.exits import EPILOG, MEANINGS, ExitStatus

LATER_OF_C3 = "globs"


class Failed(grpc.RpcError, grpc.Call):
    """A call that failed, as the library hands it over."""

    def __init__(self, status: grpc.Status) -> None:
        super().__init__()
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status.code

    def details(self) -> str:
        return self._status.details

    def trailing_metadata(self) -> Any:
        return self._status.trailing_metadata or ()

    def initial_metadata(self) -> Any:
        return ()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False

    def cancel(self) -> bool:
        return False

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0


def answered(
    code: grpc.StatusCode, reason: str = "", message: str = "", *, fields: dict[str, str] | None = None, **metadata: str
) -> WherryError:
    details: list[Any] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="wherry", metadata=metadata))
    if fields:
        details.append(bad_request([FieldProblem(name, text) for name, text in fields.items()]))
    return from_rpc(Failed(make_status(code, message, details)), "wherry.example.org:443")


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING", 4),
        (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", 4),
        (grpc.StatusCode.UNAUTHENTICATED, "SESSION_ENDED", 4),
        (grpc.StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID", 4),
        (grpc.StatusCode.UNAUTHENTICATED, "SIGN_IN_REFUSED", 1),
        (grpc.StatusCode.FAILED_PRECONDITION, "SITE_SIGN_IN_REQUIRED", 4),
        (grpc.StatusCode.FAILED_PRECONDITION, "SITE_SESSION_EXPIRED", 4),
        (grpc.StatusCode.FAILED_PRECONDITION, "SITE_SIGN_IN_REFUSED", 1),
        (grpc.StatusCode.FAILED_PRECONDITION, "SITE_NOT_TRUSTED", 1),
        (grpc.StatusCode.UNAVAILABLE, "SITE_UNREACHABLE", 5),
        (grpc.StatusCode.UNAVAILABLE, "NO_WORKER", 5),
        (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE", 5),
        (grpc.StatusCode.UNAVAILABLE, "", 5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "SIGN_IN_RATE_LIMITED", 5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "SIGN_IN_THROTTLED", 1),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 5),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", 5),
        (grpc.StatusCode.UNKNOWN, "", 5),
        (grpc.StatusCode.INTERNAL, "", 5),
        (grpc.StatusCode.INTERNAL, "INTERNAL", 1),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", 2),
        (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND", 1),
        (grpc.StatusCode.PERMISSION_DENIED, "ACCESS_DENIED", 1),
        (grpc.StatusCode.ABORTED, "ETAG_MISMATCH", 1),
        (grpc.StatusCode.UNIMPLEMENTED, "", 1),
        (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND", 1),
    ],
)
def test_each_answer_has_its_exit_status(code: grpc.StatusCode, reason: str, status: int) -> None:
    assert answered(code, reason, "a message").status == status


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_needed_sign_in_names_the_site_and_the_command() -> None:
    error = answered(
        grpc.StatusCode.FAILED_PRECONDITION, "SITE_SIGN_IN_REQUIRED", "Sign in first.", site="sites/site-b"
    )
    assert (error.site, error.advice) == ("site-b", "Sign in: wherry site login site-b")


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_unfit_fields_are_all_named() -> None:
    error = answered(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", "bad", fields={"job.priority": "too high", "email": "no @"}
    )
    assert error.message == "job.priority: too high; email: no @"


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_fault_on_the_services_side_has_its_incident() -> None:
    error = answered(grpc.StatusCode.INTERNAL, "INTERNAL", "Something went wrong.", incident="7f3a")
    assert "7f3a" in error.message


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_gateway_that_cannot_be_reached_is_named_with_its_address_and_not_in_the_librarys_words() -> None:
    error = answered(grpc.StatusCode.UNAVAILABLE, message="failed to connect to all addresses; last error: …")
    assert error.message == "The gateway at wherry.example.org:443 cannot be reached."


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_service_that_is_away_behind_the_gateway_is_told_from_a_lost_gateway() -> None:
    error = answered(grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE", "not reachable", service="queue")
    assert error.message == "The queue service behind the gateway at wherry.example.org:443 is away at the moment."
    assert "jobs that were accepted are kept" in error.advice


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    ("reason", "lost"), [("", True), ("SERVICE_UNAVAILABLE", True), ("NO_WORKER", False), ("SITE_UNREACHABLE", False)]
)
def test_what_a_service_has_not_said_itself_was_lost_on_the_way(reason: str, lost: bool) -> None:
    error = answered(grpc.StatusCode.UNAVAILABLE, reason)
    assert isinstance(error, UnavailableError)
    assert error.was_lost == lost


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    ("reason", "retryable", "status"),
    [
        ("SOURCE_SESSION_EXPIRED", False, 4),
        ("SITE_SESSION_EXPIRED", False, 4),
        ("SOURCE_UNREACHABLE", True, 5),
        ("SOURCE_NOT_FOUND", False, 1),
        ("SOURCE_PERMISSION_DENIED", False, 1),
    ],
)
def test_a_failure_at_a_site_has_its_exit_status(reason: str, retryable: bool, status: int) -> None:
    failure = entry_pb2.Failure(reason=reason, message="m", help="h", retryable=retryable)
    assert from_failure(failure, "site-a").status == status


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_the_exit_statuses_are_those_documented_and_help_tells_them() -> None:
    assert {status.name: status.value for status in ExitStatus} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "PARTLY_FAILED": 3,
        "SIGN_IN_NEEDED": 4,
        "UNAVAILABLE": 5,
        "INTERRUPTED": 130,
    }
    assert set(MEANINGS) == set(ExitStatus)
    for status in ExitStatus:
        assert f"{status.value} {MEANINGS[status]}" in EPILOG
