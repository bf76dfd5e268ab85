"""A run that was written is read as it was; one that was edited or damaged is refused, and what was is named."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from cirbench import cli
from cirbench.errors import CirbenchError, CorruptFile
from cirbench.runs.folder import load_run

KEPT = Path(__file__).parent / "schema-1"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    command = ["run", "--method", "image-text", "--dataset", "scenes", "--split", "tiny", "--limit", "20"]
    assert cli.execute([*command, "--output", str(folder)]) == 0
    (found,) = folder.glob("scenes/image-text-*")
    return found


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / written.name)


def edit(folder: Path, path: str, value: Any) -> None:
    """Set ``method.parameters.weight`` or the like in the ``result.json`` of a run."""
    file = folder / "result.json"
    content = json.loads(file.read_text())
    *above, last = path.split(".")
    part = content
    for name in above:
        part = part[int(name)] if isinstance(part, list) else part[name]
    assert part[last] != value
    part[last] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metrics.0.value", 99.0),
        ("metrics.1.low", 0.0),
        ("metrics.0.label", "mAP@6"),
        ("method.name", "image_text"),
        ("method.title", "Another"),
        ("method.parameters.weight", 2.0),
        ("method.uses_llm", "unknown"),
        ("protocol.name", "scenes/tiny@2"),
        ("backbone.weights", "0" * 64),
        ("counts.queries", 19),
        ("environment.device", "cuda"),
        ("seed", 1),
        ("created", "2020-01-01T00:00:00+00:00"),
        ("digest", "0" * 64),
        ("files", {}),
        ("schema_version", 1),
        ("digests", {}),
    ],
)
def test_an_edited_result_is_refused_and_the_field_named(path: str, value: Any, run: Path) -> None:
    edit(run, path, value)
    with pytest.raises(
        CorruptFile, match=rf"result\.json was edited: '?{path.partition('.')[0]}'? is not what"
    ) as caught:
        load_run(run)
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("metrics.0.value", 99.0, r"result\.json was edited: value of mAP@5 is 99\.0, and by the ranks"),
        ("metrics.0.n", 1, r"result\.json was edited: n of mAP@5 is 1, and by the ranks"),
        ("metrics.0.label", "mAP@7", r"the labels of metrics are not those of per_query\.npz"),
    ],
)
def test_numbers_of_a_result_without_digests_are_checked_by_its_ranks(
    path: str, value: Any, said: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(KEPT, tmp_path / "old")
    load_run(folder)
    edit(folder, path, value)
    with pytest.raises(CorruptFile, match=said):
        load_run(folder)


def test_no_flipped_bit_of_any_file_goes_unnoticed(run: Path) -> None:
    draw, written = random.Random(0), load_run(run).result
    for path in sorted(run.iterdir()):
        content = path.read_bytes()
        for _ in range(400 if path.name == "result.json" else 20):
            flipped = bytearray(content)
            flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            try:
                assert load_run(run).result == written  # the last digit of a float may not matter
            except CirbenchError:
                continue
        path.write_bytes(content)
    load_run(run)


def test_a_run_is_loaded_by_a_text_as_by_a_path(run: Path) -> None:
    assert load_run(str(run)).result == load_run(run).result
