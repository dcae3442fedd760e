"""Finds messages, enums and comments in a descriptor set by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_File = descriptor_pb2.FileDescriptorProto
_Message = descriptor_pb2.DescriptorProto
_Enum = descriptor_pb2.EnumDescriptorProto
_Service = descriptor_pb2.ServiceDescriptorProto

_Place = tuple[int, ...]
"""Where a thing stands in its file: numbers of fields of FileDescriptorProto and indices, in turn."""


@dataclass(frozen=True)
class MessageEntry:
    """A message and its comments; `field_comments` and `oneof_comments` by the contract's name."""

    package: str
    name: str
    """Full."""
    proto: descriptor_pb2.DescriptorProto
    comment: str
    field_comments: Mapping[str, str]
    oneof_comments: Mapping[str, str]


@dataclass(frozen=True)
class EnumEntry:
    """An enum and its comments; `value_comments` by the contract's name, in order."""

    package: str
    name: str
    """Full."""
    comment: str
    value_comments: Mapping[str, str]


class Index:
    """What a descriptor set holds, by full name, without a dot before it."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self.messages: dict[str, MessageEntry] = {}
        self.enums: dict[str, EnumEntry] = {}
        self.comments: dict[str, str] = {}
        """Of services, by full name, and of methods, as `/service/method`."""
        self._pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self._pool.AddSerializedFile(file.SerializeToString())
            self._add(file)

    def empty(self, name: str) -> Message:
        """Returns a message of which nothing is set."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))()

    def _add(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        comments = {
            tuple(location.path): _plain(location.leading_comments or location.trailing_comments)
            for location in file.source_code_info.location
        }
        for at, message in enumerate(file.message_type):
            self._add_message(file.package, file.package, message, (_File.MESSAGE_TYPE_FIELD_NUMBER, at), comments)
        for at, enum in enumerate(file.enum_type):
            self._add_enum(file.package, file.package, enum, (_File.ENUM_TYPE_FIELD_NUMBER, at), comments)
        for at, service in enumerate(file.service):
            place: _Place = (_File.SERVICE_FIELD_NUMBER, at)
            name = f"{file.package}.{service.name}"
            self.comments[name] = comments.get(place, "")
            for index, method in enumerate(service.method):
                method_place = (*place, _Service.METHOD_FIELD_NUMBER, index)
                self.comments[f"/{name}/{method.name}"] = comments.get(method_place, "")

    def _add_message(
        self,
        package: str,
        scope: str,
        message: descriptor_pb2.DescriptorProto,
        place: _Place,
        comments: Mapping[_Place, str],
    ) -> None:
        name = f"{scope}.{message.name}"

        def of(number: int, index: int) -> str:
            return comments.get((*place, number, index), "")

        self.messages[name] = MessageEntry(
            package,
            name,
            message,
            comments.get(place, ""),
            {field.name: of(_Message.FIELD_FIELD_NUMBER, at) for at, field in enumerate(message.field)},
            {choice.name: of(_Message.ONEOF_DECL_FIELD_NUMBER, at) for at, choice in enumerate(message.oneof_decl)},
        )
        for at, nested in enumerate(message.nested_type):
            self._add_message(package, name, nested, (*place, _Message.NESTED_TYPE_FIELD_NUMBER, at), comments)
        for at, enum in enumerate(message.enum_type):
            self._add_enum(package, name, enum, (*place, _Message.ENUM_TYPE_FIELD_NUMBER, at), comments)

    def _add_enum(
        self,
        package: str,
        scope: str,
        enum: descriptor_pb2.EnumDescriptorProto,
        place: _Place,
        comments: Mapping[_Place, str],
    ) -> None:
        name = f"{scope}.{enum.name}"
        values = {
            value.name: comments.get((*place, _Enum.VALUE_FIELD_NUMBER, at), "") for at, value in enumerate(enum.value)
        }
        self.enums[name] = EnumEntry(package, name, comments.get(place, ""), values)


def _plain(comment: str) -> str:
    return "\n".join(line.removeprefix(" ").rstrip() for line in comment.splitlines()).strip()
