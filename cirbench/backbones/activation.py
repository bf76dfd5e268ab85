"""With which activation weights were trained: the guard against the QuickGELU trap.

GELU and QuickGELU have the same parameters, so weights load without an error under the wrong one, and the features are
only worse. Since open_clip 2.29 a plain architecture name builds GELU even for tags that were trained with QuickGELU,
and says so in a warning; for a weights file it says nothing at all. Here a tag decides, a file must have it stated or
recorded, and two statements that contradict each other are an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cirbench.backbones.interface import Activation

QUICK_GELU_SUFFIX = "-quickgelu"

QUICK_GELU_TAGS: Mapping[str, frozenset[str]] = {
    "openai": frozenset(
        {
            "RN50",
            "RN101",
            "RN50x4",
            "RN50x16",
            "RN50x64",
            "ViT-B-32",
            "ViT-B-16",
            "ViT-L-14",
            "ViT-L-14-336",
        }
    ),
    "yfcc15m": frozenset({"RN50", "RN101"}),
    "cc12m": frozenset({"RN50"}),
    "laion400m_e31": frozenset({"ViT-B-32"}),
    "laion400m_e32": frozenset({"ViT-B-32"}),
    "dfn2b": frozenset({"ViT-B-16", "ViT-L-14"}),
    "dfn5b": frozenset({"ViT-H-14", "ViT-H-14-378"}),
    "metaclip_400m": frozenset({"ViT-B-32", "ViT-B-16", "ViT-L-14"}),
    "metaclip_fullcc": frozenset({"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-bigG-14"}),
    "metaclip2_worldwide": frozenset({"ViT-H-14-worldwide"}),
}
"""Per pretrained tag, the plain architecture names whose weights were trained with QuickGELU: 27 pairs, each of which
open_clip builds with GELU. `tests/backbones/test_activation.py` holds the table against the installed open_clip."""


def of_tag(architecture: str, tag: str, recorded: Activation) -> Activation:
    """Return the activation that a pretrained tag was trained with.

    Args:
        architecture: With or without ``-quickgelu``.
        tag: A pretrained tag of that architecture.
        recorded: What the installed open_clip records for the tag.
    """
    plain = architecture.removesuffix(QUICK_GELU_SUFFIX)
    return "quick_gelu" if plain in QUICK_GELU_TAGS.get(tag, ()) else recorded


def agree(name: str, statements: Mapping[str, Activation | None]) -> Activation:
    """Return the one activation that all statements name.

    Args:
        name: Of the backbone, for messages.
        statements: Who says what; ``None`` where nothing is said.

    Raises:
        UsageError: Nobody says anything, or two contradict each other.
    """
    said = {who: activation for who, activation in statements.items() if activation is not None}
    if not said:
        raise UsageError(
            f"The activation of the weights of {name!r} is neither stated nor recorded, and weights load under the "
            "wrong one without an error.",
            hint="Add --activation gelu or --activation quick_gelu (OpenAI's weights and what was tuned from them: "
            'quick_gelu), or record it beside the file: card.json with "activation".',
        )
    if len(set(said.values())) > 1:
        listed = ", ".join(f"{who} says {activation}" for who, activation in said.items())
        raise UsageError(
            f"The activation of the weights of {name!r} is contradictory: {listed}.",
            hint="Leave out the statement that is wrong; the record of the weights is usually right.",
        )
    return next(iter(said.values()))
