"""What models said, written down once: captions of images, and answers to questions about images and texts.

A method that needs a language model, a captioner or a judge asks by `Question`, and takes what `answered` returns:
what is recorded in an `Artefact`, and what the model says now, if there is one. So a run is replayed without the model.
"""

from cirbench.artefacts.answers import (
    Answer,
    Answers,
    Artefact,
    ArtefactRecord,
    Maker,
    Question,
    answered,
    kept,
    merge,
)
from cirbench.artefacts.captions import CaptionStore, default_captions, describe

__all__ = [
    "Answer",
    "Answers",
    "Artefact",
    "ArtefactRecord",
    "CaptionStore",
    "Maker",
    "Question",
    "answered",
    "default_captions",
    "describe",
    "kept",
    "merge",
]
