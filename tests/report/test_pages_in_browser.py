"""The pages of a run, a comparison and a sweep in a real browser: they draw, can be searched, read out and printed.

Screenshots go to the folder that ``THUNDERCTL_TEST_SCREENSHOTS`` names, else to the test's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import a_browser, a_visit
from tests.report.runs import a_simulated_run
from tests.report.test_disk import sample
from tests.report.test_sweep import a_sweep
from thunderctl.report import compare_page, plots, run_page
from thunderctl.report.compare import arms_of, compare
from thunderctl.report.stats import summarise

pytestmark = pytest.mark.browser

PAGES = ("run", "large-run", "failed-run", "comparison", "sweep", "simulated-sweep")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file for each of ``PAGES``."""
    folder = tmp_path_factory.mktemp("pages")
    arms = [
        summarise(a_simulated_run(folder / f"{agents}-{policy}-{n}", agents, policy, duration_s=60 + n))
        for agents in (24, 96) for policy in ("baseline", "thunder") for n in range(3)
    ]  # fmt: skip
    for summary in arms:  # repeats of a simulation would be the same to the last digit, so each is a little longer
        summary["trace"]["duration_s"] = 60.0
    large = a_simulated_run(folder / "large", 256, duration_s=300, workers=2)
    for n in range(150):
        large.append("disk", sample(2.0 * n, 2**30 + n * 2**20, n * 2**23))
    large.close()
    failed = a_simulated_run(folder / "failed", 4, duration_s=30)
    failed.append("rollouts", {
        "agent": "agent-000", "program": "p</td><script>", "status": "failed", "error": "<b>it broke</b>",
    })  # fmt: skip
    failed.close()
    found = {
        "run": run_page.page(a_simulated_run(folder / "run")),
        "large-run": run_page.page(large),
        "failed-run": run_page.page(failed),
        "comparison": compare_page.page(compare(arms_of([s for s in arms if s["agents"]["asked"] == 96]))),
        "sweep": compare_page.page(compare(arms_of(arms))),
        "simulated-sweep": plots.page(a_sweep(2)),
    }
    for name, page in found.items():
        (folder / f"{name}.html").write_text(page)
    return {name: folder / f"{name}.html" for name in found}


def draw_all(page: Page) -> int:
    """Have every figure drawn, those out of sight too; how many there are."""
    places = page.locator(".figure")
    for n in range(places.count()):
        places.nth(n).scroll_into_view_if_needed()
        places.nth(n).locator("svg.main-svg").first.wait_for()
    page.evaluate("scrollTo(0, 0)")
    return places.count()


@pytest.mark.parametrize(
    ("name", "scheme"), [*((name, "light") for name in PAGES), *((name, "dark") for name in ("run", "comparison"))]
)
def test_a_page_draws_without_complaint_request_or_barrier(
    name: str, scheme: Literal["light", "dark"], browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    with a_visit(browser, pages[name], scheme=scheme) as visit:
        assert draw_all(visit.page) >= 3
        folder = Path(os.environ.get("THUNDERCTL_TEST_SCREENSHOTS", tmp_path))
        folder.mkdir(parents=True, exist_ok=True)
        picture = folder / f"{name}-{scheme}.png"
        visit.page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 20_000, "a page that shows something"
        visit.check()


@pytest.mark.parametrize("name", ["run", "comparison", "sweep"])
def test_a_page_fits_a_phone(name: str, browser: Browser, pages: dict[str, Path]) -> None:
    with a_visit(browser, pages[name], width=390, height=844) as visit:
        draw_all(visit.page)
        assert visit.overflow_px() <= 0


def test_a_run_of_256_agents_is_a_small_page(pages: dict[str, Path]) -> None:
    assert pages["large-run"].stat().st_size < 10_000_000


@pytest.mark.parametrize("name", ["run", "comparison", "sweep"])
def test_no_tool_bar_covers_a_legend(name: str, browser: Browser, pages: dict[str, Path]) -> None:
    with a_visit(browser, pages[name]) as visit:
        draw_all(visit.page)
        covered = visit.page.evaluate(
            """() => [...document.querySelectorAll(".figure")].filter((figure) => {
                const bar = figure.querySelector(".modebar").getBoundingClientRect();
                const legend = figure.querySelector(".legend").getBoundingClientRect();
                return bar.width && legend.width && bar.left < legend.right && legend.left < bar.right
                  && bar.top < legend.bottom && legend.top < bar.bottom;
            }).map((figure) => figure.id)"""
        )
        assert covered == []


def test_no_button_sends_data_elsewhere(browser: Browser, pages: dict[str, Path]) -> None:
    with a_visit(browser, pages["run"]) as visit:
        draw_all(visit.page)
        buttons = visit.page.locator(".modebar-btn").evaluate_all("found => found.map(b => b.dataset.title)")
        assert len(buttons) > 5
        assert not [
            said for said in buttons if any(word in said.lower() for word in ("cloud", "share", "edit", "link"))
        ]


def seen(page: Page) -> dict[str, Any]:
    """Rows of the timeline and the seconds it shows."""
    found: dict[str, Any] = page.evaluate(
        """() => { const place = document.querySelector(".timeline");
        return { rows: place.shown.kept.map((n) => place.shown.rows[n]), range: place._fullLayout.xaxis.range }; }"""
    )
    return found


def test_the_timeline_can_be_searched_and_zoomed_from_the_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    with a_visit(browser, pages["run"]) as visit:
        page = visit.page
        draw_all(page)
        before = seen(page)
        box = page.get_by_label("Search").first
        box.focus()
        page.keyboard.type("finished")
        expect(page.locator(".controls output").first).not_to_contain_text(f"{len(before['rows'])} of")
        after = seen(page)
        assert 0 < len(after["rows"]) < len(before["rows"])
        assert all(row.endswith("finished") for row in after["rows"])
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        closer = seen(page)["range"]
        assert closer[1] - closer[0] == pytest.approx((before["range"][1] - before["range"][0]) / 2)


def test_the_timeline_says_what_is_under_the_pointer(browser: Browser, pages: dict[str, Path]) -> None:
    with a_visit(browser, pages["run"]) as visit:
        page = visit.page
        draw_all(page)
        place = page.locator(".timeline")
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60)
        expect(page.locator(".controls output").first).to_contain_text(" s: ")


def test_the_table_of_programs_can_be_searched(browser: Browser, pages: dict[str, Path]) -> None:
    with a_visit(browser, pages["failed-run"]) as visit:
        page = visit.page
        page.get_by_label("Search").last.fill("it broke")
        rows = page.locator("#table-programs tbody tr:visible")
        assert rows.count() == 1
        assert "<b>it broke</b>" in rows.first.inner_text(), "text, not an element"


def test_a_printed_page_holds_every_figure_and_no_controls(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    with a_visit(browser, pages["run"], scheme="dark") as visit:
        page = visit.page
        page.evaluate("addEventListener('beforeprint', () => { window.figuresOnPaper = drawn.size; })")
        page.pdf(path=tmp_path / "run.pdf")
        assert page.evaluate("window.figuresOnPaper") == page.locator(".figure").count()
        page.emulate_media(media="print")
        assert not page.get_by_label("Search").first.is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_figures_of_a_page_are_plain_data(pages: dict[str, Path]) -> None:
    text = pages["run"].read_text()
    _, _, rest = text.partition('<script type="application/json" id="figures">')
    assert [figure for figure in json.loads(rest.partition("</script>")[0]) if "timeline" in figure]
