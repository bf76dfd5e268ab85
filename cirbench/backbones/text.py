"""Texts as tokens, text towers without their padding, and pseudo-words in their inputs.

A causal tower that reads out the end token never looks at what follows it: a text of 12 tokens gives the same feature
in 16 positions as in 77, at a fraction of the work. Towers that attend in both directions or pool elsewhere (CoCa,
SigLIP, RoBERTa) keep their full length.

A placeholder is found by the position of its token, in each text separately. Inserting a word at the end of a text, as
Pic2Word does in training, is the same as ending the text with the placeholder: the end token follows it, and is read
out there.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cirbench.errors import UsageError
from cirbench.support.device import send

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone


GRAIN = 8
"""Lengths are rounded up to a multiple of this, so that a text is computed in the same shape in whatever company."""

PLACEHOLDER = "$"
Occurrences = Literal["first", "all"]


@dataclasses.dataclass(frozen=True)
class CausalText:
    """A causal text tower that pools at the end token, run on as many positions as its longest text needs.

    Attributes:
        tower: The module with the transformer: open_clip's CLIP itself, or its ``text``.
        end_id: The id of the end token, or ``None`` where it is the highest id of each row.
    """

    tower: Any
    end_id: int | None

    @classmethod
    def of(cls, model: torch.nn.Module) -> CausalText | None:
        """Find the causal text tower of an open_clip model; ``None`` where padding matters."""
        from open_clip.transformer import TextTransformer

        tower: Any = getattr(model, "text", model)
        if tower is not model and not isinstance(tower, TextTransformer):
            return None
        pooling = getattr(tower, "pool_type", None) or getattr(tower, "text_pool_type", None)
        if pooling not in ("argmax", "eos") or getattr(tower, "cls_emb", None) is not None:
            return None
        if getattr(tower, "output_tokens", False) or not _is_causal(getattr(tower, "attn_mask", None)):
            return None
        end_id = getattr(tower, "eos_id", None) if tower is not model else getattr(tower, "text_eos_id", None)
        return cls(tower, end_id if pooling == "eos" else None)

    def ends(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """The position of each row's end token, (B,)."""
        return (tokens_BL if self.end_id is None else (tokens_BL == self.end_id).int()).argmax(dim=-1)

    def lengths(self, tokens_BL: torch.Tensor) -> NDArray[np.int64]:
        """How many positions each row needs, rounded up to a multiple of `GRAIN`, (B,)."""
        return padded_lengths(self.ends(tokens_BL).cpu().numpy() + 1, tokens_BL.shape[1])

    def __call__(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """Project texts, (B, D): open_clip's ``encode_text`` on the leading positions only.

        Tokens on the CPU are trimmed there, so that nothing waits for a GPU to count them.
        """
        tokens_Bl = send(self.trimmed(tokens_BL), self.tower.positional_embedding.device)
        return self.project(self.tower.token_embedding(tokens_Bl), self.ends(tokens_Bl))

    def trimmed(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """The leading positions, as many as the longest text needs, (B, l)."""
        return tokens_BL[:, : int(self.lengths(tokens_BL).max())]

    def project(self, words_BlE: torch.Tensor, ends_B: torch.Tensor) -> torch.Tensor:
        """Project word embeddings, read out at the end token, (B, D)."""
        import torch

        tower, length = self.tower, words_BlE.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        x_BlC = words_BlE.to(dtype) + tower.positional_embedding[:length].to(dtype)
        x_BlC = tower.ln_final(tower.transformer(x_BlC, attn_mask=tower.attn_mask[:length, :length]))
        pooled_BC = x_BlC[torch.arange(len(x_BlC), device=x_BlC.device), ends_B]
        if tower.text_projection is None:
            projected: torch.Tensor = pooled_BC
        elif isinstance(tower.text_projection, torch.nn.Linear):
            projected = tower.text_projection(pooled_BC)
        else:
            projected = pooled_BC @ tower.text_projection
        return projected


def _is_causal(mask: Any) -> bool:
    import torch

    if mask is None or mask.ndim != 2:
        return False
    return bool(torch.equal(mask.isneginf(), torch.ones_like(mask, dtype=torch.bool).triu(1)))


def padded_lengths(needed_B: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Round numbers of positions up to a multiple of `GRAIN`, but not beyond ``most``, (B,)."""
    return np.minimum(-(-needed_B // GRAIN) * GRAIN, most)


def padded_tokens(tokenizer: Any, texts: Sequence[str], length: int) -> torch.Tensor:
    """Turn texts into token ids by a tokenizer of transformers, padded or cut to ``length``, (B, L) int64."""
    import torch

    if not texts:
        return torch.zeros(0, length, dtype=torch.int64)
    cut = {"padding": "max_length", "truncation": True, "max_length": length}
    return torch.tensor(tokenizer(list(texts), verbose=False, **cut)["input_ids"])


def longer_than(tokenizer: Any, texts: Sequence[str], length: int) -> NDArray[np.bool_]:
    """Say which texts have more than ``length`` tokens, (B,)."""
    whole = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
    return np.asarray([len(tokens) > length for tokens in whole], dtype=np.bool_)


def masked(tokens_BL: torch.Tensor, tokenizer: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The leading tokens that the longest row needs, and 0 for those among them that pad, on a device, (B, l) int64."""
    import torch

    lengths_B = _unpadded_lengths(tokens_BL, tokenizer)
    longest = int(padded_lengths(lengths_B, tokens_BL.shape[1]).max())
    read_Bl = torch.arange(longest) < torch.from_numpy(lengths_B)[:, None]
    return send(tokens_BL[:, :longest], device), send(read_Bl.long(), device)


def masked_lengths(tokens_BL: torch.Tensor, tokenizer: Any) -> NDArray[np.int64]:
    """How many tokens of each row `masked` leaves when it is alone in its batch, (B,)."""
    return padded_lengths(_unpadded_lengths(tokens_BL, tokenizer), tokens_BL.shape[1])


def _unpadded_lengths(tokens_BL: torch.Tensor, tokenizer: Any) -> NDArray[np.int64]:
    """The tokens of each row without its padding, (B,); where the end token pads too, up to the first one."""
    padding, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    lengths_B: NDArray[np.int64] = (tokens_BL != padding).sum(dim=1).cpu().numpy() + int(padding == end)
    return np.minimum(lengths_B, tokens_BL.shape[1])


class PseudoWords:
    """A causal text tower of open_clip into which vectors can be put in place of words.

    Attributes:
        width: E, the length of a word's vector.
        placeholder: The word that is replaced; a word of its own, between spaces.

    Raises:
        UsageError: The backbone's text tower is of another kind, or knows no such word.
    """

    def __init__(self, backbone: Backbone, placeholder: str = PLACEHOLDER) -> None:
        text = CausalText.of(backbone.model)
        if text is None:
            raise UsageError(
                f"{backbone.identity.name} cannot read pseudo-words: that takes a causal text tower of open_clip which "
                "is read out at the end token, as CLIP's is.",
                hint="Choose a CLIP, for instance ViT-L-14/openai.",
            )
        self.placeholder = placeholder
        self._backbone = backbone
        self._text = text
        self._token = self._one_token(placeholder)

    @property
    def width(self) -> int:
        """E, the length of a word's vector."""
        return int(self._embeddings.shape[1])

    def embedding(self, word: str) -> torch.Tensor:
        """The tower's own vector of a word that is one token, (E,).

        Raises:
            UsageError: It is not one token of the vocabulary.
        """
        vector: torch.Tensor = self._embeddings[self._one_token(word)]
        return vector

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Turn texts with a placeholder into token ids, (B, context length) int64; too long ones are cut behind it.

        Raises:
            UsageError: A text has no placeholder, or loses it as it is cut.
        """
        tokens_BL = self._backbone.tokenize(texts)
        for row in np.flatnonzero(~self.holds(tokens_BL)):
            text = texts[int(row)]
            if self.placeholder in text.split() and self._backbone.overlong([text])[0]:
                raise UsageError(
                    f"The text {_shown(text)!r} is longer than the {self._backbone.context_length} tokens that "
                    f"{self._backbone.identity.name} reads, and its {self.placeholder} comes after them.",
                    hint=f"Put {self.placeholder} nearer to the beginning of the prompt, or shorten the text.",
                )
            raise UsageError(
                f"The text {_shown(text)!r} has no place for a pseudo-word.",
                hint=f"Write {self.placeholder} where it belongs, with a space on either side.",
            )
        return tokens_BL

    def holds(self, tokens_BL: torch.Tensor) -> NDArray[np.bool_]:
        """Say which texts have a placeholder that the tower will see, (B,)."""
        return np.asarray((tokens_BL == self._token).any(dim=1).cpu().numpy())

    def lengths(self, tokens_BL: torch.Tensor) -> NDArray[np.int64]:
        """How many positions of each row are computed when it is alone in its batch, (B,)."""
        return self._text.lengths(tokens_BL)

    def __call__(
        self,
        tokens_BL: torch.Tensor,
        words_BE: torch.Tensor,
        occurrences: Occurrences = "first",
        *,
        length: int | None = None,
    ) -> torch.Tensor:
        """Project texts in which each row's word stands for the placeholder, (B, D) float32, not normalised.

        Gradients flow to the words, and to the tower unless the caller has frozen it.

        Args:
            tokens_BL: What `tokenize` returned.
            words_BE: A word for each text.
            occurrences: Replace the first placeholder of a text, or all of them.
            length: How many positions are computed; as many as the longest text needs if not given.
        """
        import torch

        tokens_Bl = self._text.trimmed(tokens_BL) if length is None else tokens_BL[:, :length]
        tokens_Bl = send(tokens_Bl, self._embeddings.device)
        here_Bl = tokens_Bl == self._token
        if occurrences == "first":
            here_Bl = here_Bl & (here_Bl.cumsum(dim=1) == 1)
        plain_BlE = self._text.tower.token_embedding(tokens_Bl)
        replaced_BlE = torch.where(here_Bl[:, :, None], words_BE[:, None, :].to(plain_BlE), plain_BlE)
        return self._text.project(replaced_BlE, self._text.ends(tokens_Bl)).float()

    @property
    def _embeddings(self) -> Any:
        return self._text.tower.token_embedding.weight

    def _one_token(self, word: str) -> int:
        tokens_1L = self._backbone.tokenize([word])
        between = tokens_1L[0, 1 : int(self._text.ends(tokens_1L)[0])]
        if len(between) != 1:
            raise UsageError(
                f"The tokenizer of {self._backbone.identity.name} makes {len(between)} tokens of {word!r}, "
                "and a pseudo-word stands for exactly one.",
            )
        return int(between[0])


def _shown(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[:most] + "..."
