"""What came of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Result:
    """What came of a run.

    Attributes:
        tasks: that were made; each has ended.
        seconds: from the first step until all was at rest.
        resting_s: how long that took after the last step.
        broken: how often what was broken, and what operators did.
        left_behind: streams of pairs that broke off, and of which something was left to be swept.
        faults: in words; empty: all held.
    """

    seed: int
    tasks: int = 0
    settlements: int = 0
    seconds: float = 0.0
    resting_s: float = 0.0
    broken: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    left_behind: int = 0
    repeats: int = 0
    reconnects: int = 0
    looks: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def told(self) -> list[str]:
        """Returns it in lines."""
        rate = self.tasks / self.seconds if self.seconds else 0.0
        return [
            f"seed {self.seed}: {self.tasks} tasks, {self.settlements} settlements in {self.seconds:.0f} s",
            f"{rate:.0f} tasks/s; at rest {self.resting_s:.1f} s after the last step",
            f"broken: {counted(self.broken)}",
            f"jobs: {counted(self.states)}; listings: {counted(self.looks)}",
            f"calls asked again: {self.repeats}; watches opened again: {self.reconnects}",
            f"streams of pairs that left something to be swept: {self.left_behind}",
            f"processes that ended by themselves: {counted(self.endings)}",
            *(f"FAULT: {fault}" for fault in self.faults),
            f"faults: {len(self.faults) or 'none'}",
        ]


def counted(counter: Counter[str]) -> str:
    """Returns a counter in words."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"
