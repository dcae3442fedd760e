"""What the servicer reads out of a call."""

from __future__ import annotations

import pytest
from wherry.user.v1 import user_service_pb2 as pb
from wherry_chassis.identity import Caller, Peer, UserClaims, set_caller
from wherry_fakes.user_store import MemoryUserStore
from wherry_user.audit import Origin
from wherry_user.errors import UserNotFound
from wherry_user.revocations import Revocation, RevocationFeed, Subject
from wherry_user.servicer import RevocationServicer, _origin, _own

PEER = Peer("/O=Wherry/CN=client", "00", frozenset({"client"}))


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:50000", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:50000", "2001:db8::1"),
        ("unix:/run/wherry.sock", "unix:/run/wherry.sock"),
    ],
)
def test_the_origin_of_a_call_is_its_host_and_its_certificate(peer: str, host: str) -> None:
    set_caller(Caller(PEER, None, peer))
    assert _origin() == Origin(host, PEER.subject)


def test_a_user_is_me_or_oneself_and_nobody_else() -> None:
    caller = Caller(PEER, UserClaims("users/alice", "session-1", 0), "ipv4:192.0.2.1:1")
    assert _own("users/me", caller) == _own("users/alice", caller) == "alice"
    with pytest.raises(UserNotFound):
        _own("users/bob", caller)


async def test_revocations_of_sessions_and_users_are_told_apart() -> None:
    store = MemoryUserStore()
    store.revocations = [
        Revocation(1, Subject.SESSION, "session-1", 1_700_000_000_500),
        Revocation(2, Subject.USER, "alice", 1_700_000_000_500),
    ]
    store.cursor = 2
    servicer = RevocationServicer(RevocationFeed(store, lambda _: None))
    message = await anext(servicer.WatchRevocations(pb.WatchRevocationsRequest(), None))
    assert [r.WhichOneof("subject") for r in message.revocations] == ["session_id", "user"]
    assert (message.revocations[0].session_id, message.revocations[1].user) == ("session-1", "users/alice")
    assert message.revocations[0].expire_time.ToMilliseconds() == 1_700_000_000_500
    assert message.cursor == 2
