"""Debian's Chromium, driven by Playwright, as a person would use it.

    with chromium() as browser:
        visit = Visit(browser, centre.gateway_url)
        visit.page.get_by_label("E-mail").fill("alice@example.org")
        ...
        visit.must_be_clean()

Playwright's plain interface has an event loop of its own in the thread: open it for a module of plain tests at most, or
tests with coroutines cannot run meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

_CHROMIUM = "/usr/bin/chromium"
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_DEADLINE_MS = 20_000
_TRACES_OF_NO_HOST = ("data", "blob", "about")


@contextlib.contextmanager
def chromium(arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Gives a browser, and ends it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=[*_ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One person's window: a context with cookies of its own, what it said, and where it asked.

    Args:
        browser: the browser.
        url: where Wherry is.
        width, height: of the window, in CSS pixels.
    """

    def __init__(self, browser: Browser, url: str, *, width: int = 1440, height: int = 900) -> None:
        # The authority is the deployment's own; what the certificate is worth is tested elsewhere.
        self.context: BrowserContext = browser.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": height}, base_url=url
        )
        self.context.set_default_timeout(_DEADLINE_MS)
        self.url = url
        self.problems: list[str] = []
        self.hosts: set[str] = set()
        self.paths: list[str] = []
        self.context.on("console", self._heard)
        self.context.on("request", self._asked)
        self.context.on("weberror", lambda error: self.problems.append(f"uncaught: {error.error}"))
        self.page: Page = self.context.new_page()

    def open(self, path: str = "/") -> Page:
        """Opens a place of the page."""
        self.page.goto(path)
        return self.page

    def screenshot(self, file: Path) -> None:
        """Keeps a picture of the window."""
        self.page.screenshot(path=str(file))

    def close(self) -> None:
        """Closes the window."""
        self.context.close()

    def must_be_clean(self, *, but: Sequence[str] = ()) -> None:
        """Fails if the page complained in its console, or asked any other host.

        Args:
            but: parts of complaints that the test has brought about.
        """
        complaints = [line for line in self.problems if not any(part in line for part in but)]
        assert complaints == []
        assert self.hosts == {urlsplit(self.url).netloc}

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in _TRACES_OF_NO_HOST:
            self.hosts.add(parts.netloc)
            self.paths.append(parts.path)
