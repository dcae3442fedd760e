"""Structured logs on standard error: an event name that never changes, and the data in fields."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog

_SECRET_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "proxy_pem",
    "private_key",
    "credential_pem",
    "authorization",
    "cookie",
)


def configure(service: str, *, format: Literal["json", "console", "auto"] = "auto", level: str = "info") -> None:  # noqa: A002  # the configuration's own word
    """Sets logging up for this process: JSON lines, or readable ones on a terminal where `format` is auto."""
    as_json = format == "json" or (format == "auto" and not sys.stderr.isatty())
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        # Plain tracebacks: the pretty ones show local variables, and a password is one.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # What libraries log goes the same way.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def logger() -> structlog.typing.FilteringBoundLogger:
    """Returns the process's logger."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return bound


def _mask(_logger: object, _name: str, event: Any) -> Any:
    """The last line of defence: fields with a secret's name never show their value."""
    return {key: value if key in ("event", "exc_info") else _masked(key, value) for key, value in event.items()}


def _masked(key: str, value: Any) -> Any:
    if any(word in key.lower() for word in _SECRET_WORDS):
        return "[masked]"
    if isinstance(value, dict):
        return {name: _masked(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", inner) for inner in value]
    return value
