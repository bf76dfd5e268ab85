"""Captions of images by a captioner: written once for each image, whoever asks, and kept by content."""

from cirbench.captions.describe import Display, describe
from cirbench.captions.store import CaptionStore, default_captions

__all__ = ["CaptionStore", "Display", "default_captions", "describe"]
