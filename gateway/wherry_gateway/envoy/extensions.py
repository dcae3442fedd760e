"""How Envoy's configuration names its extensions."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]
"""A piece of configuration, as Envoy's YAML has it."""

_TYPE = "type.googleapis.com/envoy"


def typed(kind: str, **fields: Any) -> Config:
    """Returns a typed configuration; `kind` is its message behind `envoy.`."""
    return {"@type": f"{_TYPE}.{kind}", **fields}


def http_filter(name: str, kind: str, **fields: Any) -> Config:
    """Returns an HTTP filter; `name` and `kind` without the part that all have in common."""
    return {"name": f"envoy.filters.http.{name}", "typed_config": typed(f"extensions.filters.http.{kind}", **fields)}


def seconds(value: float) -> str:
    """Returns a duration as protobuf's JSON has it."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"
