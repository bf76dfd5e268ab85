"""How each published row was made, as far as its paper and public code tell, in the words of `cirbench run`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.errors import UsageError
from cirbench.methods.interface import STRIPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cirbench.leaderboard.published import Published, PublishedRow

    Value = str | int | float | bool

TARGET_PAD = "targetpad(1.25)"
SEARLE_PAPER, PIC2WORD_PAPER = "from the SEARLE paper", "from the Pic2Word paper"
PARACOSM, FISD = "arXiv:2602.00813", "arXiv:2604.12904"

_L14, _B32 = "CLIP ViT-L/14", "CLIP ViT-B/32"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to run for a row.

    Attributes:
        method: Name of the method here.
        backbone: What loads it.
        parameters: Of the method, where the row's differ from the defaults.
        preprocessing: Of images, where it is not the backbone's own.
        checkpoint: Where the weights of a trained method come from, and the commands that make a checkpoint of them;
            ``None`` for a method without training.
        wanted: Parameters of which a user must give one, and what it is.
        notes: What is not known about the row, or assumed here.
    """

    method: str
    backbone: str
    parameters: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    preprocessing: str | None = None
    checkpoint: str | None = None
    wanted: Mapping[tuple[str, ...], str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def recipe_of(row: PublishedRow, published: Published) -> Recipe:
    """Return what to run for a row.

    Raises:
        UsageError: There is nothing to run: no such method, no such protocol, or a backbone that is not stated.
    """
    if row.protocol is None:
        raise UsageError(f"{row.id} was measured under a protocol that cirbench does not have. {row.not_comparable}")
    if row.method not in published.methods:
        raise UsageError(f"cirbench has no method {row.method}.", hint="`cirbench list methods` names those it has.")
    name = published.methods[row.method]
    recipe = _RECIPES[name](row)
    loads = published.backbones.get(_assumed(row))
    if loads is None:
        raise UsageError(f"{row.id} ran on {row.backbone}, which cirbench cannot load as the paper had it.")
    notes = recipe.notes
    if _assumed(row) != row.backbone:
        notes = (f"The table does not say which backbone it is; {_assumed(row)} is assumed.", *notes)
    return dataclasses.replace(recipe, backbone=loads, notes=notes)


def _assumed(row: PublishedRow) -> str:
    """The backbone of a row; that of the official checkpoint where the table tells none."""
    return _L14 if row.backbone == "not stated" and row.source.id == FISD else row.backbone


def _quoted(row: PublishedRow, paper: str) -> bool:
    return paper in (row.note or "")


def _image_only(row: PublishedRow) -> Recipe:
    return _baseline("image-only", row, {})


def _text_only(row: PublishedRow) -> Recipe:
    return _baseline("text-only", row, {})


def _image_text(row: PublishedRow) -> Recipe:
    if _quoted(row, SEARLE_PAPER):
        return _baseline("image-text", row, {"sum": "raw"})
    if _quoted(row, PIC2WORD_PAPER) and row.benchmark == "fashioniq":
        note = "Its public code encodes the prompt with its literal placeholder, and the second caption first."
        return _baseline("image-text", row, {"prompt": "a photo of * , {}"}, note)
    return _baseline("image-text", row, {})


def _baseline(method: str, row: PublishedRow, parameters: Mapping[str, Value], *notes: str) -> Recipe:
    """A sum of features: what its paper does not tell is what its authors' other code does."""
    if _quoted(row, SEARLE_PAPER):
        notes = (*notes, "SEARLE's repository has no code for its baselines; its preprocessing is assumed for them.")
        return Recipe(method, "", parameters, preprocessing=TARGET_PAD, notes=notes)
    if row.source.id == PARACOSM:
        notes = (*notes, "Neither preprocessing nor prompt is stated; those of the backbone, and none, are assumed.")
    return Recipe(method, "", parameters, notes=notes)


def _captioning(row: PublishedRow) -> Recipe:
    return Recipe(
        "captioning",
        "",
        preprocessing=TARGET_PAD,
        wanted={
            ("captions", "captioner"): "words for the references: captions=FILE.jsonl as `cirbench caption` writes it, "
            "or captioner=MODEL"
        },
        notes=("Its public code does not say which captioner it is; another one gives other numbers.",),
    )


def _pic2word(row: PublishedRow) -> Recipe:
    own = row.benchmark in ("cirr", "fashioniq", "imagenet-r") and row.backbone == _L14
    prompts = {"imagenet-r": "domain", "coco": "and"}
    if own:
        parameters: dict[str, Value] = {"prompt": prompts.get(row.benchmark, "comma"), "order": "reversed"}
    else:
        parameters = {"prompt": "that", "order": "both"}
        if row.benchmark == "fashioniq":
            parameters["strip"] = STRIPPED  # as the public code of those who measured it
    if "re-run" in row.method:
        return Recipe("pic2word", "", parameters, checkpoint=_trained("pic2word", "images/"))
    checkpoint = _converted("pic2word", "pic2word_model.pt", "google-research/composed_image_retrieval")
    if row.backbone not in (_L14, "not stated"):
        checkpoint = _trained("pic2word", "images/")
    told = "is assumed" if row.source.id == FISD else "was used"
    notes = () if own else (f"Measured by other authors; SEARLE's prompt {told}.",)
    return Recipe("pic2word", "", parameters, checkpoint=checkpoint, notes=notes)


def _searle(row: PublishedRow) -> Recipe:
    files = {_B32: "SEARLE_ViT-B32.pt", _L14: "SEARLE_ViT-L14.pt"}
    if row.backbone not in files:
        return Recipe("searle", "", {"prompt": "that"}, checkpoint=_trained("searle", "images/"))
    checkpoint = _converted("searle", files[row.backbone], "miccunifi/SEARLE (its releases)")
    if row.benchmark == "genecis":
        note = "Measured by LinCIR's authors; their preprocessing, the backbone's own, is assumed."
        return Recipe("searle", "", {"prompt": "that"}, checkpoint=checkpoint, notes=(note,))
    return Recipe("searle", "", {"prompt": "that"}, preprocessing=TARGET_PAD, checkpoint=checkpoint)


def _searle_oti(row: PublishedRow) -> Recipe:
    return Recipe(
        "searle-oti",
        "",
        {"prompt": "that"},
        preprocessing=TARGET_PAD,
        wanted={
            ("phrases",): "phrases=FILE of GPT-Neo 2.7B about the 20,931 class names of Open Images V7: "
            "python -m cirbench_methods.searle.generate oidv7-class-descriptions.csv phrases.jsonl"
        },
        notes=("The order of random draws is another than the public code's, so that numbers agree up to chance.",),
    )


def _lincir(row: PublishedRow) -> Recipe:
    return Recipe(
        "lincir",
        "",
        {"prompt": "that", "order": "both"},
        checkpoint=_converted("lincir", "phi_best.pt", "navervision/lincir"),
        notes=("The public checkpoint was selected on CIRR val.",),
    )


def _pli(row: PublishedRow) -> Recipe:
    ratio = {"PLI (mask ratio 0.25)": 0.25, "PLI (mask ratio 0.50)": 0.5}.get(row.method, 0.75)
    caption = "cirbench caption --images imagenet/test --model Salesforce/blip2-flan-t5-xl --output captions.jsonl"
    marks = {"marks": "words"} if row.benchmark == "cirr" else {}  # the protocol of FashionIQ has them in its captions
    train = f"cirbench train pli --backbone {{backbone}} --data captions.jsonl --set mask_ratio={ratio}"
    return Recipe(
        "pli",
        "",
        {"weight": 1 - ratio, **marks},
        checkpoint=f"train it on the 100,000 test images of ImageNet-1k: {caption}, then: {train} --output CHECKPOINT; "
        "or convert one of its authors: cirbench convert pli FILE.pth --backbone {backbone} --output CHECKPOINT",
        notes=("The public commands take another epoch for each benchmark, chosen on a benchmark's val.",),
    )


def _converted(method: str, file: str, where: str) -> str:
    return (
        f"get {file} from {where}, then: cirbench convert {method} {file} --backbone {{backbone}} --output CHECKPOINT"
    )


def _trained(method: str, data: str) -> str:
    return (
        "its authors published none for this backbone; train one: "
        f"cirbench train {method} --backbone {{backbone}} --data {data} --output CHECKPOINT"
    )


_RECIPES: Mapping[str, Callable[[PublishedRow], Recipe]] = {
    "image-only": _image_only,
    "text-only": _text_only,
    "image-text": _image_text,
    "captioning": _captioning,
    "pli": _pli,
    "pic2word": _pic2word,
    "searle": _searle,
    "searle-oti": _searle_oti,
    "lincir": _lincir,
}
