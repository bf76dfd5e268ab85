"""From an empty data root to a number and to the server's file, every file fetched in the form that is published."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from cirbench import cli
from cirbench.benchmarks import circo
from cirbench.benchmarks.interface import Archive
from cirbench.training.contrastive import write_random_model
from tests import circo_files
from tests.benchmarks.files.server import serving
from tests.tiny_clip import write_design
from tests.training.named_files import jpegs, serve_coco, served, zipped

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.benchmarks.interface import RemoteFile
    from tests.benchmarks.files.server import Server

pytestmark = pytest.mark.slow


def serve_circo(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve CIRCO's four files, with sixty images."""
    val, gallery = circo_files.labelled_rows(12, images=60)
    test = [  # the server wants all 800 queries
        {
            "id": number,
            "reference_img_id": gallery[number % len(gallery)],
            "relative_caption": f"has {number} more of them",
            "shared_concept": "a thing",
        }
        for number in range(800)
    ]
    of_test = {circo.QUERIES: 800, circo.REFERENCES: 60, circo.IMAGES: 60}
    counts = {"val": circo_files.expected(val, 60), "test": of_test}
    for split, expected in counts.items():
        monkeypatch.setitem(circo.EXPECTED, split, expected)
    listed = [{"id": number, "file_name": f"{number:012d}.jpg", "height": 32, "width": 32} for number in gallery]
    info = json.dumps({"info": {}, "images": listed, "licenses": []}).encode()
    contents = {
        "val.json": json.dumps(val).encode(),
        "test.json": json.dumps(test).encode(),
        "image_info_unlabeled2017.zip": zipped({"annotations/image_info_unlabeled2017.json": info}),
        "unlabeled2017.zip": zipped(jpegs(gallery, "unlabeled2017")),
    }

    def from_here(file: RemoteFile) -> RemoteFile:
        content = contents[file.path.rpartition("/")[2]]
        if isinstance(file, Archive):
            return served(server, file, content)
        server.files[f"/{file.path}"] = content
        sha256 = hashlib.sha256(content).hexdigest()
        return dataclasses.replace(file, url=f"{server.url}/{file.path}", size=len(content), sha256=sha256)

    files = circo.BENCHMARK.files
    images = dataclasses.replace(
        files.images[0],
        count=60,
        archives=tuple(archive for archive in map(from_here, files.images[0].archives) if isinstance(archive, Archive)),
    )
    small = dataclasses.replace(files, annotations=tuple(map(from_here, files.annotations)), images=(images,))
    monkeypatch.setattr(circo, "BENCHMARK", dataclasses.replace(circo.BENCHMARK, files=small))


def get_what_is_missing(run: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    """Type the commands by which a run answers that files are missing; how many there were."""
    assert cli.execute(run) == 3
    commands = [
        line.split() for line in capsys.readouterr().err.splitlines() if line.startswith("    cirbench data get")
    ]
    for command in commands:
        assert cli.execute(command[1:]) == 0, command
    capsys.readouterr()
    return len(commands)


def test_one_command_leads_from_data_to_a_number_and_to_the_servers_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIRBENCH_DATA", str(tmp_path / "data"))
    model = write_design(tmp_path / "tiny")
    write_random_model(model, model, seed=0)
    run = ["run", "--method", "pli", "--dataset", "circo", "--train-data", "coco:train2017", "--backbone", str(model)]
    run += ["--train", "steps=2", "--train", "batch_size=8"]
    with serving() as server:
        serve_circo(server, monkeypatch)
        serve_coco(server, monkeypatch, range(1, 25))

        (tmp_path / "data").mkdir()
        assert get_what_is_missing(run, capsys) == 4  # the annotations and the images of both
        assert get_what_is_missing([*run, "--split", "test"], capsys) == 1

    assert cli.execute([*run, "--plan"]) == 0
    assert "there    training data  coco:train2017: 48 samples" in capsys.readouterr().out
    assert cli.execute(run) == 0
    shown = capsys.readouterr()
    assert "circo/val@1" in shown.out
    assert "pli" in shown.out

    assert cli.execute([*run, "--split", "test"]) == 0
    shown = capsys.readouterr()
    assert "reused checkpoint" in shown.err
    (file,) = (path for path in tmp_path.glob("submissions/circo/pli-*.json") if "." not in path.stem)
    answers = json.loads(file.read_text())
    assert len(answers) == 800
    assert all(len(set(found)) == 50 for found in answers.values())
