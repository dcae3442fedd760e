"""Our GridFTP client by itself against the real servers: what it promises to whoever uses it."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import wherry_gridftp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from wherry_gridftp import (
    Broken,
    Connection,
    Credential,
    DataChannel,
    Endpoint,
    ThirdParty,
    command,
    list_directory,
    offer,
    operations,
    pump,
    set_up,
)
from wherry_gridftp.errors import (
    ConnectionLost,
    CredentialExpired,
    CredentialRefused,
    Refused,
    SecurityFailed,
    UnknownAuthority,
    WrongHost,
)
from wherry_testing.sites import RealSite
from wherry_testing.worker_sites import fresh_folder
from wherry_worker.channel_context import channel_context

_WITHIN_S = 60.0
_FOLDER = "library"


@dataclass(frozen=True)
class Place:
    """A folder at a site, as the machine and as the site's door see it.

    Attributes:
        connect: opens a connection with what is believed and shown there, or with something else.
    """

    site: RealSite
    user: str
    folder: Path
    credential: Credential
    connect: Callable[..., Connection]

    def path(self, name: bytes = b"") -> bytes:
        return f"{self.site.root_path(self.user)}/{_FOLDER}/".encode() + name

    def write(self, name: str, content: bytes) -> bytes:
        (self.folder / name).write_bytes(content)
        self.site.own(self.user)
        return self.path(os.fsencode(name))


@pytest.fixture
def places(two_sites: tuple[RealSite, RealSite], credentials: tuple[Path, Path]) -> Iterator[tuple[Place, Place]]:
    with ExitStack() as stack:

        def place(site: RealSite, user: str, file: Path) -> Place:
            own = Credential(file, site.trust_dir)

            def connect(host: str = site.host, credential: Credential = own) -> Connection:
                endpoint = Endpoint(host, site.gridftp_port)
                return stack.enter_context(Connection(endpoint, credential, timeout_s=_WITHIN_S))

            return Place(site, user, fresh_folder(site, user, _FOLDER), own, connect)

        (site_a, site_b), (alice, bob) = two_sites, credentials
        yield place(site_a, "alice", alice), place(site_b, "bob", bob)


@pytest.fixture
def place(places: tuple[Place, Place]) -> Place:
    return places[0]


# --- names ---


@pytest.mark.row("D7")
def test_names_are_made_looked_at_renamed_and_removed(place: Place) -> None:
    connection = place.connect()
    ask = operations.ask
    directory, file = place.path(b"a b;\xff"), place.write("file", b"12345")
    assert ask(connection, partial(operations.stat, connection, directory)) is None
    ask(connection, partial(operations.make_directory, connection, directory))
    with pytest.raises(Refused):
        ask(connection, partial(operations.make_directory, connection, directory))
    ask(connection, partial(operations.rename, connection, file, directory + b"/ renamed "))
    ask(connection, partial(operations.set_mode, connection, directory + b"/ renamed ", 0o640))
    ask(connection, partial(operations.set_modify_time, connection, directory + b"/ renamed ", 1_600_000_000))
    found = ask(connection, partial(operations.stat, connection, directory + b"/ renamed "))
    assert found is not None
    assert (found.kind, found.size_bytes, found.modify_time_s, found.mode) == ("file", 5, 1_600_000_000, 0o640)
    assert found.name == directory + b"/ renamed "
    with pytest.raises(Refused) as refused:
        ask(connection, partial(operations.remove_directory, connection, directory))
    assert refused.value.reply.errno == 39
    ask(connection, partial(operations.remove, connection, directory + b"/ renamed "))
    ask(connection, partial(operations.remove_directory, connection, directory))
    assert list(place.folder.iterdir()) == []


@pytest.mark.row("D18", missing="the queue's part")
def test_a_directory_of_three_thousand_entries_is_listed_whole(place: Place) -> None:
    names = {f"file {number}" for number in range(2998)}
    for name in names:
        (place.folder / name).write_bytes(b"123")
    (place.folder / "directory").mkdir()
    (place.folder / "link").symlink_to("file 1")
    place.site.own(place.user)
    connection = place.connect()
    entries = list(list_directory(connection, place.path()))
    found = {entry.name.decode(): entry for entry in entries if not entry.itself}
    assert len(entries) == len(found) + 2
    assert {entry.name for entry in entries if entry.itself} == {b".", b".."}
    assert found.keys() == names | {"directory", "link"}
    assert found["directory"].kind == "directory"
    assert {found[name].size_bytes for name in names} == {3}
    target = found["link"].target
    assert target is not None
    assert target.endswith(b"/file 1")


def test_a_listing_that_is_left_in_the_middle_leaves_the_connection_in_order(place: Place) -> None:
    for number in range(2500):
        (place.folder / f"{number}").touch()
    place.site.own(place.user)
    connection = place.connect()
    entries = list_directory(connection, place.path())
    next(entries)
    del entries
    found = operations.ask(connection, partial(operations.stat, connection, place.path()))
    assert found is not None
    assert found.kind == "directory"


@pytest.mark.row("J9")
def test_every_checksum_that_is_offered_is_the_files(place: Place) -> None:
    content = os.urandom(100_000)
    path = place.write("file", content)
    connection = place.connect()
    algorithms = offer(connection).checksums
    assert {"adler32", "md5", "sha1", "sha256", "sha512"} <= set(algorithms)
    for algorithm in algorithms:
        expected = (
            f"{zlib.adler32(content):08x}"
            if algorithm == "adler32"
            else hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
        )
        assert operations.ask(connection, partial(operations.checksum, connection, path, algorithm)) == expected
    with pytest.raises(Refused):
        operations.ask(connection, partial(operations.checksum, connection, path, "crc99"))


# --- bytes ---


def _send(source: Connection, destination: Connection, files: list[tuple[bytes, bytes]]) -> ThirdParty[int]:
    """Sends files until all are there, or one is refused."""
    sent: list[int] = []
    sender = ThirdParty[int](source, destination, sent.append, patience_s=_WITHIN_S)
    for number, (path, new_path) in enumerate(files):
        sender.submit(number, path, new_path)
    assert pump((source, destination), lambda: sender.failed or len(sent) == len(files), within_s=_WITHIN_S)
    return sender


def _twenty(places: tuple[Place, Place]) -> list[tuple[bytes, bytes]]:
    source, destination = places
    files = []
    for number in range(20):
        name = f"file {number}"
        files.append((source.write(name, os.urandom(number * 50_000)), destination.path(name.encode())))
    return files


def _assert_all_there(places: tuple[Place, Place]) -> None:
    contents = [{path.name: path.read_bytes() for path in place.folder.iterdir()} for place in places]
    assert len(contents[0]) == 20
    assert contents[0] == contents[1]


@pytest.mark.row("B1", missing="the whole way of a job")
@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_twenty_files_go_from_server_to_server(places: tuple[Place, Place], streams: int, host: str) -> None:
    files = _twenty(places)
    source, destination = (place.connect(host) for place in places)
    assert source.is_ipv6 == (host == "::1")
    assert set_up(source, destination, DataChannel(streams=streams)) == DataChannel(streams=streams)
    assert not _send(source, destination, files).failed
    _assert_all_there(places)


@pytest.mark.parametrize("private", [True, False])
def test_twenty_files_go_over_a_channel_that_is_protected(places: tuple[Place, Place], private: bool) -> None:
    files = _twenty(places)
    source, destination = (place.connect() for place in places)
    channel = DataChannel(context=channel_context(dt.timedelta(hours=1)), private=private)
    assert set_up(source, destination, channel) == channel
    assert not _send(source, destination, files).failed
    _assert_all_there(places)


def test_two_servers_with_different_contexts_do_not_send_to_each_other(places: tuple[Place, Place]) -> None:
    """So that it is the context that lets them in."""
    path = places[0].write("file", b"123")
    source, destination = (place.connect() for place in places)
    for connection in (source, destination):
        context = channel_context(dt.timedelta(hours=1)).encode()
        for line in (b"TYPE I", b"MODE E", b"DCSC P " + context, b"DCAU A", b"PBSZ 1048576", b"PROT P"):
            command(connection, line)
    address = command(destination, b"PASV").lines[-1].partition(b"(")[2].partition(b")")[0]
    command(source, b"PORT " + address)
    try:
        sender = _send(source, destination, [(path, places[1].path(b"file"))])
    except Broken:
        pass  # some servers of this kind end then
    else:
        assert sender.failed
    assert not (places[1].folder / "file").exists() or (places[1].folder / "file").read_bytes() == b""


@pytest.mark.row("B9")
def test_ranges_that_are_there_are_not_sent_again(places: tuple[Place, Place]) -> None:
    content = os.urandom(3_000_000)
    path = places[0].write("file", content)
    kept = b"#" * 1_000_000
    new_path = places[1].write("file", kept)
    source, destination = (place.connect() for place in places)
    set_up(source, destination, DataChannel())
    sent: list[int] = []
    sender = ThirdParty[int](source, destination, sent.append, patience_s=_WITHIN_S)
    sender.submit(0, path, new_path, have=[(0, len(kept))])
    assert pump((source, destination), lambda: sender.failed or bool(sent), within_s=_WITHIN_S)
    assert not sender.failed
    assert (places[1].folder / "file").read_bytes() == kept + content[len(kept) :]


# --- who is not let in ---


def _expired_proxy(credential: Path, out: Path) -> Path:
    """A proxy (RFC 3820) that the credential has signed, and that has come to its end."""
    pem = credential.read_bytes()
    issuer = x509.load_pem_x509_certificates(pem)[0]
    signer = load_pem_private_key(pem, None)
    assert isinstance(signer, rsa.RSAPrivateKey)
    key = rsa.generate_private_key(65537, 2048)
    serial, now = x509.random_serial_number(), dt.datetime.now(dt.UTC)
    inherits_all = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14"), bytes.fromhex("300c300a06082b06010505071501")
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*issuer.subject, x509.NameAttribute(NameOID.COMMON_NAME, str(serial))]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - dt.timedelta(hours=3))
        .not_valid_after(now - dt.timedelta(hours=1))
        .add_extension(inherits_all, critical=True)
        .sign(signer, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    out.touch(mode=0o600)
    out.write_bytes(certificate.public_bytes(Encoding.PEM) + private + pem)
    return out


def _refused(place: Place, error: type[SecurityFailed], host: str, credential: Credential) -> SecurityFailed:
    with pytest.raises(error) as failed:
        place.connect(host, credential)
    assert type(failed.value) is error
    return failed.value


@pytest.mark.row("T14")
def test_who_does_not_believe_whom_and_why_is_told_apart(places: tuple[Place, Place], tmp_path: Path) -> None:
    place, other = places
    trust, file = place.credential.trust_directory, place.credential.file
    # 127.0.0.2 is this machine as well, and in no certificate.
    assert not _refused(place, WrongHost, "127.0.0.2", place.credential).at_server
    others_trust = Credential(file, other.credential.trust_directory)
    assert not _refused(place, UnknownAuthority, place.site.host, others_trust).at_server
    others_credential = Credential(other.credential.file, trust)
    assert _refused(place, CredentialRefused, place.site.host, others_credential).at_server
    expired = Credential(_expired_proxy(file, tmp_path / "expired.pem"), trust)
    assert _refused(place, CredentialExpired, place.site.host, expired).at_server
    assert place.connect()


# --- servers that end ---


def test_a_server_that_is_killed_in_the_middle_of_a_listing_is_told_as_lost(tmp_path: Path) -> None:
    count = 12_000  # more than what the kernels between us would still deliver
    with RealSite("site-c", accounts={"alice": "alice's"}) as site:
        folder = fresh_folder(site, "alice", _FOLDER)
        for number in range(count):
            (folder / f"{number:0240}").touch()
        credential = Credential(site.sign_in("alice", tmp_path / "alice.pem"), site.trust_dir)
        with Connection(Endpoint(site.host, site.gridftp_port), credential, timeout_s=_WITHIN_S) as connection:
            entries = list_directory(connection, f"{site.root_path('alice')}/{_FOLDER}".encode())
            taken = [next(entries)]
            site.kill()
            with pytest.raises(ConnectionLost):
                taken.extend(entries)
            with pytest.raises(ConnectionLost):
                command(connection, b"NOOP")
    assert len(taken) < count


# --- the README ---


def test_the_readmes_example_does_what_it_says(places: tuple[Place, Place], capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(wherry_gridftp.__file__).parent / "README.md").read_text(encoding="utf-8")
    example = text.partition("```python\n")[2].partition("```")[0]
    places[0].write("file", b"123")
    for place, letter in zip(places, "ab", strict=True):
        for said, meant in (
            (f'"{letter}.example"', f'"{place.site.host}", {place.site.gridftp_port}'),
            (f'"{place.user}.pem"', repr(str(place.credential.file))),
            (f'"authorities-{letter}"', repr(str(place.credential.trust_directory))),
            (f"/data/{place.user}", f"/data/{place.user}/{_FOLDER}"),
        ):
            assert said in example
            example = example.replace(said, meant)
    names = {name: getattr(wherry_gridftp, name) for name in wherry_gridftp.__all__}
    exec(example, {**names, "operations": operations, "partial": partial, "Path": Path})
    assert (places[1].folder / "file").read_bytes() == b"123"
    assert capsys.readouterr().out == f"b'file' {zlib.adler32(b'123'):08x}\n"
