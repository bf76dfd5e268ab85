"""Captioning is one text, whoever says what is on the reference; a caption that is missing is asked for."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.images import FileImage
from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.methods.conformance import check_method
from cirbench.methods.interface import find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench.protocol import Item, Query
from cirbench.runs.config import read_config
from cirbench.runs.session import Session
from tests.tiny_captioner import write_captioner
from tests.tiny_clip import COLOURS, TwoColours, tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cirbench.methods.interface import Method


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny_backbone(), None, batch_size=8)


def captioning(encoder: Encoder, **values: Any) -> Method:
    spec = find_method("captioning")
    return build(spec, encoder, parse_parameters(spec, {name: str(value) for name, value in values.items()}))


def query(reference: Item, *captions: str) -> Query:
    return Query("1", reference, captions)


def item(left: str, right: str) -> Item:
    return Item(f"{left}-{right}", TwoColours(left, right))


def write_captions(path: Path, captions: Mapping[str, str]) -> Path:
    lines = [json.dumps({"image": image, "caption": caption}) + "\n" for image, caption in captions.items()]
    path.write_text("".join(lines))
    return path


def test_the_query_is_the_text_of_both_captions(encoder: Encoder, tmp_path: Path) -> None:
    file = write_captions(tmp_path / "c.jsonl", {"red-blue": "two halves"})
    method = captioning(encoder, captions=file)
    rows = method.encode_queries([query(item("red", "blue"), "is green", "has dots")])
    expected = encoder.texts(["a photo of two halves that is green and has dots"])
    np.testing.assert_array_equal(rows, expected)
    other = captioning(encoder, captions=file, prompt="{relative}: {caption}")
    rows = other.encode_queries([query(item("red", "blue"), "is green")])
    np.testing.assert_array_equal(rows, encoder.texts(["is green: two halves"]))


@pytest.mark.parametrize("name", ["dev-1", "dev/one.png", "one.png", "one", "elsewhere/one.jpg"])
def test_a_caption_is_found_by_id_path_or_file_name(encoder: Encoder, tmp_path: Path, name: str) -> None:
    file = write_captions(tmp_path / "c.jsonl", {"two.png": "no", name: "yes"})
    describe: Any = captioning(encoder, captions=file)
    reference = Item("dev-1", FileImage(tmp_path / "dev" / "one.png"))
    np.testing.assert_array_equal(
        describe.encode_queries([query(reference, "x")]), encoder.texts(["a photo of yes that x"])
    )


def test_a_caption_is_found_by_the_number_of_a_coco_image(encoder: Encoder, tmp_path: Path) -> None:
    with (tmp_path / "c.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), ("unlabeled2017/000000000042.jpg", "yes")])
    method = captioning(encoder, captions=tmp_path / "c.csv")
    rows = method.encode_queries([query(Item("42", TwoColours("red", "red")), "x")])
    np.testing.assert_array_equal(rows, encoder.texts(["a photo of yes that x"]))


def test_references_without_a_caption_are_listed(encoder: Encoder, tmp_path: Path) -> None:
    method = captioning(encoder, captions=write_captions(tmp_path / "c.jsonl", {"red-blue": "x"}))
    queries = [query(item("red", other), "x") for other in ("blue", "green", "white", "green")]
    with pytest.raises(MissingData, match=r"has no caption of 2 of 3 reference images: red-green, red-white\."):
        method.encode_queries(queries)


def test_the_nearest_text_is_the_one_with_the_most_similar_feature(encoder: Encoder, tmp_path: Path) -> None:
    texts = [f"{left} left of {right}" for left in COLOURS for right in COLOURS]
    (tmp_path / "texts.txt").write_text("\n".join([*texts, texts[0]]))
    method = captioning(encoder, texts=tmp_path / "texts.txt")
    items = [item(left, right) for left in COLOURS[:3] for right in COLOURS[3:5]]
    images, words = encoder.images(items), encoder.texts(texts)
    similar = images @ (words / np.linalg.norm(words, axis=1, keepdims=True)).T
    nearest = [texts[place] for place in similar.argmax(axis=1)]
    assert len(set(nearest)) > 1
    rows = method.encode_queries([query(reference, "is white") for reference in items])
    np.testing.assert_array_equal(rows, encoder.texts([f"a photo of {text} that is white" for text in nearest]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("model"))


def test_a_captioner_describes_each_reference_once_ever(
    encoder: Encoder, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cirbench.artefacts.captions import load_captioner

    (said,) = load_captioner(str(model), device="cpu", batch_size=1)([TwoColours("red", "blue").open()])
    queries = [query(item("red", "blue"), "is white"), query(item("red", "blue"), "is black")]
    rows = captioning(encoder, captioner=model).encode_queries(queries)
    texts = [f"a photo of {said} that is {colour}" for colour in ("white", "black")]
    np.testing.assert_array_equal(rows, encoder.texts(texts))
    monkeypatch.setattr("cirbench.artefacts.captions.Captioner.__call__", None)
    np.testing.assert_array_equal(captioning(encoder, captioner=model).encode_queries(queries), rows)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["captions", "texts"])
def test_it_keeps_the_rules_of_the_interface(encoder: Encoder, tmp_path: Path, source: str) -> None:
    items = [item(left, right) for left in COLOURS[:4] for right in COLOURS[4:]]
    if source == "captions":
        file = write_captions(tmp_path / "c.jsonl", {each.id: each.id.replace("-", " and ") for each in items})
    else:
        file = tmp_path / "texts.txt"
        file.write_text("\n".join(COLOURS))
    queries = [Query(str(n), each, (f"is {COLOURS[n % 8]}",)) for n, each in enumerate(items)]
    findings = check_method(lambda: captioning(encoder, **{source: file}), items, queries)
    assert [finding.problem for finding in findings if finding.problem] == []


def test_a_run_on_other_captions_is_another_run_and_on_the_same_the_same(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"

    def job() -> str:
        options = {"method": ["captioning"], "dataset": "scenes", "split": "tiny", "set": {"captions": str(file)}}
        session = Session(read_config(None, options))
        (entrant,) = (each for each in session.resolved.entrants if each.spec.name == "captioning")
        return session.job(entrant, None).identity.digest

    jobs = [job() for caption in ("red", "red", "blue") if write_captions(file, {"1": caption})]
    assert jobs[0] == jobs[1] != jobs[2]


def picture(folder: Path) -> str:
    Image.new("RGB", (8, 8)).save(folder / "one.png")
    return "one.png"


def test_what_it_cannot_work_with_is_said(encoder: Encoder, tmp_path: Path) -> None:
    name = picture(tmp_path)
    (tmp_path / "images.csv").write_text(f"image\n{name}\n")
    (tmp_path / "several.csv").write_text(f"image,caption\na/{name},red\nb/{name},blue\n")
    cases: list[tuple[dict[str, Any], type[CirbenchError], str]] = [
        ({}, UsageError, "needs words for the reference images, and nothing says where they come from"),
        ({"prompt": "a {caption}"}, UsageError, r"has no place for \{relative\}"),
        ({"captions": tmp_path / "absent.jsonl"}, MissingData, "absent.jsonl does not exist"),
        ({"captions": tmp_path / "c.txt"}, UsageError, "c.txt holds no captions of images"),
        ({"captions": tmp_path / "images.csv"}, CorruptFile, "it needs image and caption in each row"),
        ({"captions": tmp_path / "several.csv"}, CorruptFile, "several.csv has several captions of 7"),
        ({"texts": tmp_path / "images.csv"}, UsageError, "captioning is trained on texts, and .* holds no captions"),
        ({"captioner": "nobody/nothing"}, MissingData, "The captioner nobody/nothing is not available"),
    ]
    for values, error, message in cases:
        with pytest.raises(error, match=message):
            captioning(encoder, **values).encode_queries([query(Item("7", FileImage(tmp_path / name)), "x")])
