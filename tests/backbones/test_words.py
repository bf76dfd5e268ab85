"""Pseudo-words: a word's own vector changes nothing, any other stands exactly where the placeholder stood."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.text import PseudoWords
from cirbench.errors import UsageError
from tests.backbones.small import CONFIG, write_folder
from tests.tiny_clip import tiny_backbone

WORDS = ("red", "dog", "a", "of", ",", "two", "$")
sentences = st.lists(st.sampled_from(WORDS), min_size=0, max_size=12).map(" ".join)


@cache
def openai_like(**changes: Any) -> Any:
    """A small model with CLIP's own tokenizer; with ``custom_text``, its text tower has a name of its own."""
    return load_backbone(str(write_folder(Path(mkdtemp()) / "small", config={**CONFIG, **changes})))


def some_words(count: int, backbone: Any, seed: int = 0) -> torch.Tensor:
    width = PseudoWords(backbone).width
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
@settings(max_examples=30)
@given(before=sentences, after=sentences, word=st.sampled_from(WORDS))
@pytest.mark.parametrize("custom_text", [False, True], ids=["one module", "a text tower of its own"])
def test_a_words_own_vector_gives_the_plain_encoding_bit_for_bit(
    custom_text: bool, before: str, after: str, word: str
) -> None:
    backbone = openai_like(custom_text=custom_text)
    tower = PseudoWords(backbone)
    own = tower.embedding(word)[None]
    first_replaced = f"{before} $ {after}".replace("$", word, 1)
    all_replaced = f"{before} $ {after}".replace("$", word)
    tokens = tower.tokenize([f"{before} $ {after}"])
    with torch.no_grad():
        assert torch.equal(tower(tokens, own), backbone.encode_tokens(backbone.tokenize([first_replaced])))
        assert torch.equal(tower(tokens, own, "all"), backbone.encode_tokens(backbone.tokenize([all_replaced])))


def naive(backbone: Any, text: str, word: torch.Tensor, *, every: bool) -> torch.Tensor:
    """One text at its full length, its vectors replaced one by one, through open_clip's own tower."""
    model = copy.deepcopy(backbone.model).double()
    tokens = open_clip.tokenize([text])
    spots = [place for place, token in enumerate(tokens[0].tolist()) if token == 259]
    vectors = model.token_embedding(tokens)
    for place in spots if every else spots[:1]:
        vectors[0, place] = word.double()
    hidden = model.transformer(vectors + model.positional_embedding, attn_mask=model.attn_mask)
    read: torch.Tensor = model.ln_final(hidden)[0, tokens[0].argmax()] @ model.text_projection
    return read


def test_each_row_has_its_word_at_its_own_position_and_as_often_as_declared() -> None:
    backbone = openai_like()
    tower, texts = PseudoWords(backbone), ["a photo of $", "$ in the snow beside $ , and a red $", "two $ $"]
    words = some_words(3, backbone)
    with torch.no_grad():
        for every in (False, True):
            found = tower(tower.tokenize(texts), words, "all" if every else "first")
            for row, text in enumerate(texts):
                expected = naive(backbone, text, words[row], every=every)
                torch.testing.assert_close(found[row].double(), expected, atol=1e-5, rtol=1e-5)


def test_the_placeholder_of_clips_tokenizer_is_token_259() -> None:
    tower = PseudoWords(openai_like())
    assert torch.equal(tower.embedding("$"), openai_like().model.token_embedding.weight[259])
    assert tower.width == 32


def test_inserting_at_the_end_as_pic2word_does_is_ending_with_the_placeholder() -> None:
    backbone = openai_like()
    tower, word = PseudoWords(backbone), some_words(1, backbone)
    tokens = open_clip.tokenize(["a photo of"])
    end = int(tokens[0].argmax())
    model = backbone.model
    with torch.no_grad():
        vectors = model.token_embedding(tokens)
        shifted = torch.cat([vectors[:, :end], word[:, None], vectors[:, end:-1]], dim=1)  # the end token moves by one
        hidden = model.transformer(shifted + model.positional_embedding, attn_mask=model.attn_mask)
        expected = model.ln_final(hidden)[:, end + 1] @ model.text_projection
        torch.testing.assert_close(tower(tower.tokenize(["a photo of $"]), word), expected, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_words_and_only_the_words_of_a_frozen_tower() -> None:
    backbone = copy.deepcopy(tiny_backbone())
    backbone.model.requires_grad_(False)
    tower, texts = PseudoWords(backbone), ["a red $", "a photo of $ that is blue"]
    words = some_words(2, backbone).requires_grad_()
    features = tower(tower.tokenize(texts), words)
    (gradient,) = torch.autograd.grad(features[0].sum(), words, retain_graph=True)
    assert float(gradient[0].abs().max()) > 0
    assert float(gradient[1].abs().max()) == 0
    double = copy.deepcopy(backbone)
    double.model.double()
    exact, tokens = PseudoWords(double), tower.tokenize(texts)
    step = 1e-4 * some_words(2, backbone, seed=1).double()
    with torch.no_grad():
        up, down = (exact(tokens, words.double() + sign * step).sum().double() for sign in (1, -1))
    (whole,) = torch.autograd.grad(features.sum(), words)
    assert float((whole.double() * 2 * step).sum()) == pytest.approx(float(up - down), rel=2e-2, abs=1e-6)


def test_only_the_needed_positions_are_computed() -> None:
    backbone = copy.deepcopy(tiny_backbone())
    seen: list[int] = []
    model: Any = backbone.model
    model.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    tower = PseudoWords(backbone)
    tower(tower.tokenize(["a $"]), some_words(1, backbone))
    assert seen == [8]


def test_a_text_without_the_placeholder_is_refused() -> None:
    tower = PseudoWords(tiny_backbone())
    with pytest.raises(UsageError, match="'a photo of it' has no place for a pseudo-word") as caught:
        tower.tokenize(["a photo of $", "a photo of it"])
    assert caught.value.hint == "Write $ where it belongs, with a space on either side."
    with pytest.raises(UsageError, match=r"'costs \$, more' has no place"):
        tower.tokenize(["costs $, more"])  # glued to another sign, it is another token


def test_a_long_text_is_cut_behind_its_placeholder_and_refused_where_it_is_cut_before_it() -> None:
    tower = PseudoWords(tiny_backbone())
    tokens = tower.tokenize(["a photo of $ " + "that is red " * 40])
    assert tower.holds(tokens).all()
    with pytest.raises(UsageError, match=r"is longer than the 32 tokens that .* reads, and its \$ comes after"):
        tower.tokenize(["that is red " * 40 + "as $"])


def test_a_tokenizer_in_which_the_placeholder_is_not_one_token_is_refused() -> None:
    with pytest.raises(UsageError, match=r"The tokenizer of .*tiny makes [2-9] tokens of 'placeholder'"):
        PseudoWords(tiny_backbone(), "placeholder")


@pytest.mark.parametrize("pool", ["last", "first"])
def test_towers_that_are_not_causal_or_read_out_elsewhere_are_refused(pool: str) -> None:
    class Other:
        identity = tiny_backbone().identity
        model = open_clip.CustomTextCLIP(**{**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "pool_type": pool}})

    other: Any = Other()
    with pytest.raises(UsageError, match="cannot read pseudo-words: that takes a causal text tower of open_clip"):
        PseudoWords(other)


def test_composed_rows_do_not_depend_on_their_company() -> None:
    texts = ["a $", "a photo of $ that is red and stands on the left of a blue one", "two $", "$ , green"] * 3
    words = some_words(len(texts), tiny_backbone()).numpy()
    encoder = Encoder(tiny_backbone(), None, batch_size=8)
    together = encoder.composed(texts, words)
    for row, text in enumerate(texts):
        assert np.array_equal(encoder.composed([text], words[row : row + 1])[0], together[row])
    order = np.random.default_rng(0).permutation(len(texts))
    assert np.array_equal(encoder.composed([texts[at] for at in order], words[order]), together[order])


def test_composed_texts_that_are_cut_are_counted() -> None:
    encoder = Encoder(tiny_backbone(), None, batch_size=8)
    texts = ["a $", "a photo of $ " + "that is red " * 40]
    encoder.composed(texts, some_words(2, tiny_backbone()).numpy())
    assert encoder.truncated_texts == 1
