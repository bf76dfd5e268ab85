"""The site in Chromium: sorted, filtered, shared, read without script, on a phone, in the dark, by keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cirbench.comparison.published import load_published

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, ViewportSize

    Look = Callable[..., Page]

ACCESSIBILITY = (Path(__file__).parent / "accessibility.js").read_text()
BOARD = "#cirr-test1-table"
ROWS = sum(row.protocol == "cirr/test1" for row in load_published().rows)
PHONE: ViewportSize = {"width": 390, "height": 800}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
KINDS = (
    "index.html",
    "benchmarks/cirr.html",
    "benchmarks/fashioniq.html",
    "benchmarks/scenes.html",
    "explore/scenes-val.html",
    "methods/index.html",
    "methods/pli.html",
    "runs/scenes-val-combiner-*.html",
)


@pytest.fixture
def cirr(site: Path) -> Path:
    return site / "benchmarks" / "cirr.html"


def column(page: Page, key: str, table: str = BOARD) -> list[float]:
    """The visible numbers of a column, from the top; what is unknown is NaN."""
    script = """([table, key]) => {
      const at = [...document.querySelectorAll(`${table} thead th`)].findIndex((head) => head.dataset.key === key);
      const rows = [...document.querySelectorAll(`${table} tbody tr:not(.group)`)];
      return rows.filter((row) => row.checkVisibility()).map((row) => row.cells[at].firstChild.data);
    }"""
    return [float(value.replace("–", "nan")) for value in page.evaluate(script, [table, key])]


def shown(page: Page) -> int:
    return int(page.inner_text(".status").split()[0])


def open_choices(page: Page) -> None:
    for summary in page.locator("form.filters summary").all():
        summary.click()


def test_one_list_of_all_backbones_begins_with_the_best_row(look: Look, cirr: Path) -> None:
    page = look(cirr)
    page.check("input[name=flat]")
    known = [value for value in column(page, "Recall@1") if value == value]
    assert known == sorted(known, reverse=True)
    assert page.locator(f"{BOARD} thead th[data-key='Recall@1']").get_attribute("aria-sort") == "descending"


def test_groups_come_in_the_order_of_their_best_row(look: Look, site: Path) -> None:
    page = look(site / "benchmarks" / "circo.html")
    script = """(bodies) => bodies.map((body) => {
      const rows = [...body.querySelectorAll("tr:not(.group)")];
      const ranked = rows.filter((row) => !row.classList.contains("unranked"));
      const numbers = (ranked.length ? ranked : rows).map((row) => Number(row.querySelector(".headline").textContent));
      return Math.max(...numbers);
    })"""
    bests = page.eval_on_selector_all("#circo-test-table tbody:has(tr)", script)
    assert len(bests) > 3
    assert bests == sorted(bests, reverse=True)


def test_a_row_opens_to_its_source_and_caveats_and_leads_to_itself(look: Look, cirr: Path) -> None:
    page = look(cirr)
    row = page.locator(f"{BOARD} tbody tr:not(.group)").nth(2)
    row.locator("summary").first.click()
    opened = page.locator(f"{BOARD} tr.more")
    assert "cirbench reproduce" in opened.inner_text()
    assert opened.bounding_box()["width"] == row.bounding_box()["width"]  # type: ignore[index]
    link = opened.get_by_text("Link to this row").get_attribute("href")
    page.locator(f"{BOARD} thead th[data-key='Recall@5'] button").click()
    follows = page.evaluate(f"document.querySelector('{link}').nextElementSibling.className")
    assert follows == "more"
    row.page.locator(link or "").locator("summary").first.click()
    assert opened.count() == 0


def test_picked_rows_stand_side_by_side_and_in_the_address(look: Look, cirr: Path) -> None:
    page = look(cirr)
    picks = page.locator(f"{BOARD} input.pick")
    picks.nth(0).check()
    assert not page.locator(".compared").first.is_visible()
    picks.nth(3).check()
    panel = page.locator(".compared").first
    first, other = (line.split("\t") for line in panel.locator("tbody").inner_text().splitlines())
    values = column(page, "Recall@1")
    assert float(first[1]) == values[0]
    assert float(other[1].split()[0]) == values[3]
    assert float(other[1].split("(")[1].strip(")").replace("\u2212", "-")) == pytest.approx(
        values[3] - values[0], abs=0.006
    )
    again = look(cirr, page.evaluate("location.hash"))
    assert again.locator(".compared").first.inner_text() == panel.inner_text()


def test_a_table_that_fits_scrolls_with_the_page_and_keeps_its_head_in_sight(look: Look, cirr: Path) -> None:
    page = look(cirr, viewport={"width": 1440, "height": 700})
    page.evaluate("scrollTo(0, 1500)")
    head = page.locator(f"{BOARD} thead th").nth(1)
    assert 0 <= head.bounding_box()["y"] < 5  # type: ignore[index]


@pytest.mark.parametrize("width", [390, 1440])
def test_lines_between_rows_are_whole_where_a_cell_sticks(look: Look, site: Path, width: int) -> None:
    page = look(site / "benchmarks" / "scenes.html", viewport={"width": width, "height": 844})
    script = "(rows) => rows.map((row) => row.getBoundingClientRect().height)"
    heights = page.eval_on_selector_all("#scenes-val-table tbody tr", script)
    assert heights == [round(height) for height in heights]


def test_a_phone_shows_the_source_beside_long_names_of_settings(look: Look, site: Path) -> None:
    page = look(site / "benchmarks" / "scenes.html", viewport=PHONE)
    source = page.locator("#scenes-val-table td.source summary").first.bounding_box()
    assert source is not None and source["x"] + source["width"] <= 390


def test_a_phone_shows_the_method_its_number_and_its_source(look: Look, cirr: Path) -> None:
    page = look(cirr, viewport=PHONE)
    script = "(heads) => heads.filter((head) => head.checkVisibility()).map((head) => head.dataset.key)"
    assert page.eval_on_selector_all(f"{BOARD} thead th", script) == ["rank", "method", "Recall@1", "source"]
    assert page.locator(f"{BOARD} tbody tr:not(.group)").first.bounding_box()["y"] < 1200  # type: ignore[index]


def test_sorting_a_flat_list_orders_every_row_and_tells_assistive_technology(look: Look, cirr: Path) -> None:
    page = look(cirr)
    page.check("input[name=flat]")
    head = page.locator(f"{BOARD} thead th[data-key='Recall@5']")
    head.locator("button").click()
    known = [value for value in column(page, "Recall@5") if value == value]
    assert known == sorted(known, reverse=True)
    assert len(known) > 40
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    values = column(page, "Recall@5")
    assert [value for value in values if value == value] == known[::-1]
    assert all(value != value for value in values[len(known) :])  # unknown comes last in both directions
    assert "lowest first" in page.inner_text(".status")


def test_sorting_keeps_backbones_apart_unless_asked(look: Look, cirr: Path) -> None:
    page = look(cirr)
    groups = page.locator(f"{BOARD} tr.group").all_inner_texts()
    page.locator(f"{BOARD} thead th[data-key='Recall@1'] button").click()
    assert page.locator(f"{BOARD} tr.group").all_inner_texts() == groups
    script = """(bodies) => bodies.map((body) =>
      [...body.querySelectorAll("td.headline")].map((cell) => Number(cell.textContent)))"""
    bodies = page.eval_on_selector_all(f"{BOARD} tbody", script)
    assert sum(map(len, bodies)) == ROWS
    for values in bodies:
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [("backbone", "clip vit-l/14"), ("supervision", "supervised"), ("badge", "as published"), ("since", "2024")],
)
def test_a_filter_leaves_the_rows_that_fit_and_no_other(look: Look, cirr: Path, field: str, value: str) -> None:
    page = look(cirr)
    everything = shown(page)
    open_choices(page)
    page.select_option(f"select[name={field}]", value)
    kept = page.eval_on_selector_all(
        "table.board tbody tr:not(.group)",
        "(rows) => rows.filter((r) => r.checkVisibility()).map((r) => ({...r.dataset}))",
    )
    assert 0 < len(kept) == shown(page) < everything
    for row in kept:
        assert int(row["year"]) >= 2024 if field == "since" else row[field].lower() == value
    page.click("button[type=reset]")
    assert shown(page) == everything


def test_search_finds_words_in_any_part_of_a_row(look: Look, cirr: Path) -> None:
    page = look(cirr)
    page.fill("input[name=q]", "pic2word L/14")
    assert shown(page) >= 1
    page.fill("input[name=q]", "no such method")
    assert shown(page) == 0


def test_columns_can_be_hidden_and_shown(look: Look, cirr: Path) -> None:
    page = look(cirr)
    open_choices(page)
    page.uncheck("input[data-column='Recall@50']")
    assert not page.locator(f"{BOARD} th[data-key='Recall@50']").is_visible()
    assert page.locator(f"{BOARD} tbody tr:not(.group) td:nth-child(7)").first.is_hidden()
    page.check("input[data-column='Recall@50']")
    assert page.locator(f"{BOARD} th[data-key='Recall@50']").is_visible()


def test_what_is_chosen_stands_in_the_address_and_comes_back_from_it(look: Look, cirr: Path) -> None:
    page = look(cirr)
    page.fill("input[name=q]", "searle")
    open_choices(page)
    page.select_option("select[name=backbone]", "clip vit-b/32")
    page.check("input[name=flat]")
    page.uncheck("input[data-column='Recall@10']")
    page.locator(f"{BOARD} thead th[data-key='Recall@5'] button").click()
    fragment = page.evaluate("location.hash")
    again = look(cirr, fragment)
    assert again.input_value("input[name=q]") == "searle"
    assert again.input_value("select[name=backbone]") == "clip vit-b/32"
    assert again.is_checked("input[name=flat]")
    assert not again.is_checked("input[data-column='Recall@10']")
    assert again.locator(f"{BOARD} th[data-key='Recall@5']").get_attribute("aria-sort") == "descending"
    assert again.inner_text(".status") == page.inner_text(".status")
    assert column(again, "Recall@5") == column(page, "Recall@5")


def test_a_hostile_address_changes_nothing_but_the_table(look: Look, cirr: Path) -> None:
    hostile = (
        "#q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&sort.cirr-test1-table=%22%5D.desc&hide=%22%5D%20x&backbone=none"
    )
    page = look(cirr, hostile)
    assert page.locator("img").count() == 0
    assert page.input_value("select[name=backbone]") == ""


def test_the_table_is_used_by_keys_alone(look: Look, cirr: Path) -> None:
    page = look(cirr)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    button = page.locator(f"{BOARD} thead th[data-key='Recall@1'] button")
    button.focus()
    page.keyboard.press("Enter")
    head = page.locator(f"{BOARD} thead th[data-key='Recall@1']")
    assert head.get_attribute("aria-sort") == "descending"
    assert page.evaluate("document.activeElement.textContent.trim()") == "R@1"
    details = page.locator(f"{BOARD} td details summary").first
    details.focus()
    page.keyboard.press("Enter")
    page.locator(f"{BOARD} tr.more code").first.wait_for(timeout=5000)  # the row opens after the key, not with it


def test_without_script_the_tables_are_whole_and_nothing_pretends_to_work(look: Look, cirr: Path) -> None:
    page = look(cirr, java_script_enabled=False)
    assert page.locator(f"{BOARD} tbody tr:not(.group)").count() == ROWS
    assert page.locator(f"{BOARD} td.headline").first.is_visible()
    assert not page.locator("form.filters").is_visible()
    assert not page.locator("button.theme").is_visible()
    assert page.locator("thead button").count() == 0


@pytest.mark.parametrize("name", KINDS)
def test_pages_are_legible_named_and_as_wide_as_the_screen(look: Look, site: Path, name: str) -> None:
    check_everywhere(look(next(site.glob(name))))


def check_everywhere(page: Page) -> None:
    """Check a page on a phone and a desk, by day and by night, with everything open."""
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    for viewport in (PHONE, DESKTOP):
        page.set_viewport_size(viewport)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            assert page.evaluate(ACCESSIBILITY) == []


def test_the_reader_chooses_colours_and_the_choice_is_kept(look: Look, site: Path) -> None:
    page = look(site / "index.html", color_scheme="light")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("button.theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != background
    assert page.inner_text("button.theme") == "Light colours"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_print_shows_whole_tables_and_no_controls(look: Look, cirr: Path) -> None:
    page = look(cirr)
    page.emulate_media(media="print")
    assert not page.locator("form.filters").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.box')).overflow") == "visible"


def test_pages_of_every_kind_open_without_a_complaint(look: Look, site: Path) -> None:
    page = look(site / "index.html")
    for path in (*sorted((site / "benchmarks").iterdir()), *sorted((site / "methods").iterdir())[:5]):
        page.goto(path.as_uri())
        assert page.locator("h1").count() == 1


def test_the_check_itself_finds_what_is_illegible_or_has_no_name(look: Look, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<!doctype html><html lang="en"><title>bad</title><body><h1>One</h1><h3>Three</h3>'
        '<p style="color:#999;background:#fff">grey</p><button></button><select></select>'
        '<img src="data:,"><div style="overflow:auto;width:50px"><div style="width:500px">wide</div></div>'
    )
    found = " ".join(look(bad).evaluate(ACCESSIBILITY))
    for problem in (
        "contrast 2.85: grey",
        "no name: <button>",
        "no name: <select>",
        "no alt",
        "jumps to h3",
        "by keys",
    ):
        assert problem in found
