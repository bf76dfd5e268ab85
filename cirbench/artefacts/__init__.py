"""Captions of images by a captioner: written once for each image, whoever asks, and kept by content."""

from cirbench.artefacts.captions import CaptionStore, default_captions, describe

__all__ = ["CaptionStore", "default_captions", "describe"]
