"""Models that read an image and a text in one pass: their rows are the library's, and depend on nothing else."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cirbench.backbones import load_backbone
from cirbench.backbones.conformance import check_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.hub import loading, weights_digest
from cirbench.backbones.interface import JointBackbone
from cirbench.backbones.joint import TINY_TEMPLATE, TINY_WORDS, JointSentenceBackbone, byte_tokenizer, write_joint_model
from cirbench.backbones.store import FeatureStore
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.cli import execute
from cirbench.errors import CorruptFile, MissingData, UsageError
from tests.backbones.tiny_transformers import picture
from tests.tiny_qwen3vl import joint_backbone, joint_model, vision_language_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.protocol import Item

TEXTS = ("make it red", "the same, but with two more dogs on the left", "")
TOLD = "Find the changed image."


@pytest.fixture(scope="module", name="library")
def model_of_the_library() -> Any:
    from sentence_transformers import SentenceTransformer  # takes three seconds, and quick tests do without

    return SentenceTransformer(str(joint_model()), device="cpu", local_files_only=True)


@pytest.fixture(scope="module", name="llava")
def llava_of_fixed_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA, as E5-V is: its processor crops images to one size and has no budget of pixels."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    folder, tokenizer, auto = tmp_path_factory.mktemp("llava") / "model", byte_tokenizer(), cast("Any", transformers)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = auto.LlavaConfig(
        vision_config=auto.CLIPVisionConfig(image_size=32, patch_size=8, **small),
        text_config=auto.LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **small),
        image_token_index=int(tokenizer.convert_tokens_to_ids("<|image_pad|>")),
        vision_feature_layer=-1,
    )
    images = auto.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = auto.LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=TINY_TEMPLATE,
        num_additional_image_tokens=1,
        image_token="<|image_pad|>",
    )
    with loading():
        auto.LlavaForConditionalGeneration(config).eval().save_pretrained(folder)
        processor.save_pretrained(folder)
        reader = Transformer(str(folder))
        pooling = Pooling(reader.get_embedding_dimension(), pooling_mode="lasttoken")
        SentenceTransformer(modules=[reader, pooling, Normalize()], device="cpu").save(str(folder))
    return folder


@pytest.fixture(name="folder")
def folder_to_change(tmp_path: Path) -> Path:
    return shutil.copytree(joint_model(), tmp_path / "model")


def items(count: int) -> Sequence[Item]:
    gallery = scenes_protocol("tiny").gallery
    assert gallery is not None
    return gallery.items[:count]


def texts(count: int) -> list[str]:
    return [f"{'much ' * (place % 4)}brighter" for place in range(count)]


def row(image: Any, text: str | None, instruction: str = "") -> NDArray[np.float32]:
    with torch.inference_mode():
        rows = joint_backbone().encode([joint_backbone().read(image, text, instruction)])
    return np.asarray(rows[0])


@pytest.mark.slow
@pytest.mark.parametrize("instruction", ["", TOLD])
@pytest.mark.parametrize("text", [None, *TEXTS])
@pytest.mark.parametrize("image", [None, picture(1, 40, 52), picture(2, 120, 33)])
def test_a_row_is_that_of_the_library_to_the_bit(image: Any, text: str | None, instruction: str, library: Any) -> None:
    parts = {name: part for name, part in (("image", image), ("text", text)) if part is not None}
    if not parts:
        return
    exact = library.encode([parts], prompt=instruction or None)[0]
    assert np.array_equal(row(image, text, instruction), exact)


@pytest.mark.slow
def test_the_image_comes_first_which_is_not_what_the_text_first_would_give(library: Any) -> None:
    image = picture(1, 40, 52)
    text_first = library.encode([{"text": TEXTS[0], "image": image}])[0]
    assert np.abs(row(image, TEXTS[0]) - text_first).max() > 0.01


def test_instruction_image_and_text_each_move_a_row() -> None:
    image = picture(1, 40, 52)
    rows = [row(image, TEXTS[0]), row(image, TEXTS[0], TOLD), row(image, TEXTS[1]), row(picture(2), TEXTS[0])]
    apart = [np.abs(one - other).max() for at, one in enumerate(rows) for other in rows[:at]]
    assert min(apart) > 0.01


def test_a_row_depends_on_its_own_query_only() -> None:
    shown, said = items(6), texts(6)
    together = Encoder(joint_backbone(), None).joint(shown, said, TOLD)
    alone = [
        Encoder(joint_backbone(), None).joint([item], [text], TOLD)[0] for item, text in zip(shown, said, strict=True)
    ]
    backwards = Encoder(joint_backbone(), None).joint(shown[::-1], said[::-1], TOLD)[::-1]
    assert np.array_equal(together, np.stack(alone))
    assert np.array_equal(together, backwards)


def test_in_larger_batches_rows_move_by_rounding_and_not_by_their_company() -> None:
    shown, said = items(12), texts(12)
    alone = Encoder(joint_backbone(), None).joint(shown, said, TOLD)
    batches = Encoder(joint_backbone(), None, batch_size=4)
    rows = batches.joint(shown, said, TOLD)
    np.testing.assert_allclose(rows, alone, atol=1e-6)
    some = Encoder(joint_backbone(), None, batch_size=4).joint(shown[3:8], said[3:8], TOLD)
    assert np.array_equal(rows[3:8], some)


def test_rows_are_the_same_on_several_threads() -> None:
    before = torch.get_num_threads()
    one = Encoder(joint_backbone(), None).joint(items(8), texts(8), TOLD)
    try:
        torch.set_num_threads(3)
        several = Encoder(joint_backbone(), None).joint(items(8), texts(8), TOLD)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(one, several)


def test_rows_are_kept_by_image_text_and_instruction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, shown, said = FeatureStore(tmp_path), items(3), texts(3)
    first = Encoder(joint_backbone(), store).joint(shown, said, TOLD)
    read: list[tuple[bool, str | None, str]] = []
    whole = JointSentenceBackbone.read

    def noted(self: JointSentenceBackbone, image: Any, text: str | None, instruction: str) -> Any:
        read.append((image is not None, text, instruction))
        return whole(self, image, text, instruction)

    monkeypatch.setattr(JointSentenceBackbone, "read", noted)
    encoder = Encoder(joint_backbone(), store)
    assert np.array_equal(encoder.joint(shown, said, TOLD), first)
    assert read == []
    encoder.joint(shown, said, "Find it.")
    encoder.joint(shown, None, TOLD)
    encoder.joint(shown[:1], ["another"], TOLD)
    assert [instruction for _, _, instruction in read] == ["Find it."] * 3 + [TOLD] * 4
    assert read[-1] == (True, "another", TOLD)
    told = [json.loads(path.read_text()).get("owner") for path in tmp_path.glob("*/space.json")]
    assert "images with texts, told 'Find it.'" in told


def test_what_fixes_a_row_is_part_of_the_identity(folder: Path) -> None:
    backbone = joint_backbone()
    assert load_backbone(str(folder), device="cpu").identity.digest == backbone.identity.digest
    assert backbone.identity.architecture.startswith("sentence-transformers:qwen3_vl, image first, sdpa@")
    assert backbone.identity.preprocessing == "pixels(1024, 4096)"
    digests = {backbone.identity.digest}
    fewer = load_backbone(str(folder), device="cpu", preprocessing="pixels(1024, 2048)")
    digests.add(fewer.identity.digest)
    digests.add(load_backbone(str(folder), device="cpu", precision="bf16").identity.digest)
    prompts = json.loads((folder / "config_sentence_transformers.json").read_text())
    prompts["prompts"]["query"] = TOLD
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    told = load_backbone(str(folder), device="cpu")
    assert isinstance(told, JointBackbone)
    assert (told.query_instruction, told.item_instruction) == (TOLD, "")
    digests.add(told.identity.digest)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "model"))
    digests.add(load_backbone(str(folder), device="cpu").identity.digest)
    assert len(digests) == 5


def test_a_budget_of_pixels_reaches_the_processor() -> None:
    fewer = load_backbone(str(joint_model()), device="cpu", preprocessing="pixels(1024, 2048)")
    assert isinstance(fewer, JointSentenceBackbone)
    image = picture(1, 120, 120)
    assert [int(each.read(image, None, "")["image_grid_thw"].prod()) for each in (joint_backbone(), fewer)] == [16, 4]


@pytest.mark.slow
def test_a_processor_without_a_budget_of_pixels_stays_as_it_is(llava: Path) -> None:
    from sentence_transformers import SentenceTransformer

    backbone = load_backbone(str(llava), device="cpu")
    assert isinstance(backbone, JointSentenceBackbone)
    assert backbone.identity.preprocessing == "own"
    assert load_backbone(str(llava), device="cpu", preprocessing="own").identity.digest == backbone.identity.digest
    assert [finding for finding in check_backbone(backbone) if finding.problem is not None] == []
    image = picture(1, 40, 52)
    with torch.inference_mode():
        rows = backbone.encode([backbone.read(image, TEXTS[0], TOLD)]).numpy()
    library = SentenceTransformer(str(llava), device="cpu", local_files_only=True)
    assert np.array_equal(rows, library.encode([{"image": image, "text": TEXTS[0]}], prompt=TOLD))
    with pytest.raises(
        UsageError, match=r"prepares images by its own processor, of which --preprocessing 'pixels\(1, 2\)'"
    ):
        load_backbone(str(llava), device="cpu", preprocessing="pixels(1, 2)")


def test_other_weights_take_the_place_of_its_own(tmp_path: Path) -> None:
    backbone = joint_backbone()
    save_file(
        {name: 1.5 * tensor for name, tensor in backbone.model.state_dict().items()}, tmp_path / "tuned.safetensors"
    )
    tuned = backbone.with_weights(tmp_path / "tuned.safetensors")
    assert tuned.identity.architecture == backbone.identity.architecture
    assert tuned.identity.weights != backbone.identity.weights
    with torch.inference_mode():
        assert np.abs(tuned.encode([tuned.read(None, "a", "")]).numpy() - row(None, "a")).max() > 0.01


def test_the_baselines_get_features_of_images_and_of_texts() -> None:
    encoder = Encoder(joint_backbone(), None)
    (image,) = encoder.images(items(1))
    (text,) = encoder.texts(["make it red"])
    assert np.array_equal(image, row(items(1)[0].image.open(), None))
    assert np.array_equal(text, row(None, "make it red"))


def test_it_keeps_the_rules_of_a_backbone() -> None:
    assert [finding for finding in check_backbone(joint_backbone()) if finding.problem is not None] == []


def test_texts_that_are_too_long_are_cut_at_their_ends_and_counted() -> None:
    backbone = joint_backbone()
    long = "a" * (backbone.context_length + 1)
    encoder = Encoder(backbone, None)
    rows = encoder.joint(items(2), [long[:-1], long], "")
    assert encoder.truncated_texts == 1
    assert not np.array_equal(rows[0], rows[1])
    cut = encoder.joint(items(2)[1:], [long[:-1]], "")
    assert np.array_equal(rows[1:], cut)
    Encoder(backbone, None).texts([long])


def test_an_instruction_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UsageError, match=r"reads 1024 tokens, and an image or a text with its instruction takes \d+"):
        joint_backbone().read(picture(), "make it red", "b" * 1024)


@pytest.mark.parametrize("mark", ["<|image_pad|>", "<|im_end|>", "<|vision_start|>"])
def test_marks_of_the_model_in_a_text_or_an_instruction_are_refused(mark: str) -> None:
    with pytest.raises(UsageError) as caught:
        Encoder(joint_backbone(), None).joint(items(1), [f"like {mark} but red"], "")
    assert f"The text 'like {mark} but red' has {mark}, which" in caught.value.message
    with pytest.raises(UsageError, match="takes for a mark of its own"):
        Encoder(joint_backbone(), None).joint(items(1), ["red"], mark)
    with pytest.raises(UsageError, match="takes for a mark of its own"):
        Encoder(joint_backbone(), None).texts([mark])


def test_text_that_looks_like_the_address_of_an_image_stays_text() -> None:
    shown = row(None, "https://example.org/red.png")
    assert not np.array_equal(shown, row(None, "https://example.org/red.gif"))


def test_what_asks_for_towers_is_told_that_there_are_none() -> None:
    for name in ("encode_images", "tokenize", "preprocessing", "image_size"):
        with pytest.raises(UsageError, match="it has no towers") as caught:
            getattr(joint_backbone(), name)
    assert caught.value.hint is not None
    assert "embedder" in caught.value.hint
    assert not hasattr(joint_backbone(), "anything_else")


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("clip", "prepares images by its own processor, of which --preprocessing 'clip' says nothing"),
        ("pixels(4096, 1024)", "is not a valid budget of pixels"),
        ("pixels(1024, 1048576)", "reads 1024 tokens, and an image alone may take 10"),
    ],
)
def test_a_preprocessing_that_does_not_fit_is_refused(declaration: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_backbone(str(joint_model()), device="cpu", preprocessing=declaration)
    assert message in caught.value.message


def test_a_folder_without_processor_says_what_it_lacks(folder: Path) -> None:
    (folder / "processor_config.json").unlink()
    with pytest.raises(MissingData) as caught:
        load_backbone(str(folder), device="cpu")
    assert "has neither preprocessor_config.json nor processor_config.json" in caught.value.message
    assert caught.value.hint is not None
    assert "processor.save_pretrained" in caught.value.hint


def test_a_model_with_code_of_its_own_is_not_run(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UsageError, match=r"brings code of its own, custom_st\.Transformer, which is not run here"):
        load_backbone(str(folder), device="cpu")


def test_damaged_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CorruptFile, match="sentence-transformers cannot load the model in"):
        load_backbone(str(folder), device="cpu")


def test_weights_that_are_missing_are_not_drawn_at_random(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["language_model.layers.0.mlp.down_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CorruptFile, match=r"lack language_model\.layers\.0\.mlp\.down_proj\.weight, which Qwen3VLModel has"
    ):
        load_backbone(str(folder), device="cpu")


def test_a_training_that_needs_towers_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", "scenes:triplets:8", "--output", str(tmp_path / "out"), "--set", "batch_size=2"]
    assert execute(["train", "clip4cir", "--backbone", str(joint_model()), "--device", "cpu", *data]) == 2
    assert "reads image and text together: it has no towers" in capsys.readouterr().err


@pytest.mark.slow
def test_the_weights_are_a_function_of_the_seed(tmp_path: Path) -> None:
    same, other = (write_joint_model(tmp_path / str(seed), seed) / "model.safetensors" for seed in (0, 1))
    assert weights_digest((same,)) == weights_digest((joint_model() / "model.safetensors",))
    assert weights_digest((same,)) != weights_digest((other,))


@pytest.mark.slow
def test_the_library_loads_it_as_a_model_of_images_and_texts_together() -> None:
    from sentence_transformers import SentenceTransformer  # takes three seconds, and quick tests do without

    model = SentenceTransformer(str(joint_model()), device="cpu", local_files_only=True)
    assert {"image", "text", "message"} <= set(model.modalities)


@pytest.mark.slow
def test_the_answers_of_a_judge_are_one_token_each() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(vision_language_model(), local_files_only=True)
    assert [len(tokenizer(word)["input_ids"]) for word in TINY_WORDS] == [1, 1]


@pytest.mark.slow
def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="exists already"):
        write_joint_model(tmp_path)
