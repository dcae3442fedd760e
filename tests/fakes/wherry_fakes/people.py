"""A user service in memory: accounts, sign-ins with rotating refresh tokens, and who a token belongs to."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

import grpc
from google.protobuf import empty_pb2
from wherry.user.v1 import user_service_pb2 as messages
from wherry.user.v1 import user_service_pb2_grpc
from wherry_chassis.errors import FieldProblem
from wherry_fakes.answering import bearer_of, refuse, timestamp


@dataclass
class Account:
    """A registered person."""

    email: str
    password: str
    user: str
    display_name: str
    verified: bool = False


@dataclass
class People:
    """The fake's state. `access_ttl_s` is how long access tokens live from now on; no token is taken without keys."""

    access_ttl_s: float = 600.0
    keys_known: bool = True
    accounts: dict[str, Account] = field(default_factory=dict)
    mails: list[tuple[str, str]] = field(default_factory=list)
    refreshes: int = 0
    _sessions: dict[str, Account] = field(default_factory=dict)
    _access: dict[str, tuple[str, float]] = field(default_factory=dict)
    _refresh: dict[str, str] = field(default_factory=dict)
    _used: dict[str, str] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _users: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def register(self, email: str, password: str, *, display_name: str = "", verified: bool = True) -> Account:
        """Adds an account; one that is not verified gets a mail."""
        account = Account(email, password, f"users/{next(self._users)}", display_name or email, verified)
        self.accounts[email] = account
        if not verified:
            self.mails.append((email, f"verify-{next(self._numbers)}"))
        return account

    def begin(self, account: Account) -> messages.Tokens:
        """Begins a session."""
        session = f"session-{next(self._numbers)}"
        self._sessions[session] = account
        return self._pair(session)

    def trade(self, refresh_token: str) -> messages.Tokens | None:
        """Trades a refresh token; a used one ends the session."""
        with self._lock:
            self.refreshes += 1
            if refresh_token in self._used:
                self._sessions.pop(self._used[refresh_token], None)
            session = self._refresh.pop(refresh_token, "")
            self._used[refresh_token] = session
            return self._pair(session) if session in self._sessions else None

    def caller(self, context: grpc.ServicerContext) -> Account:
        """Returns who calls, or refuses the call."""
        session, until = self._access.get(bearer_of(context), ("", 0.0))
        if until <= time.time() or not self.keys_known:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
        if session not in self._sessions:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "SESSION_ENDED")
        return self._sessions[session]

    def end_session_of(self, context: grpc.ServicerContext) -> None:
        """Ends the session that a call came with."""
        self._sessions.pop(self._access[bearer_of(context)][0], None)

    def delete(self, account: Account) -> None:
        """Deletes an account with its sessions."""
        del self.accounts[account.email]
        self._sessions = {name: whose for name, whose in self._sessions.items() if whose is not account}

    def refuse_access_tokens(self) -> None:
        """Makes all access tokens void, the sessions go on."""
        self._access.clear()

    def end_sessions(self) -> None:
        """Ends all sessions."""
        self._sessions.clear()

    def live_sessions(self) -> int:
        """Returns how many sessions there are."""
        return len(self._sessions)

    def _pair(self, session: str) -> messages.Tokens:
        access, refresh = f"access-{next(self._numbers)}", f"refresh-{next(self._numbers)}"
        until = time.time() + self.access_ttl_s
        self._access[access] = (session, until)
        self._refresh[refresh] = session
        return messages.Tokens(
            access_token=access,
            access_expire_time=timestamp(until),
            refresh_token=refresh,
            refresh_expire_time=timestamp(time.time() + 86400),
        )


class FakeUserService(user_service_pb2_grpc.UserServiceServicer):
    """Accounts."""

    def __init__(self, people: People) -> None:
        self._people = people

    def CreateUser(
        self, request: messages.CreateUserRequest, context: grpc.ServicerContext
    ) -> messages.CreateUserResponse:
        if len(request.password) < 8:
            problem = FieldProblem("password", "must have at least 8 characters")
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", fields=(problem,))
        if request.email not in self._people.accounts:
            self._people.register(request.email, request.password, display_name=request.display_name, verified=False)
        return messages.CreateUserResponse()

    def VerifyEmail(
        self, request: messages.VerifyEmailRequest, context: grpc.ServicerContext
    ) -> messages.VerifyEmailResponse:
        mail = next((mail for mail in self._people.mails if mail[1] == request.token), None)
        if mail is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, "VERIFICATION_TOKEN_INVALID", "The token is not valid.")
        self._people.mails.remove(mail)
        self._people.accounts[mail[0]].verified = True
        return messages.VerifyEmailResponse()

    def ResendVerification(
        self, request: messages.ResendVerificationRequest, context: grpc.ServicerContext
    ) -> messages.ResendVerificationResponse:
        return messages.ResendVerificationResponse()

    def GetUser(self, request: messages.GetUserRequest, context: grpc.ServicerContext) -> messages.User:
        return _user(self._people.caller(context))

    def DeleteUser(self, request: messages.DeleteUserRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        account = self._people.caller(context)
        if request.name not in {"users/me", account.user}:
            refuse(context, grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")
        if request.password != account.password:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "PASSWORD_WRONG")
        self._people.delete(account)
        return empty_pb2.Empty()


class FakeSessionService(user_service_pb2_grpc.SessionServiceServicer):
    """Sign-ins."""

    def __init__(self, people: People) -> None:
        self._people = people

    def CreateSession(
        self, request: messages.CreateSessionRequest, context: grpc.ServicerContext
    ) -> messages.CreateSessionResponse:
        account = self._people.accounts.get(request.email)
        if account is None or account.password != request.password:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "SIGN_IN_REFUSED")
        if not account.verified:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "EMAIL_NOT_VERIFIED")
        return messages.CreateSessionResponse(tokens=self._people.begin(account), user=_user(account))

    def RefreshSession(
        self, request: messages.RefreshSessionRequest, context: grpc.ServicerContext
    ) -> messages.RefreshSessionResponse:
        tokens = self._people.trade(request.refresh_token)
        if tokens is None:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID")
        return messages.RefreshSessionResponse(tokens=tokens)

    def ListSessions(
        self, request: messages.ListSessionsRequest, context: grpc.ServicerContext
    ) -> messages.ListSessionsResponse:
        self._people.caller(context)
        return messages.ListSessionsResponse()

    def DeleteSession(self, request: messages.DeleteSessionRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self._people.caller(context)
        self._people.end_session_of(context)
        return empty_pb2.Empty()


def _user(account: Account) -> messages.User:
    return messages.User(name=account.user, email=account.email, display_name=account.display_name)
