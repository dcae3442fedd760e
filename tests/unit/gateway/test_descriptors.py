from __future__ import annotations

from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from wherry_chassis.access import ANYONE, shipped_table
from wherry_gateway import descriptors
from wherry_gateway.descriptors import UnusableContracts

_HTTP: Any = annotations_pb2.http
_SERVICE_COMMENTS = descriptor_pb2.FileDescriptorProto.SERVICE_FIELD_NUMBER


def annotated(**rule: str) -> descriptor_pb2.FileDescriptorSet:
    """A contract with one method that has this http annotation."""
    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name="x.proto", package="x.v1")
    method = file.service.add(name="S").method.add(name="M", input_type=".x.v1.In", output_type=".x.v1.Out")
    http = method.options.Extensions[_HTTP]
    for name, value in rule.items():
        setattr(http, name, value)
    return files


def services(files: descriptor_pb2.FileDescriptorSet) -> set[str]:
    return {f"{file.package}.{service.name}" for file in files.file for service in file.service}


@pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")
def test_a_method_for_users_is_told_with_everything_that_the_gateway_needs() -> None:
    found = {method.path: method for method in descriptors.user_facing()}
    watch = found["/wherry.queue.v1.JobService/WatchJob"]
    assert (watch.service, watch.name) == ("wherry.queue.v1.JobService", "WatchJob")
    assert (watch.http_method, watch.http_path, watch.body) == ("GET", "/v1/{name=jobs/*}:watch", "")
    assert (watch.server_streaming, watch.client_streaming, watch.public) == (True, False, False)
    assert (watch.request, watch.response) == ("wherry.queue.v1.WatchJobRequest", "wherry.queue.v1.WatchJobResponse")
    create = found["/wherry.user.v1.UserService/CreateUser"]
    assert (create.http_method, create.body, create.public) == ("POST", "*", True)


@pytest.mark.row("A1")
def test_what_only_services_and_workers_may_call_is_not_for_users() -> None:
    opened = {"user", "owner", ANYONE}
    for method in descriptors.user_facing():
        assert shipped_table()[method.path.removeprefix("/")] <= opened, method.path


@pytest.mark.row("A1")
def test_a_deployment_that_closes_registration_has_no_open_registration() -> None:
    closed = {**shipped_table(), "wherry.user.v1.UserService/CreateUser": frozenset({"operator"})}
    public = {method.name for method in descriptors.methods_under(closed) if method.public}
    assert "CreateUser" not in public
    assert "CreateSession" in public


@pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")
def test_the_public_descriptor_set_holds_the_services_for_users_and_no_other() -> None:
    assert services(descriptors.public_set()) == {method.service for method in descriptors.user_facing()}
    left_out = services(descriptors.contracts()) - services(descriptors.public_set())
    assert any("worker" in roles for name, roles in shipped_table().items() if name.split("/")[0] in left_out)


@pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")
@pytest.mark.parametrize("comments", [True, False])
def test_the_public_descriptor_set_can_be_loaded_and_knows_error_details(comments: bool) -> None:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptors.public_set(comments=comments).file:
        pool.AddSerializedFile(file.SerializeToString())  # each behind what it imports
    for method in descriptors.user_facing():
        assert pool.FindMethodByName(f"{method.service}.{method.name}").input_type.full_name == method.request
    assert pool.FindMessageTypeByName("google.rpc.ErrorInfo")


@pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")
def test_comments_of_services_stay_with_their_services_when_others_are_left_out() -> None:
    whole = {file.name: file for file in descriptors.contracts().file}
    shared = [file for file in descriptors.public_set().file if len(file.service) < len(whole[file.name].service)]
    assert shared
    for file in shared:
        assert comments_of(file).items() <= comments_of(whole[file.name]).items()
        assert len(comments_of(file)) == len(file.service)


def comments_of(file: descriptor_pb2.FileDescriptorProto) -> dict[str, str]:
    return {
        file.service[location.path[1]].name: location.leading_comments
        for location in file.source_code_info.location
        if len(location.path) == 2 and location.path[0] == _SERVICE_COMMENTS
    }


@pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")
def test_without_comments_there_is_no_text_of_the_sources() -> None:
    assert not any(file.HasField("source_code_info") for file in descriptors.public_set(comments=False).file)


@pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")
def test_an_annotation_that_envoy_cannot_serve_is_refused() -> None:
    (method,) = descriptors.methods_for_users(annotated(get="/v1/things"))
    assert method.http_path == "/v1/things"
    for rule in ({"get": "/v1/things", "response_body": "thing"}, {"body": "*"}):
        with pytest.raises(UnusableContracts, match=r"x\.v1\.S\.M"):
            list(descriptors.methods_for_users(annotated(**rule)))
