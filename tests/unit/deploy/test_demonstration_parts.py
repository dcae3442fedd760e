from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from wherry_deploy.demonstration import source_data
from wherry_deploy.demonstration.accounts import load_or_make
from wherry_deploy.demonstration.failing import DemonstrationFailed
from wherry_deploy.demonstration.verify import compare


def test_the_source_has_at_least_60_files_one_of_300_mb_and_every_kind_of_name() -> None:
    files = list(source_data.files())
    assert len(files) >= 60
    assert len({file.path for file in files}) == len(files)
    assert max(file.size_bytes for file in files) == 300_000_000
    names = "\n".join(file.path for file in files)
    for wanted in (" ", "#", "%", "'", '"', "?", "\\", "ü", "測", "🧪", "/-"):
        assert wanted in names, wanted
    assert any(file.path.count("/") >= 4 for file in files)
    assert any(file.size_bytes == 0 for file in files)


def test_the_source_is_made_once_and_repaired_where_something_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [file for file in source_data.files() if file.size_bytes < 100_000]
    monkeypatch.setattr(source_data, "files", lambda: iter(small))
    assert source_data.make(tmp_path)
    assert not source_data.make(tmp_path)
    top = tmp_path / source_data.NAME
    for folder in source_data.EMPTY_DIRECTORIES:
        assert list((top / folder).iterdir()) == []
    victim = top / small[0].path
    before = victim.read_bytes()
    victim.unlink()
    assert source_data.make(tmp_path)
    assert victim.read_bytes() == before
    assert len(set(before)) > 200  # nothing that could be made smaller


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    for side in ("here", "there"):
        (tmp_path / side / "folder" / "empty").mkdir(parents=True)
        (tmp_path / side / "folder" / "a").write_bytes(b"abc")
    return tmp_path / "here", tmp_path / "there"


def test_equal_trees_are_counted(trees: tuple[Path, Path]) -> None:
    found = compare(*trees)
    assert found.differences == []
    assert (found.files, found.directories, found.empty_directories, found.size_bytes) == (1, 3, 1, 3)


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        (lambda there: (there / "folder" / "a").write_bytes(b"abd"), "differs: 'folder/a'"),
        (lambda there: (there / "folder" / "a").unlink(), "missing at the destination: 'folder/a'"),
        (lambda there: (there / "folder" / "empty").rmdir(), "missing at the destination: 'folder/empty'"),
        (lambda there: (there / ".wherry-1-1-0").touch(), "only at the destination: '.wherry-1-1-0'"),
    ],
)
def test_every_difference_is_found(trees: tuple[Path, Path], sabotage: Callable[[Path], object], words: str) -> None:
    sabotage(trees[1])
    assert compare(*trees).differences == [words]


def test_a_file_in_place_of_an_empty_directory_is_a_difference(trees: tuple[Path, Path]) -> None:
    (trees[1] / "folder" / "empty").rmdir()
    (trees[1] / "folder" / "empty").touch()
    assert compare(*trees).differences == ["differs: 'folder/empty'"]


def test_accounts_are_generated_once_and_kept_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "accounts.json"
    made = load_or_make(file)
    assert load_or_make(file) == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_or_make(tmp_path / "other.json").wherry.password != made.wherry.password
    assert made.wherry.password not in repr(made)


def test_accounts_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "accounts.json").write_text("{}")
    with pytest.raises(DemonstrationFailed, match="begin anew"):
        load_or_make(tmp_path / "accounts.json")
