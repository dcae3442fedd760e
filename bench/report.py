"""Targets, the table that is printed, and `bench/results.json`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.measure import BenchmarkError, Direction, Measurement, Target


def load_targets(file: Path) -> dict[str, Target]:
    """Returns the targets by name of measurement.

    Raises:
        BenchmarkError: the file says something else than targets.
    """
    targets = {}
    for name, entry in tomllib.loads(file.read_text(encoding="utf-8")).items():
        if (
            not isinstance(entry, dict)
            or entry.keys() != {"ratio", "direction"}
            or not isinstance(entry["ratio"], int | float)
            or entry["direction"] not in get_args(Direction)
        ):
            raise BenchmarkError(f'{file}: {name}: write ratio = 0.9 and direction = "at_least" or "at_most"')
        targets[name] = Target(float(entry["ratio"]), entry["direction"])
    return targets


def as_data(measurements: Sequence[Measurement], targets: Mapping[str, Target]) -> list[dict[str, Any]]:
    """Returns what `results.json` holds: name, value, unit, peer, target, met; null where there is none."""
    return [
        {
            "name": found.name,
            "value": found.value,
            "unit": found.unit,
            "peer": None
            if found.peer is None
            else {"name": found.peer.name, "value": found.peer.value, "ratio": found.ratio},
            "target": None if target is None else {"ratio": target.ratio, "direction": target.direction},
            "met": None if target is None else target.met_by(found),
        }
        for found in measurements
        for target in (targets.get(found.name),)
    ]


def write_results(file: Path, measurements: Sequence[Measurement], targets: Mapping[str, Target]) -> None:
    """Writes the results of this run, in place of those of the last."""
    file.write_text(json.dumps(as_data(measurements, targets), indent=1) + "\n", encoding="utf-8")


def show(measurements: Sequence[Measurement], targets: Mapping[str, Target], console: Console) -> None:
    """Prints a line for each measurement."""
    table = Table(title="Benchmarks", title_justify="left", pad_edge=False)
    table.add_column("measurement", no_wrap=True)
    table.add_column("ours", justify="right")
    table.add_column("unit")
    table.add_column("peer")
    table.add_column("peer's", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("target")
    for found in measurements:
        target = targets.get(found.name)
        table.add_row(
            escape(found.name),
            _number(found.value),
            escape(found.unit),
            escape(found.peer.name) if found.peer else "",
            _number(found.peer.value) if found.peer else "",
            f"{found.ratio:.2f}" if found.ratio is not None else "",
            _verdict(found, target),
        )
    console.print(table)


def _verdict(found: Measurement, target: Target | None) -> str:
    if target is None:
        return "[dim]none[/]"
    wanted = f"{'≥' if target.direction == 'at_least' else '≤'} {target.ratio:g}"
    return f"[green]{wanted} met[/]" if target.met_by(found) else f"[bold red]{wanted} MISSED[/]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
