"""CIRPLANT (arXiv:2108.04024): a transformer in BERT's form over the words of the text and one token of the image.

The state of the last layer at the image's token is the query; a target is its token alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cirbench.backbones.weights import place, read_tensors
from cirbench.errors import CorruptFile, MissingData, UsageError, quoted, some
from cirbench.support.console import say
from cirbench.support.distributed import all_reduce_sum, get_context
from cirbench.support.needs import require
from cirbench.training.checkpoint import WEIGHTS
from cirbench.training.contrastive import gather_rows, in_full_precision, other_occurrences
from cirbench.training.data.triplets import composed_text
from cirbench_methods.composition.train import HeadTraining

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import Item, Query
    from cirbench.training.interface import Batch
    from cirbench_methods.composition import CompositionParameters
    from cirbench_methods.heads import CirplantTraining

HEAD = 64
"""Dimensions of one head of attention, as in every published BERT."""
LENGTH = 40
"""Places of a text in WordPiece, [CLS] and [SEP] among them."""
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_EPSILON = 1e-12
_OUTER = {"word_embeddings": "words", "position_embeddings": "places", "token_type_embeddings": "types"}
_INNER = {
    "attention.self.": "",
    "attention.output.dense": "attended",
    "attention.output.LayerNorm": "attended_norm",
    "intermediate.dense": "into",
    "output.dense": "out",
    "output.LayerNorm": "out_norm",
}
"""BERT's names of what this module names otherwise; the longer ones first."""


class Size(NamedTuple):
    """The size of a transformer: rows of its tables, dimensions of its states, hidden units, and layers."""

    words: int
    places: int
    width: int
    hidden: int
    layers: int


class Layer(nn.Module):
    """Attention and two linear layers, each added to what goes in and then normalised."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.attended = (nn.Linear(width, width) for _ in range(4))
        self.into, self.out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.attended_norm, self.out_norm = (nn.LayerNorm(width, eps=_EPSILON) for _ in range(2))

    def forward(self, states_BTW: torch.Tensor, seen_B11T: torch.Tensor) -> torch.Tensor:
        """Let each token look at those that are seen."""
        parts = [
            side(states_BTW).unflatten(-1, (-1, HEAD)).transpose(1, 2) for side in (self.query, self.key, self.value)
        ]
        asked, keys, values = parts
        found_BHTE = functional.scaled_dot_product_attention(asked, keys, values, attn_mask=seen_B11T)
        attended_BTW = self.attended_norm(states_BTW + self.attended(found_BHTE.transpose(1, 2).flatten(2)))
        changed_BTW: torch.Tensor = self.out_norm(attended_BTW + self.out(functional.gelu(self.into(attended_BTW))))
        return changed_BTW


class CirplantNetwork(nn.Module):
    """The tables and layers of a BERT, the token of an image, and the length of unit features.

    Args:
        dim: The dimensions of image features.
        size: The transformer's.
        scale: The length of unit features that the training starts from.
        vocabulary: The bytes of the BERT's vocab.txt; none, where the backbone's tokenizer is used.
    """

    vocabulary: torch.Tensor

    def __init__(self, dim: int, size: Size, scale: float = 4.0, vocabulary: bytes = b"") -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(size.words, size.width), nn.Embedding(size.places, size.width)
        self.types = nn.Embedding(2, size.width)
        self.norm = nn.LayerNorm(size.width, eps=_EPSILON)
        self.layers = nn.ModuleList(Layer(size.width, size.hidden) for _ in range(size.layers))
        self.image = nn.Linear(dim, size.width)
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.normal_(module.weight, std=0.02)  # as BERT starts
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        self.scale = nn.Parameter(torch.tensor(scale))
        self.register_buffer("vocabulary", torch.tensor(list(vocabulary), dtype=torch.uint8))

    def forward(self, images_BD: torch.Tensor, tokens_BL: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """The last state of the image's token, (B, W); it comes after the text, and has no place of its own."""
        places_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
        texts_BLW = self.norm(self.words(tokens_BL) + self.places(places_L) + self.types.weight[0])
        states_BTW = torch.cat([texts_BLW, self.image(images_BD)[:, None]], dim=1)
        seen_BT = functional.pad(places_L < lengths_B[:, None], (0, 1), value=True)
        for layer in self.layers:
            states_BTW = layer(states_BTW, seen_BT[:, None, None])
        return states_BTW[:, -1]


def size_of(tensors: Mapping[str, torch.Tensor], path: Path) -> Size:
    """The size of the transformer that has these weights, by the names of this module.

    Raises:
        CorruptFile: They are not those of a transformer in BERT's form.
    """
    try:
        (words, width), places = tensors["words.weight"].shape, len(tensors["places.weight"])
        hidden = len(tensors["layers.0.into.weight"])
    except (KeyError, ValueError, TypeError) as error:
        raise CorruptFile(
            f"{path} holds no transformer in BERT's form, which has embeddings.word_embeddings.weight and "
            f"encoder.layer.0; it holds {some(list(tensors), 3)}.",
            hint="Give a folder of BERT's or OSCAR's weights, or leave initial out.",
        ) from error
    layers = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    if width % HEAD:
        raise CorruptFile(f"{path} has states of {width} dimensions, which do not part into heads of {HEAD}.")
    return Size(words, places, width, hidden, layers)


def read_bert(folder: Path) -> tuple[dict[str, torch.Tensor], bytes]:
    """Read a BERT's weights by the names of this module, without its pooler and its tasks, and its vocab.txt.

    Raises:
        MissingData: A file is absent.
        CorruptFile: A file is damaged, or no BERT's.
    """
    files = [folder / name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).is_file()]
    if not files or not (folder / "vocab.txt").is_file():
        absent = "vocab.txt" if files else "model.safetensors and no pytorch_model.bin"
        raise MissingData(
            f"The initial weights {folder} have no {absent}.",
            hint="Give the folder of a BERT as transformers saves it, with its vocab.txt, or leave initial out.",
        )
    given = read_tensors(files[0])
    tensors = {}
    for name, tensor in given.items():
        name = name.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias")
        if name.startswith("embeddings.") and not name.endswith("position_ids"):
            name = name.removeprefix("embeddings.").replace("LayerNorm", "norm")
            for theirs, own in _OUTER.items():
                name = name.replace(theirs, own)
        elif name.startswith("encoder.layer."):
            name = name.replace("encoder.layer.", "layers.")
            for theirs, own in _INNER.items():
                name = name.replace(theirs, own)
        else:
            continue
        tensors[name] = tensor.float()
    if not tensors:
        size_of(given, files[0])
    vocabulary, size = (folder / "vocab.txt").read_bytes(), size_of(tensors, files[0])
    words = words_of(vocabulary)
    if len(words) != size.words:
        raise CorruptFile(
            f"{folder / 'vocab.txt'} has {len(words):,} words, and {files[0]} has {size.words:,} rows for them."
        )
    if lacking := [word for word in SPECIAL if word not in words]:
        raise CorruptFile(f"{folder / 'vocab.txt'} is not a vocabulary of WordPiece: it lacks {some(lacking)}.")
    if size.places < LENGTH:
        raise CorruptFile(f"{files[0]} has {size.places} places for the words of a text, and CIRPLANT has {LENGTH}.")
    _require_heads(folder / "config.json", size)
    return tensors, vocabulary


def _require_heads(config: Path, size: Size) -> None:
    """Refuse a BERT whose heads have other dimensions, which its weights do not tell."""
    if not config.is_file():
        return
    try:
        heads = json.loads(config.read_bytes()).get("num_attention_heads", size.width // HEAD)
    except (ValueError, AttributeError) as error:
        raise CorruptFile(f"{config} is no JSON object.") from error
    if heads != size.width // HEAD:
        raise CorruptFile(
            f"{config} parts states of {size.width} dimensions into {quoted(str(heads))} heads, "
            f"and CIRPLANT's heads have {HEAD} dimensions."
        )


def words_of(vocabulary: bytes) -> list[str]:
    """The words of a vocab.txt, one a line; what is no UTF-8 becomes a word that no text has."""
    return [line.removesuffix("\r") for line in vocabulary.decode(errors="replace").removesuffix("\n").split("\n")]


def initial_network(backbone: Backbone, parameters: CirplantTraining) -> CirplantNetwork:
    """The network that a training starts from: a BERT's, or a random one over the backbone's own tokens."""
    if parameters.initial:
        folder = Path(parameters.initial)
        tensors, vocabulary = read_bert(folder)
        network = CirplantNetwork(backbone.dim, size_of(tensors, folder), parameters.scale, vocabulary)
        own = {name: network.state_dict()[name] for name in ("image.weight", "image.bias", "scale", "vocabulary")}
        place(network, {**tensors, **own}, path=folder, architecture="BERT of this size")
        return network
    if parameters.width % HEAD:
        raise UsageError(f"width={parameters.width} does not part into heads of {HEAD}: give a multiple of it.")
    tables = [len(module.weight) for module in backbone.model.modules() if isinstance(module, nn.Embedding)]
    if not tables:
        raise UsageError(
            f"{backbone.identity.name} has no table of words, which gives a random transformer its size.",
            hint="Give the folder of a BERT: --set initial=FOLDER.",
        )
    size = Size(
        max(tables), backbone.tokenize(["a"]).shape[1], parameters.width, 4 * parameters.width, parameters.layers
    )
    return CirplantNetwork(backbone.dim, size, parameters.scale)


class Tokens:
    """Turns texts into tokens, by a BERT's vocabulary or the backbone's tokenizer."""

    def __init__(self, network: CirplantNetwork, backbone: Backbone) -> None:
        self.backbone = backbone
        self.pieces: Any = None
        if len(network.vocabulary):
            require("tokenizers", extra="transformers", purpose="CIRPLANT from a BERT")
            from tokenizers import BertWordPieceTokenizer

            words = words_of(bytes(network.vocabulary.tolist()))
            self.pieces = BertWordPieceTokenizer({word: row for row, word in enumerate(words)}, lowercase=True)
            self.pieces.enable_truncation(LENGTH)
            self.pieces.enable_padding(length=LENGTH, pad_id=self.pieces.token_to_id("[PAD]"))

    def say_cut(self, texts: Sequence[str], encoder: Encoder) -> None:
        """Say how many texts are longer than what the transformer reads; they are cut at their ends, as published."""
        if self.pieces is None:
            encoder.count_truncated(texts)
        elif cut := sum(bool(each.overflowing) for each in self.pieces.encode_batch(sorted({*texts}))):
            say(f"cirplant: {cut} different texts are longer than {LENGTH} word pieces, and were cut at their ends.")

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids, (B, L), and how many of a row are the text's, (B,)."""
        if self.pieces is None:
            tokens_BL = self.backbone.tokenize(texts)
            lengths_B = torch.from_numpy(self.backbone.token_lengths(tokens_BL))
        else:
            encoded = self.pieces.encode_batch(list(texts))
            tokens_BL = torch.tensor([each.ids for each in encoded])
            lengths_B = torch.tensor([sum(each.attention_mask) for each in encoded])
        return tokens_BL.to(self.backbone.device), lengths_B.to(self.backbone.device)


class CirplantHead(HeadTraining):
    """Its training on image features of frozen towers; the transformer learns."""

    module: CirplantNetwork

    def __init__(self, backbone: Backbone, parameters: CirplantTraining) -> None:
        super().__init__(backbone, parameters, initial_network(backbone, parameters), parameters.scale)
        self.tokens = Tokens(self.module, backbone)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The soft triplet loss, against the other targets of the whole batch and the triplets' own negatives."""
        queries_BW = self.module(self.features.references(batch), *self.tokens(batch.captions))
        targets_BW, negatives_BKW = (
            self.module.image(rows) for rows in (self.features.targets(batch), self.features.negatives(batch))
        )
        own_B = torch.arange(batch.first, batch.first + len(queries_BW), device=queries_BW.device)
        margins_BX = margins(queries_BW, targets_BW, negatives_BKW, self.module.scale, own_B)
        left_out_BX = torch.zeros_like(margins_BX, dtype=torch.bool)
        if self.parameters.duplicates == "mask":
            left_out_BX = other_occurrences(batch, own_B, margins_BX.shape[1])
        left_out_BX[torch.arange(len(own_B)), own_B] = True
        losses_B = functional.softplus(margins_BX).masked_fill(left_out_BX, 0).sum(dim=1)
        losses_B = losses_B / (~left_out_BX).sum(dim=1).clamp_min(1)
        weights = [triplet.weight for triplet in batch.triplets]
        (total,) = all_reduce_sum([sum(weights)])
        # The gradients of the processes are averaged, and these are to be summed.
        return (losses_B * losses_B.new_tensor(weights)).sum() * get_context().world_size / total


@in_full_precision
def margins(
    queries_BW: torch.Tensor,
    targets_BW: torch.Tensor,
    negatives_BKW: torch.Tensor,
    scale: torch.Tensor,
    own_B: torch.Tensor,
) -> torch.Tensor:
    """By how much each query is farther from its target than from others, in squared distances of scaled features.

    Args:
        queries_BW: This process's queries.
        targets_BW: Their targets.
        negatives_BKW: Further wrong answers of each query.
        scale: The length of the features.
        own_B: The column of each query's target among those of all processes; the negatives come after them.
    """
    queries_BW, targets_BW = functional.normalize(queries_BW, dim=-1), functional.normalize(targets_BW, dim=-1)
    to_targets_BT = queries_BW @ gather_rows(targets_BW).T
    to_negatives_BK = torch.einsum("bw,bkw->bk", queries_BW, functional.normalize(negatives_BKW, dim=-1))
    cosines_BX = torch.cat([to_targets_BT, to_negatives_BK], dim=1)
    # Of features of length s, a squared distance is 2 s^2 (1 - cos).
    return 2 * scale**2 * (cosines_BX - cosines_BX.gather(1, own_B[:, None]))


class Cirplant:
    """CIRPLANT in use: gallery images as their tokens alone."""

    def __init__(self, encoder: Encoder, parameters: CompositionParameters, checkpoint: Path) -> None:
        path = checkpoint / WEIGHTS
        tensors, backbone = read_tensors(path), encoder.backbone
        vocabulary = bytes(tensors["vocabulary"].tolist()) if "vocabulary" in tensors else b""
        network = CirplantNetwork(backbone.dim, size_of(tensors, path), vocabulary=vocabulary)
        place(network, tensors, path=path, architecture=f"CIRPLANT's head on {backbone.identity.name}")
        self.encoder, self.form = encoder, parameters.caption_form
        self.network = network.to(backbone.device).eval()
        self.tokens = Tokens(network, backbone)

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The token of each image."""
        images_ND, device = torch.from_numpy(self.encoder.images(items)), self.encoder.backbone.device
        return self.encoder.rowwise(
            lambda rows: self.network.image(images_ND[rows].to(device)), np.zeros(len(items), np.int64)
        )

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """What the transformer makes of each reference and text."""
        images_QD = torch.from_numpy(self.encoder.images([query.reference for query in queries]))
        texts = [composed_text(query.captions, self.form) for query in queries]
        self.tokens.say_cut(texts, self.encoder)
        tokens_QL, lengths_Q = self.tokens(texts)
        device = self.encoder.backbone.device
        return self.encoder.rowwise(
            lambda rows: self.network(images_QD[rows].to(device), tokens_QL[rows], lengths_Q[rows]),
            np.zeros(len(queries), np.int64),
        )
