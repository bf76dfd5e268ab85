"""Texts are encoded without their padding where the tower cannot see it, and only there."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.backbones.text import GRAIN, CausalText
from tests.backbones.small import CONFIG, model

if TYPE_CHECKING:
    from collections.abc import Callable

captions = st.lists(st.text("abcdefg ", max_size=60), min_size=1, max_size=6)


def with_text(**changes: Any) -> dict[str, Any]:
    return {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], **changes}}


def custom(**changes: Any) -> open_clip.CustomTextCLIP:
    torch.manual_seed(0)
    return open_clip.CustomTextCLIP(**with_text(**changes)).eval()


def causal(clip: torch.nn.Module) -> CausalText:
    found = CausalText.of(clip)
    assert found is not None
    return found


@pytest.mark.slow
@settings(max_examples=25)
@given(texts=captions)
@pytest.mark.parametrize("build", [model, custom])
def test_features_are_those_of_the_full_length(build: Callable[[], torch.nn.Module], texts: list[str]) -> None:
    tokens = open_clip.tokenize(texts)
    single: Any = build()
    double = copy.deepcopy(single).double()
    with torch.no_grad():
        assert (causal(double)(tokens) - double.encode_text(tokens)).abs().max() <= 1e-12
        assert (causal(single)(tokens) - single.encode_text(tokens)).abs().max() <= 1e-5


def test_a_text_that_fills_the_context_is_encoded_whole() -> None:
    tokens = open_clip.tokenize(["a " * 200, "a"])
    clip = model().double()
    with torch.no_grad():
        assert (causal(clip)(tokens) - clip.encode_text(tokens)).abs().max() <= 1e-12


def test_gradients_are_those_of_the_full_length() -> None:
    tokens = open_clip.tokenize(["make it red", "two of them, on a wooden table"])
    trimmed, full = model().double(), model().double()
    torch.autograd.backward(causal(trimmed)(tokens).square().sum())
    torch.autograd.backward(full.encode_text(tokens).square().sum())
    for (name, mine), theirs in zip(trimmed.named_parameters(), full.parameters(), strict=True):
        if mine.grad is None:
            assert theirs.grad is None or not theirs.grad.any(), name
        else:
            assert theirs.grad is not None
            assert (mine.grad - theirs.grad).abs().max() <= 1e-9, name


def test_the_end_token_is_found_where_the_tower_pools_by_its_id() -> None:
    clip: Any = custom(pool_type="eos", eos_id=49407)
    tokens = open_clip.tokenize(["make it red", "a much longer sentence about a dog in the grass of a park"])
    with torch.no_grad():
        assert (causal(clip.double())(tokens) - clip.encode_text(tokens)).abs().max() <= 1e-12


def test_a_text_tower_without_projection_or_with_a_linear_one_is_followed() -> None:
    for changes in ({"proj_bias": True}, {"proj_type": "none"}):
        clip: Any = custom(**changes).double()
        tokens = open_clip.tokenize(["make it red"])
        with torch.no_grad():
            assert (causal(clip)(tokens) - clip.encode_text(tokens)).abs().max() <= 1e-12


def test_lengths_are_rounded_up_so_that_company_does_not_change_the_shape() -> None:
    tower = causal(model())
    words = [0, 1, 5, 6, 7, 13, 14, 15, 74, 75, 200]
    lengths = tower.lengths(open_clip.tokenize(["a " * count for count in words]))
    assert lengths.tolist() == [8, 8, 8, 8, 16, 16, 16, 24, 77, 77, 77]
    assert GRAIN == 8


@pytest.mark.parametrize(
    "changes",
    [
        {"no_causal_mask": True},
        {"embed_cls": True, "output_tokens": True},
        {"pool_type": "last"},
        {"pool_type": "first"},
    ],
    ids=["SigLIP-like, attends in both directions", "CoCa, pools at a class token", "last", "first"],
)
def test_towers_that_see_their_padding_keep_it(changes: dict[str, Any]) -> None:
    assert CausalText.of(custom(**changes)) is None


def test_text_towers_that_are_not_open_clips_own_keep_their_padding() -> None:
    class Foreign(torch.nn.Module):
        attn_mask = None

    clip = custom()
    clip.text = Foreign()
    assert CausalText.of(clip) is None


def test_fewer_positions_are_computed() -> None:
    clip = model()
    seen = []
    clip.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    causal(clip)(open_clip.tokenize(["make it red"]))
    assert seen == [8]
    assert np.array_equal(causal(clip).lengths(open_clip.tokenize(["make it red"])), [8])
