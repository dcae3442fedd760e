"""What can go wrong with accounts and sign-ins; the docstrings are what callers read."""

from __future__ import annotations

from wherry_chassis.errors import DomainError, Kind


class MailUnavailable(DomainError):
    """The mail could not be sent, so nothing was kept; try again later."""

    kind = Kind.UNAVAILABLE
    reason = "MAIL_UNAVAILABLE"


class VerificationTokenInvalid(DomainError):
    """This verification token is unknown, has been used, or has expired; ask for a new one."""

    kind = Kind.NOT_FOUND
    reason = "VERIFICATION_TOKEN_INVALID"


class SignInRefused(DomainError):
    """No account has this e-mail address and password."""

    kind = Kind.UNAUTHENTICATED
    reason = "SIGN_IN_REFUSED"


class EmailNotVerified(DomainError):
    """Confirm your e-mail address first, with the token that was mailed to you; you can ask for a new one."""

    kind = Kind.FAILED_PRECONDITION
    reason = "EMAIL_NOT_VERIFIED"


class SignInThrottled(DomainError):
    """Too many sign-ins have failed for this account or from this address; try again in {retry_after_s} s."""

    kind = Kind.RESOURCE_EXHAUSTED
    reason = "SIGN_IN_THROTTLED"


class PasswordWrong(DomainError):
    """This is not the account's password."""

    kind = Kind.FAILED_PRECONDITION
    reason = "PASSWORD_WRONG"


class RefreshTokenInvalid(DomainError):
    """This refresh token is not valid any more; sign in again."""

    kind = Kind.UNAUTHENTICATED
    reason = "REFRESH_TOKEN_INVALID"


class UserNotFound(DomainError):
    """There is no such user."""

    kind = Kind.NOT_FOUND
    reason = "USER_NOT_FOUND"


class SessionNotFound(DomainError):
    """There is no such session."""

    kind = Kind.NOT_FOUND
    reason = "SESSION_NOT_FOUND"


class CursorUnknown(DomainError):
    """No revocation has had this cursor yet; watch from 0 and confirm what comes."""

    kind = Kind.FAILED_PRECONDITION
    reason = "CURSOR_UNKNOWN"


class FollowerUnclear(DomainError):
    """The certificate's subject has to have one of the roles `site` and `queue`, and not both, to confirm anything."""

    kind = Kind.FAILED_PRECONDITION
    reason = "FOLLOWER_UNCLEAR"
