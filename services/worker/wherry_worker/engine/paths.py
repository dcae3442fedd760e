"""Paths as the engine handles them: text with odd bytes as lone surrogates, absolute, never through a shell."""

from __future__ import annotations

from urllib.parse import quote


def to_text(path: bytes) -> str:
    """Returns bytes as the text that stands for them."""
    return path.decode("utf-8", "surrogateescape")


def to_bytes(path: str) -> bytes:
    """Returns the bytes that a text stands for."""
    return path.encode("utf-8", "surrogateescape")


def byte_order(name: str) -> bytes:
    """Sorting key: byte order, in which cursors are kept."""
    return to_bytes(name)


def join(directory: str, name: str) -> str:
    """Returns the path of `name` in `directory`."""
    return f"{directory.rstrip('/')}/{name}"


def parent(path: str) -> str:
    """Returns the directory above; `/` is its own."""
    return path.rstrip("/").rpartition("/")[0] or "/"


def url(scheme: str, host: str, port: int, root_path: str, path: str) -> str:
    """Returns a URL in which everything that could mean something to a library is quoted away."""
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    whole = root_path.rstrip("/") + "/" + path.lstrip("/")
    return f"{scheme}://{netloc}{quote(to_bytes(whole), safe='/')}"
