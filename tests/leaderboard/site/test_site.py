"""The site is whole, small, reproducible, and inert whatever others write into it."""

from __future__ import annotations

import dataclasses
import gzip
import re
import shutil
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench import cli
from cirbench.comparison.published import load_published
from cirbench.leaderboard.audits import released
from cirbench.leaderboard.board import read_leaderboard
from cirbench.leaderboard.entry import Entry, entry_folders, read_entry
from cirbench.leaderboard.site.build import MANIFEST, build_site
from cirbench.leaderboard.site.figures import sampling_error
from tests.shown import board, hostile_board, make_entries, row, write_pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def entries(tiny_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_entries(tiny_runs, tmp_path_factory.mktemp("leaderboards") / "entries")


@pytest.fixture(scope="module")
def site(entries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build_site(entries, folder)
    return folder


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of all."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, attribute: str) -> Iterator[str]:
        return (str(values[attribute]) for _, values in self.elements if attribute in values)


def pages_of(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_the_same_data_give_the_same_site_byte_for_byte(entries: Path, site: Path, tmp_path: Path) -> None:
    build_site(entries, tmp_path)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (site, tmp_path)
    )
    assert first == second


def test_every_link_leads_to_a_page_and_place_of_the_site_or_to_the_web(site: Path) -> None:
    ids = {path: set(Elements(path.read_text()).all("id")) for path in pages_of(site)}
    for path in pages_of(site):
        elements = Elements(path.read_text())
        for target in (*elements.all("href"), *elements.all("src")):
            if target.startswith(("https://", "data:")):
                continue
            file, _, place = target.partition("#")
            leads_to = (path.parent / file).resolve() if file else path
            assert leads_to.is_file(), (path, target)
            if place:
                assert place in ids[leads_to], (path, target)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in pages_of(site):
        for tag, values in Elements(path.read_text()).elements:
            loads = values.get("src") or (values.get("href") if tag == "link" else None) or ""
            assert not loads.startswith(("http", "//")), (path, loads)


def test_every_published_row_stands_on_its_benchmark_with_source_caveats_and_command(site: Path) -> None:
    published = load_published()
    texts = {path.stem: Elements(path.read_text()).text for path in (site / "benchmarks").iterdir()}
    for each in published.rows:
        text = texts[each.benchmark]
        assert each.source.title in text
        assert f"cirbench reproduce {each.id}" in text
        for caveat in published.caveats_of(each):
            assert caveat in text
        for value in each.metrics.values():
            assert f"{value:.2f}" in text


def test_a_run_has_a_page_with_its_numbers_its_commands_and_what_it_retrieved(entries: Path, site: Path) -> None:
    for folder in entries.iterdir():
        if not folder.is_dir():
            continue
        entry = read_entry(folder)
        page = Elements((site / "runs" / f"{folder.name.replace('--', '-')}.html").read_text())
        for score in entry.metrics:
            assert score.label in page.text
            assert f"{score.low:.2f} to {score.high:.2f}" in page.text
        for fact in (*entry.commands, entry.protocol.digest[:8], entry.backbone.weights, entry.run, str(entry.ranks)):
            assert fact in page.text
        assert "removed from the candidates by the protocol" in page.text
        pictures = [values for tag, values in page.elements if tag == "img"]
        assert len(pictures) > 12 * 10
        assert any("a ground truth" in str(values["alt"]) for values in pictures)


def test_each_row_of_a_run_opens_to_its_audit_and_the_first_page_counts_them(entries: Path, site: Path) -> None:
    runs = [folder.name for folder in entries.iterdir() if folder.is_dir()]
    page = Elements((site / "benchmarks" / "scenes.html").read_text())
    assert page.text.count("Audit (") == len(runs)
    assert page.text.count("Solved by one modality: ") == len(runs)
    counts = Elements((site / "index.html").read_text()).text
    assert re.search(rf"\b{len(runs) + len(released())}\s+audits of rows", counts)


def test_a_published_row_opens_to_the_audit_of_the_lists_that_its_authors_released(site: Path) -> None:
    page = Elements((site / "benchmarks" / "circo.html").read_text())
    assert page.text.count("Reference image in the top 1 / 5 / 10 / 50:") == len(released())
    assert "4.2 / 14.4 / 21.8 / 41.4 %" in page.text
    assert {lists.href for lists in released().values()} <= {values.get("href") for _, values in page.elements}


def test_pages_are_small(site: Path, tmp_path: Path) -> None:
    write_pages([board([row(number) for number in range(200)])], tmp_path)
    for path in (*pages_of(site), tmp_path / "benchmarks" / "cirr.html"):
        loaded = [values for tag, values in Elements(path.read_text()).elements if tag in ("script", "link")]
        files = [path, *(path.parent / str(each.get("src") or each["href"]) for each in loaded)]
        assert sum(len(gzip.compress(file.read_bytes())) for file in files if file.is_file()) < 200_000, path


def test_what_a_page_says_stands_in_its_html_and_waits_for_no_script(site: Path) -> None:
    for path in pages_of(site):
        raw = path.read_text()
        main = Elements(raw[raw.index("<main") : raw.index("</main>")])
        assert [tag for tag, _ in main.elements].count("h1") == 1, path
        assert len(main.text.split()) > 50, path
        assert all(tag == "form" or "hidden" not in values for tag, values in main.elements), path


def test_what_others_write_is_text_on_every_page(tmp_path: Path) -> None:
    write_pages([hostile_board()], tmp_path)
    allowed = {"html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "button", "main", "h1"}
    for path in pages_of(tmp_path):
        page = Elements(path.read_text())
        assert [tag for tag, values in page.elements if tag == "script"] == ["script"]
        assert not any(tag == "img" for tag, _ in page.elements)
        assert not any(name.startswith("on") for _, values in page.elements for name in values)
        assert not any(target.lower().startswith("javascript") for target in page.all("href"))
        raw = path.read_text()
        assert "\u202e" not in raw
        assert "\x1b" not in raw
        assert "49" not in Elements(raw).text.replace("7*7", "")
        assert allowed <= {tag for tag, _ in page.elements}
    names = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert all(re.fullmatch(r"[a-z0-9./-]+", name.as_posix()) for name in names)


def test_an_entry_whose_page_fails_is_left_out_and_the_others_are_shown(
    entries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_for_one(entry: Entry) -> tuple[tuple[str, str], ...]:
        if "image-text" in entry.id:
            raise KeyError(entry.id)
        return ()

    monkeypatch.setattr("cirbench.leaderboard.site.views._identity", fails_for_one)
    built = build_site(entries, tmp_path / "site")
    (left,) = built.left_out
    assert "image-text" in left.name
    assert "cannot be read" in left.problems[0]
    assert len([*(tmp_path / "site" / "runs").iterdir()]) == 2


def test_a_rebuild_removes_pages_that_are_gone_and_nothing_else(entries: Path, tmp_path: Path) -> None:
    build_site(entries, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    build_site(tmp_path / "no-entries", tmp_path)
    assert not list((tmp_path / "runs").iterdir())
    assert not list((tmp_path / "thumbnails").iterdir())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_rebuild_writes_the_files_whose_content_changes_and_no_other(entries: Path, tmp_path: Path) -> None:
    mine, built, tables = tmp_path / "entries", tmp_path / "site", tmp_path / "tables"
    shutil.copytree(entries, mine)

    def files() -> dict[Path, tuple[int, bytes]]:
        """Each file but the manifest with its inode, which is another where it was written again."""
        found = [path for folder in (built, tables) for path in folder.rglob("*") if path.is_file()]
        return {path: (path.stat().st_ino, path.read_bytes()) for path in found if path.name != MANIFEST}

    def rebuilt() -> tuple[set[Path], set[Path]]:
        """The files that were written again, and those that have another content."""
        before = files()
        build_site(mine, built, tables)
        after = files()
        both = before.keys() & after.keys()
        written = {path for path in both if before[path][0] != after[path][0]}
        return written, {path for path in both if before[path][1] != after[path][1]}

    build_site(mine, built, tables)
    assert rebuilt() == (set(), set())
    shutil.rmtree(entry_folders(mine)[-1])
    written, changed = rebuilt()
    assert written == changed
    assert 0 < len(changed) < len(files()) / 2


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = ["leaderboard", "build", "--entries", str(tmp_path / "none"), "--output", str(tmp_path)]
    assert cli.execute(command) == 2
    assert "holds something other than a site" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_manifest_cannot_lead_out_of_its_folder(entries: Path, tmp_path: Path) -> None:
    site, outside = tmp_path / "site", tmp_path / "outside.txt"
    build_site(tmp_path / "none", site)
    outside.write_text("mine")
    manifest = (site / MANIFEST).read_text()
    (site / MANIFEST).write_text(manifest.replace('"files": [', f'"files": [\n"../outside.txt", "{outside}",'))
    build_site(tmp_path / "none", site)
    assert outside.read_text() == "mine"


def test_the_command_says_where_to_look(entries: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "site"
    assert cli.execute(["leaderboard", "build", "--entries", str(entries), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output / "index.html")


def test_the_pictures_of_the_issue_are_there(site: Path) -> None:
    found = {path: path.read_text() for path in pages_of(site)}
    texts = {path.relative_to(site).as_posix(): text for path, text in found.items()}
    assert "R@1 with intervals" in texts["benchmarks/cirr.html"]
    assert "Recall against K" in texts["benchmarks/cirr.html"]
    assert "R@1 against the size of the backbone" in texts["benchmarks/cirr.html"]
    assert "R@10 for each category" in texts["benchmarks/fashioniq.html"]
    ablation = texts["methods/pli.html"]
    assert "R@10 mean against mask ratio" in ablation
    assert "PLI on CLIP ViT-B/32: 0.25: 24.07; 0.5: 29.27; 0.75: 31.31" in ablation


def test_the_sampling_error_of_a_published_recall_is_that_of_its_binomial() -> None:
    generator = np.random.default_rng(0)
    drawn = 100 * generator.binomial(4148, 0.25, 20_000) / 4148
    half = sampling_error(25.0, "cirr/test1")
    assert half is not None
    assert half == pytest.approx(1.96 * drawn.std(), rel=0.02)
    assert sampling_error(25.0, None) is None


def test_boards_keep_their_rows(site: Path) -> None:
    for each in read_leaderboard(site / "none").boards:
        page = Elements((site / "benchmarks" / f"{each.benchmark}.html").read_text())
        ids = set(page.all("id"))
        assert len([id for id in ids if id]) > len(each.rows)


def test_own_data_has_a_page_that_promises_no_files(tmp_path: Path) -> None:
    own = board([row(0, id="own-cats--pli--0", protocol="own/cats", badge="as published")])
    write_pages([dataclasses.replace(own, id="own/cats", benchmark="own-cats", protocol="own/cats")], tmp_path)
    text = Elements((tmp_path / "benchmarks" / "own-cats.html").read_text()).text
    assert "Somebody's own data" in text
    assert "cirbench data get" not in text
