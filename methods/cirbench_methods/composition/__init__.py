"""What supervised methods share: a query made of the features of a reference and of a text."""

from __future__ import annotations

from typing import Literal

from cirbench.methods.interface import Parameters


class CompositionParameters(Parameters, frozen=True):
    """How the text of a query is made.

    Attributes:
        caption_form: Captions joined by " and " as annotated; or, of several, without . ? , and blanks at both ends,
            the first one with a capital letter and otherwise small (sentence), as CLIP4Cir has it on FashionIQ.
    """

    caption_form: Literal["annotated", "sentence"] = "sentence"
