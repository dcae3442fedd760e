"""The token file, and when tokens are renewed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from wherry.user.v1 import user_service_pb2
from wherry_client.errors import SignInNeededError, UnavailableError, WherryError
from wherry_client.sessions import RENEWAL_MARGIN_S, SessionKeeper
from wherry_client.tokens import StoredTokens, TokenFile, state_directory

LATER_OF_C4 = "job pause, resume, retry, logs, receipt"
NOW_S = 1_000_000.0


def tokens(number: int, *, access_s: float = 600, refresh_s: float = 86400) -> user_service_pb2.Tokens:
    made = user_service_pb2.Tokens(access_token=f"access-{number}", refresh_token=f"refresh-{number}")
    made.access_expire_time.FromSeconds(int(NOW_S + access_s))
    made.refresh_expire_time.FromSeconds(int(NOW_S + refresh_s))
    return made


class Exchange:
    """Trades refresh tokens, or fails as it is told."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.fails_with: WherryError | None = None

    def __call__(self, refresh_token: str) -> user_service_pb2.Tokens:
        self.taken.append(refresh_token)
        if self.fails_with is not None:
            raise self.fails_with
        return tokens(100 + len(self.taken))


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "state", "localhost:8443", b"PEM")


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def keeper(file: TokenFile, exchange: Exchange) -> SessionKeeper:
    return SessionKeeper(file, exchange, now=lambda: NOW_S)


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_the_file_is_for_its_owner_alone_whatever_the_umask(file: TokenFile) -> None:
    before = os.umask(0)
    try:
        file.write(StoredTokens.of(tokens(1), "alice"))
    finally:
        os.umask(before)
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_a_file_that_others_could_read_is_closed_to_them(file: TokenFile) -> None:
    file.write(StoredTokens.of(tokens(1), "alice"))
    file.path.chmod(0o644)
    assert file.read() is not None
    assert file.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_a_write_that_fails_leaves_the_old_tokens_and_nothing_else(
    file: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write(StoredTokens.of(tokens(1), "alice"))

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WherryError, match="No space left"):
        file.write(StoredTokens.of(tokens(2), "alice"))
    kept = file.read()
    assert kept is not None
    assert kept.access_token == "access-1"
    assert list(file.path.parent.iterdir()) == [file.path]


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_the_file_is_replaced_and_never_written_into(file: TokenFile) -> None:
    file.write(StoredTokens.of(tokens(1), "alice"))
    with file.path.open() as reader:
        file.write(StoredTokens.of(tokens(2), "alice"))
        assert json.load(reader)["access_token"] == "access-1"


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_no_token_is_in_a_representation(file: TokenFile) -> None:
    shown = repr(StoredTokens.of(tokens(1), "alice"))
    assert "access-1" not in shown
    assert "refresh-1" not in shown


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_each_deployment_has_a_file_of_its_own(tmp_path: Path) -> None:
    files = {
        TokenFile(tmp_path, address, authority).path
        for address in ("a.example.org:1", "b.example.org:1")
        for authority in (b"one", b"other")
    }
    assert len(files) == 4


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_the_state_is_where_the_environment_says_or_in_the_users_own_place() -> None:
    assert state_directory({"WHERRY_STATE": "/somewhere"}) == Path("/somewhere")
    assert state_directory({}).name == "wherry"


@pytest.mark.row("C1", missing="passwd, unregister")
@pytest.mark.parametrize(("rest_s", "renewals"), [(RENEWAL_MARGIN_S + 1, 0), (RENEWAL_MARGIN_S, 1), (-5, 1)])
def test_a_token_is_renewed_when_too_little_is_left_of_it(
    keeper: SessionKeeper, exchange: Exchange, rest_s: float, renewals: int
) -> None:
    keeper.begin(tokens(1, access_s=rest_s), "alice")
    keeper.access_token()
    assert len(exchange.taken) == renewals


@pytest.mark.row("C1", missing="passwd, unregister")
def test_a_token_that_another_process_has_renewed_is_taken_from_the_file(
    keeper: SessionKeeper, exchange: Exchange, file: TokenFile
) -> None:
    keeper.begin(tokens(1), "alice")
    refused = keeper.access_token()
    file.write(StoredTokens.of(tokens(2), "alice"))
    assert keeper.after_refusal(refused) == "access-2"
    assert exchange.taken == []


@pytest.mark.row("C1", missing="passwd, unregister")
def test_what_was_begun_as_one_person_does_not_go_on_as_another(
    file: TokenFile, keeper: SessionKeeper, exchange: Exchange
) -> None:
    file.write(StoredTokens.of(tokens(1, access_s=RENEWAL_MARGIN_S + 1), "alice@example.org"))
    refused = keeper.access_token()
    theirs = StoredTokens.of(tokens(2), "bob@example.org")
    file.write(theirs)
    with pytest.raises(SignInNeededError, match=r"bob@example\.org has signed in .* as alice@example\.org"):
        keeper.after_refusal(refused)
    assert exchange.taken == []
    assert file.read() == theirs


@pytest.mark.row("C1", missing="passwd, unregister")
def test_tokens_that_run_out_are_not_renewed_with_those_of_another(file: TokenFile, exchange: Exchange) -> None:
    now_s = NOW_S
    keeper = SessionKeeper(file, exchange, now=lambda: now_s)
    file.write(StoredTokens.of(tokens(1), "alice@example.org"))
    assert keeper.access_token() == "access-1"
    theirs = StoredTokens.of(tokens(2, access_s=9000), "bob@example.org")
    file.write(theirs)
    now_s += 600
    with pytest.raises(SignInNeededError, match="bob"):
        keeper.access_token()
    assert exchange.taken == []
    assert file.read() == theirs


@pytest.mark.row("C1", missing="passwd, unregister")
def test_a_new_sign_in_of_ones_own_changes_who_one_is(keeper: SessionKeeper) -> None:
    keeper.begin(tokens(1), "alice@example.org")
    keeper.begin(tokens(2), "bob@example.org")
    assert keeper.after_refusal("access-1") == "access-2"
    keeper.end()
    keeper.begin(tokens(3), "alice@example.org")
    assert keeper.after_refusal("access-2") == "access-3"


@pytest.mark.row("C1", missing="passwd, unregister")
def test_a_session_that_has_ended_leaves_no_file(keeper: SessionKeeper, exchange: Exchange, file: TokenFile) -> None:
    keeper.begin(tokens(1, access_s=0), "alice")
    exchange.fails_with = SignInNeededError("ended")
    with pytest.raises(SignInNeededError):
        keeper.access_token()
    assert not file.path.exists()


@pytest.mark.row("C1", missing="passwd, unregister")
def test_a_refresh_token_past_its_time_is_not_even_sent(keeper: SessionKeeper, exchange: Exchange) -> None:
    keeper.begin(tokens(1, access_s=-9, refresh_s=-1), "alice")
    with pytest.raises(SignInNeededError):
        keeper.access_token()
    assert exchange.taken == []


@pytest.mark.row("C1", missing="passwd, unregister")
def test_an_unreachable_service_costs_no_session(keeper: SessionKeeper, exchange: Exchange, file: TokenFile) -> None:
    exchange.fails_with = UnavailableError("down")
    keeper.begin(tokens(1, access_s=10), "alice")
    assert keeper.access_token() == "access-1"
    with pytest.raises(UnavailableError):
        keeper.after_refusal("access-1")
    assert file.path.exists()
