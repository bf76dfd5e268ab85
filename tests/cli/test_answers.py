"""Answers of models from the command line: asked for once, imported, shown and merged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cirbench import cli
from cirbench.artefacts import Artefact
from cirbench.benchmarks.scenes import scenes_protocol
from tests.artefacts.chat_server import MODEL, chatting

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def make(url: str, output: Path, *more: str) -> int:
    words = ["answers", "make", "--protocol", "scenes/tiny", "--model", MODEL, "--url", url, "--limit", "5"]
    return cli.execute([*words, "--output", str(output), *more])


def test_captions_and_their_edits_are_asked_for_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions, edited = tmp_path / "captions.jsonl", tmp_path / "edited.jsonl"
    warm = ["--temperature", "0.7", "--samples", "2"]
    describe = ["--field", "caption", "--prompt", "Describe the image.", "--see", *warm]
    edit = ["--field", "edited", "--prompt", "Image: {1}\nChange: {0}", "--given", str(captions), *warm]
    with chatting() as server:
        assert make(server.url, captions, *describe, "--dry-run") == 0
        assert "10 calls with 10 images and about" in capsys.readouterr().err
        assert not captions.exists() and server.requests == []
        assert make(server.url, captions, *describe, "--max-calls", "4") == 4
        assert "5 calls" not in capsys.readouterr().out
        assert make(server.url, captions, *describe) == 0
        assert len(server.requests) == 10
        assert make(server.url, edited, *edit) == 0
        assert make(server.url, edited, *edit) == 0
        assert len(server.requests) == 20
    queries = scenes_protocol("tiny").queries[:5]
    for query, answer in zip(queries, Artefact(edited), strict=True):
        assert answer.key == ((query.reference.image.content,), query.captions)
        assert answer.fields["edited"] == (f"CHANGE: {query.captions[0].upper()}",) * 2
        assert len(answer.fields["caption"]) == 2
    capsys.readouterr()
    assert cli.execute(["answers", "show", str(edited), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["model"] == MODEL and shown["answers"] == 5
    assert shown["fields"] == {"caption": "5 questions, 2 samples", "edited": "5 questions, 2 samples"}
    assert cli.execute(["answers", "show", str(edited)]) == 0
    assert "licence   not stated" in capsys.readouterr().out


def test_a_release_is_imported_and_files_are_merged_with_their_licence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"reference_img_id": q.reference.id, "relative_caption": q.captions[0], "id": q.id, "said": f"edited {q.id}"}
        for q in scenes_protocol("tiny").queries
    ]
    for name, part in (("one", rows[:40]), ("two", rows[30:])):
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
        words = ["answers", "import", str(tmp_path / f"{name}.json"), "--form", "ldre", "--take", "edited=said"]
        words += ["--protocol", "scenes/tiny", "--model", "gpt-3.5-turbo", "--output", str(tmp_path / f"{name}.jsonl")]
        assert cli.execute(words) == 0
    assert "20 are not: 40, 41" in capsys.readouterr().err
    parts = [str(tmp_path / f"{name}.jsonl") for name in ("one", "two")]
    whole = tmp_path / "whole.jsonl"
    assert cli.execute(["answers", "merge", *parts, "--licence", "CC BY 4.0", "--output", str(whole)]) == 0
    merged = Artefact(whole)
    assert len(merged) == 60 and merged.maker.licence == "CC BY 4.0"
