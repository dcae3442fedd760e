"""What can go wrong in a domain, in words that know neither gRPC nor HTTP.

A domain raises subclasses of `DomainError`. Their docstrings are the messages that callers read; `{name}` in one is
filled from the keyword arguments, which also travel as metadata. `wherry_chassis.status` maps them to gRPC.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class Kind(enum.Enum):
    """What sort of failure an error is; the names are those of the canonical status codes."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """A field of a request that is unfit.

    Attributes:
        field: its path, as `site.auth_address`.
        problem: what is wrong and what would be right.
    """

    field: str
    problem: str


class DomainError(Exception):
    """The request could not be carried out."""

    kind: ClassVar[Kind] = Kind.FAILED_PRECONDITION
    reason: ClassVar[str] = "FAILED"

    def __init__(self, **metadata: str) -> None:
        self.metadata = metadata
        self.message = inspect.cleandoc(type(self).__doc__ or "").format_map(_Blank(metadata))
        super().__init__(self.message)

    @property
    def field_problems(self) -> Sequence[FieldProblem]:
        """The fields to blame, if any."""
        return ()


class InvalidFields(DomainError):
    """{summary}"""

    kind = Kind.INVALID_ARGUMENT
    reason = "INVALID_FIELDS"

    def __init__(self, *problems: FieldProblem) -> None:
        self._problems = problems
        super().__init__(summary="; ".join(f"{p.field}: {p.problem}" for p in problems))
        self.metadata = {}

    @property
    def field_problems(self) -> Sequence[FieldProblem]:
        """The unfit fields."""
        return self._problems


class MalformedRequest(DomainError):
    """The request is not a message of this method; look at the contract and at the fields' types."""

    kind = Kind.INVALID_ARGUMENT
    reason = "MALFORMED_REQUEST"


class TokenMissing(DomainError):
    """Sign in first: the call needs `authorization: Bearer` with an access token."""

    kind = Kind.UNAUTHENTICATED
    reason = "TOKEN_MISSING"


class TokenInvalid(DomainError):
    """The access token is not valid or has expired; refresh it or sign in again."""

    kind = Kind.UNAUTHENTICATED
    reason = "TOKEN_INVALID"


class SessionEnded(DomainError):
    """The session has ended; sign in again."""

    kind = Kind.UNAUTHENTICATED
    reason = "SESSION_ENDED"


class AccessDenied(DomainError):
    """Your role may not call {method}."""

    kind = Kind.PERMISSION_DENIED
    reason = "ACCESS_DENIED"


class KeysUnavailable(DomainError):
    """Access tokens cannot be verified at the moment; try again shortly."""

    kind = Kind.UNAVAILABLE
    reason = "KEYS_UNAVAILABLE"


class DatabaseUnavailable(DomainError):
    """The service cannot reach its database at the moment; try again shortly."""

    kind = Kind.UNAVAILABLE
    reason = "DATABASE_UNAVAILABLE"


class _Blank(dict[str, str]):
    """Formats a missing name as nothing, so that an error about an error cannot arise."""

    def __missing__(self, key: str) -> str:
        return ""
