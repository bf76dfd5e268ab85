"""Text towers without their padding.

A causal tower that reads out the end token never looks at what follows it: a text of 12 tokens gives the same feature
in 16 positions as in 77, at a fraction of the work. Towers that attend in both directions or pool elsewhere (CoCa,
SigLIP, RoBERTa) keep their full length.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

GRAIN = 8
"""Lengths are rounded up to a multiple of this, so that a text is computed in the same shape in whatever company."""


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
        tokens_Bl = self.trimmed(tokens_BL).to(self.tower.positional_embedding.device)
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


def padded_lengths(needed_B: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Round numbers of positions up to a multiple of `GRAIN`, but not beyond ``most``, (B,)."""
    return np.minimum(-(-needed_B // GRAIN) * GRAIN, most)


def _is_causal(mask: Any) -> bool:
    import torch

    if mask is None or mask.ndim != 2:
        return False
    return bool(torch.equal(mask.isneginf(), torch.ones_like(mask, dtype=torch.bool).triu(1)))
