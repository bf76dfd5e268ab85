"""What authors have released is joined to its queries, and every row that does not fit is named."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest

from cirbench.artefacts.released import read_released
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import CheckFailed, CorruptFile, UnknownName, UsageError

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOL = scenes_protocol("tiny")
QUERIES = PROTOCOL.queries


def ldre(**changes: Any) -> list[dict[str, Any]]:
    """Rows as LDRE has them, with numbers for names and blanks squeezed."""
    return [
        {
            "reference_img_id": int(query.reference.id),
            "relative_caption": f" {query.captions[0]}  ",
            "shared_concept": query.shared_concept,
            "id": int(query.id),
            "blip2_caption": f"single {query.id}",
            "gpt-3.5-turbo": f"single edited {query.id}",
            "multi_caption_opt": [f"caption {number} of {query.id}" for number in range(15)],
            "multi_gpt-3.5_opt": [f"edited {number} of {query.id}" for number in range(15)],
            **changes,
        }
        for query in QUERIES
    ]


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_annotations_with_fifteen_captions_are_joined_by_reference_and_caption(tmp_path: Path) -> None:
    rows = ldre()[:40][::-1]
    joined = read_released(write(tmp_path / "test.json", rows), "ldre", PROTOCOL)
    assert joined.unanswered == tuple(query.id for query in QUERIES[40:])
    for answer, query in zip(joined.answers, QUERIES, strict=False):
        assert answer.key == ((query.reference.image.content,), query.captions)
        assert answer.fields["edited"] == tuple(f"edited {number} of {query.id}" for number in range(15))
        assert len(answer.fields["caption"]) == 15
    single = {"caption": "blip2_caption", "edited": "gpt-3.5-turbo"}
    joined = read_released(tmp_path / "test.json", "seize", PROTOCOL, single)
    assert joined.answers[0].fields == {"caption": ("single 0",), "edited": ("single edited 0",)}


def test_annotations_with_several_captions_of_a_query_are_joined_as_those_with_one(tmp_path: Path) -> None:
    """As IP-CIR reads FashionIQ: the reference is the candidate, and captions are a list."""
    rows = [
        {
            "candidate": query.reference.id,
            "captions": list(query.captions),
            **{name: row[name] for name in ("multi_caption_opt", "multi_gpt-3.5_opt")},
        }
        for query, row in zip(QUERIES, ldre(), strict=True)
    ]
    joined = read_released(write(tmp_path / "cap.json", rows), "ip-cir", PROTOCOL)
    assert not joined.unanswered and joined.answers[3].fields["edited"][14] == "edited 14 of 3"


def test_lists_without_names_are_joined_by_order_and_checked_by_caption(tmp_path: Path) -> None:
    lists = {
        "base_caption": [f"base {query.id}" for query in QUERIES],
        "instruction": [query.captions[0] for query in QUERIES],
        "modified_captions": [f"modified {query.id}" for query in QUERIES],
    }
    joined = read_released(write(tmp_path / "mods.json", lists), "cirevl", PROTOCOL)
    assert [answer.fields["edited"] for answer in joined.answers] == [(f"modified {query.id}",) for query in QUERIES]
    shifted = {name: [*column[1:], column[0]] for name, column in lists.items()}
    with pytest.raises(CheckFailed, match=f"rows fit no query: row 1 .*query {QUERIES[0].id} says"):
        read_released(write(tmp_path / "shifted.json", shifted), "cirevl", PROTOCOL)
    short = {name: column[1:] for name, column in lists.items()}
    with pytest.raises(CheckFailed, match="has 59 rows in the order of the queries, and scenes/tiny@1 has 60 queries"):
        read_released(write(tmp_path / "short.json", short), "cirevl", PROTOCOL)
    with pytest.raises(CorruptFile, match="are not equally long"):
        read_released(write(tmp_path / "uneven.json", {**lists, "instruction": ["a"]}), "cirevl", PROTOCOL)


def test_a_table_with_edited_captions_is_joined_by_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "annotations.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_clip_id", "target_clip_ids", "instruction", "modified_captions"])
        writer.writerows([q.reference.id, "['x']", q.captions[0], f" edited {q.id}"] for q in QUERIES)
    joined = read_released(path, "egocvr", PROTOCOL)
    assert joined.answers[5].fields == {"edited": (f"edited {QUERIES[5].id}",)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relative_caption": "of another benchmark"}, "60 rows fit no query: row 1 \\(.*'of another benchmark'"),
        ({"reference_img_id": 99}, "rows fit no query"),
        ({"id": 7}, "rows contradict their query: row 1 has the id 7, and its query 0"),
        ({"shared_concept": "a zebra"}, "has the shared concept 'a zebra', and its query"),
    ],
)
def test_rows_that_fit_no_query_or_contradict_it_are_named(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(CheckFailed, match=message):
        read_released(write(tmp_path / "test.json", ldre(**changes)), "ldre", PROTOCOL)


@pytest.mark.parametrize("value", ["", "  ", [], ["fine", ""], 3, None])
def test_an_empty_answer_is_an_error_that_names_the_row(tmp_path: Path, value: object) -> None:
    rows = ldre()
    rows[3]["multi_caption_opt"] = value
    with pytest.raises(CorruptFile, match="row 4 has an empty answer, or one that is not a text"):
        read_released(write(tmp_path / "test.json", rows), "ldre", PROTOCOL)


def test_other_files_forms_and_columns_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "test.json", ldre())
    with pytest.raises(UnknownName, match="ldres"):
        read_released(path, "ldres", PROTOCOL)
    with pytest.raises(UsageError, match="has no column 'gpt-5'") as error:
        read_released(path, "ldre", PROTOCOL, {"edited": "gpt-5"})
    assert "gpt-3.5-turbo" in str(error.value.hint)
    for content, message in (("[]", "holds no rows"), ('{"a": 1}', "holds no rows"), ("[1, 2", "is not JSON")):
        path.write_text(content)
        with pytest.raises(CorruptFile, match=message):
            read_released(path, "ldre", PROTOCOL)
