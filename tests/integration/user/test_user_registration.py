"""Registration and confirmation, over mTLS, with a real mail server."""

from __future__ import annotations

import pytest
from wherry.user.v1 import user_service_pb2 as pb
from wherry_testing.inbox import token_in
from wherry_testing.refusals import fields_of, refused
from wherry_testing.user_service import PASSWORD, RunningUsers, bearer


@pytest.mark.row("U1")
@pytest.mark.row("U2")
async def test_a_registered_person_confirms_the_address_and_signs_in(service: RunningUsers) -> None:
    await service.registered("alice@example.org")
    tokens = await service.signed_in("Alice@Example.ORG")
    user = await service.users.GetUser(pb.GetUserRequest(name="users/me"), metadata=bearer(tokens))
    assert user.email == "alice@example.org"
    assert user.display_name == "alice"


@pytest.mark.row("U1")
async def test_a_known_address_gets_the_same_answer_and_the_mail_tells(service: RunningUsers) -> None:
    await service.registered("alice@example.org")
    known = await service.users.CreateUser(pb.CreateUserRequest(email="ALICE@example.org", password="other password"))
    unknown = await service.users.CreateUser(pb.CreateUserRequest(email="bob@example.org", password="other password"))
    assert known == unknown
    mail = await service.inbox.wait_for("alice@example.org", count=2)
    assert "registered already" in mail["Subject"]
    assert "wherry verify" not in mail.get_content()
    await service.signed_in("alice@example.org")
    with refused("UNAUTHENTICATED", "SIGN_IN_REFUSED"):
        await service.signed_in("alice@example.org", "other password")


@pytest.mark.row("U1")
async def test_a_short_password_is_refused_with_the_field_named(service: RunningUsers) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await service.users.CreateUser(pb.CreateUserRequest(email="alice@example.org", password="1234567"))
    assert fields_of(refusal.error) == ["password"]
    assert "1234567" not in (refusal.error.details() or "")


@pytest.mark.row("U1")
async def test_no_account_is_left_when_the_mail_fails(service: RunningUsers) -> None:
    service.inbox.refusing = True
    request = pb.CreateUserRequest(email="alice@example.org", password=PASSWORD)
    with refused("UNAVAILABLE", "MAIL_UNAVAILABLE"):
        await service.users.CreateUser(request)
    with refused("UNAUTHENTICATED", "SIGN_IN_REFUSED"):
        await service.signed_in("alice@example.org")
    service.inbox.refusing = False
    await service.registered("alice@example.org")
    await service.signed_in("alice@example.org")


@pytest.mark.row("U2")
async def test_a_verification_token_works_once(service: RunningUsers) -> None:
    await service.users.CreateUser(pb.CreateUserRequest(email="alice@example.org", password=PASSWORD))
    token = token_in(await service.inbox.wait_for("alice@example.org"))
    await service.users.VerifyEmail(pb.VerifyEmailRequest(token=token))
    with refused("NOT_FOUND", "VERIFICATION_TOKEN_INVALID"):
        await service.users.VerifyEmail(pb.VerifyEmailRequest(token=token))
    with refused("NOT_FOUND", "VERIFICATION_TOKEN_INVALID"):
        await service.users.VerifyEmail(pb.VerifyEmailRequest(token="never-mailed"))


@pytest.mark.row("U2")
async def test_the_mail_is_sent_again_on_request_and_only_where_it_is_due(service: RunningUsers) -> None:
    await service.registered("verified@example.org")
    await service.users.CreateUser(pb.CreateUserRequest(email="alice@example.org", password=PASSWORD))
    await service.inbox.wait_for("alice@example.org")
    for email in ("nobody@example.org", "verified@example.org", "alice@example.org"):
        answer = await service.users.ResendVerification(pb.ResendVerificationRequest(email=email))
        assert answer == pb.ResendVerificationResponse()
    again = await service.inbox.wait_for("alice@example.org", count=2)
    # They are worked off in their order, so by now the two others would have been mailed.
    assert service.inbox.to("nobody@example.org") == []
    assert len(service.inbox.to("verified@example.org")) == 1
    await service.users.VerifyEmail(pb.VerifyEmailRequest(token=token_in(again)))
    await service.signed_in("alice@example.org")


@pytest.mark.row("U2")
async def test_signing_in_before_confirming_is_told_apart_after_the_right_password_only(service: RunningUsers) -> None:
    await service.users.CreateUser(pb.CreateUserRequest(email="alice@example.org", password=PASSWORD))
    with refused("FAILED_PRECONDITION", "EMAIL_NOT_VERIFIED"):
        await service.signed_in("alice@example.org")
    with refused("UNAUTHENTICATED", "SIGN_IN_REFUSED"):
        await service.signed_in("alice@example.org", "wrong password")
