"""What the methods share that turn an image into a word: how it is used, and the networks that make it."""

from __future__ import annotations

from typing import Literal

from cirbench.methods.interface import STRIPPED, Parameters


class InversionParameters(Parameters, frozen=True):
    """How the word of an image is used.

    Attributes:
        prompt: The sentence around the word, which replaces $, and the caption, which replaces {}; or one of the
            published ones: that, comma, domain, and.
        order: The order of several captions, which are joined by " and "; both is the average of the two texts.
        strip: Characters taken, with blanks, off both ends of each caption where a query has several; empty for none.
    """

    prompt: str = "that"
    order: Literal["given", "reversed", "both"] = "both"
    strip: str = STRIPPED
