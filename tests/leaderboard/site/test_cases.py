"""A report shows what was retrieved, marks what was right, and shows no picture that is not ours to show."""

from __future__ import annotations

import itertools
import re
import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from PIL import Image

from cirbench import cli
from cirbench.benchmarks.catalogue import load_protocol
from cirbench.comparison.audit import audit_run
from cirbench.leaderboard.site.cases import Outcomes, cases, choose, read_outcomes, read_report, write_page
from cirbench.runs.folder import load_run
from cirbench.runs.record import IDENTITY

if TYPE_CHECKING:
    from pathlib import Path


def outcomes(*folders: Path) -> list[Outcomes]:
    return read_outcomes([load_run(folder) for folder in folders])[0]


def test_the_worst_and_the_best_queries_are_those_of_the_lowest_and_highest_number(image_text: Path) -> None:
    (run,) = outcomes(image_text)
    worst, best = (choose([run], choice, 60) for choice in ("worst", "best"))
    assert sorted(worst) == sorted(best) == list(range(60))
    assert (np.diff(run.values_Q[worst]) >= 0).all()
    assert (np.diff(run.values_Q[best]) <= 0).all()
    for first, second in itertools.pairwise(worst):
        if run.values_Q[first] == run.values_Q[second]:
            assert run.first_Q[first] >= run.first_Q[second]


def test_queries_at_even_distances_depend_on_no_result(image_text: Path, image_only: Path) -> None:
    chosen = [choose(outcomes(run), "spread", 4) for run in (image_text, image_only)]
    assert chosen == [[0, 15, 30, 45]] * 2
    assert choose(outcomes(image_text), "spread", 1000) == list(range(60))


def test_as_many_queries_are_chosen_from_each_part(image_text: Path) -> None:
    report = read_report([image_text], "worst", 3, by="unimodal@5")
    parts = [[label for label in case.labels if label.endswith("unimodal hit")] for case in report.cases]
    assert parts == [["no unimodal hit"]] * 3 + [["unimodal hit"]] * 3
    for case, (part,) in zip(report.cases, parts, strict=True):
        found = [rank for answer in case.answers[1:] for rank in answer.ranks if rank is not None]
        assert (min(found) <= 5) == (part == "unimodal hit")
    assert "As many from each part by unimodal@5" in report.chosen


def test_two_runs_disagree_most_where_their_numbers_are_furthest_apart(image_text: Path, image_only: Path) -> None:
    runs = outcomes(image_text, image_only)
    apart = np.abs(runs[0].values_Q - runs[1].values_Q)
    assert apart[choose(runs, "disagree", 5)].tolist() == sorted(apart, reverse=True)[:5]


def test_a_case_shows_the_ranking_and_the_exact_ranks_of_the_run(image_text: Path) -> None:
    protocol = load_protocol("scenes/tiny")
    assert protocol.labels is not None
    (run,) = outcomes(image_text)
    for case, place in zip(cases(protocol, [run], [3, 7], top=50), [3, 7], strict=True):
        assert case.query == protocol.queries[place]
        assert tuple(truth.id for truth in case.truths) == protocol.labels.relevant[place]
        (answer,) = case.answers
        for truth, rank in zip(case.truths, answer.ranks, strict=True):
            if rank is not None and rank <= 50:
                assert answer.top[rank - 1].id == truth.id
        assert [hit.right for hit in answer.top] == [hit.id in protocol.labels.relevant[place] for hit in answer.top]


def test_the_page_has_caption_pictures_ranks_and_the_unimodal_answers(image_text: Path, tmp_path: Path) -> None:
    page = tmp_path / "look.html"
    assert cli.execute(["report", str(image_text), "--best", "3", "--top", "5", "--html", str(page)]) == 0
    text = page.read_text()
    report = read_report([image_text], "best", 3, top=5)
    assert [run.name for run in report.outcomes] == ["image-text", "image-only", "text-only"]
    for case in report.cases:
        assert case.query.captions[0] in text
        for answer in case.answers:
            assert f"truths at rank {', '.join(f'{rank:,}' for rank in answer.ranks)}" in text
    gap = audit_run("image-text", load_run(image_text), load_protocol("scenes/tiny")).composition_gap
    assert f"{gap:+.2f} points of mAP@5" in text
    shown = set(re.findall(r'src="look_files/([0-9a-f]{20}\.webp)"', text))
    assert shown == {path.name for path in (tmp_path / "look_files").iterdir()}
    for name in shown:
        with Image.open(tmp_path / "look_files" / name) as picture:
            assert max(picture.size) <= 96


def test_a_page_is_written_the_same_again_and_its_thumbnails_once(image_text: Path, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    report = read_report([image_text])
    write_page(report, page)
    before = page.read_bytes(), {path: path.stat().st_mtime_ns for path in (tmp_path / "a_files").iterdir()}
    write_page(report, page)
    assert (page.read_bytes(), {path: path.stat().st_mtime_ns for path in (tmp_path / "a_files").iterdir()}) == before


def test_without_a_page_the_queries_are_a_table(image_text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["report", str(image_text), "--worst", "2"]) == 0
    printed = capsys.readouterr().out
    assert "The 2 of 60 queries on which image-text does worst." in printed
    assert "ground truths at rank" in printed


def test_two_runs_of_one_method_are_told_apart_by_their_folders(image_text: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(image_text, tmp_path / "image-text-again")
    report = read_report([image_text, copy], "disagree", 1)
    assert [run.name for run in report.outcomes[:2]] == [
        f"image-text ({image_text.name})",
        "image-text (image-text-again)",
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--worst", "3", "--best", "3"], "--worst and --best choose differently"),
        (["--disagree", "3"], "--disagree compares two runs, and one is given"),
        (["--thumbnails"], "--thumbnails needs a page"),
        (["--worst", "0"], "'--worst'"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    image_text: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert cli.execute(["report", str(image_text), *more]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["report", str(tmp_path)]) == 3
    assert f"There is no finished run in {tmp_path}" in capsys.readouterr().err


def test_runs_of_different_protocols_are_not_shown_side_by_side(
    image_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = _changed(image_text, tmp_path / "other", protocol="toy/other@1")
    assert cli.execute(["report", str(image_text), str(other)]) == 4
    assert "image-text was run on scenes/tiny@1, and image-text on toy/other@1" in capsys.readouterr().err


def test_a_benchmark_that_changed_since_the_run_is_refused(
    image_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = _changed(image_text, tmp_path / "stale", queries="0" * 64)
    assert cli.execute(["report", str(stale)]) == 4
    assert "another scenes/tiny@1 than the one here: queries changed since" in capsys.readouterr().err


def _changed(run: Path, copy: Path, *, protocol: str | None = None, queries: str | None = None) -> Path:
    """Copy a run and let it say that it was made on another protocol, as a run from before results had digests."""
    shutil.copytree(run, copy)
    result = load_run(copy).result
    fields = dict(result.protocol.fields) | ({"queries": queries} if queries else {})
    record = msgspec.structs.replace(
        result.protocol, name=protocol or result.protocol.name, digest="0" * 64, fields=fields
    )
    files = {name: digest for name, digest in result.files.items() if name != IDENTITY}
    earlier = msgspec.structs.replace(result, protocol=record, files=files, digests={})
    (copy / "result.json").write_bytes(msgspec.json.encode(earlier))
    return copy


class TestOwnData:
    """Hostile names, and pictures whose licence is not ours to judge."""

    CAPTION = "<script>alert(1)</script> \u202eevil\u001b[31m & 'more'"

    @pytest.fixture
    def own_run(self, tmp_path: Path) -> Path:
        gallery = tmp_path / "data" / "gallery"
        gallery.mkdir(parents=True)
        for number, colour in enumerate(("red", "green", "blue", "white")):
            Image.new("RGB", (200, 120), colour).save(gallery / f"{number}<img>.png")
        caption = self.CAPTION.replace("\u001b", "")  # the table itself refuses escapes or not; both are fine here
        table = f'query_id,reference,text,targets\na,0<img>,"{caption}",1<img>\nb,2<img>,plain,3<img>\n'
        (tmp_path / "data" / "queries.csv").write_text(table)
        command = ["run", "--method", "image-only", "--dataset", str(tmp_path / "data"), "--backbone", "scenes-vit"]
        assert cli.execute([*command, "--output", str(tmp_path / "runs")]) == 0
        (result,) = (tmp_path / "runs").rglob("image-only-*/result.json")
        return result.parent

    def test_pictures_are_shown_only_when_asked_for(self, own_run: Path, tmp_path: Path) -> None:
        page = tmp_path / "page.html"
        assert cli.execute(["report", str(own_run), "--html", str(page)]) == 0
        assert "<img " not in page.read_text()
        assert "With <code>--thumbnails</code> this page shows them" in page.read_text()
        assert not (tmp_path / "page_files").exists()
        assert cli.execute(["report", str(own_run), "--html", str(page), "--thumbnails"]) == 0
        assert len(list((tmp_path / "page_files").iterdir())) == 4
        with Image.open(next((tmp_path / "page_files").iterdir())) as picture:
            assert picture.size == (96, 58)

    def test_captions_and_names_stay_text(self, own_run: Path, tmp_path: Path) -> None:
        page = tmp_path / "page.html"
        assert cli.execute(["report", str(own_run), "--html", str(page), "--thumbnails"]) == 0
        text = page.read_text()
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt; \\u202eevil" in text
        assert "\u202e" not in text
        assert "0<img>" not in text

    def test_an_image_that_is_gone_is_named_instead(self, own_run: Path, tmp_path: Path) -> None:
        report = read_report([own_run])
        (tmp_path / "data" / "gallery" / "3<img>.png").unlink()
        assert write_page(report, tmp_path / "page.html", thumbnails=True) == 3
        assert "no picture" in (tmp_path / "page.html").read_text()
