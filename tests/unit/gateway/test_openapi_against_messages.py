"""Does the OpenAPI document agree with protobuf's JSON mapping, and with what the services' validator takes?"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import protovalidate
import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor, json_format, message_factory, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from wherry_gateway import descriptors
from wherry_gateway.openapi import document, templates
from wherry_gateway.openapi.templates import Part

pytestmark = pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")

_RULES: Any = validate_pb2.field
_WHOLE_SECONDS = st.integers(min_value=0, max_value=4_000_000_000)


@functools.cache
def made() -> dict[str, Any]:
    for file in descriptors.public_set().file:
        if file.package.startswith("wherry."):
            importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
    return document()


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    whole = {**schema, "components": made()["components"]}
    return [error.message for error in OAS31Validator(whole).iter_errors(value)]


def kind(name: str) -> descriptor.Descriptor:
    made()
    return Default().FindMessageTypeByName(name)


def response_names() -> list[str]:
    return sorted({method.response for method in descriptors.user_facing()})


@st.composite
def messages(draw: st.DrawFn, of: descriptor.Descriptor, depth: int = 0) -> Any:
    """Messages as a service may send them: fields with a pattern fit it, the rest is anything."""
    message: Any = message_factory.GetMessageClass(of)()
    if of.full_name == "google.protobuf.Any":
        message.Pack(timestamp_pb2.Timestamp(seconds=1))
        return message
    if of.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        message.seconds = draw(_WHOLE_SECONDS)
        return message
    for field in of.fields:
        needed = field.GetOptions().Extensions[_RULES].required
        if field.message_type is not None and depth > 3 and not needed:
            continue
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
            continue
        fill(draw, message, field, depth)
    return message


def fill(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, field.name)["key"] = "value"
    elif field.is_repeated:
        for _ in range(1 if field.GetOptions().Extensions[_RULES].repeated.min_items else draw(st.integers(0, 2))):
            if field.message_type is not None:
                getattr(message, field.name).append(draw(messages(field.message_type, depth + 1)))
            else:
                getattr(message, field.name).append(draw(scalar(field)))
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(draw(messages(field.message_type, depth + 1)))
    else:
        setattr(message, field.name, draw(scalar(field)))


def scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    rules = field.GetOptions().Extensions[_RULES]
    if field.is_repeated:
        rules = rules.repeated.items
    match field.type:
        case FieldDescriptor.TYPE_STRING if choices := list(getattr(rules.string, "in")):
            return st.sampled_from(choices)
        case FieldDescriptor.TYPE_STRING if rules.string.pattern:
            return st.from_regex(rules.string.pattern, fullmatch=True).filter(lambda text: not text.endswith("\n"))
        case FieldDescriptor.TYPE_STRING:
            return st.text(min_size=rules.string.min_len, max_size=min(20, rules.string.max_len or 20))
        case FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=20)
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_DOUBLE:
            return st.floats(allow_nan=False, allow_infinity=False)
        case FieldDescriptor.TYPE_ENUM if field.enum_type is not None:
            return st.sampled_from([value.number for value in field.enum_type.values])
        case FieldDescriptor.TYPE_INT64:
            return st.integers(-(2**63), 2**63 - 1)
        case FieldDescriptor.TYPE_UINT32:
            return st.integers(0, 2**32 - 1)
        case FieldDescriptor.TYPE_INT32:
            least = rules.int32.gte if rules.int32.HasField("gte") else -(2**31)
            most = rules.int32.lte if rules.int32.HasField("lte") else 2**31 - 1
            return st.integers(least, most)
    raise AssertionError(f"{field.full_name}: no strategy for its type")


@pytest.mark.parametrize("name", response_names())
@settings(max_examples=15, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_service_answers_fits_the_documented_schema(name: str, data: st.DataObject) -> None:
    if name.startswith("google."):
        schema: dict[str, Any] = {"type": "object", "additionalProperties": False}
    else:
        schema = {"$ref": f"#/components/schemas/{name.rpartition('.')[2]}"}
    message = data.draw(messages(kind(name)))
    for all_printed in (True, False):
        shown = json_format.MessageToDict(message, always_print_fields_with_no_presence=all_printed)
        unset = {"site"} if not all_printed else set()  # a name that is empty is not printed then
        assert [text for text in problems(schema, shown) if not any(f"'{it}' is a req" in text for it in unset)] == []


def test_every_property_and_no_other_is_what_json_calls_a_field() -> None:
    for method in descriptors.user_facing():
        if not method.response.startswith("google."):
            shown = made()["components"]["schemas"][method.response.rpartition(".")[2]]["properties"]
            assert list(shown) == [field.json_name for field in kind(method.response).fields]


@pytest.mark.parametrize(
    ("request_name", "component", "body", "fits"),
    [
        (
            "wherry.user.v1.CreateUserRequest",
            "CreateUserRequest",
            {"email": "a@b.example", "password": "12345678"},
            True,
        ),
        (
            "wherry.user.v1.CreateUserRequest",
            "CreateUserRequest",
            {"email": "a@b.example", "password": "1234567"},
            False,
        ),
        ("wherry.user.v1.CreateUserRequest", "CreateUserRequest", {"password": "12345678"}, False),
        ("wherry.user.v1.VerifyEmailRequest", "VerifyEmailRequest", {}, False),
        ("wherry.user.v1.RefreshSessionRequest", "RefreshSessionRequest", {}, True),
        (
            "wherry.queue.v1.CopyOperation",
            "CopyOperation",
            {"items": [{"source": {"site": "sites/a"}, "destination": {"site": "sites/b", "path": "/x"}}]},
            True,
        ),
        ("wherry.queue.v1.CopyOperation", "CopyOperation", {"items": []}, False),
        ("wherry.queue.v1.CopyOperation", "CopyOperation", {"items": [{"source": {"site": "sites/a"}}]}, False),
        ("wherry.queue.v1.RemoveOperation", "RemoveOperation", {"targets": [{"site": "A site"}]}, False),
        ("wherry.site.v1.Endpoint", "Endpoint", {"port": 70000}, False),
        ("wherry.site.v1.Endpoint", "Endpoint", {"scheme": "gsiftp", "host": "a.example", "port": 2811}, True),
    ],
)
def test_the_document_takes_and_refuses_what_the_services_do(
    request_name: str, component: str, body: dict[str, Any], fits: bool
) -> None:
    assert (problems({"$ref": f"#/components/schemas/{component}"}, body) == []) is fits
    message = json_format.ParseDict(body, message_factory.GetMessageClass(kind(request_name))())
    assert (protovalidate.collect_violations(message) == []) is fits


def test_a_template_that_openapi_cannot_say_is_refused() -> None:
    for template in ("/v1/{name=files/**}", "/v1/{a=jobs/*}/{b=jobs/*}"):
        with pytest.raises(descriptors.UnusableContracts, match=r"v1"):
            templates.parse(template)


def test_a_variable_without_a_template_is_one_segment() -> None:
    assert templates.parse("/v1/things/{thing.id}").text == "/v1/things/{id}"


def test_a_pattern_that_does_not_follow_the_template_says_nothing_of_a_segment() -> None:
    part = Part("job", "name", "jobs/{job}", 1)
    assert templates.segment_pattern("^jobs/[a-z]+$", part) == "^[a-z]+$"
    assert templates.segment_pattern("^tasks/[a-z]+$", part) is None
    assert templates.segment_pattern("", part) is None
