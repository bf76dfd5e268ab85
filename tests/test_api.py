"""What ``import cirbench`` offers: exactly the public names, lazily, typed, and as the documents show it."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cirbench
from cirbench.errors import CirbenchError, InvalidPredictions, MissingData, UsageError

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.protocol import Item, Query

ROOT = Path(__file__).parent.parent
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL | re.MULTILINE)


class Constant:
    """Encodes by position; enough to be ranked."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def encode_gallery(self, items: Sequence[Item]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array([[np.cos(n), np.sin(n)] for n in range(len(items))], dtype=np.float32)

    def encode_queries(self, queries: Sequence[Query]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array([[np.cos(n + self.shift), 1.0] for n in range(len(queries))], dtype=np.float32)


def test_dir_shows_exactly_the_public_names() -> None:
    assert dir(cirbench) == sorted(cirbench.__all__)
    for name in cirbench.__all__:
        assert getattr(cirbench, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        getattr(cirbench, "evalu" + "te")


def test_every_public_function_has_its_types_and_no_open_ended_options() -> None:
    for name in cirbench.__all__:
        function = getattr(cirbench, name)
        if not inspect.isfunction(function):
            continue
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, name
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, (name, parameter)
            assert parameter.kind is not inspect.Parameter.VAR_KEYWORD, (name, parameter)


@pytest.mark.parametrize("what", ["", "cirbench.Run; cirbench.Protocol; cirbench.list_methods(); cirbench.score"])
def test_import_takes_no_torch(what: str) -> None:
    program = f"import sys, cirbench; {what}\nassert not {{'torch', 'pandas', 'rich'}} & sys.modules.keys()"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, env=dict(os.environ))


@pytest.mark.slow
def test_a_type_checker_sees_the_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(
        "import cirbench\n"
        "run = cirbench.load_run('runs/x')\n"
        "reveal_type(run.result.digest)\n"
        "reveal_type(cirbench.evaluate('x', 'y')['x'])\n"
        "cirbench.evaluate('x', 'y', sede=1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", os.devnull, "--ignore-missing-imports", str(program)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert 'Revealed type is "str"' in done.stdout or 'Revealed type is "builtins.str"' in done.stdout
    assert 'Revealed type is "cirbench.runs.folder.Run"' in done.stdout
    assert 'Unexpected keyword argument "sede"' in done.stdout


@pytest.mark.slow
def test_the_examples_of_the_document_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    for example in EXAMPLES:
        exec(compile(example, "docs/api.md", "exec"), names)
    assert len(EXAMPLES) >= 8
    run, comparison = names["run"], names["comparison"]
    frame = run.per_query()
    assert list(frame.index) == list(run.query_ids)
    assert 100 * frame["mAP@5"].mean() == pytest.approx(run.result["mAP@5"].value)
    assert run.to_frame().loc["mAP@5", "value"] == run.result["mAP@5"].value
    assert set(comparison.to_frame()["folder"]) == {str(row.run.folder) for row in comparison.standings.rows}
    assert names["again"].result == run.result
    scored, by_chance = names["scored"], names["by_chance"]
    assert scored.to_frame().loc["mAP@5", "value"] == pytest.approx(100 * scored.measurements[0].value)
    assert list(by_chance.to_frame()["n"]) == [measured.count for measured in by_chance.measurements]
    assert "mAP@5" in repr(scored)
    for shown in (run, comparison, names["report"], scored):
        assert "<table" in shown._repr_html_()
    assert "mAP@5" in repr(comparison)


def test_a_name_a_spec_a_class_and_a_protocol_give_the_same_run(tmp_path: Path) -> None:
    from cirbench_methods.baselines import IMAGE_TEXT

    class Mine:
        SPEC = IMAGE_TEXT

    protocol = cirbench.load_protocol("scenes/tiny")
    runs = [
        cirbench.evaluate(method, benchmark, limit=20, output=tmp_path)["image-text"].folder
        for method, benchmark in (("image-text", "scenes/tiny"), (IMAGE_TEXT, protocol), (Mine, "scenes/tiny"))
    ]
    assert len(set(runs)) == 1


def test_an_object_is_kept_by_its_answers(tmp_path: Path) -> None:
    def folder(method: Constant, **options: Any) -> Path:
        return cirbench.evaluate(method, "scenes/tiny", limit=20, output=tmp_path, **options)["constant"].folder

    assert folder(Constant()) == folder(Constant())
    assert folder(Constant(1.0)) != folder(Constant())
    result = cirbench.load_run(folder(Constant())).result
    assert (result.backbone.name, result.method.supervision, result.method.uses_llm) == (
        "not stated",
        "unknown",
        "unknown",
    )


def test_an_object_on_a_backbone_is_beside_the_baselines(tmp_path: Path) -> None:
    backbone = cirbench.load_backbone("scenes-vit")
    report = cirbench.evaluate(Constant(), "scenes/tiny", backbone=backbone, limit=20, output=tmp_path, name="Mine")
    assert [run.result.method.name for run in report.runs] == ["image-only", "text-only", "image-text", "mine"]
    assert {run.result.backbone.digest for run in report.runs} == {backbone.identity.digest}


class NoSpec:
    """A class with nothing that says what it is."""


class Given(typing.NamedTuple):
    """Features of the tiny scenes, with their ids."""

    queries: Any
    gallery: Any
    query_ids: Any
    gallery_ids: Any

    def score(self) -> Any:
        return cirbench.score(
            (self.queries, self.gallery), "scenes/tiny", query_ids=self.query_ids, gallery_ids=self.gallery_ids
        )


def some_features(dtype: str = "float32") -> Given:
    protocol = cirbench.load_protocol("scenes/tiny")
    assert protocol.gallery is not None
    random = np.random.default_rng(0)
    rows = [random.normal(size=(count, 8)).astype(dtype) for count in (len(protocol.queries), len(protocol.gallery))]
    return Given(rows[0], rows[1], [query.id for query in protocol.queries], [*protocol.gallery.ids])


def test_features_score_the_same_as_arrays_files_and_the_lists_that_they_rank(tmp_path: Path) -> None:
    given = some_features()
    scored = given.score()
    files = Given(*(tmp_path / f"{name}.npy" for name in Given._fields))
    for path, content in zip(files, given, strict=True):
        np.save(path, np.asarray(content))
    mixed = Given(str(files.queries), given.gallery, np.array(given.query_ids), files.gallery_ids)
    backwards = Given(given.queries[::-1], given.gallery, list(np.array(given.query_ids))[::-1], given.gallery_ids)
    values = {each.label: each.value for each in scored.measurements}
    for other in (files, mixed, backwards):
        assert {each.label: each.value for each in other.score().measurements} == values

    protocol = cirbench.load_protocol("scenes/tiny")
    unit_QD, unit_ND = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in given[:2])
    order_QN = np.argsort(-(unit_QD @ unit_ND.T), axis=1)
    names = np.array(given.gallery_ids)
    excluded = {query.id: query.reference.id if protocol.exclude_reference else None for query in protocol.queries}
    lists = {
        query: [str(name) for name in names[row] if name != excluded[query]]
        for query, row in zip(given.query_ids, order_QN, strict=True)
    }
    by_lists = {each.label: each.value for each in cirbench.score(lists, protocol).measurements}
    assert by_lists == {label: values[label] for label in by_lists}  # the lists do not rank the groups
    assert len(by_lists) >= 8


def test_features_of_torch_are_taken_and_what_numpy_cannot_read_is_refused() -> None:
    torch = pytest.importorskip("torch")
    given = some_features()
    tensors = given._replace(queries=torch.from_numpy(given.queries), gallery=torch.from_numpy(given.gallery))
    assert tensors.score().measurements[0].value == given.score().measurements[0].value
    learned = given._replace(queries=torch.from_numpy(given.queries).requires_grad_())
    with pytest.raises(InvalidPredictions, match="queries is a Tensor that NumPy cannot read") as caught:
        learned.score()
    assert "detach" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query_ids": None}, "Features need query_ids and gallery_ids"),
        ({"gallery_ids": ["nothing"]}, "gallery_ids: 1 unknown gallery ids"),
        ({"gallery_ids": [1.5]}, "gallery_ids: 1.5 is not a valid id"),
        ({"query_ids": ["twice", "twice"]}, "query_ids: the id 'twice' is at places 1 and 2"),
        ({"query_ids": []}, "query_ids holds no ids"),
        ({"gallery": np.ones((2, 8))}, "gallery holds 2 rows, and gallery_ids"),
        ({"gallery": np.ones((2, 3))}, "queries has 8 columns and gallery 3"),
        ({"queries": np.ones((2, 8), dtype=int)}, "queries holds int64, not float16"),
        ({"queries": [[1.0], [1.0, 2.0]]}, "queries is a list that NumPy cannot read"),
    ],
)
def test_features_that_do_not_fit_are_refused_by_the_name_of_the_argument(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CirbenchError, match=said):
        some_features()._replace(**change).score()


@pytest.mark.parametrize(
    ("predictions", "options", "said"),
    [
        (3, {}, "An object of type int is not something to score"),
        ((1, 2, 3), {}, "An object of type tuple is not something to score"),
        ({}, {"query_ids": ["a"]}, "query_ids and gallery_ids are for features"),
        ({}, {"trust": "ranks"}, "trust is for a TREC run or a table in a file"),
    ],
)
def test_what_cannot_be_scored_is_refused(predictions: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cirbench.score(predictions, "scenes/tiny", **options)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (NoSpec, "The class NoSpec has no SPEC"),
        (3, "An object of type int is not a method: it has no encode_gallery and encode_queries"),
        ([Constant(), Constant()], "An object is evaluated by itself"),
        ("no-such-method", "There is no method called 'no-such-method'"),
    ],
)
def test_what_is_not_a_method_is_refused(method: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(CirbenchError, match=said):
        cirbench.evaluate(method, "scenes/tiny", output=tmp_path)


@pytest.mark.slow
def test_a_class_of_a_session_without_a_file_is_refused(tmp_path: Path) -> None:
    program = (
        "import cirbench\nfrom cirbench import MethodSpec\n"
        "class Mine:\n    SPEC = MethodSpec(name='mine', title='Mine', implementation='__main__:Mine')\n"
        "cirbench.evaluate(Mine, 'scenes/tiny', limit=20)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "The method is defined in this session, so nothing can tell when its code changes" in done.stderr


def test_a_baseline_that_is_not_among_the_runs_is_refused(tmp_path: Path) -> None:
    report = cirbench.evaluate("image-text", "scenes/tiny", limit=20, output=tmp_path)
    with pytest.raises(UsageError, match="is not one of the runs"):
        cirbench.compare(report.runs[:2], baseline=report.runs[2])


def test_without_pandas_the_command_to_install_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = cirbench.evaluate("image-text", "scenes/tiny", limit=20, output=tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingData, match="needs the package pandas") as caught:
        report.runs[0].per_query()
    assert caught.value.hint == "pip install 'cirbench[pandas]'"


def test_annotations_can_be_resolved_where_they_need_no_heavy_package() -> None:
    assert typing.get_type_hints(cirbench.list_methods)["return"] == list[str]
