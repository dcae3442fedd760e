"""What can go wrong, in words for the person at the terminal."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from wherry.type.v1 import entry_pb2

from wherry_client.exits import ExitStatus
from wherry_client.names import show_text


class WherryError(Exception):
    """Something did not work.

    `reason` is the service's upper-snake constant, empty where the client itself found the fault; `advice` says what
    the reader can do; `site` is the id of the site that it is about, if it is about one.
    """

    status = ExitStatus.FAILED

    def __init__(self, message: str, *, reason: str = "", advice: str = "", site: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.advice = advice
        self.site = site


class UsageError(WherryError):
    """Arguments, configuration or a request's fields are unfit."""

    status = ExitStatus.USAGE


class SignInNeededError(WherryError):
    """Nobody is signed in at Wherry, or not at the site in `site`."""

    status = ExitStatus.SIGN_IN_NEEDED


class UnavailableError(WherryError):
    """The gateway, a service or a site does not answer, or not in time; the same may work later."""

    status = ExitStatus.UNAVAILABLE

    @property
    def was_lost(self) -> bool:
        """Whether the way to the service was lost, so that it has not said a word to this."""
        return self.reason in ("", SERVICE_AWAY)


class NotFoundError(WherryError):
    """There is no such thing, or it is somebody else's."""


SERVICE_AWAY = "SERVICE_UNAVAILABLE"
"""What the gateway says where no replica of a service answers it."""
_ADVICE = {
    "SIGN_IN_REFUSED": "Check the address and the password.",
    "EMAIL_NOT_VERIFIED": "Take the token from the mail: wherry verify TOKEN. For another mail: wherry resend EMAIL.",
    "VERIFICATION_TOKEN_INVALID": "A token works once and expires. For a new one: wherry resend EMAIL.",
    "ADDRESS_NOT_ALLOWED": "The operator of this deployment has to allow such an address.",
    "ETAG_MISMATCH": "It was changed meanwhile; look at it again and repeat.",
    "SITE_UNREACHABLE": "Try again later; if it stays so, tell the site's administrators.",
    "SITE_NOT_TRUSTED": "Do not type your password elsewhere; tell the site's administrators.",
    "SITE_NOT_FOUND": "See which there are: wherry sites.",
    "NO_WORKER": "Try again later; if it stays so, tell the operator of this deployment.",
}
_TOO_MANY = frozenset({"SIGN_IN_RATE_LIMITED"})
_SITE_SIGN_IN = frozenset({"SITE_SIGN_IN_REQUIRED", "SITE_SESSION_EXPIRED", "SIGN_IN_REQUIRED"})
_MESSAGES = {
    "SIGN_IN_REFUSED": "The address or the password is wrong.",
    "EMAIL_NOT_VERIFIED": "This address is not verified yet.",
    "SITE_SIGN_IN_REFUSED": "The site refused the user name or the password.",
}


def from_rpc(error: grpc.RpcError, gateway: str) -> WherryError:
    """Returns what a failed call through the gateway at `host:port` means."""
    code = error.code()
    details = error.details() or ""
    reason, metadata, fields = _details_of(error)
    site = metadata.get("site", "").removeprefix("sites/")
    message = _MESSAGES.get(reason) or details or f"The gateway at {gateway} answered {code.name}."
    advice = _ADVICE.get(reason, "")
    if reason in _SITE_SIGN_IN:
        return site_sign_in_needed(site, reason, details)
    if code is grpc.StatusCode.UNAUTHENTICATED and reason != "SIGN_IN_REFUSED":
        return sign_in_needed(reason)
    if code is grpc.StatusCode.UNAVAILABLE:
        if not reason:
            return _unreachable(gateway, details)
        if reason == SERVICE_AWAY:
            return _away(metadata.get("service", ""), gateway)
        return UnavailableError(message, reason=reason, advice=advice, site=site)
    if reason in _TOO_MANY:
        return UnavailableError(message, reason=reason, advice=advice)
    if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return UnavailableError(f"No answer came in time through the gateway at {gateway}.", reason=reason)
    if code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL) and not reason:
        # The services say INTERNAL with a reason; this is the library telling of a broken stream.
        return UnavailableError(f"The connection to the gateway at {gateway} broke.")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        listed = "; ".join(f"{name}: {text}" if name else text for name, text in fields)
        return UsageError(listed or message, reason=reason, advice=advice)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return WherryError(
            f"The deployment at {gateway} does not know this request.",
            reason=reason,
            advice="Client and deployment are of different releases.",
        )
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFoundError(message, reason=reason, advice=advice, site=site)
    return WherryError(_with_incident(message, metadata), reason=reason, advice=advice, site=site)


def from_failure(failure: entry_pb2.Failure, site: str) -> WherryError:
    """Returns what an operation's failure at a site means."""
    if failure.reason in _SITE_SIGN_IN or failure.reason.endswith("_SESSION_EXPIRED"):
        return site_sign_in_needed(site, failure.reason, failure.message)
    kind = WherryError
    if failure.retryable:
        kind = UnavailableError
    elif failure.reason.endswith("NOT_FOUND"):
        kind = NotFoundError
    return kind(failure.message, reason=failure.reason, advice=failure.help, site=site)


def sign_in_needed(reason: str = "") -> SignInNeededError:
    """Returns the error for a caller who is not, or no longer, signed in at Wherry."""
    ended = reason in ("REFRESH_TOKEN_INVALID", "SESSION_ENDED")
    message = "Your sign-in at Wherry has ended." if ended else "You are not signed in at Wherry."
    return SignInNeededError(message, reason=reason, advice="Sign in: wherry login EMAIL")


def site_sign_in_needed(site: str, reason: str, message: str = "") -> SignInNeededError:
    """Returns the error for a caller who is not, or no longer, signed in at a site."""
    return SignInNeededError(
        message or f"You are not signed in at {site or 'the site'}.",
        reason=reason,
        advice=f"Sign in: wherry site login {site or 'SITE'}",
        site=site,
    )


def _unreachable(gateway: str, details: str) -> UnavailableError:
    # Without an ErrorInfo it is the library's own word: the call did not reach the gateway, or the answer was lost.
    told = details.lower()
    if "handshake" in told or "certificate" in told or "verification" in told:
        return UnavailableError(
            f"The certificate of the gateway at {gateway} is not one that this client believes.",
            advice="See `ca` in the configuration file: it must be the authority of that certificate. If it is, do not "
            "sign in there, and tell the operator of the deployment.",
        )
    return UnavailableError(
        f"The gateway at {gateway} cannot be reached.",
        advice="Try again later; see `gateway` in the configuration file for the address.",
    )


def _away(service: str, gateway: str) -> UnavailableError:
    which = f"The {show_text(service)} service" if service else "Every service"
    return UnavailableError(
        f"{which} behind the gateway at {gateway} is away at the moment.",
        reason=SERVICE_AWAY,
        advice="Try again shortly; jobs that were accepted are kept.",
    )


def _with_incident(message: str, metadata: Mapping[str, str]) -> str:
    incident = metadata.get("incident") or metadata.get("incident_id")
    if incident and incident not in message:
        return f"{message} (incident {incident})"
    return message


def _details_of(error: grpc.RpcError) -> tuple[str, dict[str, str], list[tuple[str, str]]]:
    """Returns reason and metadata of the ErrorInfo, and the fields of the BadRequest."""
    reason, metadata, fields = "", dict[str, str](), list[tuple[str, str]]()
    try:
        status = rpc_status.from_call(error) if isinstance(error, grpc.Call) else None
    except ValueError:  # details that contradict the code: then the code alone speaks
        status = None
    if status is None:
        return reason, metadata, fields
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            fields.extend((violation.field, violation.description) for violation in bad.field_violations)
    return reason, metadata, fields
