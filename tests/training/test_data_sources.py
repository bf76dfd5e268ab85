"""Every form in which image-text data comes is opened by its name, and told when something is missing."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from cirbench.benchmarks.scenes import training_pairs
from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.training.data import Batches, Pair, open_source
from cirbench.training.data.shards import expand
from tests.benchmarks.files.server import serving
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def picture(grey: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (grey,) * 3).save(file, kind)
    return file.getvalue()


def write_files(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def tar_of(files: Mapping[str, bytes | str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as file:
        for name, value in files.items():
            member = tarfile.TarInfo(name)
            data = value if isinstance(value, bytes) else value.encode()
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return content.getvalue()


THREE = tar_of({"a.txt": "one", "b.txt": "two", "c.txt": "three"})


def grey(sample: Pair) -> int | None:
    return None if sample.image is None else int(np.asarray(sample.image.open())[0, 0, 0])


def held(data: object, captions: object | None = None) -> list[tuple[int | None, str | None]]:
    source = open_source(str(data), None if captions is None else str(captions))
    return [(grey(sample), sample.caption) for sample in source.pairs]


def test_the_scenes_are_those_that_the_bundled_backbone_was_trained_on() -> None:
    assert open_source("scenes").digest == "f7d7ba9ec8a401208794ab6c9e1a6ae1aa8b58026751455dd7ba0ac88b0e6b95"
    assert open_source("scenes:5").pairs[4].caption == training_pairs(5)[4].caption


def test_a_list_may_hold_images_alone_or_texts_alone(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": picture(1), "images.csv": "image\na.png\n", "images.lst": "a.png\n\n"})
    write_files(tmp_path, {"texts.jsonl": '{"text": "red"}\n\n{"text": "blue"}\n', "texts.txt": "red\n\n blue \n"})
    assert held(tmp_path / "images.csv") == held(tmp_path / "images.lst") == [(1, None)]
    assert held(tmp_path / "texts.jsonl") == held(tmp_path / "texts.txt") == [(None, "red"), (None, "blue")]


def test_a_folder_of_images_is_all_images_below_it_in_the_order_of_their_paths(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"b/2.png": picture(2), "a.JPG": picture(9), "b/1.webp": picture(1, "WEBP"), "notes.txt": "x"}
    )
    assert held(f"{tmp_path}/") == [(9, None), (1, None), (2, None)]


def test_captions_lie_in_a_folder_nested_or_flat(tmp_path: Path) -> None:
    write_files(tmp_path / "images", {"n01/1.png": picture(1), "n02/2.png": picture(2)})
    write_files(tmp_path / "captions", {"n01/1.txt": "one\n", "2.txt": " two \n words\n", "more.txt": "x"})
    assert held(tmp_path / "images", tmp_path / "captions") == [(1, "one"), (2, "two words")]


def test_captions_stand_in_a_list_whose_paths_lie_in_the_folder_of_images(tmp_path: Path) -> None:
    write_files(tmp_path / "images", {"n01/1.png": picture(1)})
    write_files(tmp_path, {"one.csv": "caption,image\none,n01/1.png\n"})
    write_files(tmp_path, {"one.jsonl": '{"image": "n01/1.png", "caption": "one"}\n'})
    assert held(tmp_path / "images", tmp_path / "one.csv") == [(1, "one")]
    assert held(tmp_path / "images", tmp_path / "one.jsonl") == [(1, "one")]


COCO = {
    "info": {},
    "images": [{"id": 7, "file_name": "7.png"}, {"id": 8, "file_name": "8.png"}],
    "annotations": [
        {"id": 1, "image_id": 8, "caption": "eight"},
        {"id": 2, "image_id": 7, "caption": "seven"},
        {"id": 3, "image_id": 8, "caption": "eight again"},
    ],
}


def test_a_captions_file_of_coco_gives_a_pair_for_each_caption(tmp_path: Path) -> None:
    write_files(tmp_path, {"val/7.png": picture(7), "val/8.png": picture(8), "captions.json": json.dumps(COCO)})
    pairs = [(8, "eight"), (7, "seven"), (8, "eight again")]
    assert held(tmp_path / "val", tmp_path / "captions.json") == pairs


def shards(folder: Path) -> str:
    first: dict[str, bytes | str] = {
        "a.png": picture(1),
        "a.txt": "one",
        "a.cls": "3",
        "b.json": '{"caption": "two"}',
        "b.webp": picture(2),
    }
    second: dict[str, bytes | str] = {
        "x/c.d.jpg": "no",
        "x/c.jpg": picture(3, "PNG"),
        "x/c.json": '{"text": "no"}',
        "x/c.txt": "three\n",
    }
    write_files(folder, {"part-09.tar": tar_of(first), "part-10.tar": tar_of(second)})
    return f"{folder}/part-{{09..10}}.tar"


PAIRS = [(1, "one"), (2, "two"), (3, "three")]


def test_webdataset_shards_are_read_in_any_order(tmp_path: Path) -> None:
    source = open_source(shards(tmp_path))
    assert [(grey(sample), sample.caption) for sample in source.pairs] == PAIRS
    assert grey(source.pairs[2]) == 3
    assert str(source.pairs[2].image) == f"x/c.jpg in {tmp_path}/part-10.tar"
    assert pickle.loads(pickle.dumps(source.pairs[1])).caption == "two"


def test_shards_are_looked_into_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = shards(tmp_path)
    before = open_source(pattern)
    monkeypatch.setattr(tarfile, "open", None)
    assert open_source(pattern).digest == before.digest


def test_shards_on_a_server_are_fetched_once_and_said_to_be(tmp_path: Path) -> None:
    shards(tmp_path)
    said: list[str] = []
    with serving() as server:
        server.files = {f"/{path.name}": path.read_bytes() for path in tmp_path.glob("*.tar")}
        pattern = f"{server.url}/part-{{09..10}}.tar"
        first, second = (open_source(pattern, say=said.append) for _ in range(2))
    assert [(grey(sample), sample.caption) for sample in second.pairs] == PAIRS
    assert first.digest == second.digest
    assert len(server.requests) == 2
    assert said[0].startswith("Fetching 2 of 2 shards into ")
    assert not any(line.startswith("Fetching") for line in said[1:])


def test_a_shard_that_the_server_does_not_have_is_named() -> None:
    with (
        serving() as server,
        pytest.raises(MissingData, match=r"/part-1.tar cannot be fetched: the server answers 404"),
    ):
        open_source(f"{server.url}/part-1.tar")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", "a.tar"),
        ("{08..11}.tar", "08.tar 09.tar 10.tar 11.tar"),
        ("{x,yz}-{0..1}.tar", "x-0.tar x-1.tar yz-0.tar yz-1.tar"),
    ],
)
def test_braces_are_written_out_as_shells_do(pattern: str, names: str) -> None:
    assert expand(pattern) == tuple(names.split())


def test_a_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(UsageError, match=r"The range \{9..3\} of s\{9..3\}.tar runs backwards"):
        expand("s{9..3}.tar")


names = some.text("abc", min_size=1, max_size=3)
suffixes = some.sampled_from(["png", "PNG", "txt", "json", "cls", "jpg"])


@pytest.mark.slow
@given(some.dictionaries(some.tuples(names, suffixes), some.binary(max_size=600), min_size=1, max_size=12))
def test_every_member_of_a_shard_is_found_where_it_lies(
    tmp_path_factory: pytest.TempPathFactory, members: dict[tuple[str, str], bytes]
) -> None:
    from cirbench.training.data.shards import index

    path = tmp_path_factory.mktemp("shard") / "one.tar"
    path.write_bytes(tar_of({f"{name}.{suffix}": content for (name, suffix), content in members.items()}))
    wanted = {key: content for key, content in members.items() if key[1] != "cls"}
    if not wanted:
        with pytest.raises(MissingData, match="holds no samples"):
            index(path)
        return
    found = index(path)
    assert set(found.names) == {name for name, _ in wanted}
    for entry in map(found.entry, range(len(found))):
        own = {suffix.lower(): content for (name, suffix), content in wanted.items() if name == entry.name}
        pictures = {suffix: content for suffix, content in own.items() if suffix in ("png", "jpg")}
        if entry.image is not None:
            assert entry.image.read(path) in [
                c for (n, s), c in wanted.items() if n == entry.name and s.lower() == entry.image.suffix
            ]
        assert (entry.image is None) == (not pictures)
        if entry.text is not None:
            assert entry.text.suffix == ("txt" if "txt" in own else "json")
            assert entry.text.read(path) == own[entry.text.suffix]
        assert (entry.text is None) == (not {"txt", "json"} & own.keys())


def test_the_digest_follows_names_and_content(tmp_path: Path) -> None:
    write_files(tmp_path / "images", {"1.png": picture(1), "2.png": picture(2)})
    write_files(tmp_path / "captions", {"1.txt": "one", "2.txt": "two"})

    def digest() -> str:
        return open_source(str(tmp_path / "images"), str(tmp_path / "captions")).digest

    digests = [digest()]
    write_files(tmp_path / "captions", {"2.txt": "deux"})
    digests.append(digest())
    (tmp_path / "images" / "2.png").rename(tmp_path / "images" / "3.png")
    (tmp_path / "captions" / "2.txt").rename(tmp_path / "captions" / "3.txt")
    digests.append(digest())
    assert len(set(digests)) == 3


BAD: list[tuple[Mapping[str, bytes | str], str, str | None, type[CirbenchError], str]] = [
    ({}, "absent/folder", None, MissingData, "The folder .*absent/folder does not exist"),
    ({"empty/notes.md": ""}, "empty", None, MissingData, "empty holds no images"),
    ({"i/1.png": picture(1), "c/2.txt": "x"}, "i", "c", MissingData, "c holds no caption of an image in .*i"),
    (
        {"i/a/1.png": "", "i/b/1.png": "", "c/1.txt": "x"},
        "i",
        "c",
        CorruptFile,
        "1.txt would be the caption of both a/1",
    ),
    ({"i/1.png": ""}, "i", "nothing", UsageError, "nothing holds no captions of images"),
    ({"i/1.png": "", "c.csv": "image\n1.png\n"}, "i", "c.csv", UsageError, "holds no pairs"),
    ({"i/1.png": "", "c.csv": ""}, "c.csv", "i", UsageError, "--captions goes with a folder of images"),
    ({"c.json": json.dumps(COCO)}, "c.json", None, UsageError, "needs the folder of its images"),
    (
        {"i/7.png": "", "c.json": "{}"},
        "i",
        "c.json",
        CorruptFile,
        "is not a captions file of COCO: .*missing .*`images`",
    ),
    (
        {"i/7.png": "", "c.json": json.dumps(COCO | {"images": []})},
        "i",
        "c.json",
        CorruptFile,
        "for image 8, and no such",
    ),
    ({"empty.txt": "\n"}, "empty.txt", None, UsageError, "holds no samples"),
    ({"wrong.csv": "image,caption\nx.png,red\n"}, "wrong.csv", None, MissingData, "x.png does not exist"),
    ({}, "absent.tar", None, MissingData, "The shard .*absent.tar cannot be read: No such file"),
    ({"empty.tar": tar_of({})}, "empty.tar", None, MissingData, "The shard .*empty.tar holds no samples"),
    (
        {"half.tar": tar_of({"a.txt": "x" * 5000})[:3000]},
        "half.tar",
        None,
        CorruptFile,
        "half.tar is not a complete tar file",
    ),
    ({"cut.tar": THREE[:2048]}, "cut.tar", None, CorruptFile, "cut.tar is cut off: it ends at byte 2,048"),
    ({"cut.tar": THREE[:2148]}, "cut.tar", None, CorruptFile, "cut.tar is cut off: it ends at byte 2,148"),
    (
        {"flipped.tar": THREE[:1024] + b"\xff" + THREE[1025:]},
        "flipped.tar",
        None,
        CorruptFile,
        "flipped.tar is damaged: at byte 1,024 there is neither a member nor the end",
    ),
    (
        {"joined.tar": THREE + tar_of({"d.txt": "four"})},
        "joined.tar",
        None,
        CorruptFile,
        "joined.tar goes on after its end at byte 3,072",
    ),
    ({"no.tar": "words"}, "no.tar", None, CorruptFile, "no.tar is not a complete tar file"),
]


@pytest.mark.parametrize(("files", "data", "captions", "error", "message"), BAD)
def test_what_is_wrong_with_the_data_is_said(
    tmp_path: Path,
    files: Mapping[str, bytes | str],
    data: str,
    captions: str | None,
    error: type[CirbenchError],
    message: str,
) -> None:
    write_files(tmp_path, files)
    with pytest.raises(error, match=message):
        open_source(str(tmp_path / data), None if captions is None else str(tmp_path / captions))


def test_images_without_captions_are_counted_and_named_before_the_training_begins(tmp_path: Path) -> None:
    write_files(tmp_path / "i", {f"{number:02}.png": picture(number) for number in range(20)})
    write_files(tmp_path / "c", {f"{number:02}.txt": "x" for number in range(8)})
    source = open_source(f"{tmp_path}/i", f"{tmp_path}/c")
    with pytest.raises(
        MissingData, match=r"12 of 20 samples of .* have no caption: .*/08.png, .*/17.png and 2 more"
    ) as e:
        Batches(source, tiny_backbone(), 4, 0)
    assert e.value.hint == "Add what is missing, or leave them out: --skip-broken 12"
    order = Batches(source, tiny_backbone(), 20, 0, skip_broken=12)
    assert set(order[0].positions_B.tolist()) == set(range(8))
    assert order.skipped == set(range(8, 20))
    assert Batches(source, tiny_backbone(), 20, 0, "images")[0].captions == ()


def test_samples_of_shards_without_image_or_caption_are_counted_and_named(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"a.png": picture(1), "a.txt": "one", "b.txt": "two", "c.png": picture(3)}
    (tmp_path / "s.tar").write_bytes(tar_of(files))
    source = open_source(f"{tmp_path}/s.tar")
    with pytest.raises(MissingData, match=r"1 of 3 samples of .*s\.tar have no image: sample 2"):
        Batches(source, tiny_backbone(), 1, 0, "images")
    with pytest.raises(MissingData, match=r"1 of 3 samples of .*s\.tar have no caption: c\.png in .*s\.tar"):
        Batches(source, tiny_backbone(), 1, 0, "texts")


def test_a_caption_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_files(tmp_path, {"i/1.png": picture(1), "c/1.txt": b"\xff\xfe\xff", "i/2.png": picture(2), "c/2.txt": "x"})
    with pytest.raises(
        CorruptFile, match=r"Sample 1 of .* cannot be used: its caption cannot be read: .*1\.txt is not UTF-8"
    ):
        Batches(open_source(f"{tmp_path}/i", f"{tmp_path}/c"), tiny_backbone(), 2, 0)[0]
    (tmp_path / "s.tar").write_bytes(tar_of({"a.png": picture(1), "a.json": "{", "b.png": picture(1), "b.json": "{}"}))
    for position, why in ((1, r"its caption a\.json in .*s\.tar cannot be read"), (2, "it has no caption")):
        order = Batches(open_source(f"{tmp_path}/s.tar"), tiny_backbone(), 1, 0)
        step = next(step for step in range(2) if order.positions(step)[0] == position - 1)
        with pytest.raises(MissingData, match=f"Sample {position} of .* cannot be used: {why}"):
            order[step]


def test_no_more_samples_are_skipped_than_allowed(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{number}.png": "torn" if number in (1, 3) else picture(number) for number in range(5)})
    write_files(tmp_path, {"all.lst": "\n".join(f"{number}.png" for number in range(5))})
    source = open_source(f"{tmp_path}/all.lst")
    with pytest.raises(CorruptFile, match=r"Sample \d of .* cannot be used: .* 1 others were skipped before") as caught:
        Batches(source, tiny_backbone(), 5, 0, "images", skip_broken=1)[0]
    assert "with --skip-broken 10, up to 10 such samples are left out and counted." in str(caught.value.hint)
    order = Batches(source, tiny_backbone(), 5, 0, "images", skip_broken=2)
    assert sorted(order[0].positions_B.tolist()) == [0, 2, 2, 4, 4]
    assert order.skipped == {1, 3}


def opened(data: object, captions: object | None = None) -> tuple[list[tuple[int | None, str | None]], str]:
    """The samples, and everything that was said while they were looked for."""
    said: list[str] = []
    source = open_source(str(data), None if captions is None else str(captions), say=said.append)
    return [(grey(sample), sample.caption) for sample in source.pairs], "\n".join(said)


def test_members_whose_names_hold_dots_are_samples_under_all_before_the_last_dot(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(4):
        name = f"shoe_v1.{number}" if number % 2 else f"shoe_{number}"
        files |= {f"{name}.png": picture(number), f"{name}.txt": f"{number}"}
    (tmp_path / "s.tar").write_bytes(tar_of(files))
    assert opened(tmp_path / "s.tar") == ([(number, str(number)) for number in range(4)], "")


def test_members_of_a_shard_that_are_not_used_are_counted_by_suffix_with_an_example(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"a.png": picture(1), "a.txt": "one", "a.mask.png": picture(9), "b.mask.png": "x"}
    files |= {"b.png": picture(2), "b.txt": "two", "b.json": "{}", "a.cls": "3", "README": "x", ".hidden.png": "x"}
    (tmp_path / "s.tar").write_bytes(tar_of(files))
    found, said = opened(tmp_path / "s.tar")
    assert found == [(1, "one"), (2, "two")]
    for told in ("2 .mask.png (a.mask.png)", "1 .json (b.json)", "1 .cls (a.cls)", "1 files without a suffix (README)"):
        assert told in said
    assert "1 hidden files (.hidden.png)" in said


def test_compound_suffixes_that_keep_the_halves_of_a_sample_apart_are_told(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(3):
        files |= {f"{number}.input.png": picture(number), f"{number}.outputs.txt": "x"}
    (tmp_path / "s.tar").write_bytes(tar_of(files))
    found, said = opened(tmp_path / "s.tar")
    assert len(found) == 6
    assert "3 .input.png (0.input.png), 3 .outputs.txt (0.outputs.txt)" in said
    with pytest.raises(MissingData, match=r"3 of 6 samples of .* have no image"):
        Batches(open_source(f"{tmp_path}/s.tar"), tiny_backbone(), 1, 0)


def test_a_shard_without_samples_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(tar_of({"a.npy": "x", "b.npy": "x"}))
    with pytest.raises(MissingData, match=r"holds no samples") as raised:
        open_source(f"{tmp_path}/s.tar")
    assert str(raised.value.hint).startswith("It holds 2 .npy (a.npy).")


def test_images_in_every_format_are_found_in_shards_and_folders(tmp_path: Path) -> None:
    formats = {"a.jfif": "JPEG", "b.avif": "AVIF", "c.jp2": "JPEG2000", "d.TIFF": "TIFF", "e.bmp": "BMP"}
    files = {name: picture(9, kind) for name, kind in formats.items()}
    write_files(tmp_path / "i", {**files, "f": picture(9, "JPEG")})
    (tmp_path / "s.tar").write_bytes(tar_of(files))
    assert len(opened(tmp_path / "i")[0]) == 6
    assert len(opened(tmp_path / "s.tar")[0]) == 5


def test_files_of_a_folder_that_are_not_used_are_counted_and_named(tmp_path: Path) -> None:
    write_files(tmp_path, {"i/1.png": picture(1), "i/2.svg": "x", "c/1.txt": "one", "c/3.txt": "x"})
    assert opened(tmp_path / "i")[1] == (
        f"1 files are neither an image nor its caption, and are not used: {tmp_path}/i/2.svg."
    )
    assert f"{tmp_path}/c/3.txt, {tmp_path}/i/2.svg." in opened(tmp_path / "i", tmp_path / "c")[1]
    write_files(tmp_path / "both", {"1.png": picture(1), "1.txt": "one"})
    assert opened(tmp_path / "both", tmp_path / "both") == ([(1, "one")], "")


def test_what_a_list_holds_beside_images_and_captions_is_told(tmp_path: Path) -> None:
    write_files(tmp_path, {"1.png": picture(1), "l.csv": "id,image,caption,url\n7,1.png,one,x\n"})
    write_files(tmp_path, {"l.jsonl": '{"image": "1.png", "caption": "one", "url": "x"}\n'})
    assert opened(tmp_path / "l.csv")[1] == f"{tmp_path}/l.csv: not used: the column id, the column url."
    assert opened(tmp_path / "l.jsonl")[1] == f"{tmp_path}/l.jsonl: not used: the field url."
    images = [*COCO["images"], {"id": 9, "file_name": "9.png"}]
    write_files(tmp_path, {"7.png": picture(7), "8.png": picture(8), "c.json": json.dumps(COCO | {"images": images})})
    assert "not used: 1 of 3 images, which have no caption" in opened(tmp_path, tmp_path / "c.json")[1]


LISTS: dict[str, tuple[str, bytes | str, str]] = {
    "a caption with an unquoted comma": ("l.csv", "image,caption\n1.png,red, round\n", "line 2: it has 3 cells"),
    "a quote that never closes": (
        "l.csv",
        'image,caption\n1.png,"red\n2.png,blue\n',
        "line 2: a double quote opens here",
    ),
    "a quote closed in another row": (
        "l.csv",
        'image,caption\n"1.png,red\n2.png",blue\n',
        "line 2: the image '1.png,red",
    ),
    "two columns of captions": ("l.csv", "image,caption,text\n1.png,a,b\n", "line 1: it has both caption and text"),
    "two fields of captions": ("l.jsonl", '{"caption": "a", "text": "b"}\n', "line 1: it has both caption and text"),
    "a field twice": (
        "l.jsonl",
        '{"text": "a \\"text\\""}\n{"text": "a", "text": "b"}\n',
        "line 2: the field 'text' occurs twice",
    ),
    "no columns": ("l.csv", "", "l.csv is empty"),
    "UTF-16": ("l.csv", "image,caption\n1.png,red\n".encode("utf-16"), "looks like UTF-16"),
    "Latin-1 in CSV": ("l.csv", "caption\nred\nbr\xfbl\xe9\n".encode("latin-1"), "line 3: it is not UTF-8: byte 0xfb"),
    "Latin-1 in JSON lines": ("l.jsonl", '{"text": "br\xfbl\xe9"}\n'.encode("latin-1"), "line 1: it is not UTF-8"),
    "Latin-1 in texts": ("l.txt", "red\nbr\xfbl\xe9\n".encode("latin-1"), "line 2: it is not UTF-8"),
    "a pointer of git-lfs": ("l.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of git-lfs"),
    "a web page": ("l.txt", b"<!DOCTYPE html>\n<p>404", "is a web page"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_breaks_a_rule_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    file, content, told = LISTS[name]
    write_files(tmp_path, {file: content})
    with pytest.raises(CorruptFile) as raised:
        open_source(str(tmp_path / file))
    assert told in raised.value.message


def test_lines_of_lists_end_at_line_feeds_only(tmp_path: Path) -> None:
    odd = "red\u2028round\x0cshoe\x85"
    write_files(tmp_path, {"l.txt": f"{odd}x\r\nblue", "l.jsonl": json.dumps({"text": odd}, ensure_ascii=False)})
    write_files(tmp_path, {"l.csv": f"caption\n{odd}x\n"})
    assert held(tmp_path / "l.txt") == [(None, f"{odd}x"), (None, "blue")]
    assert held(tmp_path / "l.csv") == [(None, f"{odd}x")]
    assert held(tmp_path / "l.jsonl") == [(None, odd)]


def test_names_are_matched_however_their_letters_are_composed(tmp_path: Path) -> None:
    one, other = "caf\xe9", "cafe\u0301"
    for number, (table, disk) in enumerate([(one, other), (other, one)]):
        folder = write_files(tmp_path / str(number), {f"i/{disk}/{disk}.png": picture(1)})
        write_files(folder, {f"c/{table}/{table}.txt": "x", "l.csv": f"image,caption\ni/{table}/{table}.png,x\n"})
        members: dict[str, bytes | str] = {f"{disk}.png": picture(1), f"{table}.txt": "x"}
        (folder / "s.tar").write_bytes(tar_of(members))
        assert held(folder / "l.csv") == held(folder / "i", folder / "c") == held(folder / "s.tar") == [(1, "x")]


def test_a_caption_file_may_have_a_byte_order_mark_and_any_line_ends(tmp_path: Path) -> None:
    for number, words in enumerate(("\ufeffred shoe", "red\rshoe\r", "red\r\n shoe\r\n")):
        folder = write_files(tmp_path / str(number), {"i/a.png": picture(1), "c/a.txt": words})
        (folder / "s.tar").write_bytes(tar_of({"a.png": picture(1), "a.txt": words}))
        assert held(folder / "i", folder / "c") == held(folder / "s.tar") == [(1, "red shoe")]


def test_a_source_of_broken_samples_alone_ends_in_an_error(tmp_path: Path) -> None:
    write_files(tmp_path, {"0.png": "torn", "1.png": "torn", "all.lst": "0.png\n1.png\n"})
    with pytest.raises(CorruptFile, match="cannot be used"):
        Batches(open_source(f"{tmp_path}/all.lst"), tiny_backbone(), 2, 0, "images", skip_broken=9)[0]
