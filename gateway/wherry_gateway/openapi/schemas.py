"""Messages and enums as JSON Schemas, the way that protobuf's JSON mapping writes them."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2

from wherry_gateway.descriptors import UnusableContracts
from wherry_gateway.openapi import rules
from wherry_gateway.openapi.index import EnumEntry, Index, MessageEntry

Schema = dict[str, Any]
_Field = descriptor_pb2.FieldDescriptorProto

_INT32 = {"type": "integer", "format": "int32"}
_UINT32 = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**32 - 1}
_INT64 = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
_UINT64 = {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
_SCALARS: dict[int, Schema] = {
    _Field.TYPE_BOOL: {"type": "boolean"},
    _Field.TYPE_STRING: {"type": "string"},
    _Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    _Field.TYPE_FLOAT: {"type": "number", "format": "float"},
    _Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
    _Field.TYPE_INT32: _INT32,
    _Field.TYPE_SINT32: _INT32,
    _Field.TYPE_SFIXED32: _INT32,
    _Field.TYPE_UINT32: _UINT32,
    _Field.TYPE_FIXED32: _UINT32,
    _Field.TYPE_INT64: _INT64,
    _Field.TYPE_SINT64: _INT64,
    _Field.TYPE_SFIXED64: _INT64,
    _Field.TYPE_UINT64: _UINT64,
    _Field.TYPE_FIXED64: _UINT64,
}

_WELL_KNOWN = "google.protobuf."
_PLAIN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
        "examples": ["43200s"],
    },
    "google.protobuf.FieldMask": {
        "type": "string",
        "description": "Names of fields, separated by commas.",
        "examples": ["title,defaultPath"],
    },
    "google.protobuf.Empty": {"type": "object", "additionalProperties": False},
}
"""Messages that JSON writes otherwise than as an object of their fields."""

_ANY = "google.protobuf.Any"
_STATUS = status_pb2.Status.DESCRIPTOR.full_name
_DETAILS = tuple(kind.DESCRIPTOR.full_name for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest))
"""What services put into a status' details; anything else may come one day."""


class Schemas:
    """Makes schemas; those of messages and enums are collected in `components` under their short names."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._sources: dict[str, str] = {}
        self.components: dict[str, Schema] = {}

    def message(self, name: str) -> Schema:
        """Returns the schema of a message: a reference, or for well-known types the thing itself."""
        if name in _PLAIN:
            return dict(_PLAIN[name])
        if name.startswith(_WELL_KNOWN) and name != _ANY:
            raise UnusableContracts(f"{name}: say in openapi/schemas.py how JSON writes it")
        entry = self._index.messages[name]
        return self._component(_short(entry), name, lambda: self._object(entry))

    def status(self) -> Schema:
        """Returns the schema of errors."""
        return self.message(_STATUS)

    def field(self, entry: MessageEntry, field: descriptor_pb2.FieldDescriptorProto) -> Schema:
        """Returns the schema of a message's field, with its comment and constraints."""
        said = rules.constraints(field)
        words = [entry.field_comments[field.name], rules.bounds_in_words(field)]
        if entry.name == _STATUS and field.type_name == f".{_ANY}":
            schema: Schema = {"type": "array", "items": {"anyOf": [*map(self._packed, _DETAILS), self.message(_ANY)]}}
        elif (pair := self._map_entry(field)) is not None:
            schema = {"type": "object", "additionalProperties": self._single(pair.field[1])}
        elif field.label == _Field.LABEL_REPEATED:
            schema = {"type": "array", "items": self._single(field) | said.pop("items", {})}
        else:
            schema = self._single(field)
        schema |= said
        words.append(schema.pop("description", ""))
        if field.options.debug_redact and schema.get("type") == "string":
            schema["format"] = "password"
        if words[0].startswith("Output only"):  # the contracts' way to say it
            schema["readOnly"] = True
        if text := " ".join(filter(None, words)):
            schema["description"] = text
        return schema

    def body(self, name: str, method: str, taken: frozenset[str]) -> Schema:
        """Returns the schema of a request whose fields `taken` stand in the path."""
        if not taken:
            return self.message(name)
        entry = self._index.messages[name]
        return self._component(f"{method}Body", f"{name} without {sorted(taken)}", lambda: self._object(entry, taken))

    def _component(self, short: str, source: str, make: Any) -> Schema:
        if self._sources.setdefault(short, source) != source:
            raise UnusableContracts(f"two schemas would be called {short}: {self._sources[short]} and {source}")
        if short not in self.components:
            self.components[short] = {}  # a message may hold itself
            self.components[short] = make()
        return {"$ref": f"#/components/schemas/{short}"}

    def _object(self, entry: MessageEntry, without: frozenset[str] = frozenset()) -> Schema:
        if entry.name == _ANY:
            return _any()
        fields = [field for field in entry.proto.field if field.name not in without]
        needed = rules.needed_fields(self._index.empty(entry.name))
        words = [entry.comment]
        schema: Schema = {
            "type": "object",
            "properties": {field.json_name: self.field(entry, field) for field in fields},
        }
        if required := [field.json_name for field in fields if field.name in needed]:
            schema["required"] = required
        for at, choice in enumerate(entry.proto.oneof_decl):
            members = [it.json_name for it in fields if it.HasField("oneof_index") and it.oneof_index == at]
            if len(members) > 1:  # a single one is how `optional` is written down
                # In words: some generators of clients lose the properties beside a `oneOf`.
                amount = "Exactly" if rules.is_one_needed(choice) else "At most"
                words.append(f"{amount} one of {', '.join(f'`{it}`' for it in members)} is set.")
        return {"description": "\n\n".join(filter(None, words)), **schema}

    def _single(self, field: descriptor_pb2.FieldDescriptorProto) -> Schema:
        if field.type == _Field.TYPE_MESSAGE:
            return self.message(field.type_name.removeprefix("."))
        if field.type == _Field.TYPE_ENUM:
            entry = self._index.enums[field.type_name.removeprefix(".")]
            return self._component(_short(entry), entry.name, lambda: _enum(entry))
        return dict(_SCALARS[field.type])

    def _map_entry(self, field: descriptor_pb2.FieldDescriptorProto) -> descriptor_pb2.DescriptorProto | None:
        if field.type != _Field.TYPE_MESSAGE:
            return None
        found = self._index.messages[field.type_name.removeprefix(".")].proto
        return found if found.options.map_entry else None

    def _packed(self, name: str) -> Schema:
        """Returns the schema of a message in an Any: the object with its type's URL."""
        made = self.message(name)
        schema = self.components[made["$ref"].rpartition("/")[2]]
        schema["properties"] = {"@type": {"const": f"type.googleapis.com/{name}"}, **schema["properties"]}
        schema["required"] = ["@type"]
        return made


def _enum(entry: EnumEntry) -> Schema:
    lines = [f"- `{name}`: {comment}" for name, comment in entry.value_comments.items() if comment]
    words = [entry.comment, "\n".join(lines)]
    return {"description": "\n\n".join(filter(None, words)), "type": "string", "enum": list(entry.value_comments)}


def _any() -> Schema:
    return {
        "description": "A message of any type: the fields of that type, and its name.",
        "type": "object",
        "properties": {"@type": {"type": "string", "examples": ["type.googleapis.com/google.rpc.ErrorInfo"]}},
        "required": ["@type"],
        "additionalProperties": True,
    }


def _short(entry: MessageEntry | EnumEntry) -> str:
    return entry.name.removeprefix(f"{entry.package}.")
