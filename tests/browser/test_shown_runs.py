"""Pages of runs and reports in Chromium, and pages into which somebody wrote code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench.leaderboard.site.build import build_site
from cirbench.leaderboard.site.cases import read_report, write_page
from tests.browser.test_site import check_everywhere
from tests.shown import board, hostile_board, make_entries, make_tiny_runs, row, write_pages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    Look = Callable[..., Page]


@pytest.fixture(scope="module")
def runs(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_runs(tmp_path_factory.mktemp("runs"))


def loaded(page: Page) -> int:
    """Scroll to every picture and count those that show something."""
    script = """async () => {
      const pictures = [...document.images];
      for (const picture of pictures) picture.loading = "eager";
      await Promise.all(pictures.map((picture) => picture.decode()));
      return pictures.filter((picture) => picture.naturalWidth > 0).length;
    }"""
    return int(page.evaluate(script))


def test_a_page_of_a_run_shows_its_pictures_and_reads_well_everywhere(look: Look, runs: Path, tmp_path: Path) -> None:
    entries = make_entries(runs, tmp_path / "entries")
    build_site(entries, tmp_path / "site")
    (path,) = (tmp_path / "site" / "runs").glob("*image-text*")
    page = look(path)
    assert loaded(page) == page.locator(".thumb").count() > 200
    check_everywhere(page)


def test_queries_are_chosen_by_outcome_and_what_they_are_about(look: Look, runs: Path, tmp_path: Path) -> None:
    entries = make_entries(runs, tmp_path / "entries")
    build_site(entries, tmp_path / "site")
    page = look(tmp_path / "site" / "explore" / "scenes-tiny.html")
    cases = page.locator(".case")
    everything = cases.count()
    assert everything == 48

    def bests(run: str) -> list[float]:
        script = """(all, run) => all.filter((each) => each.checkVisibility()).map((each) =>
          Number([...each.querySelectorAll(".answer")].find((answer) => answer.dataset.run === run).dataset.best))"""
        return [float(value) for value in page.eval_on_selector_all(".case", script, run)]

    page.select_option("select[name=run]", "text-only")
    page.select_option("select[name=outcome]", "near")
    near = bests("text-only")
    assert near and all(10 < best <= 50 for best in near)
    page.select_option("select[name=outcome]", "")
    page.select_option("select[name=order]", "near")
    ordered = bests("text-only")
    missed = [best for best in ordered if best > 10]
    assert len(ordered) == everything and ordered[: len(missed)] == sorted(missed)
    page.click("button[type=reset]")
    page.select_option("select[name=label]", "negation")
    about = [each.get_attribute("data-labels") or "" for each in cases.all() if each.is_visible()]
    assert 0 < len(about) < everything and all("negation" in labels for labels in about)
    page.click("form.filters summary")
    page.uncheck("input[data-shown='image-only']")
    assert not page.locator(".answer[data-run='image-only']").first.is_visible()
    check_everywhere(page)


def test_a_report_shows_its_pictures_and_reads_well_everywhere(look: Look, runs: Path, tmp_path: Path) -> None:
    (run,) = runs.glob("image-text-*")
    (other,) = runs.glob("image-only-*")
    write_page(read_report([run, other], "disagree", 3), tmp_path / "look.html")
    page = look(tmp_path / "look.html")
    assert loaded(page) == page.locator(".thumb").count() > 90
    assert page.locator(".thumb.right figcaption b").count() == page.locator(".thumb.right").count()
    page.click("button.theme")  # the script runs under the page's own policy
    assert page.inner_text("button.theme") == "Light colours"
    check_everywhere(page)


def test_code_in_names_links_and_notes_does_not_run(look: Look, tmp_path: Path) -> None:
    site = write_pages([hostile_board()], tmp_path)
    for path in sorted(site.rglob("*.html")):
        page = look(path)
        page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
        assert page.evaluate("document.title").endswith("CIR leaderboards")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_two_hundred_rows_open_and_answer_at_once(look: Look, tmp_path: Path) -> None:
    site = write_pages([board([row(number) for number in range(200)])], tmp_path)
    page = look(site / "benchmarks" / "cirr.html")
    script = """() => {
      const timed = (work) => { const start = performance.now(); work(); document.body.offsetHeight;
                                return performance.now() - start; };
      const head = document.querySelector("th[data-key='Recall@5'] button");
      const search = document.querySelector("input[name=q]");
      return [timed(() => head.click()), timed(() => { search.value = "17"; search.dispatchEvent(
        new Event("input", { bubbles: true })); })];
    }"""
    ready = """(() => { const all = performance.getEntriesByType("navigation")[0];
                        return all.domContentLoadedEventEnd - all.domContentLoadedEventStart; })()"""
    prepared = []
    for _ in range(3):
        page.reload()
        prepared.append(page.evaluate(ready))
    assert min(prepared) < 300
    assert max(min(times) for times in zip(*(page.evaluate(script) for _ in range(3)), strict=True)) < 300
