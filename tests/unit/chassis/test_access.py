from __future__ import annotations

import importlib.resources

import pydantic
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from wherry_chassis.access import ROLES, build_table, shipped_table
from wherry_chassis.buildout import Access
from wherry_chassis.errors import AccessDenied, DomainError, TokenMissing
from wherry_chassis.identity import Peer, UserClaims

_USER = UserClaims("users/alice", "session-1", 0)
_PARTIAL = "every RPC x every role end to end"


def _rpcs() -> set[str]:
    """Returns every RPC there is: those of the contracts' descriptor set, health and reflection."""
    contracts = descriptor_pb2.FileDescriptorSet.FromString(
        importlib.resources.files("wherry").joinpath("contracts.binpb").read_bytes()
    )
    ours = {
        f"{file.package}.{service.name}/{method.name}"
        for file in contracts.file
        for service in file.service
        for method in service.method
    }
    standard = {
        f"{service.full_name}/{method.name}"
        for module in (health_pb2, reflection_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    return ours | standard


def _peer(*roles: str) -> Peer:
    return Peer("/O=Wherry test/CN=somebody", "00", frozenset(roles))


@pytest.mark.row("A1", missing=_PARTIAL)
def test_the_access_table_names_every_rpc_and_none_that_there_is_not() -> None:
    rpcs = _rpcs()
    assert len(rpcs) > 30
    assert set(shipped_table()) == rpcs


@pytest.mark.row("A1", missing=_PARTIAL)
def test_every_line_of_the_table_names_somebody_and_only_known_roles() -> None:
    for rpc, roles in shipped_table().items():
        assert roles, rpc
        assert roles <= ROLES, rpc


@pytest.mark.row("A1", missing=_PARTIAL)
@pytest.mark.parametrize("rpc", sorted(shipped_table()))
def test_the_table_lets_through_whom_the_line_names_and_nobody_else(rpc: str) -> None:
    table = build_table(Access(roles={}))
    allowed = shipped_table()[rpc]
    for role in ROLES - {"anyone", "user", "owner"}:
        if {role, "anyone"} & allowed:
            table.check(rpc, _peer(role), None)
        else:
            with pytest.raises((AccessDenied, TokenMissing)):
                table.check(rpc, _peer(role), None)
    if allowed & {"anyone", "user", "owner"}:
        table.check(rpc, _peer(), _USER)
    else:
        with pytest.raises(AccessDenied):
            table.check(rpc, _peer(), _USER)


@pytest.mark.row("A1", missing=_PARTIAL)
def test_what_nobody_is_named_for_is_refused_to_all() -> None:
    table = build_table(Access(roles={}, rpc={"wherry.queue.v1.JobService/GetJob": []}))
    for rpc in ("wherry.queue.v1.JobService/GetJob", "wherry.queue.v1.JobService/NotThere"):
        with pytest.raises(AccessDenied):
            table.check(rpc, _peer(*ROLES), _USER)


@pytest.mark.parametrize(
    ("role", "error"), [((), TokenMissing), (("worker",), TokenMissing), (("operator",), TokenMissing)]
)
def test_where_a_user_is_needed_the_answer_is_to_sign_in(role: tuple[str, ...], error: type[DomainError]) -> None:
    with pytest.raises(error):
        build_table(Access(roles={})).check("wherry.queue.v1.JobService/ListJobs", _peer(*role), None)


def test_a_deployment_replaces_single_lines() -> None:
    line = "wherry.queue.v1.JobService/GetJob"
    table = build_table(Access(roles={}, rpc={line: ["operator"]}))
    table.check(line, _peer("operator"), None)
    with pytest.raises(AccessDenied):
        table.check(line, _peer(), _USER)
    assert table.rpcs["wherry.queue.v1.JobService/ListJobs"] == frozenset({"user"})


def test_roles_belong_to_subjects_however_they_are_written() -> None:
    table = build_table(Access(roles={"queue": ["CN=host/q,O=Wherry"], "worker": ["/O=Wherry/CN=host/q"]}))
    assert table.roles_of("/O=Wherry/CN=host/q") == {"queue", "worker"}
    assert table.roles_of("/O=Wherry/CN=other") == frozenset()


@pytest.mark.row("A1", missing=_PARTIAL)
@pytest.mark.parametrize(
    "lines",
    [
        {"roles": {"anyone": []}},
        {"roles": {"boss": []}},
        {"roles": {}, "rpc": {"wherry.queue.v1.JobService/GetJob": ["boss"]}},
        {"roles": {}, "rpc": {"wherry.queue.v1.JobService/GetJbo": ["user"]}},
    ],
)
def test_unknown_roles_and_rpcs_are_refused(lines: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError, match="unknown"):
        Access.model_validate(lines)
