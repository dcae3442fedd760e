"""Methods as OpenAPI operations: what the gateway's transcoder takes from path, query and body, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2

from wherry_gateway.descriptors import UserMethod
from wherry_gateway.openapi import rules, templates
from wherry_gateway.openapi.index import Index, MessageEntry
from wherry_gateway.openapi.schemas import Schema, Schemas

_Field = descriptor_pb2.FieldDescriptorProto
_JSON = "application/json"
_STREAMS = ("application/x-ndjson", "text/event-stream")


def operation(method: UserMethod, index: Index, schemas: Schemas) -> dict[str, Any]:
    """Returns a method as an operation."""
    request = index.messages[method.request]
    path = templates.parse(method.http_path)
    comment = index.comments[method.path]
    made: dict[str, Any] = {
        "operationId": method.name,
        "tags": [method.service.rpartition(".")[2]],
        "summary": _first_sentence(comment),
        "description": f"{comment}\n\ngRPC: `{method.path}`",
    }
    parameters = [_path_parameter(part, request, index, schemas) for part in path.parts]
    if method.body != "*":
        taken = path.fields | ({method.body} if method.body else set())
        parameters.extend(_query_parameters(request, taken, index, schemas))
    if parameters:
        made["parameters"] = parameters
    if method.body:
        made["requestBody"] = _body(method, request, path.fields, index, schemas)
    made["responses"] = {"200": _answer(method, index, schemas), "default": {"$ref": "#/components/responses/Error"}}
    if method.public:
        made["security"] = []
    return made


def _first_sentence(comment: str) -> str:
    return comment.split("\n\n")[0].replace("\n", " ").split(". ")[0].split(": ")[0].rstrip(".")


def _body(
    method: UserMethod, request: MessageEntry, in_path: frozenset[str], index: Index, schemas: Schemas
) -> dict[str, Any]:
    needed = rules.needed_fields(index.empty(request.name))
    if method.body == "*":
        taken = frozenset(field for field in in_path if "." not in field)
        schema = schemas.body(request.name, method.name, taken)
        required = bool(needed - taken)
        if method.client_streaming:
            schema, required = {"type": "array", "items": schema, "description": "The stream's messages."}, True
    else:
        schema = schemas.field(request, _field(request, method.body))
        required = method.body in needed
    return {"required": required, "content": {_JSON: {"schema": schema}}}


def _answer(method: UserMethod, index: Index, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.message(method.response)
    words = index.messages[method.response].comment
    if not method.server_streaming:
        return {"description": _first_sentence(words), "content": {_JSON: {"schema": schema}}}
    words = f"A stream; each line, or each event's data, is one message. {words}"
    return {"description": words, "content": {media_type: {"schema": schema} for media_type in _STREAMS}}


def _path_parameter(part: templates.Part, request: MessageEntry, index: Index, schemas: Schemas) -> dict[str, Any]:
    entry = request
    *outer, last = part.field.split(".")
    for name in outer:
        entry = _message_of(_field(entry, name), index)
    whole = schemas.field(entry, _field(entry, last))
    words = [f"Part of `{part.field}`, `{part.template}`.", whole.get("description", "")]
    schema: Schema = {"type": "string"}
    if pattern := templates.segment_pattern(whole.get("pattern", ""), part):
        schema["pattern"] = pattern
    else:
        schema["minLength"] = 1
    return {
        "name": part.name,
        "in": "path",
        "required": True,
        "description": " ".join(words[:1] if words[1] == f"`{part.template}`." else words).rstrip(),
        "schema": schema,
    }


def _query_parameters(
    request: MessageEntry, taken: frozenset[str] | set[str], index: Index, schemas: Schemas
) -> Iterator[dict[str, Any]]:
    yield from _query_fields(request, "", "", taken, index, schemas, (request.name,))


def _query_fields(
    entry: MessageEntry,
    outer: str,
    outer_shown: str,
    taken: frozenset[str] | set[str],
    index: Index,
    schemas: Schemas,
    around: tuple[str, ...],
) -> Iterator[dict[str, Any]]:
    needed = rules.needed_fields(index.empty(entry.name))
    for field in entry.proto.field:
        name, shown = f"{outer}{field.name}", f"{outer_shown}{field.json_name}"
        if name in taken:
            continue
        schema = None if _is_object(field, schemas) else schemas.field(entry, field)
        if schema is not None:
            words = schema.pop("description", "")
            yield {
                "name": shown,
                "in": "query",
                **({"required": True} if field.name in needed and not outer else {}),
                **({"description": words} if words else {}),
                "schema": schema,
            }
        elif field.label != _Field.LABEL_REPEATED:  # maps and lists of messages have no place in a query
            inner = _message_of(field, index)
            if inner.name not in around:
                yield from _query_fields(inner, f"{name}.", f"{shown}.", taken, index, schemas, (*around, inner.name))


def _is_object(field: descriptor_pb2.FieldDescriptorProto, schemas: Schemas) -> bool:
    return field.type == _Field.TYPE_MESSAGE and "$ref" in schemas.message(field.type_name.removeprefix("."))


def _field(entry: MessageEntry, name: str) -> descriptor_pb2.FieldDescriptorProto:
    return next(field for field in entry.proto.field if field.name == name)


def _message_of(field: descriptor_pb2.FieldDescriptorProto, index: Index) -> MessageEntry:
    return index.messages[field.type_name.removeprefix(".")]
