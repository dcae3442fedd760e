"""Which options of a copy have no meaning together, or none where every file is named."""

from __future__ import annotations

from collections.abc import Sequence

from wherry.queue.v1 import job_service_pb2 as pb
from wherry_chassis.errors import FieldProblem, InvalidFields

_OF_DIRECTORIES = ("include", "exclude", "delete_extraneous")
"""Those that are about what directories hold."""
_DELETES_WITH = frozenset({pb.OVERWRITE_POLICY_ALWAYS, pb.OVERWRITE_POLICY_IF_NEWER, pb.OVERWRITE_POLICY_IF_DIFFERENT})
"""With the others a destination never comes to hold what the source does, and what is put beside a file looks as if
only the destination had it."""


def check_copy(copy: pb.CopyOperation, at: str) -> None:
    """Refuses options that have no meaning together; `at` is the field's name. Raises InvalidFields."""
    options = copy.options
    problems: list[tuple[str, str]] = []
    if not copy.recursive:
        problems += [(name, "needs `recursive`: it is about what directories hold") for name in _given(options)]
    elif options.delete_extraneous and copy.overwrite not in _DELETES_WITH:
        problems.append(("delete_extraneous", "needs `overwrite` to be ALWAYS, IF_NEWER or IF_DIFFERENT"))
    if options.comparison and copy.overwrite != pb.OVERWRITE_POLICY_IF_DIFFERENT:
        problems.append(("comparison", "needs `overwrite` to be IF_DIFFERENT: it says what makes files differ"))
    _refuse(f"{at}.options", problems)


def check_pairs(options: pb.CopyOptions, overwrite: pb.OverwritePolicy.ValueType) -> None:
    """Refuses options that have no meaning where every file is named; raises InvalidFields."""
    problems = [(name, "has no meaning where every file is named") for name in _given(options)]
    if options.dry_run:
        problems.append(("dry_run", "has no meaning where every file is named: nothing would be looked at"))
    if options.comparison and overwrite != pb.OVERWRITE_POLICY_IF_DIFFERENT:
        problems.append(("comparison", "needs `overwrite` to be IF_DIFFERENT: it says what makes files differ"))
    _refuse("copy.options", problems)


def _given(options: pb.CopyOptions) -> list[str]:
    return [name for name in _OF_DIRECTORIES if getattr(options, name)]


def _refuse(at: str, problems: Sequence[tuple[str, str]]) -> None:
    if problems:
        raise InvalidFields(*(FieldProblem(f"{at}.{name}", problem) for name, problem in problems))
