"""What an audit says of a ranking, against lists that are walked one by one."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench import cli
from cirbench.benchmarks import load_protocol
from cirbench.comparison.audit import TOPS, audit, audit_run
from cirbench.errors import UsageError
from cirbench.protocol import Gallery
from cirbench.runs.predictions.lists import RankedLists
from cirbench.runs.predictions.score import ListRanks, answer_of_lists
from tests.circo_files import published_size, write
from tests.comparison.folders import keep_run
from tests.toy_protocols import NoImage, circo_like, cirr_like, fashioniq_like

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.comparison.audit import Audit
    from cirbench.protocol import EvaluationProtocol

PROTOCOL = circo_like(queries=30, items=80)


def lists_of(protocol: EvaluationProtocol, length: int, seed: int, lead: float) -> dict[str, tuple[str, ...]]:
    """Shuffled lists; ``lead`` is the share of them that begin with the reference."""
    assert protocol.gallery is not None
    generator = np.random.default_rng(seed)
    found = {}
    for query in protocol.queries:
        names = [protocol.gallery.ids[at] for at in generator.permutation(len(protocol.gallery))]
        if generator.random() < lead:
            names.remove(query.reference.id)
            names.insert(int(generator.integers(0, 8)), query.reference.id)
        found[query.id] = tuple(names[:length])
    return found


def audited(protocol: EvaluationProtocol, lists: dict[str, tuple[str, ...]]) -> Audit:
    answer = answer_of_lists(RankedLists("lists", lists), protocol)
    assert answer.ranking is not None and isinstance(answer.ranks, ListRanks)
    return audit("lists", answer.ranking, protocol, depth=answer.ranks.depth)


def naive_map_at_5(protocol: EvaluationProtocol, lists: dict[str, list[str]]) -> float:
    assert protocol.labels is not None
    total = 0.0
    for query, relevant in zip(protocol.queries, protocol.labels.relevant, strict=True):
        hits, precision = 0, 0.0
        for place, name in enumerate(lists[query.id][:5], start=1):
            if name in relevant:
                hits += 1
                precision += hits / place
        total += precision / min(5, len(relevant))
    return 100 * total / len(protocol.queries)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), lead=st.sampled_from([0.0, 0.3, 1.0]), length=st.integers(50, 80))
def test_the_reference_is_counted_and_removed_as_by_walking_every_list(seed: int, lead: float, length: int) -> None:
    lists = lists_of(PROTOCOL, length, seed, lead)
    found = audited(PROTOCOL, lists)
    assert found.reference_in_top is not None
    for k in TOPS:
        share = np.mean([query.reference.id in lists[query.id][:k] for query in PROTOCOL.queries])
        assert found.reference_in_top[k] == pytest.approx(100 * share)
    assert found.value == pytest.approx(naive_map_at_5(PROTOCOL, {id: list(names) for id, names in lists.items()}))
    without = {query.id: [name for name in lists[query.id] if name != query.reference.id] for query in PROTOCOL.queries}
    assert found.without_reference == pytest.approx(naive_map_at_5(PROTOCOL, without))


def test_a_method_that_returns_the_reference_first_gains_by_its_removal() -> None:
    found = audited(PROTOCOL, lists_of(PROTOCOL, 50, 1, 1.0))
    assert found.without_reference is not None and found.without_reference > found.value


def test_nothing_is_said_of_the_reference_where_the_protocol_removes_it(tmp_path: Path) -> None:
    protocol = cirr_like(queries=20, items=80)
    found = audit_run("run", keep_run(protocol, tmp_path, "a-method"), protocol)
    assert found.reference_in_top is None and found.without_reference is None


def test_a_run_over_pools_is_audited_by_its_macro_mean(tmp_path: Path) -> None:
    protocol = fashioniq_like()
    run = keep_run(protocol, tmp_path, "a-method", skill=1.0)
    found = audit_run("run", run, protocol)
    assert found.value == pytest.approx(run.result.metrics[0].value)
    assert found.without_reference is not None and found.without_reference >= found.value


def test_a_ground_truth_that_is_the_reference_stays() -> None:
    assert PROTOCOL.labels is not None
    truths = tuple((query.reference.id,) for query in PROTOCOL.queries)
    protocol = dataclasses.replace(PROTOCOL, labels=dataclasses.replace(PROTOCOL.labels, relevant=truths))
    found = audited(protocol, lists_of(protocol, 50, 2, 1.0))
    assert found.without_reference == pytest.approx(found.value)
    assert found.value > 0


def test_copies_of_the_reference_are_found_by_their_content() -> None:
    gallery = PROTOCOL.gallery
    assert gallery is not None
    query = PROTOCOL.queries[0]
    lists = lists_of(PROTOCOL, 50, 3, 0.0)
    copy = next(name for name in lists[query.id][:10] if name != query.reference.id)
    images = [NoImage(query.reference.id if name == copy else name) for name in gallery.ids]
    one = dataclasses.replace(PROTOCOL, gallery=Gallery(gallery.ids, images)).first(1)
    assert audited(one, {query.id: lists[query.id]}).copies_in_top == 100
    assert audited(PROTOCOL, lists).copies_in_top is None


def test_the_unimodal_runs_beside_it_give_the_gap(tmp_path: Path) -> None:
    keep_run(PROTOCOL, tmp_path, "image-only", skill=0.3, seed=1)
    text = keep_run(PROTOCOL, tmp_path, "text-only", skill=0.6, seed=2)
    run = keep_run(PROTOCOL, tmp_path, "a-method", skill=2.0, seed=3)
    found = audit_run("run", run, PROTOCOL)
    image = next(path for path in tmp_path.iterdir() if path.name.startswith("image-only"))
    values = [json.loads((path / "result.json").read_text())["metrics"][0]["value"] for path in (image, text.folder)]
    assert found.composition_gap == pytest.approx(found.value - max(values))
    assert found.one_modality is not None and 0 < found.one_modality < 100


def test_a_run_of_another_protocol_is_refused(tmp_path: Path) -> None:
    run = keep_run(cirr_like(queries=20, items=80), tmp_path, "a-method")
    with pytest.raises(UsageError, match="and this is toy/circo-like"):
        audit_run("run", run, PROTOCOL)


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120])
def test_the_command_audits_a_file(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    protocol = load_protocol("scenes/tiny")
    lists = lists_of(protocol, 60, 0, 0.0)
    lists = {query.id: tuple(n for n in lists[query.id] if n != query.reference.id) for query in protocol.queries}
    file = tmp_path / "ranked.json"
    file.write_text(json.dumps(lists))
    command = ["audit", str(file), "--dataset", "scenes", "--split", "tiny"]
    assert cli.execute(command) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= width
    assert cli.execute([*command, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["audits"]
    assert found["queries"] == len(protocol.queries)


def test_lists_are_audited_with_annotations_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, published_size(), None)
    protocol = load_protocol("circo/val", tmp_path)
    assert protocol.gallery is None and protocol.labels is not None
    lists = {}
    for place, (query, relevant) in enumerate(zip(protocol.queries, protocol.labels.relevant, strict=True)):
        leads = [query.reference.id] if place % 2 else []
        others = [str(number) for number in range(1, 120)]
        lists[query.id] = [*dict.fromkeys([*leads, *relevant, *others])][:60]
    file = tmp_path / "ranked.json"
    file.write_text(json.dumps(lists))
    command = ["audit", str(file), "--dataset", "circo", "--split", "val", "--data-root", str(tmp_path), "--json"]
    assert cli.execute(command) == 0
    (found,) = json.loads(capsys.readouterr().out)["audits"]
    assert found["reference_in_top"]["1"] == 50
    assert found["value"] < found["without_reference"] == 100


def test_a_file_without_a_data_set_says_what_to_add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ranked.json"
    file.write_text("{}")
    assert cli.execute(["audit", str(file)]) != 0
    assert "Add --dataset NAME" in capsys.readouterr().err
