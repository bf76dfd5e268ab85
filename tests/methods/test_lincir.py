"""LinCIR: keywords, masks at their places, the loss against its definition, a planted solution, and the way to rows."""

from __future__ import annotations

import copy
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.text import PseudoWords
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import MissingData, UsageError
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import train_method, training_parameters
from cirbench.training.checkpoint import read_card
from cirbench.training.data import Batches, open_source
from cirbench.training.interface import Batch
from cirbench.training.loop import optimizer_for
from cirbench.training.train import train
from cirbench_methods.lincir import SPEC, LinCirTraining
from cirbench_methods.lincir.keywords import BARE, Masking, RuledKeywords, TaggedKeywords, clean, mask
from cirbench_methods.lincir.train import SelfMasking, projection_loss
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_clip import some_pairs, tiny_backbone
from tests.training.quick import quick_request

QUICK = LinCirTraining(steps=20, batch_size=8, lr=1e-3, keywords="rules")


@cache
def quick_checkpoint() -> Path:
    return train_method(SPEC, tiny_backbone(), some_pairs(), QUICK, output=Path(mkdtemp()) / "lincir")


def texts(*captions: str) -> Batch:
    return Batch(torch.empty(0, 3, 32, 32), captions, np.arange(len(captions)), 0, len(captions))


def objective(**changes: Any) -> SelfMasking:
    torch.manual_seed(0)
    return SelfMasking(copy.deepcopy(tiny_backbone()), msgspec.structs.replace(QUICK, **changes))


@pytest.mark.parametrize(
    ("caption", "masked"),
    [
        ("a black dog on the red sofa", "$ on $"),
        ("two dogs are sitting in a field, under tall trees.", "two $ are sitting in $ , under $ ."),
        ("there is a cat", "there is $"),
        ("the (old) house", "the ( $ ) $"),
        ("it is on all of them", BARE),
        ("", BARE),
    ],
)
def test_the_rules_mask_runs_of_content_words_with_their_determiners(caption: str, masked: str) -> None:
    assert mask(caption, RuledKeywords()) == masked


def test_a_keyword_is_masked_at_its_place_and_nowhere_else() -> None:
    """Replacing by text would find the keyword "a cat" in "a cathedral" as well."""
    assert mask("a cat in a cathedral", RuledKeywords()) == "$ in $"
    assert mask("cat, with a scatter of cats", lambda caption: [(0, 3)]) == "$ , with a scatter of cats"


@given(st.text("ab $,.dog the of", max_size=40))
def test_what_is_masked_and_what_is_kept_are_the_caption(caption: str) -> None:
    caption = clean(caption)
    spans = RuledKeywords()(caption)
    masked = mask(caption, RuledKeywords())
    assert masked.split().count("$") == max(len(spans), 1)
    if spans:
        words = iter(caption[start:end] for start, end in spans)
        restored = " ".join(next(words) if part == "$" else part for part in masked.split())
        assert restored.replace(" ", "") == caption.replace(" ", "")


def test_captions_are_cleaned_as_the_public_code_cleans_them() -> None:
    assert clean("<PERSON> Pays 5$  for\ta Hat") == "person pays 5 for a hat"


def tagger(folder: Path, **words: str) -> str:
    """A real pipeline of spaCy that tags by a list of words."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed (the extra keywords)")
    pipeline = spacy.blank("en")
    if words:
        ruler = pipeline.add_pipe("attribute_ruler")
        for word, tag in words.items():
            ruler.add([[{"LOWER": word}]], {"POS": tag})
    pipeline.to_disk(folder)
    return str(folder)


@pytest.mark.slow
def test_spacy_finds_runs_of_nouns_adjectives_and_determiners(tmp_path: Path) -> None:
    tags = {"a": "DET", "the": "DET", "black": "ADJ", "dog": "NOUN", "rex": "PROPN", "on": "ADP", "chases": "VERB"}
    keywords = TaggedKeywords(tagger(tmp_path / "tags", **tags))
    assert mask("a black dog chases rex on the the sofa", keywords) == "$ chases $ on $ sofa"
    assert mask("the dog's dog, rex", keywords) == "$ 's $ , $"
    assert mask("chases on", keywords) == BARE


@pytest.mark.slow
def test_spacy_tags_captions_in_the_decoding_processes(tmp_path: Path) -> None:
    masking = Masking(TaggedKeywords(tagger(tmp_path / "tags", a="DET", black="ADJ", dog="NOUN", on="ADP")))
    captions = tmp_path / "captions.txt"
    captions.write_text("A black dog\non a dog\n")
    order = Batches(open_source(str(captions)), tiny_backbone(), 2, 0, "texts", read=masking)
    with order.stream(0, 1, workers=1) as stream:
        assert sorted(next(stream).readings) == [("a black dog", "$"), ("on a dog", "on $")]


def test_a_pipeline_that_is_not_installed_is_said_with_the_command_that_installs_it() -> None:
    pytest.importorskip("spacy", reason="spaCy is not installed (the extra keywords)")
    with pytest.raises(MissingData, match="spaCy's pipeline en_core_absent is not installed") as caught:
        TaggedKeywords("en_core_absent")
    assert caught.value.hint == (
        "python -m spacy download en_core_absent, or find keywords without spaCy: --set keywords=rules"
    )


def test_a_pipeline_without_a_tagger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tags no parts of speech"):
        TaggedKeywords(tagger(tmp_path / "blank"))


def test_without_spacy_the_extra_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingData, match="needs the package spacy, which is not installed") as caught:
        TaggedKeywords("en_core_web_sm")
    assert caught.value.hint is not None
    assert "pip install 'cirbench[keywords]'" in caught.value.hint
    assert "--set keywords=rules" in caught.value.hint


def test_the_loss_is_the_mean_square_of_raw_differences_and_its_gradient_is_right() -> None:
    rng = np.random.default_rng(0)
    sides = [torch.tensor(rng.normal(size=(4, 3)) * 9, requires_grad=True) for _ in range(2)]
    one, other = (side.detach().tolist() for side in sides)
    naive = sum((a - b) ** 2 for r, s in zip(one, other, strict=True) for a, b in zip(r, s, strict=True)) / 12
    assert projection_loss(*sides).item() == pytest.approx(naive, abs=1e-12)
    assert torch.autograd.gradcheck(projection_loss, sides)


def test_the_word_stands_at_every_mask_and_comes_from_the_feature_of_the_caption() -> None:
    trained = objective(noise=0.0, dropout=0.0)
    backbone = trained.backbone
    tower = PseudoWords(backbone)
    captions = ["a black dog on the sofa", "there is a cat"]
    with torch.no_grad():
        features = backbone.encode_tokens(backbone.tokenize(captions))
        found = tower(tower.tokenize(["$ on $", "there is $"]), trained.phi(features), "all")
        expected = (found - features).square().mean()
        assert float(trained.loss(texts(*captions))) == pytest.approx(float(expected), rel=1e-5)


def test_noise_is_normal_with_one_uniform_strength_for_each_caption() -> None:
    trained, seen = objective(noise=2.0), list[torch.Tensor]()
    caption = "a dog"
    with torch.no_grad():
        own = trained.backbone.encode_tokens(trained.backbone.tokenize([caption]))
    trained.phi.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    torch.manual_seed(0)
    trained.loss(texts(*[caption] * 2000))
    noise = seen[0] - own
    strengths = noise.square().mean(dim=1).sqrt()
    assert float(strengths.mean()) == pytest.approx(1.0, abs=0.05)  # twice the mean of u
    assert float(strengths.square().mean()) == pytest.approx(4 / 3, abs=0.1)  # four times that of its square
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)


def test_a_caption_whose_masks_are_all_cut_off_is_read_as_one_without_keywords() -> None:
    trained = objective()
    tokens = trained.masked_tokens([trained.read_caption(caption)[1] for caption in ("of it " * 40 + "a dog", "a dog")])
    assert torch.equal(tokens, trained.backbone.tokenize([BARE, "$"]))


def test_only_phi_gets_gradients() -> None:
    trained = objective()
    torch.autograd.backward(trained.loss(texts("a black dog on the sofa", "there is a cat")))
    gradients = [weights.grad for weights in trained.module.parameters()]
    assert all(gradient is not None and float(gradient.abs().max()) > 0 for gradient in gradients)
    assert all(weights.grad is None for weights in trained.backbone.model.parameters())


def test_training_finds_words_that_say_what_the_captions_said() -> None:
    letters = "bdgkmrsz"
    backbone = copy.deepcopy(tiny_backbone())
    with torch.no_grad():
        backbone.model.get_parameter("token_embedding.weight").mul_(10)  # words that make a difference
    torch.manual_seed(0)
    trained = SelfMasking(backbone, msgspec.structs.replace(QUICK, noise=0.0, dropout=0.0))
    optimizer = optimizer_for(trained.module, msgspec.structs.replace(QUICK, lr=3e-3))
    for group in optimizer.param_groups:
        group["lr"] = 3e-3
    for _ in range(80):
        optimizer.zero_grad()
        loss = trained.loss(texts(*[f"there is {letter}" for letter in letters]))
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        features = backbone.encode_tokens(backbone.tokenize([f"there is {letter}" for letter in letters]))
        assert float(loss.detach()) < 0.05 * float(features.var(dim=0).mean())
        words = trained.phi.eval()(features)
        tower = trained.tower
        said = tower(tower.tokenize(["a photo of $ that is red"] * len(letters)), words)
        meant = backbone.encode_tokens(backbone.tokenize([f"a photo of {letter} that is red" for letter in letters]))
    likeness = torch.nn.functional.cosine_similarity(said[:, None], meant[None], dim=-1)
    assert int((likeness.argmax(dim=1) == torch.arange(len(letters))).sum()) >= 6


def test_it_trains_on_a_file_of_captions(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text(
        "\n".join(f"a {colour} dog on a sofa" for colour in ("red", "blue", "old", "wet"))
    )
    parameters = msgspec.structs.replace(QUICK, steps=2, batch_size=2)
    source = open_source(str(tmp_path / "captions.txt"))
    folder = train_method(SPEC, tiny_backbone(), source, parameters, output=tmp_path / "lincir")
    assert (folder / "card.json").is_file()


@pytest.mark.slow
def test_a_training_is_the_same_whoever_masks_the_captions(tmp_path: Path) -> None:
    folders = [
        train(quick_request("lincir", steps="3"), folder=tmp_path / str(workers), workers=workers) for workers in (0, 2)
    ]
    assert read_card(folders[0]).weights == read_card(folders[1]).weights


def test_a_query_is_the_prompt_of_the_paper_with_the_word_of_its_reference() -> None:
    queries = scenes_protocol("tiny").queries[:5]
    encoder = Encoder(tiny_backbone(), None, batch_size=8)
    method: Any = build(SPEC, encoder, parse_parameters(SPEC, {}), quick_checkpoint())
    words = method._method.invert([query.reference for query in queries])
    rows = encoder.composed([f"a photo of $ that {query.captions[0]}" for query in queries], words)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(method.encode_queries(queries), units, atol=1e-6)


def test_it_keeps_the_rules_of_the_interface() -> None:
    def make() -> Any:
        return build(SPEC, Encoder(tiny_backbone(), None, batch_size=8), parse_parameters(SPEC, {}), quick_checkpoint())

    assert broken_rules_of_spec(SPEC, "cirbench_methods.lincir:SPEC") == []
    assert broken_rules(make) == []


def test_defaults_are_those_of_the_public_code_and_the_small_backbone_has_a_recipe() -> None:
    defaults = training_parameters(SPEC, "ViT-L-14/openai", {})
    assert isinstance(defaults, LinCirTraining)
    assert (defaults.lr, defaults.weight_decay, defaults.batch_size, defaults.steps) == (1e-4, 0.01, 512, 20_000)
    assert (defaults.noise, defaults.dropout, defaults.keywords) == (1.0, 0.5, "spacy")
    assert training_parameters(SPEC, "scenes-vit", {}) == SPEC.training_presets["scenes-vit"]
