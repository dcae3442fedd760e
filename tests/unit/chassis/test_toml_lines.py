from __future__ import annotations

from wherry_chassis.toml_lines import line_of

_TEXT = """\
# heading = 1
[deployment]
name = "Test"

[service.user]
listen = [
  "127.0.0.1:1",
  "127.0.0.1:2",
]
"quoted key" = 1
[ access . rpc ]
"wherry.user.v1.UserService/GetUser" = ["user"]
a.b = 1
"""


def test_a_key_is_found_in_its_own_table() -> None:
    assert line_of(_TEXT, ("deployment", "name")) == 3
    assert line_of(_TEXT, ("service", "user", "quoted key")) == 10


def test_a_list_element_is_at_its_list() -> None:
    assert line_of(_TEXT, ("service", "user", "listen", 1)) == 6


def test_quoted_and_dotted_keys_are_understood() -> None:
    assert line_of(_TEXT, ("access", "rpc", "wherry.user.v1.UserService/GetUser", 0)) == 12
    assert line_of(_TEXT, ("access", "rpc", "a", "b")) == 13


def test_what_is_missing_is_at_the_nearest_table_that_is_there() -> None:
    assert line_of(_TEXT, ("service", "user", "database")) == 5
    assert line_of(_TEXT, ("mail", "host")) is None


def test_a_comment_is_no_key() -> None:
    assert line_of(_TEXT, ("heading",)) is None
