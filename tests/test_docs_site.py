"""The documentation builds as a site: whole, without a warning, with a reference made from the code."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cirbench
from cirbench.cli import VERBS

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it as `make docs` does."""
    if not all(map(importlib.util.find_spec, ("sphinx", "furo", "myst_parser"))):
        pytest.skip("the documentation is not built: pip install 'cirbench[docs]'")
    folder = tmp_path_factory.mktemp("docs")
    gather = [sys.executable, "docs/site/gather.py", str(folder / "source")]
    build = [
        *["-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs/site"],
        str(folder / "source"),
        str(folder / "site"),
    ]
    for command in (gather, [sys.executable, *build]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_every_page_guide_and_card_is_there(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file()
    for card in (ROOT / "methods").rglob("README.md"):
        assert (site / "methods" / f"{card.parent.name}.html").is_file()


def test_the_reference_names_the_whole_public_api_and_every_command(site: Path) -> None:
    api, cli = ((site / "reference" / f"{name}.html").read_text() for name in ("api", "cli"))
    assert {f"cirbench.{name}" for name in dir(cirbench)} <= set(re.findall(r'id="([\w.]+)"', api))
    for verb in VERBS:
        assert f"cirbench {verb}<" in cli


def test_links_between_pages_lead_to_pages(site: Path) -> None:
    for page in site.rglob("*.html"):
        for target in re.findall(r'href="([^"#:]+\.html)[#"]', page.read_text()):
            assert (page.parent / target).resolve().is_file(), (page.name, target)
