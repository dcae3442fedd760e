"""Names and foreign texts made fit for a terminal: nothing in them can move the cursor or forge a line."""

from __future__ import annotations

import unicodedata

# Format characters that reorder what stands around them; the rest of their category (joiners) belongs to scripts.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def show_name(raw: bytes) -> str:
    """Returns a file name or path so that each name has one form, and only one: `\\xNN` for a byte that is not UTF-8,
    `\\n`, `\\t`, `\\xNN` or `\\uNNNN` for a control character, and `\\\\` for a backslash.
    """
    return "".join("\\\\" if char == "\\" else _show(char) for char in raw.decode("utf-8", "surrogateescape"))


def show_text(text: str) -> str:
    """Returns a text of a service or a site in one line, its control characters made visible."""
    return "".join(_show(char) for char in text)


def _show(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape's form of a byte
        return f"\\x{code - 0xDC00:02x}"
    if char in _SHORT:
        return _SHORT[char]
    if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _REORDERING:
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return char
