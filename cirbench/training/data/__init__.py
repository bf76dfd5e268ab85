"""What trainings look at: sources of samples by name, and their batches in an order that resumes anywhere."""

from cirbench.training.data.batches import Batches
from cirbench.training.data.opening import open_source
from cirbench.training.data.source import Kind, Sample, Source

__all__ = ["Batches", "Kind", "Sample", "Source", "open_source"]
