"""A tree is listed, with the `wherry` command and over JSON's contract, at a real site."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from wherry_client.paths import parse, raw_name
from wherry_testing.deployment import Person
from wherry_testing.running_copies import Folders

pytestmark = [pytest.mark.row("J1"), pytest.mark.row("C3", missing="globs")]


@pytest.fixture
def tree(fresh_folders: Callable[[], Folders]) -> Folders:
    """Two levels with an odd name, a link that leads up, an empty directory and one that may not be read."""
    folders = fresh_folders()
    here = folders.source
    odd = os.fsdecode(b"caf\xe9")
    for path in (here / odd, here / "closed", here / "deep" / "deeper", here / "empty"):
        path.mkdir(parents=True)
    (here / odd / "within").write_text("1")
    (here / "closed" / "hidden").write_text("x")
    (here / "deep" / "deeper" / "leaf").write_text("leaf")
    (here / "deep" / "up").symlink_to("..")
    folders.source_site.own("alice")
    (here / "closed").chmod(0)
    return folders


def test_a_tree_is_listed_as_ls_r_does_and_says_what_could_not_be(alice: Person, tree: Folders) -> None:
    place = f"site-a:{tree.source.name}"
    done = alice.wherry("ls", "-R", place)
    assert done.out == (
        f"{place}:\ncaf\\xe9/\nclosed/\ndeep/\nempty/\n"
        f"\n{place}/caf\\xe9:\nwithin\n"
        f"\n{place}/closed:\n"
        f"\n{place}/deep:\ndeeper/\nup\n"
        f"\n{place}/deep/deeper:\nleaf\n"
        f"\n{place}/empty:\n"
    )
    assert f"{place}/closed: " in done.err
    assert done.status == 3


def test_a_depth_ends_where_it_was_told_to(alice: Person, tree: Folders) -> None:
    done = alice.wherry("ls", "--depth", "2", "--json", f"site-a:{tree.source.name}")
    entries = json.loads(done.out)["listings"][0]["entries"]
    names = [entry["name"] for entry in entries]
    assert names[1:] == ["closed", "deep", "empty", "caf\ufffd/within", "deep/deeper", "deep/up"]
    assert [entry["failure"]["reason"] for entry in entries if "failure" in entry] == ["PERMISSION_DENIED"]


def test_the_client_lists_to_a_depth(alice: Person, tree: Folders) -> None:
    with alice.wherry.client() as client:
        entries = list(client.files.entries(parse(f"site-a:{tree.source.name}"), depth=3))
    assert [raw_name(entry) for entry in entries] == [
        b"caf\xe9", b"closed", b"deep", b"empty", b"caf\xe9/within", b"closed", b"deep/deeper", b"deep/up",
        b"deep/deeper/leaf",
    ]  # fmt: skip
