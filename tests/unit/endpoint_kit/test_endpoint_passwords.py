from __future__ import annotations

import pytest
from wherry_endpoint.accounts import read_passwords
from wherry_endpoint.errors import EndpointError

pytestmark = pytest.mark.row("I1", missing="registration, XRootD, systemd")


def test_passwords_may_hold_colons_blanks_and_any_letter() -> None:
    text = "# comment\nalice:a:b c é\n\nbob: leading blank\n"
    assert read_passwords(text) == {"alice": "a:b c é", "bob": " leading blank"}


@pytest.mark.parametrize("line", ["alice", "alice:", ":secret-word", "alice:" + "x" * 129, "alice:secret\0word"])
def test_a_line_that_is_no_password_is_named_by_its_number_and_never_quoted(line: str) -> None:
    with pytest.raises(EndpointError, match="line 2") as caught:
        read_passwords(f"bob:fine\n{line}\n")
    assert "secret" not in str(caught.value)
    assert "xxx" not in str(caught.value)
