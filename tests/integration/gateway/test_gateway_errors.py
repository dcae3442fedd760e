"""Errors: a service's arrive whole in every form, and requests that cannot be read are told what is wrong."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from wherry.queue.v1 import job_service_pb2
from wherry_chassis.errors import DomainError, FieldProblem, InvalidFields, Kind
from wherry_chassis.status import error_status, grpc_status
from wherry_testing import gateway_callers
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import KINDS
from wherry_testing.waiting import PATIENCE_S

_GET_JOB = "/wherry.queue.v1.JobService/GetJob"
_CREATE_JOB = "/wherry.queue.v1.JobService/CreateJob"
_HTTP_OF = {
    Kind.INVALID_ARGUMENT: 400,
    Kind.NOT_FOUND: 404,
    Kind.ALREADY_EXISTS: 409,
    Kind.PERMISSION_DENIED: 403,
    Kind.UNAUTHENTICATED: 401,
    Kind.FAILED_PRECONDITION: 400,
    Kind.ABORTED: 409,
    Kind.RESOURCE_EXHAUSTED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.DEADLINE_EXCEEDED: 504,
}
_MEBIBYTE = 1 << 20


def _failing(status: status_pb2.Status) -> Any:
    def answer(messages: list[bytes], context: Any) -> Any:
        context.abort_with_status(grpc_status(status))

    return answer


def _ask(edge: Edge, kind: gateway_callers.Kind) -> gateway_callers.Answer:
    if kind == "json":
        return edge.json("GET", "/v1/jobs/x", headers=edge.bearer())
    return edge.post(kind, _GET_JOB, edge.bearer())


@pytest.mark.parametrize("way", KINDS)
@pytest.mark.parametrize("kind", Kind)
def test_an_error_of_a_service_arrives_with_code_words_and_reason(
    edge: Edge, kind: Kind, way: gateway_callers.Kind
) -> None:
    class Failed(DomainError):
        """Größe {size} is 100 % wrong."""

    Failed.kind, Failed.reason = kind, "OF_A_TEST"
    status = error_status(Failed(size="5 €"))
    edge.answer(_GET_JOB, _failing(status))
    answer = _ask(edge, way)
    assert answer.refusal == (kind.value, "OF_A_TEST")
    assert answer.details == status
    assert answer.message == "Größe 5 € is 100 % wrong."
    assert dict(answer.info.metadata) == {"size": "5 €"}
    if way == "json":
        assert (answer.http_status, answer.header("content-type")) == (_HTTP_OF[kind], "application/json")


@pytest.mark.parametrize("way", KINDS)
def test_unfit_fields_are_named_in_every_form(edge: Edge, way: gateway_callers.Kind) -> None:
    problems = [FieldProblem("job.priority", "from 0 to 9"), FieldProblem("request_id", "too long")]
    status = error_status(InvalidFields(*problems))
    edge.answer(_GET_JOB, _failing(status))
    answer = _ask(edge, way)
    assert answer.info.reason == "INVALID_FIELDS"
    assert answer.details == status
    found = error_details_pb2.BadRequest()
    assert any(detail.Unpack(found) for detail in answer.details.details)
    assert [violation.field for violation in found.field_violations] == ["job.priority", "request_id"]


@pytest.mark.parametrize("way", KINDS)
def test_a_large_error_arrives(edge: Edge, way: gateway_callers.Kind) -> None:
    """As large as the chassis lets one become, of characters that become three each."""
    problems = [FieldProblem("é" * 80, "é" * 80) for _ in range(1000)]
    status = error_status(InvalidFields(*problems))
    edge.answer(_GET_JOB, _failing(status))
    assert _ask(edge, way).details == status


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", ""),
        (b"[]", ""),
        (b"hello", "hello"),
        (b'{"priority": "often"}', "priority"),
        (b'{"priority": 3.5}', "priority"),
        (b'{"priority": 12345678901}', "priority"),
        (b'{"copy": {"recursive": "perhaps"}}', "recursive"),
        (b'{"copy": {"items": [{"source": 7}]}}', "source"),
        (b'{"createTime": "yesterday"}', "create_time"),
        (b'{"state": "JOB_STATE_UNHEARD_OF"}', "state"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_what_is_wrong(edge: Edge, body: bytes, word: str) -> None:
    headers = {**edge.bearer(), "content-type": "application/json"}
    answer = edge.http.ask("POST", "/v1/jobs", body, headers)
    assert answer.refusal == ("INVALID_ARGUMENT", "MALFORMED_REQUEST"), answer
    assert (answer.http_status, answer.header("content-type")) == (400, "application/json")
    assert word in answer.message
    assert answer.message
    assert edge.reached() == []


@pytest.mark.parametrize(
    ("query", "word"),
    [("pageSise=3", "pageSise"), ("page_size=few", "few"), ("page_size=99999999999", "99999999999"), ("x.y=1", "x")],
)
def test_a_parameter_that_does_not_exist_or_fit_is_named(edge: Edge, query: str, word: str) -> None:
    answer = edge.json("GET", f"/v1/jobs?{query}", headers=edge.bearer())
    assert answer.refusal == ("INVALID_ARGUMENT", "MALFORMED_REQUEST"), answer
    assert answer.http_status == 400
    assert word in answer.message
    assert edge.reached() == []


def test_parameters_may_be_written_as_in_the_contract_or_as_in_json(edge: Edge) -> None:
    for query in ("page_size=3&page_token=a%20b", "pageSize=3&pageToken=a%20b"):
        edge.forget()
        assert edge.json("GET", f"/v1/jobs?{query}", headers=edge.bearer()).code == "OK"
        (call,) = edge.reached()
        expected = job_service_pb2.ListJobsRequest(page_size=3, page_token="a b")
        assert job_service_pb2.ListJobsRequest.FromString(call.messages[0]) == expected


def test_names_and_values_of_any_characters_come_through(edge: Edge) -> None:
    path = "/data/ä €\u2028\"'\\ %2F+&?#"
    body = {"remove": {"targets": [{"site": "sites/a", "path": path}]}}
    assert edge.json("POST", "/v1/jobs", body, edge.bearer()).code == "OK"
    (call,) = edge.reached()
    request = job_service_pb2.CreateJobRequest.FromString(call.messages[0])
    assert request.job.remove.targets[0].path == path


def test_all_fields_of_an_answer_are_printed_though_they_have_their_default(edge: Edge) -> None:
    edge.answer(_GET_JOB, job_service_pb2.Job(name="jobs/x", progress=job_service_pb2.JobProgress(bytes_total=1 << 40)))
    body = edge.json("GET", "/v1/jobs/x", headers=edge.bearer()).json()
    assert body["progress"]["bytesTotal"] == str(1 << 40)
    assert body["progress"]["filesDone"] == "0"
    assert body["state"] == "JOB_STATE_UNSPECIFIED"


@pytest.mark.parametrize("way", KINDS)
def test_a_request_above_four_mebibytes_is_refused(edge: Edge, way: gateway_callers.Kind) -> None:
    request = job_service_pb2.CreateJobRequest()
    request.job.remove.targets.add(site="sites/a", path="x" * (5 * _MEBIBYTE))
    if way == "json":
        body = {"remove": {"targets": [{"site": "sites/a", "path": "x" * (5 * _MEBIBYTE)}]}}
        answer = edge.json("POST", "/v1/jobs", body, edge.bearer())
        assert answer.http_status == 413
    elif way == "grpc-web":
        answer = edge.grpc_web(_CREATE_JOB, request.SerializeToString(), edge.bearer())
    else:
        # A stream's messages are counted one by one, so the gateway leaves it to the service, whose library refuses.
        answer = edge.grpc(_CREATE_JOB, request.SerializeToString(), edge.bearer())
        assert answer.code == "RESOURCE_EXHAUSTED"
        return
    assert answer.refusal == ("INVALID_ARGUMENT", "REQUEST_TOO_LARGE")
    assert edge.reached() == []


@pytest.mark.parametrize("way", KINDS)
def test_a_request_just_below_four_mebibytes_comes_through(edge: Edge, way: gateway_callers.Kind) -> None:
    path = "x" * (4 * _MEBIBYTE - 500)
    request = job_service_pb2.CreateJobRequest()
    request.job.remove.targets.add(site="sites/a", path=path)
    if way == "json":
        body = {"remove": {"targets": [{"site": "sites/a", "path": path}]}}
        answer = edge.json("POST", "/v1/jobs", body, edge.bearer())
    elif way == "grpc-web":
        answer = edge.grpc_web(_CREATE_JOB, request.SerializeToString(), edge.bearer())
    else:
        answer = edge.grpc(_CREATE_JOB, request.SerializeToString(), edge.bearer())
    assert answer.code == "OK", answer.message
    (call,) = edge.reached()
    assert len(call.messages[0]) > 4 * _MEBIBYTE - 500


@pytest.mark.parametrize("way", KINDS)
def test_a_large_answer_comes_through(edge: Edge, way: gateway_callers.Kind) -> None:
    job = job_service_pb2.Job(name="jobs/x")
    for index in range(20_000):
        job.remove.targets.add(site="sites/a", path=f"/a/path/that/is/not/very/short/{index}")
    edge.answer(_GET_JOB, job)
    answer = _ask(edge, way)
    assert answer.code == "OK", answer.message
    if way == "json":
        assert len(answer.json()["remove"]["targets"]) == 20_000
    else:
        assert job_service_pb2.Job.FromString(answer.messages[0]) == job


@pytest.mark.parametrize(("way", "deadline_s"), [("grpc", PATIENCE_S), ("grpc-web", 20)])
def test_a_deadline_of_the_callers_reaches_the_service(
    edge: Edge, way: gateway_callers.Kind, deadline_s: float
) -> None:
    left_s: list[float] = []

    def answer(messages: list[bytes], context: Any) -> Any:
        left_s.append(context.time_remaining())
        return [b""]

    edge.answer(_GET_JOB, answer)
    if way == "grpc":
        edge.grpc(_GET_JOB, headers=edge.bearer())
    else:
        edge.grpc_web(_GET_JOB, headers={**edge.bearer(), "grpc-timeout": f"{deadline_s:.0f}S"})
    assert 0.75 * deadline_s < left_s[0] < 1.25 * deadline_s


def test_what_grpc_itself_says_is_an_error_in_json_too(edge: Edge) -> None:
    """An error without details, as the library of a service makes them."""

    def answer(messages: list[bytes], context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

    edge.answer(_GET_JOB, answer)
    answered = edge.json("GET", "/v1/jobs/x", headers=edge.bearer())
    assert (answered.http_status, answered.code, answered.message) == (501, "UNIMPLEMENTED", "not here")
