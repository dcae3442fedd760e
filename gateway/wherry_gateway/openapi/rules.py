"""What protovalidate's rules on a field say, in the words of JSON Schema, as far as it has any."""

from __future__ import annotations

import math
from typing import Any

import protovalidate
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

_FIELD: Any = validate_pb2.field  # the generated stub types extensions as bare descriptors
_ONEOF: Any = validate_pb2.oneof

_STRING_FORMATS = {
    "email": "email",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "uri": "uri",
    "uuid": "uuid",
}
_BOUNDS = {"gte": "minimum", "gt": "exclusiveMinimum", "lte": "maximum", "lt": "exclusiveMaximum"}
_SMALL_NUMBERS = ("int32", "uint32", "sint32", "fixed32", "sfixed32", "float", "double")
"""Kinds that are numbers in JSON; those of 64 bits are strings, for which JSON Schema knows no bounds."""


def constraints(field: descriptor_pb2.FieldDescriptorProto) -> dict[str, Any]:
    """Returns JSON Schema keywords for a field; for a repeated one, `items` holds those of its elements."""
    return _keywords(field.options.Extensions[_FIELD])


def bounds_in_words(field: descriptor_pb2.FieldDescriptorProto) -> str:
    """Returns a sentence for bounds that JSON Schema cannot state, empty if there are none."""
    rules = field.options.Extensions[_FIELD]
    if rules.WhichOneof("type") != "duration":
        return ""
    words = {"gte": "at least", "gt": "more than", "lte": "at most", "lt": "less than"}
    said = [
        f"{words[bound]} {getattr(rules.duration, bound).seconds} s"
        for bound in words
        if rules.duration.HasField(bound)
    ]
    return f"{' and '.join(said).capitalize()}." if said else ""


def is_one_needed(choice: descriptor_pb2.OneofDescriptorProto) -> bool:
    """Tells whether one field of a oneof has to be given."""
    return bool(choice.options.Extensions[_ONEOF].required)


def needed_fields(empty: Message) -> frozenset[str]:
    """Returns the contract's names of the fields without which a message of this type is refused.

    The validator that the services use says so of the empty one: a pattern, too, may refuse an empty string.
    """
    paths = [problem.proto.field for problem in protovalidate.collect_violations(empty)]
    return frozenset(path.elements[0].field_name for path in paths if path is not None and path.elements)


def _keywords(rules: validate_pb2.FieldRules) -> dict[str, Any]:
    kind = rules.WhichOneof("type")
    match kind:
        case "string":
            return _string(rules.string)
        case "bytes":
            return _bytes(rules.bytes)
        case "repeated":
            return _repeated(rules.repeated)
        case "map":
            return _given(rules.map, {"min_pairs": "minProperties", "max_pairs": "maxProperties"})
        case _ if kind in _SMALL_NUMBERS:
            return _given(getattr(rules, kind), _BOUNDS)
        case _:
            return {}


def _given(rules: Any, keywords: dict[str, str]) -> dict[str, Any]:
    return {keyword: getattr(rules, rule) for rule, keyword in keywords.items() if rules.HasField(rule)}


def _string(rules: validate_pb2.StringRules) -> dict[str, Any]:
    said = _given(rules, {"min_len": "minLength", "max_len": "maxLength", "pattern": "pattern", "const": "const"})
    if rules.HasField("len"):
        said["minLength"] = said["maxLength"] = rules.len
    if (known := rules.WhichOneof("well_known")) in _STRING_FORMATS:
        said["format"] = _STRING_FORMATS[known]
    if values := list(getattr(rules, "in")):
        said["enum"] = values
    return said


def _bytes(rules: validate_pb2.BytesRules) -> dict[str, Any]:
    """Lengths are those of the base64 text, with padding."""
    said: dict[str, Any] = {}
    if rules.HasField("max_len"):
        said["maxLength"] = 4 * math.ceil(rules.max_len / 3)
    if rules.HasField("min_len"):
        said["minLength"] = math.ceil(4 * rules.min_len / 3)
    return said


def _repeated(rules: validate_pb2.RepeatedRules) -> dict[str, Any]:
    said = _given(rules, {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"})
    if rules.HasField("items") and (of_each := _keywords(rules.items)):
        said["items"] = of_each
    return said
