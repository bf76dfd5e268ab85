"""FashionIQ's protocols differ as they say, and changed files are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cirbench.benchmarks import fashioniq
from cirbench.benchmarks.fashioniq import CATEGORIES, EXPECTED, fashioniq_protocol, load
from cirbench.errors import CorruptFile, MissingData, UnknownName
from tests.annotation_files import read, write, write_fashioniq, write_pli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CAPTIONS = "fashioniq/captions/cap.shirt.val.json"
SPLIT = "fashioniq/image_splits/split.shirt.val.json"


def test_each_category_ranks_its_own_split(tmp_path: Path) -> None:
    protocol = load("val", tmp_path, write_fashioniq(tmp_path))
    assert protocol.pools is not None and protocol.pool_of_query is not None
    assert protocol.gallery is not None and protocol.labels is not None
    for category, pool in zip(CATEGORIES, protocol.pools, strict=True):
        assert list(pool) == read(tmp_path / f"fashioniq/image_splits/split.{category}.val.json")
    assert set(protocol.gallery.ids) == {name for pool in protocol.pools for name in pool}
    row = read(tmp_path / CAPTIONS)[4]
    place = [query.id for query in protocol.queries].index("shirt-4")
    query = protocol.queries[place]
    assert (query.reference.id, query.captions, query.category) == (row["candidate"], tuple(row["captions"]), "shirt")
    assert query.captions[1] == ""
    assert protocol.labels.relevant[place] == (row["target"],)
    assert protocol.pool_of_query[place] == 1
    assert not protocol.exclude_reference
    assert [str(each) for each in protocol.measures] == [f"Recall@{k} per category and macro mean" for k in (10, 50)]


def test_the_union_gallery_holds_references_and_targets_only_and_needs_no_split(tmp_path: Path) -> None:
    expected = write_fashioniq(tmp_path)
    whole = load("val", tmp_path, expected)
    for path in (tmp_path / "fashioniq/image_splits").iterdir():
        path.unlink()
    union = load("val-union", tmp_path, expected)
    rows = read(tmp_path / CAPTIONS)
    assert union.pools is not None
    assert set(union.pools[1]) == {name for row in rows for name in (row["candidate"], row["target"])}
    assert [query.id for query in union.queries] == [query.id for query in whole.queries]
    assert union.digest != whole.digest


@pytest.mark.parametrize("variant", ["val", "val-union"])
def test_the_reference_is_removed_where_the_protocol_says_so_and_nothing_else_differs(
    tmp_path: Path, variant: str
) -> None:
    expected = write_fashioniq(tmp_path)
    kept, dropped = load(variant, tmp_path, expected), load(f"{variant}-drop-reference", tmp_path, expected)
    assert (kept.exclude_reference, dropped.exclude_reference) == (False, True)
    differing = {name for name in kept.fields if kept.fields[name] != dropped.fields[name]}
    assert differing == {"id", "exclude_reference"}


def test_pli_asks_each_pair_in_both_orders_with_words_for_marks_and_without_the_reference(tmp_path: Path) -> None:
    protocol = fashioniq.load_pli(tmp_path, write_pli(tmp_path))
    assert protocol.exclude_reference
    assert len(protocol.queries) == 3 * 10
    first, second = protocol.queries[:2]
    assert first.captions == ("is it redquestionmark and has a starmarkbigstarmark logo andmark nodotmark 0",)
    assert second.captions == ("has a starmarkbigstarmark logo andmark nodotmark 0 and is it redquestionmark",)
    assert first.reference.id == second.reference.id == "Bdress0"
    assert protocol.labels is not None and protocol.labels.relevant[:2] == (("Bdress1",), ("Bdress1",))
    assert protocol.clusters is not None and protocol.clusters[0] == protocol.clusters[1] != protocol.clusters[2]


def test_a_caption_of_the_pair_list_is_what_follows_the_last_semicolon(tmp_path: Path) -> None:
    expected = write_pli(tmp_path)
    path = tmp_path / fashioniq.PLI_FILE.format(category="toptee")
    path.write_text(path.read_text().replace("is it red? ", "a night;s watch shirt ", 1))
    captions = [
        query.captions for query in fashioniq.load_pli(tmp_path, expected).queries if query.category == "toptee"
    ]
    assert captions[0] == ("s watch shirt and has a starmarkbigstarmark logo andmark nodotmark 0",)


def test_lines_of_the_pair_list_end_at_line_feeds_only(tmp_path: Path) -> None:
    expected = write_pli(tmp_path)
    path = tmp_path / fashioniq.PLI_FILE.format(category="dress")
    path.write_bytes(path.read_text().replace("is it red? ", "is it\u2028red? ", 1).replace("\n", "\r\n").encode())
    protocol = fashioniq.load_pli(tmp_path, expected)
    assert protocol.queries[0].captions[0].startswith("is it\u2028redquestionmark and has")


def test_the_pair_list_of_pli_is_asked_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"captions_pairs/fashion_iq-val-cap-dress\.txt") as caught:
        fashioniq_protocol("val-pli", tmp_path)
    assert "FashionIQ did not publish this list" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dress/Bdress0.jpg;dress/Bdress1.jpg;is it red? \n", "", "its 9 lines are not two to a pair"),
        ("Bdress0.jpg;dress/Bdress1.jpg;is", "Bdress0.jpg;dress/Bdress2.jpg;is", "not of one pair at query 0"),
        ("Bdress1.jpg;is it red?", "Bdress1.jpg", "not reference;target;caption in line 1"),
        ("Bdress4.jpg;dress/Bdress5", "Bdress9.jpg;dress/Bdress5", "it holds 7 images, not 6"),
        ("dress/Bdress0.jpg", "dress/", "no image id in line 1 and 2|no image id in line 1, 2"),
    ],
)
def test_a_broken_pair_list_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    expected = write_pli(tmp_path)
    path = tmp_path / fashioniq.PLI_FILE.format(category="dress")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CorruptFile, match=message):
        fashioniq.load_pli(tmp_path, expected)


BROKEN: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "a query too few": (CAPTIONS, lambda rows: rows.pop(), "it holds 11 queries, not 12"),
    "one caption": (CAPTIONS, lambda rows: rows[2]["captions"].pop(), r"length 2.*\$\[2\]\.captions"),
    "two empty captions": (CAPTIONS, lambda rows: rows[2].update(captions=["", " "]), "both captions .* query 2"),
    "the reference as the target": (
        CAPTIONS,
        lambda rows: rows[2].update(candidate=rows[2]["target"]),
        "the reference is the target of query 2",
    ),
    "a repeated target": (
        CAPTIONS,
        lambda rows: rows[2].update(target=rows[3]["target"]),
        "it holds targets more than once: B00",
    ),
    "an image outside the split": (
        CAPTIONS,
        lambda rows: rows[2].update(candidate="B00NOWHERE"),
        "not in the split's list: B00NOWHERE of query 2",
    ),
    "no target": (CAPTIONS, lambda rows: rows[2].pop("target"), r"missing required field `target`.*\$\[2\]"),
    "an image too many": (SPLIT, lambda ids: ids.append("B00NEW"), "it holds 31 images, not 30"),
    "a repeated image": (SPLIT, lambda ids: ids.__setitem__(0, ids[1]), "it holds images more than once: B00"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_file_is_refused_with_what_differs(tmp_path: Path, name: str) -> None:
    file, spoil, message = BROKEN[name]
    expected = write_fashioniq(tmp_path)
    content = read(tmp_path / file)
    spoil(content)
    write(tmp_path / file, content)
    with pytest.raises(CorruptFile, match=message) as caught:
        load("val", tmp_path, expected)
    assert str(tmp_path / file) in caught.value.message


def test_an_unknown_protocol_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no protocol of fashioniq called 'val-unoin'") as caught:
        fashioniq_protocol("val-unoin", tmp_path)
    assert "val-union" in str(caught.value.hint)


def test_the_real_files_have_the_published_counts(annotation_root: Path) -> None:
    if not (annotation_root / "fashioniq").is_dir():
        pytest.skip(f"{annotation_root} has no fashioniq")
    for variant, sizes in (("val", (3817, 6346, 5373)), ("val-union", (2628, 3089, 2902))):
        protocol = fashioniq_protocol(variant, annotation_root)
        assert protocol.pools is not None and protocol.pool_of_query is not None
        assert tuple(map(len, protocol.pools)) == sizes
        assert [protocol.pool_of_query.count(place) for place in range(3)] == [2017, 2038, 1961]
    assert [EXPECTED[category][fashioniq.IMAGES] for category in CATEGORIES] == [3817, 6346, 5373]
