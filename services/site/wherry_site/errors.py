"""What can go wrong with sites, sign-ins at them and their credentials."""

from __future__ import annotations

from collections.abc import Sequence

from wherry_chassis.errors import DomainError, FieldProblem, Kind


class SiteNotFound(DomainError):
    """There is no site {site}, or you do not see it."""

    kind = Kind.NOT_FOUND
    reason = "SITE_NOT_FOUND"


class EndpointNotFound(DomainError):
    """The site has no endpoint {endpoint}."""

    kind = Kind.NOT_FOUND
    reason = "ENDPOINT_NOT_FOUND"


class SiteSessionNotFound(DomainError):
    """You are not signed in at {site}."""

    kind = Kind.NOT_FOUND
    reason = "SITE_SESSION_NOT_FOUND"


class UserNotFound(DomainError):
    """There is no user {user}, or it is not you."""

    kind = Kind.NOT_FOUND
    reason = "USER_NOT_FOUND"


class _AlreadyExists(DomainError):
    """It exists already."""

    kind = Kind.ALREADY_EXISTS

    def __init__(self, field: str, **metadata: str) -> None:
        super().__init__(**metadata)
        self._field = field

    @property
    def field_problems(self) -> Sequence[FieldProblem]:
        """The field that has the duplicate."""
        return (FieldProblem(self._field, self.message),)


class SiteExists(_AlreadyExists):
    """The id {site} is taken; choose another."""

    reason = "SITE_EXISTS"


class TitleTaken(_AlreadyExists):
    """Another site is called so, or nearly so; choose a title that nobody can confuse with it."""

    reason = "SITE_TITLE_TAKEN"


class EndpointExists(_AlreadyExists):
    """The site has an endpoint {address} already."""

    reason = "ENDPOINT_EXISTS"


class AddressNotAllowed(DomainError):
    """{host} is a private or loopback address; the operator has to allow it in `[egress] allow`."""

    kind = Kind.PERMISSION_DENIED
    reason = "ADDRESS_NOT_ALLOWED"

    def __init__(self, field: str, **metadata: str) -> None:
        super().__init__(**metadata)
        self._field = field

    @property
    def field_problems(self) -> Sequence[FieldProblem]:
        """The field that has the address."""
        return (FieldProblem(self._field, self.message),)


class NameServiceUnavailable(DomainError):
    """The address of {host} cannot be looked up at the moment; try again shortly."""

    kind = Kind.UNAVAILABLE
    reason = "NAME_SERVICE_UNAVAILABLE"


class EtagMismatch(DomainError):
    """{site} was changed meanwhile; read it again, then repeat your change."""

    kind = Kind.ABORTED
    reason = "ETAG_MISMATCH"


class SignInRefused(DomainError):
    """{site} refused the sign-in: unknown user or wrong password."""

    kind = Kind.FAILED_PRECONDITION
    reason = "SITE_SIGN_IN_REFUSED"


class SiteUnreachable(DomainError):
    """The sign-in server of {site}, {address}, does not answer; try again later or ask the site's administrator."""

    kind = Kind.UNAVAILABLE
    reason = "SITE_UNREACHABLE"


class SiteNotTrusted(DomainError):
    """The sign-in server of {site}, {address}, is not what it claims to be: {cause}. Your password was not sent."""

    kind = Kind.FAILED_PRECONDITION
    reason = "SITE_NOT_TRUSTED"


class SiteAnswerUnusable(DomainError):
    """The sign-in server of {site}, {address}, gave an answer that cannot be used: {cause}."""

    kind = Kind.FAILED_PRECONDITION
    reason = "SITE_ANSWER_UNUSABLE"


class LeaseTokenInvalid(DomainError):
    """The lease token is not valid: forged, expired, or another worker's."""

    kind = Kind.PERMISSION_DENIED
    reason = "LEASE_TOKEN_INVALID"


class LeaseSuperseded(DomainError):
    """A newer lease of {task} exists; give this one up."""

    kind = Kind.PERMISSION_DENIED
    reason = "LEASE_SUPERSEDED"


class LeaseKeysUnavailable(DomainError):
    """Lease tokens cannot be verified at the moment; try again shortly."""

    kind = Kind.UNAVAILABLE
    reason = "LEASE_KEYS_UNAVAILABLE"


class SiteSessionExpired(DomainError):
    """The user is no longer signed in at {site}."""

    kind = Kind.FAILED_PRECONDITION
    reason = "SITE_SESSION_EXPIRED"
