"""Messages between lease process and engine as bytes, and back."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal

from wherry_worker.engine.messages import PROTOCOL_VERSION, Message, Task

_MESSAGES: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(Message)}
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
        return typing.cast("Message", _build(_MESSAGES[name], content))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"type {name!r}") from error


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        plain = {}
        for field in fields(value):
            inner = getattr(value, field.name)
            if inner != field.default:  # what is at its default is left out: entries travel by the thousand
                plain[field.name] = _plain(inner)
        if type(value).__name__ in _TASKS:
            plain["t"] = type(value).__name__
        return plain
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(cls: type, content: dict[str, Any]) -> object:
    hints = _hints(cls)
    return cls(**{name: _value(hints[name], item) for name, item in content.items() if name != "t"})


def _value(hint: Any, item: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(item, list):
            raise TypeError
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, part) for part in item)
    if origin in (types.UnionType, typing.Union):
        choices = typing.get_args(hint)
        if item is None and type(None) in choices:
            return None
        if isinstance(item, dict) and "t" in item:
            return _build(_TASKS[item["t"]], item)
        return _value(next(choice for choice in choices if choice is not type(None)), item)
    if origin is Literal:
        if item not in typing.get_args(hint):
            raise ValueError
        return item
    if is_dataclass(hint):
        return _build(typing.cast("type", hint), item)
    if hint is float and isinstance(item, int) and not isinstance(item, bool):
        return float(item)
    if type(item) is not hint:
        raise TypeError
    return item
