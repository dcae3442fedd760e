"""How two servers are made to send to each other: families of addresses, protection, and what may be missing."""

from __future__ import annotations

import pytest
from wherry_gridftp.data_channel import DataChannel, set_up
from wherry_gridftp.errors import GridFtpError, NotOffered, Refused
from wherry_testing.scripted_gridftp import Script, ScriptedGridFtp, ScriptedSession, Serve, answer_plainly

pytestmark = pytest.mark.row("T1")
_SECRET = "Q0VSVElGSUNBVEUgQU5EIEtFWQ=="


def _answering(**answers: bytes) -> Script:
    """A server that gives these answers to these commands."""

    def script(line: bytes, session: ScriptedSession) -> None:
        verb = line.split(b" ")[0].decode()
        if verb in answers:
            session.reply(answers[verb])

    return script


class Two:
    """Two scripted servers."""

    def __init__(
        self,
        serve: Serve,
        at_source: Script = answer_plainly,
        at_destination: Script = answer_plainly,
        *,
        source: str = "127.0.0.1",
        destination: str = "127.0.0.1",
    ) -> None:
        self._source, self.source = serve(at_source, address=source)
        self._destination, self.destination = serve(at_destination, address=destination)

    def set_up(self, channel: DataChannel | None = None) -> DataChannel:
        return set_up(self.source, self.destination, channel or DataChannel())

    @property
    def source_was_told(self) -> list[bytes]:
        return _commands(self._source)

    @property
    def destination_was_told(self) -> list[bytes]:
        return _commands(self._destination)


def _commands(server: ScriptedGridFtp) -> list[bytes]:
    return server.sessions[0].commands[2:]


def _addresses(commands: list[bytes]) -> list[bytes]:
    return [line for line in commands if line.split(b" ")[0] in (b"PASV", b"EPSV", b"PORT", b"EPRT")]


# --- protection ---


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        (DataChannel(), [b"DCAU N"]),
        (
            DataChannel(context=_SECRET),
            [b"DCSC P " + _SECRET.encode(), b"DCAU A", b"PBSZ 1048576", b"PROT P"],
        ),
        (DataChannel(context=_SECRET, private=False), [b"DCSC P " + _SECRET.encode(), b"DCAU A"]),
    ],
)
def test_both_servers_are_told_alike_how_the_channel_is_protected(
    serve: Serve, channel: DataChannel, said: list[bytes]
) -> None:
    two = Two(serve)
    assert two.set_up(channel) == channel
    assert two.source_was_told == [b"TYPE I", b"MODE E", *said, b"PORT 127,0,0,1,200,1"]
    assert two.destination_was_told == [b"TYPE I", b"MODE E", *said, b"PASV"]


@pytest.mark.parametrize("verb", ["DCSC", "DCAU", "PBSZ", "PROT"])
@pytest.mark.parametrize(("answer", "error"), [(b"500 what?", NotOffered), (b"534 not here", Refused)])
def test_a_channel_that_cannot_be_protected_is_none(
    serve: Serve, verb: str, answer: bytes, error: type[GridFtpError]
) -> None:
    two = Two(serve, at_destination=_answering(**{verb: answer}))
    with pytest.raises(error):
        two.set_up(DataChannel(context=_SECRET))
    assert not _addresses(two.source_was_told), "nothing can be sent over it"


def test_a_server_that_knows_no_protection_needs_none_where_none_is_wanted(serve: Serve) -> None:
    two = Two(serve, _answering(DCAU=b"500 what?"))
    two.set_up()
    assert two.source_was_told[-1].startswith(b"PORT ")


def test_a_server_that_insists_on_authentication_is_believed(serve: Serve) -> None:
    two = Two(serve, _answering(DCAU=b"534 not without"))
    with pytest.raises(Refused):
        two.set_up()


@pytest.mark.parametrize("words", ["syntax error in DCSC P {}", "bad context: {}", "at {half}", "x{}y", "({half})"])
@pytest.mark.parametrize("code", [500, 535])
def test_a_server_that_repeats_the_context_in_its_refusal_does_not_get_it_into_an_error(
    serve: Serve, words: str, code: int
) -> None:
    said = f"{code} {words.format(_SECRET, half=_SECRET[4:])}".encode()
    two = Two(serve, _answering(DCSC=said))
    with pytest.raises(GridFtpError) as failed:
        two.set_up(DataChannel(context=_SECRET))
    for error in (failed.value, failed.value.__cause__, failed.value.__context__):
        told = f"{error!r} {error} {getattr(error, 'reply', '')}"
        assert _SECRET not in told
        assert _SECRET[4:] not in told


def test_a_channel_is_shown_without_its_context() -> None:
    assert _SECRET not in repr(DataChannel(context=_SECRET))


# --- what only makes it faster ---


def test_streams_and_buffers_are_asked_for(serve: Serve) -> None:
    two = Two(serve)
    channel = DataChannel(streams=4, buffer_bytes=1 << 20)
    assert two.set_up(channel) == channel
    assert two.source_was_told[3:5] == [b"SBUF 1048576", b"OPTS RETR Parallelism=4,4,4;"]
    assert two.destination_was_told[3:] == [b"SBUF 1048576", b"PASV"]


def test_a_server_without_streams_or_buffers_sends_with_what_it_has(serve: Serve) -> None:
    two = Two(serve, _answering(OPTS=b"500 OPTS failed."), _answering(SBUF=b"502 no"))
    assert two.set_up(DataChannel(streams=4, buffer_bytes=1 << 20)) == DataChannel()


@pytest.mark.parametrize("verb", ["TYPE", "MODE"])
def test_a_server_without_extended_blocks_is_left_to_others(serve: Serve, verb: str) -> None:
    two = Two(serve, _answering(**{verb: b"504 not with that"}))
    with pytest.raises(NotOffered):
        two.set_up()


# --- addresses ---


@pytest.mark.row("T4", missing="said before a task begins")
def test_where_both_connections_go_over_ipv6_so_do_the_bytes(serve: Serve) -> None:
    two = Two(serve, source="::1", destination="::1")
    assert two.source.is_ipv6
    two.set_up()
    assert _addresses(two.destination_was_told) == [b"EPSV"]
    assert _addresses(two.source_was_told) == [b"EPRT |2|::1|51201|"], "the control connection's address"


def test_an_address_in_the_extended_answer_is_the_one_to_go_to(serve: Serve) -> None:
    answer = b"229 Entering Extended Passive Mode (|2|2001:db8::7|51201|)"
    two = Two(serve, at_destination=_answering(EPSV=answer), source="::1", destination="::1")
    two.set_up()
    assert _addresses(two.source_was_told) == [b"EPRT |2|2001:db8::7|51201|"]


def test_an_extended_answer_over_ipv4_is_passed_on_as_ipv4(serve: Serve) -> None:
    two = Two(serve, at_destination=_answering(PASV=b"500 no"))
    two.set_up()
    assert _addresses(two.destination_was_told) == [b"PASV", b"EPSV"]
    assert _addresses(two.source_was_told) == [b"PORT 127,0,0,1,200,1"]


@pytest.mark.parametrize(("source", "destination"), [("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
def test_where_one_connection_goes_over_ipv4_so_do_the_bytes(serve: Serve, source: str, destination: str) -> None:
    two = Two(serve, source=source, destination=destination)
    two.set_up()
    assert _addresses(two.source_was_told) == [b"PORT 127,0,0,1,200,1"]


def test_a_destination_that_has_ipv6_only_is_reached_over_it(serve: Serve) -> None:
    two = Two(serve, at_destination=_answering(PASV=b"522 use EPSV"), destination="::1")
    two.set_up()
    assert _addresses(two.source_was_told) == [b"EPRT |2|::1|51201|"]


def test_servers_that_do_not_know_the_extended_commands_use_the_old_ones(serve: Serve) -> None:
    two = Two(serve, _answering(EPRT=b"500 what?"), source="::1", destination="::1")
    two.set_up()
    assert _addresses(two.destination_was_told) == [b"EPSV", b"PASV"]
    assert _addresses(two.source_was_told) == [b"EPRT |2|::1|51201|", b"PORT 127,0,0,1,200,1"]


@pytest.mark.row("T4", missing="said before a task begins")
def test_two_without_a_family_in_common_are_told_at_once(serve: Serve) -> None:
    two = Two(
        serve,
        _answering(EPRT=b"522 Network protocol not supported, use (1)"),
        _answering(PASV=b"522 Network protocol not supported, use (2)"),
        destination="::1",
    )
    with pytest.raises(NotOffered, match="no family of addresses in common"):
        two.set_up()


def test_a_server_that_has_no_port_for_the_moment_is_told_as_it_says(serve: Serve) -> None:
    two = Two(serve, at_destination=_answering(PASV=b"425 no more ports", EPSV=b"425 no more ports"))
    with pytest.raises(Refused) as refused:
        two.set_up()
    assert refused.value.reply.code == 425


@pytest.mark.parametrize(
    "answer",
    [
        b"227 Entering Passive Mode",
        b"227 Entering Passive Mode (127,0,0,1,200)",
        b"227 Entering Passive Mode (127,0,0,256,200,1)",
        b"227 Entering Passive Mode (127,0,0,1,0,0)",
        b"227 Entering Passive Mode (0,0,0,0,200,1)",
        b"227 Entering Passive Mode (224,0,0,1,200,1)",
        b"227 Entering Passive Mode (127,0,0,1,200,1000)",
    ],
)
def test_an_address_that_is_none_is_not_passed_on(serve: Serve, answer: bytes) -> None:
    two = Two(serve, at_destination=_answering(PASV=answer, EPSV=b"500 no"))
    with pytest.raises(NotOffered):
        two.set_up()
    assert not _addresses(two.source_was_told)


@pytest.mark.parametrize(
    "answer",
    [
        b"229 (|||)",
        b"229 (|||0|)",
        b"229 (|||65536|)",
        b"229 (|||" + b"9" * 5000 + b"|)",
        b"229 (|2|not an address|2000|)",
        b"229 (|2|::|2000|)",
        b"229 (|2|fe80::1%x y|2000",
    ],
)
def test_an_extended_address_that_is_none_is_not_passed_on(serve: Serve, answer: bytes) -> None:
    two = Two(serve, at_destination=_answering(PASV=b"500 no", EPSV=answer), source="::1", destination="::1")
    with pytest.raises(NotOffered):
        two.set_up()
    assert not _addresses(two.source_was_told)
