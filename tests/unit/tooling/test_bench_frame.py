from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from bench.__main__ import run_all
from bench.measure import (
    Bench,
    Benchmark,
    BenchmarkError,
    Function,
    Measurement,
    Peer,
    Target,
    benchmark,
    chosen,
    registered,
    seconds_of,
)
from bench.report import load_targets, show, write_results


def _console() -> Console:
    return Console(file=io.StringIO(), width=160)


def _written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("measurement", "target", "met"),
    [
        (Measurement("a", 90, "files/s", Peer("peer", 100)), Target(0.9, "at_least"), True),
        (Measurement("a", 89, "files/s", Peer("peer", 100)), Target(0.9, "at_least"), False),
        (Measurement("a", 1.1, "s", Peer("peer", 1)), Target(1.2, "at_most"), True),
        (Measurement("a", 1.3, "s", Peer("peer", 1)), Target(1.2, "at_most"), False),
        (Measurement("a", 5, "s"), Target(6, "at_most"), True),
    ],
)
def test_a_target_is_a_ratio_to_the_peer(measurement: Measurement, target: Target, met: bool) -> None:
    assert target.met_by(measurement) is met


def test_results_name_value_unit_peer_target_and_whether_it_was_met(tmp_path: Path) -> None:
    measured = [
        Measurement("copy", 50, "files/s", Peer("globus-url-copy", 100)),
        Measurement("list", 0.2, "s"),
    ]
    write_results(tmp_path / "results.json", measured, {"copy": Target(0.9, "at_least")})
    assert json.loads((tmp_path / "results.json").read_text()) == [
        {
            "name": "copy",
            "value": 50,
            "unit": "files/s",
            "peer": {"name": "globus-url-copy", "value": 100, "ratio": 0.5},
            "target": {"ratio": 0.9, "direction": "at_least"},
            "met": False,
        },
        {"name": "list", "value": 0.2, "unit": "s", "peer": None, "target": None, "met": None},
    ]
    console = _console()
    show(measured, {"copy": Target(0.9, "at_least")}, console)
    assert "0.50" in _written(console)
    assert "≥ 0.9 MISSED" in _written(console)


@pytest.mark.parametrize(
    "text",
    [
        "copy = 1",
        "[copy]\nratio = 1",
        '[copy]\nratio = "1"\ndirection = "at_least"',
        '[copy]\nratio = 1\ndirection = "up"',
        '[copy]\nratio = 1\ndirection = "at_most"\nwhy = 1',
    ],
)
def test_a_target_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "targets.toml").write_text(text)
    with pytest.raises(BenchmarkError, match="copy"):
        load_targets(tmp_path / "targets.toml")


def test_the_shipped_targets_can_be_read() -> None:
    load_targets(Path(__file__).resolve().parents[3] / "bench" / "targets.toml")


def _plain(bench: Bench) -> Sequence[Measurement]:
    bench.say("working")
    (bench.folder / "file").touch()
    return [Measurement("plain", 1, "s")]


async def _async(_: Bench) -> Sequence[Measurement]:
    return [Measurement("async", 2, "s")]


def _broken(_: Bench) -> Sequence[Measurement]:
    raise OSError("no server")


def _empty(_: Bench) -> Sequence[Measurement]:
    return []


async def test_one_that_fails_is_told_and_the_others_still_run() -> None:
    functions: dict[str, Function] = {
        "plain": _plain,
        "broken": _broken,
        "empty": _empty,
        "async": _async,
        "again": _plain,
    }
    console = _console()
    measured, failed = await run_all([Benchmark(name, "g", function) for name, function in functions.items()], console)
    assert [one.name for one in measured] == ["plain", "async"]
    assert failed == ["broken", "empty", "again"]
    for words in ("working", "OSError: no server", "empty returned no measurements", "plain a second time"):
        assert words in _written(console)


def test_a_word_chooses_a_benchmark_or_its_group() -> None:
    known = [Benchmark("a", "first", _plain), Benchmark("b", "first", _plain), Benchmark("c", "second", _plain)]
    assert [one.name for one in chosen([], known)] == ["a", "b", "c"]
    assert [one.name for one in chosen(["first"], known)] == ["a", "b"]
    assert [one.name for one in chosen(["b", "second"], known)] == ["b", "c"]
    with pytest.raises(BenchmarkError, match="third"):
        chosen(["third"], known)


def test_a_function_is_registered_under_its_own_name_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.measure._registered", {})
    benchmark("first")(_plain)
    assert [(one.name, one.group) for one in registered()] == [("_plain", "first")]
    with pytest.raises(BenchmarkError, match="_plain"):
        benchmark("second")(_plain)


async def test_a_time_is_the_median_after_warming_up() -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1

    assert await seconds_of(work, repeat=3, warm_up=2) >= 0
    assert runs == 5
