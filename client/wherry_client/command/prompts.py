"""Asks for what must not stand on a command line."""

from __future__ import annotations

import getpass
import sys

from wherry_client.errors import UsageError


def password(prompt: str, *, from_stdin: bool, twice: bool = False) -> str:
    """Returns a password, typed without echo or read as the first line of the standard input; raises UsageError."""
    if from_stdin:
        line = sys.stdin.readline()
        typed = line[:-1] if line.endswith("\n") else line
    else:
        _need_terminal("--password-stdin")
        typed = getpass.getpass(f"{prompt}: ")
        if twice and typed and getpass.getpass(f"{prompt} again: ") != typed:
            raise UsageError("The two passwords differ.")
    if not typed:
        raise UsageError("The password is empty.")
    return typed


def line(prompt: str, given: str | None, option: str) -> str:
    """Returns what was given, or asks for it; raises UsageError where nobody can be asked, naming the option."""
    if given:
        return given
    _need_terminal(option)
    typed = input(f"{prompt}: ").strip()
    if not typed:
        raise UsageError(f"{prompt} is empty.")
    return typed


def confirm(question: str, *, agreed: bool) -> bool:
    """Returns whether to go on; raises UsageError where nobody can be asked."""
    if agreed:
        return True
    _need_terminal("--yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _need_terminal(option: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"The standard input is no terminal: nobody can be asked. Give {option}.")
