"""Every way of breaking a server's file is noticed offline, by the rule and the query that are broken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.errors import MissingData
from cirbench.submissions.check import check_file, check_files, check_values, protocol_loader
from cirbench.submissions.form import RULES
from tests.submissions import server_files
from tests.submissions.server_files import CIRCO, CIRR, CIRR_SUBSET, Corruption, Whole, encode

if TYPE_CHECKING:
    from cirbench.submissions.check import SubmissionCheck

OFFICIAL = {
    "circo": ("circo/submission_examples/submission_test.json", "circo/test"),
    "recall": ("cirr/demo_files/test1_pred_ranks_recall.json", "cirr/test1"),
    "recall_subset": ("cirr/demo_files/test1_pred_ranks_recall_subset.json", "cirr/test1"),
}
CORRUPTIONS = {"circo": CIRCO, "recall": CIRR, "recall_subset": CIRR_SUBSET}
CASES = [(kind, each) for kind, corruptions in CORRUPTIONS.items() for each in corruptions]


def names(cases: list[tuple[str, Corruption]]) -> list[str]:
    return [f"{kind}: {each.name}" for kind, each in cases]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    """One whole file of each kind, made by code."""
    root = tmp_path_factory.mktemp("data")
    protocol = server_files.cirr_protocol(root)
    return {
        "circo": server_files.circo_test(root),
        "recall": server_files.cirr_recall(protocol),
        "recall_subset": server_files.cirr_subset(protocol),
    }


@pytest.fixture(scope="module")
def official() -> dict[str, Whole]:
    """The examples that the servers' authors give."""
    named = os.environ.get("CIRBENCH_DATA")
    if named is None:
        pytest.skip("CIRBENCH_DATA is not set, so there are no official examples")
    root = Path(named)
    wholes = {}
    for kind, (file, meant) in OFFICIAL.items():
        if not (root / file).is_file():
            pytest.skip(f"CIRBENCH_DATA lacks {file}")
        protocol = protocol_loader(root)(meant)
        wholes[kind] = Whole(json.loads((root / file).read_bytes()), {meant: protocol}.get, meant, official=True)
    return wholes


def broken(whole: Whole, corruption: Corruption, path: Path) -> SubmissionCheck:
    content = corruption.apply(whole)
    path.write_bytes(content if isinstance(content, bytes) else encode(content))
    return check_file(path, whole.annotations, whole.meant)


def assert_told(report: SubmissionCheck, whole: Whole, corruption: Corruption) -> None:
    assert not report.ok
    found = [problem for problem in report.problems if problem.rule == corruption.rule]
    assert found, [str(problem) for problem in report.problems[:5]]
    assert f"rule {corruption.rule}: " in str(found[0])
    assert any(corruption.told in str(problem) for problem in found), str(found[0])
    if corruption.in_query:
        assert all(whole.query in str(problem) for problem in found)
    assert {problem.rule for problem in report.problems} <= set(RULES)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_whole_file_passes(small: dict[str, Whole], kind: str, tmp_path: Path) -> None:
    whole = small[kind]
    (tmp_path / "file.json").write_bytes(encode(whole.values))
    for meant in (None, whole.meant):
        report = check_file(tmp_path / "file.json", whole.annotations, meant)
        assert (report.problems, report.notes) == ((), ())
        assert report.protocol == whole.meant
        assert report.queries == len(whole.known.queries)


@pytest.mark.parametrize(("kind", "corruption"), CASES, ids=names(CASES))
def test_a_corruption_is_told_by_its_rule_and_its_query(
    small: dict[str, Whole], kind: str, corruption: Corruption, tmp_path: Path
) -> None:
    assert_told(broken(small[kind], corruption, tmp_path / "file.json"), small[kind], corruption)


@pytest.mark.parametrize(("kind", "corruption"), CASES, ids=names(CASES))
def test_a_corrupted_official_example_is_told_by_its_rule_and_its_query(
    official: dict[str, Whole], kind: str, corruption: Corruption, tmp_path: Path
) -> None:
    whole = official[kind]
    if corruption.needs_gallery and whole.known.gallery is None:
        pytest.skip("CIRBENCH_DATA lacks COCO's image_info_unlabeled2017.json")
    assert_told(broken(whole, corruption, tmp_path / "file.json"), whole, corruption)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_official_examples_pass(official: dict[str, Whole], kind: str, annotation_root: Path) -> None:
    report = check_file(annotation_root / OFFICIAL[kind][0], official[kind].annotations)
    assert report.ok, report.problems
    assert report.protocol == OFFICIAL[kind][1]


def test_the_official_example_of_circo_val_passes_with_a_note(annotation_root: Path) -> None:
    path = annotation_root / "circo/submission_examples/submission_val.json"
    if not path.is_file():
        pytest.skip(f"CIRBENCH_DATA lacks {path.name}")
    report = check_file(path, protocol_loader(annotation_root))
    assert (report.protocol, report.ok) == ("circo/val", True)
    assert report.notes[0].startswith("this is val, and the server scores test only")


@pytest.mark.slow
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_no_two_corruptions_are_told_alike(small: dict[str, Whole], kind: str, tmp_path: Path) -> None:
    alike = {"white space alone"}  # as good as empty
    told: dict[str, str] = {}
    for corruption in CORRUPTIONS[kind]:
        if corruption.name in alike:
            continue
        message = "\n".join(map(str, broken(small[kind], corruption, tmp_path / "file.json").problems))
        assert message not in told, f"{corruption.name} is told as {told[message]}"
        told[message] = corruption.name
    assert len(told) >= 25


@pytest.mark.parametrize("kind", ["recall", "recall_subset"])
def test_without_annotations_the_form_is_checked_and_the_rest_is_said_to_be_unchecked(
    kind: str, small: dict[str, Whole], tmp_path: Path
) -> None:
    values = {
        key: value if isinstance(value, str) else [f"test1-{place}-0-img1" for place in range(len(value))]
        for key, value in small[kind].values.items()
    }
    path = tmp_path / "file.json"
    path.write_bytes(encode(values))
    report = check_file(path, lambda _: None)
    assert [str(problem) for problem in report.problems] == [
        "rule queries: it has 20 queries, and cirr/test1 has 4148",
    ]
    assert "not checked, since CIRR's annotations are not available" in report.notes[0]
    path.write_bytes(encode(values | {"130": ["dog", *values["130"][1:]], "a": values["130"]}))
    told = [str(problem) for problem in check_file(path, lambda _: None).problems]
    assert "rule queries: it has query 'a', not a pair id" in told
    assert "rule gallery: query '130': not a name of test1: \"dog\"" in told


def test_names_of_val_are_told_without_annotations(small: dict[str, Whole], tmp_path: Path) -> None:
    report = check_values(tmp_path, small["recall"].values, 1000, lambda _: None)
    assert [problem.rule for problem in report.problems] == ["split"]


def test_without_the_gallery_circo_ids_are_said_to_be_unchecked(small: dict[str, Whole], tmp_path: Path) -> None:
    report = check_values(tmp_path, small["circo"].values, 1000, lambda _: None)
    assert report.ok
    assert "image_info_unlabeled2017.json is not available" in report.notes[0]


def test_one_file_of_cirr_is_reminded_of_the_other(small: dict[str, Whole], tmp_path: Path) -> None:
    paths = []
    for kind in ("recall", "recall_subset"):
        paths.append(tmp_path / f"{kind}.json")
        paths[-1].write_bytes(encode(small[kind].values))
    annotations = small["recall"].annotations
    assert [report.notes for report in check_files(paths, annotations)] == [(), ()]
    (alone,) = check_files(paths[:1], annotations)
    assert alone.notes == (
        'the server also needs the other file, of metric "recall_subset", which was not checked now',
    )


def test_a_refused_file_names_its_first_problem_and_how_many_there_are(small: dict[str, Whole], tmp_path: Path) -> None:
    whole = small["circo"]
    report = check_values(tmp_path / "a.json", whole.values | {"3": [], "5": []}, 1000, whole.annotations)
    with pytest.raises(Exception, match=r"a\.json: rule length: query '3': .* 0 ids, .* 50 \(and 1 more\)\."):
        report.require()


def test_a_file_that_is_cut_off_anywhere_is_told_to_be(small: dict[str, Whole], tmp_path: Path) -> None:
    whole = small["recall_subset"]
    path, content = tmp_path / "file.json", encode(whole.values)
    for end in range(1, len(content), 7):
        path.write_bytes(content[:end])
        (problem,) = check_file(path, whole.annotations).problems
        assert problem.rule == "json"
        assert problem.message.endswith("The file seems to be cut off"), content[:end][-20:]


def test_a_file_of_ten_times_what_any_server_takes_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "archive.json"
    with path.open("wb") as file:
        file.truncate(60_000_000)
    (problem,) = check_file(path, lambda _: None).problems
    assert str(problem) == "rule size: the file has 60,000,000 bytes; no server takes more than 5,000,000"


def test_a_file_that_is_not_there_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"none\.json cannot be read"):
        check_file(tmp_path / "none.json", lambda _: None)


def test_a_data_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="is not a folder"):
        protocol_loader(tmp_path / "nowhere")


@settings(max_examples=150)
@given(data=st.data())
def test_a_list_passes_exactly_if_a_naive_reading_of_the_rules_lets_it(small: dict[str, Whole], data: Any) -> None:
    kind = data.draw(st.sampled_from(["recall", "recall_subset"]))
    whole = small[kind]
    known = whole.known
    assert known.gallery is not None
    assert known.groups is not None
    place = data.draw(st.integers(0, len(known.queries) - 1))
    query, group = known.queries[place], known.groups[place]
    pool = list(known.gallery.ids) if kind == "recall" else list(group)
    ids: list[Any] = data.draw(st.permutations(pool))[
        : data.draw(st.sampled_from([49, 50, 51] if kind == "recall" else [2, 3, 4]))
    ]
    for other in data.draw(
        st.lists(st.sampled_from([*known.gallery.ids[:3], "x", "dev-0-0-img0.png", 7, None]), max_size=1)
    ):
        ids[0] = other
    length = 50 if kind == "recall" else 3
    passes = (
        len(ids) == len(set(ids)) == length
        and all(name in known.gallery.ids for name in ids)
        and query.reference.id not in ids
        and (kind == "recall" or all(name in group for name in ids))
    )
    assert check_values(Path("f"), whole.values | {query.id: ids}, 1000, whole.annotations).ok == passes


def test_the_documentation_lists_every_rule() -> None:
    text = (Path(__file__).parents[2] / "docs/submissions.md").read_text()
    for rule, sentence in RULES.items():
        assert f"| `{rule}` | {sentence} |" in text
