"""The token file: the tokens of one sign-in, readable by their owner alone."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import platformdirs
from wherry.user.v1 import user_service_pb2

from wherry_client.errors import UnavailableError, WherryError, sign_in_needed

_LOCK_WAIT_S = 60.0
_LOCK_POLL_S = 0.05


@dataclass(frozen=True)
class StoredTokens:
    """What a sign-in left: the tokens and when they end, in seconds since the epoch."""

    email: str
    access_token: str = field(repr=False)
    access_expire_time_s: float
    refresh_token: str = field(repr=False)
    refresh_expire_time_s: float

    @classmethod
    def of(cls, tokens: user_service_pb2.Tokens, email: str) -> StoredTokens:
        """Returns what to keep of a service's answer."""
        return cls(
            email=email,
            access_token=tokens.access_token,
            access_expire_time_s=tokens.access_expire_time.ToNanoseconds() / 1e9,
            refresh_token=tokens.refresh_token,
            refresh_expire_time_s=tokens.refresh_expire_time.ToNanoseconds() / 1e9,
        )


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder for token files: `$WHERRY_STATE`, or `wherry` in the user's place for state."""
    if named := environment.get("WHERRY_STATE"):
        return Path(named)
    return platformdirs.user_state_path("wherry")


class TokenFile:
    """The tokens for one deployment.

    The file's name is made from the gateway's address and the authority that the configuration names for it (empty
    where it names none), so that no token goes to another deployment than the one that gave it.
    """

    def __init__(self, directory: Path, gateway: str, authority_pem: bytes) -> None:
        digest = hashlib.sha256(gateway.encode() + b"\0" + authority_pem).hexdigest()[:16]
        self.path = directory / f"tokens-{digest}.json"
        self._lock_path = directory / f"tokens-{digest}.lock"

    def read(self) -> StoredTokens | None:
        """Returns the tokens, None where there are none; raises WherryError where the file is not what we wrote."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    os.fchmod(file.fileno(), 0o600)
                content = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WherryError(f"The token file {self.path} cannot be read: {error.strerror}") from error
        try:
            return _checked(StoredTokens(**json.loads(content)))
        except (ValueError, TypeError) as error:
            raise WherryError(
                f"The token file {self.path} is damaged.", advice="Delete it and sign in again."
            ) from error

    def write(self, tokens: StoredTokens) -> None:
        """Replaces the file in one step: a reader sees the old tokens or the new, whole, whatever happens."""
        try:
            self._make_directory()
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".tokens-")  # mode 0600
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(asdict(tokens), file)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(self.path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise WherryError(f"The token file {self.path} cannot be written: {error.strerror}") from error

    def remove(self) -> None:
        """Removes the file if it is there."""
        self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the lock by which processes and threads take turns; raises UnavailableError after a minute."""
        self._make_directory()
        handle = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_WAIT_S
            while not _try_lock(handle):
                if time.monotonic() > deadline:
                    raise UnavailableError(f"Another wherry command has held {self._lock_path} for a minute.")
                time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(handle)  # gives the lock back

    def _make_directory(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise WherryError(f"{self.path.parent} cannot be made: {error.strerror}") from error


def require(tokens: StoredTokens | None) -> StoredTokens:
    """Returns the tokens; raises SignInNeededError where there are none."""
    if tokens is None:
        raise sign_in_needed()
    return tokens


def _checked(tokens: StoredTokens) -> StoredTokens:
    texts = (tokens.email, tokens.access_token, tokens.refresh_token)
    times = (tokens.access_expire_time_s, tokens.refresh_expire_time_s)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(at, int | float) for at in times):
        raise TypeError
    return tokens


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
