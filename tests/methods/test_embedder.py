"""A query of embedder is its image, its text and the instruction in one pass of the model."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from cirbench.backbones.encoder import Encoder
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.cli import execute
from cirbench.errors import UnknownName, UsageError
from cirbench.methods.evaluate import evaluate
from cirbench.methods.interface import find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench.runs.folder import load_run
from cirbench_methods.embedder import PRESETS, SPEC, EmbedderParameters
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.side_by_side import TORCHRUN, environment
from tests.tiny_clip import tiny_backbone
from tests.tiny_qwen3vl import joint_backbone, joint_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.methods.interface import Method
    from cirbench.protocol import Item, Query


@functools.cache
def encoder() -> Encoder:
    """One that remembers, since rows are equal in any company."""
    return Encoder(joint_backbone(), None)


@functools.cache
def library() -> Any:
    from sentence_transformers import SentenceTransformer  # takes three seconds, and quick tests do without

    return SentenceTransformer(str(joint_model()), device="cpu", local_files_only=True)


def embedder(**values: str) -> Any:
    return build(SPEC, encoder(), parse_parameters(SPEC, values))


def queries() -> Sequence[Query]:
    return scenes_protocol("tiny").queries[:4]


def items() -> Sequence[Item]:
    gallery = scenes_protocol("tiny").gallery
    assert gallery is not None
    return gallery.items[:4]


def by_the_library(inputs: list[Any], prompt: str | None = None) -> Any:
    return np.concatenate([library().encode([each], prompt=prompt) for each in inputs])


def test_it_follows_the_rules_of_the_interface() -> None:
    def make() -> Method:
        method: Method = embedder(instruction="Find the changed image.")
        return method

    assert broken_rules(make) == []
    assert broken_rules_of_spec(SPEC, "cirbench_methods.embedder:SPEC") == []


@pytest.mark.slow
def test_rows_are_those_of_the_library_with_the_instruction_as_its_prompt() -> None:
    method = embedder(instruction="Find it.", prompt="but {}", item_instruction="Keep it.", item_prompt="an image")
    shown = [{"image": query.reference.image.open(), "text": f"but {query.captions[0]}"} for query in queries()]
    assert np.array_equal(method.encode_queries(queries()), by_the_library(shown, "Find it."))
    kept = [{"image": item.image.open(), "text": "an image"} for item in items()]
    assert np.array_equal(method.encode_gallery(items()), by_the_library(kept, "Keep it."))


@pytest.mark.slow
def test_by_default_nothing_is_added() -> None:
    shown = [{"image": query.reference.image.open(), "text": query.captions[0]} for query in queries()]
    assert np.array_equal(embedder().encode_queries(queries()), by_the_library(shown))
    assert np.array_equal(embedder().encode_gallery(items()), encoder().images(items()))


def test_on_the_tiny_model_a_query_has_the_row_it_always_had() -> None:
    (first, *_) = embedder(preset="mmeb-cirr").encode_queries(queries())
    np.testing.assert_allclose(first[:5], GOLDEN, atol=1e-4)


GOLDEN = [0.0358, 0.0916, -0.0563, 0.0109, -0.0384]
"""Of the first query of scenes/tiny; moves with the weights, the template, the order of parts, or the preprocessing."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_taken_by_its_name_and_can_be_changed_in_part(name: str) -> None:
    assert parse_parameters(SPEC, {"preset": name}) == PRESETS[name]
    changed = parse_parameters(SPEC, {"preset": name, "item_instruction": "Keep it."})
    assert changed == msgspec.structs.replace(PRESETS[name], item_instruction="Keep it.")


def test_a_model_that_has_a_preset_takes_it_by_itself() -> None:
    own = parse_parameters(SPEC, {}, "Qwen/Qwen3-VL-Embedding-2B@main")
    assert own == EmbedderParameters(
        instruction="Represent the user's input.", item_instruction="Represent the user's input."
    )
    assert parse_parameters(SPEC, {}, "./my-model") == EmbedderParameters()
    assert parse_parameters(SPEC, {"preset": "e5-v"}, "Qwen/Qwen3-VL-Embedding-2B") == PRESETS["e5-v"]


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"There is no preset of embedder called 'mmeb-cir'\.\nNearest: mmeb-cirr"):
        parse_parameters(SPEC, {"preset": "mmeb-cir"})
    with pytest.raises(UnknownName, match="no parameter of image-text called 'preset'"):
        parse_parameters(find_method("image-text"), {"preset": "mmeb-cirr"})


@pytest.mark.slow
def test_the_shared_concept_is_read_where_the_prompt_asks_for_it_and_that_is_disclosed() -> None:
    parameters = parse_parameters(SPEC, {"preset": "bge-vl-circo"})
    assert SPEC.uses_shared_concept_with(parameters) == "yes"
    assert SPEC.uses_shared_concept_with(parse_parameters(SPEC, {})) == "no"
    query = queries()[0]
    text = f"Find a picture that also {query.shared_concept}, but {query.captions[0]}"
    exact = by_the_library([{"image": query.reference.image.open(), "text": text}])
    assert np.array_equal(embedder(preset="bge-vl-circo").encode_queries([query]), exact)


def test_a_protocol_that_gives_no_concept_is_not_asked_for_one() -> None:
    query = dataclasses.replace(queries()[0], shared_concept=None)
    with pytest.raises(UsageError, match="this protocol gives none") as caught:
        embedder(preset="bge-vl-circo").encode_queries([query])
    assert caught.value.hint is not None
    assert "circo/val-concept" in caught.value.hint


@pytest.mark.slow
def test_braces_of_a_caption_stay_as_they_are() -> None:
    query = dataclasses.replace(queries()[0], captions=("a {concept} and {}",))
    exact = by_the_library([{"image": query.reference.image.open(), "text": "so: a {concept} and {}"}])
    assert np.array_equal(embedder(prompt="so: {}").encode_queries([query]), exact)


def test_a_backbone_of_two_towers_is_refused_before_anything_is_encoded() -> None:
    with pytest.raises(UsageError, match="a tower for images and one for texts, and reads nothing") as caught:
        build(SPEC, Encoder(tiny_backbone(), None), EmbedderParameters())
    assert caught.value.hint is not None
    assert "cirbench new joint-model FOLDER" in caught.value.hint


def test_marks_of_the_model_are_refused_in_every_text_that_is_set() -> None:
    for name in EmbedderParameters.__struct_fields__:
        with pytest.raises(UsageError, match=r"has <\|image_pad\|>, which"):
            embedder(**{name: "{} <|image_pad|>"})


@pytest.mark.slow
def test_its_baselines_run_on_the_same_model() -> None:
    protocol = scenes_protocol("tiny").first(5)
    for name in ("image-only", "text-only", "image-text"):
        method = build(find_method(name), encoder(), parse_parameters(find_method(name), {}))
        assert len(evaluate(method, protocol).measurements) > 0


@pytest.mark.slow
def test_two_processes_give_the_run_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--method", "embedder", "--dataset", "scenes", "--split", "tiny", "--limit", "8", "--device", "cpu"]
    options += ["--backbone", str(joint_model()), "--set", "preset=mmeb-cirr"]
    command = [*TORCHRUN, "-m", "cirbench", "run", *options, "--output", str(tmp_path / "two/runs")]
    cache = environment(CIRBENCH_CACHE=str(tmp_path / "two/cache"))
    done = subprocess.run(command, env=cache, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("CIRBENCH_CACHE", str(tmp_path / "one/cache"))
    assert execute(["run", *options, "--output", str(tmp_path / "one/runs")]) == 0
    found = []
    for place in (tmp_path / "two", tmp_path / "one"):
        (ranking,) = place.glob("runs/scenes/embedder-*/run.trec")
        shards = sorted(path.name for path in place.glob("cache/features/*/*.safetensors"))
        found.append((ranking.read_bytes(), shards))
    assert found[0] == found[1]
    assert len(found[0][1]) > 2


@pytest.mark.slow
def test_every_method_that_takes_features_runs_beside_it_on_a_model_that_was_just_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert execute(["new", "joint-model", "tiny-joint"]) == 0
    options = [
        "--dataset",
        "scenes",
        "--split",
        "tiny",
        "--limit",
        "6",
        "--backbone",
        "./tiny-joint",
        "--device",
        "cpu",
    ]
    methods = ("cirevl", "ldre", "sdr", "basic")
    presets = [word for name in methods for word in ("--set", f"{name}.preset=scenes-vit")]
    others = ["--method", "cirevl,ldre,sdr,slerp,product,basic,embedder", "--set", "basic.images=gallery"]
    assert execute(["run", *others, *presets, *options]) == 0
    assert "embedder" in capsys.readouterr().out
    result = load_run(next(Path("runs").glob("scenes/embedder-*"))).result
    assert result.method.uses_shared_concept == "no"
    assert result.backbone.architecture.startswith("sentence-transformers:qwen3_vl, image first, sdpa@")


@pytest.mark.slow
def test_a_run_on_two_towers_is_refused_before_the_baselines_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--method", "embedder", "--dataset", "scenes", "--split", "tiny", "--output", str(tmp_path)]
    assert execute(command) == 2
    assert "has a tower for images and one for texts" in capsys.readouterr().err
    assert not [*tmp_path.rglob("result.json")]
