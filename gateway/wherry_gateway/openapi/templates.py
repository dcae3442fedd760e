"""Paths of http annotations (google/api/http.proto) and what they are in OpenAPI."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry_gateway.descriptors import UnusableContracts

_VARIABLE = re.compile(r"\{(?P<field>[A-Za-z0-9_.]+)(?:=(?P<template>[^}]*))?\}")


@dataclass(frozen=True)
class Part:
    """One `*` of a template, a path parameter in OpenAPI.

    Attributes:
        name: the parameter's.
        field: the request's field that it is a part of, `location.site`.
        template: what the whole field looks like, `sites/{site}`.
        place: which of the field's segments it is, from 0.
    """

    name: str
    field: str
    template: str
    place: int


@dataclass(frozen=True)
class Path:
    """A path in OpenAPI's form, with its parameters in order."""

    text: str
    parts: tuple[Part, ...]

    @property
    def fields(self) -> frozenset[str]:
        """The request's fields that stand in the path."""
        return frozenset(part.field for part in self.parts)


def parse(template: str) -> Path:
    """Returns what `/v1/{name=jobs/*}:watch` is: `/v1/jobs/{job}:watch` with the parameter `job`.

    Raises:
        UnusableContracts: a part that OpenAPI cannot say, as `**`.
    """
    parts: list[Part] = []

    def variable(found: re.Match[str]) -> str:
        field = found["field"]
        segments = (found["template"] or "*").split("/")
        names = {at: _name(segments, at, field) for at, segment in enumerate(segments) if segment == "*"}
        shown = "/".join(f"{{{names[at]}}}" if at in names else segment for at, segment in enumerate(segments))
        parts.extend(Part(name, field, shown, at) for at, name in names.items())
        return shown

    text = _VARIABLE.sub(variable, template)
    if "*" in text or len({part.name for part in parts}) != len(parts):
        raise UnusableContracts(f"{template}: each * has to be a segment of a field, and their names have to differ")
    return Path(text, tuple(parts))


def segment_pattern(pattern: str, part: Part) -> str | None:
    """Returns the pattern of one segment out of that of a whole field, None if they do not fit together.

    `^jobs/[a-z]+/tasks/[0-9]+$` gives `^[0-9]+$` for the task of `jobs/{job}/tasks/{task}`.
    """
    segments = part.template.split("/")
    patterns = pattern.removeprefix("^").removesuffix("$").split("/")
    if len(segments) != len(patterns):
        return None
    if any(shown != said for shown, said in zip(segments, patterns, strict=True) if not shown.startswith("{")):
        return None
    return f"^{patterns[part.place]}$"


def _name(segments: list[str], at: int, field: str) -> str:
    """Returns the singular of the collection before the `*`."""
    return segments[at - 1].removesuffix("s") if at else field.rpartition(".")[2]
