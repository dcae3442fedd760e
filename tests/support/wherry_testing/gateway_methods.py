"""The contracts' methods as callers of the gateway see them, read without the gateway's code."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_HTTP: Any = annotations_pb2.http
_VARIABLE = re.compile(r"\{([\w.]+)=([^}]*)\}")
_LIBRARIES = (
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
)
"""What services have besides their own methods."""


@dataclass(frozen=True)
class Offered:
    """A method for users, and a request to it in JSON.

    Attributes:
        path: `/wherry.queue.v1.JobService/GetJob`.
        verb, json_path: of the request.
        fields: what stands in the path, by the message's field.
        body: `{}`, or `[{}]` for a stream of requests; None: there is none.
        request: full name of its message.
    """

    path: str
    verb: str
    json_path: str
    fields: dict[str, str]
    body: dict[str, Any] | list[Any] | None
    request: str

    @property
    def service(self) -> str:
        """`user`, `site` or `queue`."""
        return self.path.split(".")[1]


def _files() -> descriptor_pb2.FileDescriptorSet:
    content = importlib.resources.files("wherry").joinpath("contracts.binpb").read_bytes()
    return descriptor_pb2.FileDescriptorSet.FromString(content)


def _methods() -> Iterator[tuple[str, descriptor_pb2.MethodDescriptorProto]]:
    for file in _files().file:
        if file.package.startswith("wherry."):
            for service in file.service:
                for method in service.method:
                    yield f"/{file.package}.{service.name}/{method.name}", method


def offered() -> list[Offered]:
    """Returns the methods that have an http annotation."""
    found = []
    for path, method in _methods():
        if method.options.HasExtension(_HTTP):
            rule = method.options.Extensions[_HTTP]
            verb = rule.WhichOneof("pattern")
            template = getattr(rule, verb)
            fields = {name: pattern.replace("*", "x-1") for name, pattern in _VARIABLE.findall(template)}
            json_path = _VARIABLE.sub(lambda match: match[2].replace("*", "x-1"), template)
            request = method.input_type.removeprefix(".")
            body: dict[str, Any] | list[Any] | None = None
            if rule.body:
                body = [{}] if method.client_streaming else {}
            found.append(Offered(path, verb.upper(), json_path, fields, body, request))
    return found


def hidden() -> list[str]:
    """Returns the paths of all methods that have none: for services, workers and operators."""
    return [path for path, method in _methods() if not method.options.HasExtension(_HTTP)] + list(_LIBRARIES)


def message_of(name: str, content: bytes) -> Message:
    """Returns a message of the contracts, given its full name and how it was serialized."""
    pool = descriptor_pool.DescriptorPool()
    for file in _files().file:
        pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name)).FromString(content)


def field_of(message: Message, path: str) -> Any:
    """Returns a field by its path, `site.name`."""
    value: Any = message
    for part in path.split("."):
        value = getattr(value, part)
    return value
