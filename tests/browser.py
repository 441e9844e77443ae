"""A real headless Chromium for tests of pages: what it complained about, what it asked for, what axe finds.

The browser is Debian's ``chromium`` or another that is installed (``THUNDERCTL_TEST_BROWSER`` names one), else the one
that ``playwright install chromium`` brought. It can resolve no name and reach loopback only. Tests that use it carry
``@pytest.mark.browser`` and sit in modules without async tests: the driver keeps a loop of its own running.

    @pytest.fixture(scope="module")
    def browser() -> Iterator[Browser]:
        with a_browser() as found:
            yield found

    def test_it_looks_right(browser: Browser) -> None:
        with a_visit(browser, "http://127.0.0.1:8000/ui") as visit:
            visit.page.get_by_role("heading", name="Workers").wait_for()
            visit.check()
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",  # it cannot have one as root in a container; all it opens is our own pages
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SERIOUS = ("serious", "critical")
"""What axe calls the impact of faults that keep somebody from using a page."""


@dataclass
class Visit:
    """One page, open, with all that went wrong on it so far."""

    page: Page
    home: str
    """Where its requests may go: an origin, or the one file."""
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console, exceptions of scripts, requests that failed. What the content security
    policy forbids shows here too."""

    def gone_out(self) -> list[str]:
        """Requests for anything but the page's own place and data within the page."""
        inside = (self.home, "data:", "blob:")
        return [url for url in self.requests if not url.startswith(inside)]

    def barriers(self) -> list[str]:
        """Serious and critical findings of axe, a line each, with the elements that they concern."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{fault['id']} ({fault['impact']}): {fault['help']}: "
            + ", ".join(str(target) for node in fault["nodes"] for target in node["target"])
            for fault in found
            if fault["impact"] in SERIOUS
        ]

    def check(self) -> None:
        """Nothing was complained about, nothing was asked for elsewhere, and axe finds nothing serious."""
        assert self.complaints == []
        assert self.gone_out() == []
        assert self.barriers() == []

    def overflow_px(self) -> int:
        """By how much the page is wider than its window: something that a phone would scroll sideways for."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def _executable() -> str | None:
    given = os.environ.get("THUNDERCTL_TEST_BROWSER")
    return given or next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def a_browser() -> Iterator[Browser]:
    """A headless Chromium, gone with everything it started at the end."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_executable(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def a_visit(
    browser: Browser,
    target: str | Path,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: Literal["light", "dark"] = "light",
    wait_until: Literal["load", "domcontentloaded", "networkidle"] = "load",
) -> Iterator[Visit]:
    """Open ``target``, a URL or a file, in a window and a browser profile of its own."""
    url = target.resolve().as_uri() if isinstance(target, Path) else target
    parts = urlsplit(url)
    home = url if parts.scheme == "file" else f"{parts.scheme}://{parts.netloc}/"
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        visit = Visit(page, home)
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("requestfailed", lambda request: _note_failure(visit, request.url, request.failure))
        page.on("pageerror", lambda fault: visit.complaints.append(f"exception: {fault}"))
        page.on(
            "console",
            lambda said: (
                visit.complaints.append(f"{said.type}: {said.text}") if said.type in ("error", "warning") else None
            ),
        )
        page.goto(url, wait_until=wait_until)
        yield visit
    finally:
        context.close()


def _note_failure(visit: Visit, url: str, why: str | None) -> None:
    if why != "net::ERR_ABORTED":  # the page itself broke it off, as it does with a stream it no longer reads
        visit.complaints.append(f"request failed: {url}: {why}")
