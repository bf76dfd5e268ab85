"""``cirbench submit`` from a run to the server's answer, on files of the published size."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks import load_protocol
from cirbench.cli import execute
from tests.submissions.runs import run_on
from tests.submissions.server_files import write_circo_test

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with annotations and a gallery that keep CIRCO's published counts, and a run on them."""
    root = write_circo_test(tmp_path_factory.mktemp("data"))
    run_on(load_protocol("circo/test", root), root / "run")
    return root


def test_a_run_is_built_checked_and_recorded(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIRBENCH_DATA", str(data))
    assert execute(["submit", "build", str(data / "run"), "--output", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    path = tmp_path / "circo/random-01234567.json"
    assert out == f"{path}\n"
    assert "Upload at https://circo.micc.unifi.it; the server answers by e-mail, mAP@5/10/25/50" in err

    assert execute(["submit", "check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: circo/test, 800 queries: ok\n"

    assert execute(["submit", "record", str(path), "--scores", "mAP@5=9.5", "--date", "2026-05-06", "--json"]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert (receipt["scores"], receipt["date"]) == ({"mAP@5": 9.5}, "2026-05-06")


def test_build_tells_its_files_as_json(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["submit", "build", str(data / "run"), "-o", str(tmp_path), "--data-root", str(data), "--json"]
    assert execute(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [str(tmp_path / "circo/random-01234567.json")]
    assert told["manifest"] == str(tmp_path / "circo/random-01234567.manifest.json")


def test_a_failed_check_exits_with_four_and_names_rule_and_query(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {str(number): list(range(1, 51)) for number in range(800)}
    bad, good = tmp_path / "bad.json", tmp_path / "good.json"
    good.write_text(json.dumps(values))
    bad.write_text(json.dumps(values | {"130": [*range(1, 50), 49], "131": [*range(1, 50), 999_999]}))
    command = ["submit", "check", str(good), str(bad), "--data-root", str(data)]
    assert execute(command) == 4
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{good}: circo/test, 800 queries: ok",
        f"{bad}: circo/test, 800 queries: 2 broken rules",
        "  rule unique: query '130': its list holds 49 more than once",
        "  rule gallery: query '131': not in the gallery: 999999",
    ]
    assert "1 of 2 files break rules of their server" in err
    assert execute([*command, "--json"]) == 4
    first, second = json.loads(capsys.readouterr().out)["files"]
    assert (first["ok"], first["problems"]) == (True, [])
    assert [(each["rule"], each["query"]) for each in second["problems"]] == [("unique", "130"), ("gallery", "131")]


def test_only_the_first_problems_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps({str(number): [] for number in range(800)}))
    assert execute(["submit", "check", str(path)]) == 4
    assert "  and 780 more; --json lists all of them" in capsys.readouterr().out


def test_a_file_of_val_has_nothing_to_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "val.json"
    path.write_text(json.dumps({str(number): list(range(1, 51)) for number in range(220)}))
    assert execute(["submit", "record", str(path), "--scores", "mAP@5=9.5"]) == 2
    assert "is of val, which no server scores" in capsys.readouterr().err
    assert execute(["submit", "check", str(path), "--protocol", "circo/test"]) == 4
    assert "rule split: it has the 220 queries of circo/val" in capsys.readouterr().out


def test_an_answer_to_a_broken_file_is_not_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps({str(number): [] for number in range(800)}))
    assert execute(["submit", "record", str(path), "--scores", "mAP@5=9.5"]) == 4
    assert "rule length: query '0'" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "none.json"], 3, "none.json cannot be read"),
        (["record", "none.json", "--scores", "mAP@5=1"], 3, "none.json cannot be read"),
        (["build", "none"], 3, "There is no finished run in none"),
        (["check", "none.json", "--protocol", "circo/tset"], 2, "Nearest: circo/test"),
        (["check"], 2, "Missing argument"),
    ],
)
def test_mistakes_exit_with_the_code_of_their_kind(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["submit", *arguments]) == code
    assert message in capsys.readouterr().err


def test_checking_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from cirbench.cli import execute; "
        f"execute(['submit', 'check', {str(tmp_path / 'none.json')!r}]); "
        "import cirbench.submissions.uploads; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300).returncode == 0


@pytest.fixture
def as_text(data: Path, tmp_path: Path) -> Path:
    """A file as the public code of several methods writes it: sorted keys, indented, ids as text."""
    ids = [str(name) for name in range(1, 51)]
    path = tmp_path / "ldre.json"
    path.write_text(json.dumps({str(number): ids for number in range(800)}, sort_keys=True, indent=1))
    return path


def test_ids_as_text_pass_with_a_warning(as_text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["submit", "check", str(as_text)]) == 0
    out = capsys.readouterr().out
    assert f"{as_text}: circo/test, 800 queries: ok" in out
    assert "note: 40,000 ids are text; `cirbench submit check --fix` writes whole numbers" in out


def test_fix_writes_whole_numbers_next_to_the_file_and_leaves_the_file_alone(
    as_text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, fixed = as_text.read_bytes(), as_text.with_name("ldre.fixed.json")
    assert execute(["submit", "check", "--fix", str(as_text)]) == 0
    assert f"{fixed}: circo/test, 800 queries: ok" in capsys.readouterr().out
    assert as_text.read_bytes() == before
    assert json.loads(fixed.read_text()) == {str(number): list(range(1, 51)) for number in range(800)}
    assert execute(["submit", "check", "--fix", str(as_text)]) == 0  # again, to the same content
    fixed.write_text("{}")
    assert execute(["submit", "check", "--fix", str(as_text)]) == 2
    assert "ldre.fixed.json exists and is another file" in capsys.readouterr().err


def test_fix_removes_folders_and_suffixes_of_names_of_cirr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)  # the pair ids are made up
    names = [f"test1/test1-{number}-0-img0.png" for number in range(50)]
    path, fixed = tmp_path / "recall.json", tmp_path / "recall.fixed.json"
    queries = {str(number): names for number in range(12063, 12063 + 4148)}
    path.write_text("\ufeff" + json.dumps({"version": "rc2", "metric": "recall", **queries}))
    assert execute(["submit", "check", "--fix", str(path)]) == 0
    assert f"{fixed}: cirr/test1 recall, 4148 queries: ok" in capsys.readouterr().out
    assert json.loads(fixed.read_text())["12063"] == [f"test1-{number}-0-img0" for number in range(50)]


def test_fix_writes_nothing_where_there_is_nothing_to_correct(tmp_path: Path) -> None:
    path = tmp_path / "good.json"
    path.write_text(json.dumps({str(number): list(range(1, 51)) for number in range(800)}))
    assert execute(["submit", "check", "--fix", str(path)]) == 0
    assert list(tmp_path.iterdir()) == [path]
