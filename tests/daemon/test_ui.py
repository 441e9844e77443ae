"""The page at ``/ui`` in a real browser, during a run: what it shows, whom it asks, who can use it.

``THUNDERCTL_TEST_SCREENSHOTS`` names a folder for the pictures; without it they go to the test's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import Visit, a_browser, a_visit
from tests.daemon.killable import KillableNode
from thunderctl.daemon import ui

pytestmark = pytest.mark.browser

MARKUP = "agent <img src=x onerror=alert(1)> & “1”/2"
"""A name that a page which took names for markup would choke on."""
KEY = "correct horse battery"


def work_for_a_while(node: KillableNode, stop: threading.Event) -> threading.Thread:
    """Eight programs that go on until told to stop: too many for the worker's KV cache."""

    async def work() -> None:
        async with node.client() as client:

            async def agent(name: str) -> None:
                step = 0
                while not stop.is_set():
                    await client.complete(name, [1] * (700 + 10 * (step % 40)), [2] * 5)
                    await client.tool(name, "started", "pytest")
                    await asyncio.sleep(0.05)
                    await client.tool(name, "finished")
                    step += 1

            await asyncio.gather(*(agent(f"agent-{n}") for n in range(7)), agent(MARKUP))

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    return thread


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as found:
        yield found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillableNode]:
    """One worker with room for three programs, and eight that work."""
    node = KillableNode(tmp_path_factory.mktemp("ui") / "home", {"STUB_KV": "2500", "STUB_DELAY_S": "0.05"})
    node.prepare(workers={"count": 1})
    node.start()
    stop = threading.Event()
    working = work_for_a_while(node, stop)
    yield node
    stop.set()
    working.join(30)
    node.end()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("THUNDERCTL_TEST_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def wait_live(visit: Visit) -> None:
    visit.page.get_by_role("status").filter(has_text="live").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_overview_of_a_run_is_live_and_faultless(
    browser: Browser, node: KillableNode, pictures: Path, scheme: str
) -> None:
    with a_visit(browser, node.url + "/ui", scheme="dark" if scheme == "dark" else "light") as visit:
        page = visit.page
        wait_live(visit)
        page.locator("#workers tr", has_text="w0").wait_for()
        page.locator("#latest a", has_text="agent").first.wait_for()
        page.locator("#queue-longest a").first.wait_for()
        steps = page.locator("#figures > div", has_text="steps so far").locator("dd")
        before = steps.inner_text()
        page.wait_for_function("before => !document.querySelector('#figures').innerText.includes(before)", arg=before)
        page.screenshot(path=pictures / f"ui-overview-{scheme}.png", full_page=True)
        visit.check()


def test_it_fits_a_phone(browser: Browser, node: KillableNode, pictures: Path) -> None:
    with a_visit(browser, node.url + "/ui", width=360, height=740) as visit:
        wait_live(visit)
        visit.page.locator("#latest a").first.wait_for()
        assert visit.overflow_px() == 0
        visit.page.screenshot(path=pictures / "ui-phone.png", full_page=True)
        visit.check()


def test_a_name_full_of_markup_is_shown_as_it_is_and_leads_to_its_timeline_by_keyboard_alone(
    browser: Browser, node: KillableNode, pictures: Path
) -> None:
    with a_visit(browser, node.url + "/ui") as visit:
        page = visit.page
        wait_live(visit)
        page.get_by_label("Program", exact=True).focus()
        page.keyboard.type("<img")
        page.keyboard.press("Enter")
        page.locator("#found-names a").wait_for()
        assert page.locator("#found-names a").inner_text() == MARKUP
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.get_by_role("heading", level=1, name=MARKUP, exact=True).wait_for()
        page.locator("#program-timeline tr", has_text="answered in").first.wait_for()
        page.locator("#program-timeline tr", has_text="given up").first.wait_for()
        page.locator("#program-decisions tr", has_text="paused").first.wait_for()
        page.locator("#program-strip rect").first.wait_for(state="attached")
        page.screenshot(path=pictures / "ui-program.png")
        visit.check()


def test_decisions_are_listed_with_their_reasons(browser: Browser, node: KillableNode) -> None:
    with a_visit(browser, node.url + "/ui#/decisions") as visit:
        row = visit.page.locator("#decisions-latest tr", has_text="paused").first
        row.wait_for()
        assert row.locator("td").last.inner_text() != ""
        assert visit.page.locator("nav a[aria-current=page]").inner_text() == "Decisions"
        visit.check()


def test_a_focused_link_keeps_the_focus_while_its_table_changes_and_updates_can_be_paused(
    browser: Browser, node: KillableNode
) -> None:
    with a_visit(browser, node.url + "/ui") as visit:
        page = visit.page
        wait_live(visit)
        page.locator("#latest a").first.focus()
        name = page.evaluate("document.activeElement.textContent")
        steps = "document.querySelector('#figures').innerText"
        told = page.evaluate(steps)
        page.wait_for_function(f"told => {steps} !== told", arg=told)
        assert page.evaluate("document.activeElement.textContent") == name
        page.get_by_role("button", name="Pause updates").click()
        page.get_by_role("status").filter(has_text="paused").wait_for()
        told = page.evaluate(steps)
        page.evaluate("new Promise(done => setTimeout(done, 2500))")
        assert page.evaluate(steps) == told


def test_a_page_that_lost_its_daemon_says_so_and_is_live_again_with_the_next_one(
    browser: Browser, tmp_path: Path
) -> None:
    node = KillableNode(tmp_path / "home")
    node.prepare(workers={"count": 1})
    node.start()
    try:
        with a_visit(browser, node.url + "/ui") as visit:
            wait_live(visit)
            node.kill()
            visit.page.get_by_role("status").filter(has_text="not connected").wait_for()
            node.start()
            wait_live(visit)
    finally:
        node.end()


def test_a_node_with_a_key_shows_nothing_without_it(browser: Browser, tmp_path: Path) -> None:
    node = KillableNode(tmp_path / "home", {"UI_TEST_KEY": KEY})
    node.prepare(workers={"count": 1}, gateway={"api_key_env": "UI_TEST_KEY"})
    node.start()
    try:
        with a_visit(browser, node.url + "/ui") as visit:
            page = visit.page
            page.get_by_label("Key", exact=True).wait_for()
            visit.check()
            page.keyboard.type("wrong")
            page.keyboard.press("Enter")
            page.get_by_role("alert").filter(has_text="refuses this key").wait_for()
            assert [text for text in visit.complaints if "401" not in text] == []
            visit.complaints.clear()
            page.get_by_label("Key", exact=True).fill(KEY)
            page.get_by_role("button", name="Open").click()
            wait_live(visit)
            page.reload()
            wait_live(visit)
            page.get_by_role("button", name="Forget the key").click()
            page.get_by_label("Key", exact=True).wait_for()
            assert page.evaluate("sessionStorage.length + localStorage.length") == 0
            visit.check()
    finally:
        node.end()


def test_the_files_forbid_the_page_everything_but_its_own_daemon(node: KillableNode) -> None:
    for path in sorted(ui.PATHS):
        with urllib.request.urlopen(node.url + path, timeout=10) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_only_the_files_of_the_page_are_served_below_ui(node: KillableNode) -> None:
    for path in ("/ui/__init__.py", "/ui/../ui/__init__.py", "/ui/%2e%2e/node.json", "/ui/app.js/", "/uix"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(node.url + path, timeout=10)
        assert refused.value.code == 404
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(node.url + "/ui", b"{}", method="POST"), timeout=10)
    assert refused.value.code == 405
    assert json.loads(urllib.request.urlopen(node.url + "/health", timeout=10).read())["wants_key"] is False
