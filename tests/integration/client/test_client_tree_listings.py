"""ls -R and --depth; --attempts."""

from __future__ import annotations

import pytest
from wherry.queue.v1 import job_service_pb2 as messages
from wherry.type.v1 import entry_pb2
from wherry_client.client import open_client
from wherry_client.command.tree_listing import Directories
from wherry_client.errors import WherryError
from wherry_client.paths import parse, raw_name
from wherry_fakes.centre import FakeCentre
from wherry_fakes.scripted_queue import directory_entry, file_entry
from wherry_testing.client_runs import Wherry

pytestmark = [pytest.mark.row("C3", missing="globs"), pytest.mark.row("J1")]

TREE = """\
site-a:t:
a/
b.txt
empty/
z/

site-a:t/a:
deep/
f

site-a:t/a/deep:
g

site-a:t/empty:

site-a:t/z:
h
"""


@pytest.fixture
def tree(centre: FakeCentre) -> FakeCentre:
    """A tree at site-a, in t."""
    link = entry_pb2.Entry(name="link", kind=entry_pb2.ENTRY_KIND_SYMLINK)
    put = centre.queue.put
    put("site-a", b"/home/alice/t", directory_entry("a"), file_entry("b.txt"), directory_entry("empty"),
        directory_entry("z"))  # fmt: skip
    put("site-a", b"/home/alice/t/a", directory_entry("deep"), file_entry("f"))
    put("site-a", b"/home/alice/t/a/deep", file_entry("g"))
    put("site-a", b"/home/alice/t/empty")
    put("site-a", b"/home/alice/t/z", file_entry("h"))
    put("site-a", b"/home/alice/links", link, directory_entry("x"))
    put("site-a", b"/home/alice/links/x", file_entry("y"))
    return centre


def test_ls_r_gives_each_directory_a_heading_empty_ones_too(signed_in: Wherry, tree: FakeCentre) -> None:
    listed = signed_in("ls", "-R", "site-a:t")
    assert (listed.status, listed.out) == (0, TREE)
    assert signed_in("ls", "--depth", "32", "site-a:t").out == TREE


def test_a_depth_lists_so_many_levels_and_heads_no_directory_below_them(signed_in: Wherry, tree: FakeCentre) -> None:
    two = signed_in("ls", "--depth", "2", "site-a:t").out
    assert two == TREE.replace("site-a:t/a/deep:\ng\n\n", "")
    assert signed_in("ls", "--depth", "1", "site-a:t").out == signed_in("ls", "site-a:t").out
    assert signed_in("ls", "-R", "--depth", "2", "site-a:t").out == two


def test_several_trees_stand_apart(signed_in: Wherry, tree: FakeCentre) -> None:
    listed = signed_in("ls", "-R", "site-a:links", "site-a:t").out
    assert listed == "site-a:links:\nlink\nx/\n\nsite-a:links/x:\ny\n\n" + TREE


def test_a_file_and_an_empty_directory_are_listed_to_any_depth(signed_in: Wherry, tree: FakeCentre) -> None:
    assert signed_in("ls", "-R", "site-a:t/b.txt").out == "b.txt\n"
    assert signed_in("ls", "-R", "site-a:t/empty").out == "site-a:t/empty:\n"


def test_a_directory_that_may_not_be_read_is_named_and_the_exit_status_says_partly(
    signed_in: Wherry, tree: FakeCentre
) -> None:
    tree.queue.put("site-a", b"/home/alice/t", directory_entry("closed"), directory_entry("z"))
    listed = signed_in("ls", "-R", "site-a:t")
    assert listed.out == "site-a:t:\nclosed/\nz/\n\nsite-a:t/closed:\n\nsite-a:t/z:\nh\n"
    assert "site-a:t/closed: Permission denied." in listed.err
    assert listed.status == 3
    as_json = signed_in("ls", "-R", "--json", "site-a:t")
    assert as_json.status == 3
    closed, other, below = as_json.json["listings"][0]["entries"]
    assert (closed["name"], closed["failure"]["reason"]) == ("closed", "SOURCE_PERMISSION_DENIED")
    assert (other["name"], below["name"]) == ("z", "z/h")


def test_json_is_one_object_with_paths(signed_in: Wherry, tree: FakeCentre) -> None:
    (listing,) = signed_in("ls", "-R", "--json", "site-a:t").json["listings"]
    assert listing["path"] == "/home/alice/t"
    assert [entry["name"] for entry in listing["entries"]] == [
        "a", "b.txt", "empty", "z", "a/deep", "a/f", "a/deep/g", "z/h",
    ]  # fmt: skip


def test_odd_names_are_shown_escaped_at_every_level_and_travel_raw(signed_in: Wherry, centre: FakeCentre) -> None:
    odd = entry_pb2.Entry(name="caf\ufffd", raw_name=b"caf\xe9", kind=entry_pb2.ENTRY_KIND_DIRECTORY)
    centre.queue.put("site-a", b"/home/alice/odd", odd)
    centre.queue.put("site-a", b"/home/alice/odd/caf\xe9", file_entry("x\x1b[31m"))
    listed = signed_in("ls", "-R", "site-a:odd").out
    assert listed == "site-a:odd:\ncaf\\xe9/\n\nsite-a:odd/caf\\xe9:\nx\\x1b[31m\n"


def test_the_client_lists_to_a_depth(signed_in: Wherry, tree: FakeCentre) -> None:
    with open_client() as client:
        names = [raw_name(entry) for entry in client.files.entries(parse("site-a:t"), depth=2)]
    assert names == [b"a", b"b.txt", b"empty", b"z", b"a/deep", b"a/f", b"z/h"]


def test_a_deployment_that_knows_no_depth_is_not_believed(signed_in: Wherry, tree: FakeCentre) -> None:
    tree.queue.knows_depth = False
    with open_client() as client:
        assert len(list(client.files.entries(parse("site-a:t")))) == 4
        with pytest.raises(WherryError, match="older release"):
            list(client.files.entries(parse("site-a:t"), depth=2))
    assert signed_in("ls", "-R", "site-a:t").status == 1


def test_directories_come_in_the_order_of_the_listing() -> None:
    directories = Directories(depth=3)
    for path in (b"a", b"b"):
        directories.found(path)
    order = []
    for path in directories.passed():
        order.append(path)
        if path == b"a":
            directories.found(b"a/x")
        if path == b"a/x":
            directories.found(b"a/x/too-deep")
    assert order == [b"a", b"a/x", b"b"]


@pytest.mark.parametrize(
    "command",
    [
        ["cp", "site-a:notes.txt", "site-b:x"],
        ["sync", "site-a:data", "site-b:x"],
        ["rm", "site-a:notes.txt"],
        ["chmod", "640", "site-a:notes.txt"],
        ["sum", "site-a:notes.txt"],
    ],
)
def test_attempts_reach_the_queue_and_are_shown(signed_in: Wherry, centre: FakeCentre, command: list[str]) -> None:
    assert signed_in(command[0], "--no-wait", *command[1:]).status == 0
    assert not centre.queue.last_job().HasField("attempts")
    assert signed_in(command[0], "--no-wait", "--attempts", "7", *command[1:]).status == 0
    job: messages.Job = centre.queue.last_job()
    assert job.attempts == 7
    shown = signed_in("job", "show", job.name.removeprefix("jobs/")).out
    assert ["attempts", "7"] in [line.split() for line in shown.splitlines()]
    assert signed_in(command[0], "--attempts", "21", *command[1:]).status == 2
