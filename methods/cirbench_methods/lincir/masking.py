"""Captions whose keywords are replaced by the placeholder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.backbones.text import PLACEHOLDER

if TYPE_CHECKING:
    from cirbench_methods.lincir.keywords import Keywords

BARE = f"a photo of {PLACEHOLDER}"
"""What stands for a caption without keywords."""


def clean(caption: str) -> str:
    """Lower-case a caption, name the persons that Conceptual Captions hides, and take placeholders of its own out."""
    named = caption.replace("<PERSON>", "person").replace(PLACEHOLDER, "")
    return " ".join(named.lower().split())


def mask(caption: str, keywords: Keywords) -> str:
    """Replace each keyword by a placeholder, at its place and nowhere else."""
    spans = keywords(caption)
    if not spans:
        return BARE
    kept, end = [], 0
    for start, stop in spans:
        kept += [caption[end:start].strip(), PLACEHOLDER]
        end = stop
    return " ".join(part for part in (*kept, caption[end:].strip()) if part)
