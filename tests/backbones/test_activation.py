"""Weights run with the activation they were trained with, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import open_clip
import pytest

from cirbench.backbones.openclip import QUICK_GELU_SUFFIX, QUICK_GELU_TAGS, of_tag
from cirbench.backbones.weights import resolve_activation
from cirbench.errors import UsageError

if TYPE_CHECKING:
    from cirbench.backbones import Activation

TAGS = [(name, tag) for name, tag in open_clip.list_pretrained() if not name.endswith(QUICK_GELU_SUFFIX)]


def trained_quick(name: str, tag: str) -> bool:
    return bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))


def test_the_table_holds_exactly_the_pairs_that_open_clip_builds_with_the_wrong_activation() -> None:
    built_quick = {name: bool(open_clip.get_model_config(name).get("quick_gelu", False)) for name, _ in TAGS}
    wrong = {(name, tag) for name, tag in TAGS if trained_quick(name, tag) and not built_quick[name]}
    assert {(name, tag) for tag, names in QUICK_GELU_TAGS.items() for name in names} == wrong
    assert len(wrong) == 27


@pytest.mark.parametrize(("name", "tag"), TAGS)
def test_every_tag_of_open_clip_gets_the_activation_it_was_trained_with(name: str, tag: str) -> None:
    expected: Activation = "quick_gelu" if trained_quick(name, tag) else "gelu"
    assert of_tag(name, tag, expected) == expected
    assert of_tag(name + QUICK_GELU_SUFFIX, tag, expected) == expected


def test_the_table_wins_over_a_library_that_forgets() -> None:
    assert of_tag("ViT-L-14", "openai", "gelu") == "quick_gelu"
    assert of_tag("ViT-L-14", "laion400m_e32", "gelu") == "gelu"


def test_silence_about_the_activation_is_an_error_that_says_what_to_type() -> None:
    with pytest.raises(UsageError, match="neither stated nor recorded") as caught:
        resolve_activation("ViT-L-14", {"the option": None, "the name": None})
    assert "--activation quick_gelu" in str(caught.value.hint)


def test_statements_that_contradict_each_other_are_an_error_that_names_them() -> None:
    with pytest.raises(UsageError, match=r"the option says gelu, card\.json says quick_gelu"):
        resolve_activation("ViT-L-14", {"the option": "gelu", "the name": None, "card.json": "quick_gelu"})


def test_statements_that_agree_decide() -> None:
    assert resolve_activation("ViT-L-14", {"the option": "gelu", "the name": None, "card.json": "gelu"}) == "gelu"
