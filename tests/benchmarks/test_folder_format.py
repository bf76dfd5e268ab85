"""What ``dataset.toml`` may say of a folder, what follows from it, and every way to go wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from cirbench import cli
from cirbench.benchmarks import choose_protocol, find_dataset, load_protocol
from cirbench.errors import CirbenchError, MissingData, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol

TABLE = """query_id,reference,text,targets,category,note
q1,cup/a,in blue,cup/b,cup,
q2,cup/b,in red,cup/a,cup,blurred
q3,pot/c,open,pot/d,pot,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the images cup/a, cup/b, cup/e, pot/c and pot/d, and a table with two columns of its own."""
    root = tmp_path / "mine"
    for place, name in enumerate(("cup/a", "cup/b", "cup/e", "pot/c", "pot/d")):
        path = root / "gallery" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * place, 0, 0)).save(path)
    (root / "queries.csv").write_text(TABLE)
    return root


def load(folder: Path, toml: str = "", split: str | None = None) -> EvaluationProtocol:
    if toml:
        (folder / "dataset.toml").write_text(toml)
    return load_protocol(choose_protocol(str(folder), split=split).address)


def test_columns_of_ones_own_are_kept_and_a_query_without_a_value_has_none(folder: Path) -> None:
    protocol = load(folder)
    assert protocol.id == "own/mine"
    assert protocol.slices == {"category": (("cup",), ("cup",), ("pot",)), "note": ((), ("blurred",), ())}
    assert [str(measure) for measure in protocol.measures] == [f"Recall@{k}" for k in (1, 5, 10, 50)]
    (folder / "queries.csv").unlink()
    (folder / "queries.jsonl").write_text(
        '{"query_id": 1, "reference": "cup/a", "text": "x", "targets": ["cup/b"], "year": 1999, "note": null}\n'
    )
    assert load(folder).slices == {"year": (("1999",),)}


def test_title_licence_and_citation_are_those_of_the_file(folder: Path) -> None:
    protocol = load(folder, 'title = "Cups"\nlicence = "CC BY 4.0"\ncitation = "Me, 2026"\nkeep_reference = true\n')
    assert (protocol.title, protocol.licence, protocol.exclude_reference) == ("Cups", "CC BY 4.0", False)
    benchmark = find_dataset(str(folder))
    assert (benchmark.title, benchmark.licence, benchmark.citation) == ("Cups", "CC BY 4.0", "Me, 2026")


def test_measures_are_those_that_are_asked_for(folder: Path) -> None:
    protocol = load(folder, 'measures = ["Recall@2", "MRR", "nDCG@5 by category"]\n')
    assert [str(each) for each in protocol.measures] == ["Recall@2", "MRR", "nDCG@5 per category and macro mean"]


def test_each_category_may_rank_its_own_part_of_the_gallery(folder: Path) -> None:
    protocol = load(folder, 'gallery_by = "category"\n')
    assert protocol.pools == (("cup/a", "cup/b", "cup/e"), ("pot/c", "pot/d"))
    assert protocol.pool_of_query == (0, 0, 1)


def test_each_query_may_rank_candidates_of_its_own(folder: Path) -> None:
    (folder / "queries.csv").write_text(
        "query_id,reference,text,targets,candidates\nq1,cup/a,x,cup/b,cup/b|cup/e\nq2,cup/b,x,pot/c,pot/c|pot/d.png\n"
    )
    protocol = load(folder)
    assert (protocol.pools, protocol.pool_of_query) == ((("cup/b", "cup/e"), ("pot/c", "pot/d")), (0, 1))


def test_a_folder_may_have_several_splits_each_with_its_own_table_and_gallery(folder: Path) -> None:
    (folder / "queries.csv").rename(folder / "val.csv")
    (folder / "test.tsv").write_text("query_id\treference\ttext\ttargets\nq1\tx\twider\ty\n")
    for name in ("x", "y"):
        (folder / "unseen").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / "unseen" / f"{name}.png")
    toml = 'title = "Cups"\n[splits.val]\nqueries = "val.csv"\n'
    toml += '[splits.test]\nqueries = "test.tsv"\ngallery = "unseen"\nhidden_labels = true\n'
    val, test = load(folder, toml), load(folder, split="test")
    assert (val.id, test.id, val.title) == ("own/mine/val", "own/mine/test", "Cups, val")
    assert val.labels is not None and test.labels is None
    assert test.gallery is not None and test.gallery.ids == ("x", "y")
    benchmark = find_dataset(str(folder))
    assert [(each.split, each.labelled) for each in benchmark.protocols] == [("val", True), ("test", False)]
    assert cli.execute(["data", "check", str(folder)]) == 0
    with pytest.raises(UnknownName, match=r"no split of .*mine called 'dev'"):
        load(folder, split="dev")


def test_the_digest_of_a_folder_without_the_file_does_not_depend_on_where_defaults_are_said(folder: Path) -> None:
    plain = load(folder)
    assert load(folder, 'licence = "your own"\nkeep_reference = false\n').digest == plain.digest


@pytest.mark.parametrize(
    ("toml", "why"),
    [
        ("title =", "dataset.toml: it is not TOML"),
        ('titel = "x"', r"the key 'titel' means nothing here\.\nNearest: title\."),
        ('colour = "x"', r"the key 'colour' means nothing here\.\nKeys are title, licence, citation"),
        ("title = 5", "title is 5, and must be a text in quotes"),
        ('title = " "', "title is empty"),
        ('keep_reference = "yes"', "keep_reference is 'yes', and must be true or false"),
        ('measures = "Recall@1"', "measures is 'Recall@1', and must be a list of texts"),
        ("measures = []", "measures is empty"),
        ("measures = [1]", "measures holds 1, and must be a list of texts"),
        ('measures = ["Recal@1"]', r"measures: There is no metric called 'Recal'\.\nNearest: Recall"),
        ('measures = ["Recall"]', "measures: 'Recall' is not a metric at a cut-off"),
        ('measures = ["Recall@x"]', "measures: 'Recall@x' has no cut-off"),
        ('measures = ["MedR"]', "measures: MedR is a median"),
        ('measures = ["Recall_soft@5"]', "measures: Recall_soft needs soft labels"),
        (
            'measures = ["Recall@1 by colour"]',
            r"'colour' is not a column of the table\.\nColumns with labels: category, note",
        ),
        ('measures = ["Recall_subset@1"]', "Recall_subset@1 needs a column group"),
        ('gallery = "../x"', "gallery is '../x', which leaves the folder"),
        ('gallery = "pictures"', "holds no folder pictures, which dataset.toml names"),
        ('gallery_by = "colour"', "line 2: gallery_by needs a column colour, and it is empty or absent"),
        ('gallery_by = "note"', "line 2: gallery_by needs a column note"),
        ('queries = "absent.csv"', "holds no absent.csv, which dataset.toml names"),
        ('queries = "gallery/cup/a.png"', "a.png is not a table"),
        ("splits = 5", "splits is 5, and must be a table of splits"),
        ("[splits]\nval = 5", "splits.val: it is not a table"),
        ("[splits.val]\n", "splits.val: it does not say its table of queries"),
        ('[splits.val]\nquerys = "x.csv"', r"splits.val: the key 'querys' means nothing here\.\nNearest: queries\."),
        ('[splits.Val]\nqueries = "queries.csv"', "'Val' cannot be the name of a split"),
        ('queries = "a.csv"\n[splits.val]\nqueries = "queries.csv"', "queries is said at the top and by splits"),
        ('default_split = "dev"', "default_split is 'dev', and there is no such split"),
    ],
)
def test_what_the_file_must_not_say_is_refused_with_the_key_and_the_reason(folder: Path, toml: str, why: str) -> None:
    with pytest.raises(CirbenchError, match=why):
        load(folder, toml)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (
            "query_id,reference,text,candidates,targets\nq,cup/a,x,cup/b,cup/e\n",
            "the target cup/e is not among the cand",
        ),
        (
            "query_id,reference,text,target\nq,cup/a,x,cup/b\n",
            r"the column 'target' means nothing here\.\nNearest: targets",
        ),
        (",query_id,reference,text\n0,q,cup/a,x\n", r"the column '' cannot be asked for by its name"),
        ("query_id,reference,text\n1.0,cup/a,x\n", "the query id is '1.0', which is how pandas writes a whole number"),
        ("query_id,reference,text\n1,cup/a,nan\n", "text is 'nan', which is how pandas writes a missing value"),
        ("query_id,reference,text,targets\n1,cup/a,x,NaN\n", "targets is 'NaN', which is how pandas writes a missing"),
    ],
)
def test_what_a_table_must_not_hold_is_refused_with_the_reason(folder: Path, table: str, why: str) -> None:
    (folder / "queries.csv").write_text(table)
    with pytest.raises(CirbenchError, match=why):
        load(folder)


def test_whole_numbers_that_pandas_has_made_fractions_are_known_by_the_image(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "gallery" / "7.png")
    (folder / "queries.csv").write_text("query_id,reference,text\nq,7.0,x\n")
    with pytest.raises(CirbenchError, match=r"reference names '7.0'.*\nIt is how pandas writes the whole number 7"):
        load(folder)


@pytest.mark.parametrize(("sign", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_table_with_another_separator_is_read_and_that_is_said(
    folder: Path, sign: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = load(folder)
    (folder / "queries.csv").write_text("\ufeff" + TABLE.replace(",", sign).replace("\n", "\r\n"), encoding="utf-8")
    assert load(folder).digest == plain.digest
    assert f"its columns are separated by {word}" in capsys.readouterr().err
    (folder / "queries.csv").rename(folder / "queries.tsv")
    assert load(folder).digest == plain.digest


def test_two_tables_without_the_file_are_refused(folder: Path) -> None:
    (folder / "queries.tsv").write_text(TABLE.replace(",", "\t"))
    with pytest.raises(CirbenchError, match=r"holds queries\.csv and queries\.tsv"):
        load(folder)
    (folder / "queries.csv").unlink()
    (folder / "queries.tsv").unlink()
    with pytest.raises(MissingData, match=r"holds no queries\.csv, queries\.tsv or queries\.jsonl"):
        load(folder)
