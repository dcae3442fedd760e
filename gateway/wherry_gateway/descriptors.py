"""The contracts as data: which methods are for users, and a descriptor set that holds these and no other service.

What a method is called, how JSON reaches it and who may call it is read from the descriptor set and the access table
that ship with Wherry; nothing is listed here.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2
from wherry_chassis.access import ANYONE, shipped_table

_ERROR_DETAILS = "google/rpc/error_details.proto"
_HTTP: Any = annotations_pb2.http  # the library types its extensions as bare descriptors
_SERVICES_OF_A_FILE = descriptor_pb2.FileDescriptorProto.SERVICE_FIELD_NUMBER


class UnusableContracts(Exception):
    """An http annotation says something that the gateway cannot offer."""


@dataclass(frozen=True)
class UserMethod:
    """A method that the gateway offers: one with an http annotation."""

    service: str
    """Full name, `wherry.queue.v1.JobService`."""
    name: str
    path: str
    """As gRPC writes it, `/wherry.queue.v1.JobService/GetJob`."""
    http_method: str
    """Upper-case."""
    http_path: str
    """The annotation's template, `/v1/{name=jobs/*}:watch`."""
    body: str
    """The request's field that is the HTTP body, `*` for the request itself, empty for no body."""
    public: bool
    """Whether anyone may call it, without a token."""
    client_streaming: bool
    server_streaming: bool
    request: str
    """Full name of the request's message."""
    response: str
    """Full name of the answer's message."""


@functools.cache
def contracts_bytes() -> bytes:
    """Returns the whole descriptor set that ships with Wherry, serialized, with comments."""
    return importlib.resources.files("wherry").joinpath("contracts.binpb").read_bytes()


def contracts() -> descriptor_pb2.FileDescriptorSet:
    """Returns the whole descriptor set, a copy of the caller's own."""
    return descriptor_pb2.FileDescriptorSet.FromString(contracts_bytes())


@functools.cache
def user_facing() -> tuple[UserMethod, ...]:
    """Returns the methods for users, in the contracts' order.

    Raises:
        UnusableContracts: an annotation cannot be offered by the gateway.
    """
    return tuple(methods_for_users(contracts()))


def methods_under(allowed: Mapping[str, frozenset[str]]) -> tuple[UserMethod, ...]:
    """Returns the methods for users with `public` as a deployment's access table has it. Raises as `user_facing`."""
    return tuple(
        dataclasses.replace(method, public=ANYONE in allowed.get(f"{method.service}/{method.name}", ()))
        for method in user_facing()
    )


def methods_for_users(files: descriptor_pb2.FileDescriptorSet) -> Iterator[UserMethod]:
    """Yields the methods of `files` that have an http annotation. Raises UnusableContracts as `user_facing` does."""
    for file in files.file:
        for service in file.service:
            full_name = f"{file.package}.{service.name}"
            for method in service.method:
                if method.options.HasExtension(_HTTP):
                    yield _user_method(full_name, method)


def public_set(*, comments: bool = True) -> descriptor_pb2.FileDescriptorSet:
    """Returns the contracts that users need: the files of the services for users with all that they import, and the
    details of errors. Services that are not for users are left out, also of files that hold both.

    Without `comments` it is a good deal smaller, and serves the gateway as well.
    """
    whole = contracts()
    offered = {method.service for method in user_facing()}
    by_name = {file.name: file for file in whole.file}
    roots = [file.name for file in whole.file if any(f"{file.package}.{it.name}" in offered for it in file.service)]
    needed = _with_imports([*roots, _ERROR_DETAILS], by_name)
    reduced = descriptor_pb2.FileDescriptorSet()
    for file in whole.file:  # the set's order: a file comes behind what it imports
        if file.name in needed:
            _keep_services(file, offered)
            if not comments:
                file.ClearField("source_code_info")
            reduced.file.append(file)
    return reduced


def _user_method(service: str, method: descriptor_pb2.MethodDescriptorProto) -> UserMethod:
    rule: http_pb2.HttpRule = method.options.Extensions[_HTTP]
    verb = rule.WhichOneof("pattern")
    if verb in (None, "custom") or rule.response_body or rule.additional_bindings:
        # Envoy refuses to start with `response_body`; one address for one method is a rule of ours.
        raise UnusableContracts(f"{service}.{method.name}: one of get, put, post, delete, patch; no response_body")
    return UserMethod(
        service=service,
        name=method.name,
        path=f"/{service}/{method.name}",
        http_method=verb.upper(),
        http_path=getattr(rule, verb),
        body=rule.body,
        public=ANYONE in shipped_table().get(f"{service}/{method.name}", frozenset()),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        request=method.input_type.removeprefix("."),
        response=method.output_type.removeprefix("."),
    )


def _with_imports(names: Iterable[str], files: dict[str, descriptor_pb2.FileDescriptorProto]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(files[name].dependency)
    return found


def _keep_services(file: descriptor_pb2.FileDescriptorProto, offered: set[str]) -> None:
    kept = [index for index, it in enumerate(file.service) if f"{file.package}.{it.name}" in offered]
    services = [file.service[index] for index in kept]
    moved = {old: new for new, old in enumerate(kept)}
    locations = list(file.source_code_info.location)
    file.ClearField("service")
    file.service.extend(services)
    # Comments name what they belong to by its place in the file: [6, place of the service, …].
    del file.source_code_info.location[:]
    for location in locations:
        if len(location.path) > 1 and location.path[0] == _SERVICES_OF_A_FILE:
            if location.path[1] not in moved:
                continue
            location.path[1] = moved[location.path[1]]
        file.source_code_info.location.append(location)
