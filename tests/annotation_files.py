"""Small annotation files in the formats of FashionIQ, CIRR, GeneCIS, domain conversion and COCO, made from a seed."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from cirbench.benchmarks import (
    circled,
    cirr,
    coco_composition,
    fashioniq,
    freedom,
    genecis,
    icir,
    imagenet_r,
    lasco,
    patterncom,
    relabelled,
    repacked,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cirbench.benchmarks.annotation_files import Expected

Rows = list[dict[str, Any]]


def write(path: Path, content: object) -> Path:
    """Write JSON, or lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text())


def write_fashioniq(root: Path, *, queries: int = 12, images: int = 30) -> dict[str, Expected]:
    """Write three categories that share some images; return what they count up to."""
    draw = random.Random(1)
    shared = [f"B00SHARED{number}" for number in range(3)]
    expected: dict[str, Expected] = {}
    for category in fashioniq.CATEGORIES:
        ids = shared + [f"B00{category.upper()}{number:03d}" for number in range(images - len(shared))]
        draw.shuffle(ids)
        rows = []
        for number, target in enumerate(draw.sample(ids, queries)):
            candidate = draw.choice([name for name in ids if name != target])
            captions = [f"is {number} shades brighter", "" if number == 4 else "has no sleeves."]
            rows.append({"candidate": candidate, "target": target, "captions": captions})
        write(root / f"fashioniq/captions/cap.{category}.val.json", rows)
        write(root / f"fashioniq/image_splits/split.{category}.val.json", ids)
        union = {name for row in rows for name in (row["candidate"], row["target"])}
        expected[category] = {fashioniq.QUERIES: queries, fashioniq.IMAGES: images, fashioniq.UNION: len(union)}
    return expected


def write_pli(root: Path, *, pairs: int = 5) -> dict[str, Expected]:
    """Write lists of pairs, two lines each; return what they count up to."""
    expected: dict[str, Expected] = {}
    for category in fashioniq.CATEGORIES:
        lines = []
        for number in range(pairs):
            pair = f"{category}/B{category}{number}.jpg;{category}/B{category}{number + 1}.jpg"
            lines += [f"{pair};is it red? ", f"{pair};has a *big* logo & no. {number} "]
        write(root / fashioniq.PLI_FILE.format(category=category), "\n".join(lines) + "\n")
        expected[category] = {fashioniq.QUERIES: 2 * pairs, fashioniq.IMAGES: pairs + 1}
    return expected


def write_cirr(root: Path, *, split: str = "val", groups: int = 5, queries: int = 20) -> Expected:
    """Write a split whose soft labels hold every published value; return what it counts up to."""
    draw = random.Random(2)
    ids = [f"dev-{number}-0-img{number % 2}" for number in range(6 * groups)]
    write(root / f"cirr/image_splits/split.rc2.{split}.json", {name: f"./dev/{name}.png" for name in ids})
    rows: Rows = []
    for number in range(queries):
        group = number % groups
        members = ids[6 * group : 6 * group + 6]
        reference, target, other, third = draw.sample(members, 4)
        soft = {target: 1.0, other: -1.0, third: 0.5}
        if number == 3:
            soft = {
                reference: 1.0,
                other: 0.2,
            }  # the hard target is not among the soft ones, as in 37 published queries
        row = {
            "pairid": 100 + 3 * number,
            "reference": reference,
            "caption": f"show {number} of them",
            "img_set": {"id": group, "members": members, "reference_rank": 0},
        }
        if split == "val":
            row |= {"target_hard": target, "target_soft": soft}
        rows.append(row)
    write(root / f"cirr/captions/cap.rc2.{split}.json", rows)
    labels = Counter(value for row in rows for value in row.get("target_soft", {}).values())
    references = len({row["reference"] for row in rows})
    expected = {cirr.QUERIES: queries, cirr.IMAGES: len(ids), cirr.GROUPS: groups, cirr.REFERENCES: references}
    return expected | {f"soft labels {label:g}": count for label, count in labels.items()}


def write_genecis(root: Path, *, queries: int = 9, candidates: int = 6) -> dict[str, Expected]:
    """Write the four tasks; in one query the target stands in the gallery as well."""
    draw = random.Random(3)
    expected: dict[str, Expected] = {}
    for task in genecis.TASKS:

        def shown(number: int, task: str = task) -> dict[str, Any]:
            if task.endswith("object"):
                return {"val_image_id": 1000 + number}
            return {"image_id": 2000 + number % 7, "instance_bbox": [number, 5.5, 10 + number, 20]}

        rows: Rows = []
        for number in range(queries):
            reference, target, *others = draw.sample(range(40), candidates + 1)
            gallery = [shown(each) for each in others]
            if number == 2:
                gallery[1] = shown(target)
            row = {"reference": shown(reference), "target": shown(target), "gallery": gallery}
            rows.append(row | {"condition": f"thing {number % 4}"})
        write(root / f"genecis/{task.replace('-', '_')}.json", rows)
        every = [each for row in rows for each in (row["reference"], row["target"], *row["gallery"])]
        images = len({each.get("val_image_id", each.get("image_id")) for each in every})
        expected[task] = {genecis.QUERIES: queries, genecis.IMAGES: images, genecis.CONDITIONS: 4}
    return expected


def write_imagenet_r(root: Path) -> Expected:
    """Write three classes: one has no origami, one has twelve cartoons."""
    photographs = [
        f"imgnet/real/n0{label}/ILSVRC2012_val_{label}{number}.JPEG {label}"
        for label in range(3)
        for number in range(4)
    ]
    targets = [line.replace(f" {line[-1]}", f" {6000 + int(line[-1])}") for line in photographs]
    counts = Counter({imagenet_r.PHOTOGRAPHS: len(photographs)})
    for label in range(3):
        for place, domain in enumerate(imagenet_r.DOMAINS):
            number = 12 if (label, place) == (1, 0) else 0 if (label, place) == (2, 1) else 2
            counts[place] += number
            targets += [
                f"imgnet/imagenet-r/n0{label}/{domain}_{each}.jpg {1000 * place + label}" for each in range(number)
            ]
    random.Random(4).shuffle(targets)
    write(root / "imagenet-r/imgnet_real_query.txt", " \n".join(photographs) + " \n")
    write(root / "imagenet-r/imgnet_targets.txt", " \n".join(targets) + " \n")
    expected = {imagenet_r.QUERIES: len(photographs), imagenet_r.CLASSES: 3, imagenet_r.TARGETS: len(targets)}
    return expected | {imagenet_r.of_domain(place): count for place, count in counts.items()}


def write_coco(root: Path) -> Expected:
    """Write five images: one without an object, one whose only object is too large."""
    square = [2, 2, 6, 2, 6, 6, 2, 6]
    annotations = [
        {"id": 10, "image_id": 1, "category_id": 18, "bbox": [2, 2, 4, 4], "segmentation": [square]},
        {"id": 11, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "segmentation": [square]},
        {"id": 12, "image_id": 1, "category_id": 44, "bbox": [0, 0, 9, 9], "segmentation": [square]},
        {"id": 13, "image_id": 2, "category_id": 1, "bbox": [2, 2, 4.7, 4.2], "segmentation": [square]},
        {"id": 14, "image_id": 3, "category_id": 1, "bbox": [0, 0, 10, 9], "segmentation": [square]},
        {
            "id": 15,
            "image_id": 5,
            "category_id": 44,
            "bbox": [1, 0, 1, 3],
            "iscrowd": 1,
            "segmentation": {"counts": [8, 3, 69], "size": [8, 10]},
        },
    ]
    images = [{"id": number, "width": 10, "height": 8, "file_name": f"{number:012d}.jpg"} for number in range(1, 6)]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 44, "name": "bottle"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write(root / "coco/annotations/instances_val2017.json", content)
    return {coco_composition.IMAGES: len(images), coco_composition.CLASSES: len(categories)}


def write_icir(root: Path) -> Expected:
    """Write three instances with two queries and ten images each; two or three are answers to a text."""
    queries, database = [], []
    for number in range(3):
        texts = ("at night", '"as a toy, in red"') if number == 0 else ("at night", "on a shirt")
        queries += [f"query/i{number}/{place}.jpg,{text},i{number}" for place, text in enumerate(texts)]
        answered = [texts[0]] * 3 + [texts[1]] * 2 + [""] * 5
        database += [f"database/i{number}/{place}.jpg,{text},i{number}" for place, text in enumerate(answered)]
    (root / "icir").mkdir(exist_ok=True)
    (root / "icir/query_files.csv").write_text("\n".join(queries) + "\n")
    (root / "icir/database_files.csv").write_text("\n".join(database) + "\n")
    return {icir.QUERIES: len(queries), icir.INSTANCES: 3}


def write_soft(root: Path, dataset: str) -> dict[str, Expected]:
    """Write a judge's targets for what `write_cirr` or `write_fashioniq` wrote; return what each file counts up to.

    The first query has no row, nor have two with the same reference and target. The second one's judge drops the
    annotated target, the third one's names the reference.
    """
    draw = random.Random(5)
    found: dict[str, Expected] = {}
    for part in ("cirr",) if dataset == "cirr" else fashioniq.CATEGORIES:
        if dataset == "cirr":
            gallery = [*read(root / "cirr/image_splits/split.rc2.val.json")]
            pairs = [(row["reference"], row["target_hard"]) for row in read(root / "cirr/captions/cap.rc2.val.json")]
        else:
            gallery = read(root / f"fashioniq/image_splits/split.{part}.val.json")
            captions = read(root / f"fashioniq/captions/cap.{part}.val.json")
            pairs = [(row["candidate"], row["target"]) for row in captions]
        rows: Rows = []
        for number, (reference, target) in enumerate(pairs):
            if number == 0 or pairs.count((reference, target)) > 1:
                continue
            others = draw.sample([name for name in gallery if name not in (reference, target)], number % 4 + 1)
            judged = {} if number == 1 else {target: 0.95}
            judged |= {name: 0.85 + 0.01 * place for place, name in enumerate(others)}
            judged |= {reference: 1.0} if number == 2 else {}
            row = {"reference_image_name": reference, "threshold": 0.85, "target_image_name": target}
            rows.append({**row, "relative_captions": "read nowhere", "confidence_scores": judged})
        write(root / relabelled.FILE.format(dataset=dataset, part=part), rows)
        found[part] = {
            relabelled.ROWS: len(rows),
            relabelled.TARGETS: sum(len(row["confidence_scores"]) for row in rows),
            relabelled.DROPPED: 1,
            relabelled.ITSELF: 1,
        }
    return found


def write_lasco(root: Path, *, images: int = 12) -> Expected:
    """Write queries from each image to the next, and one more with the number of the first."""
    paths = [f"val2014/COCO_val2014_{number:012d}.jpg" for number in range(images)]
    rows: Rows = [
        {
            "qid": 1000 + number % images,
            "query-image": [number % images, paths[number % images]],
            "query-text": f"there are {number} of them",
            "target-image": [(number + 1) % images, paths[(number + 1) % images]],
        }
        for number in range(images + 1)
    ]
    write(root / "lasco/lasco_val.json", rows)
    write(
        root / "lasco/lasco_val_corpus.json",
        [{"id": number, "path": f"val/{path}"} for number, path in enumerate(paths)],
    )
    return {lasco.QUERIES: len(rows), lasco.IMAGES: images}


def write_ltll(root: Path) -> dict[str, Expected]:
    """Write two places with two images of today and one or three of the archives."""
    images = [f"New/images/{place}/{number}.jpg New {place}" for place in ("Pettah", "TajMahal") for number in (1, 2)]
    images += [f"Old/images/{place}/{number}.jpg Old {place}" for place, number in (("Pettah", 1), ("TajMahal", 1))]
    images += [f"Old/images/TajMahal/Taj_Mahal_{number}.JPEG Old TajMahal" for number in (2, 3)]
    write(root / "ltll/full_files.csv", "".join(f"ltll/{line}\n" for line in images))
    counts = {freedom.of_domain("Today"): 4, freedom.of_domain("Archive"): 4}
    return {"full_files.csv": {freedom.IMAGES: 8, freedom.CLASSES: 2, **counts}}


def write_nico(root: Path, folder: str = "nico", domains: Sequence[str] = tuple(freedom.NICO_LISTS.words)) -> None:
    """Write two classes with a query and some images of the gallery in each domain; one of them has none there."""
    for file, images in (("query_files.csv", 1), ("database_files.csv", 3)):
        lines = [
            f"{folder}/{domain}/{kind}/{file[0]}_{number}.jpg {domain} {kind}\n"
            for nth, domain in enumerate(domains)
            for kind in ("bear", "hot_air_balloon")
            for number in range(0 if (file[0], nth, kind) == ("d", 1, "bear") else images + nth % 2)
        ]
        write(root / folder / file, "".join(lines))


def write_patterncom(root: Path) -> Expected:
    """Write six images of seven classes each, with values in every attribute; pairs of classes are judged as one."""
    classes = ("swimmingpool", "denseresidential", "sparseresidential", "harbor", "ferryterminal", "bridge", "overpass")
    images = [(f"{name}{number:03d}.jpg", name) for name in classes for number in range(6)]
    write(root / "patterncom/patternnet.csv", "".join(f"images/{name}/{image} x {name}\n" for image, name in images))
    draw = random.Random(6)
    for attribute in patterncom.ATTRIBUTES:
        rows = [f"{image},{attribute},{draw.choice(('one', 'two', 'three'))}" for image, _ in images[:-2]]
        rows += ["overpass004.jpg,quantity,one", "overpass004.jpg,quantity,two"] if attribute == "quantity" else []
        write(root / f"patterncom/PatternCom/{attribute}.csv", "".join(f"{row}\n" for row in rows))
    return {patterncom.IMAGES: len(images), patterncom.CLASSES: len(classes)}


def write_macir(root: Path) -> None:
    """Write eight references with three variants each, and one reference whose only variant is the target."""
    names = [name for number in range(10, 18) for name in (f"{number}.jpg", *(f"{number}_edit_{n}.png" for n in "012"))]
    names += ["20.jpg", "20_edit_0.png"]
    rows: Rows = []
    for number, (reference, target) in enumerate(
        (f"{name}_edit_0.png" if odd else f"{name}.jpg", f"{name}_edit_{1 + odd}.png")
        for name in range(10, 18)
        for odd in (0, 1)
    ):
        kinds = {
            "composition_type": ("color", "size", "action")[number % 3],
            "condition_type": ("add", "remove")[number % 2],
        }
        row = {"reference_image": reference, "target_image": target, "relative_caption": f"number {number}"}
        rows.append({**row, **kinds})
    alone = {"reference_image": "20.jpg", "target_image": "20_edit_0.png", "relative_caption": "alone"}
    rows.append({**alone, "composition_type": "size", "condition_type": "add"})
    folder = root / "macir/meta_data"
    write(folder / "macir_meta_full.json", rows)
    write(folder / "image_ids.json", names)
    for condition in ("add", "remove"):
        write(folder / f"macir_meta_{condition}.json", [row for row in rows if row["condition_type"] == condition])
        write(folder / f"image_ids_{condition}.json", names)


def write_mbeir(root: Path, task: str = "cirr", *, images: int = 9) -> Expected:
    """Write queries with one, two and three right images, the reference itself among those of one."""
    paths = [f"mbeir_images/{task}_images/dev/dev-{number}.jpg" for number in range(images)]
    pool = [{"did": f"7:{number}", "img_path": path, "txt": None} for number, path in enumerate(paths)]
    rows = [
        {
            "qid": f"7:{number + 1}",
            "query_txt": f"Show {number} of them.",
            "query_img_path": paths[number],
            "pos_cand_list": [f"7:{(number + 1 + place) % images}" for place in range(number % 3 + 1)],
        }
        for number in range(5)
    ]
    rows[4]["pos_cand_list"] = ["7:4", "7:8"]
    for file, content in (
        (f"query/test/mbeir_{task}_task7_test", rows),
        (f"cand_pool/local/mbeir_{task}_task7_cand_pool", pool),
    ):
        write(root / f"mbeir/{file}.jsonl", "".join(f"{json.dumps(row)}\n" for row in content))
    return {repacked.QUERIES: len(rows), repacked.IMAGES: images}


def write_mmeb(root: Path, task: str = "CIRR", columns: Mapping[str, list[Any]] | None = None) -> Expected:
    """Write three queries with five candidates each, one of them twice in a list; ``columns`` replace some."""
    from pyarrow import parquet, table

    paths = [f"{task}/Test/dev-{number}.jpg" for number in range(9)]
    content: dict[str, list[Any]] = {
        "qry_inst": ["<|image_1|> Find a similar image with the described changes:"] * 3,
        "qry_text": [f"Show {number} of them." for number in range(3)],
        "qry_img_path": paths[:3],
        "tgt_img_path": [paths[number + 1 : number + 5] + paths[number + 2 : number + 3] for number in range(3)],
    }
    (root / f"mmeb/{task}").mkdir(parents=True, exist_ok=True)
    parquet.write_table(table({**content, **(columns or {})}), root / f"mmeb/{task}/test-00000-of-00001.parquet")
    return {repacked.QUERIES: 3}


def write_circled(root: Path, dataset: str, subset: str, gallery: list[str], *, zeros: int = 0) -> Expected:
    """Write three sessions of two, three and two turns; return what they count up to."""
    draw = random.Random(6)
    sessions: Rows = []
    for number, turns in enumerate((2, 3, 2)):
        answer, *references = draw.sample(gallery, turns + 1)
        rows = [
            {"turn": turn, "reference_image_id": name.zfill(zeros), "relative_caption": f"turn {turn} of {number}"}
            for turn, name in enumerate(references, start=1)
        ]
        session = {"session_id": f"{subset}_{number:04d}", "subset": subset, "ground_truth_ids": [answer.zfill(zeros)]}
        sessions.append({**session, "num_turns": turns, "turns": rows})
    write(root / f"{dataset}/circled/{subset}.json", sessions)
    return {circled.SESSIONS: 3, circled.TURNS: 7}
