"""Textual inversion with words that are known: the sentence, the word in it, several captions, and the networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.text import PseudoWords
from cirbench.errors import CorruptFile, UsageError
from cirbench.methods.interface import join_captions
from cirbench.protocol import Item, Query
from cirbench.support.files import write_bytes
from cirbench.training.checkpoint import WEIGHTS
from cirbench_methods.inversion import InversionParameters
from cirbench_methods.inversion.method import Inversion, NetworkInverter, find_prompt
from cirbench_methods.inversion.phi import Mapping, Phi
from cirbench_methods.pic2word import Pic2WordParameters
from cirbench_methods.searle import SearleOtiParameters
from tests.tiny_clip import TwoColours, tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LETTERS = {"red": "r", "green": "g", "blue": "b"}


def query(number: int, colour: str, *captions: str) -> Query:
    picture = TwoColours(colour, "grey")
    return Query(str(number), Item(f"{colour} {number}", picture), captions)


QUERIES = [query(0, "red", "is dark"), query(1, "green", "is old", "has dots"), query(2, "red", "is new")]


class Letters:
    """Makes of each image the tower's own word for the initial of its colour, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, items: Sequence[Item]) -> NDArray[np.float32]:
        self.asked += [item.id for item in items]
        pictures: Any = [item.image for item in items]
        own = PseudoWords(tiny_backbone()).embedding
        return torch.stack([own(LETTERS[picture.left]) for picture in pictures]).detach().numpy()


def encode(parameters: InversionParameters, asked: Sequence[Query] = QUERIES) -> NDArray[np.float32]:
    return Inversion(Encoder(tiny_backbone(), None, batch_size=8), parameters, Letters()).encode_queries(asked)


def units(texts: Sequence[str]) -> NDArray[np.float32]:
    rows = Encoder(tiny_backbone(), None, batch_size=8).texts(texts)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def test_the_word_stands_where_the_prompt_says_and_several_captions_are_averaged_over_their_orders() -> None:
    given = units(["a photo of r that is dark", "a photo of g that is old and has dots", "a photo of r that is new"])
    swapped = units(["a photo of g that has dots and is old"])
    expected = given.copy()
    expected[1] = (given[1] + swapped[0]) / 2
    np.testing.assert_allclose(encode(InversionParameters()), expected, atol=1e-6)


def test_captions_stand_in_the_order_that_is_asked_for() -> None:
    prompts = InversionParameters(prompt="comma", order="reversed"), InversionParameters(prompt="comma", order="given")
    for parameters, middle in zip(prompts, ("has dots and is old", "is old and has dots"), strict=True):
        expected = units(["a photo of r , is dark", f"a photo of g , {middle}", "a photo of r , is new"])
        np.testing.assert_allclose(encode(parameters), expected, atol=1e-6)


def test_a_query_does_not_depend_on_the_others_nor_on_how_many_captions_they_have() -> None:
    together = encode(InversionParameters())
    for row, alone in enumerate(QUERIES):
        assert np.array_equal(encode(InversionParameters(), [alone])[0], together[row])


def test_equal_references_are_inverted_once() -> None:
    letters = Letters()
    Inversion(Encoder(tiny_backbone(), None), InversionParameters(), letters).encode_queries(QUERIES)
    assert letters.asked == ["red 2", "green 1"]


@pytest.mark.parametrize(
    ("prompt", "captions", "sentence"),
    [
        ("that", ("is red",), "a photo of $ that is red"),
        ("comma", ("is red", "has dots"), "a photo of $ , is red and has dots"),
        ("domain", ("a cartoon of",), "a cartoon of $"),
        ("and", ("a photo of dog and cat",), "a photo of $ and dog and cat"),
        ("$ becomes {}", ("red for 5 $ more",), "$ becomes red for 5 $ more"),
        ("{} beside $", ("red for 5 $ more",), "red for 5  more beside $"),
    ],
)
def test_the_published_prompts_make_their_sentences(prompt: str, captions: tuple[str, ...], sentence: str) -> None:
    assert find_prompt(prompt).fill(join_captions(captions)) == sentence


UNTIDY = query(3, "blue", " is dark.", "has dots?, ")


@pytest.mark.parametrize(
    ("parameters", "sentences"),
    [
        (InversionParameters(), ("a photo of b that is dark and has dots", "a photo of b that has dots and is dark")),
        (SearleOtiParameters(order="given"), ("a photo of b that is dark and has dots",)),
        (Pic2WordParameters(), ("a photo of b , has dots?,  and  is dark.",)),
        (Pic2WordParameters(strip="."), ("a photo of b , has dots?, and is dark",)),
    ],
)
def test_each_of_several_captions_is_stripped_as_the_public_code_of_the_method_does(
    parameters: InversionParameters, sentences: tuple[str, ...]
) -> None:
    np.testing.assert_allclose(encode(parameters, [UNTIDY])[0], units(sentences).mean(axis=0), atol=1e-6)


def test_a_single_caption_stays_as_annotated() -> None:
    expected = units(["a photo of b that is it dark?"])
    np.testing.assert_allclose(encode(InversionParameters(), [query(4, "blue", "is it dark?")]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("prompt", "lacking"), [("a photo of $", "the caption"), ("{} please", "the image's word"), ("this", "the image's")]
)
def test_a_prompt_that_lacks_a_place_is_refused(prompt: str, lacking: str) -> None:
    with pytest.raises(UsageError, match=f"has no place for {lacking}") as caught:
        find_prompt(prompt)
    assert caught.value.hint is not None
    assert "that, comma, domain, and" in caught.value.hint


@pytest.mark.parametrize("kind", [Phi, Mapping])
def test_a_network_maps_raw_features_one_by_one_whatever_their_company(tmp_path: Path, kind: Any) -> None:
    from safetensors.torch import save

    backbone = tiny_backbone()
    network = kind.for_backbone(backbone)
    write_bytes(tmp_path / WEIGHTS, save(network.state_dict()))
    items = [Item(str(number), TwoColours(colour, "white")) for number, colour in enumerate((*LETTERS, "black"))]
    encoder = Encoder(backbone, None, batch_size=8)
    invert = NetworkInverter(encoder, kind.for_backbone(backbone), tmp_path)
    words = invert(items)
    assert words.shape == (4, 32)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(encoder.images(items)))
    np.testing.assert_allclose(words, expected.numpy(), atol=1e-6)
    for row, item in enumerate(items):
        assert np.array_equal(invert([item])[0], words[row])


def test_the_networks_have_the_shapes_and_names_of_the_published_ones() -> None:
    phi = {name: tuple(tensor.shape) for name, tensor in Phi(768, 768).state_dict().items() if name.endswith("weight")}
    assert phi == {"layers.0.weight": (3072, 768), "layers.3.weight": (3072, 3072), "layers.6.weight": (768, 3072)}
    mapping = {name: tuple(tensor.shape) for name, tensor in Mapping(768, 768).state_dict().items() if "weight" in name}
    assert mapping == {"layers.0.0.weight": (512, 768), "layers.1.0.weight": (512, 512), "fc_out.weight": (768, 512)}
    block = next(iter(Mapping(768, 768).layers.children()))
    assert [type(layer).__name__ for layer in block.children()] == ["Linear", "Dropout", "ReLU"]


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save

    backbone = tiny_backbone()
    write_bytes(tmp_path / WEIGHTS, save(Mapping.for_backbone(backbone).state_dict()))
    with pytest.raises(
        CorruptFile, match=r"does not fit the architecture Phi for .*: expected and not found: layers\.0\.weight, "
    ):
        NetworkInverter(Encoder(backbone, None), Phi.for_backbone(backbone), tmp_path)
