"""Does the gateway take what the OpenAPI document says, and does all of it arrive?"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import Default
from openapi_schema_validator import OAS31Validator
from wherry_gateway.descriptors import UserMethod, public_set, user_facing
from wherry_gateway.openapi import document
from wherry_gateway.openapi.templates import parse
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import Answer

pytestmark = pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")

_TEXTS = ("a1", "7", "sites/a1", "users/me", "a@b.example", "43200s", "long enough")
_ONE_OF = re.compile(r"(?:Exactly|At most) one of (.*?) is set\.")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    for file in public_set().file:
        if file.package.startswith("wherry."):
            importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
    with Edge(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document()


def names() -> list[str]:
    return [method.name for method in user_facing()]


def method_of(name: str) -> UserMethod:
    (found,) = (method for method in user_facing() if method.name == name)
    return found


def sample(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """A value for which the schema allows; of an object all properties that a caller may set, of a choice the first."""
    if "$ref" in schema:
        return sample(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "enum" in schema:
        return schema["enum"][-1]
    if "examples" in schema:
        return schema["examples"][0]
    match schema["type"]:
        case "object":
            chosen = [re.findall(r"`(\w+)`", found)[1:] for found in _ONE_OF.findall(schema.get("description", ""))]
            left_out = {name for names in chosen for name in names}
            return {
                name: sample(inner, schemas)
                for name, inner in schema["properties"].items()
                if name not in left_out and not inner.get("readOnly")
            }
        case "array":
            return [sample(schema["items"], schemas)]
        case "boolean":
            return True
        case "integer":
            return max(schema.get("minimum", 0), 3)
        case "string":
            return text(schema)
    raise AssertionError(f"no sample for {schema}")


def text(schema: dict[str, Any]) -> str:
    if schema.get("format") == "date-time":
        return "2026-01-02T03:04:05Z"
    if schema.get("contentEncoding") == "base64":
        return "AP/+"
    pattern, least = schema.get("pattern", ""), schema.get("minLength", 0)
    fitting = (it for it in _TEXTS if re.search(pattern, it) and len(it) >= least)
    return next(it for it in fitting if ("@" in it) == (schema.get("format") == "email"))


def put(into: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for name in outer:
        into = into.setdefault(name, {})
    into[last] = value


def ask(gateway: Edge, made: dict[str, Any], name: str, **headers: str) -> tuple[Answer, dict[str, Any]]:
    """Calls an operation with all that it documents; returns the answer, and the request in JSON that should arrive."""
    method, path = method_of(name), parse(method_of(name).http_path)
    operation = made["paths"][path.text][method.http_method.lower()]
    schemas = made["components"]["schemas"]
    expected: dict[str, Any] = {}
    address, query, body = path.text, {}, None
    if "requestBody" in operation:
        body = sample(operation["requestBody"]["content"]["application/json"]["schema"], schemas)
        for outer, _, last in (field.partition(".") for field in path.fields):
            if outer == method.body:
                body.pop(last, None)  # a name in the body would win over the path's
        if method.client_streaming:
            (expected,) = body  # the gateway sends a message for each
        else:
            expected = dict(body) if method.body == "*" else {method.body: dict(body)}
    filled: dict[str, str] = {}
    for parameter in operation.get("parameters", []):
        value = sample(parameter["schema"], schemas)
        if parameter["in"] == "path":
            address = address.replace(f"{{{parameter['name']}}}", quote(str(value), safe=""))
            filled[parameter["name"]] = str(value)
        else:
            query[parameter["name"]] = value
            put(expected, parameter["name"], value)
    for part in path.parts:
        put(expected, part.field, part.template.format(**filled))
    if operation.get("security", made["security"]):
        headers |= gateway.bearer()
    gateway.forget()
    whole = address + (f"?{urlencode(query, doseq=True)}" if query else "")
    return gateway.json(method.http_method, whole, body, headers), expected


def received(gateway: Edge, method: UserMethod) -> dict[str, Any]:
    (call,) = gateway.reached()
    assert call.method == method.path
    message = message_factory.GetMessageClass(Default().FindMessageTypeByName(method.request))()
    message.ParseFromString(call.messages[0])
    shown: dict[str, Any] = json_format.MessageToDict(message)
    return shown


@pytest.mark.parametrize("name", names())
def test_all_that_a_documented_operation_takes_reaches_its_method(
    gateway: Edge, made: dict[str, Any], name: str
) -> None:
    method = method_of(name)
    answer, expected = ask(gateway, made, name)
    assert answer.http_status == 200, answer.body
    whole = message_factory.GetMessageClass(Default().FindMessageTypeByName(method.request))()
    assert received(gateway, method) == json_format.MessageToDict(json_format.ParseDict(expected, whole))
    documented = made["paths"][parse(method.http_path).text][method.http_method.lower()]["responses"]["200"]["content"]
    assert answer.header("content-type") in documented


@pytest.mark.parametrize("name", [method.name for method in user_facing() if not method.public])
def test_an_operation_with_a_padlock_is_refused_without_a_token(gateway: Edge, made: dict[str, Any], name: str) -> None:
    method = method_of(name)
    path = re.sub(r"\{\w+\}", "a1", parse(method.http_path).text)
    gateway.forget()
    answer = gateway.json(method.http_method, path, {} if method.body else None)
    assert (answer.http_status, answer.refusal) == (401, ("UNAUTHENTICATED", "TOKEN_MISSING"))
    assert gateway.reached() == []
    schema = {**made["components"]["responses"]["Error"]["content"]["application/json"]["schema"]}
    assert list(OAS31Validator({**schema, "components": made["components"]}).iter_errors(answer.json())) == []


@pytest.mark.parametrize("name", [method.name for method in user_facing() if method.server_streaming])
def test_a_stream_is_one_json_message_a_line_or_one_event_each(gateway: Edge, made: dict[str, Any], name: str) -> None:
    lines, _ = ask(gateway, made, name)
    assert lines.header("content-type") == "application/x-ndjson"
    assert lines.body.endswith(b"}\n")
    assert lines.json()["last"] is False
    events, _ = ask(gateway, made, name, accept="text/event-stream")
    assert events.header("content-type") == "text/event-stream"
    assert json.loads(events.body.removeprefix(b"data: ").removesuffix(b"\n\n")) == lines.json()


def test_field_masks_may_be_written_either_way(gateway: Edge) -> None:
    for query in ("updateMask=title,defaultPath", "update_mask=title,default_path"):
        gateway.forget()
        assert gateway.json("PATCH", f"/v1/sites/a?{query}", {}, gateway.bearer()).code == "OK"
        assert received(gateway, method_of("UpdateSite"))["updateMask"] == "title,defaultPath"


def test_a_parameter_that_is_not_documented_is_refused(gateway: Edge) -> None:
    gateway.forget()
    for query in ("pagesize=3", "pageSize=many"):
        answer = gateway.json("GET", f"/v1/jobs?{query}", headers=gateway.bearer())
        assert (answer.http_status, answer.refusal) == (400, ("INVALID_ARGUMENT", "MALFORMED_REQUEST"))
    assert gateway.reached() == []


def test_a_body_that_is_not_required_may_be_missing(gateway: Edge) -> None:
    gateway.forget()
    assert gateway.json("POST", "/v1/jobs/a1:cancel", headers=gateway.bearer()).code == "OK"
    assert received(gateway, method_of("CancelJob")) == {"name": "jobs/a1"}
