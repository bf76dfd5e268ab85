"""A picture of a page for the README: ``python -m tests.browser.picture PAGE OUT.png``."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.chromium import ARGUMENTS, find_chromium

WIDTH, TALLEST = 1440, 1300


def take(page: Path, picture: Path) -> None:
    """Photograph a page by day, from its top to the end of its first table, or to the last row that fits."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=[*ARGUMENTS])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        rows = "[...document.querySelectorAll('main .box')[0].querySelectorAll('tr')]"
        ends = tab.evaluate(f"{rows}.map(row => row.getBoundingClientRect().bottom + scrollY)")
        height = ends[-1] + 24 if ends[-1] + 24 <= TALLEST else max(end for end in ends if end <= TALLEST)
        tab.screenshot(path=picture, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
