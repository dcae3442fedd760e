"""This process's descendants, from /proc; and ending them."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def descendants() -> list[int]:
    """Every process below this one, nearest first. In a sandbox, without /proc, this is not needed."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in brackets may hold anything, so what follows its last bracket is read.
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # ended while we looked
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    look = [os.getpid()]
    while look:
        below = children.get(look.pop(0), [])
        found += below
        look += below
    return found


def signal_everyone(number: signal.Signals) -> None:
    """Send `number` to every process below this one."""
    if os.getpid() == 1:
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            return
        return
    for pid in descendants():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
