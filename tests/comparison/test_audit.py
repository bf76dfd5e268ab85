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
from cirbench.comparison.audit import TOPS, audit_lists, audit_run, bounds_of_relabelling, findings, near_copies
from cirbench.errors import UsageError
from cirbench.metrics.functions import UNRANKED
from cirbench.metrics.table import NO_CUTOFF, Measure
from cirbench.protocol import Gallery, Labels
from cirbench.runs.folder import load_ranking
from cirbench.runs.predictions.lists import RankedLists
from cirbench.runs.predictions.score import answer_of_lists
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
    return audit_lists("lists", RankedLists("lists", lists), protocol)


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
    assert found.value is not None and found.without_reference is not None
    assert found.without_reference > found.value


def test_nothing_is_said_of_the_reference_where_the_protocol_removes_it(tmp_path: Path) -> None:
    protocol = cirr_like(queries=20, items=80)
    found = audit_run("run", keep_run(protocol, tmp_path, "a-method"), protocol)
    assert found.reference_in_top is None and found.without_reference is None


def test_a_reference_that_no_query_ranks_is_said_to_be_no_candidate() -> None:
    assert PROTOCOL.gallery is not None
    query = PROTOCOL.queries[0]
    ids = tuple(name for name in PROTOCOL.gallery.ids if name != query.reference.id)
    one = dataclasses.replace(PROTOCOL.first(1), gallery=Gallery(ids))
    found = audited(one, {query.id: ids[:60]})
    assert (found.reference, found.reference_in_top, found.without_reference) == ("no candidate", None, None)
    assert "not a candidate of any query" in [finding.figure for finding in findings(found)]


def test_hidden_ground_truths_leave_what_lists_do_with_the_reference() -> None:
    hidden = dataclasses.replace(PROTOCOL, labels=None)
    lists = lists_of(PROTOCOL, 50, 4, 0.5)
    known, found = audited(PROTOCOL, lists), audited(hidden, lists)
    assert found.reference_in_top == known.reference_in_top
    assert (found.label, found.value, found.without_reference, found.bounds) == (None, None, None, None)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.sampled_from([1, 5]))
def test_a_second_labelling_bounds_how_many_queries_have_a_hit(seed: int, k: int) -> None:
    assert PROTOCOL.labels is not None and PROTOCOL.gallery is not None
    generator = np.random.default_rng(seed)
    measured = dataclasses.replace(PROTOCOL, measures=(Measure("Recall", k),))
    more = tuple(
        (*relevant, *generator.choice(PROTOCOL.gallery.ids, size=3), query.reference.id)
        for query, relevant in zip(PROTOCOL.queries, PROTOCOL.labels.relevant, strict=True)
    )
    relabelling = dataclasses.replace(PROTOCOL, id="toy/more", labels=Labels(more)).only(range(5, 30))
    lists = lists_of(PROTOCOL, 50, seed, 0.3)
    ranking = answer_of_lists(RankedLists("lists", lists), measured).ranking
    assert ranking is not None
    found = bounds_of_relabelling(ranking, measured, relabelling)
    low, high = [], []
    for place in range(5, 30):
        query, top = PROTOCOL.queries[place], lists[PROTOCOL.queries[place].id][:k]
        low.append(any(name in PROTOCOL.labels.relevant[place] for name in top))
        high.append(any(name in more[place] and name != query.reference.id for name in top))
    assert (found.by, found.queries, found.k) == (relabelling.name, 25, k)
    assert (found.low, found.high) == pytest.approx((100 * np.mean(low), 100 * np.mean(high)))


def test_a_soft_label_is_right_above_0_and_a_query_without_labels_takes_no_part() -> None:
    lists = lists_of(PROTOCOL, 50, 8, 0.0)
    first = [lists[query.id][0] for query in PROTOCOL.queries]
    gains = (-1.0, 0.0, 0.2, 1.0) * 6
    soft = Labels((*((name,) for name in first[:24]), *((),) * 6), (*((gain,) for gain in gains), *((),) * 6))
    nothing = Labels(tuple(("nowhere",) for _ in first))
    measured = dataclasses.replace(PROTOCOL, labels=nothing, measures=(Measure("Recall", 1),))
    ranking = answer_of_lists(RankedLists("lists", lists), PROTOCOL).ranking
    assert ranking is not None
    unranked = ranking.relevant_ranks.like(np.full_like(ranking.relevant_ranks.values, UNRANKED))
    ranking = dataclasses.replace(ranking, relevant_ranks=unranked)
    found = bounds_of_relabelling(ranking, measured, dataclasses.replace(PROTOCOL, labels=soft))
    assert (found.queries, found.low, found.high) == (24, 0, 50)


def test_several_ground_truths_bound_a_hit_by_the_first_and_by_all() -> None:
    assert PROTOCOL.labels is not None
    lists = lists_of(PROTOCOL, 50, 6, 0.0)
    bounds = audited(PROTOCOL, lists).bounds
    assert bounds is not None
    tops = [
        (lists[query.id][:5], relevant)
        for query, relevant in zip(PROTOCOL.queries, PROTOCOL.labels.relevant, strict=True)
    ]
    assert bounds.low == pytest.approx(100 * np.mean([relevant[0] in top for top, relevant in tops]))
    assert bounds.high == pytest.approx(
        100 * np.mean([any(name in top for name in relevant) for top, relevant in tops])
    )


def test_a_labelling_of_other_queries_is_refused() -> None:
    lists = RankedLists("lists", lists_of(PROTOCOL, 50, 6, 0.0))
    renamed = tuple(dataclasses.replace(query, id=f"other {query.id}") for query in PROTOCOL.queries)
    with pytest.raises(UsageError, match="they have no query in common"):
        audit_lists("lists", lists, PROTOCOL, relabelling=dataclasses.replace(PROTOCOL, queries=renamed))
    turned = tuple(
        dataclasses.replace(query, reference=other.reference)
        for query, other in zip(PROTOCOL.queries, PROTOCOL.queries[::-1], strict=True)
    )
    with pytest.raises(UsageError, match="starts from"):
        audit_lists("lists", lists, PROTOCOL, relabelling=dataclasses.replace(PROTOCOL, queries=turned))
    with pytest.raises(UsageError, match="its own ground truths are not available"):
        audit_lists("lists", lists, dataclasses.replace(PROTOCOL, labels=None), relabelling=PROTOCOL)
    with pytest.raises(UsageError, match="its ground truths are not available"):
        audit_lists("lists", lists, PROTOCOL, relabelling=dataclasses.replace(PROTOCOL, labels=None))


def test_near_duplicates_are_what_image_only_scores_high_and_is_neither_reference_nor_truth(tmp_path: Path) -> None:
    assert PROTOCOL.labels is not None and PROTOCOL.gallery is not None
    image = load_ranking(keep_run(PROTOCOL, tmp_path, "image-only", skill=0.5, seed=1), PROTOCOL)
    run = load_ranking(keep_run(PROTOCOL, tmp_path, "a-method", skill=2.0, seed=3), PROTOCOL)
    threshold = float(np.median(image.scores_QK[:, :20]))
    in_gallery, in_top = [], []
    for place, (query, relevant) in enumerate(zip(PROTOCOL.queries, PROTOCOL.labels.relevant, strict=True)):
        scored = zip(image.top_QK[place].tolist(), image.scores_QK[place].tolist(), strict=True)
        near = {PROTOCOL.gallery.ids[at] for at, score in scored if score >= threshold}
        near -= {query.reference.id, *relevant}
        in_gallery.append(bool(near))
        in_top.append(any(PROTOCOL.gallery.ids[at] in near for at in run.top_QK[place, :10]))
    found = near_copies(run, image, PROTOCOL, threshold)
    assert (found.in_gallery, found.in_top) == pytest.approx((100 * np.mean(in_gallery), 100 * np.mean(in_top)))
    assert 0 < found.in_top < found.in_gallery


def test_a_run_over_pools_is_audited_by_its_macro_mean(tmp_path: Path) -> None:
    protocol = fashioniq_like()
    run = keep_run(protocol, tmp_path, "a-method", skill=1.0)
    found = audit_run("run", run, protocol)
    assert found.value == pytest.approx(run.result.metrics[0].value)
    assert found.value is not None and found.without_reference is not None
    assert found.without_reference >= found.value


def test_a_ground_truth_that_is_the_reference_stays() -> None:
    assert PROTOCOL.labels is not None
    truths = tuple((query.reference.id,) for query in PROTOCOL.queries)
    protocol = dataclasses.replace(PROTOCOL, labels=dataclasses.replace(PROTOCOL.labels, relevant=truths))
    found = audited(protocol, lists_of(protocol, 50, 2, 1.0))
    assert found.without_reference == pytest.approx(found.value)
    assert found.value


def test_an_image_that_is_labelled_as_wrong_is_neither_a_truth_nor_spared_where_it_is_the_reference() -> None:
    assert PROTOCOL.labels is not None
    lists = {}
    for query, relevant in zip(PROTOCOL.queries, PROTOCOL.labels.relevant, strict=True):
        others = [name for name in lists_of(PROTOCOL, 80, 5, 0.0)[query.id] if name != query.reference.id]
        lists[query.id] = (query.reference.id, *(name for name in others if name not in relevant))[:50]
    pairs = zip(PROTOCOL.queries, PROTOCOL.labels.relevant, strict=True)
    rows = tuple((right[0], query.reference.id) for query, right in pairs)
    labels = Labels(rows, ((1.0, -1.0),) * len(rows))
    protocol = dataclasses.replace(PROTOCOL, labels=labels, measures=(Measure("NegRecall", 1),))
    found = audited(protocol, lists)
    assert (found.value, found.without_reference) == (100, 0)
    assert found.bounds is None  # one ground truth each


def test_lists_say_nothing_of_a_number_over_the_whole_ranking() -> None:
    protocol = dataclasses.replace(PROTOCOL, measures=(Measure("mAP", NO_CUTOFF), Measure("mAP", 10)))
    assert audited(protocol, lists_of(PROTOCOL, 50, 7, 0.0)).label == "mAP@10"


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


def test_a_threshold_of_near_duplicates_without_features_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ranked.json"
    file.write_text("{}")
    assert cli.execute(["audit", str(file), "--dataset", "circo", "--near", "0.9"]) != 0
    assert "they need the features of a run" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no image-only run on tiny lies beside"):
        audit_run("run", keep_run(PROTOCOL, tmp_path, "a-method"), PROTOCOL, near=0.9)
