"""What is run for each published row is what its paper and public code say."""

from __future__ import annotations

import pytest

from cirbench.benchmarks.catalogue import protocols
from cirbench.comparison.published import load_published
from cirbench.errors import CirbenchError, UsageError
from cirbench.leaderboard.reproduce import Plan, Reproduction, plan_of
from cirbench.methods.interface import Parameters, find_method, list_methods
from cirbench.methods.loading import parse_parameters

PUBLISHED = load_published()


def plan(id: str) -> Plan:
    return plan_of(PUBLISHED.find(id), PUBLISHED)


def test_every_row_has_a_recipe_or_one_sentence_why_it_has_none() -> None:
    made = 0
    for row in PUBLISHED.rows:
        try:
            plan_of(row, PUBLISHED)
            made += 1
        except UsageError as error:
            assert error.message.endswith((".", "it."))
    assert made > 150


def test_every_recipe_is_about_parameters_that_its_method_has() -> None:
    for row in PUBLISHED.rows:
        try:
            found = plan_of(row, PUBLISHED)
        except UsageError:
            continue
        if found.method in list_methods():
            spec = find_method(found.method)
            parse_parameters(spec, found.recipe.parameters)
            inputs = {name for each in found.recipe.inputs for name in each.parameters}
            assert inputs <= {*spec.parameters.__struct_fields__}
            assert not found.recipe.training or spec.trainer is not None
            assert {*found.recipe.training} <= {*(spec.training or Parameters).__struct_fields__}


@pytest.mark.parametrize(
    ("id", "method", "parameters", "preprocessing"),
    [
        ("circo-test/searle-xl/vit-l-14/quoted", "searle", {"prompt": "that"}, "targetpad(1.25)"),
        ("cirr-test1/searle-oti/vit-b-32/quoted", "searle-oti", {"prompt": "that"}, "targetpad(1.25)"),
        ("cirr-test1/pic2word/vit-l-14/quoted", "pic2word", {"prompt": "comma", "order": "reversed"}, None),
        ("circo-test/pic2word/vit-l-14/quoted", "pic2word", {"prompt": "that", "order": "both"}, None),
        (
            "imagenet-r-val/pic2word-reported/vit-l-14/quoted",
            "pic2word",
            {"prompt": "domain", "order": "reversed"},
            None,
        ),
        ("genecis-all/lincir/vit-l-14/quoted", "lincir", {"prompt": "that", "order": "both"}, None),
        ("fashioniq-val/pli/vit-l-14/own", "pli", {"weight": 0.25}, None),
        ("cirr-test1/pli/vit-l-14/own", "pli", {"weight": 0.25, "marks": "words"}, None),
        ("fashioniq-val/image-text-baseline/vit-b-32/quoted", "image-text", {"sum": "raw"}, "targetpad(1.25)"),
        ("fashioniq-val/image-text-baseline/vit-l-14/quoted", "image-text", {"prompt": "a photo of * , {}"}, None),
        ("circo-test/ldre/vit-l-14/quoted-2", "ldre", {"weighting": "published"}, "targetpad(1.25)"),
        ("cirr-test1/sdr-cir/vit-l-14/quoted", "sdr", {"alpha": 0.05, "beta": 0.5}, None),
        ("cirr-test1/slerp-no-training/vit-l-14/own", "slerp", {"alpha": 0.9}, None),
        ("icir-all/basic/vit-l-14/own", "basic", {"neighbours": 25}, None),
        ("icir-all/freedom-without-query-expansion/vit-l-14/rerun", "freedom", {"proxies": 1}, None),
    ],
)
def test_prompts_weights_and_preprocessing_are_those_of_the_row(
    id: str, method: str, parameters: dict[str, str | float], preprocessing: str | None
) -> None:
    found = plan(id)
    recipe = found.recipe
    assert (found.method, recipe.parameters, recipe.preprocessing) == (method, parameters, preprocessing)


def test_a_row_without_a_backbone_says_which_one_is_assumed() -> None:
    found = plan("cirr-val/pic2word/not-stated/rerun")
    assert found.backbone == "ViT-L-14/openai"
    assert found.notes[0] == "The table does not say which backbone it is; CLIP ViT-L/14 is assumed."


@pytest.mark.parametrize(
    ("id", "told"),
    [
        ("circo-test/compodiff/vit-l-14/quoted", "cirbench has no method CompoDiff."),
        ("circo-test/pli/vit-l-14/own", "under a protocol that cirbench does not have. PLI's public code removes"),
        ("fashioniq-val/pli/blip-vit-b-16/own", "ran on BLIP ViT-B/16, which cirbench cannot load as the paper had it"),
        ("fashioniq-val/pli/not-stated/aggregator", "ran on not stated, which cirbench cannot load"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_sentence(id: str, told: str) -> None:
    with pytest.raises(CirbenchError) as caught:
        plan(id)
    assert told in caught.value.message


def test_every_recipe_names_a_protocol_that_exists() -> None:
    for row in PUBLISHED.rows:
        assert row.recipe is None or row.protocol in protocols()


@pytest.mark.parametrize(
    ("id", "told"),
    [
        (
            "circo-test/searle/vit-b-32/quoted",
            "Get SEARLE_ViT-B32.pt from miccunifi/SEARLE (its releases), and convert it: cirbench",
        ),
        ("circo-test/searle-xl/vit-l-14/quoted", "Get SEARLE_ViT-L14.pt"),
        (
            "cirr-test1/searle/vit-h-14/quoted",
            "train one by itself: cirbench train searle --backbone ViT-H-14/laion2b_s32b_b79k",
        ),
        (
            "circo-test/pic2word/vit-l-14/quoted",
            "cirbench convert pic2word pic2word_model.pt --backbone ViT-L-14/openai",
        ),
        ("circo-test/pic2word/vit-g-14/quoted", "--data images/ --output CHECKPOINT"),
        ("genecis-all/lincir/vit-g-14/quoted", "Get phi_best.pt from navervision/lincir"),
        (
            "fashioniq-val/pli-mask-ratio-0-50/vit-b-32/own",
            "--data imagenet:test --set mask_ratio=0.5 --output CHECKPOINT",
        ),
    ],
)
def test_a_trained_method_says_how_to_get_the_checkpoint_of_a_row(id: str, told: str) -> None:
    (need,) = (each for each in Reproduction(PUBLISHED.find(id), PUBLISHED).needs() if each.what == "checkpoint")
    assert told in " ".join(need.how)
