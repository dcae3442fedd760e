"""The whole client: opens the configuration, the connection and the sign-in."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from wherry.user.v1 import user_service_pb2

from wherry_client import configuration as configurations
from wherry_client import tokens
from wherry_client.accounts import Accounts
from wherry_client.calls import Caller, anonymous_call
from wherry_client.connection import Connection
from wherry_client.files import Files
from wherry_client.jobs import Jobs
from wherry_client.sessions import SessionKeeper
from wherry_client.sites import Sites, SiteSessions


class Client:
    """Wherry for one user; a context manager, so that its channel is closed.

    `accounts`, `sites`, `site_sessions`, `files` and `jobs` hold the operations; all of them raise WherryError. The
    tokens of `accounts.sign_in` are kept in a file in `state_directory`, which later clients read.
    """

    def __init__(self, configuration: configurations.Configuration, state_directory: Path) -> None:
        gateway, ca = configuration.gateway, configurations.read_ca(configuration)
        authorities = configurations.system_authorities(configuration) if ca is None else ca
        self._connection = connection = Connection(gateway, authorities)
        # The system's authorities change with its updates, and a sign-in outlives those.
        self.token_file = tokens.TokenFile(state_directory, gateway, ca or b"")

        def refresh(refresh_token: str) -> user_service_pb2.Tokens:
            request = user_service_pb2.RefreshSessionRequest(refresh_token=refresh_token)
            return anonymous_call(gateway, connection.sessions.RefreshSession, request).tokens

        keeper = SessionKeeper(self.token_file, refresh)
        caller = Caller(gateway, keeper)
        self.accounts = Accounts(connection, caller, keeper)
        self.sites = Sites(connection, caller)
        self.site_sessions = SiteSessions(connection, caller)
        self.files = Files(connection, caller)
        self.jobs = Jobs(connection, caller)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the channel."""
        self._connection.close()


def open_client(config: Path | None = None) -> Client:
    """Opens a client with the `wherry` command's configuration and state; raises UsageError.

    They come from `config`, the environment (`WHERRY_CONFIG`, `WHERRY_STATE`), or the user's own folders.
    """
    return Client(configurations.load(configurations.find(config)), tokens.state_directory())
