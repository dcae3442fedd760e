"""Messages between lease process and engine as bytes, and back."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal

from wherry_worker.engine.messages import PROTOCOL_VERSION, Message, Task

_MESSAGES: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(Message)}
_SCALARS = frozenset({str, int, float, bool, type(None)})
_TASKS: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(Task)}


class ProtocolError(Exception):
    """The other side of the pipe speaks another version or sent a message that is none."""


def encode(message: Message) -> bytes:
    """Returns a message as JSON, with its type and the protocol's version."""
    return json.dumps(
        {"v": PROTOCOL_VERSION, "t": type(message).__name__, "m": _plain(message)}, separators=(",", ":")
    ).encode("ascii")


def decode(body: bytes) -> Message:
    """Reads a message; raises ProtocolError for another version, an unknown type, or a field that is wrong."""
    try:
        outer = json.loads(body)
        version, name, content = outer["v"], outer["t"], outer["m"]
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError from error
    if version != PROTOCOL_VERSION or name not in _MESSAGES:
        raise ProtocolError(f"version {version!r}, type {name!r}")
    try:
        return typing.cast("Message", _reader(_MESSAGES[name])(content))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"type {name!r}") from error


def _plain(value: Any) -> Any:
    kind: type = type(value)
    if kind in _SCALARS:
        return value
    if kind is tuple:
        return [_plain(item) for item in value]
    plain = {}
    for name, default in _defaults(kind):
        inner = getattr(value, name)
        if inner != default:  # what is at its default is left out: entries travel by the thousand
            plain[name] = inner if type(inner) in _SCALARS else _plain(inner)
    if kind.__name__ in _TASKS:
        plain["t"] = kind.__name__
    return plain


@cache
def _defaults(cls: type) -> Sequence[tuple[str, Any]]:
    return [(field.name, field.default) for field in fields(cls)]


Read = Callable[[Any], Any]
"""Makes a value of what JSON has for it; raises KeyError, TypeError, ValueError or AttributeError where it is wrong."""


@cache
def _reader(hint: Any) -> Read:
    """Returns what reads values of a type. Made once for each: entries travel by the thousand."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return _tuple_reader(_reader(parts[0]))
    if origin in (types.UnionType, typing.Union):
        return _choice_reader(parts)
    if origin is Literal:
        return _literal_reader(frozenset(parts))
    if is_dataclass(hint):
        return _dataclass_reader(typing.cast("type", hint))
    return _scalar_reader(hint)


def _tuple_reader(read: Read) -> Read:
    def read_tuple(item: Any) -> Any:
        if type(item) is not list:
            raise TypeError
        return tuple([read(part) for part in item])

    return read_tuple


def _choice_reader(choices: Sequence[Any]) -> Read:
    read_first = _reader(next(choice for choice in choices if choice is not type(None)))

    def read_choice(item: Any) -> Any:
        if item is None and type(None) in choices:
            return None
        if type(item) is dict and "t" in item:
            return _reader(_TASKS[item["t"]])(item)
        return read_first(item)

    return read_choice


def _literal_reader(choices: frozenset[Any]) -> Read:
    def read_literal(item: Any) -> Any:
        if item not in choices:
            raise ValueError
        return item

    return read_literal


def _dataclass_reader(cls: type) -> Read:
    readers = {name: _reader(hint) for name, hint in typing.get_type_hints(cls).items()}

    def read_dataclass(content: Any) -> Any:
        return cls(**{name: readers[name](item) for name, item in content.items() if name != "t"})

    return read_dataclass


def _scalar_reader(cls: type) -> Read:
    def read_scalar(item: Any) -> Any:
        if type(item) is cls:
            return item
        if cls is float and type(item) is int:
            return float(item)
        raise TypeError

    return read_scalar
