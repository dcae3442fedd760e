"""What `wherry-buildout check` has found: each with the key that it is about, and so with a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry_chassis.toml_lines import line_of


@dataclass(frozen=True)
class Finding:
    """Something about one key of a buildout file.

    Attributes:
        key: the key's parts, as ("service", "user", "listen").
        problem: what is wrong, and what to do.
        fatal: whether the deployment cannot run so.
    """

    key: tuple[str, ...]
    problem: str
    fatal: bool = True


Findings = Iterator[Finding]


def show(finding: Finding, file: Path, text: str) -> str:
    """Returns a finding as `file:line: key: problem`; `text` is the file's content."""
    line = line_of(text, finding.key)
    where = f"{file}:{line}" if line else str(file)
    hint = "" if finding.fatal else "warning: "
    return f"{where}: {'.'.join(finding.key)}: {hint}{finding.problem}"
