"""One's account and sign-in at Wherry."""

from __future__ import annotations

from wherry.user.v1 import user_service_pb2 as messages

from wherry_client.calls import Caller
from wherry_client.connection import Connection
from wherry_client.errors import NotFoundError, SignInNeededError
from wherry_client.sessions import SessionKeeper


class Accounts:
    """Registers, signs in and out. Every method raises WherryError."""

    def __init__(self, connection: Connection, caller: Caller, keeper: SessionKeeper) -> None:
        self._users = connection.users
        self._sessions = connection.sessions
        self._caller = caller
        self._keeper = keeper

    def register(self, email: str, password: str, display_name: str = "") -> None:
        """Registers an address; the mail that follows holds a token for `verify`."""
        request = messages.CreateUserRequest(email=email, password=password, display_name=display_name)
        self._caller.ask_anonymously(self._users.CreateUser, request)

    def verify(self, token: str) -> None:
        """Confirms an address with the mailed token."""
        self._caller.ask_anonymously(self._users.VerifyEmail, messages.VerifyEmailRequest(token=token))

    def resend_verification(self, email: str) -> None:
        """Has another mail sent, if the address is registered and unverified."""
        request = messages.ResendVerificationRequest(email=email)
        self._caller.ask_anonymously(self._users.ResendVerification, request)

    def sign_in(self, email: str, password: str) -> messages.User:
        """Signs in and keeps the tokens."""
        request = messages.CreateSessionRequest(email=email, password=password)
        answer = self._caller.ask_anonymously(self._sessions.CreateSession, request)
        self._keeper.begin(answer.tokens, answer.user.email or email)
        return answer.user

    def sign_out(self) -> bool:
        """Ends the session at the service, then forgets the tokens; returns whether there was one.

        Where the service cannot be reached the tokens stay, so that the session can still be ended.
        """
        if self._keeper.stored() is None:
            return False
        request = messages.DeleteSessionRequest(name="users/me/sessions/current")
        try:
            self._caller.ask(self._sessions.DeleteSession, request)
        except (SignInNeededError, NotFoundError):
            self._keeper.end()  # it has ended before
            return False
        self._keeper.end()
        return True

    def me(self) -> messages.User:
        """Returns one's own account."""
        return self._caller.ask(self._users.GetUser, messages.GetUserRequest(name="users/me"))
