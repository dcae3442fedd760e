"""Sessions of browsers: tokens in cookies, over mTLS, as the gateway asks for them and hands them on."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from wherry.user.v1 import user_service_pb2 as pb
from wherry.user.v1 import user_service_pb2_grpc as rpc
from wherry_testing.refusals import fields_of, refused
from wherry_testing.user_service import PASSWORD, RunningUsers, bearer

EMAIL = "alice@example.org"
ME = pb.GetUserRequest(name="users/me")
SIGN_IN = pb.CreateSessionRequest(email=EMAIL, password=PASSWORD, token_delivery=pb.TOKEN_DELIVERY_COOKIES)
REFRESH = pb.RefreshSessionRequest(token_delivery=pb.TOKEN_DELIVERY_COOKIES)
CURRENT = pb.DeleteSessionRequest(name="users/me/sessions/current")
COOKIE = re.compile(r"(?P<name>[\w-]+)=(?P<value>[^;]*); Path=(?P<path>[^;]+); Max-Age=(?P<age>\d+)(?P<rest>.*)")
Metadata = Sequence[tuple[str, str]]


@dataclass
class Browser:
    """What a browser and the gateway do between them: keep cookies, and make headers of them.

    Attributes:
        cookies: by name, as last set.
        answer_cookies: the `set-cookie` headers of the last answer, and of no answer the trailers.
    """

    service: RunningUsers
    stub: rpc.SessionServiceAsyncStub
    users: rpc.UserServiceAsyncStub
    cookies: dict[str, re.Match[str]] = field(default_factory=dict)
    answer_cookies: list[str] = field(default_factory=list)

    async def ask(self, call: Any) -> Any:
        answer = await call
        trailing = [key for key, _ in await call.trailing_metadata()]
        assert "set-cookie" not in trailing
        self.answer_cookies = [value for key, value in await call.initial_metadata() if key == "set-cookie"]
        for value in self.answer_cookies:
            found = COOKIE.fullmatch(value)
            assert found, value
            self.cookies[found["name"]] = found
        return answer

    @property
    def refresh_header(self) -> Metadata:
        return [("x-wherry-refresh-token", self.cookies["__Secure-wherry-refresh"]["value"])]

    @property
    def access_headers(self) -> Metadata:
        token = self.cookies["__Host-wherry-access"]["value"]
        return [("authorization", f"Bearer {token}"), ("x-wherry-cookies", "1")]

    async def sign_in(self) -> pb.CreateSessionResponse:
        answer: pb.CreateSessionResponse = await self.ask(self.stub.CreateSession(SIGN_IN))
        return answer

    async def refresh(self) -> pb.RefreshSessionResponse:
        answer: pb.RefreshSessionResponse = await self.ask(
            self.stub.RefreshSession(REFRESH, metadata=self.refresh_header)
        )
        return answer


@pytest.fixture
async def browser(service: RunningUsers) -> AsyncIterator[Browser]:
    await service.registered(EMAIL)
    async with service.pki.channel("gateway", service.address) as channel:
        yield Browser(service, rpc.SessionServiceStub(channel), rpc.UserServiceStub(channel))


def remaining_s(stamp: Any) -> float:
    return float(stamp.ToMilliseconds() / 1000 - time.time())


@pytest.mark.row("U6", missing="export of one's data")
async def test_a_browser_forgets_its_cookies_with_the_account_that_was_deleted_in_it(browser: Browser) -> None:
    await browser.sign_in()
    request = pb.DeleteUserRequest(name="users/me", password=PASSWORD)
    await browser.ask(browser.users.DeleteUser(request, metadata=browser.access_headers))
    assert [(found["value"], found["age"]) for found in browser.cookies.values()] == [("", "0")] * 2


@pytest.mark.row("U3")
async def test_a_browser_gets_its_tokens_as_cookies_and_the_answer_tells_only_when_they_end(browser: Browser) -> None:
    answer = await browser.sign_in()
    assert answer.user.email == EMAIL
    assert [found["name"] for found in browser.cookies.values()] == ["__Host-wherry-access", "__Secure-wherry-refresh"]
    access, refresh = browser.cookies.values()
    assert (access["path"], refresh["path"]) == ("/", "/wherry.user.v1.SessionService")
    assert access["rest"] == refresh["rest"] == "; HttpOnly; Secure; SameSite=Strict"
    tokens = answer.tokens
    assert (tokens.access_token, tokens.refresh_token) == ("", "")
    assert int(access["age"]) == pytest.approx(remaining_s(tokens.access_expire_time), abs=3)
    assert int(refresh["age"]) == pytest.approx(remaining_s(tokens.refresh_expire_time), abs=3)
    for cookie in (access, refresh):
        assert cookie["value"]
        assert cookie["value"].encode() not in answer.SerializeToString()
    await browser.users.GetUser(ME, metadata=browser.access_headers)


@pytest.mark.row("U3")
async def test_a_refresh_by_cookie_gives_new_cookies_and_voids_the_old_token(browser: Browser) -> None:
    await browser.sign_in()
    old = browser.refresh_header
    answer = await browser.refresh()
    assert browser.refresh_header != old
    assert (answer.tokens.access_token, answer.tokens.refresh_token) == ("", "")
    assert remaining_s(answer.tokens.refresh_expire_time) > 0
    assert all(cookie["rest"] == "; HttpOnly; Secure; SameSite=Strict" for cookie in browser.cookies.values())
    await browser.users.GetUser(ME, metadata=browser.access_headers)


@pytest.mark.row("U3")
async def test_a_cookies_refresh_token_used_twice_ends_the_session(browser: Browser) -> None:
    await browser.sign_in()
    stolen = browser.refresh_header
    await browser.refresh()
    with refused("UNAUTHENTICATED", "REFRESH_TOKEN_INVALID"):
        await browser.stub.RefreshSession(REFRESH, metadata=stolen)
    with refused("UNAUTHENTICATED", "REFRESH_TOKEN_INVALID"):
        await browser.refresh()
    with refused("UNAUTHENTICATED", "SESSION_ENDED"):
        await browser.users.GetUser(ME, metadata=browser.access_headers)


@pytest.mark.row("U3")
@pytest.mark.parametrize("name", ["client", "operator", "site", "worker"])
async def test_only_the_gateway_may_ask_for_cookies(service: RunningUsers, name: str) -> None:
    await service.registered(EMAIL)
    async with service.pki.channel(name, service.address) as channel:
        stub: rpc.SessionServiceAsyncStub = rpc.SessionServiceStub(channel)
        with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
            await stub.CreateSession(SIGN_IN)
        assert fields_of(refusal.error) == ["token_delivery"]
        with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
            await stub.RefreshSession(REFRESH)
        assert fields_of(refusal.error) == ["token_delivery"]
    leftover = await service.sessions.CreateSession(pb.CreateSessionRequest(email=EMAIL, password=PASSWORD))
    listed = await service.sessions.ListSessions(
        pb.ListSessionsRequest(parent="users/me"), metadata=bearer(leftover.tokens)
    )
    assert len(listed.sessions) == 1, "the refused sign-in left a session behind"


@pytest.mark.row("U3")
async def test_the_headers_of_cookies_are_worth_nothing_from_anybody_but_the_gateway(browser: Browser) -> None:
    service = browser.service
    await browser.sign_in()
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await service.sessions.RefreshSession(REFRESH, metadata=browser.refresh_header)
    assert fields_of(refusal.error) == ["token_delivery"]
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await service.sessions.RefreshSession(pb.RefreshSessionRequest(), metadata=browser.refresh_header)
    assert fields_of(refusal.error) == ["refresh_token"]
    await browser.refresh()  # and the token has not been used up by any of that
    call = service.sessions.DeleteSession(CURRENT, metadata=browser.access_headers)
    await call
    assert "set-cookie" not in [key for key, _ in await call.initial_metadata()]


@pytest.mark.row("U3")
async def test_a_cookies_refresh_token_never_turns_into_one_that_a_script_can_read(browser: Browser) -> None:
    await browser.sign_in()
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await browser.stub.RefreshSession(pb.RefreshSessionRequest(), metadata=browser.refresh_header)
    assert fields_of(refusal.error) == ["refresh_token"]
    both = pb.RefreshSessionRequest(refresh_token="something", token_delivery=pb.TOKEN_DELIVERY_COOKIES)
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await browser.stub.RefreshSession(both, metadata=browser.refresh_header)
    assert fields_of(refusal.error) == ["refresh_token"]
    await browser.refresh()


@pytest.mark.row("U3")
async def test_without_one_refresh_cookie_there_is_nothing_to_refresh(browser: Browser) -> None:
    await browser.sign_in()
    good = list(browser.refresh_header)
    for metadata in ([], [("x-wherry-refresh-token", "made-up")], [*good, ("x-wherry-refresh-token", "made-up")]):
        with refused("UNAUTHENTICATED", "REFRESH_TOKEN_INVALID"):
            await browser.stub.RefreshSession(REFRESH, metadata=metadata)
    await browser.refresh()


@pytest.mark.row("U3")
async def test_what_lua_made_of_a_cookie_is_not_trusted_where_anyone_may_call(browser: Browser) -> None:
    await browser.sign_in()
    unverified = [("authorization", "Bearer made-up"), ("x-wherry-cookies", "1")]
    call = browser.stub.CreateSession(SIGN_IN, metadata=unverified)
    await browser.ask(call)
    await browser.ask(browser.stub.RefreshSession(REFRESH, metadata=[*unverified, *browser.refresh_header]))
    with refused("UNAUTHENTICATED", "TOKEN_INVALID"):
        await browser.stub.DeleteSession(CURRENT, metadata=unverified)


@pytest.mark.row("U3")
@pytest.mark.parametrize("by_name", [False, True])
async def test_signing_out_takes_the_cookies_away_and_ends_the_session(browser: Browser, by_name: bool) -> None:
    await browser.sign_in()
    access, refresh = browser.access_headers, browser.refresh_header
    name = CURRENT.name
    if by_name:
        request = pb.ListSessionsRequest(parent="users/me")
        name = (await browser.stub.ListSessions(request, metadata=access)).sessions[0].name
    await browser.ask(browser.stub.DeleteSession(pb.DeleteSessionRequest(name=name), metadata=access))
    assert browser.answer_cookies == [
        "__Host-wherry-access=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict",
        "__Secure-wherry-refresh=; Path=/wherry.user.v1.SessionService; Max-Age=0; HttpOnly; Secure; SameSite=Strict",
    ]
    with refused("UNAUTHENTICATED", "SESSION_ENDED"):
        await browser.users.GetUser(ME, metadata=access)
    with refused("UNAUTHENTICATED", "REFRESH_TOKEN_INVALID"):
        await browser.stub.RefreshSession(REFRESH, metadata=refresh)


@pytest.mark.row("U3")
async def test_ending_another_session_or_one_without_cookies_sets_none(browser: Browser) -> None:
    await browser.sign_in()
    mine = browser.access_headers
    other = await browser.service.signed_in(EMAIL)
    request = pb.ListSessionsRequest(parent="users/me")
    listed = (await browser.stub.ListSessions(request, metadata=mine)).sessions
    (name,) = [session.name for session in listed if not session.current]
    await browser.ask(browser.stub.DeleteSession(pb.DeleteSessionRequest(name=name), metadata=mine))
    assert browser.answer_cookies == []
    with refused("UNAUTHENTICATED", "SESSION_ENDED"):
        await browser.users.GetUser(ME, metadata=bearer(other))
    script = await browser.service.signed_in(EMAIL)
    await browser.ask(browser.stub.DeleteSession(CURRENT, metadata=bearer(script)))
    assert browser.answer_cookies == []


@pytest.mark.row("U3")
async def test_a_refused_sign_in_sets_no_cookies(browser: Browser) -> None:
    wrong = pb.CreateSessionRequest(email=EMAIL, password="wrong", token_delivery=pb.TOKEN_DELIVERY_COOKIES)
    call = browser.stub.CreateSession(wrong)
    with refused("UNAUTHENTICATED", "SIGN_IN_REFUSED"):
        await call
    sent = [*(await call.initial_metadata()), *(await call.trailing_metadata())]
    assert "set-cookie" not in [key for key, _ in sent]


@pytest.mark.row("U3")
async def test_a_caller_through_the_gateway_who_asks_for_no_cookies_gets_tokens(browser: Browser) -> None:
    call = browser.stub.CreateSession(pb.CreateSessionRequest(email=EMAIL, password=PASSWORD))
    answer = await browser.ask(call)
    assert browser.answer_cookies == []
    refreshed = await browser.ask(
        browser.stub.RefreshSession(pb.RefreshSessionRequest(refresh_token=answer.tokens.refresh_token))
    )
    assert browser.answer_cookies == []
    assert refreshed.tokens.access_token


@pytest.mark.row("U3")
async def test_no_log_line_of_a_browsers_session_has_a_cookie(
    browser: Browser, capfd: pytest.CaptureFixture[str]
) -> None:
    await browser.sign_in()
    secrets = [cookie["value"] for cookie in browser.cookies.values()]
    stolen = browser.refresh_header
    await browser.refresh()
    secrets += [cookie["value"] for cookie in browser.cookies.values()]
    await browser.users.GetUser(ME, metadata=browser.access_headers)
    await browser.stub.DeleteSession(CURRENT, metadata=browser.access_headers)
    with pytest.raises(grpc.aio.AioRpcError):
        await browser.stub.RefreshSession(REFRESH, metadata=stolen)
    logged = "".join(capfd.readouterr())
    assert "wherry.user.v1.SessionService/RefreshSession" in logged
    assert [secret for secret in secrets if secret in logged or secret.rpartition(".")[2] in logged] == []
