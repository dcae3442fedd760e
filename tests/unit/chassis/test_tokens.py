from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from wherry_chassis.errors import SessionEnded, TokenInvalid
from wherry_chassis.revocations import Revocations
from wherry_testing.access_tokens import TokenMaker


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


async def _refused(token: str, maker: TokenMaker) -> None:
    with pytest.raises(TokenInvalid):
        await maker.verifier().verify(token)


async def test_a_valid_token_says_who_and_from_which_sign_in() -> None:
    maker = TokenMaker()
    claims = await maker.verifier().verify(maker.token(exp=int(time.time()) + 60))
    assert (claims.user, claims.session_id) == ("users/alice", "session-1")
    assert claims.expires_s - time.time() < 61


@pytest.mark.row("A1", missing="every RPC x every role end to end")
@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": 1},
        {"exp": int(time.time()) - 60},
        {"aud": "another"},
        {"iss": "another"},
        {"nbf": int(time.time()) + 3600},
        {"sid": ""},
        {"sid": 7},
        {"sub": ""},
        {"sub": 7},
    ],
)
async def test_a_token_that_is_not_for_us_now_is_refused(wrong: dict[str, Any]) -> None:
    maker = TokenMaker()
    await _refused(maker.token(**wrong), maker)


@pytest.mark.row("A1", missing="every RPC x every role end to end")
@pytest.mark.parametrize("claim", ["exp", "iss", "aud", "sub", "sid"])
async def test_a_token_that_lacks_a_claim_is_refused(claim: str) -> None:
    maker = TokenMaker()
    await _refused(maker.token(without=claim), maker)


@pytest.mark.row("A1", missing="every RPC x every role end to end")
async def test_a_token_signed_by_another_key_under_our_keys_id_is_refused() -> None:
    await _refused(TokenMaker().token(), TokenMaker())


@pytest.mark.row("A1", missing="every RPC x every role end to end")
async def test_an_unknown_key_id_or_none_is_refused() -> None:
    maker = TokenMaker()
    await _refused(maker.token(headers={"kid": "other"}), maker)
    await _refused(jwt.encode(maker.claims(), maker.private, "EdDSA"), maker)


@pytest.mark.row("A1", missing="every RPC x every role end to end")
async def test_an_unsigned_token_is_refused() -> None:
    maker = TokenMaker()
    for algorithm in ("none", "None", "NONE"):
        header = {"alg": algorithm, "typ": "JWT", "kid": maker.kid}
        for signature in ("", "AAAA"):
            await _refused(f"{_part(header)}.{_part(maker.claims())}.{signature}", maker)


@pytest.mark.row("A1", missing="every RPC x every role end to end")
async def test_our_public_key_used_as_a_shared_secret_is_refused() -> None:
    maker = TokenMaker()
    public = maker.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    await _refused(jwt.encode(maker.claims(), public, "HS256", {"kid": maker.kid}), maker)


@pytest.mark.row("A1", missing="every RPC x every role end to end")
async def test_a_token_with_a_changed_claim_is_refused() -> None:
    maker = TokenMaker()
    header, _, signature = maker.token().split(".")
    await _refused(f"{header}.{_part(maker.claims(sub='bob'))}.{signature}", maker)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "x" * 100_000])
async def test_what_is_no_token_is_refused(token: str) -> None:
    await _refused(token, TokenMaker())


@pytest.mark.row("D15")
@pytest.mark.parametrize("subject", ["session-1", "users/alice"])
async def test_a_token_of_a_revoked_session_or_user_is_refused(subject: str) -> None:
    maker, revocations = TokenMaker(), Revocations()
    verifier = maker.verifier(revocations)
    await verifier.verify(maker.token())
    revocations.add(subject, time.time() + 600)
    with pytest.raises(SessionEnded):
        await verifier.verify(maker.token())
    await verifier.verify(maker.token(sid="session-2", sub="bob"))
