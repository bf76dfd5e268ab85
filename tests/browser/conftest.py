"""One Chromium for all browser tests, and pages that may load nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cirbench.leaderboard.site.build import build_site
from tests.browser.chromium import ARGUMENTS, find_chromium

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page, Route

ENTRIES = Path(__file__).parents[2] / "leaderboards" / "entries"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; playwright's own is never downloaded."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install 'cirbench[browser]'"
    )
    path = find_chromium()
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as it is published; not built where there is nothing to look at it with."""
    folder = tmp_path_factory.mktemp("site")
    build_site(ENTRIES, folder / "site")
    return folder / "site"


class ValidationConfig:
    """What a page did beyond showing itself."""

    def __init__(self) -> None:
        self.asked_for: list[str] = []
        self.complaints: list[str] = []


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a file in a fresh context; at the end nothing may have gone wrong and nothing may have been fetched."""
    watch = ValidationConfig()
    contexts = []

    def open_page(path: Path, fragment: str = "", **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)

        def only_files(route: Route) -> None:
            if route.request.url.startswith(("file://", "data:")):
                route.continue_()
            else:
                watch.asked_for.append(route.request.url)
                route.abort()

        page.route("**/*", only_files)
        page.on("console", lambda message: watch.complaints.append(message.text))
        page.on("pageerror", lambda error: watch.complaints.append(str(error)))
        page.goto(f"{path.as_uri()}{fragment}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert watch.asked_for == []
    assert watch.complaints == []
