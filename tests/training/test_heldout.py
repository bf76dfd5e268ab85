"""Held-out triplets choose the weights, and what a training has seen of a protocol is refused or said."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.cli import execute
from cirbench.comparison.tables import training_notes
from cirbench.errors import CheckFailed, UsageError
from cirbench.methods.interface import find_method
from cirbench.methods.training import training_parameters, training_request
from cirbench.protocol import EvaluationProtocol, Triplet
from cirbench.runs.folder import load_run
from cirbench.runs.training import refuse_overlap, train
from cirbench.training.checkpoint import read_card
from cirbench.training.contrastive import write_random_model
from cirbench.training.data import Source
from cirbench.training.data.triplets import Division, divide
from cirbench.training.interface import TripletTraining
from tests.tiny_clip import some_triplets, tiny_backbone, write_design

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cirbench.training.train import Request

COMBINER = {"batch_size": 8, "steps": 4, "projection": 8, "hidden": 12}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_design(tmp_path_factory.mktemp("models") / "model")
    write_random_model(folder, folder, seed=0)
    return folder


def triplets(source: Source) -> list[Triplet]:
    return [sample for sample in source.samples if isinstance(sample, Triplet)]


def halves(source: Source, share: float = 0.4) -> tuple[list[Triplet], EvaluationProtocol]:
    division: Division = divide(source, TripletTraining(held_out=share))
    assert division.held_out is not None
    return triplets(division.trained), division.held_out


def test_the_cut_is_by_reference_and_loses_nothing() -> None:
    trained, protocol = halves(some_triplets())
    assert len(trained) + len(protocol.queries) == 48
    references = {triplet.reference.id for triplet in trained}
    assert references.isdisjoint(query.reference.id for query in protocol.queries)
    assert protocol.labels is not None
    assert protocol.gallery is not None
    assert {target for (target,) in protocol.labels.relevant} <= set(protocol.gallery.ids)
    assert protocol.exclude_reference


def test_the_cut_is_by_group_where_there_are_groups() -> None:
    grouped = [
        dataclasses.replace(triplet, group=str(place % 5)) for place, triplet in enumerate(triplets(some_triplets()))
    ]
    trained, protocol = halves(Source("grouped", grouped, "0" * 64))
    assert protocol.clusters is not None
    held = {cluster.removeprefix("group ") for cluster in protocol.clusters}
    assert held
    assert held.isdisjoint({triplet.group for triplet in trained})


def test_a_triplet_stays_on_its_side_whatever_the_order_and_the_number_of_others() -> None:
    few = {triplet.reference.id for triplet in halves(some_triplets(20))[0]}
    many = {triplet.reference.id for triplet in halves(some_triplets(48))[0]}
    assert few <= many


def test_a_triplet_of_no_use_is_not_evaluated_and_keeps_its_reason() -> None:
    source = dataclasses.replace(some_triplets(), unusable=dict.fromkeys(range(0, 48, 2), "line 1: its text is empty"))
    division = divide(source, TripletTraining(held_out=0.4))
    assert division.held_out is not None
    assert {int(query.id) % 2 for query in division.held_out.queries} == {0}  # ids count from 1
    assert len(division.trained.unusable) == sum(
        sample == triplets(some_triplets())[place] for sample in division.trained.samples for place in range(0, 48, 2)
    )


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"held_out=1e-09 leaves 48 triplets of .* and 0 to evaluate on"):
        divide(some_triplets(), TripletTraining(held_out=1e-9))


def test_nothing_is_held_out_unless_it_is_asked_for(model: Path, tmp_path: Path) -> None:
    assert divide(some_triplets(), TripletTraining()) == Division(some_triplets(), None)
    with pytest.raises(UsageError, match="and none is held out") as caught:
        train("combiner", data="scenes:triplets:48", backbone=model, monitor="held-out", output=tmp_path / "c")
    assert caught.value.hint is not None
    assert "--set held_out=0.1" in caught.value.hint


@pytest.mark.slow
def test_the_best_weights_on_held_out_triplets_are_kept(model: Path, tmp_path: Path) -> None:
    parameters = {**COMBINER, "held_out": 0.4}
    folder = train(
        "combiner", data="scenes:triplets:48", backbone=model, parameters=parameters, monitor="held-out", eval_every=2,
        output=tmp_path / "c",
    )  # fmt: skip
    card = read_card(folder)
    assert card.selected_on == "held-out@1"
    assert [seen.step for seen in card.evaluations] == [2, 4]
    assert {seen.metric for seen in card.evaluations} == {"Recall@10"}
    assert card.data_pairs < 48


def of_the_protocol() -> Source:
    """Triplets of images that are evaluated."""
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    items = protocol.gallery.items
    return Source("mine", [Triplet(items[n], ("bluer",), items[n + 1]) for n in range(0, 6, 2)], "0" * 64)


def request_on(source: Source) -> Request:
    spec, backbone = find_method("combiner"), tiny_backbone()
    return training_request(spec, backbone, source, training_parameters(spec, "", COMBINER))


def test_triplets_with_images_of_the_protocol_are_refused_counted_and_named() -> None:
    protocol = scenes_protocol("tiny")
    with pytest.raises(CheckFailed) as caught:
        refuse_overlap(request_on(of_the_protocol()), [protocol], allowed=False)
    assert caught.value.message.startswith("6 images of scenes/tiny@1 are among those of mine: 00000, 00001")
    assert caught.value.hint is not None
    assert "--allow-overlap" in caught.value.hint
    assert refuse_overlap(request_on(of_the_protocol()), [protocol], allowed=True) == {"scenes/tiny@1": 6}
    assert refuse_overlap(request_on(some_triplets()), [protocol], allowed=False) == {}


def write_table(folder: Path) -> Path:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    lines = ["reference,text,target"]
    for number, item in enumerate(protocol.gallery.items[:24]):
        item.image.open().save(folder / f"{number}.png")
    lines += [f"{number}.png,bluer,{number + 1}.png" for number in range(23)]
    (folder / "triplets.csv").write_text("\n".join(lines) + "\n")
    (folder / "images").mkdir()
    for number in range(24):
        (folder / "images" / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    queries = ["query_id,reference,text,targets", *(f"{n},{n}.png,bluer,{n + 1}.png" for n in range(4))]
    (folder / "queries.csv").write_text("\n".join(queries) + "\n")
    return folder


@pytest.mark.slow
def test_an_overlap_that_is_allowed_is_recorded_and_said_below_the_table(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write_table(tmp_path)
    settings = [f"--train={name}={value}" for name, value in COMBINER.items()]
    command: Sequence[str] = [
        *("run", "--method", "combiner", "--dataset", str(own), "--backbone", str(model), *settings),
        *("--train-data", str(own / "triplets.csv"), "--output", str(tmp_path / "runs")),
    ]
    assert execute([*command]) == 4
    assert "24 images of" in capsys.readouterr().err
    assert execute([*command, "--allow-overlap"]) == 0
    assert "Trained on images of this protocol, whose number is in brackets: combiner (24)." in " ".join(
        capsys.readouterr().out.split()
    )
    (folder,) = (path.parent for path in tmp_path.glob("runs/*/combiner-*/result.json"))
    run = load_run(folder)
    assert run.result.method.overlap == 24
    assert training_notes([("combiner", run)]) == [
        "Trained on images of this protocol, whose number is in brackets: combiner (24)."
    ]


@pytest.mark.slow
def test_a_checkpoint_says_later_that_it_was_trained_on_images_of_the_protocol(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it is evaluated without its training data, and under another name of the protocol."""
    own = write_table(tmp_path)
    folder = train("combiner", data=str(own / "triplets.csv"), backbone=model, parameters=COMBINER,
                   output=tmp_path / "c")  # fmt: skip
    (own / "triplets.csv").unlink()
    command = [
        *("run", "--method", "combiner", "--dataset", str(own), "--backbone", str(model)),
        *("--checkpoint", str(folder), "--output", str(tmp_path / "runs")),
    ]
    assert execute([*command]) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert f"are among those that {folder} was trained on ({own / 'triplets.csv'}): 0, 1," in said
    assert execute([*command, "--allow-overlap"]) == 0
    (kept,) = (path.parent for path in tmp_path.glob("runs/*/combiner-*/result.json"))
    assert load_run(kept).result.method.overlap == 24
    assert execute(["run", "--method", "combiner", "--dataset", "scenes", "--split", "tiny", "--backbone", str(model),
                    "--checkpoint", str(folder), "--output", str(tmp_path / "other")]) == 0  # fmt: skip
    (folder / "images.u64").write_bytes(b"")
    assert execute([*command]) == 3
    assert "is damaged: it is not the file that card.json was written for" in capsys.readouterr().err


@pytest.mark.slow
def test_a_row_whose_weights_were_chosen_on_the_protocol_is_named_below_the_table(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("combiner", data="scenes:triplets:48", backbone=model, parameters=COMBINER, monitor="scenes/tiny",
                   output=tmp_path / "c")  # fmt: skip
    command = ["run", "--method", "combiner", "--dataset", "scenes", "--split", "tiny", "--backbone", str(model)]
    assert execute([*command, "--checkpoint", str(folder), "--output", str(tmp_path / "runs")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Weights chosen by their score on this protocol, so not of unseen data: combiner." in said


@pytest.mark.slow
def test_a_second_stage_has_seen_what_the_towers_that_it_rests_on_have(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained on other triplets, it is still refused, recorded and named; and so is what the towers were chosen on."""
    own = write_table(tmp_path)
    towers = train("clip4cir", data=str(own / "triplets.csv"), backbone=model, parameters={"batch_size": 8, "steps": 2},
                   monitor="scenes/tiny", allow_overlap=True, output=tmp_path / "towers")  # fmt: skip
    assert read_card(towers).selected_on == "scenes/tiny@1"
    asked = {**COMBINER, "towers": str(towers)}
    on_own = ["run", "--method", "combiner", "--dataset", str(own), "--backbone", str(model)]
    settings = [f"--train={name}={value}" for name, value in asked.items()]
    assert execute([*on_own, *settings, "--train-data", "scenes:triplets:48", "--output", str(tmp_path / "runs")]) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert f"are among those of scenes:triplets:48 and {towers}: 0, 1," in said

    folder = train("combiner", data="scenes:triplets:48", backbone=model, parameters=asked, output=tmp_path / "c")
    assert read_card(folder).stages_selected_on == ["scenes/tiny@1"]
    (towers / "images.u64").unlink()  # the second stage has a list of its own
    rest = ["--checkpoint", str(folder), "--output", str(tmp_path / "runs")]
    assert execute([*on_own, *rest]) == 4
    assert f"24 images of own/{own.name}@1 are among those that" in " ".join(capsys.readouterr().err.split())
    assert execute([*on_own, *rest, "--allow-overlap"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Trained on images of this protocol, whose number is in brackets: combiner (24)." in said
    assert "Weights chosen" not in said
    on_scenes = ["run", "--method", "combiner", "--dataset", "scenes", "--split", "tiny", "--backbone", str(model)]
    assert execute([*on_scenes, *rest]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Weights chosen by their score on this protocol, so not of unseen data: combiner." in said
