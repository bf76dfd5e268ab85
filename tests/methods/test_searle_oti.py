"""Words by optimisation: the losses, planted words that are found again, and words that depend on their image alone."""

from __future__ import annotations

import contextlib
import json
import math
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import FeatureStore
from cirbench.backbones.text import PseudoWords
from cirbench.errors import MissingData, UsageError
from cirbench.methods.loading import build, checked, parse_parameters
from cirbench.protocol import Item
from cirbench_methods.inversion.templates import TEMPLATES
from cirbench_methods.searle import SEARLE_OTI, SearleOtiParameters, SearleTraining
from cirbench_methods.searle.oti import Texts, cosine_losses, draw, invert
from cirbench_methods.searle.words import OtiInverter, concept_features, nearest
from tests.method_rules import broken_rules
from tests.tiny_clip import COLOURS, coloured_pairs, tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

COLOURED = {colour: [f"a {colour} half", f"one {colour} side, seen from afar", f"{colour}"] for colour in COLOURS}


@cache
def coloured_phrases() -> str:
    path = Path(mkdtemp()) / "phrases.json"
    path.write_text(json.dumps(COLOURED))
    return str(path)


QUICK = SearleOtiParameters(steps=6, lr=0.05, ema=0.5, concepts=3, phrases=coloured_phrases())
SILENT = msgspec.structs.replace(QUICK, regularisation=0, phrases=None)


def items(count: int = 56) -> list[Item]:
    return [Item(str(place), pair.image) for place, pair in enumerate(coloured_pairs().pairs[:count]) if pair.image]


def encoder(**options: Any) -> Encoder:
    return Encoder(tiny_backbone(), options.pop("store", None), batch_size=8, **options)


def test_the_loss_is_one_minus_the_cosine_in_float64() -> None:
    rng = np.random.default_rng(0)
    sides = [torch.tensor(rng.normal(size=(5, 7)), requires_grad=True) for _ in range(2)]
    for row, found in enumerate(cosine_losses(*sides).tolist()):
        ours, theirs = (side[row].tolist() for side in sides)
        product = sum(a * b for a, b in zip(ours, theirs, strict=True))
        assert found == pytest.approx(1 - product / math.hypot(*ours) / math.hypot(*theirs), abs=1e-12)
    assert torch.autograd.gradcheck(cosine_losses, sides)


def naive_inversion(parameters: SearleOtiParameters, start: torch.Tensor, image: torch.Tensor, draws: Any) -> Any:
    """One image, one text at a time, the update of AdamW and the moving average written out."""
    tower = PseudoWords(tiny_backbone())
    word, average = start.clone(), start.clone()
    first, second = torch.zeros_like(word), torch.zeros_like(word)
    for step, (template, phrase) in enumerate(draws, start=1):
        free = word.clone().requires_grad_()
        loss = torch.zeros(())
        for text, target, weight in ((template, image, 1.0), (phrase[0], phrase[1], parameters.regularisation)):
            composed = tower(tower.tokenize([text]), free[None])[0]
            loss = loss + weight * (1 - composed @ target / composed.norm() / target.norm())
        (gradient,) = torch.autograd.grad(loss / (1 + parameters.regularisation), free)
        word = word * (1 - parameters.lr * parameters.weight_decay)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        corrected = (second / (1 - 0.999**step)).sqrt() + 1e-8
        word = word - parameters.lr * first / (1 - 0.9**step) / corrected
        average = parameters.ema * average + (1 - parameters.ema) * word
    return average


def test_many_images_at_once_are_inverted_as_each_alone_by_the_definition() -> None:
    backbone, tower = tiny_backbone(), PseudoWords(tiny_backbone())
    parameters = SearleOtiParameters(steps=3, lr=0.01, ema=0.6)
    plain = ["a red ball", "one blue box in the snow"]
    texts = {"template": ["a photo of a $", "A $", "We see a $ image"], "phrase": ["a $ ball", "one $ in the snow"]}
    rng = np.random.default_rng(0)
    chosen = {kind: rng.integers(len(said), size=(4, 3)) for kind, said in texts.items()}
    with torch.no_grad():
        plain_PD = backbone.encode_tokens(backbone.tokenize(plain))
    starts = torch.from_numpy(rng.normal(size=(4, tower.width)).astype(np.float32))
    images = torch.from_numpy(rng.normal(size=(4, backbone.dim)).astype(np.float32))
    templates, phrases = (Texts(tower.tokenize(said), chosen[kind], np.full(4, 16)) for kind, said in texts.items())
    found = invert(tower, starts, images, templates, phrases, plain_PD, parameters)
    for row in range(4):
        draws = [
            (texts["template"][template], (texts["phrase"][phrase], plain_PD[phrase]))
            for template, phrase in zip(chosen["template"][row], chosen["phrase"][row], strict=True)
        ]
        expected = naive_inversion(parameters, starts[row], images[row], draws)
        torch.testing.assert_close(found[row], expected, atol=2e-4, rtol=1e-3)


def test_a_planted_word_is_found_again() -> None:
    tower, count = PseudoWords(tiny_backbone()), 6
    planted_BE = 0.3 * torch.randn(count, tower.width, generator=torch.Generator().manual_seed(0))
    sentence = tower.tokenize(["a photo of a $"])
    with torch.no_grad():
        images_BD = tower(sentence.expand(count, -1), planted_BE)
    seen = Texts(sentence, np.zeros((count, 300), dtype=np.int64), np.full(count, 16))
    parameters = SearleOtiParameters(steps=300, lr=0.03, ema=0.9, regularisation=0)
    found_BE = invert(tower, torch.zeros_like(planted_BE), images_BD, seen, None, None, parameters)
    # The text with a word has 16 dimensions and the word 32: what can be found again is what the text says.
    with torch.no_grad():
        said_BD = tower(sentence.expand(count, -1), found_BE)
    assert float(cosine_losses(said_BD, images_BD).max()) < 0.01
    ours, theirs = (torch.nn.functional.normalize(side) for side in (said_BD, images_BD))
    assert (ours @ theirs.T).argmax(dim=1).tolist() == list(range(count))


def test_nothing_drawn_for_an_image_depends_on_anything_but_image_and_seed() -> None:
    phrases = [["a", "b"], ["c"], ["d", "e", "f"]]
    draws = [draw(content, 5, 24, [2, 0], phrases, QUICK) for content in ("x", "y", "x")]
    assert draws[0].phrases_S == draws[2].phrases_S != draws[1].phrases_S
    np.testing.assert_array_equal(draws[0].start_E, draws[2].start_E)
    assert {concept for each in draws for concept, _ in each.phrases_S} <= {0, 2}
    assert all(number < len(phrases[concept]) for each in draws for concept, number in each.phrases_S)
    other = draw("x", 5, 24, [2, 0], phrases, msgspec.structs.replace(QUICK, seed=1))
    assert other.templates_S.tolist() != draws[0].templates_S.tolist()


def test_a_word_depends_on_its_image_alone_to_the_last_bit() -> None:
    chosen = items(20)
    words = OtiInverter(encoder(), QUICK)(chosen)
    assert len(np.unique(words, axis=0)) == len(chosen)
    for part in ([7], [19, 3, 7, 3], list(range(20))[::-1]):
        np.testing.assert_array_equal(OtiInverter(encoder(), QUICK)([chosen[place] for place in part]), words[part])


def test_optimised_words_say_what_the_image_shows() -> None:
    chosen, parameters = items(12), msgspec.structs.replace(SILENT, steps=40, lr=0.02, ema=0.9)
    ours = encoder()
    words = OtiInverter(ours, parameters)(chosen)
    texts, images = ours.composed(["a photo of a $"] * 12, words), ours.images(chosen)
    start = ours.composed(["a photo of a $"] * 12, np.zeros_like(words))
    after, before = (torch.cosine_similarity(torch.tensor(side), torch.tensor(images)) for side in (texts, start))
    assert float((after - before).min()) > 0.02


def test_the_features_of_a_concept_are_the_mean_of_its_unit_rows_over_the_templates() -> None:
    found = concept_features(encoder(), ["red ball", "tree"], TEMPLATES["searle"])
    for row, concept in enumerate(["red ball", "tree"]):
        texts = (
            encoder().texts([template.replace("{}", concept) for template in TEMPLATES["searle"]]).astype(np.float64)
        )
        mean = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).mean(axis=0)
        np.testing.assert_allclose(found[row], mean / np.linalg.norm(mean), atol=1e-6)


def test_the_templates_are_those_of_the_public_code_and_differ_from_the_appendix_in_two_words() -> None:
    searle, palavra = TEMPLATES["searle"], TEMPLATES["palavra"]
    assert len(set(searle)) == len(set(palavra)) == 24
    differing = [(one, other) for one, other in zip(searle, palavra, strict=True) if one != other]
    assert differing == [
        ("This is an illustration of a {}", "This is an illustrations of a {}"),
        ("This illustration contains a {}", "This illustrations contains a {}"),
    ]
    assert SearleOtiParameters().templates == SearleTraining().oti_templates == "searle"


def test_other_templates_are_other_words() -> None:
    spaces = {name: OtiInverter(encoder(), msgspec.structs.replace(QUICK, templates=name)).space for name in TEMPLATES}
    assert spaces["searle"] != spaces["palavra"]


def test_the_nearest_concepts_are_those_of_a_loop_over_all() -> None:
    rng = np.random.default_rng(0)
    images, concepts = (rng.normal(size=(count, 4)).astype(np.float32) for count in (9, 7))
    expected = [sorted(range(7), key=lambda place: -float(image @ concepts[place]))[:3] for image in images]
    assert nearest(images, concepts, 3).tolist() == expected
    assert nearest(images, concepts, 100).shape == (9, 7)


@contextlib.contextmanager
def killed_after(count: int) -> Iterator[Callable[[int], None]]:
    done = 0

    def advance(amount: int) -> None:
        nonlocal done
        done += amount
        if done >= count:
            raise KeyboardInterrupt

    yield advance


def test_an_inversion_that_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def killed(description: str, total: int, *, unit: str = "") -> Any:
        return killed_after(40 if description == "Inverting images" else 10**9)

    store = FeatureStore(tmp_path / "stopped")
    parameters = msgspec.structs.replace(QUICK, steps=2)
    with pytest.raises(KeyboardInterrupt):
        OtiInverter(Encoder(tiny_backbone(), store, batch_size=4, progress=killed), parameters)(items())
    left: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def watched(description: str, total: int, *, unit: str = "") -> Iterator[Callable[[int], None]]:
        left.append((description, total))
        yield lambda amount: None

    went_on = OtiInverter(Encoder(tiny_backbone(), store, batch_size=4, progress=watched), parameters)(items())
    assert left == [("Inverting images", 56 - 32)]
    whole = FeatureStore(tmp_path / "whole")
    np.testing.assert_array_equal(
        went_on, OtiInverter(Encoder(tiny_backbone(), whole, batch_size=4), parameters)(items())
    )


def test_words_of_other_settings_are_not_taken_for_these(tmp_path: Path) -> None:
    kept = encoder(store=FeatureStore(tmp_path))
    spaces = {OtiInverter(kept, each).space.digest for each in (QUICK, SILENT, msgspec.structs.replace(QUICK, seed=1))}
    assert len(spaces) == 3
    used = msgspec.structs.replace(QUICK, prompt="comma", order="given")
    assert OtiInverter(kept, used).space.digest in spaces


def test_a_concept_that_cannot_be_replaced_takes_no_part(tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.json"
    phrases.write_text('{"red": ["a dog"], "blue": ["a blue thing"], "black": ["no such word"]}')
    inverter = OtiInverter(encoder(), msgspec.structs.replace(QUICK, phrases=str(phrases), concepts=2))
    assert inverter.phrases is not None
    assert inverter.phrases.dropped == ("red", "black")
    assert np.isfinite(inverter(items(3))).all()


def test_what_is_missing_is_said_before_anything_is_computed() -> None:
    with pytest.raises(UsageError, match="needs phrases about concepts"):
        build(SEARLE_OTI, encoder(), parse_parameters(SEARLE_OTI, {}))
    with pytest.raises(MissingData, match=r"The file of phrases .*nowhere\.json does not exist"):
        build(SEARLE_OTI, encoder(), parse_parameters(SEARLE_OTI, {"phrases": "nowhere.json"}))


def test_the_method_keeps_the_rules_of_the_interface() -> None:
    values = {"steps": "3", "phrases": coloured_phrases()}

    def make() -> Any:
        return checked(build(SEARLE_OTI, encoder(), parse_parameters(SEARLE_OTI, values)), "searle-oti")

    assert broken_rules(make) == []


def test_the_defaults_are_those_of_the_public_code() -> None:
    defaults = SearleOtiParameters()
    assert (defaults.steps, defaults.lr, defaults.weight_decay, defaults.ema) == (350, 0.02, 0.01, 0.99)
    assert (defaults.init, defaults.regularisation, defaults.concepts) == (0.02, 0.5, 15)
